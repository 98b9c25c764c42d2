"""Metrics of classification and regression, from the logits of a whole split."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from scipy.stats import pearsonr, spearmanr
from sklearn import config_context
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.progress import progress_bar

# The metric that selects the best weights; higher is better for each of them
MAIN_METRICS: dict[ProblemType, str] = {
    "single_label_classification": "accuracy",
    "multi_label_classification": "micro_f1",
    "regression": "r2",
}

# With more classes, a confusion matrix is kept as its nonzero entries, and tables show the most frequent classes
MANY_CLASSES = 50

# Counts, true classes as rows and predicted ones as columns; or its nonzero entries, "true", "predicted" and "count"
ConfusionMatrix = Sequence[Sequence[int]] | Mapping[str, Sequence[int]]


@torch.no_grad()
def predict_split(
    model: nn.Module, loader: DataLoader[Any], accelerator: Accelerator, description: str = "Evaluating"
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the logits of a split, on all processes.

    Batches carry the indices of their rows, so the result is in the order of the split and every row counts once, also
    if batches are sorted by length or a sampler repeats rows to fill the last batch.

    Args:
        model: The classifier; it is left in evaluation mode.
        loader: Prepared batches with `input_ids`, `attention_mask`, `labels` and `row`.
        accelerator: The accelerator of the run.
        description: Label of the progress bar.

    Returns:
        Logits, float32 of shape `(num_examples, num_labels)`, and labels, one row for each example.
    """
    model.eval()
    parts = []
    for batch in progress_bar(loader, desc=description, leave=False, delay=2):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        gathered = accelerator.gather_for_metrics((logits, batch["labels"], batch["row"]))
        parts.append([tensor.cpu().numpy() for tensor in gathered])
    logits, labels, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    rows, first = np.unique(rows, return_index=True)
    if not np.array_equal(rows, np.arange(len(rows))):
        raise RuntimeError(f"The evaluation has {len(rows)} rows, but the last one has the index {rows[-1]}.")
    return logits[first], labels[first]


def compute_metrics(
    logits: np.ndarray,
    labels: np.ndarray,
    label_names: Sequence[str],
    problem_type: ProblemType,
    threshold: float | Sequence[float] = 0.5,
) -> dict[str, Any]:
    """Return the metrics of a problem type; see the function of that type.

    Args:
        logits: Output of the model. Shape `(num_examples, num_labels)`.
        labels: True labels.
        label_names: Names of the classes or targets in the order of their ids.
        problem_type: Type of the problem.
        threshold: Minimum probability of a predicted class for texts with several labels: one for all classes, or one
            for each.
    """
    if problem_type == "single_label_classification":
        return classification_metrics(logits, labels, label_names)
    if problem_type == "multi_label_classification":
        return multi_label_metrics(logits, labels, label_names, threshold)
    return regression_metrics(logits, labels, label_names)


def num_correct(logits: Tensor, labels: Tensor, problem_type: ProblemType) -> Tensor:
    """Return the number of texts with the correct class, or exactly the correct classes; 0 for a regression.

    Args:
        logits: Output of the model. Shape `(num_examples, num_labels)`.
        labels: True labels.
        problem_type: Type of the problem.
    """
    if problem_type == "single_label_classification":
        return (logits.argmax(dim=-1) == labels).sum()
    if problem_type == "multi_label_classification":
        return ((logits > 0) == labels.bool()).all(dim=-1).sum()
    return torch.zeros((), device=logits.device)


