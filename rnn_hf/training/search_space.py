"""The search space of tuning, the rows it is evaluated on, and the comparison of two settings."""

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetInfo, concatenate_datasets
from datasets.table import InMemoryTable

from rnn_hf.causal_lm_rnn import RNNForCausalLM
from rnn_hf.configuration_rnn import ClassifierPooling, ProblemType, RNNConfig

from .arguments import ClassifierRunArguments
from .calibration import fit_temperature
from .settings import ngram_buckets
from .splits import TextSplits

# Below this number of rows, a validation split is too small to compare settings, and cross-validation is cheap
MOST_ROWS_OF_FOLDS = 5_000

# Below this number of rows, five folds instead of three: two thirds of the rows would be too few to train on
MOST_ROWS_OF_FIVE_FOLDS = 500

# The score is the main metric minus this share of the loss. Accuracy changes in steps of one row; the loss also
# measures how nearly a row was right, and decides between settings of nearly the same accuracy.
LOSS_WEIGHT = 0.1


def search_space(
    args: ClassifierRunArguments, config: RNNConfig | None, problem_type: ProblemType, num_labels: int, num_rows: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the distributions to search, and the chosen values in them; given values are not searched.

    Args:
        args: The arguments of the run, including those chosen from the data.
        config: Configuration of the checkpoint, which fixes the sizes, if the run starts from one.
        problem_type: Problem type of the labels.
        num_labels: Number of classes or targets.
        num_rows: Number of training rows.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    # the settings that a checkpoint does not fix start from its values
    chosen = {name: getattr(config or args, name) for name in ("word_dropout", "embedding_dropout")}
    chosen["classifier_dropout"] = (config or args).classifier_dropout
    ranges: dict[str, tuple[float, float]] = dict.fromkeys(chosen, (0.0, 0.6))
    ranges["learning_rate"] = rounded("learning_rate", args.learning_rate / 3), args.learning_rate * 3
    duration = "max_steps" if args.max_steps > 0 else "num_train_epochs"
    length = getattr(args, duration)
    factors = (0.5, 1, 2, 4)
    choices: dict[str, list[Any]] = {
        duration: [max(1, round(length * factor)) if args.max_steps > 0 else length * factor for factor in factors],
        "per_device_train_batch_size": [size for size in (16, 32, 64, 128) if size <= num_rows],
    }
    if problem_type == "single_label_classification":
        choices["label_smoothing_factor"] = [0.0, 0.1, 0.2]
    if config is None or RNNForCausalLM.__name__ in (config.architectures or ()):
        # networks that pool with attention cannot be joined
        poolings = [pooling for pooling in get_args(ClassifierPooling) if pooling != "attention"]
        choices |= {"classifier_pooling": poolings, "concat_embedding_mean": [False, True]}
    if config is None:
        choices |= {
            "hidden_size": [16, 32, 64, 128],
            "ngram_buckets": [0, args.ngram_buckets or ngram_buckets(num_labels)],
        }
        if args.word_vectors is None:
            choices["embedding_size"] = [32, 64, 128]
    if {"max_steps", "num_train_epochs"} & args.given:
        del choices[duration]
    space: dict[str, Any] = {}
    for name in (name for name in [*choices, *ranges] if name not in args.given):
        is_of_model = config is not None and hasattr(config, name)
        chosen[name] = value = getattr(config if is_of_model else args, name)
        if name in choices:
            space[name] = CategoricalDistribution(sorted({*choices[name], value}))
        else:
            low, high = min(ranges[name][0], value), max(ranges[name][1], value)
            space[name] = FloatDistribution(low, rounded(name, high), log=name == "learning_rate")
    return space, {name: chosen[name] for name in space}


def rounded(name: str, value: Any) -> Any:
    """Return a value as it is tried and written to the recipe: rounded to the digits that matter.

    Example:
        >>> rounded("learning_rate", 0.00412345), rounded("word_dropout", 0.31234), rounded("hidden_size", 64)
        (0.00412, 0.31, 64)
    """
    if not isinstance(value, float):
        return value
    return float(f"{value:.3g}") if name == "learning_rate" else round(value, 2)


def cut_folds(splits: TextSplits, rows: Mapping[str, Any], seed: int) -> list[dict[str, Dataset]]:
    """Return the rows that settings are trained and evaluated on: stratified folds of few rows, or else the splits.

    Args:
        splits: Whether the validation split was cut from the training rows.
        rows: The encoded rows of each split.
        seed: Seed of the folds.

    Raises:
        ValueError: If there are many rows and no validation split.
    """
    parts = [rows[name] for name in ("train", "validation") if name in rows]
    num_rows = sum(map(len, parts))
    has_own_validation = len(parts) == 2 and not splits.validation_is_cut
    if has_own_validation or num_rows >= MOST_ROWS_OF_FOLDS:
        if len(parts) == 1:
            raise ValueError("`tune_minutes` needs a validation split. Pass `validation_size=0.05`.")
        return [{"train": parts[0], "validation": parts[1]}]
    together = concatenate_datasets(parts)
    labels = np.asarray(together.with_format("numpy")["labels"][:])
    # neighbours in the order of class or target go to different folds
    keys = labels if labels.ndim == 1 else np.zeros(num_rows)
    order = np.lexsort((np.random.default_rng(seed).permutation(num_rows), keys))
    num_folds = min(5 if num_rows < MOST_ROWS_OF_FIVE_FOLDS else 3, num_rows)
    fold_of = np.empty(num_rows, dtype=int)
    fold_of[order] = np.arange(num_rows) % num_folds
    table = together.with_format("arrow")[:]

    def select(is_chosen: np.ndarray) -> Dataset:
        part = table.take(pa.array(np.flatnonzero(is_chosen)))
        numbers = pa.array(np.arange(len(part), dtype=np.int32))
        part = part.set_column(part.schema.get_field_index("row"), "row", numbers)
        return Dataset(InMemoryTable(part), info=DatasetInfo(features=together.features))

    return [{"train": select(fold_of != fold), "validation": select(fold_of == fold)} for fold in range(num_folds)]


def row_scores(logits: np.ndarray, labels: np.ndarray, problem_type: ProblemType) -> np.ndarray:
    """Return a score for each row, whose mean is the main metric minus `LOSS_WEIGHT` times the loss.

    Two models can be compared row by row. With one class per text, the loss is that at the best temperature, because
    the finished model is calibrated. The F1 of several labels is not a mean over rows: its rows have the linear terms
    of the ratio, whose standard error is that of the F1. R2 is used without a loss.

    Args:
        logits: Logits of rows that were not used for training. Shape `(num_rows, num_labels)`.
        labels: The labels of these rows.
        problem_type: Problem type of the labels.

    Returns:
        Shape `(num_rows,)`.

    Example:
        >>> row_scores(np.array([[1.0], [3.0]]), np.array([1.0, 2.0]), "regression").tolist()
        [1.0, -3.0]
    """
    scores = torch.from_numpy(logits).double()
    if problem_type == "regression":
        truth = labels.reshape(logits.shape).astype(np.float64)
        variance = truth.var(axis=0)
        errors = (logits - truth) ** 2 / np.where(variance > 0, variance, 1.0)
        return np.asarray(1.0 - errors.mean(axis=1))
    if problem_type == "single_label_classification":
        losses = F.cross_entropy(
            scores / fit_temperature(logits, labels), torch.from_numpy(labels), reduction="none"
        ).numpy()
        is_right = np.asarray(logits.argmax(axis=1) == labels, dtype=np.float64)
        return np.asarray(is_right - LOSS_WEIGHT * losses)
    truth, predicted = labels.astype(bool), np.greater(logits, 0)
    hits, sizes = 2 * (truth & predicted).sum(axis=1), truth.sum(axis=1) + predicted.sum(axis=1)
    f1 = hits.sum() / max(sizes.sum(), 1)
    losses = (
        F.binary_cross_entropy_with_logits(scores, torch.from_numpy(labels).double(), reduction="none")
        .mean(dim=1)
        .numpy()
    )
    return np.asarray(f1 + (hits - f1 * sizes) / max(sizes.mean(), 1e-9) - LOSS_WEIGHT * losses)
