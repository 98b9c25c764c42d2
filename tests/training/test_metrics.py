import numpy as np
import pytest
from accelerate import Accelerator
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    recall_score,
)
from torch import Tensor, nn, tensor
from torch.utils.data import DataLoader
from transformers.modeling_outputs import SequenceClassifierOutput

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.files import json_text
from rnn_hf.training.metrics import (
    MANY_CLASSES,
    calibration,
    classification_metrics,
    confusion_entries,
    most_frequent_classes,
    most_frequent_errors,
    multi_label_metrics,
    num_correct,
    predict_split,
    regression_metrics,
)


def test_metrics_are_those_computed_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]]))
    metrics = classification_metrics(logits, np.array([0, 1, 1, 2]), ["a", "b", "c"])
    assert metrics["accuracy"] == 0.5
    assert metrics["confusion_matrix"] == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert metrics["per_class"]["b"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics["loss"] == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.3]).mean())


def test_macro_f1_is_scikit_learns_where_a_class_does_not_occur() -> None:
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    metrics = classification_metrics(np.eye(4)[predictions], labels, ["a", "b", "c", "d"])
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_a_confusion_matrix_of_many_classes_is_kept_as_the_entries_that_are_not_zero() -> None:
    generator = np.random.default_rng(0)
    labels, logits = generator.integers(0, MANY_CLASSES, 300), generator.normal(size=(300, MANY_CLASSES + 1))
    logits[:, -1] = -9
    names = [str(index) for index in range(MANY_CLASSES + 1)]
    whole = classification_metrics(logits[:, :-1], labels, names[:-1])["confusion_matrix"]
    entries = classification_metrics(logits, labels, names)["confusion_matrix"]
    for one, other in zip(confusion_entries(whole), confusion_entries(entries), strict=True):
        np.testing.assert_array_equal(one, other)
    rebuilt = np.zeros((MANY_CLASSES, MANY_CLASSES), dtype=int)
    rebuilt[entries["true"], entries["predicted"]] = entries["count"]
    assert rebuilt.tolist() == whole
    assert most_frequent_errors(entries, 9) == most_frequent_errors(whole, 9)


def test_the_most_frequent_errors_leave_out_what_is_right() -> None:
    matrix = [[9, 2, 0], [0, 9, 3], [2, 0, 9]]
    assert most_frequent_errors(matrix, 5) == [(1, 2, 3), (2, 0, 2), (0, 1, 2)]
    assert most_frequent_errors(matrix, 1) == [(1, 2, 3)]
    assert most_frequent_errors([[5, 0], [0, 3]], 1) == []


def test_the_classes_shown_are_all_or_those_with_the_most_rows() -> None:
    few = {str(index): {"support": index} for index in range(MANY_CLASSES)}
    assert most_frequent_classes(few) == list(few.items())
    many = {str(index): {"support": index} for index in range(MANY_CLASSES + 9)}
    shown = most_frequent_classes(many)
    assert [figures["support"] for _, figures in shown] == list(range(MANY_CLASSES + 8, 8, -1))


def test_the_results_of_thousands_of_classes_stay_below_a_megabyte() -> None:
    num_rows, num_classes = 10_000, 3_000
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(num_rows, num_classes)).astype(np.float32)
    names = [f"a class with a name of some words, number {index}" for index in range(num_classes)]
    metrics = classification_metrics(logits, generator.integers(0, num_classes, num_rows), names)
    assert len(json_text({f"test_{name}": value for name, value in metrics.items()})) < 1e6


