"""The facts of a run become the card that stands beside the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

TEMPLATE = """---
{{ card_data }}
---

# {{ model_name }}

A recurrent text classifier ({{ description }}) of the `rnn_hf` family,
trained on {{ num_train_examples }} rows.

## Use

```python
import rnn_hf
from transformers import pipeline

classify = pipeline("text-classification", model="{{ model_name }}")
```

## Results on the test split

{{ results }}

## Training

{{ training }}

`recipe.yaml` holds every argument of the run, `all_results.json` every result.
"""


def render_model_card(results: Mapping[str, Any], recipe: Mapping[str, Any], config: Mapping[str, Any]) -> ModelCard:
    """Return the card of a run.

    Args:
        results: What `all_results.json` holds.
        recipe: What `recipe.yaml` holds.
        config: What `config.json` holds.
    """
    # a folder's name says enough, and its path would be one of this machine
    dataset = str(recipe["dataset_name"] or recipe["train_file"])
    dataset = Path(dataset).name if Path(dataset).exists() else dataset
    name = Path(recipe["output_dir"]).name
    evaluations = [
        EvalResult(
            task_type="text-classification",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split="test",
            metric_type=metric,
            metric_value=results[key],
        )
        for metric, key in (("accuracy", "test_accuracy"), ("f1", "test_macro_f1"))
        if results.get(key) is not None
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["rnn_hf", config["cell_type"]],
        metrics=["accuracy", "f1"],
        model_name=name,
        eval_results=evaluations or None,
    )
    directions = "two directions" if config["bidirectional"] else "one direction"
    card: ModelCard = ModelCard.from_template(
        data,
        template_str=TEMPLATE,
        model_name=name,
        description=f"{config['cell_type'].upper()}, {config['num_hidden_layers']} layer(s), {directions}, "
        f"hidden size {config['hidden_size']}, pooling {config['classifier_pooling']}",
        num_train_examples=f"{results['num_train_examples']:,}",
        results=_results_table(results),
        training=_training_table(results),
    )
    return card


def _results_table(results: Mapping[str, Any]) -> str:
    if "test_r2" in results:
        names = ("r2", "mse", "mae", "pearson", "spearman")
        figures = "\n".join(f"| {name} | {results[f'test_{name}']:.4f} |" for name in names)
        return f"{results['num_test_examples']:,} rows.\n\n| metric | value |\n|---|---|\n{figures}"
    if results["test_accuracy"] is None:
        return "There was no test split."
    rows = ["| class | precision | recall | F1 | rows |", "|---|---|---|---|---|"]
    for label, figures in results["test_per_class"].items():
        cells = [f"{100 * figures[key]:.2f}" for key in ("precision", "recall", "f1")]
        rows.append(f"| {_cell(label)} | {' | '.join(cells)} | {figures['support']:,} |")
    return (
        f"Accuracy {100 * results['test_accuracy']:.2f} %, macro F1 {100 * results['test_macro_f1']:.2f} %, "
        f"{results['num_test_examples']:,} rows.\n\n" + "\n".join(rows)
    )


def _training_table(results: Mapping[str, Any]) -> str:
    validation = results["validation_accuracy"]
    facts = {
        "epochs": f"{results['epoch']:g}",
        "seconds": f"{results['train_runtime']:.1f}",
        "texts a second": f"{results['train_samples_per_second']:,.0f}",
        "processes": results["num_processes"],
        "seed": results["seed"],
        "validation accuracy": "no validation split" if validation is None else f"{100 * validation:.2f} %",
        "parameters": f"{results['num_parameters']:,}",
        "torch, transformers": f"{results['torch_version']}, {results['transformers_version']}",
    }
    rows = ["| fact | value |", "|---|---|"]
    return "\n".join(rows + [f"| {name} | {value} |" for name, value in facts.items()])


def _cell(text: str) -> str:
    """Return text that cannot end a table's cell or row, or be taken for markup."""
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("<", "&lt;").replace("`", "\\`")
