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
"""The n-gram branch of a classifier: a linear model of hashed words and word pairs beside the recurrent network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .configuration_rnn import RNNConfig
from .layers_rnn import order_of_tokens

# Odd numbers, so that every bucket can be reached; products with any token id fit into 64 bits
_FACTORS = (1_000_003, 998_244_353)

# Length of a text's vector: that of the weights of its n-grams would make the gradients too small for the optimizer
_NORM = 5.0

# Weight of the loss of each branch beside that of both together. Without it the network, which learns faster from
# few rows, leaves the linear branch little to learn (auxiliary losses: Lee et al., 2015).
BRANCH_LOSS_WEIGHT = 0.5


class NGramBranch(nn.Module):
    """Logits of a linear model of a text's words and word pairs, which are added to those of the recurrent network.

    Wide and deep learning (Cheng et al., 2016): the linear part learns from few rows which words stand for a class,
    the network what their order and meaning add. Every n-gram is hashed to one of a fixed number of buckets
    (Weinberger et al., 2009; of word pairs, Joulin et al., 2017). A bucket has a row of the table: a logit for each
    class, 0 before training. The rows of a text are weighted by inverse document frequency (Spärck Jones, 1972), and
    their sum is divided by the Euclidean norm of the weights. N-grams that no training text has weigh nothing.

    Args:
        config: `ngram_buckets`, `ngram_order` and the number of labels.

    Attributes:
        table: The logits of every bucket. Shape of its weight `(ngram_buckets, num_labels)`.
        idf: Inverse document frequency of every bucket, 1 until it is set. Shape `(ngram_buckets,)`.
    """

    idf: Tensor

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.num_buckets = config.ngram_buckets
        self.order = config.ngram_order
        self.table = nn.EmbeddingBag(config.ngram_buckets, config.num_labels or 0, mode="sum")
        self.register_buffer("idf", torch.ones(config.ngram_buckets))

    def forward(self, input_ids: Tensor | None, mask: Tensor | None, is_dropped: Tensor | None = None) -> Tensor:
        """Return the logits of the texts.

        Args:
            input_ids: Ids of the tokens. Shape `(batch_size, sequence_length)`.
            mask: `True` for tokens; `None` if everything is one. Shape `(batch_size, sequence_length)`.
            is_dropped: `True` for words that word dropout removes, alone and in pairs; `None` for none. Same shape.

        Returns:
            Logits of shape `(batch_size, num_labels)`, 0 for a text without n-grams.

        Raises:
            ValueError: If there are no ids.
        """
        if input_ids is None:
            raise ValueError(
                "`inputs_embeds` cannot be given to a model with `ngram_buckets`, which counts words by their ids. "
                "Pass `input_ids`."
            )
        buckets, counts = self.buckets_of(input_ids, mask, is_dropped)
        if buckets.numel() == 0:  # nothing to look up, which the layer refuses
            return self.idf.new_zeros(len(buckets), self.table.embedding_dim)
        weights = self.idf[buckets]
        if counts is not None:
            weights = weights * counts
        norms = weights.float().square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-6).to(weights.dtype)
        logits: Tensor = self.table(buckets, per_sample_weights=weights)
        return logits * (_NORM / norms)

    def buckets_of(
        self, input_ids: Tensor, mask: Tensor | None, is_dropped: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the buckets of all n-grams, and which of them count.

        Neighbours are the tokens that follow one another once padding is left out. The arguments are those of
        `forward`.

        Returns:
            Buckets, int64; `True` for n-grams without padding and dropped words, or `None` if all are. Both of shape
            `(batch_size, num_ngrams)`.
        """
        ids = input_ids.long()
        counts = mask
        if is_dropped is not None:
            counts = ~is_dropped if mask is None else mask & ~is_dropped
        order = None if mask is None else order_of_tokens(mask)
        if order is not None and counts is not None:
            ids, counts = ids.take_along_dim(order, dim=1), counts.take_along_dim(order, dim=1)
        hashed, buckets, counted = ids, [ids % self.num_buckets], [counts]
        for n in range(1, min(self.order, max(1, ids.shape[1]))):
            # remainders keep the products of longer n-grams within 64 bits, too
            hashed = (hashed[:, :-1] * _FACTORS[0] + ids[:, n:] * _FACTORS[1]) % (2**31 - 1)
            buckets.append(hashed % self.num_buckets)
            last = counted[-1]
            counted.append(None if last is None or counts is None else last[:, :-1] & counts[:, n:])
        return torch.cat(buckets, dim=1), None if counts is None else torch.cat(counted, dim=1)  # type: ignore[arg-type]  # all are tensors

    @torch.no_grad()
    def set_document_frequencies(self, num_documents: Tensor, num_all: int) -> None:
        """Set the weights of the buckets from the training texts.

        Args:
            num_documents: Number of texts that have an n-gram of each bucket. Shape `(ngram_buckets,)`.
            num_all: Number of all texts.
        """
        counts = num_documents.double()
        idf = ((1 + num_all) / (1 + counts)).log() + 1
        self.idf.copy_(torch.where(counts > 0, idf, 0.0))


def logits_alone(branches: Sequence[Tensor], is_regression: bool) -> tuple[Tensor, ...]:
    """Return what the loss of each branch is computed from.

    In a regression each alone must reach the numbers that both are to add up to, and so counts twice.

    Args:
        branches: Logits of the recurrent network and of the n-gram branch. Shape of each `(batch_size, num_labels)`.
        is_regression: Whether the logits are numbers to predict.
    """
    return tuple(len(branches) * part for part in branches) if is_regression else tuple(branches)


def loss_with_branches(
    loss_of: Callable[[Tensor], Tensor], logits: Tensor, branch_logits: Sequence[Tensor] | None
) -> Tensor:
    """Return the loss of the logits and, with `BRANCH_LOSS_WEIGHT`, of each branch alone. A scalar.

    Args:
        loss_of: Returns the mean loss of logits, which it gets in float32 if they are of a half type.
        logits: Those of all branches together. Shape `(batch_size, num_labels)`.
        branch_logits: `RNNClassifierOutput.branch_logits`. Same shape each.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    loss = loss_of(logits.to(dtype))
    for branch in branch_logits or ():
        loss = loss + BRANCH_LOSS_WEIGHT * loss_of(branch.to(dtype))
    return loss


__all__ = ["BRANCH_LOSS_WEIGHT", "NGramBranch", "logits_alone", "loss_with_branches"]
