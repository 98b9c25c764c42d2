"""Training of a classifier from Python, on texts and labels in memory, without side effects on the process."""

import os
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from accelerate.state import AcceleratorState, GradientState, PartialState
from datasets import ClassLabel, Dataset
from transformers import PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import ProblemType, RNNConfig
from rnn_hf.data.encoding import multi_hot
from rnn_hf.data.in_memory import dataset_of_lists
from rnn_hf.data.labels import comma_list, item_of, multi_hot_width
from rnn_hf.data.sources import split_texts
from rnn_hf.modeling_rnn import RNNForSequenceClassification
from rnn_hf.progress import without_bars_of_datasets
from rnn_hf.random_states import kept_random_states

from .arguments import ClassifierRunArguments, RunArguments
from .classifier_task import ClassifierTask
from .initial_models import checkpoint_config, load_tokenizer
from .launch import start_accelerator
from .output_folder import check_output_folder
from .settings import follow_the_data
from .splits import TextSplits, choose_validation_size, load_splits, show_data
from .tuning import check_tuning, tune

CALLER = "TextClassifier.train"

# Arguments for the source of the rows, which are passed to the function here
OF_THE_ROWS = (
    "dataset_name", "dataset_config_name", "train_file", "validation_file", "test_file", "text_column_names",
    "label_column_name", "delimiter", "encoding", "streaming", "shuffle_buffer_size",
)  # fmt: skip

# Arguments of the command only: a resumed run could have other rows, and pushing is a method
OF_THE_COMMAND = {
    "save_strategy": "`rnn-hf train`", "resume_from_checkpoint": "`rnn-hf train`", "push_to_hub": "`push_to_hub()`",
    "hub_model_id": "`push_to_hub()`", "hub_private_repo": "`push_to_hub()`", "hub_revision": "`push_to_hub()`",
}  # fmt: skip

# Random generators, Accelerate's state and torch's threads are shared by the whole process
_ONE_AT_A_TIME = threading.RLock()


class TrainedClassifier(NamedTuple):
    """The result of training.

    Args:
        model: The model, in evaluation mode on the device it was trained on.
        tokenizer: Its tokenizer.
        results: Content of `all_results.json`.
        recipe: All arguments of the run.
    """

    model: RNNForSequenceClassification
    tokenizer: PreTrainedTokenizerBase
    results: dict[str, Any]
    recipe: dict[str, Any]


def train_on_lists(
    texts: Iterable[str],
    labels: Iterable[Any],
    validation: tuple[Iterable[str], Iterable[Any]] | None,
    settings: Mapping[str, Any],
) -> TrainedClassifier:
    """Train a classifier, after checks of all arguments.

    Args:
        texts: As in `TextClassifier.train`.
        labels: As in `TextClassifier.train`.
        validation: As in `TextClassifier.train`.
        settings: Arguments of `rnn-hf train` by name, except those for the source of the rows.

    Raises:
        TypeError: If an argument is unknown, or a value has the wrong type.
        ValueError: If a value is missing or out of its domain, there are fewer than two classes, or an argument needs
            another one.
    """
    rows = {"train": dataset_of_lists(texts, labels)}
    if validation is not None:
        if not isinstance(validation, Sequence) or len(validation) != 2:
            raise TypeError("`validation` must be a pair of texts and labels.")
        rows["validation"] = dataset_of_lists(*validation, name="validation ")
    return train_on_rows(rows, settings)


def train_on_rows(rows: dict[str, Dataset], settings: Mapping[str, Any]) -> TrainedClassifier:
    """Train a classifier on the rows of datasets, after checks of all arguments.

    Args:
        rows: Training rows, and validation rows if there are any, with the columns `text` and `label`.
        settings: As in `train_on_lists`.

    Raises:
        TypeError: As in `train_on_lists`, like the other one.
        ValueError: As there.
    """
    started = time.perf_counter()
    args = checked_arguments(settings)
    with _ONE_AT_A_TIME, kept_random_states(), own_accelerate_state():
        return _train(rows, args, settings.get("class_weights"), started)


