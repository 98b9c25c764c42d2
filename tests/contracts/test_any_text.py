"""No text is an error: whatever it holds and however long it is, every way to the model gives probabilities."""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from datasets import Dataset
from transformers import pipeline

from rnn_hf import TextClassifier
from rnn_hf.commands import evaluate, predict
from rnn_hf.commands import train as train_script
from rnn_hf.data.tokenizer_training import TokenizerType, train_tokenizer

SETTINGS = ["--embedding_size", "4", "--hidden_size", "4", "--num_train_epochs", "1", "--use_cpu"]

TEXTS = {
    "empty": "",
    "blanks": " \t\u00a0\u2003\u3000 ",
    "line ends": "a\r\nb\rc\nd\u2028e\u2029f\x0bg\x0ch\x85i",
    "nul": "a\x00b\x00",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x9f",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd\u202c \u0645\u0631\u062d\u0628\u0627",
    "emoji sequences": "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 ❤️‍🔥",
    "combining marks": "e" + "\u0301" * 500,
    "not characters": "\ufffe\uffff\U0010ffff\ufdd0",
    "replacement characters": "\ufffd" * 50,
    "special tokens": "[PAD] [UNK] [CLS] <s> </s> <|endoftext|>",
    "markup": "<br /><script>alert(1)</script>&#0;&#x110000;&amp;",
    "one character": "x",
    "marks alone": "'.,()!?;:\"" * 50,
    "a word of 1,000,000 letters": "x" * 1_000_000,
    "1,000,000 letters of Chinese": "新" * 1_000_000,
    "100,000 words": "word " * 100_000,
    "1,000,000 sigmas": "Σ" * 1_000_000,
    "1,000,000 quotes": '"' * 1_000_000,
}


def are_probabilities(numbers: Any) -> bool:
    numbers = np.asarray(numbers)
    return bool(np.isfinite(numbers).all() and np.allclose(numbers.sum(axis=-1), 1, atol=1e-4))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A model that was trained on these texts, and tested on them; results and folder."""
    place = tmp_path_factory.mktemp("texts")
    texts = list(TEXTS.values()) * 3
    Dataset.from_dict({"text": texts, "label": [row % 2 for row in range(len(texts))]}).to_parquet(
        place / "rows.parquet"
    )
    rows, folder = str(place / "rows.parquet"), place / "run"
    argv = ["--train_file", rows, "--test_file", rows, "--output_dir", str(folder), *SETTINGS]
    return train_script.main(argv), folder


def test_training_and_testing_on_any_text_gives_finite_losses(trained: tuple[dict[str, Any], Path]) -> None:
    results, _ = trained
    assert results["num_test_examples"] == 3 * len(TEXTS)
    assert math.isfinite(results["test_loss"])


def test_evaluation_of_any_text_is_that_of_the_run(trained: tuple[dict[str, Any], Path]) -> None:
    results, folder = trained
    rows = str(folder.parent / "rows.parquet")
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--test_file", rows, "--use_cpu"])
    assert metrics["confusion_matrix"] == results["test_confusion_matrix"]
    assert metrics["loss"] == results["test_loss"]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_any_text_has_probabilities(text: str, trained: tuple[dict[str, Any], Path]) -> None:
    classifier = TextClassifier.from_pretrained(trained[1])
    alone = classifier.predict_proba(text)
    assert are_probabilities(alone)
    np.testing.assert_allclose(classifier.predict_proba(["other", text])[1], alone, atol=1e-5)


@pytest.mark.parametrize("text", ["\ud800", "a \udfff b", "\ud83d", "\udc80" * 3000])
def test_a_lone_surrogate_has_probabilities(text: str, trained: tuple[dict[str, Any], Path]) -> None:
    classifier = TextClassifier.from_pretrained(trained[1])
    assert are_probabilities(classifier.predict_proba(["other", text]))


def test_a_pipeline_answers_any_text(trained: tuple[dict[str, Any], Path]) -> None:
    classify = pipeline("text-classification", model=str(trained[1]), top_k=None)
    for name, text in TEXTS.items():
        scores = [answer["score"] for answer in classify([text])[0]]
        assert are_probabilities(scores), name


def test_any_line_of_a_file_and_of_standard_input_is_answered(
    trained: tuple[dict[str, Any], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [text.replace("\n", " ").replace("\r", " ").encode() for text in TEXTS.values()]
    lines.append(b"\xef\xbb\xbfmark")  # which is one at the start of a file alone
    file = tmp_path / "lines.txt"
    file.write_bytes(b"\n".join(lines))
    model = ["--model_name_or_path", str(trained[1]), "--all_probabilities"]
    capsys.readouterr()
    predict.main([*model, "--input_file", str(file)])
    from_file = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    predict.main(model)
    assert capsys.readouterr().out == from_file
    answers = [json.loads(line) for line in from_file.splitlines()]
    assert len(answers) == len(lines)
    assert all(are_probabilities(list(answer["probabilities"].values())) for answer in answers)


def test_lines_of_standard_input_that_are_no_utf_8_are_one_line(
    trained: tuple[dict[str, Any], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in (b"\x80" * 1000, b"\xed\xa0\x80 a surrogate", bytes(range(128, 256)), b"half \xc3"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n" + line)))
        with pytest.raises(SystemExit, match="2"):
            predict.main(["--model_name_or_path", str(trained[1])])
        assert "such as `--encoding cp1252`" in capsys.readouterr().err.splitlines()[-1]


def test_an_argument_of_bytes_that_are_no_text_is_answered(
    trained: tuple[dict[str, Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Python hands them on as lone surrogates."""
    capsys.readouterr()
    predict.main(["--model_name_or_path", str(trained[1]), "--text", "\udcff", "a"])
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("tokenizer_type", get_args(TokenizerType))
def test_a_million_letters_without_a_blank_are_learned_from_and_read(tokenizer_type: TokenizerType) -> None:
    text = "x" * 1_000_000
    tokenizer = train_tokenizer([text, "x y z"], tokenizer_type=tokenizer_type, vocab_size=20)
    assert tokenizer(text).input_ids


def test_texts_in_every_format_of_files_may_be_odd(tmp_path: Path) -> None:
    """Escaped surrogates in JSON, NUL in CSV, an empty field in each."""
    (tmp_path / "a.jsonl").write_text('{"text": "\\\\ud83d\\\\ude00", "label": 0}\n{"text": "", "label": 1}\n' * 20)
    (tmp_path / "a.csv").write_bytes(b'text,label\n"",0\n"a\x00b",1\n"two\nlines",0\n' + b"x,1\n" * 20)
    (tmp_path / "a.tsv").write_bytes(b'text\tlabel\n\t0\n"\t1\n' + b"x\t1\ny\t0\n" * 20)
    for name in ("a.jsonl", "a.csv", "a.tsv"):
        folder = tmp_path / name[2:]
        rows = str(tmp_path / name)
        results = train_script.main(
            ["--train_file", rows, "--test_file", rows, "--output_dir", str(folder), *SETTINGS]
        )
        assert math.isfinite(results["test_loss"])
