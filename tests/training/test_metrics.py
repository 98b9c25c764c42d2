import numpy as np
import pytest
from accelerate import Accelerator
from sklearn.metrics import f1_score
from torch import Tensor, nn, tensor
from torch.utils.data import DataLoader
from transformers.modeling_outputs import SequenceClassifierOutput

from rnn_hf.training.metrics import classification_metrics, predict_split


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
