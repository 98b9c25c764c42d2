"""From logits to predictions: the scale of regression targets, and the thresholds of several labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import precision_recall_curve
from torch import Tensor, nn

from .calibration import scale_logits


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation of the targets of a regression, which is trained on standardized targets.

    Otherwise, the learning rate would depend on the unit of the targets.

    Args:
        mean: Mean of each target. Shape `(num_labels,)`.
        deviation: Standard deviation of each target, 1 for constant ones. Shape `(num_labels,)`.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, labels: np.ndarray) -> "TargetScale":
        """Return the scale of the training rows.

        Args:
            labels: Targets. Shape `(num_rows,)` or `(num_rows, num_labels)`.

        Example:
            >>> TargetScale.of(np.array([1.0, 3.0])).standardized(torch.tensor([3.0]))
            tensor([1.])
        """
        targets = torch.tensor(labels.reshape(len(labels), -1), dtype=torch.float64)
        deviation = targets.std(dim=0, correction=0)
        return cls(targets.mean(dim=0).float(), torch.where(deviation > 0, deviation, 1.0).float())

    def check(self, save_dtype: str) -> None:
        """Reject targets that the type of the saved weights cannot represent.

        Raises:
            ValueError: If it cannot.
        """
        largest = float((self.mean.abs() + self.deviation).max())
        if largest > torch.finfo(getattr(torch, save_dtype)).max / 2:
            raise ValueError(
                f"`save_dtype` must hold numbers of the size of the targets, {largest:.3g}, got {save_dtype!r}. Pass "
                "`save_dtype=float32`."
            )

    def standardized(self, labels: Tensor) -> Tensor:
        """Return labels with mean 0 and standard deviation 1, in the same shape."""
        mean, deviation = self.mean.to(labels.device), self.deviation.to(labels.device)
        return ((labels.view(len(labels), -1) - mean) / deviation).view_as(labels)

    def restored(self, logits: np.ndarray) -> np.ndarray:
        """Return the targets of standardized predictions. Shape `(num_examples, num_labels)`."""
        restored: np.ndarray = logits * self.deviation.numpy() + self.mean.numpy()
        return restored

    @torch.no_grad()
    def fold(self, model: nn.Module) -> None:
        """Make a model that was trained on standardized targets predict in their own unit.

        Args:
            model: A classifier of this package.
        """
        scale_logits(model, self.deviation)
        bias: Any = model.classifier.bias  # type: ignore[union-attr]  # a layer's
        bias.add_(self.mean.to(bias))

    @torch.no_grad()
    def unfold(self, model: nn.Module) -> None:
        """Make a model that predicts in the unit of the targets predict standardized ones: the inverse of `fold`."""
        bias: Any = model.classifier.bias  # type: ignore[union-attr]  # a layer's
        bias.sub_(self.mean.to(bias))
        scale_logits(model, 1 / self.deviation)


def best_thresholds(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return the threshold of each class with the highest F1.

    Macro F1 rewards rare classes, whose probabilities seldom reach 0.5. A threshold is midway between two
    probabilities; a class without rows keeps 0.5.

    Args:
        logits: Scores of rows that were not used for training. Shape `(num_examples, num_labels)`.
        labels: 1 for the classes of a text, 0 for the others. Shape `(num_examples, num_labels)`.

    Example:
        >>> best_thresholds(np.array([[-2.0], [-1.0], [0.0]]), np.array([[0], [1], [1]]))
        [0.194072]
    """
    probabilities, thresholds = torch.from_numpy(logits).double().sigmoid().numpy(), []
    for scores, truth in zip(probabilities.T, labels.T, strict=True):
        if not truth.any():
            thresholds.append(0.5)
            continue
        precision, recall, candidates = precision_recall_curve(truth, scores)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(f1[:-1].argmax())
        below = candidates[best - 1] if best > 0 else 0.0
        thresholds.append(float(f"{(candidates[best] + below) / 2:.6g}"))
    return thresholds
