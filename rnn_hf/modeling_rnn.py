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
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput, can_return_tuple

from .configuration_rnn import RNNConfig
from .layers_rnn import RNNDropout, RNNLayer
from .pooling_rnn import RNNPooler, pool_last, pool_mean


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


class RNNPreTrainedModel(PreTrainedModel):
    """What all models of the family share: their configuration, how weights are drawn, how they are saved."""

    config_class = RNNConfig
    config: RNNConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    # Trainer must not expect the loss to be divided by the number of items of all accumulated batches
    accepts_loss_kwargs = False
    _no_split_modules = ["RNNLayer"]
    # what each Auto class loads, by remote code, from a folder that such a model was saved in
    auto_map = {
        "AutoConfig": "configuration_rnn.RNNConfig",
        "AutoModel": "modeling_rnn.RNNModel",
        "AutoModelForSequenceClassification": "modeling_rnn.RNNForSequenceClassification",
        "AutoModelForTokenClassification": "modeling_rnn.RNNForTokenClassification",
    }

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
        # replaced: what another kind of model left there may name files that do not come along
        self.config.auto_map = dict(self.auto_map)
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


__all__ = [
    "RNNForSequenceClassification",
    "RNNForTokenClassification",
    "RNNModel",
    "RNNPreTrainedModel",
]
