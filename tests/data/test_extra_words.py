"""Words of pretrained vectors that do not occur in the training rows."""

import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoTokenizer

from rnn_hf import RNNForSequenceClassification, TextClassifier
from rnn_hf.data.extra_words import add_words
from rnn_hf.data.pretrained_vectors import iterate_words
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.data.test_binary_vectors import fasttext, word2vec
from tests.data.test_model_vectors import PIECES, bert_folder, static_folder

Train = Callable[..., tuple[dict[str, Any], Path]]

TEXTS = ["the cat sat on the mat", "the dog"]


def test_extra_words_follow_the_words_of_the_texts_whose_ids_stay(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=4, max_length=7)
    before = tokenizer.get_vocab()
    extended = add_words(tokenizer, ["zebra", "the", "ant", "zebra", "bee"], max_words=2)
    assert extended.get_vocab() == before | {"zebra": 4, "ant": 5}
    assert tokenizer.get_vocab() == before
    extended.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("Zebra! the [UNK] bee ant").input_ids == extended("Zebra! the [UNK] bee ant").input_ids
    assert loaded("zebra the bee ant [PAD]").input_ids == [4, 2, 1, 5, 1]
    assert len(loaded) == 6 and loaded.init_kwargs["max_length"] == 7


@pytest.mark.parametrize(
    "word",
    ["Paris", "don't", "new york", "", " ", "a;b", "[unused1]", "[PAD]", "[MASK]", "</s>", "<unk>", "<|end|>", '"',
     "ΟΔΟΣ"],
)  # fmt: skip
def test_what_the_tokenizer_would_not_find_in_a_text_is_no_extra_word(word: str) -> None:
    tokenizer = train_tokenizer(TEXTS)
    assert add_words(tokenizer, [word], max_words=5).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("word", ["zebra", "start-up", "naïve", "3", "!", "οδος", "[", "<3", "#tag", "a_b"])
def test_an_extra_word_is_found_in_a_text(word: str) -> None:
    extended = add_words(train_tokenizer(TEXTS), [word], max_words=5)
    assert extended.tokenize(f"the {word.upper()} cat") == ["the", word, "cat"]


def test_no_more_words_are_read_than_are_needed() -> None:
    def words() -> Iterator[str]:
        yield from ("zebra", "ant")
        raise AssertionError("a third word was read")

    assert len(add_words(train_tokenizer(TEXTS), words(), max_words=2)) == 10
    assert len(add_words(train_tokenizer(TEXTS), words(), max_words=0)) == 8


def test_the_end_of_text_token_keeps_its_id() -> None:
    extended = add_words(train_tokenizer(TEXTS, has_end_of_text=True), ["zebra"], max_words=1)
    assert (extended.eos_token, extended.eos_token_id) == ("[EOS]", 2)


def test_pieces_of_words_get_no_extra_words() -> None:
    tokenizer = train_tokenizer(TEXTS, tokenizer_type="bpe", vocab_size=20)
    with pytest.raises(TypeError, match="must have whole words, got one with `BPE`"):
        add_words(tokenizer, ["zebra"], max_words=1)


@pytest.mark.parametrize(
    "content",
    [
        b"cat 1 2\n. . 3 4\nBird 5 6\n",
        b"3 2\ncat 1 2\n. . 3 4\nBird 5 6\n",
        gzip.compress(b"cat 1 2\n. . 3 4\nBird 5 6\n", mtime=0),
        word2vec({"cat": [1.0, 2.0], "Bird": [0.1, 3.0]}, "2 2"),
        gzip.compress(word2vec({"cat": [1.0, 2.0], "Bird": [0.1, 3.0]}, "2 2"), mtime=0),
        fasttext(["cat", "Bird"], np.ones((2, 2), np.float32), labels=("__label__news",)),
    ],
    ids=["glove", "vec", "glove.gz", "word2vec", "word2vec.gz", "fasttext"],
)
def test_the_words_of_a_file_come_in_its_order(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    assert [word for word in iterate_words(str(path)) if word != ". ."] == ["cat", "Bird"]


def test_a_file_is_read_only_as_far_as_its_words_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(b"cat 1 2\ndog 3 4\ndamaged\n")
    words = iterate_words(str(path))
    assert [next(words), next(words)] == ["cat", "dog"]
    with pytest.raises(ValueError, match="on line 3"):
        next(words)


def test_memory_follows_the_extra_words_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_text("".join(f"word{index}{' 0.25' * 200}\n" for index in range(20_000)))
    tokenizer = train_tokenizer(TEXTS)
    tracemalloc.start()
    for _ in iterate_words(str(path)):
        pass
    add_words(tokenizer, iterate_words(str(path)), max_words=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def rows_of(folder: Path, *words: str) -> torch.Tensor:
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    model = RNNForSequenceClassification.from_pretrained(folder)
    return model.get_input_embeddings().weight.detach()[[vocabulary[word] for word in words]]


@pytest.mark.parametrize("kind", ["model2vec", "transformers"])
def test_a_run_reads_words_that_its_rows_lack(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    width = 16 if kind == "model2vec" else 8
    vectors = torch.randn(len(PIECES), width)
    folder = tmp_path / "vectors"
    if kind == "model2vec":
        static_folder(folder, embeddings=vectors)
    else:
        bert_folder(folder)
    argv = ["--word_vectors", str(folder), "--max_steps", "3", "--vocab_size", "50", "--learning_rate", "1e-30"]
    results, run = train("run", *argv, "--embedding_size", str(width))
    vocabulary = AutoTokenizer.from_pretrained(run).get_vocab()
    added = {"cat", "dog"} & {word for word, word_id in vocabulary.items() if word_id >= 50}
    assert added == {"cat", "dog"} and len(vocabulary) == json.loads((run / "config.json").read_text())["vocab_size"]
    assert f"{len(vocabulary) - 50} extra words follow the 50 of the training rows" in capsys.readouterr().out
    if kind == "model2vec":
        assert torch.equal(rows_of(run, "cat", "dog"), vectors[[4, 6]])
    # the written recipe makes the same vocabulary again
    assert yaml.safe_load((run / "recipe.yaml").read_text())["vocab_size"] == 50
    assert results["step"] == 3 and TextClassifier.from_pretrained(run).predict(["cat"])


def test_wider_vectors_are_reduced_and_the_run_says_so(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = static_folder(tmp_path / "vectors", embeddings=torch.randn(len(PIECES), 20))
    train("run", "--word_vectors", str(folder), "--max_steps", "1")
    assert "have a vector; PCA reduced it from 20 to 16 numbers (100.0 % of the variance)" in capsys.readouterr().out


def test_narrower_vectors_are_refused(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = static_folder(tmp_path / "vectors", embeddings=torch.randn(len(PIECES), 4))
    with pytest.raises(SystemExit) as exit_status:
        train("run", "--word_vectors", str(folder))
    assert exit_status.value.code == 2
    assert "vectors of 4 numbers but the embedding has 16. Pass `--embedding_size 4`" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--max_extra_words", "0"], ["--tokenizer_type", "bpe", "--vocab_size", "100"]])
def test_a_run_without_extra_words_has_the_words_of_its_rows(train: Train, tmp_path: Path, argv: list[str]) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} {'0.5 ' * 16}\n" for word in ("t", "the", "zebra")))
    _, run = train("run", "--word_vectors", str(vectors), "--max_steps", "1", *argv)
    assert "zebra" not in AutoTokenizer.from_pretrained(run).get_vocab()
