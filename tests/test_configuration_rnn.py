"""Tests of the configuration: what it refuses, what it keeps, what saved configurations rely on."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.configuration_rnn import CellType, ClassifierPooling
from rnn_hf.layers_rnn import CELLS
from rnn_hf.pooling_rnn import POOLINGS

# every field away from its default
CHANGED: dict[str, Any] = {
    "vocab_size": 50,
    "pad_token_id": 3,
    "unk_token_id": 4,
    "embedding_size": 5,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "cell_type": "gru",
    "bidirectional": True,
    "classifier_pooling": "attention",
    "concat_embedding_mean": True,
    "pack_padded_sequences": False,
    "embedding_dropout": 0.1,
    "hidden_dropout_prob": 0.2,
    "classifier_dropout": 0.5,
    "word_dropout": 0.4,
    "embedding_initializer_mean": -0.5,
    "embedding_initializer_range": 1,
    "recurrent_initializer": "uniform",
}

# a configuration saved without a field gets these, so they stay as they are
DEFAULTS: dict[str, Any] = {
    "vocab_size": 30_000,
    "pad_token_id": 0,
    "unk_token_id": 1,
    "embedding_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "cell_type": "lstm",
    "bidirectional": False,
    "classifier_pooling": "mean",
    "concat_embedding_mean": False,
    "pack_padded_sequences": True,
    "embedding_dropout": 0.3,
    "hidden_dropout_prob": 0.0,
    "classifier_dropout": 0.3,
    "word_dropout": 0.3,
    "embedding_initializer_mean": 0.0,
    "embedding_initializer_range": 0.1,
    "recurrent_initializer": "orthogonal",
}


def test_saving_and_loading_keeps_every_field(tmp_path: Path) -> None:
    config = RNNConfig(**CHANGED, num_labels=3)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is RNNConfig
    assert loaded.num_labels == 3
    assert {name: getattr(loaded, name) for name in CHANGED} == CHANGED
    assert all(CHANGED[name] != DEFAULTS[name] for name in DEFAULTS)


def test_defaults_are_those_that_saved_configurations_rely_on() -> None:
    config = RNNConfig()
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS


def test_every_literal_value_has_an_implementation() -> None:
    assert set(CELLS) == set(get_args(CellType))
    parts = {part for pooling in get_args(ClassifierPooling) for part in pooling.split("_")}
    assert parts == {"last", "attention", *POOLINGS}


@pytest.mark.parametrize(("bidirectional", "output_size"), [(False, 6), (True, 12)])
def test_output_size_counts_both_directions(bidirectional: bool, output_size: int) -> None:
    assert RNNConfig(hidden_size=6, bidirectional=bidirectional).output_size == output_size


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["vocab_size", "embedding_size", "hidden_size", "num_hidden_layers"])
def test_size_below_one_is_refused(name: str, value: int) -> None:
    with pytest.raises(StrictDataclassError, match=f"`{name}` must be at least 1, got {value}"):
        RNNConfig(**{"pad_token_id": None, "unk_token_id": None, "word_dropout": 0, name: value})


@pytest.mark.parametrize("value", [-0.1, 1, float("nan")])
@pytest.mark.parametrize("name", ["embedding_dropout", "hidden_dropout_prob", "classifier_dropout", "word_dropout"])
def test_dropout_that_is_no_probability_below_one_is_refused(name: str, value: float) -> None:
    with pytest.raises(StrictDataclassError, match=f"`{name}` must be at least 0 and below 1, got {value}"):
        RNNConfig(**{name: value})


@pytest.mark.parametrize("value", [-1, float("nan")])
def test_negative_spread_of_the_word_vectors_is_refused(value: float) -> None:
    with pytest.raises(StrictDataclassError, match=f"`embedding_initializer_range` .* finite, got {value}"):
        RNNConfig(embedding_initializer_range=value)


def test_two_labels_of_one_name_are_refused() -> None:
    with pytest.raises(StrictDataclassError, match="must have different names, got 'b' twice"):
        RNNConfig(id2label={0: "a", 1: "b", 2: "b"})


@pytest.mark.parametrize("name", ["cell_type", "classifier_pooling", "recurrent_initializer"])
def test_unknown_word_for_a_choice_is_refused(name: str) -> None:
    with pytest.raises(StrictDataclassError, match=f"'{name}' expected one of .*, got elman"):
        RNNConfig(**{name: "elman"})


@pytest.mark.parametrize("value", [-1, 10])
@pytest.mark.parametrize("name", ["pad_token_id", "unk_token_id"])
def test_token_id_outside_the_vocabulary_is_refused(name: str, value: int) -> None:
    with pytest.raises(StrictDataclassError, match=rf"`{name}` must be from 0 to `vocab_size - 1` \(9\), got {value}"):
        RNNConfig(**{"vocab_size": 10, name: value})


def test_word_dropout_without_an_unknown_word_is_refused() -> None:
    with pytest.raises(StrictDataclassError, match="`word_dropout` needs an unknown word"):
        RNNConfig(word_dropout=0.1, unk_token_id=None)


CHANGES_OF_LABELS: list[tuple[dict[str, Any], dict[str, Any], str, str | None]] = [
    ({"num_labels": 3, "problem_type": "single_label_classification"}, {"num_labels": 1}, "regression", None),
    ({"num_labels": 3, "problem_type": "multi_label_classification"}, {"num_labels": 1}, "regression", None),
    (
        {"num_labels": 3, "problem_type": "single_label_classification"},
        {"id2label": {0: "stars"}, "label2id": {"stars": 0}},
        "regression",
        None,
    ),
    ({"num_labels": 1, "problem_type": "regression"}, {"num_labels": 3}, "single_label_classification", None),
    (
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 4},
        "multi_label_classification",
        "multi_label_classification",
    ),
    ({"num_labels": 3, "problem_type": "regression"}, {"num_labels": 2}, "regression", "regression"),
    (
        {"num_labels": 3, "problem_type": "single_label_classification"},
        {"problem_type": "multi_label_classification", "id2label": {0: "spam"}, "label2id": {"spam": 0}},
        "multi_label_classification",
        "multi_label_classification",
    ),
]


@pytest.mark.parametrize(("saved", "given", "answered", "problem_type"), CHANGES_OF_LABELS)
def test_problem_type_follows_the_labels_of_a_loaded_classifier(
    tmp_path: Path, saved: dict[str, Any], given: dict[str, Any], answered: str, problem_type: str | None
) -> None:
    """It stays where it still fits, and is what was asked for wherever that stands among the arguments."""
    RNNForSequenceClassification(RNNConfig(vocab_size=5, **saved)).save_pretrained(tmp_path)
    model = RNNForSequenceClassification.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **given)
    assert (model.config.resolved_problem_type, model.config.problem_type) == (answered, problem_type)
    size = model.config.num_labels
    labels = {
        "regression": torch.rand(2) if size == 1 else torch.rand(2, size),
        "single_label_classification": torch.tensor([0, 1]),
        "multi_label_classification": torch.ones(2, size),
    }[answered]
    assert model(torch.tensor([[3, 4], [2, 3]]), labels=labels).loss.isfinite()
    model.save_pretrained(tmp_path)
    assert RNNForSequenceClassification.from_pretrained(tmp_path).config.problem_type == answered


def test_what_is_said_of_the_labels_goes_with_them() -> None:
    config = RNNConfig(
        id2label={0: "3", 1: "4"},
        problem_type="multi_label_classification",
        label_thresholds=[0.2, 0.3],
        has_integer_labels=True,
    )
    config.id2label = {0: "7", 1: "8"}
    assert config.has_integer_labels and config.label_thresholds == [0.2, 0.3]
    config.num_labels = 4
    assert (config.has_integer_labels, config.label_thresholds) == (False, None)
    assert config.problem_type == "multi_label_classification"
    config.num_labels = 1
    assert config.problem_type is None
