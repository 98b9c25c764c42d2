"""The loss of each type of problem, and the weights of its classes."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rnn_hf.configuration_rnn import ProblemType

BALANCED = "balanced"
Loss = Callable[[Tensor, Tensor], Tensor]


def create_loss(
    problem_type: ProblemType, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Loss:
    """Return the function from logits and labels to the mean loss of a batch.

    Args:
        problem_type: `"single_label_classification"`: cross-entropy; `"multi_label_classification"`: binary
            cross-entropy of each class; `"regression"`: mean squared error.
        label_smoothing: Share of each label spread over all classes.
        class_weights: Weight of each class: of its rows if a text has one class, and the mean is then the weighted
            one; of its positive rows if a text has several. Shape `(num_labels,)`.

    Raises:
        ValueError: If the problem has no use for an argument.

    Example:
        >>> loss = create_loss("regression")
        >>> loss(torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0]))
        tensor(2.)
    """
    if problem_type == "single_label_classification":
        return partial(F.cross_entropy, weight=class_weights, label_smoothing=label_smoothing)
    if label_smoothing:
        raise ValueError(
            f"`label_smoothing_factor` must be 0 for a problem of the type {problem_type}, got {label_smoothing}."
        )
    if problem_type == "multi_label_classification":
        return partial(F.binary_cross_entropy_with_logits, pos_weight=class_weights)
    if class_weights is not None:
        raise ValueError("`class_weights` needs classes, but the problem is a regression. Leave it out.")
    return _mean_squared_error


def class_weights_of(
    given: Sequence[str] | None, labels: np.ndarray, label_names: Sequence[str], problem_type: ProblemType
) -> Tensor | None:
    """Return the weight of each class as `class_weights` names it.

    `"balanced"` gives each class the same say: one class a text, the number of rows over that of the classes and that
    of the class's rows; several, the number of the class's negative rows over that of its positive ones.

    Args:
        given: `None`, the word `"balanced"`, or a number for each class.
        labels: Labels of the training rows, class ids or 0 and 1 for each class.
        label_names: Names of the classes in the order of their ids.
        problem_type: What the labels ask for.

    Returns:
        float32 of shape `(num_labels,)`; `None` where none were asked for.

    Raises:
        ValueError: If there are not as many weights as classes.

    Example:
        >>> class_weights_of(["balanced"], np.array([0, 0, 0, 1]), ["a", "b"], "single_label_classification")
        tensor([0.6667, 2.0000])
    """
    if given is None:
        return None
    if list(given) != [BALANCED]:
        if len(given) != len(label_names):
            raise ValueError(
                f"`class_weights` must be {BALANCED} or a number for each of the {len(label_names)} classes "
                f"({', '.join(label_names[:20])}), got {len(given)} values."
            )
        return torch.tensor([float(weight) for weight in given])
    if problem_type == "single_label_classification":
        counts = np.bincount(labels, minlength=len(label_names))
        weights = len(labels) / (len(label_names) * np.maximum(counts, 1))
    else:
        counts = labels.reshape(len(labels), -1).sum(axis=0)
        weights = (len(labels) - counts) / np.maximum(counts, 1)
    return torch.from_numpy(weights).float()


def _mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    # one target has no axis of its own in the labels
    return F.mse_loss(logits.reshape(labels.shape), labels)
