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
"""Recurrent text encoders and classifiers: plain RNN, LSTM and GRU."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput, can_return_tuple

from .configuration_rnn import RNNConfig

RECURRENT_LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

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
class RNNSequenceClassifierOutput(ModelOutput):
    """What `RNNForSequenceClassification` returns.

    Args:
        loss: Mean loss of the batch; only with `labels`. A scalar.
        logits: Scores before softmax (or the numbers, for regression). Shape `(batch_size, num_labels)`.
        hidden_states: As in `RNNModelOutput`.
        final_hidden_state: As in `RNNModelOutput`; only with `output_final_states`.
        final_cell_state: As in `RNNModelOutput`; only with `output_final_states`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    final_hidden_state: Tensor | None = None
    final_cell_state: Tensor | None = None


def pool_last(states: Tensor, mask: Tensor, bidirectional: bool) -> Tensor:
    """Return the state each direction holds after reading the whole sequence.

    The backward direction finishes at the *first* token, so its half of the vector is read there; at the last token it
    has seen one token only.

    Args:
        states: States of a layer. Shape `(batch_size, sequence_length, num_directions * hidden_size)`.
        mask: `True` for tokens, wherever they stand. Shape `(batch_size, sequence_length)`.
        bidirectional: Whether the second half of the last dimension runs from the end to the start.

    Returns:
        Pooled states, 0 for a text without tokens. Shape `(batch_size, num_directions * hidden_size)`.

    Example:
        >>> states = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [0.0, 0.0]]])
        >>> pool_last(states, torch.tensor([[True, True, False]]), bidirectional=True)
        tensor([[ 2., 10.]])
    """
    rows = torch.arange(len(states), device=states.device)
    positions = torch.arange(mask.shape[1], device=mask.device)
    at_last = states[rows, (mask * positions).argmax(dim=1)]
    if bidirectional:
        forward_half, _ = at_last.chunk(2, dim=-1)
        _, backward_half = states[rows, mask.int().argmax(dim=1)].chunk(2, dim=-1)
        at_last = torch.cat([forward_half, backward_half], dim=-1)
    return at_last * mask.any(dim=1, keepdim=True)


def pool_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the tokens.

    Args:
        states: Any vectors. Shape `(batch_size, sequence_length, size)`.
        mask: `True` for tokens. Shape `(batch_size, sequence_length)`.

    Returns:
        Means, 0 for a text without tokens. Shape `(batch_size, size)`.

    Example:
        >>> pool_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (states * mask.unsqueeze(-1)).sum(dim=1) / lengths.to(states.dtype)


def pool_max(states: Tensor, mask: Tensor) -> Tensor:
    """Return the greatest value of each feature over the tokens.

    Args:
        states: Any vectors. Shape `(batch_size, sequence_length, size)`.
        mask: `True` for tokens. Shape `(batch_size, sequence_length)`.

    Returns:
        Maxima, 0 for a text without tokens. Shape `(batch_size, size)`.

    Example:
        >>> pool_max(torch.tensor([[[-1.0], [-3.0], [0.0]]]), torch.tensor([[True, True, False]]))
        tensor([[-1.]])
    """
    lowest = torch.finfo(states.dtype).min
    maxima = states.masked_fill(~mask.unsqueeze(-1), lowest).amax(dim=1)
    return maxima * mask.any(dim=1, keepdim=True)


