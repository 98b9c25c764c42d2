r"""Classify the texts of a table, of the lines of a file or standard input, or of the command line, in order.

    rnn-hf predict --model_name_or_path runs/mine --text "Oil prices surge"
    rnn-hf predict --model_name_or_path runs/mine \
        --input_file tickets.csv --output_file labelled.csv
    rnn-hf predict --model_name_or_path runs/mine \
        --input_file lines.txt --output_file labels.jsonl
    cat lines.txt | rnn-hf predict --model_name_or_path runs/mine
    rnn-hf predict --model_name_or_path runs/mine --explain --text "Oil prices"

A table (.csv, .tsv, .jsonl, .json, .parquet) keeps its columns and gets `label` and `probability` after them, or
`predicted_label` and `predicted_probability` if it already has one of these. The answers to lines are JSON Lines.

A folder of Parquet files gets the columns of the answers too, by one process or by workers of Ray Data, on this
machine or on the cluster that `RAY_ADDRESS` names:

    rnn-hf predict --model_name_or_path runs/mine \
        --input_dir news --output_dir out --num_workers 2
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from rnn_hf.argument_fields import CheckedArguments, flag, path_flag
from rnn_hf.data.text_files import COMPRESSIONS, FORMATS, SHEETS, decoded, ending_of, undecodable
from rnn_hf.errors import ExitStatusError, missing_extra
from rnn_hf.explanations import ExplanationMethod
from rnn_hf.files import atomic_file
from rnn_hf.progress import progress_bar
from rnn_hf.text_classifier import TextClassifier

from .answer_files import Write, answer_names, answer_writer
from .entry import check_one_process, command, user_errors
from .explained_words import words_writer
from .json_lines import THRESHOLD_HELP, AnswerFormat, explained_line, json_lines
from .parser import check_folder_of

InputFormat = Literal["lines", "table"]

# Number of lines whose explanations are written together
EXPLAINED_AT_ONCE = 256


@dataclass
class PredictArguments(CheckedArguments):
    """What is classified, by which model, and where the answers are written."""

    job: ClassVar[str] = "predict"
    group: ClassVar[str] = "data"
    most_used: ClassVar[tuple[str, ...]] = (
        "model_name_or_path", "text", "input_file", "output_file", "input_dir", "output_dir", "text_column_names",
        "all_probabilities", "top_k", "min_probability",
    )  # fmt: skip

    model_name_or_path: str = field(metadata={"help": "Model folder or `owner/name` on the Hub.", "is_path": True})
    text: list[str] | None = flag(None, "One or more texts.")
    input_file: str | None = path_flag(
        None,
        "Table: .csv, .tsv, .jsonl or .json, optionally with .gz, .bz2 or .zst after it; or .parquet. Any other file "
        "has one text per line. Default: lines from stdin.",
    )
    output_file: str | None = path_flag(
        None,
        "Output file, whose extension is its format. Default: stdout, as CSV or TSV like the input, or JSON Lines.",
    )
    input_format: InputFormat | None = flag(None, "Format of `input_file`. Default: that of its extension.")
    input_dir: str | None = path_flag(None, "Folder of .parquet files, read in the order of their names.")
    output_dir: str | None = path_flag(None, "New or empty folder for the same files with columns of predictions.")
    text_column_names: list[str] | None = flag(
        None,
        "Columns that make up the text, joined by a space. Default: those of the training data; if the model does not "
        'know them, "text", or else the only text column.',
    )
    delimiter: str | None = flag(
        None, "Character between the columns of CSV and TSV files. Default: a comma or a tab."
    )
    encoding: str | None = flag(None, "Encoding of input without a byte order mark, such as cp1252. Default: UTF-8.")
    num_workers: int = flag(
        0, "Number of Ray Data workers for `input_dir`; 0 uses this process alone.", "distributed", at_least=0
    )
    all_probabilities: bool = flag(False, "Whether to write the probability of every class.")
    top_k: int | None = flag(None, "Number of most probable classes to write, each with its probability.", at_least=1)
    min_probability: float | None = flag(
        None, "Minimum probability of a label; below it, the label is empty.", at_least=0, at_most=1
    )
    explain: bool = flag(
        False,
        "Whether to print each text with the words that raise or lower the probability of its label, in color in a "
        "terminal; with `output_file`, a .jsonl, whether to add these words and their contributions to the answers.",
        "output",
    )
    explanation_method: ExplanationMethod = flag("leave_one_out", "Method of `explain`.", "output")
    threshold: float | None = flag(None, THRESHOLD_HELP, "output", at_least=0, at_most=1)
    batch_size: int = flag(256, "Batch size.", "distributed", at_least=1)

    @property
    def has_table(self) -> bool:
        """Whether `input_file` is a table or a spreadsheet."""
        if self.input_file is None or self.input_format is not None:
            return self.input_format == "table"
        return ending_of(self.input_file) in (*FORMATS, *SHEETS)

    @property
    def prints_words(self) -> bool:
        """Whether texts with colored words, or numbers beside them, are printed instead of the answers."""
        return self.explain and self.output_file is None

    @property
    def form(self) -> AnswerFormat:
        """Contents of an answer."""
        return AnswerFormat(
            self.all_probabilities, self.threshold, self.top_k, self.min_probability, is_explained=self.explain
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text is not None and self.input_file is not None:
            raise ValueError("`text` and `input_file` are mutually exclusive. Drop one of them.")
        if (self.input_dir is None) != (self.output_dir is None):
            missing = "output_dir" if self.output_dir is None else "input_dir"
            raise ValueError(f"`input_dir` and `output_dir` need each other. Pass `{missing}`.")
        for name in ("text", "input_file", "output_file", "input_format", "top_k", "min_probability"):
            if self.input_dir is not None and getattr(self, name) is not None:
                raise ValueError(f"`{name}` and `input_dir` are mutually exclusive. Drop one of them.")
        if self.explain and self.input_dir is not None:
            raise ValueError("`explain` and `input_dir` are mutually exclusive. Drop one of them.")
        if self.explain and self.output_file is not None and not self.output_file.lower().endswith(".jsonl"):
            raise ValueError(f"With `explain`, `output_file` must end in .jsonl, got {self.output_file!r}.")
        if self.input_dir is None and self.num_workers:
            raise ValueError("`num_workers` needs `input_dir`. Pass it, or leave out `num_workers`.")
        if self.input_format is not None and self.input_file is None:
            raise ValueError("`input_format` needs `input_file`. Pass it, or leave out `input_format`.")
        for name in ("text_column_names", "delimiter"):
            if self.input_dir is None and not self.has_table and getattr(self, name) is not None:
                raise ValueError(
                    f"`{name}` needs a table as `input_file`, or `input_dir`. Pass one, or leave out `{name}`."
                )
        if self.output_file is not None and self.output_file.lower().endswith((*COMPRESSIONS, *SHEETS)):
            raise ValueError(f"`output_file` must end in {', '.join(FORMATS)}, got {self.output_file!r}. Pass a .csv.")

    def output_ending(self, of_input: str) -> str:
        """Return the format of the output; by default, that of the input if it is CSV or TSV, or else JSON Lines."""
        ending = "" if self.output_file is None else Path(self.output_file).suffix.lower()
        of_input = ".jsonl" if self.explain else of_input
        return ending if ending in FORMATS else of_input if of_input in (".csv", ".tsv") else ".jsonl"


def lines_of(args: PredictArguments, stack: ExitStack) -> Iterator[str]:
    """Open the input and return its lines without line ends."""
    if args.input_file is None:
        text = decoded(sys.stdin.buffer, args.encoding)
        stack.callback(text.detach)  # standard input stays open
        return _lines(text, "Standard input", "other bytes", args.encoding)
    if args.input_file.lower().endswith((*COMPRESSIONS,)):
        from rnn_hf.data.table_files import open_text  # needs packages that plain lines do not

        text = open_text(args.input_file, args.encoding)
    else:
        text = decoded(Path(args.input_file).open("rb"), args.encoding)  # noqa: SIM115  # the text closes it
    return _lines(stack.enter_context(text), "`input_file`", args.input_file, args.encoding)


def _lines(text: TextIOWrapper, name: str, place: str, encoding: str | None) -> Iterator[str]:
    text.reconfigure(newline="\n")
    with user_errors():
        try:
            for line in text:
                yield line.rstrip("\r\n")
        except UnicodeError as error:
            raise undecodable(name, place, encoding, error) from error


def check_output_dir(folder: Path) -> None:
    """Reject a folder that cannot be created, or that is not empty."""
    if not folder.resolve().parent.is_dir():
        raise FileNotFoundError(f"The folder of `output_dir` does not exist: '{folder.parent}'. Create it.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`output_dir` must be a new or empty folder, got {str(folder)!r}. Pass another one.")


def classify_folder(args: PredictArguments) -> int:
    """Classify a folder of Parquet files; return the number of texts."""
    with ExitStack() as stack:
        with user_errors():
            # only for tables: the import takes seconds
            from rnn_hf import tables as parquet

            output_dir = Path(str(args.output_dir))
            check_output_dir(output_dir)
            files, schema, num_rows = parquet.parquet_files(Path(str(args.input_dir)))
            classifier = TextClassifier.from_pretrained(args.model_name_or_path)
            answer = parquet.TableClassifier(
                classifier,
                parquet.text_columns_in(schema.empty_table(), args.text_column_names, classifier),
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


def open_output(args: PredictArguments, stack: ExitStack) -> Any:
    """Return a file that becomes the output file at the end, or standard output."""
    return sys.stdout if args.output_file is None else stack.enter_context(atomic_file(Path(args.output_file)))


def answers_to(
    texts: Sequence[str], classifier: TextClassifier, form: AnswerFormat, args: PredictArguments
) -> list[str]:
    """Return the answers to some texts as JSON Lines, with explanations if they are requested."""
    probabilities = classifier.predict_proba(texts, args.batch_size, show_progress=False)
    lines = list(json_lines(classifier, probabilities, form))
    if not form.is_explained:
        return lines
    explanations = classifier.explain(
        texts, method=args.explanation_method, batch_size=args.batch_size, show_progress=False
    )
    return [explained_line(*pair, form.prefix) for pair in zip(lines, explanations, strict=True)]


def answers_to_stream(texts: Iterator[str], classifier: TextClassifier, args: PredictArguments) -> Iterator[list[str]]:
    """Yield the answers to a stream of texts as JSON Lines, some at a time."""
    if args.explain:
        while chunk := list(islice(texts, EXPLAINED_AT_ONCE)):
            yield answers_to(chunk, classifier, args.form, args)
        return
    for probabilities in classifier.iter_proba(texts, args.batch_size):
        yield list(json_lines(classifier, probabilities, args.form))


def lines_writer(
    output: Any, ending: str, classifier: TextClassifier, names: list[str]
) -> AbstractContextManager[Write]:
    """Return a function that writes the answers to lines, without the lines."""
    if ending != ".parquet":
        return answer_writer(output, ending, [], names, None)
    import pyarrow as pa

    from .tables_of_answers import parquet_writer

    return parquet_writer(output, pa.schema([]), classifier, names)


def load_classifier(args: PredictArguments) -> TextClassifier:
    """Return the classifier, which can answer in the requested form."""
    classifier = TextClassifier.from_pretrained(args.model_name_or_path)
    args.form.check(classifier.problem_type)
    if args.explain and classifier.problem_type == "regression" and classifier.num_labels > 1:
        raise ValueError(
            f"`explain` needs a model with one target, got {classifier.num_labels} targets. Use "
            "`TextClassifier.explain`, which takes the target as `label`."
        )
    return classifier


def classify_lines(args: PredictArguments) -> int:
    """Classify lines and write the answer to each; return their number."""
    with ExitStack() as stack:
        with user_errors():
            texts = iter(args.text) if args.text is not None else lines_of(args, stack)
            classifier = load_classifier(args)
            output, names = open_output(args, stack), answer_names(classifier, args.form)
            write = stack.enter_context(lines_writer(output, args.output_ending(""), classifier, names))
            if args.prints_words:
                write = words_writer(sys.stdout, args.form.prefix)
        count, bar = 0, stack.enter_context(bar_of(args))
        for answers in answers_to_stream(texts, classifier, args):
            write([{}] * len(answers), answers)
            bar.update(len(answers))
            count += len(answers)
    return count


def classify_table(args: PredictArguments) -> int:
    """Classify the rows of a table and write each with its answer; return their number."""
    with ExitStack() as stack:
        with user_errors():
            # only for tables: the import takes seconds
            from rnn_hf.data.table_files import TableFile

            from .tables_of_answers import AnsweredTable

            file = str(args.input_file)
            table = TableFile(file, delimiter=args.delimiter, encoding=args.encoding, name="`input_file`")
            classifier = load_classifier(args)
            answered = AnsweredTable(table, classifier, args.text_column_names, args.form)
            ending = args.output_ending(table.format)
            write = stack.enter_context(answered.writer(open_output(args, stack), ending, classifier, args.delimiter))
            if args.prints_words:
                write = words_writer(sys.stdout, answered.form.prefix)
        count, bar = 0, stack.enter_context(bar_of(args))
        for rows, texts in answered.chunks(ending):
            write(rows, answers_to(texts, classifier, answered.form, args))
            bar.update(len(texts))
            count += len(texts)
    return count


def bar_of(args: PredictArguments) -> Any:
    """Return a progress bar, hidden if the answers are printed to a terminal."""
    is_hidden = args.output_file is None and sys.stdout.isatty()
    return progress_bar(unit="text", delay=2, **({"disable": True} if is_hidden else {}))


@command(PredictArguments, __doc__)
def main(args: PredictArguments) -> None:
    """Classify texts and write an answer to each."""
    started = time.perf_counter()
    with user_errors():
        check_folder_of("output_file", args.output_file)
        check_one_process("rnn-hf predict", "; `num_workers` divides an `input_dir`")
        if sys.stdin is None and not (args.text or args.input_file or args.input_dir):
            raise ValueError("Standard input is closed. Pass `text` or `input_file`.")
        if sys.__stdout__ is None and not (args.output_file or args.output_dir):
            raise ValueError("Standard output is closed. Pass `output_file`.")
    classify = classify_folder if args.input_dir else classify_table if args.has_table else classify_lines
    try:
        count = classify(args)
    except ModuleNotFoundError as error:
        needs = "input_dir" if args.input_dir else "input_file" if args.has_table else "output_file"
        raise ExitStatusError(str(missing_extra(needs, error))) from error
    output = args.output_file or args.output_dir
    if output is not None:
        print(f"{count:,} texts in {time.perf_counter() - started:.1f} s, written to {output}", file=sys.stderr)
