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
"""The plain RNN and the GRU as loops with custom backward passes, for training on a CPU."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class ElmanRecurrence(torch.autograd.Function):
    """The plain RNN, `h[t] = tanh(W x[t] + b + U h[t-1] + c)`, with a custom backward pass.

    On a CPU, torch builds a graph of several nodes for each step. Here, a step is one matrix product and one
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
            ctx: Keeps what the backward pass needs.
            inputs: Inputs of shape `(sequence_length, batch_size, input_size)`.
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
        """Return the gradients of the arguments of `forward`."""
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
    """The GRU with a custom backward pass, in the manner of `ElmanRecurrence`.

    With `v = W x[t] + b` and `u = U h[t-1] + c`, each divided into parts for `r`, `z` and `n`:
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
            ctx: Keeps what the backward pass needs.
            inputs: Inputs of shape `(sequence_length, batch_size, input_size)`.
            initial: The state before the first step, `None` for 0, of shape `(batch_size, size)`.
            weight_ih: `W`, of shape `(3 * size, input_size)`.
            weight_hh: `U`, of shape `(3 * size, size)`.
            bias_ih: `b`, of shape `(3 * size,)`.
            bias_hh: `c`, of shape `(3 * size,)`.
        """
        size = weight_hh.shape[1]
        gates = F.linear(inputs, weight_ih, bias_ih)  # becomes r, z, n
        recurrents = torch.empty_like(gates)  # u
        # the initial state comes first, so that every step has one before it
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
        """Return the gradients of the arguments of `forward`."""
        inputs, weight_ih, weight_hh, all_states, gates, recurrents = ctx.saved_tensors
        size = weight_hh.shape[1]
        reset, update, candidate = gates.split(size, dim=-1)
        # factors of the gradient of a state on its way to each part of u and, for n, of v
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
        # the gradient of v is that of u except for the candidate, where u was scaled by r
        torch.mul(all_grads, to_candidate, out=grad_parts[..., 2 * size :])
        grad_weight_ih = flat.t() @ inputs.flatten(0, 1)
        return grad_parts @ weight_ih, grad_initial, grad_weight_ih, grad_weight_hh, flat.sum(dim=0), grad_bias_hh


__all__ = [
    "ElmanRecurrence",
    "GRURecurrence",
]
