"""How weights are drawn: those of a new model, and those that a checkpoint lacks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNModel
from tests.tiny_models import TINY, both_directions, every_cell, make_model


@pytest.mark.parametrize("pack_padded_sequences", [True, False])
def test_padding_row_is_drawn_and_trained_only_without_packing(pack_padded_sequences: bool) -> None:
    config = RNNConfig(**TINY, pack_padded_sequences=pack_padded_sequences, embedding_initializer_mean=5)
    model = RNNForSequenceClassification(config)
    input_ids = torch.tensor([[7, 8, 0]])
    model(input_ids, attention_mask=(input_ids != 0).long(), labels=torch.tensor([1])).loss.backward()
    weight = model.model.embed_tokens.weight
    assert weight.grad is not None
    if pack_padded_sequences:
        assert not weight[0].any()
        assert not weight.grad[0].any()
    else:
        assert (weight[0] > 4).all()
        assert weight.grad[0].any()


@every_cell
@both_directions
def test_orthogonal_initializer_treats_the_cells_alike(cell_type: str, bidirectional: bool) -> None:
    """Each gate apart: orthogonal from state to state, Glorot's bound from input to state, biases zero."""
    torch.manual_seed(0)
    model = RNNModel(RNNConfig(vocab_size=9, cell_type=cell_type, num_hidden_layers=2, bidirectional=bidirectional))
    for name, parameter in model.layers.named_parameters():
        kind = name.rpartition(".")[2]
        gates = parameter.split(model.config.hidden_size)
        if kind.startswith("weight_hh"):
            for gate in gates:
                torch.testing.assert_close(gate @ gate.T, torch.eye(64), rtol=0, atol=1e-5)
        elif kind.startswith("weight_ih"):
            bound = (6 / (parameter.shape[1] + 64)) ** 0.5
            for gate in gates:
                assert 0.98 * bound < gate.abs().max() <= bound
        else:
            is_forget_gate = [cell_type == "lstm" and kind.startswith("bias_ih") and i == 1 for i in range(len(gates))]
            assert [gate.unique().tolist() for gate in gates] == [[float(is_one)] for is_one in is_forget_gate]


@every_cell
def test_uniform_initializer_draws_as_torch_does(cell_type: str) -> None:
    """Everything within one over the square root of the hidden size."""
    config = RNNConfig(vocab_size=9, cell_type=cell_type, num_hidden_layers=2, recurrent_initializer="uniform")
    for parameter in RNNModel(config).layers.parameters():
        assert 0.9 / 8 < parameter.abs().max() <= 1 / 8
        assert parameter.mean().abs() < 0.05


def test_word_vectors_have_the_mean_and_spread_that_are_asked_for() -> None:
    torch.manual_seed(0)
    config = RNNConfig(vocab_size=2000, embedding_initializer_mean=-0.5, embedding_initializer_range=1)
    words = RNNModel(config).embed_tokens.weight[1:]
    assert words.mean().item() == pytest.approx(-0.5, abs=0.01)
    assert words.std().item() == pytest.approx(1, abs=0.01)


def test_pooler_and_classifier_are_drawn_within_the_bounds_of_torch() -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 9, "num_labels": 50, "classifier_pooling": "attention"}
    model = RNNForSequenceClassification(RNNConfig(**shape, recurrent_initializer="uniform"))
    for parameter in (model.pooler.attention.score.weight, model.classifier.weight, model.classifier.bias):
        assert 0.9 / 8 < parameter.abs().max() <= 1 / 8


@pytest.mark.parametrize(
    "missing", ["embed_tokens", "weight_ih_l0", "weight_hh_l0_reverse", "bias_ih_l0", "score", "classifier"]
)
@every_cell
def test_weights_missing_in_a_checkpoint_are_drawn_and_the_others_left_alone(
    cell_type: str, missing: str, tmp_path: Path
) -> None:
    model = make_model(
        cell_type=cell_type,
        hidden_size=8,
        bidirectional=True,
        classifier_pooling="attention",
        embedding_initializer_mean=3,
    )
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    saved = load_file(file)
    kept = {name: tensor for name, tensor in saved.items() if missing not in name}
    save_file(kept, file, metadata={"format": "pt"})
    loaded = RNNForSequenceClassification.from_pretrained(tmp_path).state_dict()
    assert set(loaded) == set(saved)
    assert len(kept) < len(saved)
    for name, tensor in loaded.items():
        if name in kept:
            torch.testing.assert_close(tensor, saved[name], rtol=0, atol=0)
        elif "embed_tokens" in name:
            assert not tensor[0].any()
            assert tensor[1:].mean().item() == pytest.approx(3, abs=0.1)
        elif "weight_hh" in name:
            for gate in tensor.split(8):
                torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=0, atol=1e-5)
        elif "bias_ih" in name:
            ones = 8 if cell_type == "lstm" else 0
            assert (tensor == 1).sum() == ones
            assert (tensor == 0).sum() == len(tensor) - ones
        elif name == "classifier.bias":
            assert not tensor.any()
        else:
            assert tensor.any()
            assert tensor.abs().max() < 1
