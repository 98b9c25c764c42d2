"""Tuning by time, as in fastText's autotune: try settings around the chosen ones for some minutes, and keep the best.

The minutes are those of the whole run. The duration of the last training is estimated from the trials, and no trial
takes from its time. Settings are compared by cross-validation if there are few rows, or else on the validation split,
and the chosen ones are kept unless others are better by more than chance can explain. As many networks as the time
allows are then trained with them, and joined into one.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed

from rnn_hf.files import remove
from rnn_hf.progress import progress_bar, say, silenced
from rnn_hf.random_states import kept_random_states

from .arguments import ClassifierRunArguments, TrainArguments
from .checkpoints import CHECKPOINTS, newest_checkpoint
from .classifier import ClassifierRun
from .classifier_task import ClassifierTask
from .metrics import MAIN_METRICS, compute_metrics, predict_split
from .optimization import num_training_steps
from .recipes import NOT_PART_OF_THE_RUN, as_recipe
from .search_space import cut_folds, row_scores, search_space
from .signals import DivergedRunError, StopSignals
from .tuning_study import Study

STUDY_FILE = "tuning.json"

MOST_TRIALS = 200

# Number of consecutive trials without enough time after which the search ends
MOST_MISSES = 5

# Number of networks that the last training joins if there is time: each adds less accuracy than the one before
MOST_NETWORKS = 4

# Maximum share of the minutes that is kept for the last training: joined networks gain more than other settings
SHARE_OF_LAST = 0.75

# Number of steps after which the duration of a trial is known well enough
MEASURED_STEPS = 50

# Number of first steps, which are slower
WARM_UP_STEPS = 5

# Factor by which the last training may be slower than the trials
SLACK = 1.1

# Seconds for writing model, card and figures
WRITING_SECONDS = 4.0

SPLITS = ("train", "validation", "test")

now = time.perf_counter


class OutOfTimeError(Exception):
    """A trial would take from the time of the last training, or the user has stopped the search."""


def apply(args: ClassifierRunArguments, settings: Mapping[str, Any]) -> None:
    """Set arguments as if the user had given them, so that they override a checkpoint."""
    for name, value in settings.items():
        setattr(args, name, value)
    args.given = args.given | settings.keys()


@dataclass(kw_only=True)
class TrialRun(ClassifierRun):
    """A training run that is watched after each step."""

    watch: Callable[["TrialRun"], None] = lambda run: None

    def stop_if_asked(self) -> None:
        """Call the watcher, which raises an exception to stop the run."""
        self.watch(self)


def check_tuning(args: ClassifierRunArguments, num_processes: int) -> None:
    """Check that tuning is possible, before any data is read.

    Args:
        args: `tune_minutes` of the run.
        num_processes: Number of its processes.

    Raises:
        ValueError: If there are several processes, or optuna is not installed.
    """
    if args.tune_minutes is None:
        return
    if num_processes > 1:
        raise ValueError(f"`tune_minutes` needs a single process, got {num_processes}. Launch one, or leave it out.")
    if find_spec("optuna") is None:
        raise ValueError('`tune_minutes` needs the package optuna. Run `pip install "rnn-hf[tune]"`.')


def tune(task: ClassifierTask, started: float) -> dict[str, Any] | None:
    """Set the arguments of a task to the best settings found; return the trials, or `None` without `tune_minutes`.

    The first Ctrl-C ends the search and keeps the best settings so far.

    Args:
        task: The task to train; its `args` are changed.
        started: The result of `time.perf_counter()` at the start of the run.

    Raises:
        FileNotFoundError: If there is no study to resume.
        ValueError: If there is nothing to search, no row to validate on, or the study to resume had other arguments.
    """
    if task.args.tune_minutes is None:
        return None
    with quiet_optuna(), kept_random_states(), StopSignals(numbers=(SIGINT,)) as signals:
        tuner = Tuner(task, started, signals)
        tuner.search()
    return tuner.finish()


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Make optuna log only warnings inside the block."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


class Tuner:
    """A search that trains: its rows and its clock. The arguments are those of `tune`, and the signals to watch."""

    def __init__(self, task: ClassifierTask, started: float, signals: StopSignals) -> None:
        args, splits, rows, config = task.args, task.splits, task.rows, task.config
        self.task, self.args, self.splits, self.accelerator = task, args, splits, task.accelerator
        self.started, self.signals = started, signals
        self.minutes = float(args.tune_minutes or 0)
        self.main_metric = MAIN_METRICS[splits.problem_type]
        space, chosen = search_space(args, config, splits.problem_type, len(splits.label_names), len(rows["train"]))
        if not space:
            raise ValueError("`tune_minutes` has nothing to search: every setting is given. Leave some out.")
        self.folds = cut_folds(splits, rows, args.seed)
        unlike = {*NOT_PART_OF_THE_RUN, "tune_minutes"}
        recipe = {name: value for name, value in as_recipe(args).items() if name not in unlike}
        folder = None if args.output_dir is None else Path(args.output_dir)
        file = None if folder is None else folder / CHECKPOINTS / STUDY_FILE
        self.study, self.is_over = Study(space, chosen, recipe, args.seed, file), False
        if folder is not None and args.resume_from_checkpoint is not None:
            self.study.load()
            say(f"Resuming the search after {len(self.study.trials)} trials and {self.study.seconds:.0f} seconds.")
            # once the last training has started, its settings are fixed
            self.is_over = newest_checkpoint(folder) is not None
            args.resume_from_checkpoint = "latest" if self.is_over else None
        elif folder is not None and args.overwrite_output_dir:
            remove(folder / CHECKPOINTS)
            args.overwrite_output_dir = False  # otherwise the last training would remove the study
        self.end = started + 60 * self.minutes - self.study.seconds
        self.preparation_seconds = self.evaluation_seconds = 0.0
        self.num_evaluated, self.bar = 0, progress_bar(disable=True)

    def search(self) -> None:
        """Try settings until the time is up or Ctrl-C is pressed."""
        study, misses = self.study, 0
        shape = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"
        with progress_bar(total=60 * self.minutes, desc="Tuning", bar_format=shape) as self.bar:
            self.bar.update(study.seconds)
            while not self.is_over and len(study.trials) < MOST_TRIALS and misses < MOST_MISSES and self.has_time():
                before, asked = study.best, study.ask()
                if asked is None:
                    break
                record = self.attempt(*asked)
                study.save(now() - self.started)
                misses = misses + 1 if record["state"] == "out of time" else 0
                self.is_over = study.best is None or bool(self.signals.received)
                if record is study.best:
                    than = "" if before is None else f", score {record['difference']:+.4f} on the chosen settings"
                    metric = f"{self.main_metric} {record[self.main_metric]:.4f}{than}"
                    say(f"trial {record['number']} | {metric}: {study.changed(record) or 'the chosen settings'}")

    @property
    def reserve(self) -> float:
        """Seconds of the last training, with the chosen or the best settings."""
        first, best = self.study.complete[:1], self.study.best
        seconds = max((float(record["final_seconds"]) for record in [*first, best] if record), default=0.0)
        return seconds * self.num_networks(seconds, SHARE_OF_LAST * 60 * self.minutes)

    def num_networks(self, seconds: float, available: float) -> int:
        """Return how many networks the last training joins.

        Args:
            seconds: How long one of them takes.
            available: Seconds for all.
        """
        pooling = (self.task.config or self.args).classifier_pooling
        if "ensemble_size" in self.args.given or pooling == "attention":
            return self.args.ensemble_size
        return max(1, min(MOST_NETWORKS, int(available / max(seconds, 1e-9))))

    def has_time(self) -> bool:
        """Return whether another trial can finish before the last training has to start."""
        shortest = min((record["seconds"] for record in self.study.complete), default=0.0)
        return self.end - now() > self.reserve + 0.5 * shortest or not self.study.trials

    def attempt(self, trial: Any, record: dict[str, Any]) -> dict[str, Any]:
        """Train with the settings of a trial, and return its record with the result."""
        from optuna import TrialPruned

        best = self.study.best
        standing = "" if best is None else f"best {self.main_metric} {best[self.main_metric]:.4f}, "
        self.bar.set_postfix_str(f"{standing}trial {record['number']}", refresh=False)
        begun = now()
        try:
            with silenced():
                self.validate(trial, record)
        except OutOfTimeError:
            record["state"] = "interrupted" if self.signals.received else "out of time"
        except TrialPruned:
            record["state"] = "pruned"
        except (DivergedRunError, ValueError, torch.OutOfMemoryError):
            if not self.study.trials:
                raise
            record["state"] = "failed"
        finally:  # it collects garbage, which takes too long after each fold
            self.accelerator.free_memory()
        record["seconds"] = round(now() - begun, 2)
        self.study.tell(trial, record)
        return record

    def arguments(self, settings: Mapping[str, Any]) -> ClassifierRunArguments:
        """Return the arguments of a trial, which writes nothing and is evaluated only at its end."""
        args = copy.copy(self.args)
        apply(args, settings)
        args.output_dir, args.report_to, args.save_strategy, args.eval_strategy = None, "none", "no", "no"
        args.early_stopping_patience, args.logging_steps = None, 10**9
        return args

    def validate(self, trial: Any, record: dict[str, Any]) -> None:
        """Train on the rows of each fold, and add scores and times to the record of the trial.

        Raises:
            OutOfTimeError: If there is no time for the trial, or Ctrl-C was pressed.
            optuna.TrialPruned: If it is worse than others.
        """
        from optuna import TrialPruned

        study, args, problem_type, parts = self.study, self.arguments(record["values"]), self.splits.problem_type, []
        for index, fold in enumerate(self.folds):
            set_seed(args.seed)
            begun = now()
            run: Any = replace(self.task, rows=fold, args=args).prepare(run_type=TrialRun)
            self.preparation_seconds = max(self.preparation_seconds, now() - begun)
            run.watch = self.watcher(trial, record, index)
            try:
                run.train()
                parts.append(self.answers(run))
            finally:
                for loader in run.loaders.values():
                    loader.end()  # Accelerate keeps a loader that was not read to its end
                self.accelerator.step = 0
            logits, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
            scores = row_scores(logits, labels, problem_type)
            if study.report(trial, record, float(scores.mean())) and index + 1 < len(self.folds):
                raise TrialPruned
        if not study.trials:
            study.chosen_scores = scores.round(6).tolist()
        differences = scores - study.chosen_scores if study.trials else np.zeros(len(scores))
        metrics = compute_metrics(logits, labels, self.splits.label_names, problem_type)
        record |= {
            "score": float(scores.mean()),
            self.main_metric: metrics[self.main_metric],
            "difference": float(differences.mean()),
            "standard_error": float(differences.std() / math.sqrt(len(scores))),
            "final_seconds": self.final_seconds(args, record["step_seconds"]),
        }

    def watcher(self, trial: Any, record: dict[str, Any], index: int) -> Callable[[TrialRun], None]:
        """Return a function that decides after each step of a fold whether the trial goes on, and shows the time."""
        from optuna import TrialPruned

        begun = now()

        def watch(run: TrialRun) -> None:
            nonlocal begun
            step, num_steps = run.state.step, run.num_steps
            self.bar.update(self.study.seconds + now() - self.started - self.bar.n)
            if step == WARM_UP_STEPS:
                begun = now()
            record["step_seconds"] = (now() - begun) / (step if step <= WARM_UP_STEPS else step - WARM_UP_STEPS)
            needed = self.reserve
            if step >= MEASURED_STEPS:
                needed = max(needed, self.final_seconds(run.args, record["step_seconds"]) * self.args.ensemble_size)
                needed += record["step_seconds"] * (num_steps * (len(self.folds) - index) - step)
            if self.signals.received or self.end - now() < needed:
                raise OutOfTimeError
            # without folds, a trial is compared with others after each quarter of its steps
            if len(self.folds) == 1 and len(record["intermediate"]) < 4 * step // num_steps < 4:
                paused = now()
                scores = row_scores(*self.answers(run), self.splits.problem_type)
                run.model.train()
                begun += now() - paused
                if self.study.report(trial, record, float(scores.mean())):
                    raise TrialPruned

        return watch

    def answers(self, run: ClassifierRun) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and labels of the rows that judge a run."""
        begun = now()
        logits, labels = predict_split(run.model, run.loaders["validation"], self.accelerator)
        self.evaluation_seconds += now() - begun
        self.num_evaluated += len(labels)
        return logits if run.scale is None else run.scale.restored(logits), labels

    def final_seconds(self, args: TrainArguments, step_seconds: float) -> float:
        """Return the duration of the last training of one network, with its evaluations and files.

        Args:
            args: Its arguments.
            step_seconds: Seconds of a step with them.
        """
        num_train, num_validation, num_test = (len(self.task.rows.get(name, ())) for name in SPLITS)
        sizes = [num_train, num_train + num_validation] if args.train_on_all_rows else [num_train]
        batches = [math.ceil(size / args.per_device_train_batch_size) for size in sizes]
        steps = [num_training_steps(args, count) for count in batches]
        steps_between = self.args.eval_steps
        if self.args.eval_strategy == "epoch":
            steps_between = math.ceil(batches[0] / args.gradient_accumulation_steps)
        num_evaluations = 1 + (0 if self.args.eval_strategy == "no" else math.ceil(steps[0] / steps_between))
        num_rows = num_evaluations * num_validation + num_test
        seconds = sum(steps) * step_seconds + num_rows * self.evaluation_seconds / max(self.num_evaluated, 1)
        writing = 0.0 if self.args.output_dir is None else WRITING_SECONDS
        return SLACK * (seconds + len(steps) * self.preparation_seconds) + writing

    def finish(self) -> dict[str, Any]:
        """Set the arguments to those of the winner, say why, and return the entry of `all_results.json` on tuning."""
        study, seconds = self.study, now() - self.started
        winner, last = study.winner, study.winner or next(iter(study.complete), None)
        if self.is_over and study.ensemble_size is not None:
            self.args.ensemble_size = study.ensemble_size
        elif last is not None:
            self.args.ensemble_size = self.num_networks(last["final_seconds"], self.end - now())
        study.ensemble_size = self.args.ensemble_size
        study.save(seconds)
        trials = f"{len(study.trials)} trial{'s' if len(study.trials) > 1 else ''}"
        tried = f"Tuned for {(study.seconds + seconds) / 60:.1f} minutes, {trials}: "
        if winner is not None:
            apply(self.args, winner["values"])
            margin = f"{winner['difference']:+.4f} (standard error {winner['standard_error']:.4f})"
            say(f"{tried}trial {winner['number']} is better than the chosen settings, score {margin}")
        elif study.best is None:
            say(f"{tried}`tune_minutes` is too short to compare settings. The chosen ones are kept")
        else:
            say(f"{tried}none is better than the chosen settings by more than chance can explain. They are kept")
        if self.args.ensemble_size > 1:
            say(f"There is time for {self.args.ensemble_size} networks, which are joined into one")
        self.args.tune_minutes = None
        return {
            "minutes": self.minutes,
            "num_folds": len(self.folds),
            "winner": 0 if winner is None else winner["number"],
            "trials": study.trials,
        }
