"""The sub-command `train`: training steps compared with the lesson's loop.

The lesson is Microsoft's *AI for Beginners*, lesson 16.
"""

import io
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml
from datasets import Dataset, DatasetDict
from torch import profiler

from rnn_hf.argument_fields import flag
from rnn_hf.commands import train
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.training.arguments import OptimizerName
from rnn_hf.training.classifier import ClassifierRun
from scripts.benchmark import peers
from scripts.benchmark.report import (
    IN_TURNS,
    NOT_INSTALLED,
    Benchmark,
    DatasetBenchmarkArguments,
    Promise,
    Report,
    Spread,
    check_profile,
    num_cpus,
    profile_table,
    sample_of,
    take_turns,
)
from scripts.research.baselines import TITLES, FastText

RECIPES = Path(__file__).resolve().parents[2] / "model_cards"
DEFAULT_RECIPE = "ag-news"
FASTTEXT = TITLES["fasttext"]

# How many times faster than the lesson's loop training has to be
LESSON_SPEEDUPS = {"lesson-rnn": 5, "lesson-lstm": 5, "lesson-lstm-packed": 10}

# The first steps allocate memory and choose kernels; they are not timed on either side
WARM_UP_STEPS = 20


@dataclass(kw_only=True)
class TrainBenchmarkArguments(DatasetBenchmarkArguments):
    """Training steps, compared with the lesson's loop."""

    max_samples: int = flag(4000, "Rows of the lesson's loop; ours takes the same number of steps.", at_least=32)
    recipes: list[str] = field(
        default_factory=lambda: list(LESSON_SPEEDUPS),
        metadata={"help": f"Recipes of the lesson's classifiers: {', '.join(LESSON_SPEEDUPS)}."},
    )
    optim: OptimizerName = flag("lazy_adam", "Optimizer of our runs of the lesson's recipes.")
    profile: bool = flag(False, "Whether to profile our training instead of comparing.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_profile(self.profile, self.output_file)
        for name in self.recipes:
            if name not in LESSON_SPEEDUPS:
                raise ValueError(f"`recipes` must be of {', '.join(LESSON_SPEEDUPS)}, got {name!r}.")


@dataclass
class Training:
    """Measurements of a run of some steps.

    Args:
        seconds_per_step: Seconds per step, without the first steps.
        num_parameters: Number of parameters of the model.
    """

    seconds_per_step: float
    num_parameters: int


@contextmanager
def step_ends() -> Iterator[list[float]]:
    """Yield a list to which training appends the time at the end of each step, in seconds."""
    ends: list[float] = []
    train_on = ClassifierRun.train_on

    def timed(run: ClassifierRun, batch: dict[str, torch.Tensor]) -> bool:
        took_step = train_on(run, batch)
        ends.append(time.perf_counter())
        return took_step

    with patch.object(ClassifierRun, "train_on", timed):
        yield ends


def per_step(ends: Sequence[float]) -> float:
    """Return the seconds per step, from the times at the ends of all steps."""
    first = min(WARM_UP_STEPS, len(ends) // 2) - 1
    return (ends[-1] - ends[first]) / (len(ends) - 1 - first)


def few_steps(name: str, num_steps: int, folder: str, dataset_name: str | None, *, use_cpu: bool) -> list[str]:
    """Return the command line that trains a recipe for some steps without a validation split.

    Args:
        name: The recipe's folder in `model_cards/`.
        num_steps: Number of optimizer steps.
        folder: Folder for the output folder `run`.
        dataset_name: The dataset, or `None` for the default.
        use_cpu: Whether to stay on the CPU.
    """
    argv = [str(recipe_file(name)), "--max_steps", str(num_steps)]
    argv += ["--output_dir", str(Path(folder) / "run"), "--validation_size", "0", "--eval_strategy", "no"]
    argv += ["--temperature_scaling", "false"]
    argv += ["--use_cpu"] if use_cpu else []
    return argv if dataset_name is None else [*argv, "--dataset_name", dataset_name]


def recipe_file(name: str) -> Path:
    """Return the file of a recipe in `model_cards/`, the one with the values that a run has chosen if there is one."""
    resolved = RECIPES / name / "resolved_recipe.yaml"
    return resolved if resolved.is_file() else RECIPES / name / "recipe.yaml"


def train_quietly(argv: Sequence[str]) -> dict[str, Any]:
    """Train in this process; output is shown only if there is an error."""
    words, errors = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(words), redirect_stderr(errors):
            return train.main(argv)
    except SystemExit:
        # a progress bar overwrites its line
        print(errors.getvalue().strip().splitlines()[-1].split("\r")[-1], file=sys.stderr)
        raise


class TrainBenchmark(Benchmark):
    """Compares training with the lesson's loop on the lesson's recipes.

    Args:
        args: The flags.
    """

    def __init__(self, args: TrainBenchmarkArguments) -> None:
        self.args = args
        rows = load_text_dataset(args.dataset_name, splits=["train"], validation_size=0)["train"]
        self.label_names: list[str] = rows.features["label"].names
        self.rows = list(zip(rows["text"], rows["label"], strict=True))
        self.recipes = {
            name: yaml.safe_load(recipe_file(name).read_text()) for name in [*args.recipes, DEFAULT_RECIPE]
        }

    def num_steps(self, name: str) -> int:
        """Return the number of steps of a recipe, which has full batches only."""
        # the default recipe takes as many as the lesson's, so that there are enough after the first ones
        recipe = self.recipes[name if name in LESSON_SPEEDUPS else self.args.recipes[0]]
        return max(1, min(self.args.max_samples, len(self.rows)) // int(recipe["per_device_train_batch_size"]))

    def steps_per_epoch(self, name: str) -> float:
        """Return the number of steps per epoch of a recipe."""
        return len(self.rows) / float(self.recipes[name]["per_device_train_batch_size"])

    def epochs(self, name: str) -> float:
        """Return the number of epochs of a recipe, or how many its steps amount to on these rows."""
        recipe, max_steps = self.recipes[name], self.recipes[name].get("max_steps", -1)
        return float(max_steps / self.steps_per_epoch(name) if max_steps > 0 else recipe.get("num_train_epochs", 1))

    def run(self) -> Report:
        """Measure the lesson's loop and our training in turns, recipe by recipe."""
        vocabulary, preparation = self.prepare()
        runs: dict[str, Callable[[], Training]] = {}
        for name in self.args.recipes:
            runs[f"{name}: the lesson"] = partial(self.lesson, name, vocabulary)
            runs[f"{name}: rnn_hf"] = partial(self.ours, name)
        runs[f"{DEFAULT_RECIPE}: rnn_hf"] = partial(self.ours, DEFAULT_RECIPE)
        trainings: dict[str, Training] = {}

        def measure(label: str) -> float:
            trainings[label] = runs[label]()
            return trainings[label].seconds_per_step

        contestants: dict[str, Callable[[], float]] = {label: partial(measure, label) for label in runs}
        if peers.is_installed("fasttext"):
            texts = [text for text, _ in self.rows]
            labels = [self.label_names[label] for _, label in self.rows]
            contestants[FASTTEXT] = lambda: FastText(texts, labels, num_threads=num_cpus()).train_runtime
        seconds = take_turns(contestants, self.args.rounds, "Training")
        return self.report(seconds, trainings, preparation)

    def prepare(self) -> tuple[peers.LessonVocabulary, dict[str, float]]:
        """Return the lesson's vocabulary, and the seconds of preparation before the first step on both sides."""
        texts, labels = map(list, zip(*self.rows, strict=True))
        started = time.perf_counter()
        vocabulary = peers.LessonVocabulary(texts)
        lesson = time.perf_counter() - started
        # in memory, so that nothing is read from a cache
        dataset = DatasetDict({"train": Dataset.from_dict({"text": texts, "label": labels})})
        started = time.perf_counter()
        with redirect_stderr(io.StringIO()):  # progress bars
            encode_dataset(dataset, train_tokenizer(texts, vocab_size=200_000), max_length=512)
        return vocabulary, {"the lesson": lesson, "rnn_hf": time.perf_counter() - started}

    def lesson(self, name: str, vocabulary: peers.LessonVocabulary) -> Training:
        """Run some steps of the lesson's loop."""
        settings = peers.LessonSettings.from_recipe(self.recipes[name])
        torch.manual_seed(0)
        model = peers.LessonClassifier(settings, len(vocabulary), len(self.label_names))
        rows = sample_of(self.rows, self.num_steps(name) * settings.batch_size)
        ends = peers.train_lesson(model, vocabulary, rows).step_ends
        return Training(per_step(ends), sum(weight.numel() for weight in model.parameters()))

    def ours(self, name: str) -> Training:
        """Train for the same number of steps."""
        with tempfile.TemporaryDirectory() as folder, step_ends() as ends:
            results = train_quietly(self.argv(name, folder))
        return Training(per_step(ends), results["num_parameters"])

    def argv(self, name: str, folder: str) -> list[str]:
        """Return the command line of our training for some steps of a recipe."""
        argv = few_steps(name, self.num_steps(name), folder, self.args.dataset_name, use_cpu=True)
        return [*argv, "--optim", self.args.optim] if name in LESSON_SPEEDUPS else argv

    def report(
        self, seconds: dict[str, Spread], trainings: dict[str, Training], preparation: dict[str, float]
    ) -> Report:
        """Return the table of all trainings."""
        rows, promises = [], []
        for label, training in trainings.items():
            name, _, side = label.partition(": ")
            epochs = self.epochs(name)
            num_steps = self.steps_per_epoch(name) * epochs
            row: dict[str, Any] = {
                "name": label,
                "num_steps": self.num_steps(name),
                "milliseconds_per_step": seconds[label].times(1000),
                "num_parameters": training.num_parameters,
                "epochs": epochs,
                "extrapolated_seconds": seconds[label].times(num_steps),
                "preparation_seconds": preparation[side],
            }
            if side == "rnn_hf" and name in LESSON_SPEEDUPS:
                speedup = seconds[f"{name}: the lesson"].over(seconds[label])
                row["times_as_fast_as_the_lesson"] = speedup
                bound = LESSON_SPEEDUPS[name]
                text = f"{name}: at least {bound} times as fast as the lesson's loop"
                promises.append(Promise(text + (" (aim: 20)" if bound == 10 else ""), speedup.median, at_least=bound))
            rows.append(row)
        whole: Any = seconds.get(FASTTEXT, NOT_INSTALLED)
        rows.append({"name": f"{FASTTEXT}, measured whole", "epochs": 5, "extrapolated_seconds": whole})
        return Report(
            header=f"Training: {self.args.rounds} {IN_TURNS}. Seconds of the whole "
            f"training are EXTRAPOLATED from the steps measured to all {len(self.rows):,} rows;\npreparation "
            "(vocabulary; ours also tokenizes) comes on top and is measured once on all rows.",
            columns={
                "name": "recipe",
                "num_steps": "steps",
                "milliseconds_per_step": "ms per step",
                "times_as_fast_as_the_lesson": "x times as fast",
                "num_parameters": "parameters",
                "epochs": "epochs",
                "extrapolated_seconds": "s, extrapolated",
                "preparation_seconds": "s, preparation",
            },
            rows=rows,
            promises=promises,
            facts={"num_train_examples": len(self.rows), "warm_up_steps": WARM_UP_STEPS},
        )

    def profile(self) -> str:
        """Return a profile of our training steps, recipe by recipe."""
        tables = []
        for name in [*self.args.recipes, DEFAULT_RECIPE]:
            with tempfile.TemporaryDirectory() as folder:
                with timed_sections() as sections:
                    train_quietly(self.argv(name, folder))
                with profiled_training() as recorded:
                    train_quietly([*self.argv(name, folder), "--overwrite_output_dir"])
            total = sections.pop("all")
            sections["the rest"] = total - sum(sections.values())
            tables.append(profile_table(f"{name}: {self.num_steps(name)} steps", total, sections, recorded[0]))
        return "\n\n".join(tables)


@contextmanager
def timed_sections() -> Iterator[dict[str, float]]:
    """Yield a mapping to which training adds the seconds of its sections, and of all of it as `all`."""
    seconds: dict[str, float] = defaultdict(float)
    train_all, train_on = ClassifierRun.train, ClassifierRun.train_on

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.perf_counter() - started

        return call

    def training(run: ClassifierRun) -> None:
        with (
            patch.object(run.model, "forward", timed("forward", run.model.forward)),
            patch.object(run.accelerator, "backward", timed("backward", run.accelerator.backward)),
            patch.object(run.bare_optimizer, "step", timed("optimizer", run.bare_optimizer.step)),
        ):
            timed("all", train_all)(run)

    with (
        patch.object(ClassifierRun, "train", training),
        patch.object(ClassifierRun, "train_on", timed("steps", train_on)),
    ):
        yield seconds
    seconds["making batches"] = seconds["all"] - seconds["steps"]
    del seconds["steps"]


@contextmanager
def profiled_training() -> Iterator[list[Any]]:
    """Yield a list to which training appends its profile."""
    recorded: list[Any] = []
    train_all = ClassifierRun.train

    def training(run: ClassifierRun) -> None:
        with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as operators:
            train_all(run)
        recorded.append(operators)

    with patch.object(ClassifierRun, "train", training):
        yield recorded
