"""Tiny models and batches, torch's own layers beside them, and processes that load them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import rnn_hf
from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.configuration_rnn import CellType, ClassifierPooling
from rnn_hf.modeling_rnn import RNNPreTrainedModel

PACKAGE = Path(rnn_hf.__file__).parent
# in an order in which each imports only from those before it
HUB_FILES = [
    "configuration_rnn",
    "pooling_rnn",
    "recurrences_rnn",
    "layers_rnn",
    "ngrams_rnn",
    "outputs_rnn",
    "modeling_rnn",
    "causal_lm_rnn",
]
TORCH_LAYERS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
NO_DROPOUT: dict[str, Any] = {"word_dropout": 0, "embedding_dropout": 0, "classifier_dropout": 0}
TINY: dict[str, Any] = {"vocab_size": 20, "embedding_size": 5, "hidden_size": 4, "num_labels": 3, **NO_DROPOUT}
TEXTS = [[7, 8, 9, 3], [5], [6, 2, 11, 13, 4, 9, 9]]
# where the tokens of a text stand in a batch of width 14
LAYOUTS: dict[str, Callable[[int], list[int]]] = {
    "padded on the right": lambda length: list(range(length)),
    "padded on the left": lambda length: list(range(14 - length, 14)),
    "with holes": lambda length: list(range(1, 2 * length, 2)),
}
every_cell = pytest.mark.parametrize("cell_type", get_args(CellType))
every_pooling = pytest.mark.parametrize("pooling", get_args(ClassifierPooling))
both_directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
both_depths = pytest.mark.parametrize("num_hidden_layers", [1, 2], ids=["one_layer", "two_layers"])


def make_model(model_class: type[RNNPreTrainedModel] = RNNForSequenceClassification, **arguments: Any) -> Any:
    """A tiny model in evaluation mode, by default a classifier, every weight of which is drawn anew.

    Zero biases and a zero padding row would hide a backward pass that starts on padding.
    """
    torch.manual_seed(0)
    model = model_class(RNNConfig(**{**TINY, **arguments})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


def make_batch(layout: str) -> tuple[Tensor, Tensor]:
    """Ids and mask of `TEXTS`. What the mask leaves out is a word, not padding: only the mask may tell."""
    input_ids = torch.full((len(TEXTS), 14), 17)
    attention_mask = torch.zeros(len(TEXTS), 14, dtype=torch.long)
    for row, text in enumerate(TEXTS):
        positions = LAYOUTS[layout](len(text))
        input_ids[row, positions] = torch.tensor(text)
        attention_mask[row, positions] = 1
    return input_ids, attention_mask


def torch_layers(model: RNNForSequenceClassification) -> nn.RNNBase:
    """torch's own module of several layers, with the weights of `model`."""
    config = model.config
    module = TORCH_LAYERS[config.cell_type](
        config.embedding_size,
        config.hidden_size,
        config.num_hidden_layers,
        batch_first=True,
        bidirectional=config.bidirectional,
    )
    weights = {
        name.replace("_l0", f"_l{index}"): parameter
        for index, layer in enumerate(model.model.layers)
        for name, parameter in layer.recurrent.named_parameters()
    }
    module.load_state_dict(weights)
    return module


def logits_alone(model: RNNForSequenceClassification) -> Tensor:
    """The logits of `TEXTS`, each read in a batch of its own."""
    return torch.cat([model(torch.tensor([text])).logits for text in TEXTS])
