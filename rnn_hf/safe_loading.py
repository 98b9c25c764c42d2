"""Checks of a model folder or repository before anything in it is loaded.

Nothing is unpickled, no code beside a model is run, and no memory is allocated for sizes that do not match the
weights.
"""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # re-exported without `__all__`
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file, has_file
from transformers.utils.peft_utils import find_adapter_config_file

from .causal_lm_rnn import RNNForCausalLM
from .configuration_rnn import RNNConfig
from .errors import one_line
from .files import expand_home
from .modeling_rnn import RNNForSequenceClassification, RNNForTokenClassification, RNNModel, RNNPreTrainedModel

CONFIG, WEIGHTS, WEIGHTS_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")

# Settings that make a configuration ask for packages or code from elsewhere, which models of this package do not need
FOREIGN_SETTINGS = (
    "quantization_config",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
)

# Classes that a folder can hold
HEADS: tuple[type[RNNPreTrainedModel], ...] = (
    RNNModel,
    RNNForSequenceClassification,
    RNNForTokenClassification,
    RNNForCausalLM,
)

# Sizes, none of which can exceed the number of all weights
SIZES = ("vocab_size", "embedding_size", "hidden_size", "num_labels")

Shape = list[int]


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a repository id on the Hub: `name` or `owner/name`.

    Example:
        >>> is_hub_id("fancyzhx/ag_news"), is_hub_id("ag_news"), is_hub_id("./ag_news"), is_hub_id("data/ag/news")
        (True, True, False, False)
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def folder_or_id(name: str | Path) -> str:
    """Return the path of an existing folder, or a name that may be an id on the Hub.

    Args:
        name: Folder, or `owner/name`.

    Raises:
        FileNotFoundError: If the name can only be that of a folder, which does not exist.
    """
    name = str(name)
    folder = Path(expand_home(name))
    if folder.is_dir():
        return str(folder)
    # if the first part is a folder, the whole is a misspelt path
    if "/" in name and is_hub_id(name) and not folder.parent.is_dir():
        return name
    raise FileNotFoundError(f"The model folder {name!r} does not exist. Pass a folder, or `owner/name`.")


def check_model(
    name: str | Path,
    head: type[RNNPreTrainedModel] | None = None,
    *,
    is_strict: bool = False,
    **hub: Any,
) -> RNNConfig:
    """Return the configuration of a saved model, after a check that its weights match it.

    Args:
        name: Folder, or `owner/name` on the Hub.
        head: Class that the weights will be loaded into. Defaults to the class that the configuration names.
        is_strict: Whether further weights are an error.
        hub: `revision`, `token`, `cache_dir` and `local_files_only`, as in transformers.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the configuration or the weights are missing or damaged, do not belong to a model of this
            package, do not match, or are not finite.
    """
    name = folder_or_id(name)
    if find_adapter_config_file(name, **hub) is not None:
        raise ValueError(
            f"{name!r} holds an adapter (`adapter_config.json`), not a complete model. Save the "
            "result of its `merge_and_unload()`."
        )
    facts = _facts_of_family(name, hub)
    parts = sorted(set(weight_parts(name, **hub).values()))
    files = [open_weights(part_of(name, part, hub)) for part in parts]
    weights = {key: (file, file.get_slice(key)) for file in files for key in file.keys()}  # noqa: SIM118  # no mapping
    found = {key: weight.get_shape() for key, (_, weight) in weights.items()}
    config = _make_config(name, facts, found)
    head = head or _saved_head(facts)
    _check_architecture(name, facts, head)
    asked_for = _expected_weights(head, config)
    expected = {key: list(weight.shape) for key, weight in asked_for.items()}
    for key in sorted(expected.keys() | found.keys() if is_strict else expected):
        if found.get(key) != expected.get(key):
            raise ValueError(
                f"The weights in {name!r} are not those of its configuration: {key} must have the shape "
                f"{expected.get(key, 'none')}, got {found.get(key, 'none')}. Save both together."
            )
    for key in expected.keys() & found.keys():
        file, weight = weights[key]
        kind, prefixes = ("floating-point", ("F", "BF")) if asked_for[key].is_floating_point() else ("whole", ("I",))
        if not weight.get_dtype().startswith(prefixes):
            raise ValueError(
                f"The weights in {name!r} must be {kind} numbers, got {weight.get_dtype()} in {key}. "
                "Save them in that type."
            )
        if not is_finite(file.get_tensor(key)):
            raise ValueError(
                f"The weights in {name!r} must be finite numbers, got NaN or infinity in {key}. Train the model again."
            )
    return config


