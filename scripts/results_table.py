"""Print the README's tables of results, from the files beside the recipes in `model_cards/`.

python scripts/results_table.py
"""

import json
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from rnn_hf.reporting.seeds import percent

CARDS = Path(__file__).parents[1] / "model_cards"
RECIPES = {
    "ag-news": "bidirectional LSTM 16, means and maxima of states, dropout (the default)",
    "lesson-rnn": "lesson: plain RNN, mean of all outputs",
    "lesson-lstm": "lesson: LSTM, state after the padding",
    "lesson-lstm-packed": "lesson: LSTM, packed",
    "gru": "GRU, packed",
    "bilstm": "bidirectional LSTM, packed",
    "lstm-2-layers": "two LSTM layers, packed",
}
# Running accuracy that the lesson prints, trained on 120,000 rows
PUBLISHED = {"lesson-rnn": 80.6, "lesson-lstm": 77.3, "lesson-lstm-packed": 81.4}


def load_results(name: str) -> list[dict[str, Any]]:
    """Return the results of every seed of a recipe."""
    return [json.loads(path.read_text()) for path in sorted((CARDS / name).glob("all_results*.json"))]


def results_table() -> str:
    """Return one row for each recipe: accuracy, size and training time."""
    lines = [
        "| recipe | model | test accuracy, % | macro F1, % | parameters | training, s |",
        "|---|---|---|---|---|---|",
    ]
    for name, model in RECIPES.items():
        results = load_results(name)
        accuracy, macro_f1 = (percent([run[key] for run in results]) for key in ("test_accuracy", "test_macro_f1"))
        parameters = f"{results[0]['num_parameters'] / 1e6:.2f} M"
        seconds = f"{median(run['train_runtime'] for run in results):.0f}"
        lines.append(f"| `{name}` | {model} | {accuracy} | {macro_f1} | {parameters} | {seconds} |")
    return "\n".join(lines)


def lesson_table() -> str:
    """Return the lesson's running training accuracies beside ours."""
    lines = [
        "| recipe | running accuracy, % (74,430 rows) | the lesson's (120,000 rows) | test accuracy, % |",
        "|---|---|---|---|",
    ]
    for name, published in PUBLISHED.items():
        results = load_results(name)
        running, test = (percent([run[key] for run in results]) for key in ("train_accuracy", "test_accuracy"))
        lines.append(f"| `{name}` | {running} | {published} | {test} |")
    return "\n".join(lines)


def load_benchmark(name: str) -> dict[str, Any]:
    """Return what a sub-command of the benchmark wrote about the default recipe."""
    report: dict[str, Any] = json.loads((CARDS / "ag-news" / f"benchmark_{name}.json").read_text())
    return report


def prediction_table() -> str:
    """Return the speed and the accuracy of the default model beside those of other classifiers."""
    lines = ["| classifier | texts a second | ms for one text | test accuracy, % |", "|---|---|---|---|"]
    for row in load_benchmark("predict")["rows"]:
        rate, single, accuracy = (
            row.get(key) for key in ("texts_per_second", "milliseconds_for_one_text", "accuracy")
        )
        shown_rate = f"{rate['median']:,.0f}" if isinstance(rate, dict) else rate
        shown_single = "" if single is None else f"{single['median']:.2f}"
        lines.append(f"| {row['name']} | {shown_rate} | {shown_single} | {percent([accuracy]) if accuracy else ''} |")
    return "\n".join(lines)


def training_table() -> str:
    """Return the seconds of an epoch of the lesson's loop and of ours with lazy Adam."""
    report = load_benchmark("train")
    seconds = {row["name"]: row for row in report["rows"]}
    lines = ["| recipe | the lesson's loop, s | ours, s | times as fast |", "|---|---|---|---|"]
    for name in PUBLISHED:
        lesson, ours = seconds[f"{name}: the lesson"], seconds[f"{name}: rnn_hf"]
        lines.append(
            f"| `{name}` | {lesson['extrapolated_seconds']['median']:.0f} "
            f"| {ours['extrapolated_seconds']['median']:.0f} | {ours['times_as_fast_as_the_lesson']['median']:.1f} |"
        )
    return "\n".join(lines)


def check_recipes() -> None:
    """Check that every recipe has a row, and that all were trained on the same rows."""
    recipes = {path.parent.name for path in CARDS.glob("*/recipe.yaml")}
    if recipes != RECIPES.keys():
        raise ValueError(f"The table has the recipes {sorted(RECIPES)}, the folder has {sorted(recipes)}.")
    for name in recipes:
        recipe = yaml.safe_load((CARDS / name / "recipe.yaml").read_text())
        expected = 74_430 if recipe.get("validation_size") == 0 else 70_709
        for run in load_results(name):
            if run["num_train_examples"] != expected:
                raise ValueError(f"`{name}` was trained on {run['num_train_examples']} rows, expected {expected}.")


if __name__ == "__main__":
    check_recipes()
    print(results_table(), lesson_table(), prediction_table(), training_table(), sep="\n\n")
