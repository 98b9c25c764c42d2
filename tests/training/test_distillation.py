import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rnn_hf.training.arguments import DistillationArguments
from rnn_hf.training.distillation import (
    DistillationLoss,
    mean_probabilities,
    teacher_columns,
    teacher_results,
)

LABELS = torch.tensor([2, 0, 1])


def batch(rows: list[int]) -> dict[str, torch.Tensor]:
    return {"row": torch.tensor(rows), "labels": LABELS}


def student_loss(teachers: np.ndarray, num_labelled: int = 6, **arguments: float | str) -> DistillationLoss:
    args = DistillationArguments(teacher_name_or_path=["teacher"], **arguments)  # type: ignore[arg-type]  # of several types
    return DistillationLoss(args, teachers, F.cross_entropy, num_labelled, torch.device("cpu"))


@pytest.fixture
def teachers() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=3, size=(2, 6, 3)).astype(np.float32)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(3, 3, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_the_divergence_at_a_temperature_and_the_cross_entropy(
    teachers: np.ndarray, logits: torch.Tensor
) -> None:
    """Summed up by hand, row by row."""
    alpha, temperature, rows = 0.7, 3.0, [4, 0, 5]
    expected = 0.0
    for answer, row, label in zip(logits.double(), rows, LABELS, strict=True):
        probabilities = [np.exp(each[row] / temperature) for each in teachers.astype(float)]
        target = sum(each / each.sum() for each in probabilities) / 2
        student = np.exp(answer.numpy() / temperature)
        student /= student.sum()
        divergence = (target * np.log(target / student)).sum()
        hard = -answer.log_softmax(dim=0)[label].item()
        expected += (alpha * temperature**2 * divergence + (1 - alpha) * hard) / 3
    loss = student_loss(teachers, alpha=alpha, temperature=temperature)
    assert loss(logits, batch(rows)).item() == pytest.approx(expected, rel=1e-5)


def test_the_squared_error_is_that_of_the_mean_logits(teachers: np.ndarray, logits: torch.Tensor) -> None:
    loss = student_loss(teachers, alpha=1.0, distillation_loss="mse")
    expected = ((logits.numpy() - teachers.mean(axis=0)[[3, 1, 2]]) ** 2).mean()
    assert loss(logits, batch([3, 1, 2])).item() == pytest.approx(expected, rel=1e-5)


def test_a_student_that_answers_as_its_teacher_has_no_loss_and_no_gradient(teachers: np.ndarray) -> None:
    loss = student_loss(teachers[:1], alpha=1.0)
    logits = torch.tensor(teachers[0, :3] + 5, requires_grad=True)  # probabilities do not see what all logits share
    value = loss(logits, batch([0, 1, 2]))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(logits.grad, torch.zeros(3, 3))


def test_the_temperature_does_not_change_the_size_of_the_gradient() -> None:
    """At a high one it is that of the squared error of logits whose mean is 0 (Hinton et al., 2015)."""
    teacher = np.array([[[1.0, 0.0, -1.0]]], dtype=np.float32)
    gradients = []
    for temperature in (50.0, 100.0):
        logits = torch.zeros(1, 3, requires_grad=True)
        student_loss(teacher, 1, alpha=1.0, temperature=temperature)(
            logits, {"row": torch.tensor([0]), "labels": torch.tensor([0])}
        ).backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[0], torch.tensor([[-1.0, 0.0, 1.0]]) / 3, rtol=1e-2, atol=5e-3)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=2e-2, atol=5e-3)


def test_noised_copies_learn_from_the_teacher_alone(teachers: np.ndarray, logits: torch.Tensor) -> None:
    """Rows 4 and 5 are copies: only the row 1 of the batch has a label."""
    whole = student_loss(teachers, num_labelled=4, alpha=0.5)(logits, batch([4, 1, 5]))
    from_teacher = student_loss(teachers, alpha=1.0)(logits, batch([4, 1, 5]))
    from_label = F.cross_entropy(logits[1:2], LABELS[1:2])
    torch.testing.assert_close(whole, 0.5 * from_teacher + 0.5 * from_label / 3)
    only_copies = student_loss(teachers, num_labelled=4, alpha=0.5)(logits, batch([4, 5, 4]))
    torch.testing.assert_close(only_copies, 0.5 * student_loss(teachers, alpha=1.0)(logits, batch([4, 5, 4])))


def test_teachers_are_one_by_the_mean_of_their_probabilities() -> None:
    """One is very sure of class 0, two lean to class 1: the mean of the logits would say 0, too, a vote 1."""
    logits = np.array([[[9.0, 0.0]], [[0.0, 0.5]], [[0.0, 0.5]]], dtype=np.float32)
    expected = (1 / (1 + np.exp(-9.0)) + 2 / (1 + np.exp(0.5))) / 3
    assert mean_probabilities(logits)[0, 0] == pytest.approx(expected, rel=1e-5)


def test_the_teachers_results_are_those_of_all_and_of_each() -> None:
    teachers = np.array([[[3, 0], [3, 0], [0, 1]], [[0, 1], [0, 1], [0, 1]]], dtype=np.float32)
    student = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    results = teacher_results(["a", "b"], teachers, student, np.array([0, 0, 0]))
    assert results == {
        "teacher_accuracy": pytest.approx(2 / 3),
        "teacher_agreement": pytest.approx(2 / 3),
        "teachers": [
            {"name": "a", "teacher_accuracy": pytest.approx(2 / 3), "teacher_agreement": pytest.approx(2 / 3)},
            {"name": "b", "teacher_accuracy": 0, "teacher_agreement": pytest.approx(2 / 3)},
        ],
    }


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["LABEL_0", "LABEL_1"], ["World", "Sports"]),
        (["0", "1"], ["World", "Sports"]),
        (["World", "Sports"], ["0", "1"]),
        (["LABEL_0", "LABEL_1"], ["0", "1"]),
    ],
)
def test_labels_without_names_are_taken_in_their_order(labels: list[str], names: list[str]) -> None:
    assert teacher_columns("t", labels, names) == ([0, 1], True)


def test_numbers_on_both_sides_are_names() -> None:
    assert teacher_columns("t", ["1", "0"], ["0", "1"]) == ([1, 0], False)


@pytest.mark.parametrize(
    "labels",
    [["World", "Sports", "Business"], ["world", "sports"], ["LABEL_0", "LABEL_1", "LABEL_2"], ["World"], ["0"]],
)
def test_labels_of_another_dataset_are_refused(labels: list[str]) -> None:
    with pytest.raises(ValueError, match=r"'t' must have the labels of the dataset \(World, Sports\), got"):
        teacher_columns("t", labels, ["World", "Sports"])
