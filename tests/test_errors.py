import base64
import logging
from pathlib import Path

import pytest
from huggingface_hub import constants

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.errors import cache_error, causes_of, scrubbed, scrubbed_logs

TOKEN = "hf_NobodyMaySeeThis"


@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_token_is_taken_out_wherever_it_comes_from(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    if place == "environment":
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    else:
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert scrubbed(f"sent 'Bearer {TOKEN}' and {TOKEN}.") == "sent 'Bearer ***' and ***."


def test_a_text_without_secrets_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    text = "owner@example.org wrote https://example.org/a@b, at 3:4@5"
    assert scrubbed(text) == text


def test_users_and_passwords_are_taken_out_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://user:pass%40word@127.0.0.1:9")
    sent = base64.b64encode(b"user:pass@word").decode()
    assert scrubbed(f"http://user:pass%40word@127.0.0.1:9/x: Basic {sent}") == "http://127.0.0.1:9/x: Basic ***"
    assert scrubbed("ftp://me:p@ss@host/") == "ftp://host/"


def test_neither_the_line_of_an_error_nor_a_log_has_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    @exit_statuses("script.py")
    def program() -> None:
        with user_errors():
            logging.getLogger("huggingface_hub.utils").warning("Retrying %s with %s", "http://me:pw@host", TOKEN)
            raise FileNotFoundError(2, "No such file", f"/home/{TOKEN}")

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(SystemExit, match="2"):
        program()
    assert capsys.readouterr().err == "script.py: error: No such file: '/home/***'.\n"
    assert [record.getMessage() for record in caplog.records] == ["Retrying http://host with ***"]


@pytest.mark.parametrize("place", ["file", "below a file", "forbidden"])
def test_a_cache_that_cannot_be_written_is_named_whatever_wraps_the_error(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    home = {"file": tmp_path / "file", "below a file": tmp_path / "file/a/b", "forbidden": tmp_path / "home"}[place]
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)

    @exit_statuses("script.py")
    def program() -> None:
        with user_errors():
            try:
                if place == "forbidden":
                    raise PermissionError(13, "Permission denied", str(home / "datasets"))
                (home / "datasets").mkdir(parents=True)
            except OSError as error:
                raise ValueError("`train_file` must hold rows. Fix the file.") from error

    with pytest.raises(SystemExit, match="2"):
        program()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"script.py: error: The cache folder '{home}' cannot be written (")
    assert line.endswith("Set the environment variable HF_HOME to a folder that can.")


def test_a_file_elsewhere_is_not_taken_for_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    assert cache_error(PermissionError(13, "Permission denied", str(tmp_path / "homework"))) is None
    assert cache_error(ValueError("no file")) is None


def test_an_error_that_is_raised_again_has_each_of_its_causes_once() -> None:
    inner = FileNotFoundError(2, "No such file", "rows.csv")
    try:
        try:
            raise RuntimeError("wrapped") from inner
        except RuntimeError as error:
            outer = error
            raise inner from None  # whose context is the error that it caused
    except FileNotFoundError:
        assert inner.__context__ is outer and outer.__cause__ is inner
    assert causes_of(inner) == [inner, outer]
    assert cache_error(inner) is None


def test_a_message_that_does_not_fit_its_arguments_is_left_to_its_handler() -> None:
    factory = logging.getLogRecordFactory()
    with scrubbed_logs():
        record = logging.getLogRecordFactory()("name", logging.INFO, "path", 1, "%d", ("x",), None)
        assert (record.msg, record.args) == ("%d", ("x",))
    assert logging.getLogRecordFactory() is factory
