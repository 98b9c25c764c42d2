"""Print the README's tables of results, from the result files in `model_cards/`.

python -m scripts.research.results_table
"""

import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

import yaml

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser
from rnn_hf.files import read_json
from rnn_hf.reporting.markdown import table
from rnn_hf.reporting.seeds import percent
from scripts.research import ablation, baselines, learning_curve
from scripts.research.render_model_cards import CARDS

RECIPES = {
    "ag-news": "bidirectional LSTM 16, means and maxima of states, dropout (the default)",
    "ag-news-large": "bidirectional LSTM 128, 128 numbers a word, means, maxima and last states",
    "ag-news-lm": "LSTM 512 that begins as the language model `ag-news-language-model`",
    "ag-news-lm-bidirectional": "bidirectional LSTM 512 that begins as a language model in each direction",
    "ag-news-distilled": "the network of `ag-news`, taught by three of `ag-news-lm`",
    "lesson-rnn": "lesson: plain RNN, mean of all outputs",
    "lesson-lstm": "lesson: LSTM, state after the padding",
    "lesson-lstm-packed": "lesson: LSTM, packed",
    "gru": "GRU, packed",
    "bilstm": "bidirectional LSTM, packed",
    "lstm-2-layers": "two LSTM layers, packed",
}
# Language models, which have no accuracy
LANGUAGE_MODELS = {"ag-news-language-model", "ag-news-language-model-backward"}
# The default recipe on another dataset
SECOND_DATASET = {"trec-coarse": "TREC, 6 classes", "trec-fine": "TREC, 50 classes"}
# Training rows of each dataset, including the validation split
NUM_ROWS = {"fancyzhx/ag_news": 74_430, "CogComp/trec": 5_452}
# Running accuracy in the output of the lesson, on 120,000 training rows
PUBLISHED = {"lesson-rnn": 80.6, "lesson-lstm": 77.3, "lesson-lstm-packed": 81.4}


def load_results(name: str) -> list[dict[str, Any]]:
    """Return the results of every seed of a recipe."""
    return [read_json(path) for path in sorted((CARDS / name).glob("all_results*.json"))]


def results_table() -> str:
    """Return one row for each recipe: accuracy, size and training time."""
    titles = ["recipe", "model", "test accuracy, %", "macro F1, %", "parameters", "training, s"]
    rows = []
    for name, model in RECIPES.items():
        results = load_results(name)
        accuracy, macro_f1 = (percent([run[key] for run in results]) for key in ("test_accuracy", "test_macro_f1"))
        parameters = f"{results[0]['num_parameters'] / 1e6:.2f} M"
        seconds = f"{median(run['train_runtime'] for run in results):.0f}"
        rows.append([f"`{name}`", model, accuracy, macro_f1, parameters, seconds])
    return table(titles, rows, align_right=False)


def lesson_table() -> str:
    """Return the lesson's running training accuracies and ours."""
    titles = [
        "recipe", "running accuracy, % (74,430 rows)", "the lesson's (120,000 rows)", "test accuracy, %",
    ]  # fmt: skip
    rows = []
    for name, published in PUBLISHED.items():
        results = load_results(name)
        running, test = (percent([run[key] for run in results]) for key in ("train_accuracy", "test_accuracy"))
        rows.append([f"`{name}`", running, published, test])
    return table(titles, rows, align_right=False)


def second_dataset_table() -> str:
    """Return the accuracy of the default recipe and of the linear baselines on another dataset."""
    rows = []
    for name, labels in SECOND_DATASET.items():
        runs = read_json(CARDS / name / "baselines.json")["runs"]
        of_models = [
            load_results(name),
            *([run for run in runs if run["model"] == model] for model in baselines.TITLES),
        ]
        accuracies = [percent([run["test_accuracy"] for run in of_model]) for of_model in of_models]
        rows.append([f"`{name}`", labels, *accuracies])
    return table(["recipe", "labels", "rnn_hf", *baselines.TITLES.values()], rows, align_right=False)


def curve_table() -> str:
    """Return the accuracy of the default recipe and of the baselines by the number of training rows."""
    return learning_curve.curve_table(read_json(CARDS / "ag-news" / "learning_curve.json")["points"])


