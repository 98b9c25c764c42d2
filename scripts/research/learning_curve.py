"""Measure how the accuracy of a recipe and of linear baselines grows with the number of training rows.

    python -m scripts.research.learning_curve RECIPE.yaml --output_file curve.json [--num_rows 1000 2000 ...]
        [--seeds 42 1 2] [--models recipe fasttext tfidf] [any flag of `rnn-hf train`]

All models are trained, validated and tested on the same rows. Results that are already in the output file are not
computed again unless their settings have changed, so the recipe and the baselines can be measured on different days.
The figure is written next to the output file, as `curve.png`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.utils import tqdm

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import check_folder_of
from rnn_hf.reporting.markdown import table
from rnn_hf.reporting.seeds import percent
from rnn_hf.training.arguments import ClassifierRunArguments
from scripts.research import baselines
from scripts.research.point_file import Point, PointFile
from scripts.research.run_recipe import given_recipe, parse_study, train_for_results

RECIPE = "recipe"
TITLES = {RECIPE: "rnn_hf", **baselines.TITLES}
NUM_ROWS = (1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 74_430)
# Results of a run that are kept
KEPT = (
    "test_accuracy", "test_macro_f1", "validation_accuracy", "num_train_examples", "num_validation_examples",
    "num_test_examples", "step", "best_step", "train_runtime",
)  # fmt: skip


@dataclass
class CurveArguments(baselines.BaselineArguments):
    """The points of the curve to measure."""

    models: list[str] = field(
        default_factory=lambda: list(TITLES), metadata={"help": f"Which to train, of {', '.join(TITLES)}."}
    )
    num_rows: list[int] = field(
        default_factory=lambda: list(NUM_ROWS),
        metadata={"help": "Numbers of training rows; all rows if there are fewer after the validation split."},
    )
    min_steps: int = field(
        default=0,
        metadata={"help": "Minimum number of optimizer steps of the recipe, whose epochs have few steps on few rows."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.num_rows, default=0) < 1:
            raise ValueError(f"`num_rows` must be at least 1, got {self.num_rows}.")
        if self.output_file is None:
            raise ValueError("Pass `output_file`; results that are already in it are not computed again.")

    @property
    def known_models(self) -> list[str]:
        """The names that `models` may hold."""
        return list(TITLES)


def order(point: Point) -> tuple[int, int, int]:
    """Return the sort key of a point: the model, the number of rows, the seed."""
    return list(TITLES).index(point["model"]), point["num_rows"], point["seed"]


def accuracies(points: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """Return the test accuracies of each model, by its title and the number of training rows.

    Args:
        points: The points of a curve.
    """
    of_models: dict[str, dict[int, list[float]]] = {}
    for point in points:
        of_model = of_models.setdefault(TITLES[point["model"]], {})
        of_model.setdefault(point["num_train_examples"], []).append(point["test_accuracy"])
    return of_models


def curve_table(points: Sequence[Mapping[str, Any]]) -> str:
    """Return the curve as a table: a row for each number of training rows, a column for each model.

    Args:
        points: The points of a curve.
    """
    of_models = accuracies(points)
    rows = []
    for num_rows in sorted({num_rows for of_model in of_models.values() for num_rows in of_model}):
        cells = [percent(of_model[num_rows]) if num_rows in of_model else "" for of_model in of_models.values()]
        rows.append([f"{num_rows:,}", *cells])
    return table(["training rows", *of_models], rows, align_right=False)


def train_recipe(
    recipe: Mapping[str, Any], train_args: ClassifierRunArguments, num_rows: int, seed: int, min_steps: int
) -> dict[str, Any]:
    """Train the recipe on a number of rows; return the results that are kept.

    Args:
        recipe: The arguments that were given.
        train_args: All arguments of training.
        num_rows: Number of training rows.
        seed: The seed.
        min_steps: Minimum number of optimizer steps.
    """
    batch_size = train_args.per_device_train_batch_size * train_args.gradient_accumulation_steps
    is_short = math.ceil(num_rows / batch_size) * train_args.num_train_epochs < min_steps
    flags = ["--max_steps", str(min_steps)] if is_short else []
    results = train_for_results(recipe, seed, "--max_train_samples", str(num_rows), *flags)
    return {name: results[name] for name in KEPT if name in results}


@exit_statuses("learning_curve", CurveArguments, ClassifierRunArguments)
def main(argv: Sequence[str] | None = None) -> list[Point]:
    """Measure the missing points; return all points."""
    with user_errors():
        args, run_args, _ = parse_study(CurveArguments, argv, __doc__)
        check_folder_of("output_file", args.output_file)
        if run_args.max_train_samples is not None:
            raise ValueError("`max_train_samples` differs between the points. Pass `num_rows` instead.")
        recipe = given_recipe(run_args)
        settings_of = {model: baselines.settings_of(run_args, args) for model in baselines.TITLES}
        settings_of[RECIPE] = {"recipe": recipe, "min_steps": args.min_steps}
        path = Path(str(args.output_file))
        curve = PointFile(path, "model", {model: settings_of[model] for model in args.models}, order)
        missing = [
            (num_rows, seed, model)
            for num_rows in sorted(args.num_rows)
            for seed in args.seeds
            for model in args.models
            if not curve.has(model=model, num_rows=num_rows, seed=seed)
        ]
        baselines.load_rows(run_args, args.seeds[0])

    for num_rows, seed, model in tqdm(missing, desc="Measuring the curve", unit="point"):
        if model == RECIPE:
            results = train_recipe(recipe, run_args, num_rows, seed, args.min_steps)
        else:
            dataset = baselines.load_rows(replace(run_args, max_train_samples=num_rows), seed)
            results = baselines.measure(model, dataset, args.fasttext_epochs)
        curve.add({"model": model, "num_rows": num_rows, "seed": seed, **results})
    print(f"test accuracy, %, mean ± standard deviation over the seeds\n{curve_table(curve.points)}")
    print(f"Written: {path}")
    if find_spec("matplotlib") is None:
        print('No figure was drawn: matplotlib is not installed (`pip install -e ".[plots]"`).')
    else:
        from rnn_hf.reporting.figures import plot_accuracy_by_rows, save_small  # matplotlib is an extra

        save_small(plot_accuracy_by_rows(accuracies(curve.points)), path.with_suffix(".png"))
        print(f"Written: {path.with_suffix('.png')}")
    return curve.points


if __name__ == "__main__":
    main()
