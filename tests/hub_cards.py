"""What the Hub refuses in the front matter of a card."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = {
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "eupl-1.2", "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "isc", "h-research", "intel-research", "lppl-1.3c", "ms-pl", "apple-ascl", "apple-amlr", "mpl-2.0",
    "odc-by", "odbl", "openmdw-1.0", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib",
    "pddl", "lgpl-lr", "deepfloyd-if-license", "fair-noncommercial-research-license", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.3", "llama4", "grok2-community", "gemma", "unknown", "other",
}  # fmt: skip
# https://huggingface.co/tasks, those of text; the Hub itself only warns of another one
PIPELINE_TAGS = {
    "text-classification", "token-classification", "table-question-answering", "question-answering",
    "zero-shot-classification", "translation", "summarization", "feature-extraction", "text-generation", "fill-mask",
    "sentence-similarity", "text-ranking",
}  # fmt: skip


def card_errors(card: str) -> list[str]:
    """Return what is wrong with the front matter of a card."""
    front = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", card, re.DOTALL)
    if front is None:
        return []
    try:
        data = yaml.safe_load(front[1])
    except yaml.YAMLError as error:
        return [f"YAML metadata is not valid: {error}"]
    if not isinstance(data, dict):
        return ["YAML metadata must be an object"]
    errors = []
    licenses = data.get("license", [])
    for name in licenses if isinstance(licenses, list) else [licenses]:
        if name not in LICENSES:
            errors.append(f'"license" must be one of [{", ".join(sorted(LICENSES))}]')
    if "pipeline_tag" in data and data["pipeline_tag"] not in PIPELINE_TAGS:
        errors.append(f'"pipeline_tag" must be one of [{", ".join(sorted(PIPELINE_TAGS))}]')
    for name in ("tags", "datasets", "metrics", "language", "widget"):
        value = data.get(name, [])
        many = value if isinstance(value, list) else [value]
        if name in ("tags", "widget") and many is not value:
            errors.append(f'"{name}" must be an array')
        if name != "widget" and not all(isinstance(item, str) for item in many):
            errors.append(f'"{name}" must hold strings only')
    return errors + model_index_errors(data.get("model-index", []))


def model_index_errors(models: Any) -> list[str]:
    """Return what is wrong with the results in the front matter of a card."""
    errors: list[str] = []

    def items(value: Any, place: str) -> Iterator[tuple[Any, str]]:
        if isinstance(value, list):
            yield from ((item, f"{place}[{index}]") for index, item in enumerate(value))
        else:
            errors.append(f'"{place}" must be an array')

    def require(value: Any, place: str, *names: str) -> None:
        for name in names:
            if not isinstance(value, dict) or value.get(name) in (None, ""):
                errors.append(f'"{place}.{name}" is required')

    for model, at_model in items(models, "model-index"):
        require(model, at_model, "name", "results")
        results = model.get("results", []) if isinstance(model, dict) else []
        for result, at_result in items(results, f"{at_model}.results"):
            require(result, at_result, "task", "dataset", "metrics")
            if isinstance(result, dict):
                require(result.get("task"), f"{at_result}.task", "type")
                require(result.get("dataset"), f"{at_result}.dataset", "type", "name")
                for metric, at_metric in items(result.get("metrics", []), f"{at_result}.metrics"):
                    require(metric, at_metric, "type", "value")
    return errors
