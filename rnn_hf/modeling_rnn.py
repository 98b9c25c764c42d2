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
"""Recurrent text encoders, classifiers, taggers and language models: plain RNN, LSTM and GRU."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import ModelOutput, can_return_tuple

from .configuration_rnn import RNNConfig

RECURRENT_LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

# What these layers call, with the weights of one direction
TORCH_RECURRENCES: dict[str, Callable[..., Any]] = {"rnn": torch.rnn_tanh, "lstm": torch.lstm, "gru": torch.gru}

# What transformers calls the state of a language model, which depends on its version
CACHE_NAME = "cache" if "cache" in {entry.name for entry in fields(CausalLMOutputWithPast)} else "past_key_values"

# The label that a loss passes over
IGNORED_LABEL = -100

POOLING_PARTS: dict[str, tuple[str, ...]] = {
    "last": ("last",),
    "mean": ("mean",),
    "max": ("max",),
    "attention": ("attention",),
    "mean_max": ("mean", "max"),
    "mean_max_last": ("mean", "max", "last"),
}


@dataclass
class RNNModelOutput(ModelOutput):
    """What `RNNModel` returns.

    Args:
        last_hidden_state: States of the top layer, 0 where the mask is 0.
            Shape `(batch_size, sequence_length, num_directions * hidden_size)`.
        hidden_states: The word vectors, then the states of each layer; only with `output_hidden_states`.
        final_hidden_state: State of each layer and direction after reading the whole text.
            Shape `(batch_size, num_hidden_layers * num_directions, hidden_size)`.
        final_cell_state: The same of the LSTM's cell; `None` for the other cells.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    final_hidden_state: Tensor | None = None
    final_cell_state: Tensor | None = None


@dataclass
class RNNClassifierOutput(ModelOutput):
    """What `RNNForSequenceClassification` and `RNNForTokenClassification` return.

    Args:
        loss: Mean loss of the batch; only with `labels`. A scalar.
        logits: Scores before softmax (or the numbers, for regression): of each text, of shape
            `(batch_size, num_labels)`, or of each token, of shape `(batch_size, sequence_length, num_labels)`.
        hidden_states: As in `RNNModelOutput`.
        final_hidden_state: As in `RNNModelOutput`; only with `output_final_states`.
        final_cell_state: As in `RNNModelOutput`; only with `output_final_states`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    final_hidden_state: Tensor | None = None
    final_cell_state: Tensor | None = None


def pool_last(states: Tensor, mask: Tensor | None, bidirectional: bool) -> Tensor:
    """Return the state each direction holds after reading the whole sequence.

    The backward direction finishes at the *first* token, so its half of the vector is read there; at the last token it
    has seen one token only.

    Args:
        states: States of a layer. Shape `(batch_size, sequence_length, num_directions * hidden_size)`.
        mask: `True` for tokens, wherever they stand; `None`: everywhere. Shape `(batch_size, sequence_length)`.
        bidirectional: Whether the second half of the last dimension runs from the end to the start.

    Returns:
        Pooled states, 0 for a text without tokens. Shape `(batch_size, num_directions * hidden_size)`.

    Example:
        >>> states = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [0.0, 0.0]]])
        >>> pool_last(states, torch.tensor([[True, True, False]]), bidirectional=True)
        tensor([[ 2., 10.]])
    """
    if mask is None:
        first, last = states[:, 0], states[:, -1]
        size = states.shape[-1] // 2
        return torch.cat([last[:, :size], first[:, size:]], dim=-1) if bidirectional else last
    rows = torch.arange(len(states), device=states.device)
    positions = torch.arange(mask.shape[1], device=mask.device)
    at_last = states[rows, (mask * positions).argmax(dim=1)]
    if bidirectional:
        forward_half, _ = at_last.chunk(2, dim=-1)
        _, backward_half = states[rows, mask.int().argmax(dim=1)].chunk(2, dim=-1)
        at_last = torch.cat([forward_half, backward_half], dim=-1)
    return at_last * mask.any(dim=1, keepdim=True)


def pool_mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the tokens.

    Args:
        states: Any vectors. Shape `(batch_size, sequence_length, size)`.
        mask: `True` for tokens; `None`: everywhere. Shape `(batch_size, sequence_length)`.

    Returns:
        Means, 0 for a text without tokens. Shape `(batch_size, size)`.

    Example:
        >>> pool_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    if mask is None:
        return states.mean(dim=1) if states.shape[1] else states.sum(dim=1)
    lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
    # one pass over the states, where a product and a sum would be two
    sums = torch.bmm(mask.unsqueeze(1).to(states.dtype), states).squeeze(1)
    return sums / lengths.to(states.dtype)


def pool_max(states: Tensor, mask: Tensor | None) -> Tensor:
    """Return the greatest value of each feature over the tokens.

    Args:
        states: Any vectors. Shape `(batch_size, sequence_length, size)`.
        mask: `True` for tokens; `None`: everywhere. Shape `(batch_size, sequence_length)`.

    Returns:
        Maxima, 0 for a text without tokens. Shape `(batch_size, size)`.

    Example:
        >>> pool_max(torch.tensor([[[-1.0], [-3.0], [0.0]]]), torch.tensor([[True, True, False]]))
        tensor([[-1.]])
    """
    if mask is None:
        return states.amax(dim=1)
    lowest = torch.finfo(states.dtype).min
    maxima = states.masked_fill(~mask.unsqueeze(-1), lowest).amax(dim=1)
    return maxima * mask.any(dim=1, keepdim=True)


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


class RNNAttentionPooling(nn.Module):
    """A mean of the states, weighted by a learned vector (Zhou et al., 2016)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Return the weighted means. Shapes as in `pool_mean`."""
        scores: Tensor = self.score(torch.tanh(states)).squeeze(-1)  # (batch, time)
        if mask is None:
            return (scores.softmax(dim=1).unsqueeze(-1) * states).sum(dim=1)
        weights: Tensor = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1) * mask
        return (weights.unsqueeze(-1) * states).sum(dim=1)


class RNNPooler(nn.Module):
    """Turns the states of a text into one vector, as `config.classifier_pooling` says."""

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.parts = POOLING_PARTS[config.classifier_pooling]
        self.bidirectional = config.bidirectional
        self.output_size = config.output_size * len(self.parts)
        if "attention" in self.parts:
            self.attention = RNNAttentionPooling(config.output_size)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Return pooled states of shape `(batch_size, output_size)`; the other shapes are those of `pool_last`."""
        if states.shape[1] == 0:
            return states.new_zeros(len(states), self.output_size)
        return torch.cat([self._pool(part, states, mask) for part in self.parts], dim=-1)

    def _pool(self, part: str, states: Tensor, mask: Tensor | None) -> Tensor:
        if part == "last":
            return pool_last(states, mask, self.bidirectional)
        if part == "mean":
            return pool_mean(states, mask)
        if part == "max":
            return pool_max(states, mask)
        attended: Tensor = self.attention(states, mask)
        return attended


