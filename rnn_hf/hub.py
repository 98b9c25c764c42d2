"""Pushing a finished model folder to the Hub: checks first, then a single commit."""

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    ModelCard,
    get_session,
    get_token,
    hf_hub_url,
    hf_raise_for_status,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from rnn_hf.onnx_classifier import GRAPH, QUANTIZED_GRAPH
from rnn_hf.safe_loading import check_model

from .errors import plain, scrubbed

# Files without which a model cannot be loaded or understood, besides its code
REQUIRED_FILES = ("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
OPTIONAL_FILES = (
    "special_tokens_map.json", "generation_config.json", "recipe.yaml", "all_results.json", "figures/*.png",
    "figures/*.svg",
)  # fmt: skip
# Written by `rnn-hf export-onnx`
ONNX_FILES = (f"onnx/{GRAPH}", f"onnx/{QUANTIZED_GRAPH}", "onnx/onnx_classifier.py")

# What a card says before its examples until the model is on the Hub
NAME_IS_TO_REPLACE = "Replace the name below by the path of the local folder, or by `OWNER/NAME` on the Hub.\n\n"

# Files of an Inference Endpoint, in a folder of this package
HANDLER_FILES = ("handler.py", "requirements.txt")
ENDPOINT = Path(__file__).with_name("endpoint")

# How `auto_map` names a class, and how a file imports from another beside it; transformers finds imports in the same
# way
CLASS_REFERENCE = re.compile(r"([^\W\d]\w*)\.[^\W\d]\w*")
RELATIVE_IMPORT = re.compile(r"^\s*from\s+\.(\S+)\s+import", re.MULTILINE)

# The Hub's errors derive from those of the HTTP client, which depends on the installed version
REQUEST_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]


def card_for(name: str, card: str, folder: Path) -> str:
    """Return a card whose examples load the model from the Hub instead of the folder in which it was made.

    Args:
        name: `owner/name`.
        card: The text of the card.
        folder: Folder of the model.
    """
    here = re.escape(plain(folder.resolve().name))
    loading = rf"""((?:from_pretrained\(|model=)["']|rnn-hf lesson-page ){here}(?=["'`])"""
    return re.sub(loading, rf"\g<1>{name}", card.replace(NAME_IS_TO_REPLACE, ""))


def check_hub_access(name: str | None) -> None:
    """Check that a name can be a repository's and that there is an access token, without a request to the Hub.

    Args:
        name: `owner/name`.

    Raises:
        ValueError: If the name has another form, or there is no token.
    """
    if name is None or name.count("/") != 1:
        raise ValueError(f"A repository on the Hub must be named OWNER/NAME, got {name!r}.")
    try:
        # only makes an address, and checks the name
        hf_hub_url(name, "config.json")
    except HFValidationError as error:
        raise ValueError(f"{name!r} cannot be the name of a repository: {error}") from error
    if get_token() is None:
        raise ValueError("No access token of the Hub was found. Run `hf auth login`, or set `HF_TOKEN`.")


def code_files(folder: Path, auto_map: Any) -> list[str]:
    """Return the names of the files of a model's code: those that `auto_map` names, and those that they import.

    No code is run. Missing files are in the list, too.

    Args:
        folder: A model folder.
        auto_map: The value in its `config.json`, which maps each Auto class to `file.Class`.

    Raises:
        ValueError: If no code is named, or code outside the Python files of the folder.
    """
    if not isinstance(auto_map, dict) or "AutoConfig" not in auto_map:
        raise ValueError(
            f"`auto_map` in config.json must name the code of the model, got {auto_map!r:.60}. Save the model with "
            "`save_pretrained`."
        )
    modules = []
    for reference in auto_map.values():
        found = CLASS_REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        if found is None:
            raise ValueError(
                f"`auto_map` in config.json must name classes as `file.Class`, in files beside it, got "
                f"{reference!r:.60}. Save the model with `save_pretrained`."
            )
        modules.append(found[1])
    modules = list(dict.fromkeys(modules))
    for module in modules:  # the list grows meanwhile
        path = folder / f"{module}.py"
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() and not path.is_symlink() else ""
        for imported in RELATIVE_IMPORT.findall(text):
            if not imported.isidentifier():
                raise ValueError(f"{str(path)!r} must import from files beside it, got `.{imported:.60}`.")
            if imported not in modules:
                modules.append(imported)
    return [f"{module}.py" for module in modules]


