"""Measure each rule of `rnn_hf/training/settings.py` against what a run would do without it.

    python -m scripts.research.settings_study [--datasets NAME ...] [--seeds 42 1 2] [--folder FOLDER]
        [--rules model_cards/settings.yaml] [--output_file model_cards/settings.json]

The file of rules gives each one the settings that take its place. `TextClassifier.train` is run with its defaults, and
with each change alone, on the rows of the panel, and measured on validation rows. Results that are already in the
output file are not computed again unless the rule has changed.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate.utils import tqdm

from rnn_hf.argument_fields import names_of, path_flag
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser, check_folder_of, read_mapping
from rnn_hf.reporting.markdown import table
from rnn_hf.training.arguments import ClassifierRunArguments
from scripts.research.panel import classes_of, train_ours
from scripts.research.panel_datasets import DATASETS, check_datasets, rows_of_run
from scripts.research.panel_results import METRICS, measure
from scripts.research.point_file import Point, PointFile
from scripts.research.render_model_cards import CARDS
from scripts.research.run_recipe import SeedArguments, refuse_single_seed

DEFAULTS = "defaults"


@dataclass
class StudyArguments(SeedArguments):
    """Which rules to measure, on which datasets, and where the results go."""

    datasets: list[str] = field(
        default_factory=lambda: ["ag_news_1000", "ag_news_20000", "banking77"],
        metadata={"help": f"Datasets, of {', '.join(DATASETS)}."},
    )
    folder: str | None = path_flag(None, "Folder of local copies of the datasets; others are read from the Hub.")
    rules: str = path_flag(str(CARDS / "settings.yaml"), "YAML file of the rules.")
    output_file: str = path_flag(str(CARDS / "settings.json"), "JSON file of the results, which is continued.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_datasets(self.datasets)


def read_rules(path: Path) -> dict[str, dict[str, Any]]:
    """Read a file of rules: a YAML mapping from each to the settings that take its place.

    Raises:
        ValueError: If the file has another form.
    """
    rules = read_mapping(path, "file of rules", "rules") or {}
    known = set(names_of(ClassifierRunArguments)) - {"seed", "output_dir"}
    for name, settings in rules.items():
        if not isinstance(settings, dict) or not settings or not settings.keys() <= known or name == DEFAULTS:
            raise ValueError(f"{str(path)!r}: {name!r} must map arguments of training to values, got {settings}.")
    return rules


def order(point: Point) -> tuple[int, bool, str, int]:
    """Return the sort key of a point: by datasets, the defaults first."""
    return list(DATASETS).index(point["dataset"]), point["rule"] != DEFAULTS, point["rule"], point["seed"]


def study_table(points: Sequence[Point], rules: Sequence[str]) -> str:
    """Return a table of what each change loses against the defaults, in points of the dataset's metric.

    Args:
        points: The measured points.
        rules: The rules in the order of the table.
    """
    datasets = [name for name in DATASETS if any(point["dataset"] == name for point in points)]
    scores = {(point["rule"], point["dataset"], point["seed"]): point["score"] for point in points}

    def gain(rule: str, dataset: str) -> str:
        gains = [
            100 * (score - scores[DEFAULTS, dataset, seed])
            for (name, where, seed), score in scores.items()
            if (name, where) == (rule, dataset) and (DEFAULTS, dataset, seed) in scores
        ]
        return f"{fmean(gains):+.1f}" if gains else ""

    def default(dataset: str) -> str:
        found = [score for (name, where, _), score in scores.items() if (name, where) == (DEFAULTS, dataset)]
        return f"{100 * fmean(found):.1f}" if found else ""

    titles = [f"{DATASETS[name].title}, {rows_in(points, name):,} rows" for name in datasets]
    rows = [[rule, *(gain(rule, name) for name in datasets)] for rule in rules]
    return table(["", *titles], [[DEFAULTS, *map(default, datasets)], *rows])


def rows_in(points: Sequence[Point], dataset: str) -> int:
    """Return the number of training rows that a dataset had."""
    return next(int(point["num_train_rows"]) for point in points if point["dataset"] == dataset)


def score_of(dataset: str, folder: str | None, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Train with some settings; return the metric on the validation rows, the seconds and the number of rows.

    Args:
        dataset: A name in `DATASETS`.
        folder: Folder of local copies of the datasets.
        seed: The seed.
        settings: Arguments of `TextClassifier.train`.
    """
    rows, kind = rows_of_run(dataset, folder, seed, is_test=False), DATASETS[dataset].kind
    classifier, facts = train_ours(rows, seed, settings)
    answers = classifier.predict(rows.measured.texts, show_progress=False)
    metrics = measure(kind, rows.measured.labels, answers, classes_of(rows))
    score = metrics[METRICS[kind][0]]
    return {"score": score, "seconds": facts["seconds"], "num_train_rows": len(rows.train.texts)}


@exit_statuses("settings_study", StudyArguments)
def main(argv: Sequence[str] | None = None) -> list[Point]:
    """Measure the missing points, and print the table; return all points."""
    with user_errors():
        words = sys.argv[1:] if argv is None else list(argv)
        refuse_single_seed(words)
        (args,), _ = CommandParser([StudyArguments], description=__doc__).parse(words)
        path = Path(args.output_file)
        check_folder_of("output_file", str(path))
        settings = {DEFAULTS: {}, **read_rules(Path(args.rules))}
        file = PointFile(path, "rule", settings, order)
    wanted = [(name, seed, rule) for name in args.datasets for seed in args.seeds for rule in settings]
    missing = [(name, seed, rule) for name, seed, rule in wanted if not file.has(dataset=name, seed=seed, rule=rule)]
    with tqdm(missing, desc="Measuring rules", unit="run") as progress:
        for name, seed, rule in progress:
            progress.set_postfix_str(f"{name}, {rule}, seed {seed}")
            point = {"dataset": name, "rule": rule, "seed": seed}
            file.add({**point, **score_of(name, args.folder, seed, settings[rule])})
    shown = study_table(file.points, [rule for rule in settings if rule != DEFAULTS])
    print(f"{shown}\nWritten: {path} ({len(missing)} new runs)")
    return file.points


if __name__ == "__main__":
    main()
