"""Classify texts: from arguments, a file or standard input, one text a line; JSON Lines come out, in order.

python scripts/predict.py --model_name_or_path runs/ag-news --text "Stocks fall as oil prices surge"
python scripts/predict.py --model_name_or_path runs/ag-news --input_file headlines.txt --output_file labels.jsonl
tail -f headlines.txt | python scripts/predict.py --model_name_or_path runs/ag-news
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from accelerate.utils import tqdm

from rnn_hf.reporting.command_line import (
    ScriptParser,
    check_folder_of,
    exit_statuses,
    user_errors,
    written_beside,
)
from rnn_hf.text_classifier import TextClassifier


@dataclass
class PredictArguments:
    """What is classified, with what, and where the answers go."""

    model_name_or_path: str = field(metadata={"help": "Model folder or `owner/name` on the Hub."})
    text: list[str] | None = field(default=None, metadata={"help": "One or more texts."})
    input_file: str | None = field(default=None, metadata={"help": "File of one text a line. Default: stdin."})
    output_file: str | None = field(default=None, metadata={"help": "JSON Lines file. Default: stdout."})
    all_probabilities: bool = field(default=False, metadata={"help": "Whether to write every class's probability."})
    threshold: float = field(
        default=0.5, metadata={"help": "Probability from which a label is written, where a text may have several."}
    )
    batch_size: int = field(default=256, metadata={"help": "Texts that go through the model together."})

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"`--batch_size` must be at least 1, got {self.batch_size}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"`--threshold` must be at least 0 and at most 1, got {self.threshold}.")
        if self.text is not None and self.input_file is not None:
            raise ValueError("`--text` cannot stand beside `--input_file`. Drop one of them.")


def lines_of(stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a stream without their ends; bytes that are not UTF-8 become replacement characters."""
    for line in stream:
        yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def by_name(names: Sequence[str], row: Sequence[float]) -> str:
    """Return a JSON object of numbers."""
    return f"{{{', '.join(f'{name}: {number:.6f}' for name, number in zip(names, row, strict=True))}}}"


def answers(
    probabilities: np.ndarray, names: Sequence[str], problem_type: str, all_probabilities: bool, threshold: float
) -> Iterator[str]:
    """Yield one line of JSON for each text.

    Args:
        probabilities: Shape `(num_texts, num_labels)`.
        names: The labels, as JSON.
        problem_type: What the model answers.
        all_probabilities: Whether to write every class's probability.
        threshold: Probability from which a label is written, where a text may have several.
    """
    best = probabilities.argmax(axis=1).tolist()
    for label, row in zip(best, probabilities.tolist(), strict=True):
        if problem_type == "regression":
            yield f'{{"value": {row[0]:.6f}}}\n' if len(row) == 1 else f'{{"values": {by_name(names, row)}}}\n'
            continue
        if problem_type == "multi_label_classification":
            labels = ", ".join(name for name, probability in zip(names, row, strict=True) if probability >= threshold)
            line = f'{{"labels": [{labels}]'
        else:
            line = f'{{"label": {names[label]}, "probability": {row[label]:.6f}'
        if all_probabilities:
            line += f', "probabilities": {by_name(names, row)}'
        yield line + "}\n"


@exit_statuses("predict.py")
def main(argv: Sequence[str] | None = None) -> None:
    """Classify texts and write one JSON object for each."""
    started = time.perf_counter()
    with ExitStack() as stack:
        with user_errors("predict.py"):
            parser = ScriptParser([PredictArguments], description=__doc__)
            (args,), _ = parser.parse(sys.argv[1:] if argv is None else argv)
            check_folder_of("output_file", args.output_file)
            texts: Iterator[str]
            if args.text is not None:
                texts = iter(args.text)
            elif args.input_file is not None:
                texts = lines_of(stack.enter_context(Path(args.input_file).open("rb")))
            else:
                texts = lines_of(sys.stdin.buffer)
            classifier = TextClassifier.from_pretrained(args.model_name_or_path)
            output = sys.stdout
            if args.output_file is not None:
                beside = stack.enter_context(written_beside(Path(args.output_file)))
                output = stack.enter_context(beside.open("w", encoding="utf-8"))

        # a terminal that shows the answers needs no bar between them
        is_quiet = args.output_file is None and sys.stdout.isatty()
        # a label that would steer the terminal, or has no UTF-8 form, is written in escapes
        names = [json.dumps(label, ensure_ascii=not label.isprintable()) for label in classifier.labels]
        count = 0
        with tqdm(unit="text", delay=2, disable=is_quiet) as bar:
            for probabilities in classifier.iter_proba(texts, args.batch_size):
                output.writelines(
                    answers(probabilities, names, classifier.problem_type, args.all_probabilities, args.threshold)
                )
                output.flush()
                count += len(probabilities)
                bar.update(len(probabilities))
    if args.output_file is not None:
        print(
            f"{count:,} texts in {time.perf_counter() - started:.1f} s, written to {args.output_file}", file=sys.stderr
        )


if __name__ == "__main__":
    main()
