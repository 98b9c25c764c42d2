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

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_rnn import RNNConfig
from .recurrences_rnn import ElmanRecurrence, GRURecurrence

RECURRENT_LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

# What these layers call, with the weights of one direction
TORCH_RECURRENCES: dict[str, Callable[..., Any]] = {"rnn": torch.rnn_tanh, "lstm": torch.lstm, "gru": torch.gru}


class RNNDropout(nn.Dropout):
    """Dropout that does not hold up a CPU.

    torch draws one random number for each entry of a mask, which for the word vectors of a batch takes about as long
    as the LSTM that reads them. Here 64 random bits decide on four entries, each with a probability that is a multiple
    of 2 to the power of -16.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with some entries set to 0 and the others scaled up, of the same shape."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        num_entries = input.numel()
        bits = torch.empty((num_entries + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        num_dropped = min(round(self.p * 2**16), 2**16 - 1)  # of all values that 16 bits have
        is_kept = (bits.view(torch.int16)[:num_entries] >= num_dropped - 2**15).view(input.shape)
        return input * (is_kept * (2**16 / (2**16 - num_dropped))).to(input.dtype)


def _cpu_fuses_half_types() -> bool:
    """Return whether torch's fused LSTM computes in the type of autocast; on other CPUs it raises instead."""
    is_supported = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return bool(is_supported[torch.get_autocast_dtype("cpu")]())


