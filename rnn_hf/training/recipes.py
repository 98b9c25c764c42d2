"""Recipes: all arguments of a run as one mapping, and the dataclass for reading a file of them."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rnn_hf.configuration_rnn import RNNConfig

from .arguments import (
    ClassifierRunArguments,
    DistillationRunArguments,
    LanguageModelRunArguments,
    RunArguments,
    adds_extra_words,
)
from .model_arguments import model_settings

# Arguments in which a resumed run may differ: they affect where and how it reports and saves, not what it computes
NOT_PART_OF_THE_RUN = {
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "save_strategy", "save_steps", "save_total_limit",
    "logging_steps", "report_to", "dataloader_num_workers", "per_device_eval_batch_size", "push_to_hub",
    "hub_model_id", "hub_private_repo", "hub_revision", "num_generated_texts",
}  # fmt: skip


def arguments_of_recipe(recipe: Path) -> type[RunArguments]:
    """Return the dataclass for reading a recipe.

    A recipe with `bptt` is for a language model, one with `teacher_name_or_path` for a distilled model.

    Args:
        recipe: Path of a YAML file.
    """
    names = set(re.findall(r"^(\w+)\s*:", recipe.read_text(encoding="utf-8", errors="replace"), re.MULTILINE))
    if "bptt" in names:
        return LanguageModelRunArguments
    return DistillationRunArguments if "teacher_name_or_path" in names else ClassifierRunArguments


def as_recipe(args: RunArguments, config: RNNConfig | None = None) -> dict[str, Any]:
    """Return all arguments of a run as one mapping, which can be read again as a recipe.

    The recipe does not overwrite, resume, push or run remote code, even if the run did.

    Args:
        args: The arguments.
        config: Configuration of the model, whose sizes may come from a checkpoint or from the vocabulary. Defaults to
            the sizes in the arguments.
    """
    recipe = asdict(args) | {"overwrite_output_dir": False, "resume_from_checkpoint": None, "push_to_hub": False}
    if "trust_remote_code" in recipe:
        recipe["trust_remote_code"] = False
    if config is None:
        return recipe
    sizes = {name: getattr(config, name) for name in model_settings(args)}
    if adds_extra_words(args):
        # the model's size also counts the extra words, which `vocab_size` does not limit
        del sizes["vocab_size"]
    return recipe | sizes
