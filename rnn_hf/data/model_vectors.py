"""Word vectors from the token embeddings of another model: of model2vec, or of any transformers model."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel

from rnn_hf.errors import one_line
from rnn_hf.onnx_classifier import encodable, flatten
from rnn_hf.safe_loading import (
    WEIGHTS,
    file_of,
    open_weights,
    part_of,
    read_tokenizer,
    refuse_foreign_settings,
    weight_parts,
)

from .word_vectors import WordVectors

TOKENIZER = "tokenizer.json"

# The matrix of model2vec, and that of sentence-transformers' `StaticEmbedding`, which is the only weight in its file
STATIC_MATRIX, STATIC_EMBEDDING = "embeddings", "embedding.weight"

# Marks of the first token of a word in byte-level BPE (Radford et al., 2019) and in SentencePiece
WORD_STARTS = ("\u0120", "\u2581")

# Maximum numbers in memory at a time
ROWS_AT_A_TIME = 8192
WORDS_AT_A_TIME = 8192

# Number of tokens that show whether a tokenizer marks the start of words: it marks all words or none
PROBED_TOKENS = 50


@dataclass(frozen=True)
class TokenEmbeddings:
    """The embeddings of the tokens of a model, which are read from its file row by row.

    Attributes:
        name: Folder or repository of the model.
        matrix: Slice of a safetensors file. Shape `(num_rows, embedding_size)`.
        scale: Factor of all numbers.
        weights: Factor of each token's row, or `None`. Shape `(num_tokens,)`.
        mapping: Row of each token, or `None` if it is the token's id. Shape `(num_tokens,)`.
        is_static: Whether the model is from model2vec, not from transformers.
    """

    name: str
    matrix: Any
    scale: float
    weights: np.ndarray | None
    mapping: np.ndarray | None
    is_static: bool

    @property
    def embedding_size(self) -> int:
        """Size of the vectors."""
        return int(self.matrix.get_shape()[1])

    @property
    def num_tokens(self) -> int:
        """Number of tokens with a vector."""
        lengths = [len(array) for array in (self.weights, self.mapping) if array is not None]
        return min(lengths) if self.mapping is not None else min([self.matrix.get_shape()[0], *lengths])

    def rows(self, tokens: np.ndarray) -> np.ndarray:
        """Return the vectors of tokens.

        Args:
            tokens: Ids below `num_tokens`. Shape `(n,)`.

        Returns:
            Shape `(n, embedding_size)`, float32.

        Raises:
            ValueError: If a vector is not finite.
        """
        wanted, positions = np.unique(tokens if self.mapping is None else self.mapping[tokens], return_inverse=True)
        read = np.empty((len(wanted), self.embedding_size), np.float32)
        for start in range(0, int(wanted.max(initial=-1)) + 1, ROWS_AT_A_TIME):
            first, last = np.searchsorted(wanted, [start, start + ROWS_AT_A_TIME])
            if first < last:
                part = self.matrix[start : int(wanted[last - 1]) + 1].to(torch.float32).numpy()
                read[first:last] = part[wanted[first:last] - start] * self.scale
        vectors = read[positions]
        if self.weights is not None:
            vectors *= self.weights[tokens][:, None]
        if not np.isfinite(vectors).all():
            raise ValueError(
                f"The vectors of {self.name!r} must be finite numbers, got NaN or infinity. Pass another model."
            )
        return vectors


def open_token_embeddings(name: str, facts: dict[str, Any] | None, **hub: Any) -> TokenEmbeddings:
    """Open the input embeddings of a model, without reading more than the header of their file.

    Weights are read from safetensors files only, and no code beside a model is run. The name of the input embeddings
    is found by building the model without memory for its weights.

    Args:
        name: Folder, or `owner/name` on the Hub.
        facts: Content of its `config.json`, or `None` if it has none.
        hub: `revision`, `token`, `cache_dir` and `local_files_only`, as in transformers.

    Raises:
        ValueError: If the weights are missing, a pickle or damaged, or the model needs code of its own or has no token
            embeddings.
    """
    parts = weight_parts(name, **hub)
    static = (
        STATIC_MATRIX if STATIC_MATRIX in parts else STATIC_EMBEDDING if set(parts) == {STATIC_EMBEDDING} else None
    )
    key = static or _input_embeddings(name, facts, parts, hub)
    file = open_weights(part_of(name, parts[key], hub))
    matrix = file.get_slice(key)
    shape, dtype = matrix.get_shape(), matrix.get_dtype()
    if len(shape) != 2 or 0 in shape or not (dtype.startswith(("F", "BF")) or (static and dtype == "I8")):
        raise ValueError(f"`{key}` in {name!r} must be a matrix of numbers, got {dtype} of the shape {shape}.")
    of_tokens = {
        part: file.get_tensor(part).numpy() if static and part in parts else None for part in ("weights", "mapping")
    }
    for part, array in of_tokens.items():
        if array is not None and (array.ndim != 1 or (part == "mapping") != np.issubdtype(array.dtype, np.integer)):
            raise ValueError(
                f"`{part}` in {name!r} must have a number for each token, got {array.dtype} {array.shape}."
            )
    mapping = of_tokens["mapping"]
    if mapping is not None and mapping.size and not 0 <= mapping.min() <= mapping.max() < shape[0]:
        raise ValueError(
            f"`mapping` in {name!r} must name rows below {shape[0]}, got {mapping.min()} to {mapping.max()}."
        )
    scale = 1 / np.iinfo(np.int8).max if dtype == "I8" else 1.0
    return TokenEmbeddings(name, matrix, scale, of_tokens["weights"], mapping, static is not None)


def read_token_vectors(
    embeddings: TokenEmbeddings, vocabulary: Mapping[str, int], special_tokens: Collection[str] = (), **hub: Any
) -> WordVectors:
    """Return a vector for each word whose tokens are all known to the other model: the mean of their vectors.

    Args:
        embeddings: The embeddings of the other model.
        vocabulary: Words and their ids.
        special_tokens: Entries of the vocabulary that are not words.
        hub: As in `open_token_embeddings`.

    Raises:
        ValueError: If the tokenizer cannot be loaded, a vector is not finite, or no word has a vector.
    """
    backend = read_backend(embeddings, **hub)
    words = [word for word in vocabulary if word not in special_tokens]
    tokens, lengths = _encode(backend, words)
    unknown = _unknown_token(backend)
    has_vector = (tokens < embeddings.num_tokens) & (tokens != (-1 if unknown is None else unknown))
    word_of_token = np.repeat(np.arange(len(words)), lengths)
    is_found = (lengths > 0) & (np.bincount(word_of_token[~has_vector], minlength=len(words)) == 0)
    if not is_found.any():
        raise ValueError(
            f"The model in {embeddings.name!r} has none of the {len(words):,} words. Pass one of the same language."
        )
    tokens, lengths = tokens[is_found[word_of_token]], lengths[is_found]
    ends = np.cumsum(lengths)
    vectors = np.empty((len(lengths), embeddings.embedding_size), np.float32)
    # the rows of all tokens at once would take more memory than the vectors of the words
    distinct, positions = np.unique(tokens, return_inverse=True)
    rows = embeddings.rows(distinct)
    for start in range(0, len(lengths), WORDS_AT_A_TIME):
        stop = min(start + WORDS_AT_A_TIME, len(lengths))
        starts = ends[start:stop] - lengths[start:stop]
        sums = np.add.reduceat(rows[positions[starts[0] : ends[stop - 1]]], starts - starts[0], axis=0)
        vectors[start:stop] = sums / lengths[start:stop, None]
    ids = torch.tensor([vocabulary[word] for word, found in zip(words, is_found, strict=True) if found])
    return WordVectors(ids, torch.from_numpy(vectors), len(words))


def read_backend(embeddings: TokenEmbeddings, **hub: Any) -> Tokenizer:
    """Return the tokenizer of the model of some embeddings, without truncation and padding.

    Args:
        embeddings: The embeddings.
        hub: As in `open_token_embeddings`.

    Raises:
        ValueError: If it cannot be loaded, or is not one of the library `tokenizers`.
    """
    name = embeddings.name
    if embeddings.is_static:
        path = file_of(name, TOKENIZER, hub)
        if path is None:
            raise ValueError(f"{name!r} has a {WEIGHTS} of model2vec, but no {TOKENIZER}. Save both together.")
        try:
            backend = Tokenizer.from_file(str(path))
        except Exception as error:  # `tokenizers` has no class of its own for unreadable files
            raise ValueError(f"{str(path)!r} cannot be loaded: {one_line(error)}") from error
    else:
        found: Any = getattr(read_tokenizer(name, **hub), "backend_tokenizer", None)
        if not isinstance(found, Tokenizer):
            raise ValueError(
                f"The tokenizer of {name!r} must be a fast tokenizer, got one in Python. Pass another model."
            )
        backend = found
    backend.no_truncation()
    backend.no_padding()
    # a word that looks like a special token is still a word
    backend.encode_special_tokens = True
    return backend


def whole_words(backend: Tokenizer) -> Iterator[str]:
    """Yield the tokens that are whole words, in the order of their ids, without the mark at the start of a word.

    Args:
        backend: The tokenizer.

    Example:
        >>> from tokenizers.models import WordPiece
        >>> list(whole_words(Tokenizer(WordPiece({"[UNK]": 0, "cat": 1, "##s": 2}, unk_token="[UNK]"))))
        ['[UNK]', 'cat']
    """
    special = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    vocabulary = backend.get_vocab()
    continuation = json.loads(backend.to_str())["model"].get("continuing_subword_prefix") or None
    mark = _mark_of_words(vocabulary)
    for token, token_id in sorted(vocabulary.items(), key=lambda item: item[1]):
        if token in special or (continuation and token.startswith(continuation)):
            continue
        if mark is None:
            yield token
        elif token.startswith(mark):
            # byte-level tokens encode the bytes of non-ASCII characters
            yield token[1:] if token[1:].isascii() else backend.decode([token_id]).strip()


def _mark_of_words(vocabulary: Mapping[str, int]) -> str | None:
    """Return the mark of tokens that start a word, or `None` if the tokenizer has no such mark."""
    counts = {mark: sum(token.startswith(mark) for token in vocabulary) for mark in WORD_STARTS}
    mark = max(counts, key=lambda key: counts[key])
    # single tokens with such a character may be in any vocabulary
    return mark if counts[mark] > len(vocabulary) // 20 else None


def _blank_before_words(backend: Tokenizer) -> str:
    """Return the prefix with which a word alone is tokenized as inside a text: a space, or nothing."""
    vocabulary = backend.get_vocab()
    mark = _mark_of_words(vocabulary)
    if mark is None:
        return ""
    marked = [token for token in vocabulary if token.startswith(mark)]
    words = [token for token in marked if token[1:].isascii() and token[1:].isalpha()][:PROBED_TOKENS]
    hits = {
        blank: sum(backend.encode(blank + word[1:], add_special_tokens=False).tokens == [word] for word in words)
        for blank in ("", " ")
    }
    return max(hits, key=lambda blank: hits[blank])


def _encode(backend: Tokenizer, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of all words in one array, and the number of tokens of each word."""
    blank = _blank_before_words(backend)
    parts = []
    for start in range(0, len(words), WORDS_AT_A_TIME):
        batch = [blank + encodable(word) for word in words[start : start + WORDS_AT_A_TIME]]
        parts.append(flatten([entry.ids for entry in backend.encode_batch_fast(batch, add_special_tokens=False)]))
    if not parts:
        return flatten([])
    return np.concatenate([tokens for tokens, _ in parts]), np.concatenate([lengths for _, lengths in parts])


