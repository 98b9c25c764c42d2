"""Metrics of a classifier, from the logits of a whole split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import tqdm
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn
from torch.utils.data import DataLoader


@torch.no_grad()
def predict_split(
    model: nn.Module, loader: DataLoader[Any], accelerator: Accelerator, description: str = "Evaluating"
) -> tuple[np.ndarray, np.ndarray]:
    """Run a model over a split, on all processes.

    Every batch carries the index of its rows, so the answer is in the order of the split and each row counts once,
    however the batches were drawn and whatever a sampler repeated to fill the last one.

    Args:
        model: The classifier; it is left in evaluation mode.
        loader: Prepared batches with `input_ids`, `attention_mask`, `labels` and `row`.
        accelerator: The run's accelerator.
        description: What the progress bar says.

    Returns:
        Logits, float32 of shape `(num_examples, num_labels)`, and labels, int64 of shape `(num_examples,)`.
    """
    model.eval()
    parts = []
    for batch in tqdm(loader, desc=description, leave=False, delay=2, main_process_only=True):
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        gathered = accelerator.gather_for_metrics((logits, batch["labels"], batch["row"]))
        parts.append([tensor.cpu().numpy() for tensor in gathered])
    logits, labels, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    rows, first = np.unique(rows, return_index=True)
    if not np.array_equal(rows, np.arange(len(rows))):
        raise RuntimeError(f"The evaluation has {len(rows)} rows, but the last one has the index {rows[-1]}.")
    return logits[first], labels[first]


def classification_metrics(logits: np.ndarray, labels: np.ndarray, label_names: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, macro F1, the figures of each class and the confusion matrix.

    Args:
        logits: Scores. Shape `(num_examples, num_labels)`.
        labels: True classes. Shape `(num_examples,)`.
        label_names: Names of the classes in the order of their ids.

    Returns:
        A mapping that JSON can hold. `"loss"` is the mean cross-entropy in nats, `"macro_f1"` the mean over the
        classes that occur, and `"confusion_matrix"` has the true classes as rows and the predicted ones as columns.

    Example:
        >>> metrics = classification_metrics(np.eye(2), np.array([0, 0]), ["bad", "good"])
        >>> metrics["accuracy"], metrics["confusion_matrix"]
        (0.5, [[1, 1], [0, 0]])
    """
    ids = list(range(len(label_names)))
    predictions = logits.argmax(axis=1)
    columns = precision_recall_fscore_support(labels, predictions, labels=ids, zero_division=0)
    names = ("precision", "recall", "f1", "support")
    per_class = {
        label: {name: column[index].item() for name, column in zip(names, columns, strict=True)}
        for index, label in enumerate(label_names)
    }
    occurring = np.union1d(labels, predictions)
    return {
        "accuracy": float((predictions == labels).mean()),
        "macro_f1": float(columns[2][occurring].mean()),
        "loss": float(F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels))),
        "num_examples": len(labels),
        "per_class": per_class,
        "confusion_matrix": confusion_matrix(labels, predictions, labels=ids).tolist(),
    }


def calibration(logits: np.ndarray, labels: np.ndarray, num_bins: int = 15) -> dict[str, Any]:
    """Return how far the probability of the predicted class is from the share of right predictions.

    The predictions are sorted by their confidence, the probability of the class they name, into bins of equal width.
    The expected calibration error is the mean gap between confidence and accuracy over the bins, each with the weight
    of its rows (Guo et al., 2017).

    Args:
        logits: Scores of single-label classes. Shape `(num_examples, num_labels)`.
        labels: True classes. Shape `(num_examples,)`.
        num_bins: Number of bins between 0 and 1; Guo et al. take 15.

    Returns:
        A mapping that JSON can hold: `"expected_calibration_error"`, `"num_bins"`, and `"bins"`, those with rows in
        them. A bin holds the confidences above `"above"` and up to `"up_to"`.

    Example:
        >>> measured = calibration(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]), num_bins=2)
        >>> round(measured["expected_calibration_error"], 6), [bin["count"] for bin in measured["bins"]]
        (0.3, [2])
    """
    probabilities = torch.from_numpy(logits).double().softmax(dim=1).numpy()
    confidences, is_right = probabilities.max(axis=1), logits.argmax(axis=1) == labels
    edges = np.linspace(0, 1, num_bins + 1)
    # rounding may lift a sum of probabilities, and so a confidence, above 1
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
