"""From a file of pretrained word vectors to the rows of an embedding."""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_HEADER = re.compile(r"[0-9]+ [0-9]+")


@dataclass(frozen=True)
class WordVectors:
    """Vectors of those words of a vocabulary that a file has one for.

    Attributes:
        ids: Ids of the words. Shape `(num_found,)`, int64.
        vectors: Their vectors. Shape `(num_found, embedding_size)`, float32.
        vocab_size: Number of words in the vocabulary.
    """

    ids: Tensor
    vectors: Tensor
    vocab_size: int

    @property
    def embedding_size(self) -> int:
        """Numbers in a vector."""
        return self.vectors.shape[1]

    @property
    def coverage(self) -> float:
        """Share of the words of the vocabulary that have a vector, from 0 to 1."""
        return len(self.ids) / self.vocab_size

    def __str__(self) -> str:
        return f"{len(self.ids):,} of {self.vocab_size:,} words ({self.coverage:.1%}) have a vector".replace("%", " %")


def read_word_vectors(path: str | PathLike[str], vocabulary: Mapping[str, int]) -> WordVectors:
    """Read the vectors of the words in a vocabulary from a file in GloVe's text format (Pennington et al., 2014).

    A line holds a word, which may hold blanks itself, and its numbers, separated by single blanks. The file is read
    line by line and numbers are parsed only where the word is wanted, so memory follows the vocabulary and not the
    file. A first line `count width`, as word2vec writes it, is passed over; of a word that comes twice the first
    vector counts.

    Args:
        path: The file, plain or gzipped.
        vocabulary: Words and their ids.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no file of word vectors, is damaged, or has none of the words.
    """
    path = Path(path)
    # A word is looked up in full only when its first piece is one of these.
    first_pieces = {word.partition(" ")[0] for word in vocabulary}
    found: dict[int, np.ndarray] = {}
    width = 0
    for number, line in _numbered_lines(path):
        if not line or (number == 1 and _HEADER.fullmatch(line)):
            continue
        width = width or _count_numbers(line)
        surplus = line.count(" ") - width
        if width == 0 or surplus < 0 or (surplus > 0 and _count_numbers(line) > width):
            expected = f"a word and {width} numbers" if width else "a word and its numbers"
            raise ValueError(f"{path} must have {expected} on each line, got {line[:40]!r} on line {number}. Mend it.")
        if line.partition(" ")[0] not in first_pieces:
            continue
        word, *numbers = line.rsplit(" ", width)
        word_id = vocabulary.get(word)
        if word_id is not None and word_id not in found:
            found[word_id] = _parse(numbers, path, number)
            if len(found) == len(vocabulary):
                break
    if not width:
        raise ValueError(f"{path} must have a word and its numbers on each line, got no such line. Pass another file.")
    if not found:
        raise ValueError(
            f"None of the {len(vocabulary):,} words of the vocabulary is in {path}. Pass vectors of the same language "
            "and letter case."
        )
    return WordVectors(torch.tensor(list(found)), torch.from_numpy(np.stack(list(found.values()))), len(vocabulary))


@torch.no_grad()
def initialize_embeddings(
    weight: Tensor,
    word_vectors: WordVectors,
    *,
    padding_idx: int | None = None,
    generator: torch.Generator | None = None,
) -> None:
    """Write word vectors into an embedding, in place.

    Rows without a vector are drawn from a normal distribution with the mean and the standard deviation of all numbers
    in those with one, so that words look alike to the layers above whether they have a vector or not (Kim, 2014).

    Args:
        weight: Weight of the embedding. Shape `(vocab_size, embedding_size)`.
        word_vectors: The vectors.
        padding_idx: Row that stays as it is.
        generator: Generator of the draws, on the CPU. Defaults to torch's own.

    Raises:
        ValueError: If the vectors do not fit the weight.
    """
    num_rows, embedding_size = weight.shape
    if word_vectors.embedding_size != embedding_size:
        raise ValueError(
            f"The file has vectors of {word_vectors.embedding_size} numbers but the embedding has {embedding_size}. "
            f"Pass `--embedding_size {word_vectors.embedding_size}`."
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


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file, plain or gzipped, counted from 1."""
    if path.is_dir():
        raise ValueError(f"`--word_vectors` must be a file, got the directory {path}. Pass a file in it.")
    if not path.exists():
        raise FileNotFoundError(f"`--word_vectors` must be a file, but there is none at {path}. Check the path.")
    try:
        with path.open("rb") as file:
            start = file.read(2**16)
        open_text = gzip.open if start.startswith(b"\x1f\x8b") else open
        if open_text is open and b"\0" in start:
            raise ValueError(f"{path} must be text, got binary data. Convert it to GloVe's text format.")
        # Only "\n" ends a line: a word may be one of the characters that Unicode counts as line ends.
        with open_text(path, "rt", encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                yield number, line.rstrip(" \r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text, got other bytes ({error}). Convert the file.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} must be a whole gzip file, got a damaged one ({error}). Fetch it again.") from error
    except OSError as error:
        raise ValueError(f"{path} must be readable, got an error ({error}). Check its permissions.") from error


def _count_numbers(line: str) -> int:
    """Return how many numbers the line ends with; the first piece always belongs to the word."""
    count = 0
    for piece in reversed(line.split(" ")[1:]):
        try:
            float(piece)
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
        raise ValueError(f"{path} must have numbers on line {line_number}, but {error}. Mend it.") from error
    if not np.isfinite(vector).all():
        raise ValueError(f"{path} must have finite numbers, got NaN or infinity on line {line_number}. Mend it.")
    return vector
