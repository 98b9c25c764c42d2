"""Measure what each technique adds to a recipe, and what it costs.

    python -m scripts.research.ablation RECIPE.yaml --techniques TECHNIQUES.yaml --output_file ablation.json
        [--seeds 42 1 2] [any flag of `rnn-hf train`]

The file of techniques gives each one its source and the flags that turn it on (`with`) or, if the recipe already has
it, off (`without`). The recipe is trained unchanged, then with each change alone, once per seed. Results that are
already in the output file are not computed again unless the recipe or the flags have changed.
"""

import hashlib
import json
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from accelerate.utils import tqdm

from rnn_hf.argument_fields import path_flag
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import check_folder_of, read_mapping
from rnn_hf.reporting.markdown import table
from rnn_hf.reporting.seeds import seed_statistics
from rnn_hf.training.arguments import ClassifierRunArguments
from scripts.research.point_file import Point, PointFile
from scripts.research.run_recipe import SeedArguments, given_recipe, parse_study, train_for_results

RECIPE = "recipe"
# Results of a run that are kept
KEPT = ("test_accuracy", "test_macro_f1", "validation_accuracy", "test_loss", "num_parameters", "train_runtime")


@dataclass
class AblationArguments(SeedArguments):
    """The techniques to measure."""

    techniques: str | None = path_flag(None, "YAML file of the techniques.")
    output_file: str | None = path_flag(None, "JSON file for the results.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.techniques is None or self.output_file is None:
            raise ValueError("Pass `techniques`, the YAML file of techniques, and `output_file`, for the results.")


def read_techniques(path: Path, flags: set[str]) -> dict[str, dict[str, Any]]:
    """Read a file of techniques.

    Args:
        path: A YAML mapping from names to `source` and either `with` or `without`, a mapping of flags.
        flags: Names of the known flags.

    Raises:
        ValueError: If the file has another form.
    """
    techniques = read_mapping(path, "file of techniques", "techniques")
    if not techniques:
        raise ValueError(f"{str(path)!r} must have techniques, got none.")
    for name, technique in techniques.items():
        if not isinstance(technique, dict) or technique.keys() not in ({"source", "with"}, {"source", "without"}):
            raise ValueError(f"{str(path)!r}: {name!r} must have `source` and either `with` or `without`.")
        change = changed_flags(technique)
        if not isinstance(change, dict) or not change or not change.keys() <= flags:
            raise ValueError(f"{str(path)!r}: {name!r} must map flags of `rnn-hf train` to values, got {change}.")
    return techniques


def changed_flags(technique: Mapping[str, Any]) -> Any:
    """Return the flags that turn a technique on or off."""
    return technique["with"] if "with" in technique else technique["without"]


def digest_of(recipe: Mapping[str, Any]) -> str:
    """Return a hash of a recipe, by which its measurements are told from those of another one."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def order(point: Point) -> tuple[bool, str, int]:
    """Return the sort key of a point: the unchanged recipe first, then techniques and seeds."""
    return point["technique"] != RECIPE, point["technique"], point["seed"]


def ablation_table(settings: Mapping[str, Mapping[str, Any]], points: Sequence[Point]) -> str:
    """Return a table of what each technique adds, the largest gain first.

    Gains are differences to the unchanged recipe with the same seed, for the seeds that both have.

    Args:
        settings: The settings in the file of results.
        points: The points in that file.
    """
    digest = digest_of(settings[RECIPE]["recipe"])
    of_recipe = {point["seed"]: point for point in points if point["technique"] == RECIPE}
    rows = []
    for name, technique in settings.items():
        of_technique = [point for point in points if point["technique"] == name and point["seed"] in of_recipe]
        if name == RECIPE or not of_technique or technique["recipe"] != digest:
            continue
        gains = [point["test_accuracy"] - of_recipe[point["seed"]]["test_accuracy"] for point in of_technique]
        cost = mean(point["cpu_seconds"] for point in of_technique)
        cost /= mean(of_recipe[point["seed"]]["cpu_seconds"] for point in of_technique)
        place = "no"
        if "without" in technique:  # the recipe is what has it
            gains, cost, place = [-gain for gain in gains], 1 / cost, "yes"
        figures = seed_statistics(gains)
        spread = "" if figures.standard_deviation is None else f" ± {100 * figures.standard_deviation:.2f}"
        cells = [name, technique["source"], place, f"{100 * figures.mean:+.2f}{spread}", f"{cost:.2f}"]
        rows.append((figures.mean, cells))
    titles = ["technique", "source", "in the recipe", "adds, points of test accuracy", "times the CPU time"]
    return table(titles, [cells for _, cells in sorted(rows, reverse=True)], align_right=False)


def measure(recipe: Mapping[str, Any], change: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Train the recipe with some flags changed; return the results that are kept.

    Args:
        recipe: The arguments that were given.
        change: Flags and values that replace those of the recipe.
        seed: The seed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    results = train_for_results({**recipe, **change}, seed)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": seconds, **{name: results[name] for name in KEPT if name in results}}


@exit_statuses("ablation", AblationArguments, ClassifierRunArguments)
def main(argv: Sequence[str] | None = None) -> list[Point]:
    """Measure the missing points; return all points."""
    with user_errors():
        args, run_args, parser = parse_study(AblationArguments, argv, __doc__)
        check_folder_of("output_file", args.output_file)
        techniques = read_techniques(Path(str(args.techniques)), set(parser.flags()))
        if RECIPE in techniques:
            raise ValueError(f"{args.techniques!r}: {RECIPE!r} is the name of the unchanged recipe. Choose another.")
        recipe = given_recipe(run_args)
        digest = digest_of(recipe)
        settings = {name: {**technique, "recipe": digest} for name, technique in techniques.items()}
        settings = {RECIPE: {"recipe": recipe}, **settings}
        file = PointFile(Path(str(args.output_file)), "technique", settings, order)
        missing = [(name, seed) for seed in args.seeds for name in settings if not file.has(technique=name, seed=seed)]

    for name, seed in tqdm(missing, desc="Measuring techniques", unit="run"):
        change = {} if name == RECIPE else changed_flags(techniques[name])
        file.add({"technique": name, "seed": seed, **measure(recipe, change, seed)})
    print(f"{ablation_table(file.settings, file.points)}\nWritten: {args.output_file}")
    return file.points


if __name__ == "__main__":
    main()