def checked_arguments(settings: Mapping[str, Any], caller: str = CALLER) -> ClassifierRunArguments:
    """Return the arguments of a run from keywords.

    Args:
        settings: As in `train_on_lists`.
        caller: Name of the function that takes them, for error messages.

    Raises:
        TypeError: If an argument is unknown, or a value has the wrong type.
        ValueError: If a value is out of its domain, or an argument needs another one.
    """
    for name in settings:
        if name in OF_THE_ROWS:
            raise TypeError(f"{caller} has no argument {name!r}: the rows are its texts and labels.")
        if name in OF_THE_COMMAND:
            raise TypeError(f"{caller} has no argument {name!r}. Use {OF_THE_COMMAND[name]}.")
    weights = settings.get("class_weights")
    if isinstance(weights, Mapping):  # sorted once the classes are known
        settings = {**settings, "class_weights": list(weights.values())}
    args = ClassifierRunArguments.from_keywords(settings, caller)
    if args.output_dir is not None:
        check_output_folder(args)
    return args


def _train(
    rows: dict[str, Dataset], args: ClassifierRunArguments, class_weights: Any, started: float
) -> TrainedClassifier:
    """Run the steps of `rnn-hf train`, without signals and files."""

    def load(args: RunArguments, label_names: Sequence[str] | None) -> TextSplits:
        return split_rows(rows, args, label_names)

    accelerator = start_accelerator(args)
    check_tuning(args, accelerator.num_processes)
    config = checkpoint_config(args)
    splits = load_splits(args, config, load)
    follow_the_data(args, splits)
    if isinstance(class_weights, Mapping):
        args.class_weights = weights_in_order(class_weights, splits.label_names)
    tokenizer = load_tokenizer(splits.iterate_texts, args, config)
    encoded = splits.encode(tokenizer, args)
    data = show_data(splits, encoded, tokenizer, args)
    task = ClassifierTask(splits, encoded, tokenizer, args, config, accelerator)
    tuning = tune(task, started)
    run = task.prepare()
    run.start()
    task, run = task.train(run)
    results = run.results() | {"data": data} | ({} if tuning is None else {"tuning": tuning})
    run.end()
    model = run.bare_model
    model.config.has_integer_labels = has_integer_labels(rows["train"], splits)
    return TrainedClassifier(model, task.tokenizer, results, run.recipe)


def split_rows(
    rows: Mapping[str, Dataset], args: RunArguments, label_names: Sequence[str] | None = None
) -> TextSplits:
    """Return the splits of a run; the validation split is cut from the training rows unless it is given.

    A class with a single row stays in training, and so do all rows if no class has two.

    Args:
        rows: Rows with the columns `text` and `label` of each split.
        args: The arguments of the run.
        label_names: Classes in the order of their ids, if they are known.

    Raises:
        ValueError: If the training rows have fewer than two classes.
    """
    settings: dict[str, Any] = {
        "label_names": label_names,
        "problem_type": args.problem_type,
        "clean_text": args.clean_text,
        "seed": args.seed,
    }
    whole = split_texts(rows, **settings, validation_size=0)["train"]
    counts = class_counts(whole)
    if counts is not None and sum(count > 0 for count in counts.values()) < 2:
        only = next(name for name, count in counts.items() if count > 0)
        raise ValueError(f"`labels` must have at least two classes, got one class, {only!r}.")
    validation_size = choose_validation_size(args, len(rows["train"]))
    if counts is not None and "validation" not in rows and validation_size > 0:
        rare = [name for name, count in counts.items() if count == 1]
        if len(rare) == len(counts):
            validation_size = 0
            warnings.warn("No class has two rows, so nothing is held out for validation.", stacklevel=4)
        elif rare:
            warnings.warn(
                f"Classes with a single row, which no validation row can measure: {comma_list(rare)}.", stacklevel=4
            )
    splits = split_texts(rows, **settings, validation_size=validation_size, max_train_samples=args.max_train_samples)
    return TextSplits(splits.pop("train"), splits, "validation" not in rows and "validation" in splits)


