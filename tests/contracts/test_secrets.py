"""Credentials for the Hub are in nothing that the scripts print or write, even if the Hub echoes them."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from tests import local_hub
from tests.conftest import TINY_RUN, in_new_process

TOKEN = "hf_NobodyMaySeeThis"
PASSWORD = "NobodyMaySeeThisEither"

# The status of a repository's answers is the number in its name
SCRIPTS = """
import sys, time
from rnn_hf.commands import evaluate, predict, push_to_hub, train
from rnn_hf import TextClassifier

time.sleep = lambda _: None  # between the tries of a request
folder, other, tiny_run = sys.argv[1], sys.argv[2], sys.argv[3:]

def refused(main, *argv):
    try:
        main(argv)
    except SystemExit as stop:
        assert stop.code == 2, (argv, stop.code)
    else:
        raise AssertionError(argv)

train.main([*tiny_run, "--output_dir", folder, "--push_to_hub", "--hub_model_id", "owner/good"])
push_to_hub.main([folder, "owner/good"])
evaluate.main(["--model_name_or_path", "owner/good", "--dataset_name", "demo", "--use_cpu"])
classifier = TextClassifier.from_pretrained("owner/good", token=TOKEN)
classifier.model.save_pretrained(other + "/saved")
classifier.tokenizer.save_pretrained(other + "/saved")
train.main([*tiny_run, "--output_dir", other + "/on", "--tokenizer_name_or_path", "owner/good"])
refused(train.main, *tiny_run, "--output_dir", other + "/pushed", "--push_to_hub", "--hub_model_id", "owner/bad-403")
for status in (401, 403, 500):
    name = f"owner/bad-{status}"
    refused(push_to_hub.main, folder, name)
    refused(push_to_hub.main, folder, name, "--private", "--revision", "next")
    refused(evaluate.main, "--model_name_or_path", folder, "--dataset_name", name)
    refused(predict.main, "--model_name_or_path", name, "--text", "a")
    refused(train.main, "--dataset_name", name, "--output_dir", other)
    for flag in ("model_name_or_path", "tokenizer_name_or_path"):
        refused(train.main, "--dataset_name", "demo", "--output_dir", other + "/new", f"--{flag}", name)
"""


def answer_with_what_was_asked(handler: Any, body: bytes) -> None:
    """Reject requests for repositories whose names say so, and echo the request's header."""
    number = re.search(rb"bad-(\d+)", handler.path.encode() + b" " + body[:200])
    if number is None:
        return ROUTE(handler, body)
    said = f"asked with Authorization: {handler.headers.get('Authorization')} at {handler.path}"
    return handler.answer({"error": said}, int(number[1]), {"X-Error-Message": said})


ROUTE = local_hub.Handler.route


@pytest.mark.parametrize("place", ["environment", "file, and a password in the address"])
def test_no_secret_is_printed_or_written(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = [TOKEN, PASSWORD]
    monkeypatch.setattr(local_hub.Handler, "route", answer_with_what_was_asked)
    surroundings = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    with local_hub.serve(tmp_path / "hub") as address:
        if place == "environment":
            monkeypatch.setattr(local_hub, "WRITE_TOKEN", TOKEN)
        else:
            (tmp_path / "token").write_text(TOKEN)
            del surroundings["HF_TOKEN"]
            monkeypatch.delenv("HF_TOKEN", raising=False)
            surroundings["HF_TOKEN_PATH"] = str(tmp_path / "token")
            # the password is then the credential
            sent = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
            monkeypatch.setattr(local_hub, "WRITE_TOKEN", f"Basic {sent}")
            address = address.replace("://", f"://user:{PASSWORD}@")
            secrets.append(sent)
        done = in_new_process(
            SCRIPTS.replace("TOKEN", repr(TOKEN)),
            str(tmp_path / "run"),
            str(tmp_path / "other"),
            *TINY_RUN,
            HF_ENDPOINT=address,
            HF_DATASETS_CACHE=str(tmp_path / "datasets"),
            **surroundings,
        )
    assert done.returncode == 0, done.stderr
    # it was echoed, and removed
    assert "Authorization: Bearer ***" in done.stderr or "Authorization: Basic ***" in done.stderr
    assert "Retrying in" in done.stderr
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "token"}
    assert tmp_path / "run" / "README.md" in written and tmp_path / "other" / "on" / "recipe.yaml" in written
    for secret in secrets:
        assert secret not in done.stdout
        assert secret not in done.stderr
        assert [path for path, content in written.items() if secret.encode() in content] == []
