"""Binary files of word vectors: word2vec's format, and fastText models."""

import mmap
import struct
from collections.abc import Iterator, Mapping
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

FASTTEXT_MAGIC = struct.pack("<i", 793712314)
FASTTEXT_VERSION = 12

# A byte of a gzip file unpacks to at most this many (Deutsch, 1996: 258 bytes from 2 bits)
LARGEST_EXPANSION = 1032

LONGEST_WORD = 2**16

# Far wider than any vector; memory for the width that a file states is allocated before its vectors are read
LARGEST_WIDTH = 2**16

_END_OF_SENTENCE = b"</s>"
_FLOAT = np.dtype("<f4")


def read_word2vec_binary(
    file: BufferedReader, path: Path, vocabulary: Mapping[str, int], largest_size: int
) -> dict[int, np.ndarray]:
    """Return the vectors of the words in a vocabulary from word2vec's binary format (Mikolov et al., 2013).

    After a line `count width`, each word is followed by a space and its numbers as float32.

    Args:
        file: The file, at its start.
        path: Path of the file, for error messages.
        vocabulary: Words and their ids.
        largest_size: Largest possible size of the unpacked file, in bytes.

    Raises:
        ValueError: If the file has another format or is damaged.
        EOFError: If the file is truncated.
    """
    ids = _ids_by_bytes(vocabulary)
    found: dict[int, np.ndarray] = {}
    for word, numbers in word2vec_entries(file, path, largest_size):
        word_id = ids.get(word)
        if word_id is not None and word_id not in found:
            found[word_id] = _finite(np.frombuffer(numbers, _FLOAT).copy(), word, path)
            if len(found) == len(ids):
                break
    return found


