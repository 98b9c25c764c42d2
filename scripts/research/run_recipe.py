"""Train a recipe with several seeds, one after the other, and report mean, spread and interval of the results.

    python -m scripts.research.run_recipe RECIPE.yaml --output_dir runs/ag-news [--seeds 42 1 2] [flags of its job]

Each seed is a run of the recipe's job (`rnn-hf train`, or `rnn-hf train-language-model` or `rnn-hf distill` if the
recipe has their arguments) in a folder of its own, `seed_42` and so on. `summary.json` holds the statistics. With it,
the folder gets the files of a folder of `model_cards/`: `recipe.yaml`, `all_results.json` (the first seed's) and
`all_results_seed_*.json`. After an interruption, the same command continues with the seeds that are not finished.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser, read_mapping
from rnn_hf.files import read_json, write_json
from rnn_hf.reporting.seeds import INTERVAL_NOTE, percent, seed_statistics
from rnn_hf.training.arguments import ClassifierRunArguments, RunArguments
from rnn_hf.training.checkpoints import CHECKPOINTS
from rnn_hf.training.output_folder import check_folder_can_be_made
from rnn_hf.training.recipes import NOT_PART_OF_THE_RUN, arguments_of_recipe, as_recipe

Arguments = TypeVar("Arguments")

DEFAULT_SEEDS = (42, 1, 2)
# Flags that `train_seed` sets, or that apply to a single seed
NOT_OF_ALL_SEEDS = {"seeds", "seed", "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "push_to_hub"}


@dataclass
class SeedArguments:
    """The seeds to train."""

    seeds: list[int] = field(
        default_factory=lambda: list(DEFAULT_SEEDS), metadata={"help": "Seeds, trained in this order."}
    )

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"`seeds` must be different numbers of at least 0, got {self.seeds}.")


def refuse_single_seed(words: Sequence[str]) -> None:
    """Reject `seed` on the command line; in the recipe that a run has written, it is allowed and ignored."""
    if any(word.split("=")[0] == "--seed" for word in words):
        raise ValueError("`seed` is for a single run. Pass `seeds`.")


def parse_study(
    arguments: type[Arguments], argv: Sequence[str] | None, description: str | None
) -> tuple[Arguments, ClassifierRunArguments, CommandParser]:
    """Return the arguments of a program that trains many classifiers, those of every run, and their parser.

    Args:
        arguments: The dataclass of its own arguments.
        argv: The words after its name; by default those of this process.
        description: What `--help` shows first.

    Raises:
        ValueError: If `seed` is given, or a value is out of its domain.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    refuse_single_seed(words)
    parser = CommandParser((arguments, ClassifierRunArguments), description=description)
    # a run needs an output folder, and every one gets its own
    (args, run_args), _ = parser.parse([*words, "--output_dir", "unused"])
    return args, run_args, parser


def given_recipe(args: RunArguments) -> dict[str, Any]:
    """Return the arguments that were given and that all seeds share, as a recipe."""
    return {name: value for name, value in as_recipe(args).items() if name in args.given - NOT_OF_ALL_SEEDS}


def prepare_folder(folder: Path, recipe: Mapping[str, Any], overwrite: bool) -> Path:
    """Write the recipe into the folder of all seeds, unless it is there already, and return its path.

    Args:
        folder: The folder; it is created if necessary.
        recipe: The arguments that were given, without those of a single seed.
        overwrite: Whether to remove results of another recipe.

    Raises:
        ValueError: If the folder has results of another recipe, or other files.
    """
    check_folder_can_be_made(folder)
    file = folder / "recipe.yaml"
    if overwrite:
        for old in [file, *folder.glob("all_results*.json"), *folder.glob("summary.json")]:
            old.unlink(missing_ok=True)
        for old in folder.glob("seed_*"):
            shutil.rmtree(old)
    remedy = "Pass `overwrite_output_dir` or another `output_dir`."
    if file.exists():
        before = read_mapping(file, "recipe", "flags to values")
        for name in sorted((before.keys() | recipe.keys()) - NOT_PART_OF_THE_RUN):
            if before.get(name) != recipe.get(name):
                raise ValueError(
                    f"The folder {str(folder)!r} has seeds that were trained with `{name}: {before.get(name)}`, but "
                    f"this recipe has {recipe.get(name)}. {remedy}"
                )
        return file
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"The folder {str(folder)!r} is not empty. {remedy}")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))
    return file


def train_seed(recipe_file: Path, seed: int, folder: Path) -> dict[str, Any]:
    """Train one seed in a separate process, unless it is finished, and return its results.

    Args:
        recipe_file: The recipe.
        seed: The seed.
        folder: Output folder of the run, which is resumed from a checkpoint in it, if there is one.

    Returns:
        Content of its `all_results.json`.

    Raises:
        SystemExit: If the run fails, with its exit status; it has printed the reason.
    """
    results_file = folder / "all_results.json"
    # a finished run moves its files out of `finished` one by one, and `all_results.json` is not the last
    if not results_file.exists() or (folder / "finished").exists():
        command = [sys.executable, "-m", "rnn_hf", arguments_of_recipe(recipe_file).job, str(recipe_file)]
        command += ["--seed", str(seed), "--output_dir", str(folder)]
        has_checkpoint = any((folder / CHECKPOINTS).glob("step-*"))
        command += ["--resume_from_checkpoint", "latest"] if has_checkpoint else ["--overwrite_output_dir"]
        run_or_exit(command)
    return read_json(results_file)