class ElmanRecurrence(torch.autograd.Function):
    """The plain RNN, `h[t] = tanh(W x[t] + b + U h[t-1] + c)`, with a backward pass of its own.

    torch builds a graph of several nodes for each step on a CPU. Here a step is one matrix product and one
    multiplication each way, and the gradients of the matrices are one product over all steps.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        initial: Tensor | None,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> Tensor:
        """Return all states. Shape `(sequence_length, batch_size, size)`.

        Args:
            ctx: What the backward pass needs is kept here.
            inputs: What is read, of shape `(sequence_length, batch_size, input_size)`.
            initial: The state before the first step, `None` for 0, of shape `(batch_size, size)`.
            weight_ih: `W`, of shape `(size, input_size)`.
            weight_hh: `U`, of shape `(size, size)`.
            bias_ih: `b`, of shape `(size,)`.
            bias_hh: `c`, of shape `(size,)`.
        """
        all_states = F.linear(inputs, weight_ih, bias_ih + bias_hh)
        states, transposed = all_states.unbind(), weight_hh.t()
        if initial is not None:
            states[0].addmm_(initial, transposed)
        states[0].tanh_()
        for before, state in pairwise(states):
            state.addmm_(before, transposed).tanh_()
        ctx.save_for_backward(inputs, initial, weight_ih, weight_hh, all_states)
        return all_states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of what `forward` was given."""
        inputs, initial, weight_ih, weight_hh, all_states = ctx.saved_tensors
        all_grads = torch.empty_like(all_states)  # before the tangent
        grads, outer = all_grads.unbind(), grad_states.unbind()
        slopes = torch.addcmul(all_states.new_ones(()), all_states, all_states, value=-1).unbind()
        torch.mul(outer[-1], slopes[-1], out=grads[-1])
        for step in range(len(grads) - 2, -1, -1):
            torch.addmm(outer[step], grads[step + 1], weight_hh, out=grads[step]).mul_(slopes[step])
        grad_bias = all_grads.sum(dim=(0, 1))
        grad_weight_hh = all_grads[1:].flatten(0, 1).t() @ all_states[:-1].flatten(0, 1)
        grad_weight_ih = all_grads.flatten(0, 1).t() @ inputs.flatten(0, 1)
        grad_initial = None
        if initial is not None:
            grad_weight_hh.addmm_(grads[0].t(), initial)
            grad_initial = grads[0] @ weight_hh if ctx.needs_input_grad[1] else None
        return all_grads @ weight_ih, grad_initial, grad_weight_ih, grad_weight_hh, grad_bias, grad_bias