class RNNLayer(GradientCheckpointingLayer):
    """One recurrent layer over right-padded texts of any length."""

    def __init__(self, config: RNNConfig, input_size: int) -> None:
        super().__init__()
        self.cell_type = config.cell_type
        self.bidirectional = config.bidirectional
        self.recurrent = RECURRENT_LAYERS[config.cell_type](
            input_size, config.hidden_size, batch_first=True, bidirectional=config.bidirectional
        )

    @property
    def _weights(self) -> list[Tensor]:
        """Matrices and biases, of the forward direction and then of the backward one, as torch's layer lists them."""
        return self.recurrent._flat_weights  # type: ignore[return-value]  # none is missing

    def forward(
        self,
        hidden_states: Tensor,
        mask: Tensor | None = None,
        needs_cell_state: bool = False,
        initial: tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Read the texts, in the fastest form that is exact.

        One direction runs over the padding, too: what follows a text cannot change its states. Of two directions, the
        backward one must start on the last token, for which the texts are packed. They are packed, too, where the cell
        state after each text is asked for. On a CPU, torch fuses the LSTM alone, and not over packed sequences: so the
        LSTM's backward direction reads copies of the texts there, each turned round in its place, and the other cells
        are trained as `ElmanRecurrence` and `GRURecurrence`.

        Args:
            hidden_states: Word vectors or the states of the layer below. Shape `(batch_size, sequence_length, size)`.
            mask: `True` for tokens, which stand at the front; `None` where nothing is padded.
                Shape `(batch_size, sequence_length)`.
            needs_cell_state: Whether the LSTM's cell state after each text is asked for.
            initial: The state of one direction before the first token and, for the LSTM, its cell state; `None` for
                0. Shape of each `(batch_size, 1, hidden_size)`.

        Returns:
            States, 0 where the mask is `False`, of shape `(batch_size, sequence_length, output_size)`, and the final
            cell state, of shape `(batch_size, num_directions, hidden_size)`, or `None`.
        """
        if hidden_states.is_cuda:
            self.recurrent.flatten_parameters()
        if torch.is_autocast_enabled("cpu") and hidden_states.device.type == "cpu" and not _cpu_fuses_half_types():
            with torch.autocast("cpu", enabled=False):
                initial = None if initial is None else tuple(state.float() for state in initial)
                return self.forward(hidden_states.float(), mask, needs_cell_state, initial)
        final = None
        # a quantized layer has no weights to be read with
        reads_directions = hidden_states.device.type == "cpu" and isinstance(self.recurrent, nn.RNNBase)
        if mask is not None and needs_cell_state:
            states, final = self._read_packed(hidden_states, mask, initial)
        elif reads_directions and (
            self._is_faster_as_loop(hidden_states)
            or (self.cell_type == "lstm" and self.bidirectional and mask is not None)
        ):
            states = self._read_directions(hidden_states, mask, initial)
        elif self.bidirectional and mask is not None:
            states, final = self._read_packed(hidden_states, mask, initial)
        elif reads_directions and not (needs_cell_state or torch.is_grad_enabled()):
            states = self._run(hidden_states, self._weights, initial)
        else:
            states, final = self.recurrent(hidden_states, self._as_torch_takes_it(initial))
        if mask is not None:
            # in its place where no backward pass needs the states as they are
            states = states.mul_(mask.unsqueeze(-1)) if states.grad_fn is None else states * mask.unsqueeze(-1)
        if not (needs_cell_state and isinstance(final, tuple)):
            return states, None
        cell_state = final[1].transpose(0, 1)  # (batch, num_directions, hidden)
        return states, cell_state if mask is None else cell_state * mask.any(dim=1)[:, None, None]

    def _as_torch_takes_it(self, initial: tuple[Tensor, ...] | None) -> Any:
        """Return an initial state, one tensor or for the LSTM two, with the batch in the middle."""
        if initial is None:
            return None
        turned = tuple(state.transpose(0, 1).contiguous() for state in initial)
        return turned if self.cell_type == "lstm" else turned[0]

    def _read_packed(self, inputs: Tensor, mask: Tensor, initial: tuple[Tensor, ...] | None) -> tuple[Tensor, Any]:
        lengths = mask.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        packed_states, final = self.recurrent(packed, self._as_torch_takes_it(initial))
        states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=mask.shape[1])
        return states, final

    def _read_directions(self, inputs: Tensor, mask: Tensor | None, initial: tuple[Tensor, ...] | None) -> Tensor:
        states = self._read_one_way(inputs, self._weights[:4], initial)
        if not self.bidirectional:
            return states
        batch_size, length = inputs.shape[:2]
        positions = torch.arange(length)
        # a position's mirror image within its text; padding stays where it is
        mirrored = (length if mask is None else mask.sum(dim=1, keepdim=True)) - 1 - positions
        mirrored = torch.where(mirrored < 0, positions, mirrored) + length * torch.arange(batch_size).unsqueeze(1)
        turned = inputs.flatten(0, 1).index_select(0, mirrored.flatten()).view_as(inputs)
        backward = self._read_one_way(turned, self._weights[4:])
        backward = backward.flatten(0, 1).index_select(0, mirrored.flatten()).view_as(states)
        return torch.cat([states, backward], dim=-1)

    def _read_one_way(
        self, inputs: Tensor, weights: list[Tensor], initial: tuple[Tensor, ...] | None = None
    ) -> Tensor:
        """Return the states of the direction that has these weights. Shape `(batch, time, hidden_size)`."""
        if not self._is_faster_as_loop(inputs):
            return self._run(inputs, weights, initial)
        recurrence = {"rnn": ElmanRecurrence, "gru": GRURecurrence}[self.cell_type]
        first = None if initial is None else initial[0].squeeze(1)
        states: Tensor = recurrence.apply(inputs.transpose(0, 1), first, *weights).transpose(0, 1)
        return states

    def _run(self, inputs: Tensor, weights: list[Tensor], initial: tuple[Tensor, ...] | None = None) -> Tensor:
        """Return what `self.recurrent` would with the weights of one direction or both, without all it checks."""
        num_directions = len(weights) // 4
        state = self._as_torch_takes_it(initial)
        if state is None:
            zeros = inputs.new_zeros(num_directions, len(inputs), self.recurrent.hidden_size)
            state = (zeros, zeros) if self.cell_type == "lstm" else zeros
        run = TORCH_RECURRENCES[self.cell_type]
        states: Tensor = run(inputs, state, weights, True, 1, 0.0, self.training, num_directions == 2, True)[0]
        return states

    def _is_faster_as_loop(self, inputs: Tensor) -> bool:
        return (
            self.cell_type != "lstm"
            and torch.is_grad_enabled()
            and inputs.device.type == "cpu"
            and inputs.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # torch's own words
        )


__all__ = [
    "RNNDropout",
    "RNNLayer",
]
