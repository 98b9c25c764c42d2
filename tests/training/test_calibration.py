from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.training.calibration import effect_of_temperature, fit_temperature, fold_temperature
from rnn_hf.training.classifier import classifier_results
from rnn_hf.training.metrics import calibration


def drawn(scale: float, num_rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return labels drawn with the probabilities of some logits, and these logits times a number."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(num_rows, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    return (scale * logits).numpy(), labels.numpy()


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_is_what_the_right_logits_were_multiplied_by(scale: float) -> None:
    assert fit_temperature(*drawn(scale)) == pytest.approx(scale, rel=0.03)


def test_no_other_temperature_makes_the_labels_likelier() -> None:
    logits, labels = map(torch.from_numpy, drawn(2.5, num_rows=200))

    def loss(temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / temperature, labels))

    best = fit_temperature(logits.numpy(), labels.numpy())
    assert all(loss(best) <= loss(temperature) for temperature in np.geomspace(0.01, 100, 2000))


@pytest.mark.parametrize(
    ("logits", "labels"), [([[2.0, 1.0], [0.0, 3.0]], [0, 1]), ([[np.nan, 1.0], [0.0, 3.0]], [0, 0])]
)
def test_where_no_temperature_is_the_best_it_is_one(logits: list[list[float]], labels: list[int]) -> None:
    assert fit_temperature(np.array(logits, dtype=np.float32), np.array(labels)) == 1


@pytest.mark.parametrize("ngram_buckets", [0, 16])
def test_the_logits_are_divided_and_the_configuration_says_by_what(tmp_path: Path, ngram_buckets: int) -> None:
    torch.manual_seed(0)
    model = RNNForSequenceClassification(RNNConfig(vocab_size=50, num_labels=3, ngram_buckets=ngram_buckets)).eval()
    with torch.no_grad():
        model.classifier.bias.normal_()
        if model.ngrams is not None:
            model.ngrams.table.weight.normal_()
        before = model(torch.arange(2, 20).view(3, 6)).logits
        fold_temperature(model, 1.6)
        after = model(torch.arange(2, 20).view(3, 6)).logits
    torch.testing.assert_close(after, before / 1.6)
    assert torch.equal(after.argmax(dim=1), before.argmax(dim=1))
    model.save_pretrained(tmp_path)
    loaded = RNNForSequenceClassification.from_pretrained(tmp_path).eval()
    assert loaded.config.calibration_temperature == 1.6
    with torch.no_grad():
        assert torch.equal(loaded(torch.arange(2, 20).view(3, 6)).logits, after)


def test_the_effect_is_told_from_the_divided_logits_alone() -> None:
    logits, labels = drawn(3.0, num_rows=500)
    effect = effect_of_temperature(3.0, logits / 3, labels)
    assert effect["test_ece_before_scaling"] == pytest.approx(
        calibration(logits, labels)["expected_calibration_error"]
    )
    assert effect["test_ece"] < effect["test_ece_before_scaling"] / 2


@pytest.mark.parametrize("has_test", [True, False])
def test_the_results_name_the_threshold_of_each_label(has_test: bool) -> None:
    logits, labels = np.array([[-1.0, 3.0], [2.0, -3.0]]), np.array([[1, 1], [1, 0]])
    test = (logits, labels) if has_test else None
    given = (["joy", "anger"], "multi_label_classification", 0.5, {}, test)
    results = classifier_results(*given, thresholds=[0.2, 0.6])
    assert results["label_thresholds"] == {"joy": 0.2, "anger": 0.6}
    assert "label_thresholds" not in classifier_results(*given)
    if has_test:
        assert (results["test_macro_f1"], classifier_results(*given)["test_macro_f1"]) == pytest.approx((1, 5 / 6))