class GRURecurrence(torch.autograd.Function):
    """The GRU with a backward pass of its own, as `ElmanRecurrence` is the plain RNN.

    With `v = W x[t] + b` and `u = U h[t-1] + c`, each cut into the parts of `r`, `z` and `n`:
    `r, z = sigmoid(v + u)`, `n = tanh(v + r * u)`, `h[t] = (1 - z) * n + z * h[t-1]`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        initial: Tensor | None,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
    ) -> Tensor:
        """Return all states. Shape `(sequence_length, batch_size, size)`.

        Args:
            ctx: What the backward pass needs is kept here.
            inputs: What is read, of shape `(sequence_length, batch_size, input_size)`.
            initial: The state before the first step, `None` for 0, of shape `(batch_size, size)`.
            weight_ih: `W`, of shape `(3 * size, input_size)`.
            weight_hh: `U`, of shape `(3 * size, size)`.
            bias_ih: `b`, of shape `(3 * size,)`.
            bias_hh: `c`, of shape `(3 * size,)`.
        """
        size = weight_hh.shape[1]
        gates = F.linear(inputs, weight_ih, bias_ih)  # becomes r, z, n
        recurrents = torch.empty_like(gates)  # u
        # the initial state stands in front, so that every step has one before it
        all_states = inputs.new_zeros(len(inputs) + 1, inputs.shape[1], size)
        if initial is not None:
            all_states[0] = initial
        states, transposed = all_states.unbind(), weight_hh.t()
        parts = zip(
            gates[..., : 2 * size].unbind(),
            gates[..., :size].unbind(),
            gates[..., size : 2 * size].unbind(),
            gates[..., 2 * size :].unbind(),
            recurrents.unbind(),
            recurrents[..., : 2 * size].unbind(),
            recurrents[..., 2 * size :].unbind(),
            states,
            states[1:],
            strict=False,
        )
        for both, reset, update, candidate, recurrent, recurrent_gates, recurrent_candidate, before, state in parts:
            torch.addmm(bias_hh, before, transposed, out=recurrent)
            both.add_(recurrent_gates).sigmoid_()
            candidate.addcmul_(reset, recurrent_candidate).tanh_()
            torch.lerp(candidate, before, update, out=state)
        ctx.save_for_backward(inputs, weight_ih, weight_hh, all_states, gates, recurrents)
        return all_states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of what `forward` was given."""
        inputs, weight_ih, weight_hh, all_states, gates, recurrents = ctx.saved_tensors
        size = weight_hh.shape[1]
        reset, update, candidate = gates.split(size, dim=-1)
        # what the gradient of a state is multiplied with on its way to each part of u and, for n, of v
        to_candidate = (1 - update) * (1 - candidate * candidate)
        to_update = (all_states[:-1] - candidate) * update * (1 - update)
        to_recurrent_candidate = to_candidate * reset
        to_reset = to_recurrent_candidate * recurrents[..., 2 * size :] * (1 - reset)

        all_grads = torch.empty_like(all_states[1:])
        grad_parts = torch.empty_like(gates)
        grads, outer, kept, rows = all_grads.unbind(), grad_states.unbind(), update.unbind(), grad_parts.unbind()
        parts = [part.unbind() for part in grad_parts.split(size, dim=-1)]
        factors = [factor.unbind() for factor in (to_reset, to_update, to_recurrent_candidate)]
        grads[-1].copy_(outer[-1])
        for step in range(len(grads) - 1, -1, -1):
            for part, factor in zip(parts, factors, strict=True):
                torch.mul(grads[step], factor[step], out=part[step])
            if step:
                torch.addcmul(outer[step - 1], grads[step], kept[step], out=grads[step - 1])
                grads[step - 1].addmm_(rows[step], weight_hh)
        grad_initial = None
        if ctx.needs_input_grad[1]:
            grad_initial = torch.addmm(grads[0] * kept[0], rows[0], weight_hh)
        flat = grad_parts.flatten(0, 1)
        grad_bias_hh = flat.sum(dim=0)
        grad_weight_hh = flat.t() @ all_states[:-1].flatten(0, 1)
        # from u to v: the same but for the candidate, where u was scaled by r
        torch.mul(all_grads, to_candidate, out=grad_parts[..., 2 * size :])
        grad_weight_ih = flat.t() @ inputs.flatten(0, 1)
        return grad_parts @ weight_ih, grad_initial, grad_weight_ih, grad_weight_hh, flat.sum(dim=0), grad_bias_hh


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