def word2vec_entries(file: BufferedReader, path: Path, largest_size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the words of a file in word2vec's binary format, and the bytes of their numbers.

    Args:
        file: The file, at its start.
        path: Path of the file, for error messages.
        largest_size: Largest possible size of the unpacked file, in bytes.

    Raises:
        ValueError: If the file has another format or is damaged.
        EOFError: If the file is truncated.
    """
    count, width = map(int, file.readline().split())
    num_bytes = width * _FLOAT.itemsize
    if count * (num_bytes + 2) > largest_size or not 1 <= width <= LARGEST_WIDTH:
        raise ValueError(
            f"{path} claims to have {count:,} words with {width:,} numbers each, which is impossible. "
            "Download it again."
        )
    for _ in range(count):
        # some programs write a line break after each vector, others do not
        word = _read_until(file, b" ", path).lstrip(b"\n")
        numbers = file.read(num_bytes)
        if len(numbers) < num_bytes:
            raise EOFError(f"it ends in the vector of {_shown(word)}")
        yield word, numbers


def word2vec_width(file: BufferedReader, path: Path, largest_size: int) -> int:
    """Return the size of the vectors in a file of word2vec's binary format; see `word2vec_entries`."""
    for _, numbers in word2vec_entries(file, path, largest_size):
        return len(numbers) // _FLOAT.itemsize
    raise EOFError("it has no word")


def read_fasttext_model(path: Path, vocabulary: Mapping[str, int]) -> dict[int, np.ndarray]:
    """Return the vectors of the words in a vocabulary from a fastText model (Bojanowski et al., 2017).

    The vector of a word is the mean of its own row and the rows of its character n-grams; for a word that the model
    does not contain, of the n-grams alone. The file is memory-mapped, and only the required rows are read.

    Args:
        path: The model, usually a file `.bin`.
        vocabulary: Words and their ids.

    Raises:
        ValueError: If the file is damaged, quantized or of another version.
        EOFError: If the file is truncated.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = _read_header(content, path)
        ids = _ids_by_bytes(vocabulary)
        known: dict[bytes, int] = {}
        position = header.end
        for row, (word, end) in enumerate(_dictionary(content, header)):
            position = end
            if row < header.num_words and word in ids:
                known.setdefault(word, row)
        position += max(0, header.num_pruned) * 8
        try:
            is_quantized, num_rows, num_columns = struct.unpack_from("<?2q", content, position)
        except (struct.error, OverflowError) as error:
            raise EOFError("it ends before its matrix") from error
        position += struct.calcsize("<?2q")
    width, num_words, num_pruned = header.width, header.num_words, header.num_pruned
    if is_quantized or num_pruned > 0:
        raise ValueError(f"{path} is a quantized fastText model. Pass the original model, or its `.vec` file.")
    num_buckets = header.bucket if header.longest > 0 else 0
    if num_columns != width or not 1 <= width <= LARGEST_WIDTH or not 0 <= num_buckets <= num_rows - num_words:
        raise ValueError(
            f"{path} must have a matrix of {num_words + num_buckets:,} rows and {width:,} columns, got {num_rows:,} "
            f"and {num_columns:,}. Download it again."
        )
    if position + num_rows * num_columns * _FLOAT.itemsize > path.stat().st_size:
        raise EOFError(f"it ends before its {num_rows:,} rows of {num_columns:,} numbers do")
    matrix = np.memmap(path, _FLOAT, mode="r", offset=position, shape=(num_rows, num_columns))
    found: dict[int, np.ndarray] = {}
    for word, word_id in ids.items():
        rows = [known[word]] if word in known else []
        if num_buckets and word != _END_OF_SENTENCE:
            rows += [
                num_words + fasttext_hash(ngram) % num_buckets
                for ngram in ngrams(word, header.shortest, header.longest)
            ]
        if rows:
            with np.errstate(over="ignore", invalid="ignore"):
                mean = matrix[rows].mean(axis=0)
            found[word_id] = _finite(mean, word, path)
    return found


def fasttext_words(path: Path) -> Iterator[bytes]:
    """Yield the words of a fastText model, from most to least frequent; see `read_fasttext_model`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = _read_header(content, path)
        for word, _ in islice(_dictionary(content, header), header.num_words):
            yield word


def fasttext_width(path: Path) -> int:
    """Return the size of the vectors in a fastText model; see `read_fasttext_model`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _read_header(content, path).width


def ngrams(word: bytes, shortest: int, longest: int) -> list[bytes]:
    """Return the character n-grams of a word in UTF-8, with `<` before it and `>` after it.

    `<` and `>` alone are not n-grams.

    Example:
        >>> ngrams(b"cat", 3, 4)
        [b'<ca', b'<cat', b'cat', b'cat>', b'at>']
    """
    marked = b"<" + word + b">"
    # a byte 10xxxxxx continues a character
    starts = [index for index, byte in enumerate(marked) if byte & 0xC0 != 0x80] + [len(marked)]
    return [
        marked[starts[first] : starts[first + length]]
        for first in range(len(starts) - 1)
        for length in range(max(1, shortest), min(longest, len(starts) - 1 - first) + 1)
        if not (length == 1 and first in (0, len(starts) - 2))
    ]


def fasttext_hash(text: bytes) -> int:
    """Return the hash that gives the row of an n-gram in fastText: FNV-1a with signed bytes.

    Example:
        >>> fasttext_hash(b"<ca")
        1066916747
    """
    value = 2166136261
    for byte in text:
        value = (value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 & 0xFFFFFFFF
    return value


class _Header(NamedTuple):
    """Header of a fastText model, and the offset of its dictionary in bytes."""

    width: int
    bucket: int
    shortest: int
    longest: int
    size: int
    num_words: int
    num_pruned: int
    end: int


def _read_header(content: mmap.mmap, path: Path) -> _Header:
    try:
        _, version, width, *_, bucket, shortest, longest, _, _ = struct.unpack_from("<2i12id", content)
        position = struct.calcsize("<2i12id")
        size, num_words, _, _, num_pruned = struct.unpack_from("<3i2q", content, position)
    except struct.error as error:
        raise EOFError("it ends before its matrix") from error
    if version != FASTTEXT_VERSION:
        raise ValueError(f"{path} must be a fastText model of version {FASTTEXT_VERSION}, got {version}.")
    if not 0 <= num_words <= size or size > len(content) // 10:
        raise ValueError(
            f"{path} claims a dictionary of {size:,} entries, which is impossible for its size. Download it again."
        )
    end = position + struct.calcsize("<3i2q")
    return _Header(width, bucket, shortest, longest, size, num_words, num_pruned, end)


def _dictionary(content: mmap.mmap, header: _Header) -> Iterator[tuple[bytes, int]]:
    """Yield the entries of the dictionary, in which labels follow the words, and where each ends."""
    position = header.end
    for row in range(header.size):
        end = content.find(b"\0", position)
        if end < 0:
            raise EOFError(f"it ends in entry {row:,} of its dictionary")
        word, position = content[position:end], end + 1 + struct.calcsize("<qb")
        yield word, position


def _ids_by_bytes(vocabulary: Mapping[str, int]) -> dict[bytes, int]:
    return {word.encode("utf-8", "surrogatepass"): word_id for word, word_id in vocabulary.items()}


def _read_until(file: BufferedReader, mark: bytes, path: Path) -> bytes:
    """Read up to a mark, and return the bytes before it."""
    read = b""
    while len(read) < LONGEST_WORD:
        ahead = file.peek(1)
        if not ahead:
            raise EOFError("it ends before its last word")
        end = ahead.find(mark)
        if end >= 0:
            return read + file.read(end + 1)[:-1]
        read += file.read(len(ahead))
    raise ValueError(f"{path} must have a space after every word, got {_shown(read)} without one. Download it again.")


def _finite(vector: np.ndarray, word: bytes, path: Path) -> np.ndarray:
    if not np.isfinite(vector).all():
        raise ValueError(f"{path} must have finite numbers, got NaN or infinity for the word {_shown(word)}. Fix it.")
    return vector.astype(np.float32)


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("utf-8", "replace"))
