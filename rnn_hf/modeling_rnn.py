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
"""Recurrent text encoders, classifiers and taggers: plain RNN, LSTM and GRU."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from .configuration_rnn import RNNConfig
from .layers_rnn import (
    RNNDropout,
    RNNLayer,
    check_initial_states,
    draw_dropped_words,
    init_recurrent_layer,
    refuse_final_states,
    run_layers,
)
from .ngrams_rnn import NGramBranch
from .outputs_rnn import RNNModelOutput
from .pooling_rnn import RNNPooler, pool_mean
from .recurrences_rnn import GRURecurrence  # noqa: F401  # transformers up to 5.10 misses what an import imports


class RNNPreTrainedModel(PreTrainedModel):
    """Base class of all models: their configuration, the initialization of their weights, and how they are saved."""

    config_class = RNNConfig
    config: RNNConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # Trainer must not expect the loss to be divided by the number of items in all accumulated batches
    accepts_loss_kwargs = False
    _no_split_modules = ["RNNLayer"]
    # classes that the Auto classes load by remote code from a saved folder
    auto_map = {
        "AutoConfig": "configuration_rnn.RNNConfig",
        "AutoModel": "modeling_rnn.RNNModel",
        "AutoModelForSequenceClassification": "modeling_rnn.RNNForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_rnn.RNNForTokenClassification",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize the weights of one module; weights from a checkpoint are kept."""
        if isinstance(module, nn.Embedding):
            config = self.config
            init.normal_(module.weight, config.embedding_initializer_mean, config.embedding_initializer_range)
            # a slice loses the mark of a loaded weight, which has no public name
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            init.uniform_(module.weight, -bound, bound)
            is_drawn = self.config.recurrent_initializer == "uniform" and module is not self.get_output_embeddings()  # type: ignore[no-untyped-call]  # as below
            if module.bias is not None and is_drawn:
                init.uniform_(module.bias, -bound, bound)
            elif module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.EmbeddingBag):
            # apart from the branch, whose other weights a checkpoint with other labels has
            init.zeros_(module.weight)
        elif isinstance(module, NGramBranch):
            init.ones_(module.idf)
            init.zeros_(module.bias)
            init.constant_(module.owners, -1)
        elif isinstance(module, nn.RNNBase):
            init_recurrent_layer(module, self.config.recurrent_initializer)

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save as every transformers model does, with what each Auto class needs to load it by remote code."""
        # replaced, because another kind of model in that folder may have named files that are not copied
        self.config.auto_map = dict(self.auto_map)
        super().save_pretrained(save_directory, *args, **kwargs)
        for weights in Path(save_directory).glob("*.safetensors"):  # safetensors lets only their owner read them
            weights.chmod((weights.parent / "config.json").stat().st_mode)


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
    # weights of the heads
    _keys_to_ignore_on_load_unexpected = [r"^(classifier|ngrams|pooler|lm_head|projection|clusters)\."]

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        # without packing, the padding row is initialized and trained like any other
        padding_idx = config.pad_token_id if config.pack_padded_sequences else None
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx)
        self.embedding_dropout = RNNDropout(config.embedding_dropout)
        input_sizes = [config.embedding_size] + [config.output_size] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(RNNLayer(config, input_size) for input_size in input_sizes)
        self.hidden_dropout = RNNDropout(config.hidden_dropout_prob)
        self.gradient_checkpointing = False
        # constants, because reading the configuration takes microseconds in every batch
        self.uses_mask = config.pack_padded_sequences
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
        r"""Encode a batch of texts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): Ids of the tokens.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding, on either side or in between. Defaults to 1 everywhere.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                Word vectors to use instead of `input_ids`.
            output_hidden_states (`bool`, *optional*):
                Whether to return the word vectors and the states of every layer. Defaults to
                `config.output_hidden_states`.
            output_final_states (`bool`, *optional*, defaults to `True`):
                Whether to return the states after the whole text.
            initial_hidden_state (`torch.Tensor` of shape `(batch_size, num_hidden_layers, hidden_size)`, *optional*):
                `final_hidden_state` of the preceding text, with which a long text can be read in pieces.
            initial_cell_state (`torch.Tensor` of shape `(batch_size, num_hidden_layers, hidden_size)`, *optional*):
                `final_cell_state` of the preceding text, which an LSTM also needs.
            return_dict (`bool`, *optional*): Whether to return an `RNNModelOutput` rather than a plain tuple.
            kwargs: Ignored, because generic code passes the same arguments to every model.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, the mask has another shape, or
                the model cannot start from the given states.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        self.warn_of_padding(input_ids, attention_mask)
        check_initial_states(self.config, initial_hidden_state, initial_cell_state)
        initial_states = [state for state in (initial_hidden_state, initial_cell_state) if state is not None]
        all_states, _, final_states = self.encode(
            input_ids, attention_mask, inputs_embeds, bool(output_hidden_states), output_final_states, initial_states
        )
        final_hidden_state, final_cell_state, *_ = *final_states, None, None
        return RNNModelOutput(
            last_hidden_state=all_states[-1],
            hidden_states=tuple(all_states) if output_hidden_states else None,
            final_hidden_state=final_hidden_state,
            final_cell_state=final_cell_state,
        )

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False,
        output_final_states: bool = False,
        initial_states: Sequence[Tensor] = (),
        is_dropped: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor | None, list[Tensor]]:
        """Return the result of `forward` and the mask for pooling, as plain tensors, which takes less time.

        The arguments are those of `forward`, except for the initial states, which are one sequence, and `is_dropped`,
        the result of `dropped_words`; by default, word dropout is drawn here.

        Returns:
            The word vectors and the states of the top layer, or of all layers; `True` for tokens, of shape
            `(batch_size, sequence_length)`, or `None` without padding; the final hidden states and, for the LSTM, the
            final cell states, if requested. Shapes as in `RNNModelOutput`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Exactly one of `input_ids` and `inputs_embeds` must be given.")
        if is_dropped is None:
            is_dropped = self.dropped_words(input_ids if inputs_embeds is None else inputs_embeds)
        embeddings = self._embed(input_ids, inputs_embeds, is_dropped)
        mask = self._token_mask(embeddings, attention_mask)
        states, final_states = run_layers(
            self.layers,
            self.hidden_dropout,
            embeddings,
            mask,
            output_hidden_states=output_hidden_states,
            output_final_states=output_final_states,
            initial_states=initial_states,
        )
        return [embeddings, *states], mask, final_states

    def warn_of_padding(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> None:
        """Warn once about padding without a mask; the check takes too long for `encode`. Shapes as in `forward`."""
        if input_ids is not None and input_ids.numel() and self.uses_mask:
            self.warn_if_padding_and_no_attention_mask(  # type: ignore[no-untyped-call]  # as above
                input_ids, attention_mask
            )

    def _token_mask(self, embeddings: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """Return `True` for tokens, of shape `(batch_size, sequence_length)`; `None` if all positions are tokens."""
        if attention_mask is None:
            return None
        if attention_mask.shape != embeddings.shape[:2]:
            raise ValueError(
                f"`attention_mask` must have the shape {tuple(embeddings.shape[:2])} of the tokens, "
                f"got {tuple(attention_mask.shape)}."
            )
        if not self.uses_mask:
            return None
        mask = attention_mask.to(device=embeddings.device, dtype=torch.bool)
        return None if bool(mask.all()) else mask

    def dropped_words(self, words: Tensor | None) -> Tensor | None:
        """Return `True` for the words that word dropout replaces; `None` outside training.

        Args:
            words: `input_ids` or `inputs_embeds` of `forward`.
        """
        if words is None or not (self.training and self.config.word_dropout):
            return None
        return draw_dropped_words(words, self.config.word_dropout)

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None, is_dropped: Tensor | None) -> Tensor:
        """Return word vectors, with dropout in training. Shape `(batch_size, sequence_length, embedding_size)`."""
        unknown = self.config.unk_token_id
        if input_ids is not None and input_ids.numel() == 0:
            input_ids = input_ids.long()  # tokenizers return an empty text as a tensor of floats
        if is_dropped is not None and input_ids is not None:
            input_ids = torch.where(is_dropped, unknown, input_ids)  # type: ignore[arg-type]  # the configuration checked it
        embeddings: Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if is_dropped is not None and inputs_embeds is not None:
            embeddings = torch.where(is_dropped.unsqueeze(-1), self.embed_tokens.weight[unknown], embeddings)
        # calling a module without effect takes microseconds
        return self.embedding_dropout(embeddings) if self.training else embeddings


class RNNForSequenceClassification(RNNPreTrainedModel):
    """Recurrent text classifier: `RNNModel`, pooling, and a linear layer; with `ngram_buckets`, an n-gram branch.

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
        self.num_labels: int = config.num_labels or 0  # a number in every configuration
        self.concat_embedding_mean = config.concat_embedding_mean
        self.model = RNNModel(config)
        self.pooler = RNNPooler(config)
        self.classifier_dropout = RNNDropout(config.classifier_dropout)
        pooled_size = self.pooler.output_size + (config.embedding_size if config.concat_embedding_mean else 0)
        self.classifier = nn.Linear(pooled_size, self.num_labels)
        self.ngrams = NGramBranch(config) if config.ngram_buckets else None
        self.post_init()  # type: ignore[no-untyped-call]  # transformers does not type it

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers does not type it
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        r"""Classify a batch of texts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): Ids of the tokens.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding, on either side or in between. Defaults to 1 everywhere.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                Word vectors to use instead of `input_ids`.
            labels (`torch.Tensor` of shape `(batch_size,)` or `(batch_size, num_labels)`, *optional*):
                Class ids (cross-entropy); one float per label (binary cross-entropy); or numbers (mean squared error),
                with `num_labels=1` or `problem_type="regression"`.
            output_hidden_states (`bool`, *optional*):
                Whether to return the word vectors and the states of every layer. Defaults to
                `config.output_hidden_states`.
            return_dict (`bool`, *optional*): Whether to return an object rather than a plain tuple.
            kwargs: Ignored, because generic code passes the same arguments to every model.

        Returns:
            The loss, if `labels` are given, and the scores before softmax (the predicted numbers of a regression), of
            shape `(batch_size, num_labels)`.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, or the mask has another shape.
            TypeError: If `output_final_states` is given, which is an argument of the encoder only.
        """
        refuse_final_states(kwargs)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        self.model.warn_of_padding(input_ids, attention_mask)
        branches, _, all_states = self.classify(input_ids, attention_mask, inputs_embeds, bool(output_hidden_states))
        logits, loss = sum(branches[1:], branches[0]), None
        if labels is not None:
            # a mean in 16 bits would be too coarse
            scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss = self.loss_function(labels=labels, pooled_logits=scores, config=self.config)
        states = tuple(all_states) if output_hidden_states else None
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=states)

    def classify(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Return the result of `forward` and the pooled vectors as plain tensors, a third faster for a single text.

        The arguments are those of `forward`.

        Returns:
            The logits of the recurrent network and of the n-gram branch, of shape `(batch_size, num_labels)`, whose
            sum are the logits of the model (without the branch, while the network is trained apart from it); the
            vector of each text before dropout, 0 for a text without tokens, of shape
            `(batch_size, classifier.in_features)`; the states that `RNNModel.encode` returns.
        """
        is_dropped = self.model.dropped_words(input_ids if inputs_embeds is None else inputs_embeds)
        all_states, mask, _ = self.model.encode(
            input_ids, attention_mask, inputs_embeds, output_hidden_states, is_dropped=is_dropped
        )
        pooled = self.pooler(all_states[-1], mask)
        if self.concat_embedding_mean:
            pooled = torch.cat([pooled, pool_mean(all_states[0], mask)], dim=-1)
        branches = [self.classifier(self.classifier_dropout(pooled) if self.training else pooled)]
        if self.training and self.ngrams is not None and self.ngrams.factor_alone is not None:
            branches[0] = branches[0] * self.ngrams.factor_alone
        elif self.ngrams is not None:
            branches.append(self.ngrams(input_ids, mask, is_dropped))
        return branches, pooled, all_states


class RNNForTokenClassification(RNNPreTrainedModel):
    """Recurrent tagger: `RNNModel` and a linear layer over every position.

    With `bidirectional=True`, the label of a token depends on both sides of it, otherwise only on the tokens before
    it. Nothing is pooled: `classifier_pooling` and `concat_embedding_mean` have no effect.

    Args:
        config: The configuration.

    Example:
        >>> model = RNNForTokenClassification(RNNConfig(vocab_size=10, bidirectional=True, num_labels=5)).eval()
        >>> model(torch.tensor([[7, 8, 9]])).logits.shape
        torch.Size([1, 3, 5])
    """

    _auto_class = "AutoModelForTokenClassification"
    # accumulated batches have different numbers of labels, and the loss is the mean over all of them
    accepts_loss_kwargs = True

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels or 0  # a number in every configuration
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
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        r"""Tag the tokens of a batch of texts.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*): Ids of the tokens.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                1 for tokens, 0 for padding, on either side or in between. Defaults to 1 everywhere. Ignore the logits
                of padding.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, embedding_size)`, *optional*):
                Word vectors to use instead of `input_ids`.
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Class ids (cross-entropy). The loss ignores the label -100: use it for padding and, if a word has one
                label and several tokens, for all but the first token.
            output_hidden_states (`bool`, *optional*):
                Whether to return the word vectors and the states of every layer. Defaults to
                `config.output_hidden_states`.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                Divisor of the summed losses: Trainer passes the number of labels in all accumulated batches. Defaults
                to the number of labels in this batch.
            return_dict (`bool`, *optional*): Whether to return a `TokenClassifierOutput` rather than a plain tuple.
            kwargs: Ignored, because generic code passes the same arguments to every model.

        Returns:
            The loss, if `labels` are given, and the scores before softmax, of shape
            `(batch_size, sequence_length, num_labels)`.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, or the mask has another shape.
            TypeError: If `output_final_states` is given, which is an argument of the encoder only.
        """
        refuse_final_states(kwargs)
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_final_states=False,
            return_dict=True,
        )
        logits, loss = self.classifier(self.classifier_dropout(outputs.last_hidden_state)), None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, num_items_in_batch=num_items_in_batch)
        return TokenClassifierOutput(loss=loss, logits=logits, hidden_states=outputs.hidden_states)


__all__ = ["RNNForSequenceClassification", "RNNForTokenClassification", "RNNModel", "RNNPreTrainedModel"]