def labelled_texts(
    texts: Iterable[str], labels: Iterable[Any], config: RNNConfig, problem_type: ProblemType
) -> tuple[list[str], np.ndarray]:
    """Return texts as a list, and their labels in the form of `compute_metrics`.

    Args:
        texts: As in `TextClassifier.evaluate`.
        labels: As in `TextClassifier.evaluate`.
        config: Configuration of the model, which names the classes or targets.
        problem_type: Problem type of the model.

    Raises:
        TypeError: If a text is not a string, or the labels have the wrong type.
        ValueError: If a label is missing, or not one of the classes.
    """
    names = [str(name) for _, name in sorted((config.id2label or {}).items())]
    rows = dataset_of_lists(texts, labels, needs_a_class=False)
    strings, given = rows["text"][:], rows["label"][:]
    if problem_type == "regression":
        with without_bars_of_datasets():
            read = split_texts({"test": rows}, label_names=names, problem_type=problem_type)["test"]
        return strings, np.asarray(read["label"][:])
    is_list, expects_lists = isinstance(given[0], list), problem_type == "multi_label_classification"
    if is_list != expects_lists:
        raise TypeError(f"`labels` must be {'lists of classes' if expects_lists else 'one class for each text'}.")
    if is_list and not config.has_integer_labels and isinstance(next(chain(*given), None), int):
        given = [flags_to_names(row, names, position) for position, row in enumerate(given)]
    ids = {name: index for index, name in enumerate(names)}
    for position, label in enumerate(given):
        for item in label if is_list else [label]:
            if str(item) not in ids:
                raise ValueError(
                    f"`labels` must be classes of the model ({comma_list(names)}), got {item!r:.80} at position "
                    f"{position}."
                )
    if is_list:
        return strings, multi_hot([[ids[str(item)] for item in label] for label in given], len(names))
    return strings, np.asarray([ids[str(label)] for label in given])


def flags_to_names(row: Sequence[int], names: Sequence[str], position: int) -> list[str]:
    """Return the names of the classes in a row of 0 and 1 for each class."""
    if len(row) != len(names) or not set(row) <= {0, 1}:
        raise ValueError(
            f"`labels` must be names, or 0 and 1 for each of {len(names)} classes, at position {position}."
        )
    return [name for name, flag in zip(names, row, strict=True) if flag]


def class_counts(rows: Dataset) -> dict[str, int] | None:
    """Return the number of rows of each class; `None` if a text may have several, or for a regression."""
    feature = rows.features["label"]
    if not isinstance(feature, ClassLabel):
        return None
    counts = np.bincount(rows.with_format("numpy")["label"][:], minlength=feature.num_classes)
    return dict(zip(feature.names, counts.tolist(), strict=True))


def weights_in_order(weights: Mapping[Any, float], label_names: Sequence[str]) -> list[str]:
    """Return the weight of each class in the order of the ids.

    Raises:
        ValueError: If a class has no weight, or a class with a weight does not exist.
    """
    by_name = {str(label): str(weight) for label, weight in weights.items()}
    if by_name.keys() != set(label_names):
        raise ValueError(
            f"`class_weights` must have the classes {comma_list(label_names)}, got {comma_list(by_name)}."
        )
    return [by_name[name] for name in label_names]


def has_integer_labels(rows: Dataset, splits: TextSplits) -> bool:
    """Return whether the classes of some rows are integers, which are then predicted as integers.

    Rows of 0 and 1 for each class have no names.
    """
    label = item_of(rows.features["label"])
    is_integer = not isinstance(label, ClassLabel) and getattr(label, "dtype", "").startswith("int")
    is_multi_hot = multi_hot_width({"train": rows}, "label", splits.problem_type, None) is not None
    return is_integer and splits.problem_type != "regression" and not is_multi_hot


@contextmanager
def own_accelerate_state() -> Iterator[None]:
    """Restore the state that all accelerators of a process share, and the variables of training, after the block.

    Otherwise, a second run could not choose another device or precision, and a run would change the caller's.
    """
    # `_shared_state` is private; `_reset_state`, private too, would forget the state of the caller
    shared = [(state, dict(state._shared_state)) for state in (AcceleratorState, PartialState, GradientState)]
    prefixes = ("ACCELERATE_", "ONEDNN_")
    variables = {name: value for name, value in os.environ.items() if name.startswith(prefixes)}
    for state, _ in shared:
        state._shared_state.clear()
    try:
        yield
    finally:
        for state, before in shared:
            state._shared_state.clear()
            state._shared_state.update(before)
        for name in [name for name in os.environ if name.startswith(prefixes) and name not in variables]:
            del os.environ[name]
        os.environ.update(variables)
