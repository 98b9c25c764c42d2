# Copyright 2026 The rnn_hf authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""One recurrent layer over padded texts, and dropout."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_rnn import RecurrentInitializer, RNNConfig
from .pooling_rnn import pool_last
from .recurrences_rnn import ElmanRecurrence, GRURecurrence


class Cell(NamedTuple):
    """How a recurrent cell is computed.

    Args:
        layer: torch's layer, which holds the weights.
        function: What this layer calls, with the weights of one direction or both.
        loop: Another form of the same, if there is one, that is faster in training on a CPU.
        has_cell_state: Whether there is a cell state beside the hidden one.
    """

    layer: Callable[..., nn.RNNBase]
    function: Callable[..., Any]
    loop: type[torch.autograd.Function] | None = None
    has_cell_state: bool = False


CELLS = {
    "rnn": Cell(nn.RNN, torch.rnn_tanh, loop=ElmanRecurrence),
    "lstm": Cell(nn.LSTM, torch.lstm, has_cell_state=True),
    "gru": Cell(nn.GRU, torch.gru, loop=GRURecurrence),
}


class RNNDropout(nn.Dropout):
    """Dropout that is fast on a CPU.

    torch draws one random number per entry of a mask, which for the word vectors of a batch takes about as long as the
    LSTM. Here, 64 random bits decide on four entries, and each probability is a multiple of 2 to the power of -16.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with some entries set to 0 and the others scaled up, in the same shape."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        num_entries = input.numel()
        bits = torch.empty((num_entries + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        num_dropped = min(round(self.p * 2**16), 2**16 - 1)  # of all values that 16 bits have
        is_kept = (bits.view(torch.int16)[:num_entries] >= num_dropped - 2**15).view(input.shape)
        return input * (is_kept * (2**16 / (2**16 - num_dropped))).to(input.dtype)


def draw_dropped_words(words: Tensor, probability: float) -> Tensor:
    """Return `True` for the words that word dropout (Iyyer et al., 2015) removes.

    Args:
        words: Ids of shape `(batch_size, sequence_length)`, or word vectors, which have one more dimension.
        probability: Share of the words to remove.

    Returns:
        A mask of shape `(batch_size, sequence_length)`.
    """
    return torch.rand(words.shape[:2], device=words.device) < probability


def order_of_tokens(mask: Tensor) -> Tensor | None:
    """Return positions that move all tokens of a text to its front, in order; `None` if they are there already.

    Args:
        mask: `True` for tokens. Shape `(batch_size, sequence_length)`.

    Returns:
        Positions of the same shape, for `take_along_dim`.
    """
    if bool((mask[:, 1:] > mask[:, :-1]).any()):
        return mask.int().argsort(dim=1, descending=True, stable=True)
    return None


def _cpu_fuses_half_types() -> bool:
    """Return whether torch's fused LSTM supports the type of autocast; on other CPUs it raises an error."""
    # private, but nothing public answers this
    is_supported = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return bool(is_supported[torch.get_autocast_dtype("cpu")]())


