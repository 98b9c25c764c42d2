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

import torch
from torch import Tensor, nn

from .configuration_rnn import RNNConfig
from .layers_rnn import order_of_tokens

# Odd numbers, so that every bucket can be reached; products with any token id fit into 64 bits
_FACTORS = (1_000_003, 998_244_353)

# Length of a text's vector: that of the weights of its n-grams would make gradients too small for the usual optimizers
NORM = 5.0


class NGramBranch(nn.Module):
    """Logits of a linear model of a text's words and word pairs, which are added to those of the recurrent network.

    Wide and deep learning (Cheng et al., 2016): the linear part learns from few rows which words stand for a class,
    the network what their order and meaning add. Every n-gram is hashed to one of a fixed number of buckets
    (Weinberger et al., 2009; of word pairs, Joulin et al., 2017). A bucket has a row of the table: a logit for each
    class, 0 before training. The rows of a text are weighted by inverse document frequency (Spärck Jones, 1972), and
    their sum is divided by the Euclidean norm of the weights. A bucket can belong to one n-gram alone, so that others
    with the same hash do not count: most texts have word pairs that no training text has, and which would otherwise
    vote by chance. N-grams that no training text has weigh nothing.

    `rnn_hf.training.linear_fit.fit_ngrams` finds the best table for some rows at once, which is more accurate than
    steps of gradient descent. The network then learns apart from the branch (`factor_alone`), and what the two add up
    to is an ensemble.

    Args:
        config: `ngram_buckets`, `ngram_order` and the number of labels.

    Attributes:
        table: The logits of every bucket. Shape of its weight `(ngram_buckets, num_labels)`.
        bias: Logits that every text gets. Shape `(num_labels,)`.
        idf: Weight of every bucket by its inverse document frequency, 1 until it is set. Shape `(ngram_buckets,)`.
        owners: The n-gram that each bucket belongs to; -1: to all. int32 of shape `(ngram_buckets,)`.
        factor_alone: In training mode, the logits of the model are those of the network alone, times this. `None`:
            they are the sum, as in evaluation mode, and both parts are trained together.
    """

    idf: Tensor
    owners: Tensor

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.num_buckets = config.ngram_buckets
        self.order = config.ngram_order
        num_labels = config.num_labels or 0
        self.table = nn.EmbeddingBag(config.ngram_buckets, num_labels, mode="sum")
        self.bias = nn.Parameter(torch.zeros(num_labels))
        self.register_buffer("idf", torch.ones(config.ngram_buckets))
        self.register_buffer("owners", torch.full((config.ngram_buckets,), -1, dtype=torch.int32))
        self.factor_alone: float | None = None

    def forward(self, input_ids: Tensor | None, mask: Tensor | None, is_dropped: Tensor | None = None) -> Tensor:
        """Return the logits of the texts.

        Args:
            input_ids: Ids of the tokens. Shape `(batch_size, sequence_length)`.
            mask: `True` for tokens; `None` if everything is one. Shape `(batch_size, sequence_length)`.
            is_dropped: `True` for words that word dropout removes, alone and in pairs; `None` for none. Same shape.

        Returns:
            Logits of shape `(batch_size, num_labels)`, the bias for a text without n-grams.

        Raises:
            ValueError: If there are no ids.
        """
        if input_ids is None:
            raise ValueError(
                "`inputs_embeds` cannot be given to a model with `ngram_buckets`, which counts words by their ids. "
                "Pass `input_ids`."
            )
        ngrams, counts = self.ngrams_of(input_ids, mask, is_dropped)
        if ngrams.numel() == 0:  # nothing to look up, which the layer refuses
            return self.bias.expand(len(ngrams), -1)
        buckets = ngrams % self.num_buckets
        owners = self.owners[buckets]
        weights = self.idf[buckets] * ((owners == ngrams) | (owners < 0))
        if counts is not None:
            weights = weights * counts
        norms = weights.float().square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        logits: Tensor = self.table(buckets, per_sample_weights=weights)
        return (logits * (NORM / norms)).to(logits.dtype) + self.bias  # the quotient may be too large for 16 bits

    def ngrams_of(
        self, input_ids: Tensor, mask: Tensor | None, is_dropped: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the numbers of all n-grams, and which of them count.

        The number of a single token is its id, that of a longer n-gram a hash below 2**31; the bucket is the number
        modulo `ngram_buckets`. Neighbours are the tokens that follow one another once padding is left out. The
        arguments are those of `forward`.

        Returns:
            Numbers, int64; `True` for n-grams without padding and dropped words, or `None` if all are. Both of shape
            `(batch_size, num_ngrams)`.
        """
        ids = input_ids.long()
        counts = mask
        if is_dropped is not None:
            counts = ~is_dropped if mask is None else mask & ~is_dropped
        order = None if mask is None else order_of_tokens(mask)
        if order is not None and counts is not None:
            ids, counts = ids.take_along_dim(order, dim=1), counts.take_along_dim(order, dim=1)
        ngrams, counted = [ids], [counts]
        for n in range(1, min(self.order, max(1, ids.shape[1]))):
            # remainders keep the products of longer n-grams within 64 bits, too
            ngrams.append((ngrams[-1][:, :-1] * _FACTORS[0] + ids[:, n:] * _FACTORS[1]) % (2**31 - 1))
            last = counted[-1]
            counted.append(None if last is None or counts is None else last[:, :-1] & counts[:, n:])
        return torch.cat(ngrams, dim=1), None if counts is None else torch.cat(counted, dim=1)  # type: ignore[arg-type]  # all are tensors

    def train_together(self) -> None:
        """Let steps of gradient descent change the branch together with the network, as they do in a new model."""
        self.factor_alone = None
        self.requires_grad_(True)


__all__ = ["NORM", "NGramBranch"]
