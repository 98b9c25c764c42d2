import gzip
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from rnn_hf.data.word_vectors import WordVectors, initialize_embeddings, read_word_vectors

VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "cat": 2, "dog": 3, ". .": 4, "2": 5}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_dict(vectors: WordVectors) -> dict[int, list[float]]:
    return dict(zip(vectors.ids.tolist(), vectors.vectors.tolist(), strict=True))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("cat 1 2\nbird 5 6\ndog 3 -4e-1\n", {2: [1, 2], 3: [3, -0.4]}),
        ("cat 1 2\r\ndog 3 4", {2: [1, 2], 3: [3, 4]}),
        ("cat 1 2 \ndog 3 4 \n", {2: [1, 2], 3: [3, 4]}),
        ("400 2\ncat 1 2\n", {2: [1, 2]}),
        ("2 2\ncat 1 2 \ndog 3 4 \n", {2: [1, 2], 3: [3, 4]}),
        ("cat 1 2\ncat 3 4\n", {2: [1, 2]}),
        ("cat 1 2\n. . 3 4\n", {2: [1, 2], 4: [3, 4]}),
        (". . 3 4\ncat 1 2\n", {2: [1, 2], 4: [3, 4]}),
        ("cat 1 2\n2 3 4\n", {2: [1, 2], 5: [3, 4]}),
        ("x\u2028y 5 6\n\u00a0 7 8\ncat 1 2\n", {2: [1, 2]}),
    ],
    ids=[
        "plain",
        "CRLF",
        "blank at the end",
        "header, and fewer words",
        "header, as fastText has it",
        "twice",
        "blank in a word",
        "it comes first",
        "digit",
        "unicode",
    ],
)
@pytest.mark.parametrize("gzipped", [False, True])
def test_the_words_of_the_vocabulary_get_their_numbers(
    tmp_path: Path, content: str, expected: dict[int, list[float]], gzipped: bool
) -> None:
    raw = content.encode()
    vectors = read_word_vectors(write(tmp_path / "v", gzip.compress(raw, mtime=0) if gzipped else raw), VOCABULARY)
    assert as_dict(vectors) == pytest.approx({key: pytest.approx(value) for key, value in expected.items()})
    assert vectors.embedding_size == 2


def test_the_report_counts_the_words_with_a_vector() -> None:
    vectors = WordVectors(torch.arange(11_402), torch.zeros(11_402, 1), 30_000)
    assert str(vectors) == "11,402 of 30,000 words (38.0 %) have a vector"
    assert vectors.coverage == pytest.approx(0.38, abs=1e-3)


def test_memory_follows_the_vocabulary_and_not_the_file(tmp_path: Path) -> None:
    line = " 0.25" * 200 + "\n"
    path = write(tmp_path / "v", "".join(f"word{i}{line}" for i in range(20_000)))
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    read_word_vectors(path, {"word3": 0, "word19999": 1})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got no such line"),
        (b"bird 1 2\n", "None of the 6 words of the vocabulary"),
        (b"hello\nworld\n", "line 1"),
        (b"cat\t1\t2\n", "line 1"),
        (b"cat 1 2\nbird 1\n", "2 numbers .* line 2"),
        (b"cat 1 2\ndog 1 2 3\n", "2 numbers .* line 2"),
        (b"cat 1 2\ndog 1 x\n", "numbers .*line 2"),
        (b"2 3\ncat 1 2\n", "3 numbers .* line 2"),
        (b"1000000000000 1000000000000\ncat 1 2\n", "1000000000000 numbers .* line 2"),
        (b"2 2\n", "got no such line"),
        (b"2 2\n\xe9t\xe9 1 2\n", "UTF-8"),
        (b"cat 1 2\ndog nan 1\n", "finite .*line 2"),
        (b"cat 1e99 2\n", "finite .*line 1"),
        (b"cat 1 2\n\xe9t\xe9 1 2\n", "UTF-8"),
        (bytes(range(256)) * 8, "binary data"),
        (b"9" * 5000 + b" 2\nbird 1\n", "None of the 6 words"),
        (b"2 " + b"9" * 5000 + b"\n\0", "binary data"),
        (
            gzip.compress(b"cat 1 2\nbird" + b" 1" * 2**20, mtime=0),
            "less than 1,048,576 characters, got more on line 2",
        ),
        (gzip.compress(b"bird 1 2\n" * 9999, mtime=0)[:-20], "complete, got a truncated file"),
    ],
)
def test_what_is_no_file_of_vectors_gives_one_line_that_names_it(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "vectors.txt", content)
    with pytest.raises(ValueError, match=message) as error:
        read_word_vectors(path, VOCABULARY)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_must_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is none at .*nowhere"):
        read_word_vectors(tmp_path / "nowhere", VOCABULARY)
    with pytest.raises(ValueError, match="got the directory"):
        read_word_vectors(tmp_path, VOCABULARY)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind here")
def test_a_file_must_be_readable(tmp_path: Path) -> None:
    path = write(tmp_path / "v", "cat 1 2\n")
    path.chmod(0)
    with pytest.raises(ValueError, match="must be readable"):
        read_word_vectors(path, VOCABULARY)


def test_rows_with_a_vector_get_it_and_the_padding_row_stays() -> None:
    weight = torch.nn.Parameter(torch.full((5, 2), 9.0))
    vectors = WordVectors(torch.tensor([3, 1]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 5)
    initialize_embeddings(weight, vectors, padding_idx=0)
    torch.testing.assert_close(weight[[3, 1, 0]].detach(), torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]))
    assert (weight[[2, 4]] != 9).all()
    assert weight.requires_grad and weight.is_leaf


def test_rows_without_a_vector_have_the_mean_and_spread_of_those_with_one() -> None:
    numbers = torch.from_numpy(np.random.default_rng(0).normal(-3, 0.5, size=(100, 20)).astype(np.float32))
    weight = torch.zeros(5100, 20)
    initialize_embeddings(weight, WordVectors(torch.arange(100), numbers, 5100))
    drawn = weight[100:]
    assert drawn.mean().item() == pytest.approx(numbers.mean().item(), abs=0.01)
    assert drawn.std().item() == pytest.approx(numbers.std().item(), abs=0.01)


def test_a_generator_decides_the_draw_and_the_global_one_is_left_alone() -> None:
    vectors = WordVectors(torch.tensor([1]), torch.tensor([[1.0, 2.0]]), 4)
    weights = [torch.zeros(4, 2) for _ in range(3)]
    before = torch.get_rng_state()
    for weight, seed in zip(weights, (1, 1, 2), strict=True):
        initialize_embeddings(weight, vectors, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())


def test_vectors_must_fit_the_embedding() -> None:
    vectors = WordVectors(torch.tensor([7]), torch.ones(1, 100), 8)
    with pytest.raises(ValueError, match=r"100 numbers but the embedding has 64\. Pass `embedding_size=100`"):
        initialize_embeddings(torch.zeros(8, 64), vectors)
    with pytest.raises(ValueError, match="id 7 but the embedding has 5 rows"):
        initialize_embeddings(torch.zeros(5, 100), vectors)
