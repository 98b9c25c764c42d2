import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.training.targets import TargetScale, best_thresholds

TARGETS = np.array([[1.0, 50.0, 7.0], [3.0, 10.0, 7.0], [2.0, 30.0, 7.0], [6.0, 30.0, 7.0]])


def test_standardized_targets_have_mean_zero_and_deviation_one_and_come_back() -> None:
    scale = TargetScale.of(TARGETS)
    standardized = scale.standardized(torch.from_numpy(TARGETS).float()).numpy()
    np.testing.assert_allclose(standardized.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(standardized[:, :2].std(axis=0), 1, rtol=1e-6)
    # a constant target does not give NaN, either
    assert not standardized[:, 2].any()
    np.testing.assert_allclose(scale.restored(standardized), TARGETS, rtol=1e-6)


def test_targets_too_large_for_the_saved_weights_are_refused() -> None:
    scale = TargetScale.of(np.array([1.7e5, 1.8e5]))
    for save_dtype in ("float32", "bfloat16"):
        scale.check(save_dtype)
    with pytest.raises(ValueError, match="the size of the targets"):
        scale.check("float16")


def test_labels_of_one_target_keep_their_shape() -> None:
    scale = TargetScale.of(np.array([1.0, 2.0, 6.0]))
    assert scale.standardized(torch.tensor([1.0, 2.0])).shape == (2,)
    assert scale.standardized(torch.tensor([[1.0], [2.0]])).shape == (2, 1)


@pytest.mark.parametrize("ngram_buckets", [0, 16])
@torch.no_grad()
def test_a_folded_scale_lets_the_model_answer_in_the_unit_of_the_targets(ngram_buckets: int) -> None:
    torch.manual_seed(0)
    config = RNNConfig(vocab_size=50, num_labels=3, problem_type="regression", ngram_buckets=ngram_buckets)
    model = RNNForSequenceClassification(config).eval()
    for parameter in model.parameters():
        parameter.normal_()
    batch = torch.arange(2, 20).view(3, 6)
    scale, before = TargetScale.of(TARGETS), model(batch).logits
    scale.fold(model)
    torch.testing.assert_close(model(batch).logits, torch.from_numpy(scale.restored(before.numpy())))
    scale.unfold(model)
    torch.testing.assert_close(model(batch).logits, before)


def test_no_other_thresholds_have_a_higher_macro_f1() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 3)) < [0.5, 0.1, 0.02]).astype(int)
    logits = generator.normal(size=(200, 3)) + 1.5 * labels - [0.0, 3.0, 4.0]
    probabilities = 1 / (1 + np.exp(-logits))
    found = best_thresholds(logits, labels)
    for column, threshold in enumerate(found):
        scores = [
            f1_score(labels[:, column], probabilities[:, column] >= candidate)
            for candidate in (threshold, *np.linspace(0.001, 0.999, 300))
        ]
        # rounded, which may move one row
        assert scores[0] >= max(scores) - 0.02
    assert found[2] < 0.5


def test_a_class_that_no_row_has_keeps_a_half() -> None:
    assert best_thresholds(np.array([[-2.0, 1.0], [1.0, 0.0]]), np.array([[0, 0], [1, 0]]))[1] == 0.5
