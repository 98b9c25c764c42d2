"""Classify texts: from arguments, a file or standard input, one text a line; JSON Lines come out, in order.

    rnn-hf predict --model_name_or_path runs/ag-news --text "Stocks fall as oil prices surge"
    rnn-hf predict --model_name_or_path runs/ag-news --input_file headlines.txt --output_file labels.jsonl
    tail -f headlines.txt | rnn-hf predict --model_name_or_path runs/ag-news

Or a folder of Parquet files, which come out with columns for the answers, by one process or by workers of Ray Data on
this machine or, where `RAY_ADDRESS` names one, on a cluster:

    rnn-hf predict --model_name_or_path runs/ag-news --input_dir news --output_dir out [--num_workers 2]
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar

from rnn_hf.argument_fields import CheckedArguments, flag, path_flag
from rnn_hf.files import atomic_file
from rnn_hf.progress import progress_bar
from rnn_hf.text_classifier import TextClassifier

from .entry import command, user_errors
from .json_lines import json_lines
from .parser import check_folder_of


@dataclass
class PredictArguments(CheckedArguments):
    """What is classified, with what, and where the answers go."""

    job: ClassVar[str] = "predict"

    model_name_or_path: str = field(metadata={"help": "Model folder or `owner/name` on the Hub.", "is_path": True})
    text: list[str] | None = field(default=None, metadata={"help": "One or more texts."})
    input_file: str | None = path_flag(None, "File of one text a line. Default: stdin.")
    output_file: str | None = path_flag(None, "JSON Lines file. Default: stdout.")
    input_dir: str | None = path_flag(None, "Folder of .parquet files, read in the order of their names.")
    output_dir: str | None = path_flag(None, "New or empty folder for these files, with columns for the answers.")
    text_column_names: list[str] | None = field(
        default=None, metadata={"help": "Columns of the text, joined by a blank. Default: `text`, or the only one."}
    )
    num_workers: int = flag(0, "Workers of Ray Data for `input_dir`. Default: this process alone.", at_least=0)
    all_probabilities: bool = flag(False, "Whether to write the probability of every class.")
    threshold: float | None = flag(
        None,
        "Probability from which a label is given, if a text may have several. Default: the model's own thresholds.",
        at_least=0,
        at_most=1,
    )
    batch_size: int = flag(256, "Texts per batch.", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text is not None and self.input_file is not None:
            raise ValueError("`text` and `input_file` exclude each other. Drop one of them.")
        if (self.input_dir is None) != (self.output_dir is None):
            missing = "output_dir" if self.output_dir is None else "input_dir"
            raise ValueError(f"`input_dir` and `output_dir` go together. Pass `{missing}`.")
        of_lines = [name for name in ("text", "input_file", "output_file") if getattr(self, name) is not None]
        if self.input_dir is not None and of_lines:
            raise ValueError(f"`{of_lines[0]}` and `input_dir` exclude each other. Drop one of them.")
        of_folders = [name for name in ("text_column_names", "num_workers") if getattr(self, name)]
        if self.input_dir is None and of_folders:
            raise ValueError(f"`{of_folders[0]}` needs `input_dir`. Pass it, or drop the other.")


def lines_of(stream: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a stream without their ends; bytes that are not UTF-8 become replacement characters."""
    for line in stream:
        yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def check_output_dir(folder: Path) -> None:
    """Refuse a folder that cannot be written as a whole, or that holds something."""
    if not folder.resolve().parent.is_dir():
        raise FileNotFoundError(f"The folder of `output_dir` does not exist: '{folder.parent}'. Make it.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`output_dir` must be a new or an empty folder, got {str(folder)!r}. Pass another one.")


def classify_folder(args: PredictArguments) -> int:
    """Classify a folder of Parquet files; return the number of texts."""
    with ExitStack() as stack:
        with user_errors():
            # lines need none of this, which takes seconds
            from rnn_hf import tables as parquet

            output_dir = Path(str(args.output_dir))
            check_output_dir(output_dir)
            files, schema, num_rows = parquet.parquet_files(Path(str(args.input_dir)))
            answer = parquet.TableClassifier(
                TextClassifier.from_pretrained(args.model_name_or_path),
                parquet.text_columns_in(schema, args.text_column_names),
                args.batch_size,
                args.all_probabilities,
                args.threshold,
            )
            answer.check_columns(schema)
            if args.num_workers:
                stack.enter_context(parquet.ray_started(args.num_workers))
        if args.num_workers:
            parquet.predict_folder_with_ray(answer, files, output_dir, num_rows, args.num_workers)
        else:
            parquet.predict_folder(answer, files, output_dir)
    return num_rows


def classify_lines(args: PredictArguments) -> int:
    """Classify lines and write one JSON object for each; return their number."""
    with ExitStack() as stack:
        with user_errors():
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
                beside = stack.enter_context(atomic_file(Path(args.output_file)))
                output = stack.enter_context(beside.open("w", encoding="utf-8"))

        # a terminal that shows the answers needs no bar between them
        is_quiet = args.output_file is None and sys.stdout.isatty()
        count = 0
        with progress_bar(unit="text", delay=2, disable=is_quiet) as bar:
            for probabilities in classifier.iter_proba(texts, args.batch_size):
                output.writelines(json_lines(classifier, probabilities, args.all_probabilities, args.threshold))
                output.flush()
                count += len(probabilities)
                bar.update(len(probabilities))
    return count


@command(PredictArguments, __doc__)
def main(args: PredictArguments) -> None:
    """Classify texts and write an answer to each."""
    started = time.perf_counter()
    with user_errors():
        check_folder_of("output_file", args.output_file)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # each would answer all texts, and overwrite the files of the others
            raise ValueError("The launcher must start one process. Drop it: `num_workers` shares out `input_dir`.")
        if sys.stdin is None and not (args.text or args.input_file or args.input_dir):
            raise ValueError("Standard input is closed. Pass `text` or `input_file`.")
        if sys.__stdout__ is None and not (args.output_file or args.output_dir):
            raise ValueError("Standard output is closed. Pass `output_file`.")
    count = classify_lines(args) if args.input_dir is None else classify_folder(args)
    output = args.output_file or args.output_dir
    if output is not None:
        print(f"{count:,} texts in {time.perf_counter() - started:.1f} s, written to {output}", file=sys.stderr)
