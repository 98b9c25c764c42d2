import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from rnn_hf.commands import export_onnx, push_to_hub
from rnn_hf.commands import train as train_script
from rnn_hf.hub import OPTIONAL_FILES, REQUIRED_FILES
from rnn_hf.training.recipes import NOT_PART_OF_THE_RUN
from tests import local_hub
from tests.conftest import ROOT, TINY_RUN
from tests.local_hub import READ_TOKEN
from tests.test_hub import make_classifier, save_folder

Train = Callable[..., tuple[dict[str, Any], Path]]

NAME = "owner/tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run, with its checkpoints and other files that may be in a folder."""
    folder = save_folder(make_classifier(), tmp_path / "run")
    more = ["recipe.yaml", "all_results.json", "figures/curves.png"]
    private = [
        "checkpoints/step-1/model.safetensors", "runs/events.tfevents", ".env", "notes.txt", "pytorch_model.bin",
        "figures/raw.csv", ".git/config", "setup.py",
    ]  # fmt: skip
    for name in (*more, *private):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    return folder


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run the script, which must fail with one line and status 2; return the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        push_to_hub.main(argv)
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    # before it, the Hub's client may have shown its progress
    *_, line = re.split(r"[\r\n]+", said)
    assert line.startswith("rnn-hf push: error: ")
    return line


def is_on_hub(name: str) -> bool:
    try:
        HfApi().model_info(name)
    except RepositoryNotFoundError:
        return False
    return True


CODE = {
    "configuration_rnn.py",
    "layers_rnn.py",
    "modeling_rnn.py",
    "ngrams_rnn.py",
    "outputs_rnn.py",
    "pooling_rnn.py",
    "recurrences_rnn.py",
}
EXPECTED = {*REQUIRED_FILES, *CODE, "recipe.yaml", "all_results.json", "figures/curves.png"}