class Echo(nn.Module):
    """Returns its input ids as logits."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=input_ids.float())


def batch(rows: list[int]) -> dict[str, Tensor]:
    ids = tensor([[row, 10 * row] for row in rows])
    return {"input_ids": ids, "attention_mask": ids, "labels": tensor(rows) % 2, "row": tensor(rows)}


def test_predictions_come_in_the_order_of_the_rows_and_repeated_rows_count_once() -> None:
    loader: DataLoader = DataLoader([batch([3, 0]), batch([2, 1]), batch([0, 3])], batch_size=None)
    logits, labels = predict_split(Echo(), loader, Accelerator(cpu=True))
    assert logits.tolist() == [[0, 0], [1, 10], [2, 20], [3, 30]]
    assert labels.tolist() == [0, 1, 0, 1]


def test_a_row_that_is_missing_is_no_result() -> None:
    loader: DataLoader = DataLoader([batch([3, 0]), batch([1])], batch_size=None)
    with pytest.raises(RuntimeError, match="has 3 rows, but the last one has the index 3"):
        predict_split(Echo(), loader, Accelerator(cpu=True))


def test_the_calibration_error_is_the_one_computed_by_hand() -> None:
    probabilities = np.array([[0.6, 0.4], [0.4, 0.6], [0.6, 0.4], [0.95, 0.05], [0.9, 0.1], [1.0, 0.0]])
    labels = np.array([0, 0, 1, 0, 1, 0])
    measured = calibration(np.log(probabilities.clip(1e-300)), labels, num_bins=5)
    assert [entry["count"] for entry in measured["bins"]] == [3, 3]
    assert [entry["accuracy"] for entry in measured["bins"]] == pytest.approx([1 / 3, 2 / 3])
    assert [entry["mean_confidence"] for entry in measured["bins"]] == pytest.approx([0.6, 0.95])
    assert measured["bins"][1]["above"] == pytest.approx(0.8)
    expected = (3 * (0.6 - 1 / 3) + 3 * (0.95 - 2 / 3)) / 6
    assert measured["expected_calibration_error"] == pytest.approx(expected)


def test_the_calibration_of_predictions_as_sure_as_they_are_right_is_perfect() -> None:
    logits = np.log(np.tile([[0.75, 0.25]], (4, 1)).astype(np.float32))
    assert calibration(logits, np.array([0, 0, 0, 1]))["expected_calibration_error"] == pytest.approx(0, abs=1e-6)


def test_every_row_is_in_one_bin_of_the_calibration() -> None:
    logits = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32) * 40
    measured = calibration(logits, np.zeros(500, dtype=int))
    assert sum(entry["count"] for entry in measured["bins"]) == 500
    assert all(entry["above"] < entry["mean_confidence"] <= entry["up_to"] + 1e-12 for entry in measured["bins"])


def test_logits_that_are_no_numbers_have_no_calibration_but_break_nothing() -> None:
    measured = calibration(np.full((3, 2), np.nan, dtype=np.float32), np.array([0, 1, 1]))
    assert np.isnan(measured["expected_calibration_error"])
    assert sum(entry["count"] for entry in measured["bins"]) == 3


def test_multi_label_metrics_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(50, 3)), (generator.random((50, 3)) < 0.4).astype(np.float32)
    metrics = multi_label_metrics(logits, labels, ["a", "b", "c"], threshold=0.3)
    predictions = 1 / (1 + np.exp(-logits)) >= 0.3
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    for average in ("micro", "macro"):
        assert metrics[f"{average}_f1"] == pytest.approx(f1_score(labels, predictions, average=average))
    assert metrics["per_class"]["b"]["recall"] == pytest.approx(recall_score(labels[:, 1], predictions[:, 1]))


def test_several_labels_may_have_a_single_class() -> None:
    labels, logits = np.array([[1.0], [0], [1], [0]]), np.array([[2.0], [1], [-1], [-2]])
    metrics = multi_label_metrics(logits, labels, ["a"])
    assert metrics["per_class"]["a"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert (metrics["accuracy"], metrics["micro_f1"], metrics["macro_f1"]) == (0.5, 0.5, 0.5)


def test_regression_metrics_are_scikit_learns_and_scipys() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(50, 2))
    predictions = truth + generator.normal(size=(50, 2))
    metrics = regression_metrics(predictions, truth, ["a", "b"])
    assert metrics["mse"] == metrics["loss"] == pytest.approx(mean_squared_error(truth, predictions))
    assert metrics["mae"] == pytest.approx(mean_absolute_error(truth, predictions))
    assert metrics["r2"] == pytest.approx(r2_score(truth, predictions))
    figures = metrics["per_target"]["b"]
    assert figures["pearson"] == pytest.approx(pearsonr(truth[:, 1], predictions[:, 1]).statistic)
    assert figures["spearman"] == pytest.approx(spearmanr(truth[:, 1], predictions[:, 1]).statistic)


def test_a_constant_answer_has_finite_metrics() -> None:
    metrics = regression_metrics(np.ones((3, 1)), np.array([1.0, 2.0, 3.0]), ["a"])
    assert (metrics["pearson"], metrics["spearman"], metrics["r2"]) == (0, 0, pytest.approx(-1.5))
    assert regression_metrics(np.ones((2, 1)), np.ones(2), ["a"])["r2"] == 0
    assert regression_metrics(np.ones((1, 1)), np.zeros(1), ["a"])["mae"] == 1


def test_predictions_that_are_not_finite_have_errors_that_are_not() -> None:
    metrics = regression_metrics(np.array([[1.0], [np.nan]]), np.array([1.0, 2.0]), ["a"])
    assert np.isnan([metrics["mse"], metrics["mae"], metrics["r2"]]).all()
    assert (metrics["pearson"], metrics["spearman"]) == (0, 0)


@pytest.mark.parametrize(
    ("problem_type", "labels", "expected"),
    [
        ("single_label_classification", [0, 1, 1], 2),
        ("multi_label_classification", [[1.0, 0], [0, 0], [1, 1]], 1),
        ("regression", [[1.0, 0], [0, 0], [1, 1]], 0),
    ],
)
def test_right_answers_are_counted(problem_type: ProblemType, labels: list[object], expected: int) -> None:
    logits = tensor([[2.0, -1], [1, -1], [-2, 1]])
    assert num_correct(logits, tensor(labels), problem_type) == expected
