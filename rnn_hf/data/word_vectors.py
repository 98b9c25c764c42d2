"""Pretrained word vectors, read from files or models and copied into an embedding."""

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, TextIOWrapper
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from rnn_hf.modeling_rnn import RNNModel
from rnn_hf.safe_loading import check_model, read_tokenizer

from .binary_vectors import (
    FASTTEXT_MAGIC,
    LARGEST_EXPANSION,
    fasttext_width,
    fasttext_words,
    read_fasttext_model,
    read_word2vec_binary,
    word2vec_entries,
    word2vec_width,
)

Format = Literal["text", "word2vec", "fasttext"]

_HEADER = re.compile(r"[0-9]{1,18} [0-9]{1,18}")

# Number of characters; a file without line breaks, or a small gzip file of one, must not fill the memory
LONGEST_LINE = 2**20


@dataclass(frozen=True)
class WordVectors:
    """Vectors for the words of a vocabulary that have one in a file or model.

    Attributes:
        ids: Ids of the words with a vector. Shape `(num_found,)`, int64.
        vectors: Their vectors. Shape `(num_found, embedding_size)`, float32.
        vocab_size: Number of words in the vocabulary.
    """

    ids: Tensor
    vectors: Tensor
    vocab_size: int

    @property
    def embedding_size(self) -> int:
        """Size of the vectors."""
        return self.vectors.shape[1]

    @property
    def coverage(self) -> float:
        """Share of the vocabulary that has a vector, from 0 to 1."""
        return len(self.ids) / self.vocab_size

    def __str__(self) -> str:
        return f"{len(self.ids):,} of {self.vocab_size:,} words ({self.coverage:.1%}) have a vector".replace("%", " %")


def read_word_vectors(path: str | PathLike[str], vocabulary: Mapping[str, int]) -> WordVectors:
    """Read the vectors of the words in a vocabulary from a file, whose format is recognized by its content.

    - GloVe's text format (Pennington et al., 2014): each line holds a word, which may contain spaces, and numbers,
      separated by single spaces.
    - word2vec's text format (Mikolov et al., 2013), and fastText's `.vec`: the same after a line `count width`. The
      file may have fewer words than `count`, as when it was truncated on purpose.
    - word2vec's binary format.
    - A fastText model (`.bin`; Bojanowski et al., 2017), which also has vectors for words it does not contain.

    Only vectors of words in the vocabulary are kept, so memory grows with the vocabulary, not with the file. If a word
    occurs twice, its first vector is used.

    Args:
        path: The file, plain or, unless it is a fastText model, gzipped.
        vocabulary: Words and their ids.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a file of word vectors, is damaged, or has none of the words.
    """
    path = Path(path)
    found: dict[int, np.ndarray]
    with _opened(path) as (file_format, file, lines, largest_size):
        if file_format == "fasttext":
            found = read_fasttext_model(path, vocabulary)
        elif file_format == "word2vec":
            found = read_word2vec_binary(file, path, vocabulary, largest_size)
        else:
            found = _read_text(_text_entries(lines, path), path, vocabulary)
    if not found:
        raise ValueError(
            f"None of the {len(vocabulary):,} words of the vocabulary is in {path}. Pass vectors of the same language "
            "and letter case."
        )
    return WordVectors(torch.tensor(list(found)), torch.from_numpy(np.stack(list(found.values()))), len(vocabulary))


def iterate_file_words(path: str | PathLike[str]) -> Iterator[str]:
    """Yield the words of a file of word vectors in its order, from most to least frequent in the usual files.

    The file is read only as far as words are requested.

    Args:
        path: The file, as in `read_word_vectors`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a file of word vectors, or is damaged.
    """
    path = Path(path)
    with _opened(path) as (file_format, file, lines, largest_size):
        if file_format == "text":
            for _, line, width in _text_entries(lines, path):
                yield line.rsplit(" ", width)[0]
            return
        binary = fasttext_words(path) if file_format == "fasttext" else word2vec_entries(file, path, largest_size)
        for entry in binary:
            word = entry if isinstance(entry, bytes) else entry[0]
            # what is not UTF-8 cannot be a word of a text
            with suppress(UnicodeDecodeError):
                yield word.decode()


