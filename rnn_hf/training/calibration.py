"""Temperature scaling (Guo et al., 2017): one number that makes the probabilities of a finished classifier fit."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import nn

from .metrics import calibration

# Beyond these, the probabilities of any classifier are all alike or all 0 and 1
BOUNDS = (0.01, 100.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature by which dividing the logits makes the labels most likely.

    Where every row is right, or a logit is no finite number, no temperature is the best one, and it is 1.

    Args:
        logits: Scores of rows that were not trained on. Shape `(num_examples, num_labels)`.
        labels: True classes. Shape `(num_examples,)`.

    Example:
        >>> logits = np.log([[0.99, 0.01]] * 4)  # sure of the first class, which is right three times out of four
        >>> probabilities = np.exp(logits / fit_temperature(logits, np.array([0, 0, 0, 1])))
        >>> (probabilities / probabilities.sum(axis=1, keepdims=True)).round(2)[0].tolist()
        [0.75, 0.25]
    """
    if not np.isfinite(logits).all() or (logits.argmax(axis=1) == labels).all():
        return 1.0
    scores, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(scores / math.exp(log_temperature), truth))

    # the loss has one minimum: it is convex in the inverse of the temperature
    found = minimize_scalar(loss, bounds=tuple(map(math.log, BOUNDS)), method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))


@torch.no_grad()
def fold_temperature(model: nn.Module, temperature: float) -> None:
    """Divide the weight and the bias of a model's classifier, and so its logits, and note it in the configuration.

    Args:
        model: A classifier whose logits come from the linear layer `classifier`.
        temperature: What they are divided by.
    """
    for weight in model.classifier.parameters():  # type: ignore[union-attr]  # a layer
        weight.div_(temperature)
    model.config.calibration_temperature = temperature  # type: ignore[union-attr]  # a configuration


def effect_of_temperature(temperature: float, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return what `all_results.json` tells of a temperature: itself, and the calibration errors with and without it.

    Args:
        temperature: The temperature.
        logits: Scores of the test split, divided by it. Shape `(num_examples, num_labels)`.
        labels: True classes. Shape `(num_examples,)`.
    """
    before, after = (
        calibration(scores, labels)["expected_calibration_error"] for scores in (logits * temperature, logits)
    )
    return {"temperature": temperature, "test_ece_before_scaling": before, "test_ece": after}