class RNNPreTrainedModel(PreTrainedModel):
    """What all models of the family share: their configuration, how weights are drawn, how they are saved."""

    config_class = RNNConfig
    config: RNNConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # Trainer must not expect the loss to be divided by the number of items of all accumulated batches
    accepts_loss_kwargs = False
    _no_split_modules = ["RNNLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the weights of one module; weights that came from a checkpoint stay."""
        if isinstance(module, nn.Embedding):
            config = self.config
            init.normal_(module.weight, config.embedding_initializer_mean, config.embedding_initializer_range)
            # a slice does not carry the mark of a loaded weight, so it is looked up here and below
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            if module is self.get_output_embeddings():  # type: ignore[no-untyped-call]  # as below
                init.zeros_(module.bias)
            elif module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.RNNBase):
            for name, parameter in module.named_parameters():
                if not getattr(parameter, "_is_hf_initialized", False):
                    self._init_recurrent_parameter(name, parameter)

    def _init_recurrent_parameter(self, name: str, parameter: Tensor) -> None:
        hidden_size = self.config.hidden_size
        if self.config.recurrent_initializer == "uniform":
            bound = hidden_size**-0.5
            init.uniform_(parameter, -bound, bound)
            return
        if name.startswith("weight"):
            draw = init.orthogonal_ if name.startswith("weight_hh") else init.xavier_uniform_
            for gate in parameter.split(hidden_size):
                draw(gate)
            return
        init.zeros_(parameter)
        if self.config.cell_type == "lstm" and name.startswith("bias_ih"):
            init.ones_(parameter[hidden_size : 2 * hidden_size])  # the forget gate is torch's second

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save as every transformers model does, with what each Auto class needs to load it by remote code."""
        self.config.auto_map = {
            "AutoConfig": "configuration_rnn.RNNConfig",
            **{str(head._auto_class): f"modeling_rnn.{head.__name__}" for head in HEADS},
        }
        super().save_pretrained(save_directory, *args, **kwargs)


class RNNModel(RNNPreTrainedModel):
    """Recurrent text encoder: word vectors, then one or more recurrent layers.

    Args:
        config: The configuration.

    Example:
        >>> model = RNNModel(RNNConfig(vocab_size=10, hidden_size=4)).eval()
        >>> model(torch.tensor([[7, 8, 9]])).last_hidden_state.shape
        torch.Size([1, 3, 4])
    """

    _auto_class = "AutoModel"
    # what the heads have above their encoder
    _keys_to_ignore_on_load_unexpected = [r"^(classifier|pooler|lm_head|projection|clusters)\."]

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        # the padded classifiers of old draw and train the padding row like any other
        padding_idx = config.pad_token_id if config.pack_padded_sequences else None
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx)
        self.embedding_dropout = RNNDropout(config.embedding_dropout)
        input_sizes = [config.embedding_size] + [config.output_size] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(RNNLayer(config, input_size) for input_size in input_sizes)
        self.hidden_dropout = RNNDropout(config.hidden_dropout_prob)
        self.gradient_checkpointing = False
        # what shapes the model stays as it was built; to ask the configuration takes microseconds in every batch
        self.bidirectional, self.num_directions = config.bidirectional, config.num_directions
        self.has_cell_states = config.cell_type == "lstm"
        self.obeys_mask = config.pack_padded_sequences
        self.post_init()  # type: ignore[no-untyped-call]  # transformers does not type it

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers does not type it
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_final_states: bool = True,
        initial_hidden_state: Tensor | None = None,
        initial_cell_state: Tensor | None = None,
        **kwargs: Any,
    ) -> RNNModelOutput:
        r"""Read a batch of texts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Ids of the tokens.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for what is to be left out, wherever it stands. Without it everything is a token.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                Word vectors in the place of `input_ids`.
            output_hidden_states (`bool`, *optional*):
                Whether to return the word vectors and the states of every layer. Defaults to the configuration's.
            output_final_states (`bool`, *optional*, defaults to `True`):
                Whether to return the states after the whole text.
            initial_hidden_state (`torch.Tensor` of shape `(batch_size, num_hidden_layers, hidden_size)`, *optional*):
                The `final_hidden_state` of what stood before, so that a text can be read piece by piece.
            initial_cell_state (`torch.Tensor` of shape `(batch_size, num_hidden_layers, hidden_size)`, *optional*):
                The `final_cell_state` of what stood before, which an LSTM needs, too.
            return_dict (`bool`, *optional*):
                Whether to return an `RNNModelOutput` rather than a plain tuple.
            kwargs:
                Ignored, so that what generic code passes to every model does not break this one.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, the mask has another shape, or
                an initial state is given that the model cannot start from.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Exactly one of `input_ids` and `inputs_embeds` must be given.")
        self._check_initial_states(initial_hidden_state, initial_cell_state)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        embeddings = self._embed(input_ids, inputs_embeds, attention_mask)
        mask = self.token_mask(embeddings, attention_mask)
        initial = [state for state in (initial_hidden_state, initial_cell_state) if state is not None]
        all_states, *final_states = self.read(
            embeddings, mask, bool(output_hidden_states), output_final_states, initial
        )
        final_hidden_state, final_cell_state = (
            torch.cat(states, dim=1) if states else None for states in final_states
        )
        return RNNModelOutput(
            last_hidden_state=all_states[-1],
            hidden_states=tuple(all_states) if output_hidden_states else None,
            final_hidden_state=final_hidden_state,
            final_cell_state=final_cell_state,
        )

    def read(
        self,
        embeddings: Tensor,
        mask: Tensor | None,
        output_hidden_states: bool = False,
        output_final_states: bool = False,
        initial_states: Sequence[Tensor] = (),
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Run the layers over word vectors.

        Args:
            embeddings: Shape `(batch_size, sequence_length, embedding_size)`.
            mask: What `token_mask` returned.
            output_hidden_states: Whether to keep the states of every layer.
            output_final_states: Whether to return the states after the whole text.
            initial_states: The states before the text and, for the LSTM, the cell states; nothing for 0.
                Shape of each `(batch_size, num_hidden_layers, hidden_size)`.

        Returns:
            The word vectors and the states of the top layer, or of all; the final states and cell states of each
            layer, where they are asked for. Shapes as in `RNNModelOutput`.
        """
        states, order = embeddings, None
        is_without_tokens = embeddings.shape[1] == 0
        if is_without_tokens:  # torch's layers refuse to read nothing: let them read one padding
            states, mask = F.pad(embeddings, (0, 0, 0, 1)), embeddings.new_zeros(len(embeddings), 1, dtype=torch.bool)
        if mask is not None and bool(mask.all()):
            mask = None
        if mask is not None and bool((mask[:, 1:] > mask[:, :-1]).any()):
            # tokens behind a gap: bring them to the front in their order, and put the states back at the end
            order = mask.int().argsort(dim=1, descending=True, stable=True)
            states = states.take_along_dim(order.unsqueeze(-1), dim=1)
            mask = mask.take_along_dim(order, dim=1)

        all_states = [embeddings]
        final_hidden_states: list[Tensor] = []
        final_cell_states: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            if index:
                states = self.hidden_dropout(states)
            initial = tuple(state[:, index : index + 1] for state in initial_states) or None
            states, cell_state = layer(
                states,
                mask=mask,
                needs_cell_state=output_final_states and self.has_cell_states,
                initial=initial,
            )
            if output_final_states:
                final = pool_last(states, mask, self.bidirectional).unflatten(-1, (self.num_directions, -1))
                finals = [final] if cell_state is None else [final, cell_state]
                if initial is not None and mask is not None:
                    # where nothing is read, nothing changes
                    has_tokens = mask.any(dim=1)[:, None, None]
                    finals = [torch.where(has_tokens, *pair) for pair in zip(finals, initial, strict=True)]
                for collected, state in zip((final_hidden_states, final_cell_states), finals, strict=False):
                    collected.append(state)
            if output_hidden_states or index + 1 == len(self.layers):
                restored = (
                    states if order is None else states.take_along_dim(order.argsort(dim=1).unsqueeze(-1), dim=1)
                )
                all_states.append(restored[:, :0] if is_without_tokens else restored)

        return all_states, final_hidden_states, final_cell_states

    def _check_initial_states(self, hidden_state: Tensor | None, cell_state: Tensor | None) -> None:
        if hidden_state is None and cell_state is None:
            return
        if self.bidirectional:
            raise ValueError(
                "`initial_hidden_state` needs `bidirectional=False`: a backward direction starts at the end of a text."
            )
        if hidden_state is None or (cell_state is None) == self.has_cell_states:
            needed = "`initial_hidden_state`" + (" and `initial_cell_state`" if self.has_cell_states else " alone")
            raise ValueError(f"A model of this `cell_type` starts from {needed}.")

    def token_mask(self, vectors: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """Return which positions are read and pooled.

        Args:
            vectors: Word vectors or states. Shape `(batch_size, sequence_length, size)`.
            attention_mask: The mask that `forward` was given, or `None`. Shape `(batch_size, sequence_length)`.

        Returns:
            `True` for what counts as a token. `None` for all, without a mask or with `pack_padded_sequences=False`.
            Shape `(batch_size, sequence_length)`.

        Raises:
            ValueError: If the mask has another shape.
        """
        shape = vectors.shape[:2]
        if attention_mask is not None and attention_mask.shape != shape:
            raise ValueError(
                f"`attention_mask` must have the shape {tuple(shape)} of the tokens, "
                f"got {tuple(attention_mask.shape)}."
            )
        if attention_mask is None or not self.obeys_mask:
            return None
        mask = attention_mask.to(device=vectors.device, dtype=torch.bool)
        # to look at it costs nothing on a CPU; elsewhere the device would have to be waited for
        return None if mask.device.type == "cpu" and mask.shape[1] > 0 and bool(mask.all()) else mask

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None, attention_mask: Tensor | None) -> Tensor:
        word_dropout = self.config.word_dropout if self.training else 0.0
        if input_ids is not None:
            if input_ids.numel() == 0:
                input_ids = input_ids.long()  # tokenizers return an empty text as a tensor of floats
            elif self.obeys_mask:
                self.warn_if_padding_and_no_attention_mask(  # type: ignore[no-untyped-call]  # as above
                    input_ids, attention_mask
                )
            if word_dropout:
                is_dropped = torch.rand(input_ids.shape, device=input_ids.device) < word_dropout
                unknown_id: int = self.config.unk_token_id  # type: ignore[assignment]  # the configuration checked it
                input_ids = torch.where(is_dropped, unknown_id, input_ids)
            inputs_embeds = self.embed_tokens(input_ids)
        elif word_dropout and inputs_embeds is not None:
            is_dropped = torch.rand(inputs_embeds.shape[:2], device=inputs_embeds.device) < word_dropout
            unknown_word = self.embed_tokens.weight[self.config.unk_token_id]
            inputs_embeds = torch.where(is_dropped.unsqueeze(-1), unknown_word, inputs_embeds)
        embeddings: Tensor = self.embedding_dropout(inputs_embeds)
        return embeddings


class RNNForSequenceClassification(RNNPreTrainedModel):
    """Recurrent text classifier: `RNNModel`, pooling, and a linear layer.

    Args:
        config: The configuration.

    Example:
        >>> model = RNNForSequenceClassification(RNNConfig(vocab_size=10, num_labels=4)).eval()
        >>> model(torch.tensor([[7, 8, 9]])).logits.shape
        torch.Size([1, 4])
    """

    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels or 0  # a number in every configuration that was made
        self.concat_embedding_mean = config.concat_embedding_mean
        self.model = RNNModel(config)
        self.pooler = RNNPooler(config)
        self.classifier_dropout = RNNDropout(config.classifier_dropout)
        pooled_size = self.pooler.output_size + (config.embedding_size if config.concat_embedding_mean else 0)
        self.classifier = nn.Linear(pooled_size, self.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers does not type it

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers does not type it
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_final_states: bool = False,
        **kwargs: Any,
    ) -> RNNClassifierOutput:
        r"""Classify a batch of texts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Ids of the tokens.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for what is to be left out, wherever it stands. Without it everything is a token.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                Word vectors in the place of `input_ids`.
            labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
                Class ids (cross-entropy); one float per label (binary cross-entropy); or, with `num_labels=1` or
                `problem_type="regression"`, numbers (mean squared error).
            output_hidden_states (`bool`, *optional*):
                Whether to return the word vectors and the states of every layer. Defaults to the configuration's.
            output_final_states (`bool`, *optional*, defaults to `False`):
                Whether to return the states after the whole text.
            return_dict (`bool`, *optional*):
                Whether to return an `RNNClassifierOutput` rather than a plain tuple.
            kwargs:
                Ignored, so that what generic code passes to every model does not break this one.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, or the mask has another shape.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states or self.concat_embedding_mean,
            output_final_states=output_final_states,
            return_dict=True,
        )
        mask = self.model.token_mask(outputs.last_hidden_state, attention_mask)
        embeddings = outputs.hidden_states[0] if self.concat_embedding_mean else None
        logits = self.classifier(self.classifier_dropout(self._pool(outputs.last_hidden_state, embeddings, mask)))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return RNNClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states if output_hidden_states else None,
            final_hidden_state=outputs.final_hidden_state,
            final_cell_state=outputs.final_cell_state,
        )

    def _pool(self, states: Tensor, embeddings: Tensor | None, mask: Tensor | None) -> Tensor:
        pooled: Tensor = self.pooler(states, mask)
        return pooled if embeddings is None else torch.cat([pooled, pool_mean(embeddings, mask)], dim=-1)

    def pool(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the vector of each text that the classifier reads in evaluation, 0 for a text without tokens.

        Args:
            input_ids: Ids of the tokens. Shape `(batch_size, sequence_length)`.
            attention_mask: As in `forward`. Shape `(batch_size, sequence_length)`.

        Returns:
            Pooled states, beside them the mean of the word vectors with `concat_embedding_mean`.
            Shape `(batch_size, classifier.in_features)`.
        """
        embeddings = self.model.embed_tokens(input_ids)
        mask = self.model.token_mask(embeddings, attention_mask)
        all_states, _, _ = self.model.read(embeddings, mask)
        return self._pool(all_states[-1], embeddings if self.concat_embedding_mean else None, mask)

    def score(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return the logits of evaluation and nothing else, in two thirds of the time `forward` takes for one text.

        Args:
            input_ids: Ids of the tokens. Shape `(batch_size, sequence_length)`.
            attention_mask: As in `forward`. Shape `(batch_size, sequence_length)`.

        Returns:
            Logits of shape `(batch_size, num_labels)`.
        """
        logits: Tensor = self.classifier(self.pool(input_ids, attention_mask))
        return logits


class RNNForTokenClassification(RNNPreTrainedModel):
    """Recurrent tagger: `RNNModel` and a linear layer over every position.

    With `bidirectional=True` the label of a token depends on what stands on either side of it, without on what stands
    before it. Nothing is pooled: `classifier_pooling` and `concat_embedding_mean` have no effect.

    Args:
        config: The configuration.

    Example:
        >>> model = RNNForTokenClassification(RNNConfig(vocab_size=10, bidirectional=True, num_labels=5)).eval()
        >>> model(torch.tensor([[7, 8, 9]])).logits.shape
        torch.Size([1, 3, 5])
    """

    _auto_class = "AutoModelForTokenClassification"
    # the labels of accumulated batches differ in number, and the loss is the mean over all of them
    accepts_loss_kwargs = True

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels or 0  # a number in every configuration that was made
        self.model = RNNModel(config)
        self.classifier_dropout = RNNDropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.output_size, self.num_labels)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers does not type it

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers does not type it
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_final_states: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> RNNClassifierOutput:
        r"""Tag the tokens of a batch of texts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Ids of the tokens.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for what is to be left out, wherever it stands. Without it everything is a token. The
                logits of what is left out say nothing.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                Word vectors in the place of `input_ids`.
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Class ids (cross-entropy). Where the label is -100, the loss passes over the token: so it should be at
                the padding and, where a word has one label and several tokens, at all of them but the first.
            output_hidden_states (`bool`, *optional*):
                Whether to return the word vectors and the states of every layer. Defaults to the configuration's.
            output_final_states (`bool`, *optional*, defaults to `False`):
                Whether to return the states after the whole text.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                What to divide the sum of the losses by: Trainer passes the number of labels in all batches whose
                gradients it accumulates. Defaults to the number in this batch.
            return_dict (`bool`, *optional*):
                Whether to return an `RNNClassifierOutput` rather than a plain tuple.
            kwargs:
                Ignored, so that what generic code passes to every model does not break this one.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, or the mask has another shape.
        """
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_final_states=output_final_states,
            return_dict=True,
        )
        logits = self.classifier(self.classifier_dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, num_items_in_batch=num_items_in_batch)
        return RNNClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            final_hidden_state=outputs.final_hidden_state,
            final_cell_state=outputs.final_cell_state,
        )


