"""The arguments that are fields of `RNNConfig`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from rnn_hf.argument_fields import CheckedArguments, flag, names_of
from rnn_hf.configuration_rnn import CellType, ClassifierPooling, RecurrentInitializer


@dataclass(kw_only=True)
class ModelArguments(CheckedArguments):
    """The fields of `RNNConfig`, with its defaults; the configuration checks their ranges."""

    group: ClassVar[str] = "model"

    vocab_size: int = flag(30_000, "Maximum size of the vocabulary, including [PAD] and [UNK].")
    embedding_size: int = flag(64, "Size of the word vectors.")
    hidden_size: int = flag(64, "Size of the hidden state in one direction.")
    num_hidden_layers: int = flag(1, "Number of recurrent layers.")
    cell_type: CellType = flag("lstm", "Recurrent cell.")
    bidirectional: bool = flag(False, "Whether each layer also reads the text from end to start.")
    classifier_pooling: ClassifierPooling = flag("mean", "How the hidden states of a text become one vector.")
    concat_embedding_mean: bool = flag(
        False, "Whether the mean of the word vectors is concatenated to the pooled states."
    )
    ngram_buckets: int = flag(
        0, "Number of hash buckets of the n-grams whose weights are added to the logits; 0 turns n-grams off."
    )
    ngram_order: int = flag(2, "Maximum number of words in an n-gram.")
    pack_padded_sequences: bool = flag(
        True, "Whether padding is skipped; `false` is for the padded classifiers of AI for Beginners, lesson 16."
    )
    embedding_dropout: float = flag(0.3, "Dropout probability of the entries of word vectors.")
    hidden_dropout_prob: float = flag(0.0, "Dropout probability of the hidden states between two layers.")
    classifier_dropout: float = flag(0.3, "Dropout probability of the pooled vector.")
    word_dropout: float = flag(0.3, "Share of tokens that training replaces with the unknown word.")
    embedding_initializer_mean: float = flag(0.0, "Mean of the normal distribution of new word vectors.")
    embedding_initializer_range: float = flag(
        0.1, "Standard deviation of the normal distribution of new word vectors."
    )
    recurrent_initializer: RecurrentInitializer = flag("orthogonal", "Initialization of the recurrent weights.")


@dataclass(kw_only=True)
class LanguageModelArguments(ModelArguments):
    """The fields of `RNNConfig` for a language model, some with other defaults."""

    embedding_size: int = flag(256, "Size of the word vectors, which are also the weights of the output layer.")
    hidden_size: int = flag(256, "Size of the hidden state.")
    word_dropout: float = flag(0.0, "Share of tokens that training replaces with the unknown word.")
    classifier_dropout: float = flag(0.3, "Dropout probability of the hidden states before the output layer.")
    adaptive_softmax_cutoffs: list[int] | None = flag(
        None, "First ids of the tail clusters of the adaptive softmax. Default: one softmax over the vocabulary."
    )
    reads_backward: bool = flag(False, "Whether each text is read from its last token to its first.")


def model_settings(args: ModelArguments) -> dict[str, Any]:
    """Return the arguments that are fields of `RNNConfig`."""
    known = LanguageModelArguments if isinstance(args, LanguageModelArguments) else ModelArguments
    return {name: getattr(args, name) for name in names_of(known)}
