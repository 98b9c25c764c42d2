"""What `--help` prints: groups of flags, each flag once, and the examples as they are written."""

import importlib
import re
from dataclasses import fields
from typing import Any

import pytest

from rnn_hf.__main__ import main as command_line
from rnn_hf.commands.evaluate import EvaluateArguments
from rnn_hf.commands.find_label_errors import LabelErrorArguments
from rnn_hf.commands.parser import GROUPS, CommandParser
from rnn_hf.commands.predict import PredictArguments
from rnn_hf.training.arguments import ClassifierRunArguments, DistillationRunArguments, LanguageModelRunArguments
from rnn_hf.training.settings import CHOSEN_FOR_STUDENTS, CHOSEN_FROM_DATA

JOBS: dict[str, Any] = {
    "train": ClassifierRunArguments,
    "train_language_model": LanguageModelRunArguments,
    "distill": DistillationRunArguments,
    "evaluate": EvaluateArguments,
    "find_label_errors": LabelErrorArguments,
    "predict": PredictArguments,
}


def help_of(job: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a job prints to a terminal of some width."""
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit, match="0"):
        importlib.import_module(f"rnn_hf.commands.{job}").main(["--help"])
    return capsys.readouterr().out


def groups_of(text: str) -> dict[str, list[str]]:
    """Return the flags under each title, in the order in which they are printed."""
    groups: dict[str, list[str]] = {}
    for line in text.splitlines():
        if title := re.fullmatch(r"([a-z ]+):", line):
            groups[title[1]] = []
        elif flag := re.match(r"  --(\S+)", line):
            groups[list(groups)[-1]].append(flag[1])
    return groups


@pytest.fixture(params=[80, 120])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("job", JOBS)
def test_every_flag_is_in_one_group_and_the_ten_most_used_come_first(
    job: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = groups_of(help_of(job, width, monkeypatch, capsys))
    assert list(groups) == [title for title in GROUPS if title in groups] and len(groups) > 2
    first = groups["most used"]
    assert len(first) == 10 and sorted(first) == sorted(JOBS[job].most_used)
    shown = [name for names in groups.values() for name in names]
    assert sorted(shown) == sorted({entry.name for entry in fields(JOBS[job])} - {*JOBS[job].hidden})


def test_a_field_is_in_the_group_of_the_dataclass_that_declares_it_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = groups_of(help_of("train_language_model", 80, monkeypatch, capsys))
    # other defaults of a language model, a field of its own, and fields that name their group
    assert {"hidden_size", "reads_backward"} <= {*groups["model"]} and "max_extra_words" in groups["data"]
    assert "bptt" in groups["training"] and {"save_steps", "num_generated_texts"} <= {*groups["output"]}


@pytest.mark.parametrize("job", [*JOBS, "push_to_hub"])
def test_examples_keep_their_lines_and_prose_fills_the_width(
    job: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = help_of(job, width, monkeypatch, capsys).splitlines()
    written = str(importlib.import_module(f"rnn_hf.commands.{job}").__doc__).splitlines()
    examples = [line for line in written if line.startswith("    ")]
    assert len(examples) >= 2 and [line for line in lines if line in examples] == examples
    # but for the choices of a flag, which argparse does not break
    assert max(len(line) for line in lines if "{" not in line) <= width
    assert lines[0].startswith("usage: rnn-hf ") and len(lines[0]) + len(lines[1]) < 160


def test_defaults_that_the_data_choose_are_named_where_they_are_chosen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of("train", 120, monkeypatch, capsys)
    assert len(re.findall(r"chosen\s+from\s+the\s+data\s+\(otherwise", text)) == len(CHOSEN_FROM_DATA)
    assert "Size of the word vectors. Default: chosen from the data (otherwise 64)." in text
    assert "Number of recurrent layers. Default: 1." in text and "None" not in text
    # what only `rnn-hf train` does is not chosen
    text = help_of("distill", 120, monkeypatch, capsys)
    assert len(re.findall(r"chosen\s+from\s+the\s+data\s+\(otherwise", text)) == len(CHOSEN_FOR_STUDENTS)
    text = help_of("train_language_model", 120, monkeypatch, capsys)
    assert "(otherwise" not in text


def test_spellings_that_are_not_shown_are_read() -> None:
    (args,), given = CommandParser([ClassifierRunArguments]).parse(
        ["--hidden-size", "7", "--no_pack_padded_sequences", "--bidirectional", "--use-cpu=false", "--output-dir", "x"]
    )
    assert (args.hidden_size, args.bidirectional, args.use_cpu, args.output_dir) == (7, True, False, "x")
    assert not args.pack_padded_sequences
    assert {"hidden_size", "bidirectional", "use_cpu", "output_dir"} <= given == args.given


def test_a_hidden_flag_is_read() -> None:
    (args,), _ = CommandParser([DistillationRunArguments]).parse(["--teacher_name_or_path", "x", "--streaming"])
    assert args.streaming


def test_an_interruption_of_the_imports_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    with pytest.raises(SystemExit, match="130"):
        command_line(["predict"])
    assert capsys.readouterr().err == "rnn-hf predict: Stopped by SIGINT.\n"
