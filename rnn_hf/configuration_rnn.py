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
"""The configuration of the recurrent text classifiers and language models."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

CellType = Literal["rnn", "lstm", "gru"]
ClassifierPooling = Literal["last", "mean", "max", "attention", "mean_max", "mean_max_last"]
RecurrentInitializer = Literal["orthogonal", "uniform"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]

# Argument of transformers for the state of a language model: the first name since version 5.24, the second before
CACHE_NAMES = ("cache", "past_key_values")

# Fields that describe labels beyond their names
FIELDS_OF_LABELS = ("problem_type", "label_thresholds", "has_integer_labels")


@strict
class RNNConfig(PreTrainedConfig):
    r"""Configuration of a recurrent text classifier or language model, with any of the three cells.

    Args:
        vocab_size (`int`, *optional*, defaults to 30000):
            Number of word vectors.
        pad_token_id (`int`, *optional*, defaults to 0):
            Id of the padding token.
        unk_token_id (`int`, *optional*, defaults to 1):
            Id of the unknown word, which also replaces the words that word dropout removes.
        bos_token_id (`int`, *optional*):
            Id of a token at the start of every text. The model itself does not use it.
        eos_token_id (`int`, *optional*):
            Id of a token at the end of every text. The model itself does not use it.
        embedding_size (`int`, *optional*, defaults to 64):
            Size of the word vectors.
        hidden_size (`int`, *optional*, defaults to 64):
            Size of the hidden state in one direction; `output_size` counts both directions.
        num_hidden_layers (`int`, *optional*, defaults to 1):
            Number of stacked recurrent layers.
        cell_type (`str`, *optional*, defaults to `"lstm"`):
            `"rnn"` (Elman, 1990), `"lstm"` (Hochreiter and Schmidhuber, 1997) or `"gru"` (Cho et al., 2014).
        bidirectional (`bool`, *optional*, defaults to `False`):
            Whether each layer also reads the text from end to start.
        classifier_pooling (`str`, *optional*, defaults to `"mean"`):
            How the hidden states of a text become one vector. `"last"`: the state of each direction after reading the
            whole text; `"mean"` and `"max"`: over the tokens; `"attention"`: a learned weighted mean (Zhou et al.,
            2016); `"mean_max"` and `"mean_max_last"`: concatenated (Howard and Ruder, 2018).
        concat_embedding_mean (`bool`, *optional*, defaults to `False`):
            Whether the mean of the word vectors is concatenated to the pooled states before the classifier.
        ngram_buckets (`int`, *optional*, defaults to 0):
            Number of hash buckets of the words and word pairs in a classifier's n-gram branch; 0 for no such branch.
        ngram_order (`int`, *optional*, defaults to 2):
            Maximum number of words in an n-gram of that branch.
        pack_padded_sequences (`bool`, *optional*, defaults to `True`):
            Whether padding is skipped. With `False`, the attention mask is ignored everywhere, and the padding token
            is a word like any other: the logits of a text then depend on its batch.
        embedding_dropout (`float`, *optional*, defaults to 0.3):
            Dropout probability of the entries of word vectors.
        hidden_dropout_prob (`float`, *optional*, defaults to 0.0):
            Dropout probability of the hidden states between two layers.
        classifier_dropout (`float`, *optional*, defaults to 0.3):
            Dropout probability of the pooled vector before the classifier, or of the hidden states before the output
            layer of a language model.
        word_dropout (`float`, *optional*, defaults to 0.3):
            Share of tokens that training replaces with the unknown word (Iyyer et al., 2015).
        embedding_initializer_mean (`float`, *optional*, defaults to 0.0):
            Mean of the normal distribution that initializes the word vectors.
        embedding_initializer_range (`float`, *optional*, defaults to 0.1):
            Standard deviation of that distribution.
        recurrent_initializer (`str`, *optional*, defaults to `"orthogonal"`):
            `"orthogonal"`: orthogonal recurrent matrices of the gates (Saxe et al., 2014), input matrices as in Glorot
            and Bengio (2010), and zero biases, except for the forget gate of an LSTM, which starts at one (Jozefowicz
            et al., 2015). `"uniform"`: all weights uniform within one over the square root of `hidden_size`, as in
            torch.
        calibration_temperature (`float`, *optional*, defaults to 1.0):
            Divisor that calibrated the classifier's weight and bias after training (Guo et al., 2017). The model
            itself does not use it.
        label_thresholds (`list[float]`, *optional*):
            With several labels per text, minimum probability at which `TextClassifier` predicts each label. Defaults
            to 0.5 for all. The model itself does not use it.
        has_integer_labels (`bool`, *optional*, defaults to `False`):
            Whether the names of the labels are integers, which `TextClassifier` then predicts as `int`. The model
            itself does not use it.
        text_column_names (`list[str]`, *optional*):
            Columns that made up the text in the training data, and in which `rnn-hf predict` finds the texts of a
            table. The model itself does not use them.
        adaptive_softmax_cutoffs (`list[int]`, *optional*):
            First ids of the tail clusters of a language model's adaptive softmax (Grave et al., 2017), in ascending
            order; words should be sorted by descending frequency. Training then scores the words before the first
            cutoff for every token, but those of a cluster only for tokens in it. Defaults to one softmax over the
            whole vocabulary.
        reads_backward (`bool`, *optional*, defaults to `False`):
            Whether a language model was trained on reversed texts, last token first. The model itself does not use it:
            the caller reverses the texts.
        tie_word_embeddings (`bool`, *optional*, defaults to `True`):
            Whether a language model's output layer shares the word vectors (Press and Wolf, 2017).
        use_cache (`bool`, *optional*, defaults to `True`):
            Whether a language model returns its state in evaluation mode, so that `generate` reads every token once.

    Example:
        >>> from rnn_hf import RNNConfig
        >>> config = RNNConfig(cell_type="gru", hidden_size=32, bidirectional=True)
        >>> config.output_size
        64
    """

    model_type: ClassVar[str] = "rnn_hf"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["final_hidden_state", "final_cell_state", *CACHE_NAMES]
    _auto_class: ClassVar[str | None] = "AutoConfig"

    vocab_size: int = 30_000
    pad_token_id: int | None = 0
    unk_token_id: int | None = 1
    # transformers reads both when it warns about padding without a mask
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    embedding_size: int = 64
    hidden_size: int = 64
    num_hidden_layers: int = 1
    cell_type: CellType = "lstm"
    bidirectional: bool = False
    classifier_pooling: ClassifierPooling = "mean"
    concat_embedding_mean: bool = False
    ngram_buckets: int = 0
    ngram_order: int = 2
    pack_padded_sequences: bool = True
    embedding_dropout: float | int = 0.3
    hidden_dropout_prob: float | int = 0.0
    classifier_dropout: float | int = 0.3
    word_dropout: float | int = 0.3
    embedding_initializer_mean: float | int = 0.0
    embedding_initializer_range: float | int = 0.1
    recurrent_initializer: RecurrentInitializer = "orthogonal"
    calibration_temperature: float | int = 1.0
    # transformers does not check the values of its own fields in subclasses
    problem_type: ProblemType | None = None
    label_thresholds: list[float] | None = None
    has_integer_labels: bool = False
    text_column_names: list[str] | None = None
    adaptive_softmax_cutoffs: list[int] | None = None
    reads_backward: bool = False
    tie_word_embeddings: bool = True
    use_cache: bool = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; new labels reset the fields that describe the old ones, unless these are set again."""
        before = self.__dict__.get("id2label")
        super().__setattr__(name, value)  # type: ignore[no-untyped-call]  # transformers does not type it
        if name != "id2label" or not before or not value:
            return
        if self.has_integer_labels and not all(str(label).lstrip("-").isdecimal() for label in value.values()):
            self.has_integer_labels = False
        if len(before) != len(value):
            self.label_thresholds = None
            if 1 in (len(before), len(value)):  # from classes to a number, or from a number to classes
                self.problem_type = None

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "RNNConfig":
        """Return the configuration that a dictionary describes, with some values replaced (see `PreTrainedConfig`)."""
        # in this order: the fields that describe labels after the labels
        kwargs |= {name: kwargs.pop(name) for name in FIELDS_OF_LABELS if name in kwargs}
        config: RNNConfig = super().from_dict(config_dict, **kwargs)
        return config

    @property
    def num_directions(self) -> int:
        """Number of directions in which each layer reads a text: 1, or 2 with `bidirectional`."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Size of a layer's states, with both directions."""
        return self.num_directions * self.hidden_size

    @property
    def resolved_problem_type(self) -> ProblemType:
        """`problem_type`, or its default: a regression with one output, else one class per text."""
        default: ProblemType = "regression" if self.num_labels == 1 else "single_label_classification"
        return self.problem_type or default

    def validate_sizes(self) -> None:
        """Check that every size is at least one."""
        for name in ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "ngram_order"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.ngram_buckets < 0:
            raise ValueError(f"`ngram_buckets` must be at least 0, got {self.ngram_buckets}.")

    def validate_token_ids(self) -> None:
        """Check that the special tokens are in the vocabulary, and that those in use exist."""
        for name in ("pad_token_id", "unk_token_id"):
            token_id = getattr(self, name)
            if token_id is not None and not 0 <= token_id < self.vocab_size:
                raise ValueError(
                    f"`{name}` must be from 0 to `vocab_size - 1` ({self.vocab_size - 1}), got {token_id}."
                )
        if self.word_dropout and self.unk_token_id is None:
            raise ValueError("`word_dropout` needs an unknown word. Set `unk_token_id`, or `word_dropout=0`.")

    def validate_probabilities(self) -> None:
        """Check that every dropout is a probability below one."""
        for name in ("embedding_dropout", "hidden_dropout_prob", "classifier_dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {getattr(self, name)}.")

    def validate_labels(self) -> None:
        """Check that labels are numbered from 0, so that each logit has one, and that their names differ."""
        if self.id2label is None:
            return
        if not self.id2label:
            raise ValueError("`id2label` must have at least one label, got none.")
        ids = sorted(self.id2label)
        if ids != list(range(len(ids))):
            raise ValueError(f"`id2label` must have the ids from 0 to {len(ids) - 1}, got {ids[:5]}.")
        twice = [name for name, count in Counter(map(str, self.id2label.values())).items() if count > 1]
        if twice:
            raise ValueError(f"`id2label` must have different names, got {twice[0]!r} twice.")

    def validate_thresholds(self) -> None:
        """Check that there is a threshold for every label, and that each is a probability."""
        thresholds = self.label_thresholds
        if thresholds is None:
            return
        if len(thresholds) != self.num_labels or not all(0 <= threshold <= 1 for threshold in thresholds):
            raise ValueError(
                f"`label_thresholds` must be a number from 0 to 1 for each of {self.num_labels} labels, "
                f"got {thresholds!r:.80}."
            )

    def validate_cutoffs(self) -> None:
        """Check that the cutoffs of the adaptive softmax divide the vocabulary into parts that are not empty."""
        cutoffs = self.adaptive_softmax_cutoffs
        if cutoffs is None:
            return
        if not cutoffs or any(end <= start for start, end in pairwise([0, *cutoffs, self.vocab_size])):
            raise ValueError(
                f"`adaptive_softmax_cutoffs` must rise, from 1 at least to `vocab_size - 1` ({self.vocab_size - 1}) "
                f"at most, got {cutoffs}."
            )

    def validate_initializer(self) -> None:
        """Check that word vectors are drawn with a finite mean and a finite, non-negative standard deviation."""
        if not 0 <= self.embedding_initializer_range < math.inf:
            raise ValueError(
                f"`embedding_initializer_range` must be at least 0 and finite, got {self.embedding_initializer_range}."
            )
        if not math.isfinite(self.embedding_initializer_mean):
            raise ValueError(
                f"`embedding_initializer_mean` must be a finite number, got {self.embedding_initializer_mean}."
            )

    def validate_calibration(self) -> None:
        """Check that the temperature is positive and finite."""
        if not 0 < self.calibration_temperature < math.inf:
            raise ValueError(
                f"`calibration_temperature` must be above 0 and finite, got {self.calibration_temperature}."
            )


__all__ = ["RNNConfig"]
