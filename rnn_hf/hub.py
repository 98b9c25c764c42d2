"""A finished model folder goes to the Hub: checked first, then in one commit."""

from pathlib import Path

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

from rnn_hf.safe_loading import check_model

from .errors import scrubbed

# What a model cannot be loaded without, then what explains it
REQUIRED_FILES = (
    "README.md", "config.json", "model.safetensors", "configuration_rnn.py", "modeling_rnn.py", "tokenizer.json",
    "tokenizer_config.json",
)  # fmt: skip
OPTIONAL_FILES = (
    "special_tokens_map.json", "generation_config.json", "recipe.yaml", "all_results.json", "figures/*.png",
    "figures/*.svg",
)  # fmt: skip

# The base of the Hub's own errors is that of every failed request, whichever client the installed version has
REQUEST_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]


def check_hub_access(name: str | None) -> None:
    """Check, without asking the Hub, that a name can be a repository's and that there is a token.

    Args:
        name: `owner/name`.

    Raises:
        ValueError: If the name is not of that form, or no token is found.
    """
    if name is None or name.count("/") != 1:
        raise ValueError(f"A repository on the Hub must be named OWNER/NAME, got {name!r}.")
    try:
        # makes an address only, and checks the name on the way
        hf_hub_url(name, "config.json")
    except HFValidationError as error:
        raise ValueError(f"{name!r} cannot be the name of a repository: {error}") from error
    if get_token() is None:
        raise ValueError("No access token of the Hub was found. Run `hf auth login`, or set `HF_TOKEN`.")


def files_to_push(folder: str | Path) -> dict[str, Path]:
    """Return the files of a model folder that belong on the Hub, once they are found to be a whole model.

    Args:
        folder: What `scripts/train.py` wrote, or a folder like it.

    Returns:
        Names in the repository and where the files lie. Whatever is not listed in `REQUIRED_FILES` or
        `OPTIONAL_FILES`, checkpoints above all, is left out.

    Raises:
        FileNotFoundError: If the folder or a required file is missing.
        ValueError: If the configuration, the weights or the card are not those of a model of this family, or if one
            of the files, or the folder that it lies in, is a link, which may lead to what nobody meant to share.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"The model folder {str(folder)!r} does not exist.")
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{str(folder)!r} is not a whole model: {', '.join(missing)} not found.")
    optional = [path for pattern in OPTIONAL_FILES for path in sorted(folder.glob(pattern)) if path.is_file()]
    paths = [*(folder / name for name in REQUIRED_FILES), *optional]
    for path in paths:
        # the model folder itself may be reached by a link, since it was named
        link = next((place for place in (path.parent, path) if place != folder and place.is_symlink()), None)
        if link is not None:
            raise ValueError(f"'{link}' is a link, to '{link.readlink()}'. Put there what is to be shared.")
    check_model(folder, is_strict=True)
    _check_card(folder / "README.md")
    return {path.relative_to(folder).as_posix(): path for path in paths}


def push_folder(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Push a model folder to the Hub in one commit, and return the address of the commit.

    Nothing is created before the folder is found to be whole and the Hub has accepted the card.

    Args:
        folder: What `scripts/train.py` wrote, or a folder like it.
        name: `owner/name`; the repository is created where it does not exist.
        private: Whether a new repository is private. An existing one that is public is then refused.
        revision: Branch to commit to, created from `main` where it does not exist. Default: `main`.
        commit_message: First line of the commit. Default: one that names the kind of model.

    Raises:
        FileNotFoundError: If the folder or a file that it needs is missing.
        ValueError: If the folder, the name or the token is not right, or the Hub refuses.
        ConnectionError: If the Hub does not answer.
    """
    files = files_to_push(folder)
    check_hub_access(name)
    api = HfApi(library_name="rnn_hf")
    try:
        _validate_card(api, files["README.md"].read_text(encoding="utf-8"))
        api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.model_info(name).private:
            raise ValueError(f"{name!r} exists and is public. Make it private on the Hub, or choose another name.")
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()]
        # `upload_folder` may split what it uploads into several commits
        commit = api.create_commit(
            name, operations, commit_message=commit_message or "Upload recurrent text classifier", revision=revision
        )
    except HfHubHTTPError as error:
        raise ValueError(_refusal(error, name)) from error
    except REQUEST_ERROR as error:
        raise ConnectionError(f"The Hub at {api.endpoint} does not answer ({error}). Try again later.") from error
    except RuntimeError as error:  # what an upload of weights that breaks off is told as
        raise ConnectionError(f"The weights did not reach the Hub ({error.__cause__ or error}). Try again.") from error
    return scrubbed(str(commit.commit_url))


def _check_card(path: Path) -> None:
    """Check what can be checked of a card without the Hub: that its front matter is there and can be read."""
    text = path.read_text(encoding="utf-8")
    if not text.lstrip().startswith("---"):
        raise ValueError(f"The card {str(path)!r} must begin with front matter between two lines of `---`.")
    try:
        task = ModelCard(text).data.get("pipeline_tag")
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ValueError(f"The front matter of the card {str(path)!r} is not valid: {error}") from error
    if task is None:
        raise ValueError(f"The card {str(path)!r} has no `pipeline_tag`, by which the Hub knows the task. Add one.")


def _validate_card(api: HfApi, card: str) -> None:
    """Ask the Hub whether it takes a card: only there the licences and tasks are known."""
    # `ModelCard.validate` of some versions asks another Hub than the one that `HF_ENDPOINT` names
    response = get_session().post(f"{api.endpoint}/api/validate-yaml", json={"repoType": "model", "content": card})
    if response.status_code == 400:
        errors = "; ".join(error["message"] for error in response.json()["errors"])
        raise ValueError(f"The Hub refused the front matter of the card: {errors}")
    hf_raise_for_status(response)


def _refusal(error: HfHubHTTPError, name: str) -> str:
    """Return what the Hub refused, and the way out."""
    said = error.server_message or str(error).splitlines()[0]
    match error.response.status_code:
        case 401:
            return f"The Hub does not accept the access token ({said}). Run `hf auth login`, or set `HF_TOKEN`."
        case 403:
            return f"The access token may not write to {name!r} ({said}). Use one with the right to write there."
        case _:
            return f"The Hub refused to take {name!r}: {said}"
