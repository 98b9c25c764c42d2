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

# Odd numbers, with which every bucket can be reached; products with any token id fit into 64 bits
FACTORS = (1_000_003, 998_244_353)

# A prime number, which the numbers of longer n-grams stay below
LARGEST_HASH = 2**31 - 1

# Norm of a text's vector: with the norm of its weights, gradients would be too small for the usual optimizers
NORM = 5.0


class NGramBranch(nn.Module):
    """Logits of a linear model of the words and word pairs in a text, added to those of the recurrent network.

    Wide and deep learning (Cheng et al., 2016): the linear part learns from few rows which words indicate a class, the
    network learns what their order and meaning add. Every n-gram is hashed to one of a fixed number of buckets
    (Weinberger et al., 2009; for word pairs, Joulin et al., 2017). A bucket is a row of the table: a logit for each
    class, 0 before training. The rows of a text are weighted by inverse document frequency (Spärck Jones, 1972), and
    their sum is divided by the Euclidean norm of the weights. A bucket can belong to a single n-gram, so that others
    with the same hash do not count: most texts have word pairs that occur in no training text and would otherwise add
    random logits. N-grams that occur in no training text have the weight 0.

    `rnn_hf.training.ngram_fit.fit_ngrams` computes the best table for some rows directly, which is more accurate than
    gradient descent. The network is then trained apart from the branch (`factor_alone`), and their sum is an ensemble.

    Args:
        config: `ngram_buckets`, `ngram_order` and the number of labels.

    Attributes:
        table: Logits of every bucket. Shape of its weight `(ngram_buckets, num_labels)`.
        bias: Logits added for every text. Shape `(num_labels,)`.
        idf: Inverse document frequency of every bucket, 1 until it is set. Shape `(ngram_buckets,)`.
        owners: The n-gram that each bucket belongs to, -1 for all n-grams. int32 of shape `(ngram_buckets,)`.
        factor_alone: In training mode, the logits of the model are those of the network alone, times this factor. With
            `None`, they are the sum, as in evaluation mode, and both parts are trained together.
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
            mask: `True` for tokens; `None` without padding. Shape `(batch_size, sequence_length)`.
            is_dropped: `True` for words that word dropout removes, from word pairs too; `None` for none. Same shape.

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
        buckets, weights, scale = self.weighted_buckets(input_ids, mask, is_dropped)
        if buckets.numel() == 0:  # nothing to look up, which the layer rejects
            return self.bias.expand(len(buckets), -1)
        logits: Tensor = self.table(buckets, per_sample_weights=weights)
        return (logits * scale).to(logits.dtype) + self.bias  # the scale may be too large for 16 bits

    def weighted_buckets(
        self, input_ids: Tensor, mask: Tensor | None = None, is_dropped: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bucket of each n-gram, its weight, and the factor of the weighted sum; arguments as in `forward`.

        Returns:
            Buckets, int64, and weights, 0 for n-grams that do not count, in the order of `ngrams_of`, both of shape
            `(batch_size, num_ngrams)`; factors of shape `(batch_size, 1)`.
        """
        ngrams, counts = self.ngrams_of(input_ids, mask, is_dropped)
        buckets = ngrams % self.num_buckets
        owners = self.owners[buckets]
        weights = self.idf[buckets] * ((owners == ngrams) | (owners < 0))
        if counts is not None:
            weights = weights * counts
        norms = weights.float().square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        return buckets, weights, NORM / norms

    def ngrams_of(
        self, input_ids: Tensor, mask: Tensor | None, is_dropped: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the numbers of all n-grams, and which of them count.

        The number of a single token is its id; the number of a longer n-gram is a hash below 2**31. The bucket is the
        number modulo `ngram_buckets`. Tokens are adjacent if only padding is between them. The arguments are those of
        `forward`.

        Returns:
            Numbers, int64; `True` for n-grams without padding and dropped words, or `None` if all count. Both of shape
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
            # remainders keep the products of longer n-grams within 64 bits
            ngrams.append((ngrams[-1][:, :-1] * FACTORS[0] + ids[:, n:] * FACTORS[1]) % LARGEST_HASH)
            last = counted[-1]
            counted.append(None if last is None or counts is None else last[:, :-1] & counts[:, n:])
        return torch.cat(ngrams, dim=1), None if counts is None else torch.cat(counted, dim=1)  # type: ignore[arg-type]  # all are tensors

    def train_together(self) -> None:
        """Train the branch together with the network by gradient descent, as in a new model."""
        self.factor_alone = None
        self.requires_grad_(True)


__all__ = ["FACTORS", "LARGEST_HASH", "NORM", "NGramBranch"]
