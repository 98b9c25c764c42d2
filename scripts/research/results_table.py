"""Print the tables of results from the files in `model_cards/`, or write those of the README into it.

    python -m scripts.research.results_table [--write]

In the README, a table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser
from rnn_hf.files import atomic_file, read_json
from rnn_hf.reporting.markdown import table
from rnn_hf.reporting.seeds import percent
from scripts.research import ablation
from scripts.research.panel_results import panel_table
from scripts.research.render_model_cards import CARDS
from scripts.research.settings_study import read_rules, study_table

README = CARDS.parent / "README.md"

RECIPES = {
    "ag-news": "bidirectional LSTM 16, means and maxima of states",
    "ag-news-large": "bidirectional LSTM 128, 128 numbers a word, means, maxima and last states",
    "ag-news-lm": "LSTM 512 that begins as the language model `ag-news-language-model`",
    "ag-news-lm-bidirectional": "bidirectional LSTM 512 that begins as a language model in each direction",
    "ag-news-distilled": "bidirectional LSTM 16, taught by three of `ag-news-lm`",
    "lesson-rnn": "lesson: plain RNN, mean of all outputs",
    "lesson-lstm": "lesson: LSTM, state after the padding",
    "lesson-lstm-packed": "lesson: LSTM, packed",
    "gru": "GRU, packed",
    "bilstm": "bidirectional LSTM, packed",
    "lstm-2-layers": "two LSTM layers, packed",
}
# Language models, which have no accuracy
LANGUAGE_MODELS = {"ag-news-language-model", "ag-news-language-model-backward"}
# A recipe of AG News on another dataset, of which the README shows nothing
SECOND_DATASET = {"trec-coarse", "trec-fine"}
# Training rows of each dataset, including the validation split
NUM_ROWS = {"fancyzhx/ag_news": 74_430, "CogComp/trec": 5_452}
# Running accuracy in the output of the lesson, on 120,000 training rows
PUBLISHED = {"lesson-rnn": 80.6, "lesson-lstm": 77.3, "lesson-lstm-packed": 81.4}

PANEL_NOTE = (
    "Accuracy on {split} rows in %, or the metric beside the name of the dataset, also in %; mean and standard\n"
    "deviation over the seeds. The difference to the better peer is given with its standard error over the measured\n"
    "rows. Macro F1, training time and size are those of `rnn_hf`; other programs used the same two cores, so that a\n"
    "quiet machine needs less time."
)


def load_results(name: str) -> list[dict[str, Any]]:
    """Return the results of every seed of a recipe."""
    return [read_json(path) for path in sorted((CARDS / name).glob("all_results*.json"))]


def model_of(name: str) -> str:
    """Return what a recipe trains; whether there is an n-gram branch, the model beside the recipe says."""
    config = CARDS / name / "config.json"
    has_branch = config.exists() and read_json(config).get("ngram_buckets", 0) > 0
    return RECIPES[name] + (", n-gram branch" if has_branch else "")


def results_table() -> str:
    """Return one row for each recipe: accuracy, size and training time."""
    titles = ["recipe", "model", "test accuracy, %", "macro F1, %", "parameters", "training, s"]
    rows = []
    for name in RECIPES:
        results = load_results(name)
        accuracy, macro_f1 = (percent([run[key] for run in results]) for key in ("test_accuracy", "test_macro_f1"))
        parameters = f"{results[0]['num_parameters'] / 1e6:.2f} M"
        seconds = f"{median(run['train_runtime'] for run in results):.0f}"
        rows.append([f"`{name}`", model_of(name), accuracy, macro_f1, parameters, seconds])
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


def default_settings_table(path: Path | None = None) -> str:
    """Return the default settings beside other classifiers on many datasets, or nothing if there are no results.

    Args:
        path: A file of results of `scripts/research/panel.py`. Defaults to the one in `model_cards/`.
    """
    path = path or CARDS / "panel.json"
    if not path.exists():
        return ""
    content = read_json(path)
    split = "test" if any(run["split"] == "test" for run in content["runs"]) else "validation"
    return f"{PANEL_NOTE.format(split=split)}\n\n{panel_table(content, split)}"


def rules_table() -> str:
    """Return what each rule of the default settings is worth, or nothing if it was not measured."""
    path = CARDS / "settings.json"
    if not path.exists():
        return ""
    return study_table(read_json(path)["points"], list(read_rules(CARDS / "settings.yaml")))


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
    """Return what each technique adds to a recipe without n-gram branch, and what it costs."""
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
    known = RECIPES.keys() | SECOND_DATASET | LANGUAGE_MODELS
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


TABLES: dict[str, Callable[[], str]] = {
    "results": results_table,
    "panel": default_settings_table,
    "settings": rules_table,
    "ablation": ablation_table,
    "near-duplicates": copies_table,
    "lesson": lesson_table,
    "prediction": prediction_table,
    "training": training_table,
}


def with_tables(text: str) -> str:
    """Return a text with the table of the files between each pair of markers.

    Raises:
        ValueError: If a marker names a table that there is not.
    """

    def filled(match: re.Match[str]) -> str:
        if match[1] not in TABLES:
            raise ValueError(f"The README must name tables of {', '.join(TABLES)}, got {match[1]!r}.")
        content = TABLES[match[1]]()
        return f"<!-- table: {match[1]} -->\n" + (f"\n{content}\n" if content else "") + "\n<!-- end of table -->"

    return re.sub(r"<!-- table: (.*?) -->\n.*?<!-- end of table -->", filled, text, flags=re.DOTALL)


@dataclass
class TableArguments:
    """Where the tables go."""

    write: bool = field(default=False, metadata={"help": "Write the tables into the README."})


@exit_statuses("results_table", TableArguments)
def main(argv: Sequence[str] | None = None) -> None:
    """Print all tables, or write them into the README."""
    with user_errors():
        parser = CommandParser([TableArguments], description=__doc__)
        (args,), _ = parser.parse(sys.argv[1:] if argv is None else argv)
        check_recipes()
        if args.write:
            text = with_tables(README.read_text(encoding="utf-8"))
            with atomic_file(README) as beside:
                beside.write_text(text, encoding="utf-8")
            print(f"Written: {README}")
            return
    print(*(content for content in (table_of() for table_of in TABLES.values()) if content), sep="\n\n")


if __name__ == "__main__":
    main()