def file_vectors_width(path: str | PathLike[str]) -> int:
    """Return the size of the vectors in a file, of which only the start is read.

    Args:
        path: The file, as in `read_word_vectors`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a file of word vectors.
    """
    path = Path(path)
    with _opened(path) as (file_format, file, lines, largest_size):
        if file_format == "fasttext":
            return fasttext_width(path)
        if file_format == "word2vec":
            return word2vec_width(file, path, largest_size)
        return next((width for _, _, width in _text_entries(lines, path)), 0)


def read_model_vectors(folder: str | Path, vocabulary: Mapping[str, int]) -> WordVectors:
    """Read the word vectors of a saved `rnn_hf` model, for the words that its vocabulary shares with another.

    Args:
        folder: Folder of the model and its tokenizer.
        vocabulary: Words and their ids.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it is not a complete model with its tokenizer, or has none of the words.
    """
    check_model(folder)
    theirs = read_tokenizer(folder).get_vocab()
    embeddings: nn.Embedding = RNNModel.from_pretrained(folder, use_safetensors=True).embed_tokens
    words = [word for word in vocabulary if theirs.get(word, math.inf) < len(embeddings.weight)]
    if not words:
        raise ValueError(f"The model in {str(folder)!r} has none of the {len(vocabulary):,} words. Pass another.")
    rows = embeddings.weight.detach().float()[[theirs[word] for word in words]]
    return WordVectors(torch.tensor([vocabulary[word] for word in words]), rows, len(vocabulary))


