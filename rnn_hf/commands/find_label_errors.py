r"""Find wrong labels: list the rows of a dataset, those whose label is most likely wrong first.

    rnn-hf find-label-errors --train_file mine.csv --output_file suspects.csv
    rnn-hf find-label-errors --dataset_name demo --num_folds 3 \
        --output_file suspects.parquet

Each fold of the rows is classified by a model that was trained on the other folds, with the settings of `rnn-hf
train`. Confident learning decides which labels are errors (Northcutt et al., 2021).
"""

import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rnn_hf.argument_fields import flag
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.text_files import FORMATS
from rnn_hf.errors import plain
from rnn_hf.files import atomic_file
from rnn_hf.label_errors import OF_READING, label_errors_in
from rnn_hf.onnx_classifier import CHUNK_SIZE
from rnn_hf.training.arguments import ClassifierRunArguments
from rnn_hf.training.from_lists import OF_THE_COMMAND, OF_THE_ROWS
from rnn_hf.training.settings import CHOSEN_FROM_DATA

from .answer_files import answer_writer
from .entry import check_one_process, command, user_errors
from .json_lines import json_line
from .parser import check_folder_of

if TYPE_CHECKING:
    import pandas as pd

# Number of pairs of classes that are shown
NUM_PAIRS = 5

# Columns about a row, before those about its label
OF_ROW = ["row", "text", "given_label"]


@dataclass(kw_only=True)
class LabelErrorArguments(ClassifierRunArguments):
    """The rows, the settings of the models that judge them, and where the rows are written."""

    job: ClassVar[str] = "find-label-errors"
    most_used: ClassVar[tuple[str, ...]] = (
        "dataset_name", "train_file", "text_column_names", "label_column_name", "output_file", "num_folds",
        "delimiter", "encoding", "word_vectors", "seed",
    )  # fmt: skip
    hidden: ClassVar[tuple[str, ...]] = (
        *OF_THE_COMMAND, "output_dir", "overwrite_output_dir", "validation_file", "test_file", "streaming",
        "shuffle_buffer_size",
    )  # fmt: skip

    output_file: str = field(
        metadata={"help": "File for the rows, whose extension is its format: .csv, .tsv, .jsonl, .json or .parquet.",
                  "group": "data", "is_path": True}
    )  # fmt: skip
    num_folds: int = flag(5, "Number of folds of the rows, and of trainings.", "data", at_least=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse(self.hidden, "`rnn-hf train`")
        if Path(self.output_file).suffix.lower() not in FORMATS:
            raise ValueError(f"`output_file` must end in {', '.join(FORMATS)}, got {self.output_file!r}. Pass a .csv.")

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the trainings that the user gave."""
        names = {entry.name for entry in fields(ClassifierRunArguments)} - {*OF_THE_ROWS, *OF_READING}
        defaults = {entry.name: entry.default for entry in fields(self)}
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if name in self.given or value != defaults[name]}


def write_rows(found: "pd.DataFrame", file: Path) -> None:
    """Write the result of `find_label_errors` to a file, in the format of its extension.

    Args:
        found: The rows.
        file: The file; it is written completely or not at all.
    """
    with atomic_file(file) as beside:
        ending = file.suffix.lower()
        if ending == ".parquet":
            found.to_parquet(beside, index=False)
            return
        answers = [name for name in found.columns if name not in OF_ROW]
        with answer_writer(beside, ending, OF_ROW, answers, None) as write:
            for start in range(0, len(found), CHUNK_SIZE):
                chunk = found.iloc[start : start + CHUNK_SIZE].round(6)
                lines = [f"{json_line(answer)}\n" for answer in chunk[answers].to_dict("records")]
                write(chunk[OF_ROW].to_dict("records"), lines)


@command(LabelErrorArguments, __doc__, from_data=CHOSEN_FROM_DATA)
def main(args: LabelErrorArguments) -> "pd.DataFrame":
    """Find wrong labels and write the rows; return them."""
    started = time.perf_counter()
    with user_errors():
        check_folder_of("output_file", args.output_file)
        if args.train_file is not None and Path(args.output_file).resolve() == Path(args.train_file).resolve():
            raise ValueError("`output_file` is the file of the rows, which it would replace. Pass another one.")
        check_one_process(f"rnn-hf {args.job}")
        rows = load_text_dataset(
            args.dataset_name,
            args.dataset_config_name,
            train_file=args.train_file,
            text_column_names=args.text_column_names,
            label_column_name=args.label_column_name,
            problem_type=args.problem_type,
            splits=["train"],
            validation_size=0,
            clean_text=args.clean_text,
            delimiter=args.delimiter,
            encoding=args.encoding,
        )["train"]
        found = label_errors_in(rows, args.num_folds, args.settings)
    write_rows(found, Path(args.output_file))
    errors = found[found.is_error]
    pairs = errors.groupby(["given_label", "predicted_label"]).size().nlargest(NUM_PAIRS)
    if len(pairs):
        print("most frequent errors (given label, predicted label, rows)")
        for (given, predicted), count in pairs.items():
            print(f"{plain(given)}, {plain(predicted)}, {count:,}")
    print(
        f"{len(errors):,} of {len(found):,} rows ({100 * len(errors) / len(found):.1f} %) look mislabelled. All rows "
        f"are written to {args.output_file}, the most doubtful first, in {time.perf_counter() - started:.1f} s"
    )
    return found