class RNNCacheLayer(CacheLayerMixin):
    """The state of all layers after what a language model has read; its size does not grow with the text.

    Attributes:
        hidden_state: Shape `(batch_size, num_hidden_layers, hidden_size)`.
        cell_state: The same of an LSTM's cell, or `None`.
        num_tokens: Positions read so far, padding included.
    """

    is_sliding = False
    hidden_state: Tensor | None
    cell_state: Tensor | None
    num_tokens: int

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers does not type it
        self.reset()

    def advance(self, hidden_state: Tensor, cell_state: Tensor | None, num_tokens: int) -> None:
        """Replace the state by the one after `num_tokens` more positions."""
        # a graph that reached back through all pieces of a text would grow with it
        self.hidden_state = hidden_state.detach()
        self.cell_state = None if cell_state is None else cell_state.detach()
        self.num_tokens += num_tokens
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: there are no keys and values, for which transformers has this method."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Refuse, for the same reason; `advance` is what a recurrent model calls."""
        raise RuntimeError("A recurrent state has no keys and values. Pass the cache to a model of this family.")

    def get_seq_length(self) -> int:
        """Return how many positions were read."""
        return self.num_tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length of a mask over all positions, and its offset."""
        return self.num_tokens + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: there is no limit."""
        return -1

    get_max_cache_shape = get_max_length

    def reset(self) -> None:
        """Forget everything."""
        self.hidden_state = self.cell_state = None
        self.num_tokens, self.is_initialized = 0, False

    def crop(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: a state does not tell what it was some tokens ago."""
        raise RuntimeError("A recurrent state cannot be cropped. Read the shorter text from its start.")

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each row go on from the state of row `beam_idx` (beam search)."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the states of some rows."""
        if self.hidden_state is not None:
            self.hidden_state = self.hidden_state[indices.to(self.hidden_state.device)]
        if self.cell_state is not None:
            self.cell_state = self.cell_state[indices.to(self.cell_state.device)]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat the state of each row."""
        if self.hidden_state is not None:
            self.batch_select_indices(torch.arange(len(self.hidden_state)).repeat_interleave(repeats))

    @property
    def batch_size(self) -> int:
        """Rows of the state, -1 before the first token."""
        return -1 if self.hidden_state is None else len(self.hidden_state)


class RNNCache(Cache):
    """What a language model remembers of a text, as `generate` passes it from token to token.

    Example:
        >>> model = RNNForCausalLM(RNNConfig(vocab_size=10)).eval()
        >>> cache = RNNCache()
        >>> logits = [model(torch.tensor([[token]]), cache=cache).logits for token in (7, 8, 9)]
        >>> torch.testing.assert_close(torch.cat(logits, dim=1), model(torch.tensor([[7, 8, 9]])).logits)
    """

    def __init__(self) -> None:
        self.state = RNNCacheLayer()
        super().__init__(layers=[self.state])


class RNNForCausalLM(RNNPreTrainedModel, GenerationMixin):
    """Recurrent language model: `RNNModel` and an output layer, which shares the word vectors.

    With `adaptive_softmax_cutoffs` the probability of a word is that of its cluster, times its own in the cluster:
    an exact distribution, of which training computes only what it needs (Grave et al., 2017). The words before the
    first cutoff stand beside one vector for each cluster; all words keep vectors of the full width, so that they are
    those of the embedding.

    The states of one direction predict what follows, so `bidirectional=True` is refused. Where the states are not as
    wide as the word vectors, a linear layer stands between. Nothing is pooled.

    Args:
        config: The configuration.

    Raises:
        ValueError: If `config.bidirectional` is set.

    Example:
        >>> model = RNNForCausalLM(RNNConfig(vocab_size=10, adaptive_softmax_cutoffs=[4])).eval()
        >>> logits = model(torch.tensor([[7, 8, 9]])).logits
        >>> logits.shape, logits.exp().sum(dim=-1).round(decimals=4).tolist()
        (torch.Size([1, 3, 10]), [[1.0, 1.0, 1.0]])
    """

    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    # what the other heads have above their encoder
    _keys_to_ignore_on_load_unexpected = [r"^(classifier|pooler)\."]
    # the labels of accumulated batches differ in number, and the loss is the mean over all of them
    accepts_loss_kwargs = True
    # a state cannot be set back to an earlier token, as assisted generation would have to
    _is_stateful = True

    def __init__(self, config: RNNConfig) -> None:
        if config.bidirectional:
            raise ValueError(
                "A language model needs `bidirectional=False`, got True: the backward direction would read the words "
                "that are to be predicted."
            )
        super().__init__(config)
        self.model = RNNModel(config)
        self.classifier_dropout = RNNDropout(config.classifier_dropout)
        has_projection = config.output_size != config.embedding_size
        self.projection = nn.Linear(config.output_size, config.embedding_size) if has_projection else nn.Identity()
        self.lm_head = nn.Linear(config.embedding_size, config.vocab_size)
        self.cutoffs = list(config.adaptive_softmax_cutoffs or ())
        if self.cutoffs:
            self.clusters = nn.Linear(config.embedding_size, len(self.cutoffs))
        self.post_init()  # type: ignore[no-untyped-call]  # transformers does not type it

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers does not type it
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: RNNCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_logits: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        cache: RNNCache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        r"""Predict the word after each position of a batch of texts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Ids of the tokens.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for what is to be left out, wherever it stands. Without it everything is a token. It
                may also cover what was read before; only its end is looked at.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                Word vectors in the place of `input_ids`.
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                The tokens themselves: the model shifts them, so that each position predicts the next one. The loss
                passes over -100, which should stand at the padding.
            past_key_values (`RNNCache`, *optional*):
                The name of `cache` before transformers 5.24.
            use_cache (`bool`, *optional*):
                Whether to return the state after the text. Defaults to the configuration's in evaluation, and to
                `False` in training, unless a `cache` is given.
            output_hidden_states (`bool`, *optional*):
                Whether to return the word vectors and the states of every layer. Defaults to the configuration's.
            output_logits (`bool`, *optional*):
                Whether to return the logits. Defaults to `True`, but to `False` in training with labels: there are
                `batch_size * sequence_length * vocab_size` of them, and the loss does not need them all.
            logits_to_keep (`int` or `torch.LongTensor`, *optional*, defaults to 0):
                How many of the last positions have logits, 0 for all; or which positions.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                What to divide the sum of the losses by: Trainer passes the number of labels in all batches whose
                gradients it accumulates. Defaults to the number in this batch.
            cache (`RNNCache`, *optional*):
                What was read before, from which the model goes on; it is updated. Gradients do not reach back into it.
            return_dict (`bool`, *optional*):
                Whether to return a `CausalLMOutputWithPast` rather than a plain tuple.
            kwargs:
                `shift_labels`, labels that are shifted already, in the place of `labels`: of a text that is read piece
                by piece, the last label of a piece is the first token of the next one. All else is ignored, so that
                what generic code passes to every model does not break this one.

        Returns:
            The loss and the logits: without an adaptive softmax scores before softmax, with one the logarithms of the
            probabilities. `softmax(logits)` is the distribution either way.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, the mask has another shape, or
                the cache is not an `RNNCache`.
        """
        cache = past_key_values if cache is None else cache
        if cache is not None and not isinstance(cache, RNNCache):
            raise ValueError(f"`{CACHE_NAME}` must be an `RNNCache`, got `{type(cache).__name__}`. Pass `RNNCache()`.")
        if use_cache is None:
            use_cache = cache is not None or (self.config.use_cache and not self.training)
        if use_cache and cache is None:
            cache = RNNCache()
        given = input_ids if inputs_embeds is None else inputs_embeds
        if attention_mask is not None and given is not None:
            attention_mask = attention_mask[:, -given.shape[1] :] if given.shape[1] else attention_mask[:, :0]
        elif input_ids is not None:
            # rows that `generate` has finished go on with padding, of which the encoder would warn without a mask
            attention_mask = torch.ones_like(input_ids)
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_final_states=bool(use_cache),
            initial_hidden_state=None if cache is None else cache.state.hidden_state,
            initial_cell_state=None if cache is None else cache.state.cell_state,
            return_dict=True,
        )
        states = outputs.last_hidden_state
        if use_cache and cache is not None:
            cache.state.advance(outputs.final_hidden_state, outputs.final_cell_state, states.shape[1])
        vectors = self.projection(self.classifier_dropout(states))

        loss = logits = None
        shift_labels = kwargs.get("shift_labels")  # as an argument, Trainer would take it for one it must give
        has_labels = labels is not None or shift_labels is not None
        if shift_labels is not None:
            loss = self._loss(vectors, shift_labels, num_items_in_batch)
        elif labels is not None:
            loss = self._loss(vectors[:, :-1], labels[:, 1:], num_items_in_batch)
        if output_logits or (output_logits is None and not (has_labels and self.training)):
            kept = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self._logits(vectors[:, kept])
        state: dict[str, Any] = {CACHE_NAME: cache if use_cache else None}
        return CausalLMOutputWithPast(loss=loss, logits=logits, hidden_states=outputs.hidden_states, **state)

    @property
    def _bounds(self) -> list[int]:
        """Where the words of the shortlist and of each cluster begin, and where the last ones end."""
        return [0, *self.cutoffs, len(self.lm_head.weight)]

    def _logits(self, vectors: Tensor) -> Tensor:
        """Return the logits of all words. Shape `(batch_size, sequence_length, vocab_size)`."""
        scores: Tensor = self.lm_head(vectors)
        if not self.cutoffs:
            return scores
        shortlist, *tails = scores.split([end - start for start, end in pairwise(self._bounds)], dim=-1)
        head = torch.cat([shortlist, self.clusters(vectors)], dim=-1).log_softmax(dim=-1)
        shortlist, clusters = head.split([self.cutoffs[0], len(self.cutoffs)], dim=-1)
        pairs = zip(tails, clusters.split(1, dim=-1), strict=True)
        return torch.cat([shortlist, *(tail.log_softmax(dim=-1) + cluster for tail, cluster in pairs)], dim=-1)

    def _loss(self, vectors: Tensor, labels: Tensor, num_items: Tensor | int | None) -> Tensor:
        """Return the sum of the losses over `num_items`, without the scores of clusters that no label is in."""
        labels = labels.to(vectors.device)
        is_label = labels != IGNORED_LABEL
        vectors, labels = vectors[is_label], labels[is_label]
        if num_items is None:
            num_items = max(1, len(labels))
        elif isinstance(num_items, Tensor):
            num_items = num_items.to(vectors.device)
        bounds = self._bounds
        sizes = [end - start for start, end in pairwise(bounds)]
        # one split: its gradient is put together once, that of a slice would be as large as all for each slice
        weights, biases = self.lm_head.weight.split(sizes), self.lm_head.bias.split(sizes)
        if not self.cutoffs:
            return self._sum_of_losses(vectors, weights[0], biases[0], labels) / num_items
        cluster_of = torch.bucketize(labels, torch.tensor(self.cutoffs, device=labels.device), right=True)
        loss = self._sum_of_losses(
            vectors,
            torch.cat([weights[0], self.clusters.weight]),
            torch.cat([biases[0], self.clusters.bias]),
            torch.where(cluster_of == 0, labels, self.cutoffs[0] - 1 + cluster_of),
        )
        for cluster in range(1, len(sizes)):
            rows = (cluster_of == cluster).nonzero().squeeze(1)
            loss = loss + self._sum_of_losses(
                vectors[rows], weights[cluster], biases[cluster], labels[rows] - bounds[cluster]
            )
        return loss / num_items

    @staticmethod
    def _sum_of_losses(vectors: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(vectors, weight, bias).float(), labels, reduction="sum")

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Return `False`: `generate` would make a cache of keys and values. `forward` makes its own."""
        return False


HEADS: tuple[type[RNNPreTrainedModel], ...] = (
    RNNModel,
    RNNForSequenceClassification,
    RNNForTokenClassification,
    RNNForCausalLM,
)

__all__ = [
    "RNNCache",
    "RNNForCausalLM",
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RNNModel",
    "RNNPreTrainedModel",
]