def _unknown_token(backend: Tokenizer) -> int | None:
    """Return the id of the unknown token, or `None`."""
    facts = json.loads(backend.to_str())["model"]
    token = facts.get("unk_token")
    return facts.get("unk_id") if token is None else backend.token_to_id(token)


def _input_embeddings(name: str, facts: dict[str, Any] | None, parts: Mapping[str, str], hub: dict[str, Any]) -> str:
    """Return the name of the input embeddings among the weights of a transformers model."""
    if facts is None:
        raise ValueError(
            f"{name!r} has neither a config.json nor `{STATIC_MATRIX}` in its {WEIGHTS}. Pass another model."
        )
    refuse_foreign_settings(name, facts)
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **hub)
        if getattr(config, "num_hidden_layers", 0) > len(parts):
            raise ValueError(f"it has {config.num_hidden_layers} layers but {len(parts)} weights")
        with torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=False, attn_implementation="eager")
        embeddings = model.get_input_embeddings()
    except Exception as error:  # errors in a configuration surface in the code of each model
        raise ValueError(
            f"The configuration of {name!r} is not that of a transformers model: {one_line(error)}"
        ) from error
    if not isinstance(embeddings, nn.Embedding):
        raise ValueError(f"{name!r} ({config.model_type}) has no input embeddings of tokens. Pass another model.")
    names: list[str] = [
        key for key, weight in model.named_parameters(remove_duplicate=False) if weight is embeddings.weight
    ]
    prefix = f"{model.base_model_prefix}."
    keys = [*names, *(prefix + key for key in names), *(key.removeprefix(prefix) for key in names)]
    found = [key for key in keys if key in parts]
    found = found or [key for key in parts if any(key.endswith(f".{other}") for other in names)]
    if not found:
        raise ValueError(
            f"The weights in {name!r} must have the input embeddings `{names[0]}`, got none. Pass another model."
        )
    return found[0]
