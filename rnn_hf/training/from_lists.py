"""Train a classifier from Python, on texts and labels in memory, without a trace in the process."""

import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from accelerate.state import AcceleratorState, GradientState, PartialState
from datasets import ClassLabel, Dataset
from transformers import PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.encoding import multi_hot
from rnn_hf.data.labels import item_of
from rnn_hf.data.lists import dataset_of_lists
from rnn_hf.data.sources import split_texts
from rnn_hf.modeling_rnn import RNNForSequenceClassification
from rnn_hf.progress import without_bars_of_datasets
from rnn_hf.random_states import kept_random_states

from .arguments import ClassifierRunArguments, RunArguments, as_recipe
from .classifier import ClassifierRun, create_label_loss, create_loaders
from .initial_models import checkpoint_config, create_classifier, load_tokenizer
from .launch import start_accelerator
from .optimization import create_optimizer, create_schedule, num_training_steps
from .output_folder import check_output_folder
from .splits import TextSplits, load_splits

CALLER = "TextClassifier.train"

# Arguments that say where rows come from, which are given here
OF_THE_ROWS = (
    "dataset_name", "dataset_config_name", "train_file", "validation_file", "test_file", "text_column_names",
    "label_column_name", "streaming", "shuffle_buffer_size",
)  # fmt: skip

# Arguments that need a folder
OF_THE_FOLDER = {"save_strategy": "no", "resume_from_checkpoint": None, "push_to_hub": False}

# Random generators, Accelerate's state and torch's threads belong to the whole process
_ONE_AT_A_TIME = threading.RLock()


