"""Loss functions of the problem types, and class weights."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.labels import comma_list

BALANCED = "balanced"
Loss = Callable[[Tensor, Tensor], Tensor]


def create_loss(
    problem_type: ProblemType, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Loss:
    """Return a function that computes the mean loss of a batch from logits and labels.

    Args:
        problem_type: `"single_label_classification"`: cross-entropy; `"multi_label_classification"`: binary
            cross-entropy of each class; `"regression"`: mean squared error.
        label_smoothing: Share of each label that is spread over all classes.
        class_weights: Weight of each class. With one class per text, it weights the rows of the class and the mean
            is the weighted one; with several, it weights the positive rows of the class. Shape `(num_labels,)`.

    Raises:
        ValueError: If an argument does not apply to the problem type.

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
    """Return the weight of each class for the value of `class_weights`.

    `"balanced"` gives rare classes more weight: with one class per text,
    `num_rows / (num_classes * num_rows_of_class)`, as in scikit-learn; with several, the ratio of negative to positive
    rows of the class.

    Args:
        given: `None`, `["balanced"]`, or a number for each class.
        labels: Labels of the training rows: class ids, or 0 and 1 for each class.
        label_names: Names of the classes in the order of their ids.
        problem_type: Type of the problem.

    Returns:
        float32 of shape `(num_labels,)`, or `None` if `given` is `None`.

    Raises:
        ValueError: If the number of weights differs from that of the classes.

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
                f"({comma_list(label_names)}), got {len(given)} values."
            )
        return torch.tensor([float(weight) for weight in given])
    if problem_type == "single_label_classification":
        # scikit-learn's `compute_class_weight` would reject a class without training rows
        counts = np.bincount(labels, minlength=len(label_names))
        weights = len(labels) / (len(label_names) * np.maximum(counts, 1))
    else:
        counts = labels.reshape(len(labels), -1).sum(axis=0)
        weights = (len(labels) - counts) / np.maximum(counts, 1)
    return torch.from_numpy(weights).float()


def _mean_squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    # labels of a single target have no axis for it
    return F.mse_loss(logits.reshape(labels.shape), labels)
