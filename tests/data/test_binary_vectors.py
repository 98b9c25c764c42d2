"""Binary files of word vectors, written here by hand and by the library that defines the format."""

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_hf.data.binary_vectors import fasttext_hash, ngrams
from rnn_hf.data.word_vectors import read_word_vectors

VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "cat": 2, "naïve": 3, "2": 4}
VECTORS = {"cat": [1.0, -2.5, 0.1], "bird": [9.0, 9.0, 9.0], "naïve": [0.25, 3e-5, 7.0]}


def word2vec(vectors: dict[str, list[float]], header: str = "3 3", end: bytes = b"\n") -> bytes:
    rows = [word.encode() + b" " + struct.pack(f"<{len(row)}f", *row) + end for word, row in vectors.items()]
    return header.encode() + b"\n" + b"".join(rows)


def fasttext(
    words: list[str],
    matrix: np.ndarray,
    *,
    version: int = 12,
    bucket: int = 0,
    shortest: int = 0,
    longest: int = 0,
    labels: tuple[str, ...] = (),
    quantized: bool = False,
    **overwritten: int,
) -> bytes:
    """Return a model of fastText, field by field."""
    width = overwritten.get("width", matrix.shape[1])
    settings = [width, 5, 1, 1, 5, 1, 1, 2, bucket, shortest, longest, 100]
    size = overwritten.get("size", len(words) + len(labels))
    content = struct.pack("<2i12id", 793712314, version, *settings, 1e-4)
    content += struct.pack(
        "<3i2q", size, overwritten.get("num_words", len(words)), len(labels), 99, overwritten.get("num_pruned", -1)
    )
    for kind, entries in enumerate((words, labels)):
        for entry in entries:
            content += entry.encode() + b"\0" + struct.pack("<qb", 7, kind)
    content += struct.pack("<?2q", quantized, overwritten.get("num_rows", len(matrix)), matrix.shape[1])
    # an output matrix follows, which nobody reads
    return content + matrix.astype("<f4").tobytes() + b"\0" * 40


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def as_dict(path: Path, vocabulary: dict[str, int] = VOCABULARY) -> dict[int, Any]:
    vectors = read_word_vectors(path, vocabulary)
    return {
        word_id: pytest.approx(row)
        for word_id, row in zip(vectors.ids.tolist(), vectors.vectors.tolist(), strict=True)
    }


@pytest.mark.parametrize("end", [b"\n", b""], ids=["as word2vec writes it", "as others do"])
@pytest.mark.parametrize("gzipped", [False, True])
def test_word2vecs_binary_format_is_recognized_and_read(tmp_path: Path, end: bytes, gzipped: bool) -> None:
    content = word2vec(VECTORS | {"cat ": [0.0, 0.0, 0.0]}, "4 3", end).replace(b"cat  ", b"cat ")
    path = write(tmp_path / "v", gzip.compress(content, mtime=0) if gzipped else content)
    assert as_dict(path) == {2: VECTORS["cat"], 3: VECTORS["naïve"]}


def test_numbers_with_the_byte_of_a_line_end_or_a_blank_are_numbers(tmp_path: Path) -> None:
    row = np.frombuffer(b"\n\n\n\x3f \x20 \x3f\r\n\t\x3f", "<f4").tolist()
    path = write(tmp_path / "v", word2vec({"bird": row, "cat": row, "2": [0.0] * 3}, "3 3"))
    assert as_dict(path) == {2: row, 4: [0, 0, 0]}


def test_many_vectors_of_random_bits_are_found(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5000, 25)).astype("<f4")
    vectors = {f"word{index}": row.tolist() for index, row in enumerate(rows)}
    path = write(tmp_path / "v", word2vec(vectors, "5000 25"))
    found = read_word_vectors(path, {f"word{index}": index for index in range(0, 5000, 7)})
    np.testing.assert_array_equal(found.vectors.numpy(), rows[found.ids.numpy()])
    assert len(found.ids) == 715


@pytest.mark.parametrize("kind", ["word2vec", "fasttext"])
def test_memory_follows_the_vocabulary_and_not_the_file(tmp_path: Path, kind: str) -> None:
    words, matrix = [f"word{index}" for index in range(20_000)], np.full((20_000, 200), 0.25, dtype="<f4")
    if kind == "fasttext":
        content = fasttext(words, matrix)
    else:
        content = b"20000 200\n" + b"".join(
            word.encode() + b" " + row.tobytes() for word, row in zip(words, matrix, strict=True)
        )
    path = write(tmp_path / "v", content)
    assert path.stat().st_size > 16_000_000
    tracemalloc.start()
    read_word_vectors(path, {"word3": 0, "word19999": 1})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_fasttext_model_without_ngrams_has_the_rows_of_its_words(tmp_path: Path) -> None:
    matrix = np.arange(8.0).reshape(4, 2)
    path = write(tmp_path / "v", fasttext(["bird", "cat", "naïve"], matrix, labels=("2",)))
    assert as_dict(path) == {2: [2.0, 3.0], 3: [4.0, 5.0]}


def test_a_word_is_the_mean_of_its_row_and_of_its_ngrams(tmp_path: Path) -> None:
    """A word that the model does not contain has only its n-grams, if it is long enough for one."""
    matrix = np.random.default_rng(0).normal(size=(2 + 10, 3))
    path = write(tmp_path / "v", fasttext(["</s>", "cat"], matrix, bucket=10, shortest=3, longest=4))

    def row(ngram: str) -> np.ndarray:
        return matrix[2 + fasttext_hash(ngram.encode()) % 10]

    of_cat = [row(ngram) for ngram in ("<ca", "<cat", "cat", "cat>", "at>")]
    of_cap = [row(ngram) for ngram in ("<ca", "<cap", "cap", "cap>", "ap>")]
    assert as_dict(path, {"cat": 0, "cap": 1, "</s>": 2, "": 3}) == {
        0: np.mean([matrix[1], *of_cat], axis=0).tolist(),
        1: np.mean(of_cap, axis=0).tolist(),
        2: matrix[0].tolist(),
    }


