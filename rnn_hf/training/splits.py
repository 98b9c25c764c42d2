"""The texts and labels that a run trains, validates and tests on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, DatasetDict, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import ProblemType, RNNConfig
from rnn_hf.data.columns import text_columns_of
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.label_spellings import choice_of_problem
from rnn_hf.data.labels import label_names_of, problem_type_of
from rnn_hf.data.sources import DEFAULT_DATASET, SPLITS, find_splits, iterate_texts, split_texts
from rnn_hf.data.streaming import StreamedRows, TextStream, load_text_stream
from rnn_hf.data.summary import describe_data
from rnn_hf.data.unlabelled import load_unlabelled_texts
from rnn_hf.progress import say

from .arguments import (
    ClassifierRunArguments,
    DataArguments,
    DistillationRunArguments,
    RunArguments,
    TrainArguments,
)

# Up to this number of rows, a second training on all rows, with those held out for validation, is worth its time
MOST_ROWS_TRAINED_TWICE = 20_000

# From arguments, and the classes in the order of their ids if they are known, to the splits
LoadSplits = Callable[[RunArguments, Sequence[str] | None], "TextSplits"]


@dataclass
class TextSplits:
    """The splits of a dataset as texts and labels.

    Args:
        train: Training rows with the columns `text` and `label`, in files or as a stream.
        others: The validation and the test split, if they exist.
        validation_is_cut: Whether the validation split was cut from the training rows.
        text_column_names: Columns of the dataset that make up the text, if it has columns.
        unlabelled: Texts for which only teachers have answers, with the columns of the training rows.
    """

    train: Dataset | TextStream
    others: DatasetDict
    validation_is_cut: bool = False
    text_column_names: list[str] | None = None
    unlabelled: Dataset | None = None

    @property
    def label_names(self) -> list[str]:
        """Names of the classes or targets in the order of their ids."""
        return label_names_of(self.train)

    @property
    def problem_type(self) -> ProblemType:
        """Problem type of the labels."""
        return problem_type_of(self.train)

    def iterate_texts(self) -> Iterator[str]:
        """Yield the training texts, and those without labels, in constant memory."""
        if isinstance(self.train, TextStream):
            return self.train.iterate_texts()
        return iterate_texts(self.texts_to_learn())

    def texts_to_learn(self) -> Dataset:
        """Return the training rows, followed by the texts without labels."""
        assert not isinstance(self.train, TextStream)  # which distillation cannot read
        return self.train if self.unlabelled is None else concatenate_datasets([self.train, self.unlabelled])

    def encode(self, tokenizer: PreTrainedTokenizerBase, args: DataArguments) -> dict[str, Any]:
        """Return every split as rows of tokens: `Dataset`, and `StreamedRows` for a stream.

        Args:
            tokenizer: The tokenizer of the model.
            args: `max_length`, and `shuffle_buffer_size` for a stream.
        """
        if isinstance(self.train, TextStream):
            rows = StreamedRows(self.train, tokenizer, args.max_length, args.shuffle_buffer_size)
            return {"train": rows, **encode_dataset(self.others, tokenizer, args.max_length)}
        return dict(encode_dataset(DatasetDict(train=self.train, **self.others), tokenizer, args.max_length))


def show_data(
    splits: TextSplits, encoded: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, args: DataArguments
) -> dict[str, Any]:
    """Print facts and warnings about the rows of a run, and return them for `all_results.json`.

    Args:
        splits: The splits.
        encoded: The same splits as rows of tokens.
        tokenizer: The tokenizer that encoded them.
        args: `max_length` and `problem_type`.
    """
    is_stream = isinstance(splits.train, TextStream)
    summary = describe_data(
        {**({} if is_stream else {"train": splits.train}), **splits.others},
        encoded,
        tokenizer,
        max_length=args.max_length,
        label_names=splits.label_names,
        problem_type=splits.problem_type,
    )
    choice = None if args.problem_type else choice_of_problem(splits.problem_type, splits.label_names)
    chosen = [] if choice is None else [f"Chosen:   {choice}"]
    for line in [*summary.lines(), *chosen, *(f"Warning:  {line}" for line in summary.warnings())]:
        say(line)
    return summary.as_dict()


def load_splits(
    args: RunArguments, config: RNNConfig | None = None, load: LoadSplits | None = None, *, can_stream: bool = False
) -> TextSplits:
    """Return the splits of the dataset in the arguments, in the order of a checkpoint's classes if they are the same.

    Args:
        args: The arguments of the run.
        config: Configuration of the checkpoint that training starts from, or `None`.
        load: Returns the splits with the classes in a given order. Default: load the dataset in `args`.
        can_stream: Whether the training rows may be a stream.

    Raises:
        ValueError: If there are no training rows, or an argument needs something that the dataset does not have.
    """
    if load is None:
        if args.dataset_name is None and not args.has_files:
            args.dataset_name = DEFAULT_DATASET
        if args.streaming and not can_stream:
            raise ValueError("`streaming` is only for `rnn-hf train`. Leave it out.")
        load = _open_stream if args.streaming else _read_splits
    known = None if config is None else list((config.id2label or {}).values())
    splits = load(args, None)
    if known is not None and splits.label_names != known and sorted(splits.label_names) == sorted(known):
        splits = load(args, known)
    check_splits(splits, args)
    return splits


def validation_share(num_rows: int) -> float:
    """Return the share of training rows to hold out if there is no validation split.

    Up to 20,000 rows, it is a tenth, which costs only time, because the final model is trained on all rows. Above, it
    is 2,000 rows, whose standard error is below one point.

    Args:
        num_rows: Number of training rows.

    Example:
        >>> validation_share(1_000), validation_share(100_000)
        (0.1, 0.02)
    """
    return 0.1 if num_rows <= MOST_ROWS_TRAINED_TWICE else 2_000 / num_rows


def choose_validation_size(args: RunArguments, num_rows: int) -> float:
    """Set `validation_size` to a value for the data, if settings follow the data and none is given; return it.

    Args:
        args: The arguments of the run.
        num_rows: Number of training rows.
    """
    follows_data = isinstance(args, ClassifierRunArguments) and args.settings_from_data
    if follows_data and "validation_size" not in args.given:
        args.validation_size = validation_share(num_rows)
    return args.validation_size


def _place(args: DataArguments) -> dict[str, Any]:
    """Return the arguments of `find_splits`."""
    files = {split: getattr(args, f"{split}_file") for split in SPLITS}
    names = ("dataset_name", "dataset_config_name", "delimiter", "encoding")
    return {"files": files} | {name: getattr(args, name) for name in names}


def _columns(args: DataArguments) -> dict[str, Any]:
    """Return the arguments that `split_texts` and `load_text_stream` share."""
    names = ("text_column_names", "label_column_name", "problem_type", "clean_text", "max_train_samples")
    return {name: getattr(args, name) for name in names}


def _read_splits(args: RunArguments, label_names: Sequence[str] | None) -> TextSplits:
    is_cut = False

    def share(num_rows: int) -> float:  # called if there is no validation split
        nonlocal is_cut
        is_cut = choose_validation_size(args, num_rows) > 0
        return args.validation_size

    found = find_splits(**_place(args))
    splits = split_texts(found, **_columns(args), label_names=label_names, validation_size=share, seed=args.seed)
    if "train" not in splits:
        raise ValueError(f"The dataset has no training split (splits: {', '.join(splits)}). Pass `train_file`.")
    names = text_columns_of(found["train"], args.text_column_names, args.label_column_name)
    unlabelled = None
    if isinstance(args, DistillationRunArguments) and args.unlabelled_file is not None:
        shared = ("text_column_names", "label_column_name", "clean_text", "delimiter", "encoding")
        reading = {name: getattr(args, name) for name in shared}
        unlabelled = load_unlabelled_texts(args.unlabelled_file, splits["train"].features, **reading)
    return TextSplits(splits.pop("train"), splits, is_cut, names, unlabelled)


def _open_stream(args: RunArguments, label_names: Sequence[str] | None) -> TextSplits:
    if args.max_steps < 0:
        raise ValueError("`streaming` needs `max_steps`: the number of rows is not known before they are read.")
    if args.class_weights == ["balanced"]:
        raise ValueError("`class_weights=balanced` cannot count the labels of a stream. Pass a number for each class.")
    if args.dataloader_num_workers:
        raise ValueError("`dataloader_num_workers` cannot split a stream. Leave it out with `streaming`.")
    place = _place(args)
    files = {f"{split}_file": file for split, file in place.pop("files").items()}
    stream, others = load_text_stream(**place, **files, **_columns(args), label_names=label_names)
    return TextSplits(stream, others, text_column_names=list(stream.columns.text_column_names or ()))


def check_splits(splits: TextSplits, args: TrainArguments) -> None:
    """Check that the splits have what the arguments need.

    Args:
        splits: The splits.
        args: Early stopping, calibration and evaluation of the run.

    Raises:
        ValueError: If there is no validation split for an argument that needs one, or the problem is of another type.
    """
    if splits.problem_type == "single_label_classification" and len(splits.label_names) == 1:
        raise ValueError(f"The rows must have at least two classes, got one class, {splits.label_names[0]!r}.")
    has_validation, is_stream = "validation" in splits.others, isinstance(splits.train, TextStream)
    remedy = "`validation_file`" if is_stream else "`validation_size=0.05`"
    if args.early_stopping_patience is not None and not has_validation:
        raise ValueError(f"`early_stopping_patience` needs a validation split. Pass {remedy}.")
    if args.temperature_scaling and splits.problem_type != "single_label_classification":
        raise ValueError("`temperature_scaling` needs one class per text. Leave it out.")
    if args.tune_thresholds and splits.problem_type != "multi_label_classification":
        raise ValueError("`tune_thresholds` needs several labels per text. Leave it out.")
    for name in ("tune_thresholds", "train_on_all_rows"):
        if getattr(args, name) and not has_validation:
            raise ValueError(f"`{name}` needs a validation split. Pass {remedy}.")
    if args.temperature_scaling and not has_validation:
        raise ValueError(f"`temperature_scaling` needs a validation split. Pass {remedy}.")
    if is_stream and not has_validation and args.eval_strategy != "no":
        say("The stream has no validation split, so nothing is evaluated before the end.")
