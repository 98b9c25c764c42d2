"""Print the tables of results from the files in `model_cards/`, or write them into the pages that name them.

    python -m scripts.research.results_table [--write]

On a page, a table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import yaml

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser
from rnn_hf.files import atomic_file, read_json
from rnn_hf.reporting.markdown import table
from rnn_hf.reporting.seeds import percent
from scripts.research import ablation
from scripts.research.few_labels import few_labels_table
from scripts.research.panel_results import OURS, find_runs, mean_accuracies, metric_of, panel_table
from scripts.research.render_model_cards import CARDS
from scripts.research.settings_study import read_rules, study_table

PAGES = [CARDS.parent / "README.md", CARDS / "README.md", CARDS.parent / "scripts" / "README.md"]

RECIPES = {
    "ag-news": "bidirectional LSTM 16, means and maxima of states",
    "ag-news-lm": "LSTM 512 that starts from the language model `ag-news-language-model`",
    "ag-news-lm-bidirectional": "bidirectional LSTM 512 that starts from a language model in each direction",
    "ag-news-distilled": "bidirectional LSTM 16, distilled from three `ag-news-lm`",
    "lesson-rnn": "lesson: plain RNN, mean of all outputs",
    "lesson-lstm": "lesson: LSTM, state after the padding",
    "lesson-lstm-packed": "lesson: LSTM, packed",
    "gru": "GRU, packed",
    "bilstm": "bidirectional LSTM, packed",
    "lstm-2-layers": "two LSTM layers, packed",
}
# Language models, which have no accuracy
LANGUAGE_MODELS = ("ag-news-language-model", "ag-news-language-model-backward")
# Recipes of another dataset
SECOND_DATASET = ("trec-coarse", "trec-fine")
# Training rows of each dataset, including the validation split
NUM_ROWS = {"fancyzhx/ag_news": 74_430, "CogComp/trec": 5_452}
# Running accuracy in the output of the lesson, on 120,000 training rows
PUBLISHED = {"lesson-rnn": 80.6, "lesson-lstm": 77.3, "lesson-lstm-packed": 81.4}
# Rows of the summary, with their names in the panel and in the benchmark of prediction
SUMMARIZED = {
    "rnn_hf": (OURS, "rnn_hf, TextClassifier"),
    "rnn_hf, exported to ONNX": ("", "rnn_hf, onnxruntime"),  # the same model
    "TF-IDF": ("tfidf", "TF-IDF + linear"),
    "fastText": ("fasttext", "fastText"),
    "MiniLM-L6 (transformer)": ("", "MiniLM-L6, fine-tuned"),  # not in the panel
}

# Without and with the n-gram branch
PREDICTION_NOTES = (
    "The model of `rnn_hf` is an earlier `ag-news`: a bidirectional LSTM 16 without the n-gram branch, trained for\n"
    "three epochs.",
    "The model of `rnn_hf` is the one in `ag-news/`.",
)
PANEL_NOTE = (
    "Accuracy on {split} rows in %, or the metric beside the name of the dataset; mean ± standard deviation over the\n"
    "seeds, or a single number where there was one run. The difference to the better peer is given with its standard\n"
    "error over the rows that were measured. Macro F1, training time (of the fastest seed) and size are those of the\n"
    "column `rnn_hf`. A mean difference is that of a column to the better peer, in points, over the lines it has."
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
    titles = ["recipe", "model", "test accuracy, %", "macro F1, %", "parameters", "training, s", "version"]
    rows = []
    for name in RECIPES:
        results = load_results(name)
        accuracy, macro_f1 = (percent([run[key] for run in results]) for key in ("test_accuracy", "test_macro_f1"))
        parameters = f"{results[0]['num_parameters'] / 1e6:.2f} M"
        seconds = f"{median(run['train_runtime'] for run in results):.0f}"
        version = results[0]["rnn_hf_version"]
        rows.append([f"`{name}`", model_of(name), accuracy, macro_f1, parameters, seconds, version])
    return table(titles, rows, align_right=False)


def lesson_table() -> str:
    """Return the lesson's running training accuracies and ours."""
    rows = [
        [f"`{name}`", percent([run["train_accuracy"] for run in load_results(name)]), published]
        for name, published in PUBLISHED.items()
    ]
    titles = ["recipe", "running accuracy, % (74,430 rows)", "the lesson's (120,000 rows)"]
    return table(titles, rows, align_right=False)


def language_models_table() -> str:
    """Return the perplexity, the size and the training time of the language models."""
    rows = []
    for name in LANGUAGE_MODELS:
        (run,) = load_results(name)
        perplexity, num_rows = f"{run['validation_perplexity']:.1f}", f"{run['num_validation_examples']:,}"
        parameters, seconds = f"{run['num_parameters'] / 1e6:.2f} M", f"{run['train_runtime']:,.0f}"
        rows.append([f"`{name}`", perplexity, num_rows, parameters, seconds, run["rnn_hf_version"]])
    titles = ["recipe", "validation perplexity", "validation rows", "parameters", "training, s", "version"]
    return table(titles, rows)