def test_a_model_of_the_library_gives_the_librarys_vectors(tmp_path: Path) -> None:
    library = pytest.importorskip("fasttext")
    text = tmp_path / "text.txt"
    text.write_text("the cat sat naïve dogs\nthe dogs sat on 中文 cats\n" * 50)
    # each of ten threads draws a tenth of the matrix; with fewer, the rest is uninitialized memory
    settings = {"dim": 7, "minCount": 1, "bucket": 50, "epoch": 1, "thread": 10, "verbose": 0}
    for name, more in {"ngrams": {"minn": 2, "maxn": 4}, "words": {"maxn": 0}}.items():
        model = library.train_unsupervised(str(text), **settings, **more)
        model.save_model(str(tmp_path / name))
        words = ["cat", "naïve", "中文", "the", "dogs", "catdog", "中", "é", "</s>"]
        wanted = words if name == "ngrams" else [word for word in words if word in model.words]
        found = read_word_vectors(tmp_path / name, {word: index for index, word in enumerate(words)})
        assert [words[index] for index in found.ids] == wanted
        expected = np.stack([model.get_word_vector(word) for word in wanted])
        np.testing.assert_allclose(found.vectors.numpy(), expected, rtol=1e-5, atol=1e-7)
    model = library.load_model(str(tmp_path / "ngrams"))
    for word in ("cat", "naïve", "中文", "a"):
        expected = model.get_subwords(word)[0]
        assert [ngram.decode() for ngram in ngrams(word.encode(), 2, 4)] == expected[word in model.words :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (word2vec(VECTORS)[:-9], r"complete, got a truncated file \(it ends in the vector of 'naïve'\)"),
        (word2vec(VECTORS, "3 1000000000000"), "3 words with 1,000,000,000,000 numbers each, which is impossible"),
        (word2vec(VECTORS, "1000000000000 3"), "claims to have 1,000,000,000,000 words"),
        (gzip.compress(word2vec(VECTORS, "1000000000000 3"), mtime=0), "claims to have 1,000,000,000,000 words"),
        (gzip.compress(word2vec(VECTORS, "3 0"), mtime=0), "3 words with 0 numbers each"),
        (
            gzip.compress(b"1 100000\ncat " + b"\0" * 4 * 10**5, mtime=0),
            "1 words with 100,000 numbers each, which is",
        ),
        (word2vec({"cat": [1.0, float("nan"), 2.0]}, "1 3"), "finite numbers, got NaN or infinity for the word 'cat'"),
        (word2vec({"bird": [1.0, 2.0, 3.0]}, "1 3"), "None of the 5 words"),
        (b"2 3\n" + b"\0x" * 2**17, "must have a space after every word"),
        (fasttext(["cat"], np.ones((1, 3)))[:60], "it ends before its matrix"),
        (fasttext(["cat" * 50], np.ones((1, 3)))[:140], "it ends in entry 0 of its dictionary"),
        (fasttext(["cat"], np.ones((400, 3)))[:1000], "it ends before its 400 rows of 3 numbers do"),
        (fasttext(["cat"], np.ones((1, 3)), size=2**31 - 1), "a dictionary of 2,147,483,647 entries"),
        (fasttext(["cat"], np.ones((1, 3)), num_words=-1), "a dictionary of 1 entries"),
        (fasttext(["cat"], np.ones((1, 3)), num_rows=10**12), "it ends before its 1000000000000 rows"),
        (fasttext(["cat"], np.ones((1, 3)), width=10**9), "matrix of 1 rows and 1,000,000,000 columns, got 1 and 3"),
        (fasttext(["cat"], np.ones((1, 3)), bucket=10, longest=3), "matrix of 11 rows and 3 columns, got 1 and 3"),
        (fasttext(["cat"], np.ones((1, 3)), num_pruned=2**62), "it ends before its matrix"),
        (fasttext(["cat"], np.ones((1, 3)), bucket=-5, longest=3), "matrix of -4 rows and 3 columns, got 1 and 3"),
        (fasttext(["cat"], np.ones((1, 70_000))), "matrix of 1 rows and 70,000 columns, got 1 and 70,000"),
        (
            fasttext(["cat"], np.full((6, 3), 3e38), bucket=5, shortest=1, longest=3),
            "finite numbers, got NaN or infinity",
        ),
        (fasttext(["cat"], np.full((1, 3), np.inf)), "finite numbers, got NaN or infinity for the word 'cat'"),
        (fasttext(["cat"], np.ones((1, 3)), version=11), "must be a fastText model of version 12, got 11"),
        (fasttext(["cat"], np.ones((1, 3)), quantized=True), "is a quantized fastText model. Pass"),
        (gzip.compress(fasttext(["cat"], np.ones((1, 3))), mtime=0), "is a gzipped fastText model. Unpack it"),
    ],
)
def test_a_damaged_file_gives_one_line_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "vectors.bin", content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message.replace("1000000000000 rows", "1,000,000,000,000 rows")) as error:
        read_word_vectors(path, VOCABULARY)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000, "memory was taken for what the file only says"
    tracemalloc.stop()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_ngrams_of_any_length_are_those_that_a_word_has(tmp_path: Path) -> None:
    """A file may claim this, and its reader must terminate."""
    assert ngrams(b"cat", 1, 2**31 - 1) == ngrams(b"cat", 1, 5)