def train_for_results(recipe: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Train a recipe in a temporary folder, and return the content of its `all_results.json`.

    Args:
        recipe: The arguments of the run.
        seed: The seed.
    """
    with tempfile.TemporaryDirectory() as folder:
        recipe_file = Path(folder) / "recipe.yaml"
        recipe_file.write_text(yaml.safe_dump(dict(recipe), allow_unicode=True))
        return train_seed(recipe_file, seed, Path(folder) / "run")


def run_or_exit(command: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        SystemExit: If it fails, with its exit status.
    """
    status = run_to_its_end(command)
    if status != 0:
        # a process that a signal ended has its negative number as status; shells use 128 plus the number
        sys.exit(status if status > 0 else 128 - status)


def run_to_its_end(command: Sequence[str]) -> int:
    """Run a command, forward SIGINT and SIGTERM to it, and return its exit status.

    Args:
        command: A program and its arguments.
    """
    # in its own process group, so that it does not also receive Ctrl-C from the terminal
    process = subprocess.Popen(command, process_group=0)
    before = {
        number: signal.signal(number, lambda number, frame: process.send_signal(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of `summary.json`: statistics of every metric that all seeds have.

    Args:
        runs: Content of `all_results.json` of each seed.
    """
    names = [
        name
        for name, value in runs[0].items()
        if isinstance(value, float)
        and (name.startswith(("test_", "validation_", "temperature", "teacher_")) or name == "train_runtime")
    ]
    statistics = {
        name: seed_statistics([run[name] for run in runs]).as_dict()
        for name in names
        if all(isinstance(run.get(name), float) for run in runs)
    }
    return {"seeds": [run["seed"] for run in runs], "interval": INTERVAL_NOTE, "statistics": statistics}


def without_details(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the single values of a run's results, without its log, confusion matrix and other lists."""
    return {name: value for name, value in run.items() if not isinstance(value, dict | list)}


def write_runs(folder: Path, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write the results of all seeds and their summary into a folder, and return the summary.

    A card shows the details of the first seed alone; those of the others stay in the folders of their runs.

    Args:
        folder: The folder; results in it are replaced.
        runs: Content of `all_results.json` of each seed.
    """
    names = ["all_results.json", *(f"all_results_seed_{run['seed']}.json" for run in runs[1:])]
    for name, run in zip(names, [runs[0], *map(without_details, runs[1:])], strict=True):
        write_json(folder / name, run)
    for file in folder.glob("all_results*.json"):
        if file.name not in names:
            file.unlink()
    summary = summarize(runs)
    write_json(folder / "summary.json", summary)
    return summary


def shown(summary: Mapping[str, Any]) -> str:
    """Return the statistics of a summary as text, shares in percent."""
    lines = [f"Seeds {', '.join(map(str, summary['seeds']))}: mean ± standard deviation (95 % interval of the mean)"]
    for name, figures in summary["statistics"].items():
        is_share = name.endswith(("accuracy", "f1", "agreement"))
        text = f"{percent(figures['values'], 2)} %" if is_share else f"{figures['mean']:.4g}"
        if not is_share and figures["standard_deviation"] is not None:
            text += f" ± {figures['standard_deviation']:.2g}"
        if figures["interval"] is not None:
            low, high = (f"{100 * bound:.2f}" if is_share else f"{bound:.4g}" for bound in figures["interval"])
            text += f" ({low} to {high})"
        lines.append(f"{name:<24} {text}")
    return "\n".join(lines)


@exit_statuses("run_recipe", SeedArguments, ClassifierRunArguments)
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train all seeds; return the content of `summary.json`."""
    with user_errors():
        words = sys.argv[1:] if argv is None else list(argv)
        has_recipe = bool(words) and not words[0].startswith("-")
        arguments = arguments_of_recipe(Path(words[0])) if has_recipe else ClassifierRunArguments
        parser = CommandParser((SeedArguments, arguments), description=__doc__)
        (seed_args, args), _ = parser.parse(words)
        refuse_single_seed(words)
        if args.output_dir is None:
            raise ValueError("`output_dir` must be given, got none. Pass the folder for all seeds.")
        if args.push_to_hub or args.resume_from_checkpoint is not None:
            raise ValueError("`push_to_hub` and `resume_from_checkpoint` are for one seed. Run its job.")
        folder = Path(args.output_dir)
        recipe_file = prepare_folder(folder, given_recipe(args), args.overwrite_output_dir)

    runs = []
    for number, seed in enumerate(seed_args.seeds, start=1):
        print(f"Seed {seed} ({number} of {len(seed_args.seeds)})", flush=True)
        runs.append(train_seed(recipe_file, seed, folder / f"seed_{seed}"))
    summary = write_runs(folder, runs)
    print(f"\n{shown(summary)}\nWritten: {folder / 'summary.json'}")
    return summary


if __name__ == "__main__":
    main()