def test_what_belongs_goes_up_in_one_commit_and_nothing_else(
    hub: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = push_to_hub.main([str(folder), NAME, "--commit_message", "First model"])
    info = HfApi().model_info(NAME)
    assert capsys.readouterr().out.strip() == address == f"{hub}/{NAME}/commit/{info.sha}"
    assert not info.private
    assert set(HfApi().list_repo_files(NAME)) - {".gitattributes"} == EXPECTED
    for name in EXPECTED:
        path = HfApi().hf_hub_download(NAME, name)
        assert Path(path).read_bytes() == (folder / name).read_bytes()


def test_pushing_the_same_again_makes_no_commit_and_a_change_makes_one(hub: str, folder: Path) -> None:
    first = push_to_hub.main([str(folder), NAME])
    assert push_to_hub.main([str(folder), NAME]) == first
    (folder / "recipe.yaml").write_text("seed: 1\n")
    assert push_to_hub.main([str(folder), NAME]) != first


def test_private_makes_a_private_repository_and_never_pushes_to_a_public_one(
    hub: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push_to_hub.main([str(folder), NAME, "--private"])
    assert HfApi().model_info(NAME).private
    HfApi().create_repo("owner/open")
    assert "is public" in refusal(capsys, str(folder), "owner/open", "--private")
    assert HfApi().list_repo_files("owner/open") == [".gitattributes"]


def test_revision_is_a_branch_made_where_it_is_missing(hub: str, folder: Path) -> None:
    for _ in range(2):
        push_to_hub.main([str(folder), NAME, "--revision", "next"])
    assert set(HfApi().list_repo_files(NAME, revision="next")) - {".gitattributes"} == EXPECTED
    assert HfApi().list_repo_files(NAME) == [".gitattributes"]


def test_dry_run_lists_names_and_sizes_without_a_hub_or_a_token(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it connects"))
    monkeypatch.setattr("rnn_hf.hub.get_token", lambda: None)
    assert push_to_hub.main([str(folder), NAME, "--dry_run"]) is None
    *rows, total = [line.split() for line in capsys.readouterr().out.splitlines()]
    sizes = {name: int(size.replace(",", "")) for name, size, _ in rows}
    assert sizes == {name: (folder / name).stat().st_size for name in EXPECTED}
    assert total == ["in", "all", f"{sum(sizes.values()):,}", "bytes"]


def break_card(folder: Path, front_matter: str) -> None:
    (folder / "README.md").write_text(f"{front_matter}\n# Tiny\n")


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.bias"]
    save_file(weights, folder / "model.safetensors")


def widen_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"classifier.bias": torch.zeros(7)}, folder / "model.safetensors")


def set_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def import_in_code(folder: Path, module: str) -> None:
    with (folder / "modeling_rnn.py").open("a") as file:
        file.write(f"\nfrom {module} import X\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors not found"),
        (lambda folder: (folder / "modeling_rnn.py").unlink(), "modeling_rnn.py not found"),
        (lambda folder: (folder / "configuration_rnn.py").unlink(), "configuration_rnn.py not found"),
        (lambda folder: import_in_code(folder, ".layers"), "layers.py not found"),
        (lambda folder: import_in_code(folder, "..layers"), "must import from files beside it, got `..layers`"),
        (lambda folder: import_in_code(folder, ".sub.layers"), "must import from files beside it, got `.sub.layers`"),
        (lambda folder: set_config(folder, auto_map=None), "must name the code of the model, got None"),
        (lambda folder: set_config(folder, auto_map=["setup.A"]), "must name the code of the model, got ['setup.A']"),
        (lambda folder: set_config(folder, auto_map={}), "must name the code of the model, got {}"),
        *(
            (lambda folder, name=name: set_config(folder, auto_map={"AutoConfig": name}), f"beside it, got {name!r}")
            for name in (
                "../setup.A",
                "/etc/setup.A",
                ".setup.A",
                "setup",
                "a.setup.A",
                "owner/x--setup.A",
                ["s.A"],
                1,
            )
        ),
        (lambda folder: set_config(folder, auto_map={"AutoConfig": "nowhere.A"}), "nowhere.py not found"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json not found"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), "not a complete file of weights"),
        (drop_a_weight, "classifier.bias must have the shape [2], got none"),
        (widen_a_weight, "classifier.bias must have the shape [2], got [7]"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: set_config(folder, model_type="bert"), "'bert' model, not one of this package"),
        (lambda folder: set_config(folder, hidden_size=0), "`hidden_size` must be at least 1"),
        (lambda folder: set_config(folder, architectures=["Other"]), "got 'Other'"),
        (lambda folder: break_card(folder, ""), "must start with front matter"),
        (lambda folder: break_card(folder, "---\ntags: [a\n---"), "front matter of the card"),
        (lambda folder: break_card(folder, "---\ntags: [a]\n---"), "no `pipeline_tag`"),
        # only the Hub knows which licences there are
        (
            lambda folder: break_card(folder, "---\npipeline_tag: text-classification\nlicense: mine\n---"),
            '"license" must be one of',
        ),
    ],
)
def test_a_folder_that_is_not_a_whole_model_is_refused_before_anything_is_made(
    spoil: Callable[[Path], None], message: str, hub: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    assert message in refusal(capsys, str(folder), NAME)
    assert not is_on_hub(NAME)


@pytest.mark.parametrize("inside", [False, True], ids=["out of the folder", "inside it"])
@pytest.mark.parametrize(
    "name",
    ["README.md", "model.safetensors", "recipe.yaml", "figures/curves.png", "figures", "modeling_rnn.py", "more.py"],
)
def test_a_link_is_named_and_nothing_is_pushed(
    name: str, inside: bool, hub: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "more.py":
        (folder / name).write_text("X = 1")
        import_in_code(folder, ".more")
    target = (folder / ".git" if inside else tmp_path) / "elsewhere"
    (folder / name).rename(target)
    (folder / name).symlink_to(target)
    assert f"'{folder / name}' is a link, to '{target}'" in refusal(capsys, str(folder), NAME)
    assert f"'{folder / name}' is a link" in refusal(capsys, str(folder), NAME, "--dry_run")
    assert not is_on_hub(NAME)


def test_a_link_to_the_model_folder_is_followed_and_links_that_stay_here_do_not_matter(
    hub: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "newest").symlink_to(folder)
    (folder / "secret.yaml").symlink_to("/etc/passwd")
    (folder / "checkpoints" / "step-2").symlink_to(tmp_path)
    push_to_hub.main([str(tmp_path / "newest"), NAME])
    assert set(HfApi().list_repo_files(NAME)) - {".gitattributes"} == EXPECTED


def test_code_is_what_the_configuration_names_and_what_that_imports(hub: str, folder: Path) -> None:
    """Step by step, and no other Python file."""
    for name, imported in (("modeling_rnn", "first"), ("first", "second"), ("second", "modeling_rnn")):
        with (folder / f"{name}.py").open("a") as file:
            file.write(f"\ndef later():\n    from .{imported} import X\n")
    push_to_hub.main([str(folder), NAME])
    assert set(HfApi().list_repo_files(NAME)) - {".gitattributes"} == {*EXPECTED, "first.py", "second.py"}


def test_the_repository_of_another_owner_is_one_line(
    hub: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "may not write to 'others/tiny'" in refusal(capsys, str(folder), "others/tiny")


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "No access token"),
        ("hf_unknown", "does not accept the access token"),
        (READ_TOKEN, "may not write to 'owner/tiny'"),
    ],
)
def test_a_missing_wrong_or_weak_token_is_one_line(
    token: str | None,
    message: str,
    hub: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    assert message in refusal(capsys, str(folder), NAME)


def test_a_revision_that_cannot_be_a_branch_is_one_line(
    hub: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, str(folder), NAME, "--revision", "refs/pr/5")
    assert "The Hub rejected 'owner/tiny': " in line
    assert "Invalid reference for a branch: refs/pr/5" in line


def test_a_hub_that_does_not_answer_is_one_line(
    hub: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "The Hub at http://127.0.0.1:9 does not answer" in refusal(capsys, str(folder), NAME)


def test_weights_that_do_not_arrive_are_one_line_and_no_commit(
    hub: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_hub, "ROUTES", [route for route in local_hub.ROUTES if route[0] != "PUT"])
    line = refusal(capsys, str(folder), NAME)
    assert "The weights did not reach the Hub" in line
    assert HfApi().list_repo_files(NAME) == [".gitattributes"]


def test_a_card_on_the_hub_loads_the_model_from_there(hub: str, train: Train) -> None:
    _, folder = train("model")
    export_onnx.main([str(folder)])
    before = (folder / "README.md").read_text()
    push_to_hub.main([str(folder), NAME])
    card = Path(HfApi().hf_hub_download(NAME, "README.md")).read_text()
    assert (folder / "README.md").read_text() == before and "Replace the name below" in before
    assert "Replace the name below" not in card
    for loading in ('model="{}"', 'from_pretrained("{}")', "AutoModel.from_pretrained('{}'", "lesson-page {}`"):
        assert loading.format(NAME) in card and loading.format("model") in before
        assert loading.format("model") not in card
    assert "OnnxTextClassifier('model')" in card, "a folder, since it does not download"


def test_training_pushes_the_finished_folder(hub: str, train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = train(
        "model", "--push_to_hub", "--hub_model_id", NAME, "--hub_private_repo", "--hub_revision", "trained",
        "--save_strategy", "epoch",
    )  # fmt: skip
    info = HfApi().model_info(NAME, revision="trained")
    assert capsys.readouterr().out.strip().endswith(f"Pushed:   {hub}/{NAME}/commit/{info.sha}")
    assert info.private
    assert (folder / "checkpoints").is_dir()
    pushed = set(HfApi().list_repo_files(NAME, revision="trained")) - {".gitattributes"}
    assert {*REQUIRED_FILES, *CODE, "recipe.yaml", "all_results.json"} <= pushed
    assert not any(name.startswith("checkpoints") for name in pushed)
    assert f'model="{NAME}"' in (folder / "README.md").read_text()
    # repeating the run from its recipe does not push to the same place
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["push_to_hub"] is False


def test_a_refused_push_leaves_the_trained_folder_whole(
    hub: str, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        train("model", "--push_to_hub", "--hub_model_id", "others/tiny")
    line = capsys.readouterr().err.strip().splitlines()[-1].split("\r")[-1]
    assert line.startswith("rnn-hf train: error: The model is complete in ")
    assert "may not write to 'others/tiny'" in line
    assert {*REQUIRED_FILES, *CODE} <= {path.name for path in (tmp_path / "model").iterdir()}
    assert push_to_hub.main([str(tmp_path / "model"), NAME]) is not None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--push_to_hub"], "Pass `--hub_model_id OWNER/NAME`"),
        (["--push_to_hub", "--hub_model_id", "tiny"], "must be named OWNER/NAME, got 'tiny'"),
        (["--push_to_hub", "--hub_model_id", NAME], "No access token"),
    ],
)
def test_training_does_not_begin_where_it_could_not_push(
    argv: list[str],
    message: str,
    hub: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(train_script, "load_splits", lambda *_: pytest.fail("it reads the data"))
    with pytest.raises(SystemExit, match="2"):
        train_script.main([*TINY_RUN, "--output_dir", str(tmp_path / "run"), *argv])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_where_a_run_is_pushed_does_not_keep_it_from_being_resumed() -> None:
    assert {"push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision"} <= NOT_PART_OF_THE_RUN


def test_it_runs_as_a_program(
    hub: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(ROOT / "scripts" / "push_to_hub.py")
    monkeypatch.setattr(sys, "argv", [script, str(folder), NAME])
    runpy.run_path(script, run_name="__main__")
    assert capsys.readouterr().out.strip().startswith(f"{hub}/{NAME}/commit/")


def test_checkpoints_and_pickles_can_never_be_on_the_list() -> None:
    assert not any("checkpoint" in name or name.endswith((".bin", ".pt", ".pkl")) for name in REQUIRED_FILES)
    assert not any("checkpoint" in name or name.endswith((".bin", ".pt", ".pkl")) for name in OPTIONAL_FILES)