def second_dataset_table() -> str:
    """Return the recipes of another dataset than AG News."""
    rows = []
    for name in SECOND_DATASET:
        results = load_results(name)
        seconds = f"{median(run['train_runtime'] for run in results):.0f}"
        accuracies = percent([run["test_accuracy"] for run in results])
        rows.append([f"`{name}`", accuracies, f"{results[0]['num_parameters'] / 1e6:.2f} M", seconds])
    return table(["recipe", "accuracy, %", "parameters", "training, s"], rows)


def default_settings_table(path: Path | None = None) -> str:
    """Return the default settings beside other classifiers on many datasets, or nothing if there are no results.

    Args:
        path: A file of results of `scripts/research/panel.py`. Defaults to the one in `model_cards/`.
    """
    path = path or CARDS / "panel.json"
    if not path.exists():
        return ""
    content = read_json(path)
    split = split_of(content)
    return f"{PANEL_NOTE.format(split=split)}\n\n{panel_table(content, split)}"


def split_of(panel: Mapping[str, Any]) -> str:
    """Return the split of the panel that is shown: the test split, if any of it was measured."""
    return "test" if any(run["split"] == "test" for run in panel["runs"]) else "validation"


def summary() -> tuple[dict[str, dict[str, float | None]], int]:
    """Return accuracy, speed and size of the default settings and of their peers, as far as they were measured.

    Returns:
        For each classifier `mean_accuracy`, over rows of the panel, `accuracy`, on AG News with all training rows,
        `texts_per_second`, `milliseconds` for one text and `megabytes`; and the number of rows of the mean.
    """
    panel, speeds = read_json(CARDS / "panel.json"), {row["name"]: row for row in load_benchmark("predict")["rows"]}
    split = split_of(panel)
    means, num_rows = mean_accuracies(panel, split, [model for model, _ in SUMMARIZED.values() if model])
    rows: dict[str, dict[str, float | None]] = {}
    for title, (model, name) in SUMMARIZED.items():
        found = find_runs(panel, dataset="ag_news", split=split, model=model)
        rows[title] = {
            "mean_accuracy": means.get(model),
            "accuracy": fmean(map(metric_of, found)) if found else speeds[name]["accuracy"],
            "texts_per_second": speeds[name]["texts_per_second"]["median"],
            "milliseconds": speeds[name]["milliseconds_for_one_text"]["median"],
            "megabytes": speeds[name].get("megabytes", found[0].get("megabytes") if found else None),
        }
    return rows, num_rows


def summary_table() -> str:
    """Return the default settings beside their peers, in a few numbers."""
    compared, num_rows = summary()
    rows = []
    for title, row in compared.items():
        shares = [row["mean_accuracy"], row["accuracy"]]
        cells = ["" if share is None else f"{100 * share:.1f}" for share in shares]
        cells += [f"{row['texts_per_second']:,.0f}", f"{row['milliseconds']:.1f}"]
        rows.append([title, *cells, "" if row["megabytes"] is None else f"{row['megabytes']:.1f}"])
    titles = ["classifier", f"mean accuracy of {num_rows} training sets, %", "AG News, all rows, %"]
    return table([*titles, "texts a second", "ms for one text", "MB"], rows)


def rules_table() -> str:
    """Return what each rule of the default settings is worth, or nothing if it was not measured."""
    path = CARDS / "settings.json"
    if not path.exists():
        return ""
    points = read_json(path)["points"]
    seeds = list(dict.fromkeys(str(point["seed"]) for point in points))
    number = "One run each (seed" if len(seeds) == 1 else "Means over the runs (seeds"
    shown = study_table(points, list(read_rules(CARDS / "settings.yaml")))
    return f"{number} {', '.join(seeds)}).\n\n{shown}"


def distilled_from_few_labels_table() -> str:
    """Return what a transformer and texts without labels add to few labels, or nothing if it was not measured."""
    path = CARDS / "few_labels.json"
    if not path.exists():
        return ""
    content, panel = read_json(path), read_json(CARDS / "panel.json")
    of_panel = {
        title: [run["accuracy"] for run in find_runs(panel, dataset=content["dataset"], split="test", model=model)]
        for title, model in (("TF-IDF, from the labels alone", "tfidf"), ("`rnn_hf`, from the labels alone", OURS))
    }
    return few_labels_table(content, of_panel)


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
    report, rows = load_benchmark("predict"), []
    for row in report["rows"]:
        rate, single, accuracy, megabytes = (
            row.get(key) for key in ("texts_per_second", "milliseconds_for_one_text", "accuracy", "megabytes")
        )
        shown_rate = f"{rate['median']:,.0f}" if isinstance(rate, dict) else rate
        shown_single = "" if single is None else f"{single['median']:.2f}"
        shown_size = "" if megabytes is None else f"{megabytes:.1f}"
        rows.append([row["name"], shown_rate, shown_single, percent([accuracy]) if accuracy else "", shown_size])
    note = PREDICTION_NOTES[report.get("ngram_buckets", 0) > 0]
    titles = ["classifier", "texts a second", "ms for one text", "test accuracy, %", "MB"]
    return f"{note}\n\n{table(titles, rows)}"


