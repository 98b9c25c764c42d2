"""Temperature scaling (Guo et al., 2017), which calibrates a trained classifier with one parameter."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from .metrics import calibration

# Outside these bounds, all probabilities are practically equal, or 0 and 1
BOUNDS = (0.01, 100.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that minimizes the cross-entropy when the logits are divided by it.

    It is 1 if there is no optimum, because all rows are classified correctly, or a logit is not finite.

    Args:
        logits: Logits of rows that were not used for training. Shape `(num_examples, num_labels)`.
        labels: True classes. Shape `(num_examples,)`.

    Example:
        >>> logits = np.log([[0.99, 0.01]] * 4)  # certain of the first class, which is correct in 3 of 4 rows
        >>> probabilities = np.exp(logits / fit_temperature(logits, np.array([0, 0, 0, 1])))
        >>> (probabilities / probabilities.sum(axis=1, keepdims=True)).round(2)[0].tolist()
        [0.75, 0.25]
    """
    if not np.isfinite(logits).all() or (logits.argmax(axis=1) == labels).all():
        return 1.0
    scores, truth = torch.from_numpy(logits).double(), torch.from_numpy(labels)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(scores / math.exp(log_temperature), truth))

    # the loss has a single minimum, because it is convex in the inverse temperature
    found = minimize_scalar(loss, bounds=tuple(map(math.log, BOUNDS)), method="bounded", options={"xatol": 1e-6})
    return float(math.exp(found.x))


@torch.no_grad()
def fold_temperature(model: nn.Module, temperature: float) -> None:
    """Divide the logits of a model by a temperature, by dividing the weights of its classifier and its n-gram branch.

    Args:
        model: A model whose logits come from the linear layer `classifier` and the branch `ngrams`; the temperature is
            stored in its configuration as `calibration_temperature`.
        temperature: The temperature.
    """
    scale_logits(model, torch.tensor(1 / temperature))
    model.config.calibration_temperature = temperature  # type: ignore[union-attr]  # a configuration


@torch.no_grad()
def scale_logits(model: nn.Module, of_network: Tensor, of_branch: Tensor | None = None) -> None:
    """Multiply the logits of a model by a factor, in the layers that compute them.

    Args:
        model: As in `fold_temperature`.
        of_network: Factor of the recurrent network's logits: a scalar, or one per label, of shape `(num_labels,)`.
        of_branch: Factor of the n-gram branch's logits, in the same form. Defaults to the network's.
    """
    bare: Any = model
    of_branch = of_network if of_branch is None else of_branch
    factors = [(of_network, [bare.classifier.weight.T, bare.classifier.bias])]
    if bare.ngrams is not None:
        factors.append((of_branch, [bare.ngrams.table.weight, bare.ngrams.bias]))
    for factor, weights in factors:
        for weight in weights:
            weight.mul_(factor.to(weight))


def effect_of_temperature(temperature: float, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return a temperature and the calibration errors with and without it, for `all_results.json`.

    Args:
        temperature: The temperature.
        logits: Logits of the test split, already divided by it. Shape `(num_examples, num_labels)`.
        labels: True classes. Shape `(num_examples,)`.
    """
    before, after = (
        calibration(scores, labels)["expected_calibration_error"] for scores in (logits * temperature, logits)
    )
    return {"temperature": temperature, "test_ece_before_scaling": before, "test_ece": after}
