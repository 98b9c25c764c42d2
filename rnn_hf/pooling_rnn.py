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
"""Pooling: from the states of a text to one vector."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .configuration_rnn import RNNConfig


def pool_last(states: Tensor, mask: Tensor | None, bidirectional: bool) -> Tensor:
    """Return the state each direction holds after reading the whole sequence.

    The backward direction finishes at the *first* token, so its half of the vector is read there; at the last token it
    has seen one token only.

    Args:
        states: States of a layer. Shape `(batch_size, sequence_length, num_directions * hidden_size)`.
        mask: `True` for tokens, in any position; `None` without padding. Shape `(batch_size, sequence_length)`.
        bidirectional: Whether the second half of the last dimension runs from the end to the start.

    Returns:
        Pooled states, 0 for a text without tokens. Shape `(batch_size, num_directions * hidden_size)`.

    Example:
        >>> states = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [0.0, 0.0]]])
        >>> pool_last(states, torch.tensor([[True, True, False]]), bidirectional=True)
        tensor([[ 2., 10.]])
    """
    rows: Tensor | slice
    first: Tensor | int
    last: Tensor | int
    if mask is None:
        rows, first, last = slice(None), 0, -1
    else:
        positions = torch.arange(mask.shape[1], device=mask.device)
        rows = torch.arange(len(states), device=states.device)
        first, last = mask.int().argmax(dim=1), (mask * positions).argmax(dim=1)
    pooled = states[rows, last]
    if bidirectional:
        size = states.shape[-1] // 2
        pooled = torch.cat([pooled[:, :size], states[rows, first][:, size:]], dim=-1)
    return pooled if mask is None else pooled * mask.any(dim=1, keepdim=True)


def pool_mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the tokens.

    Args:
        states: Any vectors. Shape `(batch_size, sequence_length, size)`.
        mask: `True` for tokens; `None` without padding. Shape `(batch_size, sequence_length)`.

    Returns:
        Means, 0 for a text without tokens. Shape `(batch_size, size)`.

    Example:
        >>> pool_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    if mask is None:
        return states.mean(dim=1) if states.shape[1] else states.sum(dim=1)
    lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
    # one pass over the states; a product and a sum would be two
    sums = torch.bmm(mask.unsqueeze(1).to(states.dtype), states).squeeze(1)
    return sums / lengths.to(states.dtype)


def pool_max(states: Tensor, mask: Tensor | None) -> Tensor:
    """Return the maximum of each feature over the tokens.

    Args:
        states: Any vectors. Shape `(batch_size, sequence_length, size)`.
        mask: `True` for tokens; `None` without padding. Shape `(batch_size, sequence_length)`.

    Returns:
        Maxima, 0 for a text without tokens. Shape `(batch_size, size)`.

    Example:
        >>> pool_max(torch.tensor([[[-1.0], [-3.0], [0.0]]]), torch.tensor([[True, True, False]]))
        tensor([[-1.]])
    """
    if mask is not None:
        states = states.masked_fill(~mask.unsqueeze(-1), torch.finfo(states.dtype).min)
    maxima = states.amax(dim=1)
    return maxima if mask is None else maxima * mask.any(dim=1, keepdim=True)


class RNNAttentionPooling(nn.Module):
    """Mean of the states, weighted by a learned vector (Zhou et al., 2016)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Return the weighted means. Shapes as in `pool_mean`."""
        scores: Tensor = self.score(torch.tanh(states)).squeeze(-1)  # (batch, time)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=1)
        if mask is not None:  # the weights of a text without tokens are equal
            weights = weights * mask
        return (weights.unsqueeze(-1) * states).sum(dim=1)


POOLINGS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {"mean": pool_mean, "max": pool_max}


class RNNPooler(nn.Module):
    """Pools the states of a text as `config.classifier_pooling` says."""

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        # several stand side by side, as in "mean_max"
        self.parts = config.classifier_pooling.split("_")
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
        pooling = self.attention if part == "attention" else POOLINGS[part]
        pooled: Tensor = pooling(states, mask)
        return pooled


__all__ = [
    "RNNPooler",
    "pool_last",
    "pool_max",
    "pool_mean",
]