class TrainedClassifier(NamedTuple):
    """What training gives.

    Args:
        model: The model, in evaluation mode on the device it was trained on.
        tokenizer: Its tokenizer.
        results: Content of `all_results.json`.
        recipe: Every argument of the run.
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
    """Train a classifier; everything is checked before anything runs.

    Args:
        texts: As in `TextClassifier.train`.
        labels: As there.
        validation: As there.
        settings: The arguments of `rnn-hf train` by their names, those of the rows aside.

    Raises:
        TypeError: If an argument is unknown, or a value is of the wrong type.
        ValueError: If a value is missing or out of its domain, there are fewer than two classes, or an argument needs
            another one.
    """
    args = checked_arguments(settings)
    rows = {"train": dataset_of_lists(texts, labels)}
    if validation is not None:
        if not isinstance(validation, Sequence) or len(validation) != 2:
            raise TypeError("`validation` must be a pair of texts and labels.")
        rows["validation"] = dataset_of_lists(*validation, name="validation ")
    with _ONE_AT_A_TIME, kept_random_states(), own_accelerate_state():
        return _train(rows, args)


def checked_arguments(settings: Mapping[str, Any]) -> ClassifierRunArguments:
    """Return the arguments of a run from their names in Python.

    Raises:
        TypeError: If an argument is unknown, or a value is of the wrong type.
        ValueError: If a value is out of its domain, or an argument needs another one.
    """
    for name in OF_THE_ROWS:
        if name in settings:
            raise TypeError(f"{CALLER} has no argument {name!r}: the rows are its texts and labels.")
    args = ClassifierRunArguments.from_keywords(settings, CALLER)
    if args.output_dir is not None:
        check_output_folder(args)
    for name, default in OF_THE_FOLDER.items():
        if args.output_dir is None and getattr(args, name) != default:
            raise ValueError(f"`{name}` needs a folder. Pass `output_dir`.")
    return args


def _train(rows: dict[str, Dataset], args: ClassifierRunArguments) -> TrainedClassifier:
    """Do what `rnn-hf train` does, step by step, without signals and files."""

    def load(args: RunArguments, label_names: Sequence[str] | None) -> TextSplits:
        return split_rows(rows, args, label_names)

    accelerator = start_accelerator(args)
    config = checkpoint_config(args)
    splits = load_splits(args, config, load)
    tokenizer = load_tokenizer(splits.iterate_texts, args, config)
    encoded = splits.encode(tokenizer, args)
    bare_model = create_classifier(splits, tokenizer, args, config)
    bare_model.config.has_integer_labels = has_integer_labels(rows["train"], splits)
    loaders, sampler = create_loaders(encoded, tokenizer, args, accelerator)
    loss = create_label_loss(encoded["train"], splits, args, accelerator.device)
    num_steps = num_training_steps(args, sampler.num_batches or 0)
    optimizer = create_optimizer(bare_model, args, accelerator.device)
    schedule = create_schedule(optimizer, args, num_steps)
    model, optimizer = accelerator.prepare(bare_model, optimizer)
    run = ClassifierRun(
        args=args,
        recipe=as_recipe(args, bare_model.config),
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        loaders=loaders,
        sampler=sampler,
        num_steps=num_steps,
        label_names=splits.label_names,
        problem_type=splits.problem_type,
        loss=lambda logits, batch: loss(logits, batch["labels"]),
    )
    run.start()
    run.train()
    run.finish_weights()
    results = run.results()
    run.end()
    return TrainedClassifier(bare_model, tokenizer, results, run.recipe)


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
    validation_size = args.validation_size
    if counts is not None and "validation" not in rows and validation_size > 0:
        rare = [name for name, count in counts.items() if count == 1]
        if len(rare) == len(counts):
            validation_size = 0
            warnings.warn("No class has two rows, so nothing is held out for validation.", stacklevel=4)
        elif rare:
            names = ", ".join(rare[:20]) + ("" if len(rare) <= 20 else f", ... ({len(rare)} in all)")
            warnings.warn(f"Classes with a single row, which no validation row can measure: {names}.", stacklevel=4)
    splits = split_texts(rows, **settings, validation_size=validation_size, max_train_samples=args.max_train_samples)
    return TextSplits(splits.pop("train"), splits)


def labelled_texts(
    texts: Iterable[str], labels: Iterable[Any], label_names: Sequence[str], problem_type: ProblemType
) -> tuple[list[str], np.ndarray]:
    """Return texts as a list, and their labels as `compute_metrics` takes them.

    Args:
        texts: As in `TextClassifier.evaluate`.
        labels: As there.
        label_names: The classes or targets of the model in the order of their ids.
        problem_type: What the model answers.

    Raises:
        TypeError: If a text is not a string, or the labels are of the wrong type.
        ValueError: If a label is missing, or none of the classes.
    """
    rows = {"test": dataset_of_lists(texts, labels)}
    with without_bars_of_datasets():
        read = split_texts(rows, label_names=label_names, problem_type=problem_type, validation_size=0)["test"]
    truth = read["label"][:]
    if problem_type == "multi_label_classification":
        return read["text"][:], multi_hot(truth, len(label_names))
    return read["text"][:], np.asarray(truth)


def class_counts(rows: Dataset) -> dict[str, int] | None:
    """Return the number of rows of each class; `None` if a text may have several, or for a regression."""
    feature = rows.features["label"]
    if not isinstance(feature, ClassLabel):
        return None
    counts = np.bincount(rows.with_format("numpy")["label"][:], minlength=feature.num_classes)
    return dict(zip(feature.names, counts.tolist(), strict=True))


def has_integer_labels(rows: Dataset, splits: TextSplits) -> bool:
    """Return whether the classes of some rows are whole numbers, which are then predicted as such."""
    is_integer = getattr(item_of(rows.features["label"]), "dtype", "").startswith("int")
    return is_integer and splits.problem_type != "regression"


@contextmanager
def own_accelerate_state() -> Iterator[None]:
    """Put the state that all accelerators of a process share, and Accelerate's variables, back after the block.

    Otherwise a second run could not choose another device or precision, and a run would change the caller's.
    """
    shared = [(state, dict(state._shared_state)) for state in (AcceleratorState, PartialState, GradientState)]
    variables = {name: value for name, value in os.environ.items() if name.startswith("ACCELERATE_")}
    for state, _ in shared:
        state._shared_state.clear()
    try:
        yield
    finally:
        for state, before in shared:
            state._shared_state.clear()
            state._shared_state.update(before)
        for name in [name for name in os.environ if name.startswith("ACCELERATE_") and name not in variables]:
            del os.environ[name]
        os.environ.update(variables)