def files_to_push(folder: str | Path, *, with_handler: bool = False) -> dict[str, Path]:
    """Return the files of a model folder that are pushed to the Hub, after checks that the model is complete.

    Args:
        folder: Folder of a model, as written by `rnn-hf train`.
        with_handler: Whether `HANDLER_FILES` are among them.

    Returns:
        Paths by their names in the repository: `REQUIRED_FILES`, existing `OPTIONAL_FILES` and `ONNX_FILES`, and
        `code_files`. All other files, such as checkpoints, are left out.

    Raises:
        FileNotFoundError: If the folder or a required file is missing.
        ValueError: If the configuration, the weights or the card are not those of a model of this package, or if a
            file or its folder is a link, which may lead to files that should not be shared.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"The model folder {str(folder)!r} does not exist.")
    optional = [
        path for pattern in (*OPTIONAL_FILES, *ONNX_FILES) for path in sorted(folder.glob(pattern)) if path.is_file()
    ]
    paths = [*(folder / name for name in REQUIRED_FILES), *optional]
    _check_files(folder, paths)
    config = check_model(folder, is_strict=True)
    code = [folder / name for name in code_files(folder, getattr(config, "auto_map", None))]
    _check_files(folder, code)
    _check_card(folder / "README.md")
    files = {path.relative_to(folder).as_posix(): path for path in [*paths, *code]}
    if with_handler:
        if config.architectures != ["RNNForSequenceClassification"]:
            raise ValueError(f"`with_handler` needs a classifier, got {config.architectures}. Leave it out.")
        files |= {name: ENDPOINT / name for name in HANDLER_FILES}
    return files


def remove_onnx(folder: Path) -> None:
    """Remove the export of a model that has been replaced.

    Args:
        folder: Folder of the model.
    """
    if (folder / "onnx").is_symlink():
        (folder / "onnx").unlink()
    for name in ONNX_FILES:
        (folder / name).unlink(missing_ok=True)


def push_folder(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    with_handler: bool = False,
) -> str:
    """Push a model folder to the Hub in one commit, and return the address of the commit.

    Nothing is created before the folder has passed all checks and the Hub has accepted the card.

    Args:
        folder: Folder of a model, as written by `rnn-hf train`.
        name: `owner/name`; the repository is created if it does not exist.
        private: Whether a new repository is private. An existing public repository is then rejected.
        revision: Branch to commit to, created from `main` if it does not exist. Default: `main`.
        commit_message: Commit message. Default: one that names the kind of model.
        with_handler: Whether to push the code of an Inference Endpoint, too.

    Raises:
        FileNotFoundError: If the folder or a required file is missing.
        ValueError: If the folder, the name or the token is not valid, or the Hub rejects the commit.
        ConnectionError: If the Hub does not answer.
    """
    files = files_to_push(folder, with_handler=with_handler)
    check_hub_access(name)
    api = HfApi(library_name="rnn_hf")
    try:
        card = card_for(name, files["README.md"].read_text(encoding="utf-8"), Path(folder))
        _validate_card(api, card)
        api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.model_info(name).private:
            raise ValueError(f"{name!r} exists and is public. Make it private on the Hub, or choose another name.")
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        contents: dict[str, Path | bytes] = {**files, "README.md": card.encode()}
        operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=part) for path, part in contents.items()]
        # `upload_folder` may split an upload into several commits
        commit = api.create_commit(
            name, operations, commit_message=commit_message or "Upload recurrent text classifier", revision=revision
        )
    except HfHubHTTPError as error:
        raise ValueError(_refusal(error, name)) from error
    except REQUEST_ERROR as error:
        raise ConnectionError(f"The Hub at {api.endpoint} does not answer ({error}). Try again later.") from error
    except RuntimeError as error:  # raised for an interrupted upload of weights
        raise ConnectionError(f"The weights did not reach the Hub ({error.__cause__ or error}). Try again.") from error
    return scrubbed(str(commit.commit_url))


def _check_files(folder: Path, paths: list[Path]) -> None:
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{str(folder)!r} is not a complete model: {', '.join(missing)} not found.")
    for path in paths:
        # the model folder itself may be a link, since the user named it
        link = next((place for place in (path.parent, path) if place != folder and place.is_symlink()), None)
        if link is not None:
            raise ValueError(
                f"'{link}' is a link, to '{link.readlink()}'. Replace it with the file or folder to share."
            )


def _check_card(path: Path) -> None:
    """Check, without the Hub, that the front matter of a card exists and can be parsed."""
    text = path.read_text(encoding="utf-8")
    if not text.lstrip().startswith("---"):
        raise ValueError(f"The card {str(path)!r} must start with front matter between two lines of `---`.")
    try:
        task = ModelCard(text).data.get("pipeline_tag")
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"The front matter of the card {str(path)!r} is not valid: {error}") from error
    if task is None:
        raise ValueError(f"The card {str(path)!r} has no `pipeline_tag`, which names the task. Add one.")


def _validate_card(api: HfApi, card: str) -> None:
    """Ask the Hub whether it accepts a card: only the Hub knows all licences and tasks."""
    # `ModelCard.validate` of some versions ignores `HF_ENDPOINT`
    response = get_session().post(f"{api.endpoint}/api/validate-yaml", json={"repoType": "model", "content": card})
    if response.status_code == 400:
        errors = "; ".join(error["message"] for error in response.json()["errors"])
        raise ValueError(f"The Hub rejected the front matter of the card: {errors}")
    hf_raise_for_status(response)


def _refusal(error: HfHubHTTPError, name: str) -> str:
    """Return what the Hub rejected, with a remedy."""
    said = error.server_message or str(error).splitlines()[0]
    match error.response.status_code:
        case 401:
            return f"The Hub does not accept the access token ({said}). Run `hf auth login`, or set `HF_TOKEN`."
        case 403:
            return f"The access token may not write to {name!r} ({said}). Use a token with write access."
        case _:
            return f"The Hub rejected {name!r}: {said}"
