import os
import re
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import pytest
from huggingface_hub.errors import StrictDataclassError

from rnn_hf import RNNConfig
from rnn_hf.argument_fields import names_of
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.evaluate import EvaluateArguments
from rnn_hf.commands.parser import CommandParser, check_folder_of
from rnn_hf.commands.predict import PredictArguments
from rnn_hf.errors import one_line
from rnn_hf.files import atomic_file, write_json
from rnn_hf.progress import say
from rnn_hf.training.arguments import ClassifierRunArguments, DistillationRunArguments, LanguageModelRunArguments


@dataclass
class Flags:
    names: list[str] = field(default_factory=list)
    size: int = 3
    is_loud: bool = False


@exit_statuses("script.py", Flags)
def program(error: Exception) -> None:
    with user_errors():
        raise error


@exit_statuses("script.py", Flags)
def talking_program(line: str) -> None:
    say(line)


def test_flags_are_read_and_those_given_are_told() -> None:
    (flags,), given = CommandParser([Flags]).parse(["--names", "a", "b", "--is_loud", "--size=4"])
    assert flags == Flags(["a", "b"], 4, True)
    assert given == {"names", "is_loud", "size"}


def path_names(arguments: type) -> set[str]:
    return {entry.name for entry in fields(arguments) if entry.metadata.get("is_path")}  # type: ignore[arg-type]


JOBS_ARGUMENTS = [
    ClassifierRunArguments, LanguageModelRunArguments, DistillationRunArguments, EvaluateArguments, PredictArguments,
]  # fmt: skip


@pytest.mark.parametrize("arguments", JOBS_ARGUMENTS)
def test_every_argument_that_names_a_file_or_folder_is_a_path(arguments: type) -> None:
    ending = re.compile(r"_(file|dir|name_or_path)$|^(dataset_name|word_vectors|resume_from_checkpoint)$")
    assert path_names(arguments) == {
        name for name in names_of(arguments) if ending.search(name) and name != "overwrite_output_dir"
    }


@pytest.mark.parametrize("way", ["word", "equals sign", "recipe"])
@pytest.mark.parametrize("arguments", JOBS_ARGUMENTS)
def test_the_home_folder_is_meant_by_a_tilde_however_it_is_written(
    arguments: type, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    required = {entry.name for entry in fields(arguments) if entry.default is MISSING}  # type: ignore[arg-type]
    for name in sorted(path_names(arguments) - {"backward_model_name_or_path", "input_dir", "output_dir"}):
        words = [f"--{name}=~/x"] if way == "equals sign" else [f"--{name}", "~/x"]
        if way == "recipe":
            (tmp_path / "recipe.yaml").write_text(f"{name}: ~/x\n")
            words = ["~/recipe.yaml"]
        words += [word for other in required - {name} for word in (f"--{other}", "other")]
        (args,), _ = CommandParser([arguments]).parse(words)
        value = getattr(args, name)
        assert (value[0] if isinstance(value, list) else value) == str(tmp_path / "x")


def test_the_home_folder_of_nobody_is_refused_before_a_folder_of_its_name_is_made() -> None:
    with pytest.raises(ValueError, match="home folder of an unknown user"):
        CommandParser([ClassifierRunArguments]).parse(["--output_dir=~nobody-of-this-name/run"])


def test_a_tilde_elsewhere_in_a_name_stays() -> None:
    (args,), _ = CommandParser([PredictArguments]).parse(["--model_name_or_path", "a~/~b", "--text", "~/c"])
    assert (args.model_name_or_path, args.text) == ("a~/~b", ["~/c"])


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


def test_a_line_of_a_command_has_dashes_and_the_same_line_elsewhere_has_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "Warning:  Some texts are longer than 3 tokens. Raise `size`, pass `size=4`, or drop `colour`."
    talking_program(line)
    assert capsys.readouterr().out == line.replace("`size`", "`--size`").replace("`size=4`", "`--size 4`") + "\n"
    say(line)
    assert capsys.readouterr().out == line + "\n"


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


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("no/x.json", "The folder of `output_file` does not exist: .* Create it."),
        ("", "`output_file` must be a file, got the folder .* Pass a file in it."),
        ("pipe", "`output_file` must be a regular file, got .* redirect the output"),
    ],
)
def test_a_file_that_could_not_be_written_is_refused_before_anything_is_computed(
    file: str, says: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        check_folder_of("output_file", str(tmp_path / file))
    for good in (None, str(tmp_path / "x.json")):
        check_folder_of("output_file", good)


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