def copies_table() -> str:
    """Return how many rows of AG News have a duplicate among the training rows."""
    splits = read_json(CARDS / "ag-news" / "near_duplicates.json")["splits"]
    rows = []
    for kind, of_test in splits["test"].items():
        if kind != "num_rows":
            shares = [f"{100 * counts[kind]['share']:.1f}" for counts in splits.values()]
            num_copies, num_others = of_test["num_rows"], of_test["num_rows_with_another_label"]
            other = f"{100 * num_others / num_copies:.1f}" if num_copies else ""
            rows.append([kind.replace("_", " of at least "), *shares, other])
    titles = ["rows with a copy", *(f"{split}, %" for split in splits), "another label, % of them (test)"]
    return table(titles, rows, align_right=False)


def ablation_table() -> str:
    """Return what each technique adds to the default recipe, and what it costs."""
    file = read_json(CARDS / "ag-news" / "ablation.json")
    return ablation.ablation_table(file["settings"], file["points"])


def load_benchmark(name: str) -> dict[str, Any]:
    """Return the results of a sub-command of the benchmark for the default recipe."""
    return read_json(CARDS / "ag-news" / f"benchmark_{name}.json")


def prediction_table() -> str:
    """Return the speed and the accuracy of the default model and of other classifiers."""
    rows = []
    for row in load_benchmark("predict")["rows"]:
        rate, single, accuracy = (
            row.get(key) for key in ("texts_per_second", "milliseconds_for_one_text", "accuracy")
        )
        shown_rate = f"{rate['median']:,.0f}" if isinstance(rate, dict) else rate
        shown_single = "" if single is None else f"{single['median']:.2f}"
        rows.append([row["name"], shown_rate, shown_single, percent([accuracy]) if accuracy else ""])
    titles = ["classifier", "texts a second", "ms for one text", "test accuracy, %"]
    return table(titles, rows, align_right=False)


def training_table() -> str:
    """Return the seconds of an epoch of the lesson's loop and of ours with lazy Adam."""
    seconds = {row["name"]: row for row in load_benchmark("train")["rows"]}
    rows = []
    for name in PUBLISHED:
        lesson, ours = seconds[f"{name}: the lesson"], seconds[f"{name}: rnn_hf"]
        both = [f"{side['extrapolated_seconds']['median']:.0f}" for side in (lesson, ours)]
        rows.append([f"`{name}`", *both, f"{ours['times_as_fast_as_the_lesson']['median']:.1f}"])
    return table(["recipe", "the lesson's loop, s", "ours, s", "times as fast"], rows, align_right=False)


def check_recipes() -> None:
    """Check that every recipe has a row, and that all recipes of a dataset were trained on the same rows."""
    recipes = {path.parent.name for path in CARDS.glob("*/recipe.yaml")}
    known = RECIPES.keys() | SECOND_DATASET.keys() | LANGUAGE_MODELS
    if recipes != known:
        raise ValueError(f"The tables have the recipes {sorted(known)}, the folder has {sorted(recipes)}.")
    for name in recipes:
        recipe = yaml.safe_load((CARDS / name / "recipe.yaml").read_text())
        expected = NUM_ROWS[recipe["dataset_name"]]
        for run in load_results(name):
            num_rows = run["num_train_examples"] + run["num_validation_examples"]
            if num_rows != expected:
                raise ValueError(f"`{name}` was trained and validated on {num_rows} rows, expected {expected}.")
            if (run["num_validation_examples"] == 0) != (recipe.get("validation_size") == 0):
                raise ValueError(f"`{name}` has {run['num_validation_examples']} rows for validation.")


@exit_statuses("results_table")
def main(argv: Sequence[str] | None = None) -> None:
    """Print all tables."""
    with user_errors():
        CommandParser([], description=__doc__).parse_args(sys.argv[1:] if argv is None else argv)
        check_recipes()
    print(
        results_table(),
        ablation_table(),
        second_dataset_table(),
        copies_table(),
        curve_table(),
        lesson_table(),
        prediction_table(),
        training_table(),
        sep="\n\n",
    )


if __name__ == "__main__":
    main()
