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
"""Recurrent language models, their cache for generation, and the adaptive softmax."""

from dataclasses import fields
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from .configuration_rnn import CACHE_NAMES, RNNConfig
from .layers_rnn import RNNDropout, refuse_final_states
from .modeling_rnn import RNNForSequenceClassification, RNNForTokenClassification, RNNModel, RNNPreTrainedModel
from .ngrams_rnn import NGramBranch  # noqa: F401  # transformers up to 5.10 misses what an import imports
from .outputs_rnn import RNNModelOutput  # noqa: F401  # as above
from .pooling_rnn import RNNPooler  # noqa: F401  # as above
from .recurrences_rnn import GRURecurrence  # noqa: F401  # as above

CACHE_NAME = next(name for name in CACHE_NAMES if name in {entry.name for entry in fields(CausalLMOutputWithPast)})

# Label that losses ignore
IGNORED_LABEL = -100


class RNNCacheLayer(CacheLayerMixin):
    """The states of all layers after the text read so far; their size does not depend on its length.

    Attributes:
        hidden_state: Shape `(batch_size, num_hidden_layers, hidden_size)`.
        cell_state: The cell state of an LSTM, of the same shape; `None` for the other cells.
        num_tokens: Number of positions read so far, padding included.
    """

    is_sliding = False
    hidden_state: Tensor | None
    cell_state: Tensor | None
    num_tokens: int

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers does not type it
        self.reset()

    def advance(self, hidden_state: Tensor, cell_state: Tensor | None, num_tokens: int) -> None:
        """Set the state after reading `num_tokens` more positions."""
        # without detaching, the graph would grow with every piece of a text
        self.hidden_state = hidden_state.detach()
        self.cell_state = None if cell_state is None else cell_state.detach()
        self.num_tokens += num_tokens
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: a recurrent state has no keys and values."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Raise an error, for the same reason; recurrent models call `advance`."""
        raise RuntimeError("A recurrent state has no keys and values. Pass the cache to a model of this package.")

    def get_seq_length(self) -> int:
        """Return the number of positions read so far."""
        return self.num_tokens

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length of a mask over all positions, and its offset."""
        return self.num_tokens + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: the length is not limited."""
        return -1

    get_max_cache_shape = get_max_length

    def reset(self) -> None:
        """Forget everything."""
        self.hidden_state = self.cell_state = None
        self.num_tokens, self.is_initialized = 0, False

    def crop(self, *args: Any, **kwargs: Any) -> None:
        """Raise an error: a recurrent state cannot go back to an earlier token."""
        raise RuntimeError("A recurrent state cannot be cropped. Read the shorter text from its start.")

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Make row `i` continue from the state of row `beam_idx[i]` (beam search)."""
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
        """Number of rows; -1 before the first token."""
        return -1 if self.hidden_state is None else len(self.hidden_state)


class RNNCache(Cache):
    """The state of a language model, which `generate` passes from token to token.

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
    """Recurrent language model: `RNNModel` and an output layer that shares the word vectors.

    With `adaptive_softmax_cutoffs`, the probability of a word is the probability of its cluster times the probability
    of the word within the cluster: an exact distribution, of which training computes only the parts it needs (Grave et
    al., 2017). The words before the first cutoff share a softmax with one vector per cluster. All words keep vectors
    of full size, which can therefore be shared with the embedding.

    `bidirectional=True` is rejected, because a backward direction would read the words to be predicted. If hidden
    states and word vectors differ in size, a linear layer projects the states. Nothing is pooled.

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
    # transformers executes a file twice if it is named here and also imported by another file named here, and objects
    # of a class that was defined twice cannot be pickled; so all models are named in the one file that imports the
    # others
    auto_map = {
        "AutoConfig": "configuration_rnn.RNNConfig",
        "AutoModel": "causal_lm_rnn.RNNModel",
        "AutoModelForCausalLM": "causal_lm_rnn.RNNForCausalLM",
        "AutoModelForSequenceClassification": "causal_lm_rnn.RNNForSequenceClassification",
        "AutoModelForTokenClassification": "causal_lm_rnn.RNNForTokenClassification",
    }
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    # weights of other heads
    _keys_to_ignore_on_load_unexpected = [r"^(classifier|pooler)\."]
    # accumulated batches have different numbers of labels, and the loss is the mean over all of them
    accepts_loss_kwargs = True
    # assisted generation would have to set the state back to an earlier token, which is impossible
    _is_stateful = True

    def __init__(self, config: RNNConfig) -> None:
        if config.bidirectional:
            raise ValueError(
                "A language model needs `bidirectional=False`, got True: the backward direction would read the words "
                "to be predicted."
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
        cache: RNNCache | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_logits: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        r"""Predict the next word at each position of a batch of texts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Ids of the tokens.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding, on either side or in between. Defaults to 1 everywhere. The mask may also
                cover the text before; only its end is used.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                Word vectors to use instead of `input_ids`.
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                The input tokens, which the model shifts so that each position predicts the next token. The loss
                ignores -100, the label for padding.
            cache (`RNNCache`, *optional*):
                State after the preceding text, from which the model continues; it is updated in place. Gradients do
                not flow back into it. The name that older versions of transformers use for this argument is accepted,
                too.
            use_cache (`bool`, *optional*):
                Whether to return the state after the text. Defaults to `config.use_cache` in evaluation mode, and to
                `False` in training mode unless a `cache` is given.
            output_hidden_states (`bool`, *optional*):
                Whether to return the word vectors and the states of every layer. Defaults to
                `config.output_hidden_states`.
            output_logits (`bool`, *optional*):
                Whether to return the logits. Defaults to `True`, except in training with labels, where the loss does
                not need all `batch_size * sequence_length * vocab_size` of them.
            logits_to_keep (`int` or `torch.LongTensor`, *optional*, defaults to 0):
                Number of last positions to compute logits for, 0 for all; or the positions themselves.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                Divisor of the summed losses: Trainer passes the number of labels in all accumulated batches. Defaults
                to the number of labels in this batch.
            return_dict (`bool`, *optional*):
                Whether to return a `CausalLMOutputWithPast` rather than a plain tuple.
            kwargs:
                `shift_labels`: labels that are already shifted, instead of `labels`. If a text is read in pieces, the
                last label of a piece is the first token of the next piece. All other arguments are ignored, because
                generic code passes the same ones to every model.

        Returns:
            The loss and the logits: scores before softmax or, with an adaptive softmax, log probabilities.
            `softmax(logits)` is the distribution either way.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, the mask has another shape, or
                the cache is not an `RNNCache`.
            TypeError: If `output_final_states` is given, which only the encoder takes.
        """
        refuse_final_states(kwargs)
        if cache is None:
            cache = kwargs.get(CACHE_NAMES[1])
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
            # `generate` pads finished rows, and the encoder would warn about padding without a mask
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
        shift_labels = kwargs.get("shift_labels")  # as a named argument, Trainer would expect it in the data
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

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Resize the vocabulary, and remove clusters of the adaptive softmax that become empty."""
        embeddings: nn.Embedding = super().resize_token_embeddings(*args, **kwargs)
        num_cutoffs = sum(cutoff < len(self.lm_head.weight) for cutoff in self.cutoffs)
        if num_cutoffs == len(self.cutoffs):
            return embeddings
        self.cutoffs = self.cutoffs[:num_cutoffs]
        self.config.adaptive_softmax_cutoffs = self.cutoffs or None
        if self.cutoffs:
            weight, bias = (nn.Parameter(part[:num_cutoffs].detach().clone()) for part in self.clusters.parameters())
            self.clusters.weight, self.clusters.bias, self.clusters.out_features = weight, bias, num_cutoffs
        else:
            del self.clusters
        return embeddings

    @property
    def _bounds(self) -> list[int]:
        """First word of the shortlist and of each cluster, then the vocabulary size."""
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
        """Return the summed losses divided by `num_items`; clusters without labels are not scored."""
        labels = labels.to(vectors.device)
        is_label = labels != IGNORED_LABEL
        vectors, labels = vectors[is_label], labels[is_label]
        if num_items is None:
            num_items = max(1, len(labels))
        elif isinstance(num_items, Tensor):
            num_items = num_items.to(vectors.device)
        bounds = self._bounds
        sizes = [end - start for start, end in pairwise(bounds)]
        # one `split` has one gradient; each slice would have a gradient of full size
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
        """Return `False`: `generate` would create a cache of keys and values; `forward` creates the cache."""
        return False


__all__ = [
    "RNNCache",
    "RNNForCausalLM",
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RNNModel",
]
