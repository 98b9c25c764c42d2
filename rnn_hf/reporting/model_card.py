"""The model card of a run: front matter for the Hub, and sections for readers."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from rnn_hf.errors import plain
from rnn_hf.files import atomic_file, read_json

from .card_results import distillation, language_results, speed_and_size, test_results
from .card_sections import how_to_generate, how_to_use, summary, training, training_data, use_and_limits
from .dataset_facts import dataset_title, hub_dataset, is_on_hub
from .markdown import escaped
from .run_facts import FIGURES, RunFacts, read_run_facts


def write_model_card(folder: Path, *, name: str, recipe: Mapping[str, Any], recipe_path: str = "recipe.yaml") -> None:
    """Draw the figures of a run, if matplotlib is installed, and write its card.

    Args:
        folder: Folder that `read_run_facts` reads; `README.md` and `figures/` are written into it.
        name: Name of the model.
        recipe: Every argument of the run.
        recipe_path: Path of the recipe relative to a clone of the package.
    """
    if find_spec("matplotlib") is not None:
        from .figures import draw_figures  # matplotlib is an extra

        draw_figures(read_json(folder / "all_results.json"), folder / FIGURES)
    facts = read_run_facts(folder, name=name, recipe=recipe, recipe_path=recipe_path)
    with atomic_file(folder / "README.md") as beside:
        render_model_card(facts).save(beside)


def render_model_card(facts: RunFacts) -> ModelCard:
    """Return the card of a run."""
    sections = (
        f"# {escaped(facts.name)}\n\n{summary(facts)}",
        how_to_generate(facts) if facts.is_language_model else how_to_use(facts),
        use_and_limits(facts),
        language_results(facts) if facts.is_language_model else test_results(facts),
        distillation(facts),
        speed_and_size(facts),
        training_data(facts),
        training(facts),
        f"## Licence\n\n{facts.data.license_text}",
    )
    text = "\n\n".join(section for section in sections if section)
    return ModelCard(f"---\n{card_data(facts).to_yaml()}\n---\n\n{text}\n")


def card_data(facts: RunFacts) -> ModelCardData:
    """Return the front matter of a card."""
    dataset = plain(dataset_title(facts.recipe))
    start = facts.recipe.get("model_name_or_path")
    evaluations = [
        EvalResult(
            task_type=facts.task,
            task_name="Text Generation" if facts.is_language_model else "Text Classification",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_config=facts.recipe.get("dataset_config_name"),
            dataset_split=facts.split,
            metric_type=metric.type,
            metric_name=metric.title,
            metric_value=facts.results[metric.key],
            metric_args=metric.args,
        )
        for metric in facts.measured
    ]
    return ModelCardData(
        language=facts.data.language,
        license=facts.data.license,
        license_name=facts.data.license_name,
        license_link=facts.data.license_link,
        library_name="transformers",
        pipeline_tag=facts.task,
        tags=["rnn_hf", facts.recipe["cell_type"], "recurrent-neural-network"],
        base_model=start if start is not None and is_on_hub(start) else None,
        datasets=[dataset] if hub_dataset(facts.recipe) is not None else None,
        metrics=list(dict.fromkeys(metric.type for metric in facts.measured)) or None,
        widget=[{"text": text} for text in facts.data.examples] or None,
        model_name=plain(facts.name) if evaluations else None,
        eval_results=evaluations or None,
    )