class RNNAttentionPooling(nn.Module):
    """A mean of the states, weighted by a learned vector (Zhou et al., 2016)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the weighted means. Shapes as in `pool_mean`."""
        scores = self.score(torch.tanh(states)).squeeze(-1)  # (batch, time)
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

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return pooled states of shape `(batch_size, output_size)`; the other shapes are those of `pool_last`."""
        if states.shape[1] == 0:
            return states.new_zeros(len(states), self.output_size)
        return torch.cat([self._pool(part, states, mask) for part in self.parts], dim=-1)

    def _pool(self, part: str, states: Tensor, mask: Tensor) -> Tensor:
        if part == "last":
            return pool_last(states, mask, self.bidirectional)
        if part == "mean":
            return pool_mean(states, mask)
        if part == "max":
            return pool_max(states, mask)
        attended: Tensor = self.attention(states, mask)
        return attended


class RNNLayer(GradientCheckpointingLayer):
    """One recurrent layer over right-padded texts of any length."""

    def __init__(self, config: RNNConfig, input_size: int) -> None:
        super().__init__()
        self.bidirectional = config.bidirectional
        self.recurrent = RECURRENT_LAYERS[config.cell_type](
            input_size, config.hidden_size, batch_first=True, bidirectional=config.bidirectional
        )

    def forward(
        self, hidden_states: Tensor, mask: Tensor | None = None, needs_cell_state: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Read the texts.

        A plain run over the padding is exact for one direction: what follows a text cannot change its states. Packing
        is needed where the backward reading must start on the last token, or the cell state after it is asked for.

        Args:
            hidden_states: Word vectors or the states of the layer below. Shape `(batch_size, sequence_length, size)`.
            mask: `True` for tokens, which stand at the front; `None` where nothing is padded.
                Shape `(batch_size, sequence_length)`.
            needs_cell_state: Whether the LSTM's cell state after each text is asked for.

        Returns:
            States, 0 where the mask is `False`, of shape `(batch_size, sequence_length, output_size)`, and the final
            cell state, of shape `(batch_size, num_directions, hidden_size)`, or `None`.
        """
        if hidden_states.is_cuda:
            self.recurrent.flatten_parameters()
        if mask is None:
            states, final = self.recurrent(hidden_states)
        elif self.bidirectional or needs_cell_state:
            lengths = mask.sum(dim=1).clamp(min=1).cpu()
            packed = pack_padded_sequence(hidden_states, lengths, batch_first=True, enforce_sorted=False)
            packed_states, final = self.recurrent(packed)
            states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=mask.shape[1])
            states = states * mask.unsqueeze(-1)
        else:
            states, final = self.recurrent(hidden_states)
            states = states * mask.unsqueeze(-1)
        if not (needs_cell_state and isinstance(final, tuple)):
            return states, None
        cell_state = final[1].transpose(0, 1)  # (batch, num_directions, hidden)
        return states, cell_state if mask is None else cell_state * mask.any(dim=1)[:, None, None]


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
            if module.bias is not None:
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

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        # the padded classifiers of old draw and train the padding row like any other
        padding_idx = config.pad_token_id if config.pack_padded_sequences else None
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)
        input_sizes = [config.embedding_size] + [config.output_size] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(RNNLayer(config, input_size) for input_size in input_sizes)
        self.hidden_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.gradient_checkpointing = False
        self.post_init()  # type: ignore[no-untyped-call]  # transformers does not type it

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers does not type it
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_final_states: bool = True,
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
            return_dict (`bool`, *optional*):
                Whether to return an `RNNModelOutput` rather than a plain tuple.
            kwargs:
                Ignored, so that what generic code passes to every model does not break this one.

        Raises:
            ValueError: If not exactly one of `input_ids` and `inputs_embeds` is given, or the mask has another shape.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Exactly one of `input_ids` and `inputs_embeds` must be given.")
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        embeddings = self._embed(input_ids, inputs_embeds, attention_mask)
        mask = self.token_mask(embeddings, attention_mask)

        states, order = embeddings, None
        is_without_tokens = embeddings.shape[1] == 0
        if is_without_tokens:  # torch's layers refuse to read nothing: let them read one padding
            states, mask = F.pad(embeddings, (0, 0, 0, 1)), F.pad(mask, (0, 1))
        is_padded = not bool(mask.all())
        if is_padded and bool((mask[:, 1:] > mask[:, :-1]).any()):
            # tokens behind a gap: bring them to the front in their order, and put the states back at the end
            order = mask.int().argsort(dim=1, descending=True, stable=True)
            states = states.take_along_dim(order.unsqueeze(-1), dim=1)
            mask = mask.take_along_dim(order, dim=1)

        all_states, final_hidden_states, final_cell_states = [embeddings], [], []
        for index, layer in enumerate(self.layers):
            if index:
                states = self.hidden_dropout(states)
            states, cell_state = layer(
                states,
                mask=mask if is_padded else None,
                needs_cell_state=output_final_states and self.config.cell_type == "lstm",
            )
            if output_final_states:
                final = pool_last(states, mask, self.config.bidirectional)
                final_hidden_states.append(final.unflatten(-1, (self.config.num_directions, -1)))
            if cell_state is not None:
                final_cell_states.append(cell_state)
            if output_hidden_states or index + 1 == len(self.layers):
                restored = (
                    states if order is None else states.take_along_dim(order.argsort(dim=1).unsqueeze(-1), dim=1)
                )
                all_states.append(restored[:, :0] if is_without_tokens else restored)

        return RNNModelOutput(
            last_hidden_state=all_states[-1],
            hidden_states=tuple(all_states) if output_hidden_states else None,
            final_hidden_state=torch.cat(final_hidden_states, dim=1) if final_hidden_states else None,
            final_cell_state=torch.cat(final_cell_states, dim=1) if final_cell_states else None,
        )

    def token_mask(self, vectors: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Return which positions are read and pooled.

        Args:
            vectors: Word vectors or states. Shape `(batch_size, sequence_length, size)`.
            attention_mask: The mask that `forward` was given, or `None`. Shape `(batch_size, sequence_length)`.

        Returns:
            `True` for what counts as a token: all of them without a mask or with `pack_padded_sequences=False`.
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
        if attention_mask is None or not self.config.pack_padded_sequences:
            return torch.ones(shape, dtype=torch.bool, device=vectors.device)
        return attention_mask.to(device=vectors.device, dtype=torch.bool)

    def _embed(self, input_ids: Tensor | None, inputs_embeds: Tensor | None, attention_mask: Tensor | None) -> Tensor:
        word_dropout = self.config.word_dropout if self.training else 0.0
        if input_ids is not None:
            if input_ids.numel() == 0:
                input_ids = input_ids.long()  # tokenizers return an empty text as a tensor of floats
            elif self.config.pack_padded_sequences:
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
        self.model = RNNModel(config)
        self.pooler = RNNPooler(config)
        self.classifier_dropout = nn.Dropout(config.classifier_dropout)
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
    ) -> RNNSequenceClassifierOutput:
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
                Whether to return an `RNNSequenceClassifierOutput` rather than a plain tuple.
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
            output_hidden_states=output_hidden_states or self.config.concat_embedding_mean,
            output_final_states=output_final_states,
            return_dict=True,
        )
        mask = self.model.token_mask(outputs.last_hidden_state, attention_mask)
        pooled = self.pooler(outputs.last_hidden_state, mask)
        if self.config.concat_embedding_mean:
            pooled = torch.cat([pooled, pool_mean(outputs.hidden_states[0], mask)], dim=-1)
        logits = self.classifier(self.classifier_dropout(pooled))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return RNNSequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states if output_hidden_states else None,
            final_hidden_state=outputs.final_hidden_state,
            final_cell_state=outputs.final_cell_state,
        )


HEADS: tuple[type[RNNPreTrainedModel], ...] = (RNNModel, RNNForSequenceClassification)

__all__ = ["RNNForSequenceClassification", "RNNModel", "RNNPreTrainedModel"]
