from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub.errors import StrictDataclassError

from rnn_hf import RNNConfig
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser
from rnn_hf.errors import one_line
from rnn_hf.files import atomic_file, write_json


@dataclass
class Flags:
    names: list[str] = field(default_factory=list)
    size: int = 3
    is_loud: bool = False


@exit_statuses("script.py", Flags)
def program(error: Exception) -> None:
    with user_errors():
        raise error


def test_flags_are_read_and_those_given_are_told() -> None:
    (flags,), given = CommandParser([Flags]).parse(["--names", "a", "b", "--is_loud", "--size=4"])
    assert flags == Flags(["a", "b"], 4, True)
    assert given == {"names", "is_loud", "size"}


def test_flags_are_not_guessed_from_their_beginning() -> None:
    with pytest.raises(ValueError, match=r"Unknown argument '--siz'. Did you mean `--size`\?"):
        CommandParser([Flags]).parse(["--siz", "4"])


def test_a_flag_like_no_other_is_refused_with_the_way_to_the_list() -> None:
    with pytest.raises(ValueError, match="`--help` lists the flags"):
        CommandParser([Flags]).parse(["--zzzzzz"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("`size` must be\n at least 1, got 0."), "`--size` must be at least 1, got 0."),
        (ValueError("Pass `size=4`, not `colour`."), "Pass `--size 4`, not `colour`."),
        (FileNotFoundError("No such folder: 'x'."), "No such folder: 'x'."),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), "No such file or directory: 'x.yaml'."),
        (ValueError(), "ValueError"),
        (ValueError('Label "\x1b[2J\ud800"'), 'Label "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"'),
    ],
)
def test_a_mistake_ends_in_one_line_and_status_2(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        program(error)
    assert capsys.readouterr().err == f"script.py: error: {line}\n"


def test_a_configurations_error_is_its_own_message() -> None:
    with pytest.raises(StrictDataclassError) as caught:
        RNNConfig(hidden_size=0)
    assert one_line(caught.value) == "`hidden_size` must be at least 1, got 0."


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        program(ZeroDivisionError())


def test_only_the_first_process_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit, match="2"):
        program(ValueError("seen once"))
    assert capsys.readouterr().err == ""


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with atomic_file(path) as beside:
        beside.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("results.json", "old")]


def test_a_file_is_written_in_place_of_a_link_and_not_through_it(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    path = tmp_path / "results.json"
    for link in (path, tmp_path / ".results.tmp.json"):
        link.symlink_to(elsewhere)
    write_json(path, [1])
    assert path.read_text() == "[1]\n" and not path.is_symlink()
    assert elsewhere.read_text() == "mine"