def read_tokenizer(name: str | Path, *, trust_remote_code: bool = False, **hub: Any) -> PreTrainedTokenizerBase:
    """Return a saved tokenizer.

    Args:
        name: Folder, or `owner/name` on the Hub.
        trust_remote_code: Whether to run code beside it.
        hub: Arguments for the Hub, as in `check_model`.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it has no tokenizer, a damaged one, or one that needs code of its own.
    """
    name = folder_or_id(name)
    try:
        # with `None`, transformers would ask on standard input whether the code may run
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust_remote_code, **hub
        )
    except Exception as error:  # `tokenizers` has no class of its own for unreadable files
        raise ValueError(f"The tokenizer of {name!r} cannot be loaded: {one_line(error)}") from error
    return tokenizer


def check_token_ids(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Check that there is a word vector for every token; ids with gaps can exceed the number of tokens.

    Args:
        tokenizer: The tokenizer.
        vocab_size: Number of word vectors.

    Raises:
        ValueError: If an id is too large.
    """
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", 0))
    if largest >= vocab_size:
        raise ValueError(
            f"The tokenizer has the id {largest} (token {token!r:.40}) but there are {vocab_size} word vectors. "
            "Load the tokenizer that was saved with the model."
        )


def load_classifier(
    name: str, dtype: str | torch.dtype = "float32", **hub: Any
) -> tuple[RNNForSequenceClassification, PreTrainedTokenizerBase]:
    """Return a saved classifier and its tokenizer, after checks of both.

    Args:
        name: Folder, or `owner/name` on the Hub.
        dtype: Floating-point type of torch, or its name.
        hub: Arguments for the Hub, as in `check_model`.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it has no classifier of this package, or a damaged one, or the type is not floating-point.
    """
    type_name = str(dtype).removeprefix("torch.")
    if type_name == "int8":
        raise ValueError(
            '`dtype="int8"` is no longer offered: it was slower than float32. Pass "float32", "float16" or "bfloat16".'
        )
    floating = getattr(torch, type_name, None)
    if not isinstance(floating, torch.dtype) or not floating.is_floating_point:
        raise ValueError(f"`dtype` must be a floating type of torch, got {dtype!r}.")
    config = check_model(name, RNNForSequenceClassification, **hub)
    try:
        model: RNNForSequenceClassification = RNNForSequenceClassification.from_pretrained(
            name, config=config, use_safetensors=True, dtype=floating, **hub
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{name!r} cannot be loaded: {one_line(error)}") from error
    tokenizer = read_tokenizer(name, **hub)
    check_token_ids(tokenizer, max(config.vocab_size, len(tokenizer)))
    return model, tokenizer


def commit_of(name: str, revision: str, cache_dir: str | Path | None) -> str:
    """Return the commit that a branch or tag pointed to when its model was loaded from the Hub."""
    config = try_to_load_from_cache(name, CONFIG, cache_dir=cache_dir, revision=revision)
    return Path(config).parent.name if isinstance(config, str) else revision


def read_config(name: str, **hub: Any) -> RNNConfig:
    """Return the configuration of a saved model, without a look at its weights. Arguments as in `check_model`."""
    return _valid_config(name, _facts_of_family(name, hub))


def read_facts(name: str, **hub: Any) -> dict[str, Any] | None:
    """Return the content of the `config.json` of a model of any family, or `None` without such a file.

    Args:
        name: Folder, or `owner/name` on the Hub.
        hub: Arguments for the Hub, as in `check_model`.

    Raises:
        ValueError: If the file is not a JSON object.
    """
    path = file_of(name, CONFIG, hub)
    if path is None:
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not JSON: {one_line(error)}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{str(path)!r} must hold the settings of a model, got {facts!r:.40}.")
    return facts


def refuse_foreign_settings(name: str, facts: dict[str, Any]) -> None:
    """Reject a configuration that asks for packages or code from elsewhere.

    Args:
        name: Folder or repository, for the error message.
        facts: Content of its `config.json`.

    Raises:
        ValueError: If one of `FOREIGN_SETTINGS` is set.
    """
    for setting in FOREIGN_SETTINGS:
        if facts.get(setting) is not None:
            raise ValueError(
                f"`{setting}` in {str(Path(name) / CONFIG)!r} must not be set, got {facts[setting]!r:.60}. Remove it."
            )


def _facts_of_family(name: str, hub: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the `config.json` of a model of this package."""
    facts = read_facts(name, **hub)
    if facts is None:
        lack = f"has no {CONFIG}" if Path(name).is_dir() else "is neither a folder nor a model that the Hub returned"
        raise ValueError(f"{name!r} {lack}. Pass a folder with a saved model.")
    if facts.get("model_type") != RNNConfig.model_type:
        raise ValueError(f"{name!r} is a {facts.get('model_type')!r} model, not one of this package.")
    refuse_foreign_settings(name, facts)
    return facts


def _make_config(name: str, facts: dict[str, Any], found: dict[str, Shape]) -> RNNConfig:
    """Return the configuration, without allocating more memory than the weights take."""
    num_weights = sum(torch.Size(shape).numel() for shape in found.values())
    limits = {**dict.fromkeys(SIZES, num_weights), "num_hidden_layers": len(found)}
    for size, limit in limits.items():
        value = facts.get(size)
        if isinstance(value, int) and value > limit:
            raise ValueError(
                f"The configuration of {name!r} has `{size}` {value}, but its weights are {num_weights:,} numbers in "
                f"{len(found)} matrices and vectors. Save both together."
            )
    return _valid_config(name, facts)


def _valid_config(name: str, facts: dict[str, Any]) -> RNNConfig:
    try:
        return RNNConfig.from_dict(facts)
    except StrictDataclassError as error:
        raise ValueError(f"The configuration of {name!r} is not valid: {one_line(error)}") from error
    except (AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        # raised by transformers for settings of unexpected types
        raise ValueError(f"The configuration of {name!r} is not valid: {one_line(error)}") from error


def _saved_head(facts: dict[str, Any]) -> type[RNNPreTrainedModel]:
    heads = {head.__name__: head for head in HEADS}
    architectures = facts.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    if not isinstance(architecture, str) or architecture not in heads:
        raise ValueError(f"`architectures` in {CONFIG} must be one of {', '.join(heads)}, got {architecture!r}.")
    return heads[architecture]


def _check_architecture(name: str, facts: dict[str, Any], head: type[RNNPreTrainedModel]) -> None:
    """Reject the weights of another head; a saved subclass from another package is accepted."""
    try:
        saved = _saved_head(facts)
    except ValueError:
        return
    if saved is not head:
        raise ValueError(f"{name!r} is a `{saved.__name__}`, not a `{head.__name__}`.")


def _expected_weights(head: type[RNNPreTrainedModel], config: RNNConfig) -> dict[str, torch.Tensor]:
    """Return the weights that a configuration asks for, without their values; tied weights are saved once."""
    with torch.device("meta"):
        model = head(config)
    tied: dict[str, Any] = model.all_tied_weights_keys
    return {key: weight for key, weight in model.state_dict().items() if key not in tied}


def file_of(name: str, file: str, hub: dict[str, Any]) -> Path | None:
    """Return the path of a file, downloaded if necessary, or `None` if there is no such file."""
    try:
        path = cached_file(name, file, _raise_exceptions_for_missing_entries=False, **hub)
    except OSError as error:
        raise ValueError(f"{name!r} cannot be loaded: {one_line(error)}") from error
    return None if path is None or not Path(path).is_file() else Path(path)


def weight_parts(name: str, **hub: Any) -> dict[str, str]:
    """Return the names of all weights of a model, and the safetensors file of each.

    Args:
        name: Folder, or `owner/name` on the Hub.
        hub: Arguments for the Hub, as in `check_model`.

    Raises:
        ValueError: If there is no file of weights, only a pickle, or a damaged file.
    """
    path = file_of(name, WEIGHTS, hub)
    if path is not None:
        return dict.fromkeys(open_weights(path).keys(), WEIGHTS)
    index = file_of(name, WEIGHTS_INDEX, hub)
    if index is not None:
        return _weight_map(index)
    settings = {key: value for key, value in hub.items() if key != "local_files_only"}
    for pickle in PICKLES:
        if (Path(name) / pickle).is_file() if Path(name).is_dir() else has_file(name, pickle, **settings):
            raise ValueError(
                f"{name!r} has its weights as a pickle ({pickle}), which can run any code when it is loaded, and no "
                f"{WEIGHTS}. If you trust whoever made it, convert it: `AutoModel....from_pretrained({name!r}, "
                "use_safetensors=False).save_pretrained(FOLDER)`."
            )
    raise ValueError(f"{name!r} has no {WEIGHTS}. Pass a folder with a saved model.")


def _weight_map(index: Path) -> dict[str, str]:
    """Return the file of each weight, for weights that are split into several files."""
    try:
        parts: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        names = sorted(set(parts.values()))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(index)!r} is not a list of files of weights: {one_line(error)}") from error
    for part in names:
        # a file elsewhere, or one that is not checked here
        if not isinstance(part, str) or part != Path(part).name or not part.endswith(".safetensors"):
            raise ValueError(f"{str(index)!r} must name safetensors files beside it, got {part!r:.80}.")
    return parts


def part_of(name: str, part: str, hub: dict[str, Any]) -> Path:
    """Return the path of one of several files of weights, downloaded if necessary."""
    path = file_of(name, part, hub)
    if path is None:
        raise ValueError(f"{name!r} has no {part}, which its {WEIGHTS_INDEX} names. Fetch it again.")
    return path


def open_weights(path: Path) -> Any:
    """Open a file of weights, whose header is checked against its size."""
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a complete file of weights: {one_line(error)}") from error


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether all entries are finite."""
    # a sum takes a tenth of the time; if it is not finite, all entries are checked
    tensor = tensor.to(torch.float32)
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
