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
