import numpy as np
import pytest
import torch
from torch import nn

from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.training.losses import class_weights_of, create_loss

LABELS = {
    "single_label_classification": torch.tensor([0, 2, 2, 1]),
    "multi_label_classification": torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]),
    "regression": torch.tensor([[0.5, 1, 2], [0, 0, 3], [1, -1, 1], [0, 1, 0]]),
}


@pytest.mark.parametrize("problem_type", LABELS)
def test_the_loss_is_the_models_own(problem_type: str) -> None:
    torch.manual_seed(0)
    model = RNNForSequenceClassification(RNNConfig(vocab_size=9, num_labels=3, problem_type=problem_type)).eval()
    outputs = model(torch.randint(2, 9, (4, 5)), labels=LABELS[problem_type])
    torch.testing.assert_close(create_loss(problem_type)(outputs.logits, LABELS[problem_type]), outputs.loss)  # type: ignore[arg-type]


def test_weighted_losses_are_torchs() -> None:
    logits, weights = torch.randn(4, 3), torch.tensor([1.0, 2.0, 5.0])
    labels = LABELS["single_label_classification"]
    loss = create_loss("single_label_classification", class_weights=weights, label_smoothing=0.1)(logits, labels)
    torch.testing.assert_close(loss, nn.CrossEntropyLoss(weights, label_smoothing=0.1)(logits, labels))
    labels = LABELS["multi_label_classification"]
    loss = create_loss("multi_label_classification", class_weights=weights)(logits, labels)
    torch.testing.assert_close(loss, nn.BCEWithLogitsLoss(pos_weight=weights)(logits, labels))


def test_balanced_weights_give_each_class_the_same_sum() -> None:
    labels = np.array([0, 0, 0, 1])
    weights = class_weights_of(["balanced"], labels, ["a", "b"], "single_label_classification")
    assert weights is not None
    torch.testing.assert_close(weights * torch.tensor([3, 1]), torch.tensor([2.0, 2.0]))
    flags = np.array([[1, 0], [1, 1], [1, 0], [0, 0]], dtype=np.float32)
    weights = class_weights_of(["balanced"], flags, ["a", "b"], "multi_label_classification")
    assert weights is not None and weights.tolist() == pytest.approx([1 / 3, 3])


def test_weights_are_those_that_were_given() -> None:
    weights = class_weights_of(["1", "0.5"], np.empty(0), ["a", "b"], "single_label_classification")
    assert weights is not None and weights.tolist() == [1, 0.5]
    assert class_weights_of(None, np.empty(0), ["a", "b"], "single_label_classification") is None


def test_a_regression_has_no_class_weights() -> None:
    with pytest.raises(ValueError, match="`class_weights` needs classes"):
        create_loss("regression", class_weights=torch.ones(1))