def training_table() -> str:
    """Return the seconds of an epoch of the lesson's loop and of ours with lazy Adam."""
    seconds = {row["name"]: row for row in load_benchmark("train")["rows"]}
    rows = []
    for name in PUBLISHED:
        lesson, ours = seconds[f"{name}: the lesson"], seconds[f"{name}: rnn_hf"]
        both = [f"{side['extrapolated_seconds']['median']:.0f}" for side in (lesson, ours)]
        rows.append([f"`{name}`", *both, f"{ours['times_as_fast_as_the_lesson']['median']:.1f}"])
    return table(["recipe", "the lesson's loop, s", "ours, s", "times as fast"], rows, align_right=False)


def loading_table() -> str:
    """Return the seconds of imports, of loading a model and of the first prediction."""
    report = load_benchmark("load")
    rows = [[row["name"], f"{row['seconds']['median']:.2f}"] for row in report["rows"]]
    num_bytes = report["model_bytes"]
    is_current = num_bytes == (CARDS / "ag-news" / "model.safetensors").stat().st_size
    model = "the model in `ag-news/`" if is_current else "an earlier `ag-news`"
    note = f"Measured with {model}, whose `model.safetensors` has {num_bytes / 1e6:.1f} MB."
    return f"{note}\n\n{table(['what', 'seconds'], rows)}"


def memory_table() -> str:
    """Return the peak memory of training and prediction, on the rows of AG News and on copies of them."""
    rows = [
        [
            row["name"].split(",")[0],
            f"{row['num_rows']:,}",
            f"{row['seconds']['median']:.0f}",
            *(f"{row[f'peak_{kind}_megabytes']['median']:.0f}" for kind in ("anonymous", "resident")),
        ]
        for row in load_benchmark("memory")["rows"]
    ]
    return table(["script", "rows", "seconds", "anonymous memory, MB", "with mapped files, MB"], rows)


def check_recipes() -> None:
    """Check that every recipe has a row, and that all recipes of a dataset were trained on the same rows."""
    recipes = {path.parent.name for path in CARDS.glob("*/recipe.yaml")}
    known = {*RECIPES, *SECOND_DATASET, *LANGUAGE_MODELS}
    if recipes != known:
        raise ValueError(f"The tables have the recipes {sorted(known)}, the folder has {sorted(recipes)}.")
    for name in recipes:
        recipe = yaml.safe_load((CARDS / name / "recipe.yaml").read_text())
        expected = NUM_ROWS[recipe["dataset_name"]]
        for run in load_results(name):
            held_out = 0 if run.get("trained_on_all_rows") else run["num_validation_examples"]
            num_rows = run["num_train_examples"] + held_out
            if num_rows != expected:
                raise ValueError(f"`{name}` was trained and validated on {num_rows} rows, expected {expected}.")
            if (run["num_validation_examples"] == 0) != (recipe.get("validation_size") == 0):
                raise ValueError(f"`{name}` has {run['num_validation_examples']} rows for validation.")


TABLES: dict[str, Callable[[], str]] = {
    "summary": summary_table,
    "panel": default_settings_table,
    "few-labels": distilled_from_few_labels_table,
    "settings": rules_table,
    "results": results_table,
    "language-models": language_models_table,
    "second-dataset": second_dataset_table,
    "ablation": ablation_table,
    "lesson": lesson_table,
    "near-duplicates": copies_table,
    "prediction": prediction_table,
    "training": training_table,
    "loading": loading_table,
    "memory": memory_table,
}


def with_tables(text: str) -> str:
    """Return a text with the table of the files between each pair of markers.

    Raises:
        ValueError: If a marker names a table that there is not.
    """

    def filled(match: re.Match[str]) -> str:
        if match[1] not in TABLES:
            raise ValueError(f"A page must name tables of {', '.join(TABLES)}, got {match[1]!r}.")
        content = TABLES[match[1]]()
        return f"<!-- table: {match[1]} -->\n" + (f"\n{content}\n" if content else "") + "\n<!-- end of table -->"

    return re.sub(r"<!-- table: (.*?) -->\n.*?<!-- end of table -->", filled, text, flags=re.DOTALL)


@dataclass
class TableArguments:
    """Where the tables go."""

    write: bool = field(default=False, metadata={"help": "Write the tables into the pages."})


@exit_statuses("results_table", TableArguments)
def main(argv: Sequence[str] | None = None) -> None:
    """Print all tables, or write them into the pages."""
    with user_errors():
        parser = CommandParser([TableArguments], description=__doc__)
        (args,), _ = parser.parse(sys.argv[1:] if argv is None else argv)
        check_recipes()
        if args.write:
            for page in PAGES:
                text = with_tables(page.read_text(encoding="utf-8"))
                with atomic_file(page) as beside:
                    beside.write_text(text, encoding="utf-8")
                print(f"Written: {page}")
            return
    print(*(content for content in (table_of() for table_of in TABLES.values()) if content), sep="\n\n")


if __name__ == "__main__":
    main()