def classification_metrics(logits: np.ndarray, labels: np.ndarray, label_names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, macro F1, the metrics of each class and the confusion matrix.

    Args:
        logits: Scores. Shape `(num_examples, num_labels)`.
        labels: True classes. Shape `(num_examples,)`.
        label_names: Names of the classes in the order of their ids.

    Returns:
        A mapping for JSON. `"loss"` is the mean cross-entropy in nats, `"macro_f1"` the mean over the classes that
        occur, and `"calibration"` the result of `calibration`. `"confusion_matrix"` has the true classes as rows and
        the predicted ones as columns. With more than 50 classes, it has only the nonzero entries, as three lists: the
        class ids `"true"` and `"predicted"`, and `"count"`. `confusion_entries` reads both forms.

    Example:
        >>> metrics = classification_metrics(np.eye(2), np.array([0, 0]), ["bad", "good"])
        >>> metrics["accuracy"], metrics["confusion_matrix"]
        (0.5, [[1, 1], [0, 0]])
    """
    ids = list(range(len(label_names)))
    predictions = logits.argmax(axis=1)
    columns = precision_recall_fscore_support(labels, predictions, labels=ids, zero_division=0)
    matrix: ConfusionMatrix
    if len(ids) <= MANY_CLASSES:
        matrix = confusion_matrix(labels, predictions, labels=ids).tolist()
    else:
        pairs, counts = np.unique(np.stack([labels, predictions]), axis=1, return_counts=True)
        matrix = {"true": pairs[0].tolist(), "predicted": pairs[1].tolist(), "count": counts.tolist()}
    occurring = np.union1d(labels, predictions)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "macro_f1": float(columns[2][occurring].mean()),
        "loss": float(F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels))),
        "num_examples": len(labels),
        "per_class": _per_class(columns, label_names),
        "confusion_matrix": matrix,
        "calibration": calibration(logits, labels),
    }


def confusion_entries(matrix: ConfusionMatrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the nonzero entries of a confusion matrix.

    Args:
        matrix: The `"confusion_matrix"` of `classification_metrics`, in either form.

    Returns:
        Ids of true classes, ids of predicted classes, and counts, each of shape `(num_entries,)`.

    Example:
        >>> [column.tolist() for column in confusion_entries([[5, 0], [2, 3]])]
        [[0, 1, 1], [0, 0, 1], [5, 2, 3]]
    """
    if isinstance(matrix, Mapping):
        true, predicted, count = (np.asarray(matrix[name], dtype=int) for name in ("true", "predicted", "count"))
        return true, predicted, count
    counts = np.asarray(matrix)
    true, predicted = counts.nonzero()
    return true, predicted, counts[true, predicted]


def most_frequent_errors(matrix: ConfusionMatrix, num_errors: int) -> list[tuple[int, int, int]]:
    """Return the most frequent errors, as ids of the true and the predicted class and their count.

    Args:
        matrix: The `"confusion_matrix"` of `classification_metrics`, in either form.
        num_errors: Maximum number of errors to return.

    Example:
        >>> most_frequent_errors([[5, 1], [2, 3]], 1)
        [(1, 0, 2)]
    """
    true, predicted, count = confusion_entries(matrix)
    order = np.lexsort((predicted, true, count))[::-1]
    order = order[true[order] != predicted[order]][:num_errors]
    return [(int(true[index]), int(predicted[index]), int(count[index])) for index in order]


def most_frequent_classes(per_class: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the classes that a table shows, with their metrics: all, or the 50 most frequent ones.

    Args:
        per_class: The `"per_class"` of `classification_metrics` or `multi_label_metrics`.
    """
    classes = list(per_class.items())
    if len(classes) > MANY_CLASSES:
        classes.sort(key=lambda item: -item[1]["support"])
    return classes[:MANY_CLASSES]


def calibration(logits: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> dict[str, Any]:
    """Return the expected calibration error, and accuracy and confidence of each bin.

    Predictions are grouped by confidence, the probability of the predicted class, into bins of equal width. The
    expected calibration error is the mean absolute difference between confidence and accuracy of the bins, weighted
    by their numbers of rows (Guo et al., 2017).

    Args:
        logits: Scores of single-label classes. Shape `(num_examples, num_labels)`.
        labels: True classes. Shape `(num_examples,)`.
        num_bins: Number of bins between 0 and 1; 15 as in Guo et al.

    Returns:
        A mapping for JSON: `"expected_calibration_error"`, `"num_bins"`, and `"bins"`, without empty ones. A bin has
        the confidences above `"above"` and up to `"up_to"`.

    Example:
        >>> measured = calibration(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]), num_bins=2)
        >>> round(measured["expected_calibration_error"], 6), [bin["count"] for bin in measured["bins"]]
        (0.3, [2])
    """
    probabilities = torch.from_numpy(logits).double().softmax(dim=1).numpy()
    confidences, is_right = probabilities.max(axis=1), logits.argmax(axis=1) == labels
    edges = np.linspace(0, 1, num_bins + 1)
    # rounding can make a confidence exceed 1
    of_bin = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
    bins = [
        {
            "above": float(edges[index]),
            "up_to": float(edges[index + 1]),
            "count": int((of_bin == index).sum()),
            "mean_confidence": float(confidences[of_bin == index].mean()),
            "accuracy": float(is_right[of_bin == index].mean()),
        }
        for index in np.unique(of_bin)
    ]
    gaps = [entry["count"] * abs(entry["mean_confidence"] - entry["accuracy"]) for entry in bins]
    return {"expected_calibration_error": sum(gaps) / len(labels), "num_bins": num_bins, "bins": bins}


def multi_label_metrics(
    logits: np.ndarray, labels: np.ndarray, label_names: Sequence[str], threshold: float | Sequence[float] = 0.5
) -> dict[str, Any]:
    """Return the metrics of texts with any number of classes.

    Args:
        logits: Scores. Shape `(num_examples, num_labels)`.
        labels: 1 for the classes of a text, 0 for the others. Shape `(num_examples, num_labels)`.
        label_names: Names of the classes in the order of their ids.
        threshold: Minimum probability of a predicted class, one for all classes or one for each.

    Returns:
        A mapping for JSON. `"accuracy"` is the share of texts with exactly the correct classes, `"micro_f1"` is
        computed over the decisions for all classes together, `"macro_f1"` is the mean over the classes that occur, and
        `"loss"` is the mean binary cross-entropy in nats.

    Example:
        >>> metrics = multi_label_metrics(np.array([[9.0, -9.0], [9.0, 9.0]]), np.array([[1, 0], [0, 1]]), ["a", "b"])
        >>> metrics["accuracy"], round(metrics["micro_f1"], 2), round(metrics["macro_f1"], 2)
        (0.5, 0.8, 0.83)
    """
    scores = torch.from_numpy(logits).double()
    predictions, truth = np.greater_equal(scores.sigmoid().numpy(), threshold), labels.astype(bool)
    # scikit-learn treats a single column as binary classification, so a class that never occurs is added
    predictions, truth = (np.pad(flags, ((0, 0), (0, 1))) for flags in (predictions, truth))
    columns = [column[:-1] for column in precision_recall_fscore_support(truth, predictions, zero_division=0)]
    _, _, micro_f1, _ = precision_recall_fscore_support(truth, predictions, average="micro", zero_division=0)
    occurring = (truth | predictions).any(axis=0)[:-1]
    return {
        "accuracy": float(accuracy_score(truth, predictions)),
        "micro_f1": float(micro_f1),
        "macro_f1": float(columns[2][occurring].mean()) if occurring.any() else 0.0,
        "loss": float(F.binary_cross_entropy_with_logits(scores, torch.from_numpy(labels).double())),
        "threshold": threshold if isinstance(threshold, float) else list(threshold),
        "num_examples": len(labels),
        "per_class": _per_class(columns, label_names),
    }


def regression_metrics(logits: np.ndarray, labels: np.ndarray, label_names: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of predicted numbers; with several targets, their means.

    Args:
        logits: Predicted numbers. Shape `(num_examples, num_labels)`.
        labels: True numbers. Shape `(num_examples,)` or `(num_examples, num_labels)`.
        label_names: Names of the targets.

    Returns:
        A mapping for JSON: `"mse"` (also `"loss"`) and `"mae"`, the mean squared and absolute errors, `"r2"`, the
        coefficient of determination, `"pearson"` and `"spearman"`, the correlations of values and of ranks, and all of
        them `"per_target"` if there are several. A score that is undefined for constant values is 0.

    Example:
        >>> regression_metrics(np.array([[1.0], [2.0], [6.0]]), np.array([1.0, 2.0, 3.0]), ["stars"])["mae"]
        1.0
    """
    predictions, truth = (array.reshape(len(array), -1).astype(np.float64) for array in (logits, labels))
    per_target = {}
    for target, predicted, true in zip(label_names, predictions.T, truth.T, strict=True):
        varies, both_vary = true.var() > 0, true.var() > 0 and predicted.var() > 0
        with config_context(assume_finite=True):  # the errors of NaN are NaN, not an exception
            per_target[target] = {
                "mse": float(mean_squared_error(true, predicted)),
                "mae": float(mean_absolute_error(true, predicted)),
                "r2": float(r2_score(true, predicted)) if varies else 0.0,
                "pearson": float(pearsonr(true, predicted).statistic) if both_vary else 0.0,
                "spearman": float(spearmanr(true, predicted).statistic) if both_vary else 0.0,
            }
    names = next(iter(per_target.values()))
    means = {name: float(np.mean([figures[name] for figures in per_target.values()])) for name in names}
    several = {"per_target": per_target} if len(per_target) > 1 else {}
    return means | {"loss": means["mse"], "num_examples": len(labels)} | several


def _per_class(columns: Sequence[np.ndarray], label_names: Sequence[str]) -> dict[str, dict[str, float]]:
    names = ("precision", "recall", "f1", "support")
    return {
        label: {name: column[index].item() for name, column in zip(names, columns, strict=True)}
        for index, label in enumerate(label_names)
    }
