"""Files of word vectors, of every format and of none: they are read, or refused in one line that names them."""

import gzip
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rnn_hf.data.word_vectors import read_word_vectors
from tests.data.test_binary_vectors import VECTORS, fasttext, word2vec

FILE = Path(tempfile.gettempdir()) / "fuzz-word-vectors"
VOCABULARY = {"[PAD]": 0, "cat": 1, "naïve": 2, ". .": 3, "2": 4, "": 5, "</s>": 6, "\ud800": 7}

PLAIN, GZIPPED = b"\0", b"\1"


def check(data: bytes) -> None:
    """Read a file whose first byte says whether the others are gzipped, and check what comes out."""
    FILE.write_bytes(gzip.compress(data[1:], 1) if data[:1] == GZIPPED else data[1:])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = read_word_vectors(FILE, VOCABULARY)
    except ValueError as error:
        assert type(error) is ValueError, f"{type(error).__name__} is nothing that the reader promises"
        assert str(FILE) in str(error) and "\n" not in str(error), str(error)
        return
    assert len(found.ids) == len(set(found.ids.tolist())) > 0
    assert set(found.ids.tolist()) <= set(VOCABULARY.values())
    assert found.vectors.shape == (len(found.ids), found.embedding_size)
    assert found.vectors.isfinite().all()


def seeds() -> Iterator[bytes]:
    """Return whole files of every format, plain and gzipped."""
    matrix = np.arange(24.0).reshape(8, 3)
    texts = [
        "cat 1 2\nbird 5 6\nnaïve 3 -4e-1\n",
        "3 2\ncat 1 2 \n. . 3 4 \n2 0 nan",
        "x\u2028y 5 6\r\n\u00a0 7 8\r\n",
    ]
    contents = [
        *map(str.encode, texts),
        word2vec(VECTORS),
        word2vec(VECTORS, end=b""),
        fasttext(["bird", "cat"], matrix, labels=("2",)),
        fasttext(["</s>", "cat"], matrix, bucket=6, shortest=2, longest=4),
        fasttext(["cat"], matrix, quantized=True),
    ]
    for content in contents:
        yield PLAIN + content
        yield GZIPPED + content
        yield PLAIN + gzip.compress(content)


def words() -> list[bytes]:
    """Return what stands in such files and is hard to guess."""
    return [b"cat", b"\n", b" ", b"1 2\n", b"1e99", b"nan", b"</s>", b"\x1f\x8b", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]