class RNNLayer(GradientCheckpointingLayer):
    """One recurrent layer over right-padded texts of any length."""

    def __init__(self, config: RNNConfig, input_size: int) -> None:
        super().__init__()
        self.cell = CELLS[config.cell_type]
        self.bidirectional = config.bidirectional
        self.recurrent = self.cell.layer(
            input_size, config.hidden_size, batch_first=True, bidirectional=config.bidirectional
        )

    @property
    def _weights(self) -> list[Tensor]:
        """Matrices and biases of the forward direction, then of the backward direction, in torch's order."""
        # private; `all_weights` is the same list, but takes 0.06 ms, which a short text would notice
        return self.recurrent._flat_weights  # type: ignore[return-value]  # none is missing

    def forward(
        self,
        hidden_states: Tensor,
        mask: Tensor | None = None,
        needs_final_states: bool = False,
        initial: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read the texts in the fastest way that is exact.

        One direction may run over the padding, because what follows a text cannot change its states. The backward
        direction must start at the last token, so texts are packed for two directions. They are also packed if the
        cell state after each text is requested. On a CPU, torch fuses only the LSTM, and not over packed sequences:
        there, the LSTM's backward direction reads reversed copies of the texts, and the other cells are trained with
        `ElmanRecurrence` and `GRURecurrence`.

        Args:
            hidden_states: Word vectors or the states of the layer below. Shape `(batch_size, sequence_length, size)`.
            mask: `True` for tokens, which must be at the front; `None` without padding. Shape
                `(batch_size, sequence_length)`.
            needs_final_states: Whether to return the states after each text.
            initial: Hidden state of one direction before the first token and, for the LSTM, its cell state; empty for
                0. Shape of each `(batch_size, 1, hidden_size)`.

        Returns:
            States, 0 where the mask is `False`, of shape `(batch_size, sequence_length, output_size)`; with
            `needs_final_states`, also the final hidden state and, for the LSTM, the final cell state, of shape
            `(batch_size, num_directions, hidden_size)`. A row without tokens keeps its initial state.
        """
        if hidden_states.is_cuda:
            self.recurrent.flatten_parameters()
        on_cpu = hidden_states.device.type == "cpu"
        if on_cpu and torch.is_autocast_enabled("cpu") and not _cpu_fuses_half_types():
            with torch.autocast("cpu", enabled=False):
                initial = tuple(state.float() for state in initial)
                return self.forward(hidden_states.float(), mask, needs_final_states, initial)
        torchs_final: Any = None
        needs_cell_state = needs_final_states and self.cell.has_cell_state
        if mask is not None and needs_cell_state:
            states, torchs_final = self._read_packed(hidden_states, mask, initial)
        elif on_cpu and (
            self._is_faster_as_loop(hidden_states)
            or (self.cell.loop is None and self.bidirectional and mask is not None)
        ):
            states = self._read_directions(hidden_states, mask, initial)
        elif self.bidirectional and mask is not None:
            states, _ = self._read_packed(hidden_states, mask, initial)
        elif on_cpu and not (needs_cell_state or torch.is_grad_enabled()):
            states = self._run(hidden_states, self._weights, initial)
        else:
            states, torchs_final = self.recurrent(hidden_states, self._as_torch_takes_it(initial))
        if mask is not None:
            # in place if no backward pass needs the states
            states = states.mul_(mask.unsqueeze(-1)) if states.grad_fn is None else states * mask.unsqueeze(-1)
        if not needs_final_states:
            return states, ()
        finals = [pool_last(states, mask, self.bidirectional).unflatten(-1, (2 if self.bidirectional else 1, -1))]
        if needs_cell_state:
            finals.append(torchs_final[1].transpose(0, 1))  # (batch, num_directions, hidden)
        if mask is not None:
            has_tokens = mask.any(dim=1)[:, None, None]
            before = initial or [torch.zeros_like(final) for final in finals]
            finals = [torch.where(has_tokens, *pair) for pair in zip(finals, before, strict=True)]
        return states, tuple(finals)

    def _as_torch_takes_it(self, initial: tuple[Tensor, ...]) -> Any:
        """Return an initial state in torch's layout, batch second: one tensor, for the LSTM two; `None` for 0."""
        if not initial:
            return None
        turned = tuple(state.transpose(0, 1).contiguous() for state in initial)
        return turned if self.cell.has_cell_state else turned[0]

    def _read_packed(self, inputs: Tensor, mask: Tensor, initial: tuple[Tensor, ...]) -> tuple[Tensor, Any]:
        lengths = mask.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        packed_states, final = self.recurrent(packed, self._as_torch_takes_it(initial))
        states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=mask.shape[1])
        return states, final

    def _read_directions(self, inputs: Tensor, mask: Tensor | None, initial: tuple[Tensor, ...]) -> Tensor:
        states = self._read_one_way(inputs, self._weights[:4], initial)
        if not self.bidirectional:
            return states
        batch_size, length = inputs.shape[:2]
        positions = torch.arange(length)
        # the mirrored position of each token within its text; padding stays where it is
        mirrored = (length if mask is None else mask.sum(dim=1, keepdim=True)) - 1 - positions
        mirrored = torch.where(mirrored < 0, positions, mirrored) + length * torch.arange(batch_size).unsqueeze(1)
        turned = inputs.flatten(0, 1).index_select(0, mirrored.flatten()).view_as(inputs)
        backward = self._read_one_way(turned, self._weights[4:])
        backward = backward.flatten(0, 1).index_select(0, mirrored.flatten()).view_as(states)
        return torch.cat([states, backward], dim=-1)

    def _read_one_way(self, inputs: Tensor, weights: list[Tensor], initial: tuple[Tensor, ...] = ()) -> Tensor:
        """Return the states of the direction with these weights. Shape `(batch, time, hidden_size)`."""
        if self.cell.loop is None or not self._is_faster_as_loop(inputs):
            return self._run(inputs, weights, initial)
        first = initial[0].squeeze(1) if initial else None
        states: Tensor = self.cell.loop.apply(inputs.transpose(0, 1), first, *weights).transpose(0, 1)
        return states

    def _run(self, inputs: Tensor, weights: list[Tensor], initial: tuple[Tensor, ...] = ()) -> Tensor:
        """Return the states that `self.recurrent` computes with weights of one or both directions, without checks."""
        num_directions = len(weights) // 4
        state = self._as_torch_takes_it(initial)
        if state is None:
            zeros = inputs.new_zeros(num_directions, len(inputs), self.recurrent.hidden_size)
            state = (zeros, zeros) if self.cell.has_cell_state else zeros
        states: Tensor = self.cell.function(
            inputs, state, weights, True, 1, 0.0, self.training, num_directions == 2, True
        )[0]
        return states

    def _is_faster_as_loop(self, inputs: Tensor) -> bool:
        return (
            self.cell.loop is not None
            and torch.is_grad_enabled()
            and inputs.device.type == "cpu"
            and inputs.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # torch's own words
        )


