import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rnn_hf.commands import predict


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
