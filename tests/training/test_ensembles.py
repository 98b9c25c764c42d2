"""Ensembles: several networks in one, which answers with the mean of their logits."""

from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.configuration_rnn import CellType, ClassifierPooling
from rnn_hf.training import classifier_task, tuning
from rnn_hf.training.arguments import ClassifierRunArguments, DistillationRunArguments, LanguageModelRunArguments
from rnn_hf.training.ensembles import SEED_STEP, join_networks
from tests.training.test_from_lists import LABELS, TEXTS, train
from tests.training.test_tuning import tuned

IDS = torch.randint(2, 30, (4, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [0] * 7, [0, 1, 0, 1, 1, 0, 1]])


def networks(size: int, **settings: Any) -> list[RNNForSequenceClassification]:
    """Networks whose weights are all different, with the n-gram branch of the first."""
    torch.manual_seed(0)
    config = {"vocab_size": 30, "num_labels": 3, "hidden_size": 5, "embedding_size": 4, "unk_token_id": 1} | settings
    models = [RNNForSequenceClassification(RNNConfig(**config)).eval() for _ in range(size)]
    for model in models:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        if model.ngrams is not None and models[0].ngrams is not None:
            model.ngrams.load_state_dict(models[0].ngrams.state_dict())
    return models


@torch.no_grad()
def logits_of(model: RNNForSequenceClassification) -> torch.Tensor:
    logits: torch.Tensor = model.eval()(IDS, attention_mask=MASK).logits
    return logits


@pytest.mark.parametrize(
    ("cell_type", "pooling"),
    [*product(get_args(CellType), [pooling for pooling in get_args(ClassifierPooling) if pooling != "attention"])],
)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both directions"])
@pytest.mark.parametrize(
    "further",
    [{}, {"num_hidden_layers": 2, "concat_embedding_mean": True}, {"ngram_buckets": 4096}],
    ids=["plain", "two layers and mean of embeddings", "n-grams"],
)
def test_logits_are_the_mean(cell_type: str, pooling: str, bidirectional: bool, further: dict[str, Any]) -> None:
    models = networks(3, cell_type=cell_type, classifier_pooling=pooling, bidirectional=bidirectional, **further)
    expected = torch.stack([logits_of(model) for model in models]).mean(dim=0)
    torch.testing.assert_close(logits_of(join_networks(models)), expected)


def test_the_joined_model_is_an_ordinary_one(tmp_path: Path) -> None:
    joined = join_networks(networks(2, ngram_buckets=4096, bidirectional=True))
    joined.save_pretrained(tmp_path)
    loaded = RNNForSequenceClassification.from_pretrained(tmp_path)
    assert (loaded.config.hidden_size, loaded.config.embedding_size, loaded.config.ngram_buckets) == (10, 8, 4096)
    torch.testing.assert_close(logits_of(loaded), logits_of(joined), rtol=0, atol=0)


def test_attention_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="needs a pooling without weights, got `classifier_pooling=attention`"):
        join_networks(networks(2, classifier_pooling="attention"))
    with pytest.raises(ValueError, match="`ensemble_size=2` needs a pooling without weights"):
        train(ensemble_size=2, classifier_pooling="attention")


@pytest.mark.parametrize(
    "settings",
    [{}, {"train_on_all_rows": True, "ngram_buckets": 4096, "temperature_scaling": True}],
    ids=["one training", "again on all rows, with n-grams"],
)
def test_an_ensemble_is_trained_and_repeated_by_its_recipe(settings: dict[str, Any]) -> None:
    settings |= {"ensemble_size": 3, "validation_size": 0.2, "num_train_epochs": 2}
    first, again = train(**settings), train(**settings)
    assert first.model.config.hidden_size == 24 and first.recipe["hidden_size"] == 8
    assert first.recipe["ensemble_size"] == first.results["ensemble_size"] == 3
    weights = first.model.state_dict()
    assert all(torch.equal(weights[name], other) for name, other in again.model.state_dict().items())
    recurrent = weights["model.layers.0.recurrent.weight_hh_l0"].view(4, 3, 8, 3, 8)  # (gates, to, units, from, units)
    for index, other in product(range(3), repeat=2):
        block = recurrent[:, index, :, other]
        assert bool(block.any()) == (index == other)
        assert index == 0 or not torch.equal(recurrent[:, index, :, index], recurrent[:, 0, :, 0])


def test_the_first_network_is_that_of_a_run_without_an_ensemble() -> None:
    settings = {"num_train_epochs": 2, "bidirectional": True}
    alone, joined = train(**settings), train(ensemble_size=2, **settings)
    vectors = joined.model.get_input_embeddings().weight
    assert torch.equal(vectors[:, :8], alone.model.get_input_embeddings().weight)
    assert joined.results["validation_accuracy"] == pytest.approx(
        np.mean([joined.predict(text) == label for text, label in zip(TEXTS[:4], LABELS[:4], strict=True)])
    )


@pytest.mark.parametrize("labels", [[["x", "y"], []] * 50, np.tile([1.5, -0.5], 50)], ids=["several", "regression"])
def test_other_problem_types_are_joined(labels: Any) -> None:
    classifier = train(labels=labels, ensemble_size=2, ngram_buckets=4096, train_on_all_rows=True)
    metric = "validation_r2" if isinstance(labels, np.ndarray) else "validation_micro_f1"
    assert classifier.results[metric] > 0.9
    answers = classifier.predict(["a good film", "a bad film"])
    expected = [1.5, -0.5] if isinstance(labels, np.ndarray) else [["x", "y"], []]
    assert answers == (pytest.approx(expected, abs=0.3) if isinstance(labels, np.ndarray) else expected)


def test_networks_have_seeds_far_from_those_of_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(classifier_task, "set_seed", seeds.append)
    train(ensemble_size=3, seed=2**32 - SEED_STEP - 1, num_train_epochs=1)
    assert seeds == [2**32 - 1, SEED_STEP - 1]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(10_000.0, 1), (100.0, 3), (1.0, tuning.MOST_NETWORKS)], ids=["long", "medium", "short"]
)
def test_tuning_joins_as_many_networks_as_the_time_allows(
    monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int
) -> None:
    monkeypatch.setattr(tuning, "MOST_TRIALS", 1)
    monkeypatch.setattr(tuning.Tuner, "final_seconds", lambda *args: seconds)
    classifier = tuned(tune_minutes=350 / 60 if seconds < 10_000 else 200.0, ensemble_size=None)
    assert classifier.recipe["ensemble_size"] == expected
    assert classifier.model.config.hidden_size == 8 * expected


@pytest.mark.parametrize("size", [1, 2])
def test_a_given_size_stays(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(tuning, "MOST_TRIALS", 1)
    assert tuned(ensemble_size=size).model.config.hidden_size == 8 * size


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(ValueError, match="`ensemble_size` reads the rows many times, a stream only once"):
        ClassifierRunArguments(ensemble_size=2, streaming=True, max_steps=1)
    with pytest.raises(ValueError, match=r"`ensemble_size` is only for `rnn-hf train`\. Leave it out"):
        DistillationRunArguments(teacher_name_or_path=["x"], ensemble_size=2)
    with pytest.raises(ValueError, match=r"`ensemble_size` is only for classifiers\. Leave it out"):
        LanguageModelRunArguments(ensemble_size=2)
    with pytest.raises(TypeError, match="ensemble_size"):
        TextClassifier.train(TEXTS, LABELS, ensemble_size="two")