def run_layers(
    layers: Iterable[nn.Module],
    dropout: nn.Module,
    embeddings: Tensor,
    mask: Tensor | None,
    *,
    output_hidden_states: bool,
    output_final_states: bool,
    initial_states: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Run stacked layers over texts with padding on either side or in between.

    Args:
        layers: Layers of the class `RNNLayer`.
        dropout: Dropout between two layers.
        embeddings: Word vectors. Shape `(batch_size, sequence_length, embedding_size)`.
        mask: `True` for tokens; `None` without padding. Shape `(batch_size, sequence_length)`.
        output_hidden_states: Whether to return the states of all layers, not only of the top layer.
        output_final_states: Whether to return the states after the whole text.
        initial_states: Hidden states before the text and, for the LSTM, cell states; empty for 0. Shape of each
            `(batch_size, num_hidden_layers, hidden_size)`.

    Returns:
        States of shape `(batch_size, sequence_length, output_size)` for each layer; final hidden states and, for the
        LSTM, final cell states, of shape `(batch_size, num_hidden_layers * num_directions, hidden_size)`.
    """
    inputs, order = embeddings, None
    is_empty = embeddings.shape[1] == 0
    if is_empty:  # torch's layers reject empty sequences, so they read one padding
        inputs = F.pad(embeddings, (0, 0, 0, 1))
        mask = embeddings.new_zeros(len(embeddings), 1, dtype=torch.bool)
    elif mask is not None and (order := order_of_tokens(mask)) is not None:
        # there were tokens after a gap: their states move back at the end
        mask, order = mask.take_along_dim(order, dim=1), order.unsqueeze(-1)
        inputs = inputs.take_along_dim(order, dim=1)

    all_states: list[Tensor] = []
    all_finals: list[tuple[Tensor, ...]] = []
    for index, layer in enumerate(layers):
        initial = tuple(state[:, index : index + 1] for state in initial_states)
        if index:
            inputs = dropout(inputs)
        inputs, finals = layer(inputs, mask=mask, needs_final_states=output_final_states, initial=initial)
        all_states = [*all_states, inputs] if output_hidden_states else [inputs]
        all_finals.append(finals)
    if order is not None:
        all_states = [states.take_along_dim(order.argsort(dim=1), dim=1) for states in all_states]
    if is_empty:
        all_states = [states[:, :0] for states in all_states]
    return all_states, [torch.cat(finals, dim=1) for finals in zip(*all_finals, strict=True)]


def check_initial_states(config: RNNConfig, hidden_state: Tensor | None, cell_state: Tensor | None) -> None:
    """Check that a model can start from the given states, if any: it has one direction, and its cell has such states.

    Args:
        config: The configuration of the model.
        hidden_state: `initial_hidden_state` of `RNNModel.forward`.
        cell_state: `initial_cell_state` of `RNNModel.forward`.

    Raises:
        ValueError: If it cannot.
    """
    if hidden_state is None and cell_state is None:
        return
    if config.bidirectional:
        raise ValueError(
            "`initial_hidden_state` needs `bidirectional=False`: a backward direction starts at the end of a text."
        )
    has_cell_states = CELLS[config.cell_type].has_cell_state
    if hidden_state is None or (cell_state is None) == has_cell_states:
        needed = "`initial_hidden_state`" + (" and `initial_cell_state`" if has_cell_states else " alone")
        raise ValueError(f"A model of this `cell_type` starts from {needed}.")


def refuse_final_states(arguments: dict[str, Any]) -> None:
    """Reject an argument of the encoder that heads would ignore.

    Args:
        arguments: Further arguments of the `forward` of a head.

    Raises:
        TypeError: If `output_final_states` is among them.
    """
    if "output_final_states" in arguments:
        raise TypeError(
            "`output_final_states` is an argument of the encoder, not of a head. Call the encoder, `model.model`."
        )


def init_recurrent_layer(layer: nn.RNNBase, initializer: RecurrentInitializer) -> None:
    """Initialize the weights of a layer of torch as `RNNConfig` describes; weights from a checkpoint are kept.

    Args:
        layer: The layer.
        initializer: `config.recurrent_initializer`.
    """
    size = layer.hidden_size
    for name, parameter in layer.named_parameters():
        # a slice loses the mark of a loaded weight, which has no public name
        if getattr(parameter, "_is_hf_initialized", False):
            continue
        if initializer == "uniform":
            init.uniform_(parameter, -(size**-0.5), size**-0.5)
        elif name.startswith("weight"):
            draw = init.orthogonal_ if name.startswith("weight_hh") else init.xavier_uniform_
            for gate in parameter.split(size):
                draw(gate)
        else:
            init.zeros_(parameter)
            if isinstance(layer, nn.LSTM) and name.startswith("bias_ih"):
                init.ones_(parameter[size : 2 * size])  # the forget gate is the second in torch


__all__ = [
    "RNNDropout",
    "RNNLayer",
    "check_initial_states",
    "draw_dropped_words",
    "init_recurrent_layer",
    "order_of_tokens",
    "refuse_final_states",
    "run_layers",
]
