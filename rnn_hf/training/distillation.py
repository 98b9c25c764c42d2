"""Distillation: a small model learns the predictions of larger ones (Hinton et al., 2015)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rnn_hf.data.labels import comma_list

from .arguments import DistillationArguments
from .losses import Loss


def teacher_columns(name: str, teacher_labels: Sequence[str], label_names: Sequence[str]) -> tuple[list[int], bool]:
    """Return the index of the teacher's logit for each class, and whether it is a guess.

    Labels are matched by name. If one side has no names (`LABEL_0`, `0` and so on), they are matched in order.

    Args:
        name: Name of the teacher, for error messages.
        teacher_labels: Its labels in the order of their ids.
        label_names: The classes in the order of their ids.

    Raises:
        ValueError: If the labels differ.

    Example:
        >>> teacher_columns("runs/bert", ["good", "bad"], ["bad", "good"])
        ([1, 0], False)
    """
    if sorted(teacher_labels) == sorted(label_names):
        return [list(teacher_labels).index(label) for label in label_names], False
    numbers = [str(index) for index in range(len(label_names))]
    nameless = (numbers, [f"LABEL_{number}" for number in numbers])
    is_guess = list(teacher_labels) in nameless or (
        list(label_names) in nameless and len(teacher_labels) == len(label_names)
    )
    if not is_guess:
        raise ValueError(
            f"The teacher {name!r} must have the labels of the dataset ({comma_list(label_names)}), got "
            f"{comma_list(teacher_labels)}. Pass another one, or fix `id2label` in its configuration."
        )
    return list(range(len(label_names))), True


def mean_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the mean of the probabilities of several teachers at a temperature.

    Args:
        logits: Their logits. Shape `(num_teachers, num_rows, num_labels)`.
        temperature: Divisor of the logits: the larger, the more uniform the probabilities.

    Returns:
        float32 of shape `(num_rows, num_labels)`.

    Example:
        >>> mean_probabilities(np.log([[[0.9, 0.1]], [[0.5, 0.5]]])).round(2)
        array([[0.7, 0.3]], dtype=float32)
    """
    probabilities = np.zeros(logits.shape[1:], dtype=np.float32)
    for of_teacher in logits:
        probabilities += torch.from_numpy(of_teacher).float().div(temperature).softmax(dim=-1).numpy()
    return probabilities / len(logits)


class DistillationLoss:
    """The loss of a student: a weighted sum of its loss against the teachers and its loss against the labels.

    With `"kl"`, the first is the Kullback-Leibler divergence of the student's probabilities from the mean of the
    teachers', both at the temperature, times its square, which keeps the size of the gradients (Hinton et al., 2015).
    With `"mse"`, it is the mean squared error between the student's logits and the mean of the teachers' (Tang et al.,
    2019). Rows from `num_labelled` on, the noised copies, have no part in the second, because their labels may no
    longer be right.

    Args:
        args: Weight, temperature and kind.
        teacher_logits: Shape `(num_teachers, num_rows, num_labels)`.
        loss: The loss between logits and labels.
        num_labelled: Number of rows with a label of their own.
        device: Device of the model.
    """

    def __init__(
        self,
        args: DistillationArguments,
        teacher_logits: np.ndarray,
        loss: Loss,
        num_labelled: int,
        device: torch.device,
    ) -> None:
        self.args, self.loss, self.num_labelled = args, loss, num_labelled
        targets = (
            mean_probabilities(teacher_logits, args.temperature)
            if args.distillation_loss == "kl"
            else teacher_logits.mean(axis=0)
        )
        self.targets = torch.from_numpy(targets).to(device)

    def __call__(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: Logits of the student. Shape `(batch_size, num_labels)`.
            batch: The `labels` of the batch, and `row`, the indices of its rows among the teachers' logits. Shape
                `(batch_size,)`.
        """
        alpha, row, labels = self.args.alpha, batch["row"], batch["labels"]
        from_teacher = self._from_teacher(logits, self.targets[row])
        if self.num_labelled == len(self.targets):
            return alpha * from_teacher + (1 - alpha) * self.loss(logits, labels)
        is_labelled = row < self.num_labelled
        if not is_labelled.any():
            return alpha * from_teacher
        from_labels = is_labelled.float().mean() * self.loss(logits[is_labelled], labels[is_labelled])
        return alpha * from_teacher + (1 - alpha) * from_labels

    def _from_teacher(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.args.distillation_loss == "mse":
            return F.mse_loss(logits, targets)
        temperature = self.args.temperature
        divergence = F.kl_div(F.log_softmax(logits / temperature, dim=-1), targets, reduction="batchmean")
        return divergence * temperature**2


def teacher_results(
    names: Sequence[str], teacher_logits: np.ndarray, student_logits: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Return the entries of `all_results.json` on the teachers' results on the test split.

    Args:
        names: Names of the teachers.
        teacher_logits: Shape `(num_teachers, num_rows, num_labels)`.
        student_logits: Shape `(num_rows, num_labels)`.
        labels: True classes. Shape `(num_rows,)`.

    Returns:
        `"teacher_accuracy"` of all teachers together, `"teacher_agreement"`, the share of rows for which student and
        teachers predict the same class, and `"teachers"`, the same for each teacher.
    """
    student = student_logits.argmax(axis=-1)

    def measured(predictions: np.ndarray) -> dict[str, float]:
        return {
            "teacher_accuracy": float((predictions == labels).mean()),
            "teacher_agreement": float((predictions == student).mean()),
        }

    return measured(mean_probabilities(teacher_logits).argmax(axis=-1)) | {
        "teachers": [
            {"name": name, **measured(logits.argmax(axis=-1))}
            for name, logits in zip(names, teacher_logits, strict=True)
        ]
    }
