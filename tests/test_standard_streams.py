"""Closed, full and abandoned standard streams, for every command: a quiet end or one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from rnn_hf import standard_streams
from rnn_hf.commands import predict
from rnn_hf.commands.entry import exit_statuses
from tests.tiny_classifiers import make_classifier

# A command without what takes seconds to import
PRINTING = f"""
import runpy, sys
standard_streams = runpy.run_path({standard_streams.__file__!r})["standard_streams"]
with standard_streams():
    for _ in range(int(sys.argv[1])):
        print("line")
    print("said", file=sys.stderr)
"""
PREDICT = "from rnn_hf.commands.predict import main; main()"


def shell(line: str, code: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a line of bash, in which `$0 "$@"` stands for it."""
    words = ["bash", "-c", line, sys.executable, "-c", code, *argv]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def save_model(folder: Path) -> str:
    classifier = make_classifier()
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("number", ["1", "100000"])
def test_a_reader_that_has_ended_ends_a_command_quietly(number: str) -> None:
    # one line fails when Python exits, many while they are written
    done = shell('{ sleep 0.3; "$0" "$@"; echo $? >&2; } | true', PRINTING, number)
    assert done.stderr.split() in (["141"], ["said", "141"])


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_written_nowhere(streams: str, tmp_path: Path) -> None:
    # the next file that is opened would get the number of the closed stream, and what is printed
    code = PRINTING.replace("    for", f"    file = open({str(tmp_path / 'file')!r}, 'w')\n    for")
    done = shell(f'"$0" "$@" {streams}; echo $?', code, "3")
    assert done.stdout.splitlines()[-1] == "0"
    assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == ""


def test_predict_ends_quietly_when_its_reader_does(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a dog\n" * 30_000)
    model = ("--model_name_or_path", save_model(tmp_path / "model"))
    line = '"$0" "$@" | head -1; echo ${PIPESTATUS[0]}'
    done = shell(line, PREDICT, *model, "--input_file", str(tmp_path / "lines.txt"))
    answer, status = done.stdout.splitlines()
    assert (answer.startswith('{"label"'), status) == (True, "141")
    assert "Error" not in done.stderr


@pytest.mark.parametrize(
    ("stream", "argv", "line"),
    [
        ("stdin", [], "Standard input is closed. Pass `--text` or `--input_file`."),
        ("__stdout__", ["--text", "a"], "Standard output is closed. Pass `--output_file`."),
    ],
)
def test_predict_says_in_one_line_which_stream_it_needs(
    stream: str, argv: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, stream, None)
    with pytest.raises(SystemExit, match="2"):
        predict.main(["--model_name_or_path", "model", *argv])
    assert capsys.readouterr().err == f"rnn-hf predict: error: {line}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_disk_behind_standard_output_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full, pytest.raises(SystemExit, match="2"):
        monkeypatch.setattr(sys, "stdout", full)
        exit_statuses("script.py")(lambda: print("line"))()
    assert capsys.readouterr().err == "script.py: error: [Errno 28] No space left on device\n"
