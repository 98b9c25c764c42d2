"""Binary files of word vectors: those of word2vec, and the models of fastText."""

import mmap
import struct
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path

import numpy as np

FASTTEXT_MAGIC = struct.pack("<i", 793712314)
FASTTEXT_VERSION = 12

# A byte of a gzip file becomes at most this many (Deutsch, 1996, has 258 bytes in 2 bits)
LARGEST_EXPANSION = 1032

LONGEST_WORD = 2**16

# Far more than any vector has: memory is taken for as many as a file says before they are read
MOST_NUMBERS = 2**16

_END_OF_SENTENCE = b"</s>"
_FLOAT = np.dtype("<f4")


def read_word2vec_binary(
    file: BufferedReader, path: Path, vocabulary: Mapping[str, int], largest_size: int
) -> dict[int, np.ndarray]:
    """Return the vectors of the words in a vocabulary from word2vec's binary format (Mikolov et al., 2013).

    After a line `count width`, each word is followed by a blank and its numbers as float32.

    Args:
        file: The file at its beginning.
        path: Its path, for the message of an error.
        vocabulary: Words and their ids.
        largest_size: Bytes that the file may have.

    Raises:
        ValueError: If the file is not of this format, or damaged.
        EOFError: If it ends too early.
    """
    count, width = map(int, file.readline().split())
    num_bytes = width * _FLOAT.itemsize
    if count * (num_bytes + 2) > largest_size or not 1 <= width <= MOST_NUMBERS:
        raise ValueError(
            f"{path} says that it has {count:,} words with {width:,} numbers each, which cannot be. Fetch it again."
        )
    ids = _ids_by_bytes(vocabulary)
    found: dict[int, np.ndarray] = {}
    for _ in range(count):
        # some writers end a vector with a line end, others do not
        word = _read_until(file, b" ", path).lstrip(b"\n")
        numbers = file.read(num_bytes)
        if len(numbers) < num_bytes:
            raise EOFError(f"it ends in the vector of {_shown(word)}")
        word_id = ids.get(word)
        if word_id is not None and word_id not in found:
            found[word_id] = _finite(np.frombuffer(numbers, _FLOAT).copy(), word, path)
            if len(found) == len(ids):
                break
    return found