@torch.no_grad()
def initialize_embeddings(
    weight: Tensor,
    word_vectors: WordVectors,
    *,
    padding_idx: int | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Copy word vectors into an embedding, in place.

    Rows without a vector are drawn from a normal distribution with the mean and standard deviation of all numbers in
    the vectors, so that words with and without a vector have the same scale (Kim, 2014).

    Args:
        weight: Weight of the embedding. Shape `(vocab_size, embedding_size)`.
        word_vectors: The vectors.
        padding_idx: Row that is left unchanged.
        generator: Generator of the draws, on the CPU. Defaults to torch's global generator.

    Raises:
        ValueError: If the vectors do not fit the weight.
    """
    num_rows, embedding_size = weight.shape
    if word_vectors.embedding_size != embedding_size:
        raise ValueError(
            f"The file has vectors of {word_vectors.embedding_size} numbers but the embedding has {embedding_size}. "
            f"Pass `embedding_size={word_vectors.embedding_size}`."
        )
    if int(word_vectors.ids.max()) >= num_rows:
        raise ValueError(
            f"The vocabulary has the id {int(word_vectors.ids.max())} but the embedding has {num_rows} rows. "
            "Pass the vocabulary of the model's own tokenizer."
        )
    mean, spread = word_vectors.vectors.mean().item(), word_vectors.vectors.std(correction=0).item()
    rows = torch.empty(num_rows, embedding_size).normal_(mean, spread, generator=generator)
    rows[word_vectors.ids] = word_vectors.vectors
    if padding_idx is not None:
        rows[padding_idx] = weight[padding_idx].to(rows)
    weight.copy_(rows)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Format, BufferedReader, TextIOWrapper, int]]:
    """Open a file of any format; errors of reading it name it.

    Yields:
        The format, the unpacked file at its start, the same as lines of text, and the largest possible size of it
        in bytes.
    """
    if path.is_dir():
        raise ValueError(
            f"`word_vectors` must be a file, got the directory {path}. Pass a file in it, or a folder with a model."
        )
    if not path.exists():
        raise FileNotFoundError(
            f"`word_vectors` must be a file, a folder of a model or `owner/name` on the Hub, but there is none at "
            f"{path}. Check the path."
        )
    with _errors_of_reading(path):
        with path.open("rb") as file:
            is_gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_gzipped else path.open("rb") as raw:
            file = BufferedReader(raw)
            start = file.read(2**16)
            file.seek(0)
            file_format: Format = "text"
            if start.startswith(FASTTEXT_MAGIC):
                if is_gzipped:
                    raise ValueError(f"{path} is a gzipped fastText model. Unpack it with `gunzip`.")
                file_format = "fasttext"
            elif _is_word2vec_binary(start):
                file_format = "word2vec"
            elif b"\0" in start:
                raise ValueError(f"{path} must be text, got binary data. Convert it to GloVe's text format.")
            # Only "\n" ends a line: a word may be another character that Unicode counts as a line break
            lines = TextIOWrapper(file, encoding="utf-8", newline="\n")
            yield file_format, file, lines, path.stat().st_size * (LARGEST_EXPANSION if is_gzipped else 1)


def _is_word2vec_binary(start: bytes) -> bool:
    """Return whether a file that starts with these bytes has binary data after word2vec's first line."""
    header, _, rest = start.partition(b"\n")
    if not _HEADER.fullmatch(header.decode("latin-1")):
        return False
    first_line = rest.partition(b"\n")[0].decode("latin-1").rstrip(" \r")
    if _count_numbers(first_line) >= max(1, int(header.split()[1])):
        return False
    try:
        # the last character may be incomplete
        rest[:-3].decode("utf-8") if len(start) == 2**16 else rest.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return min(rest, default=255) < 9  # the tab character is the smallest byte in a text


def _numbered_lines(file: TextIOWrapper, path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines without their line breaks, numbered from 1."""
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE), ""), start=1):
        if len(line) == LONGEST_LINE:
            raise ValueError(
                f"{path} must have lines of less than {LONGEST_LINE:,} characters, got more on line {number}. Fix it."
            )
        yield number, line.rstrip(" \r\n")


def _text_entries(lines: TextIOWrapper, path: Path) -> Iterator[tuple[int, str, int]]:
    """Yield the lines that hold a word and its numbers: the number of the line, the line, how many numbers it has."""
    width, num_vectors = 0, 0
    for number, line in _numbered_lines(lines, path):
        if number == 1 and _HEADER.fullmatch(line):
            width = int(line.split()[1])
            if width == 0:
                raise ValueError(f"{path} must have a number for each word, got a width of 0 on line 1. Fix it.")
            continue
        if not line:
            continue
        width = width or _count_numbers(line)
        surplus = line.count(" ") - width
        if width == 0 or surplus < 0 or (surplus > 0 and _count_numbers(line) > width):
            expected = f"a word and {width} numbers" if width else "a word and its numbers"
            raise ValueError(f"{path} must have {expected} on each line, got {line[:40]!r} on line {number}. Fix it.")
        num_vectors += 1
        yield number, line, width
    if not num_vectors:
        raise ValueError(f"{path} must have a word and its numbers on each line, got no such line. Pass another file.")


def _read_text(
    entries: Iterable[tuple[int, str, int]], path: Path, vocabulary: Mapping[str, int]
) -> dict[int, np.ndarray]:
    """Return the vectors by word id, from lines of text."""
    # A word, which may contain spaces, is looked up only if its part before the first space is one of these
    first_parts = {word.partition(" ")[0] for word in vocabulary}
    found: dict[int, np.ndarray] = {}
    for number, line, width in entries:
        if line.partition(" ")[0] not in first_parts:
            continue
        word, *numbers = line.rsplit(" ", width)
        word_id = vocabulary.get(word)
        if word_id is not None and word_id not in found:
            found[word_id] = _parse(numbers, path, number)
            if len(found) == len(vocabulary):
                break
    return found


@contextmanager
def _errors_of_reading(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into one-line errors that name the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text, got other bytes ({error}). Convert the file.") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} must be a valid gzip file, got a damaged one ({error}). Download it again."
        ) from error
    except EOFError as error:
        raise ValueError(f"{path} must be complete, got a truncated file ({error}). Download it again.") from error
    except OSError as error:
        raise ValueError(f"{path} must be readable, got an error ({error}). Check its permissions.") from error


def _count_numbers(line: str) -> int:
    """Return how many numbers the line ends with; its first part always belongs to the word."""
    count = 0
    for part in reversed(line.split(" ")[1:]):
        try:
            float(part)
        except ValueError:
            break
        count += 1
    return count


def _parse(numbers: list[str], path: Path, line_number: int) -> np.ndarray:
    """Return the numbers as float32. Shape `(embedding_size,)`."""
    try:
        with np.errstate(over="ignore"):
            vector = np.array([float(number) for number in numbers], dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"{path} must have numbers on line {line_number}, but {error}. Fix it.") from error
    if not np.isfinite(vector).all():
        raise ValueError(f"{path} must have finite numbers, got NaN or infinity on line {line_number}. Fix it.")
    return vector
