import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers.utils import logging as transformers_logging

from rnn_hf import TextClassifier
from rnn_hf.commands import predict
from tests.conftest import last_line
from tests.tiny_classifiers import make_classifier


@pytest.fixture
def model(train: Callable[..., tuple[dict[str, Any], Path]]) -> str:
    return str(train("model")[1])


def answers(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_texts_from_everywhere_get_the_same_answers(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["The club won the cup.", "", "Shares fell, and oil rose."]
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(texts) + "\n")
    capsys.readouterr()
    predict.main(["--model_name_or_path", model, "--text", *texts])
    from_arguments = capsys.readouterr().out
    predict.main(["--model_name_or_path", model, "--input_file", str(lines)])
    from_file = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.read_bytes())))
    predict.main(["--model_name_or_path", model])
    from_stdin = capsys.readouterr().out
    predict.main(
        ["--model_name_or_path", model, "--input_file", str(lines), "--output_file", str(tmp_path / "out.jsonl")]
    )
    assert from_arguments == from_file == from_stdin == (tmp_path / "out.jsonl").read_text()
    assert [sorted(answer) for answer in answers(from_file)] == [["label", "probability"]] * 3


def test_one_text_shows_no_progress_bar(model: str, capfd: pytest.CaptureFixture[str]) -> None:
    transformers_logging.enable_progress_bar()
    capfd.readouterr()
    predict.main(["--model_name_or_path", model, "--text", "The club won."])
    assert capfd.readouterr().err == "" and transformers_logging.is_progress_bar_enabled()


def test_all_probabilities_sum_to_one_and_the_label_has_the_highest(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    predict.main(["--model_name_or_path", model, "--all_probabilities", "--text", "The club won."])
    (answer,) = answers(capsys.readouterr().out)
    assert list(answer["probabilities"]) == ["World", "Sports", "Business", "Sci/Tech"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["probability"] == max(answer["probabilities"].values()) == answer["probabilities"][answer["label"]]


def test_lines_end_at_line_feeds_alone(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_bytes(b"a\rhalf\x85\xe2\x80\xa8 \x0c\r\n\x00\r\nlast line without an end".replace(b"\x85", b""))
    capsys.readouterr()
    predict.main(["--model_name_or_path", model, "--input_file", str(lines)])
    assert len(answers(capsys.readouterr().out)) == 3


def test_explanations_are_added_to_the_answers_of_lines_and_tables(model: str, tmp_path: Path) -> None:
    texts = ["The club won the cup.", "", "Shares fell, and oil rose."]
    table, lines = tmp_path / "table.csv", tmp_path / "lines.txt"
    table.write_text("id,text,label\n" + "".join(f'{row},"{text}",x\n' for row, text in enumerate(texts)))
    lines.write_text("\n".join(texts) + "\n")
    explained = TextClassifier.from_pretrained(model).explain(texts, method="integrated_gradients")
    for file, prefix in ((lines, ""), (table, "predicted_")):
        out = tmp_path / "out.jsonl"
        argv = ["--model_name_or_path", model, "--input_file", str(file), "--output_file", str(out), "--explain"]
        predict.main([*argv, "--explanation_method", "integrated_gradients"])
        found = answers(out.read_text())
        for answer, explanation in zip(found, explained, strict=True):
            written = answer[f"{prefix}explanation"]
            assert (written["label"], written["words"]) == (answer[f"{prefix}label"], explanation.words)
            assert (written["method"], written["unit"]) == ("integrated_gradients", "logit")
            assert [tuple(pair) for pair in written["offsets"]] == explanation.offsets
            assert written["contributions"] == pytest.approx(explanation.contributions, abs=1e-5)
    assert [answer["id"] for answer in found] == ["0", "1", "2"] and found[0]["label"] == "x"


@pytest.mark.parametrize("no_color", ["", "1"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_words_are_colored_in_a_terminal_and_have_numbers_elsewhere(
    is_terminal: bool,
    no_color: str,
    model: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    predict.main(["--model_name_or_path", model, "--explain", "--text", "The club \x1b[2J won.", ""])
    first, second = capsys.readouterr().out.splitlines()
    explanation = TextClassifier.from_pretrained(model).explain("The club \x1b[2J won.")
    head, _, words = first.partition(": ")
    assert head == f"{explanation.label} (probability {explanation.score:.3f})" and second.endswith(": ")
    assert "\x1b[2J" not in words
    if is_terminal and not no_color:
        largest = int(np.argmax(np.abs(explanation.contributions)))
        color = "47;111;222" if explanation.contributions[largest] > 0 else "224;122;26"
        assert f"\x1b[1;38;2;{color}m" in words.split(" ")[largest]
        assert re.sub(r"\x1b\[[\d;]*m", "", words) == "The club \ufffd[2J won."
    else:
        numbers = re.findall(r"\(([+-]\d\.\d{3})\)", words)
        assert [float(number) for number in numbers] == pytest.approx(explanation.contributions, abs=1e-3)


def test_a_model_with_several_targets_is_explained_in_python_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classifier(num_labels=2, problem_type="regression").save_pretrained(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        predict.main(["--model_name_or_path", str(tmp_path), "--explain", "--text", "a"])
    assert "`--explain` needs a model with one target, got 2 targets" in last_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output_file", "x.csv", "--text", "a"], "`--output_file` must end in .jsonl, got 'x.csv'"),
        (["--input_dir", "x", "--output_dir", "y"], "`--explain` and `--input_dir` are mutually exclusive"),
        (["--explanation_method", "shap", "--text", "a"], "invalid choice: 'shap'"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict.main(["--model_name_or_path", "x", "--explain", *argv])
    assert message in last_line(capsys.readouterr().err)