def read_fasttext_model(path: Path, vocabulary: Mapping[str, int]) -> dict[int, np.ndarray]:
    """Return the vectors of the words in a vocabulary from a model of fastText (Bojanowski et al., 2017).

    The vector of a word is the mean of its own row and those of its character n-grams; one that the model does not
    know has its n-grams only. The file is mapped, and the rows of the vocabulary are read.

    Args:
        path: The model, with the ending `.bin`.
        vocabulary: Words and their ids.

    Raises:
        ValueError: If the file is damaged, quantized or of another version.
        EOFError: If it ends too early.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            _, version, width, *_, bucket, shortest, longest, _, _ = struct.unpack_from("<2i12id", content)
            position = struct.calcsize("<2i12id")
            size, num_words, _, _, num_pruned = struct.unpack_from("<3i2q", content, position)
            position += struct.calcsize("<3i2q")
            if version != FASTTEXT_VERSION:
                raise ValueError(f"{path} must be a fastText model of version {FASTTEXT_VERSION}, got {version}.")
            if not 0 <= num_words <= size or size > len(content) // 10:
                raise ValueError(
                    f"{path} says that its dictionary has {size:,} entries, which its size does not allow. "
                    "Fetch it again."
                )
            known, position = _read_dictionary(content, position, size, num_words, _ids_by_bytes(vocabulary))
            position += max(0, num_pruned) * 8
            is_quantized, num_rows, num_columns = struct.unpack_from("<?2q", content, position)
            position += struct.calcsize("<?2q")
        except (struct.error, OverflowError) as error:
            raise EOFError("it ends before its matrix") from error
    if is_quantized or num_pruned > 0:
        raise ValueError(f"{path} is a quantized fastText model. Pass the one it was made from, or its `.vec` file.")
    num_buckets = bucket if longest > 0 else 0
    if num_columns != width or not 1 <= width <= MOST_NUMBERS or not 0 <= num_buckets <= num_rows - num_words:
        raise ValueError(
            f"{path} must have a matrix of {num_words + num_buckets:,} rows and {width:,} columns, got {num_rows:,} "
            f"and {num_columns:,}. Fetch it again."
        )
    if position + num_rows * num_columns * _FLOAT.itemsize > path.stat().st_size:
        raise EOFError(f"it ends before its {num_rows:,} rows of {num_columns:,} numbers do")
    matrix = np.memmap(path, _FLOAT, mode="r", offset=position, shape=(num_rows, num_columns))
    found: dict[int, np.ndarray] = {}
    for word, word_id in _ids_by_bytes(vocabulary).items():
        rows = [known[word]] if word in known else []
        if num_buckets and word != _END_OF_SENTENCE:
            rows += [num_words + fasttext_hash(ngram) % num_buckets for ngram in ngrams(word, shortest, longest)]
        if rows:
            with np.errstate(over="ignore", invalid="ignore"):
                mean = matrix[rows].mean(axis=0)
            found[word_id] = _finite(mean, word, path)
    return found


def ngrams(word: bytes, shortest: int, longest: int) -> list[bytes]:
    """Return the character n-grams of a word in UTF-8 between marks of its start and end.

    A mark alone is none.

    Example:
        >>> ngrams(b"cat", 3, 4)
        [b'<ca', b'<cat', b'cat', b'cat>', b'at>']
    """
    marked = b"<" + word + b">"
    # a byte 10xxxxxx goes on with a character
    starts = [index for index, byte in enumerate(marked) if byte & 0xC0 != 0x80] + [len(marked)]
    return [
        marked[starts[first] : starts[first + length]]
        for first in range(len(starts) - 1)
        for length in range(max(1, shortest), min(longest, len(starts) - 1 - first) + 1)
        if not (length == 1 and first in (0, len(starts) - 2))
    ]


def fasttext_hash(text: bytes) -> int:
    """Return the hash by which fastText finds the row of an n-gram: FNV-1a, but with signed bytes.

    Example:
        >>> fasttext_hash(b"<ca")
        1066916747
    """
    value = 2166136261
    for byte in text:
        value = (value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619 & 0xFFFFFFFF
    return value


def _read_dictionary(
    content: mmap.mmap, position: int, size: int, num_words: int, ids: Mapping[bytes, int]
) -> tuple[dict[bytes, int], int]:
    """Return the rows of the words that are wanted, and where the dictionary ends; labels come after the words."""
    rows: dict[bytes, int] = {}
    for row in range(size):
        end = content.find(b"\0", position)
        if end < 0:
            raise EOFError(f"it ends in entry {row:,} of its dictionary")
        word = content[position:end]
        if row < num_words and word in ids:
            rows.setdefault(word, row)
        position = end + 1 + struct.calcsize("<qb")
    return rows, position


def _ids_by_bytes(vocabulary: Mapping[str, int]) -> dict[bytes, int]:
    return {word.encode("utf-8", "surrogatepass"): word_id for word, word_id in vocabulary.items()}


def _read_until(file: BufferedReader, mark: bytes, path: Path) -> bytes:
    """Return what comes before a mark, and read the mark, too."""
    read = b""
    while len(read) < LONGEST_WORD:
        ahead = file.peek(1)
        if not ahead:
            raise EOFError("it ends before its last word")
        end = ahead.find(mark)
        if end >= 0:
            return read + file.read(end + 1)[:-1]
        read += file.read(len(ahead))
    raise ValueError(f"{path} must have a blank after every word, got {_shown(read)} without one. Fetch it again.")


def _finite(vector: np.ndarray, word: bytes, path: Path) -> np.ndarray:
    if not np.isfinite(vector).all():
        raise ValueError(f"{path} must have finite numbers, got NaN or infinity for the word {_shown(word)}. Mend it.")
    return vector.astype(np.float32)


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("utf-8", "replace"))
