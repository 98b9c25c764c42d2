"""Pretrained word vectors from any source, by name: a file, a folder, or a repository on the Hub."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.models import WordLevel

from rnn_hf.configuration_rnn import RNNConfig
from rnn_hf.files import expand_home
from rnn_hf.safe_loading import CONFIG, WEIGHTS, WEIGHTS_INDEX, folder_or_id, read_facts, read_tokenizer

from .model_vectors import (
    TOKENIZER,
    TokenEmbeddings,
    open_token_embeddings,
    read_backend,
    read_token_vectors,
    whole_words,
)
from .word_vectors import WordVectors, file_vectors_width, iterate_file_words, read_model_vectors, read_word_vectors

# A covariance matrix of this width takes half a gigabyte
LARGEST_REDUCED_WIDTH = 8192

_ROWS_AT_A_TIME = 8192


def read_pretrained_vectors(
    name: str, vocabulary: Mapping[str, int], special_tokens: Collection[str] = ()
) -> WordVectors:
    """Return the vectors of the words in a vocabulary, from any source of vectors of words or parts of words.

    | name | vectors |
    |---|---|
    | a file | those of its words, see `read_word_vectors` |
    | a model of this package | those of its own words, special tokens included, see `read_model_vectors` |
    | a model2vec model (Tulkens and van Dongen, 2024) | the mean of the vectors of a word's tokens |
    | any transformers model | the mean of the input embeddings of a word's tokens |

    A file or folder that exists is read before a repository of the same name.

    Args:
        name: Path of a file or folder, or `owner/name` on the Hub.
        vocabulary: Words and their ids.
        special_tokens: Entries of the vocabulary that are not words.

    Raises:
        FileNotFoundError: If nothing of that name exists.
        ValueError: If it has no word vectors, is damaged, or has none of the words.
    """
    source = _open(name)
    if isinstance(source, Path):
        return read_word_vectors(source, vocabulary)
    if isinstance(source, TokenEmbeddings):
        return read_token_vectors(source, vocabulary, special_tokens)
    return read_model_vectors(source["name"], vocabulary)


def vectors_width(name: str) -> int:
    """Return the size of word vectors, from the start of a file or the header of a model's weights.

    Args:
        name: As in `read_pretrained_vectors`.

    Raises:
        FileNotFoundError: If nothing of that name exists.
        ValueError: If it has no word vectors.
    """
    source = _open(name)
    if isinstance(source, Path):
        return file_vectors_width(source)
    if isinstance(source, TokenEmbeddings):
        return source.embedding_size
    width = source["facts"].get("embedding_size", RNNConfig().embedding_size)
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"`embedding_size` of {name!r} must be an integer of at least 1, got {width!r:.40}.")
    return width


def iterate_words(name: str) -> Iterator[str]:
    """Yield the words of pretrained vectors in order; of a model's tokens, those that are whole words.

    Args:
        name: As in `read_pretrained_vectors`.

    Raises:
        FileNotFoundError: If nothing of that name exists.
        ValueError: If it has no word vectors, or is damaged.
    """
    source = _open(name)
    if isinstance(source, Path):
        yield from iterate_file_words(source)
    elif isinstance(source, TokenEmbeddings):
        yield from whole_words(read_backend(source))
    else:
        backend = getattr(read_tokenizer(source["name"]), "backend_tokenizer", None)
        # only words that are tokens have a vector there
        if backend is not None and isinstance(backend.model, WordLevel):
            yield from whole_words(backend)


def reduce_width(vectors: WordVectors, width: int) -> tuple[WordVectors, float]:
    """Return smaller vectors, by principal component analysis (Pearson, 1901; Raunak et al., 2019).

    The vectors are centred and projected on the directions of the largest variance. All numbers are then multiplied by
    one factor, so that their mean square equals that of the centred vectors: the scale does not depend on the original
    size. The sign of a direction is that of its largest entry, so that all machines agree on it.

    Args:
        vectors: Word vectors of at least the size `width`.
        width: Number of directions to keep.

    Returns:
        The reduced vectors, and the share of the variance that they keep, from 0 to 1.

    Raises:
        ValueError: If the vectors are smaller than that, or too large for a covariance matrix.

    Example:
        >>> line = WordVectors(torch.arange(3), torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 3)
        >>> reduced, share = reduce_width(line, 1)
        >>> [round(number, 2) for number in reduced.vectors.flatten().tolist()], round(share, 2)
        ([-3.54, 0.0, 3.54], 1.0)
    """
    if not 1 <= width <= vectors.embedding_size <= LARGEST_REDUCED_WIDTH:
        raise ValueError(
            f"`width` must be at least 1 and at most that of the vectors, which must be at most "
            f"{LARGEST_REDUCED_WIDTH:,}; got {width:,} and {vectors.embedding_size:,}."
        )
    numbers = vectors.vectors.numpy()
    mean = numbers.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((len(mean), len(mean)))
    for start in range(0, len(numbers), _ROWS_AT_A_TIME):
        centred = numbers[start : start + _ROWS_AT_A_TIME] - mean
        scatter += centred.T @ centred
    variances, directions = np.linalg.eigh(scatter)
    kept = directions[:, ::-1][:, :width]
    kept = kept * np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(width)])
    total, ours = float(np.trace(scatter)), float(variances[::-1][:width].clip(0).sum())
    if ours > 0:
        kept = kept * np.sqrt(total / len(mean) / (ours / width))
    reduced = np.empty((len(numbers), width), np.float32)
    for start in range(0, len(numbers), _ROWS_AT_A_TIME):
        reduced[start : start + _ROWS_AT_A_TIME] = (numbers[start : start + _ROWS_AT_A_TIME] - mean) @ kept
    return replace(vectors, vectors=torch.from_numpy(reduced)), ours / total if total > 0 else 1.0


def _open(name: str) -> Path | TokenEmbeddings | dict[str, Any]:
    """Return the path of a file, the embeddings of another model, or name and configuration of one of this package."""
    path = Path(expand_home(name))
    is_model = any((path / file).exists() for file in (CONFIG, WEIGHTS, WEIGHTS_INDEX, TOKENIZER))
    if path.exists() and not is_model:
        return path
    try:
        name = folder_or_id(name)
    except FileNotFoundError:
        return path
    facts = read_facts(name)
    if facts is not None and facts.get("model_type") == RNNConfig.model_type:
        return {"name": name, "facts": facts}
    return open_token_embeddings(name, facts)
