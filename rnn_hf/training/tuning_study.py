"""The trials of a search: the next settings, the best ones, and the file for resuming a search."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnn_hf.files import read_json, remove, write_json

from .search_space import rounded

# Number of trials that change a few values of the best one, before the sampler has seen enough to choose all values
STARTUP_TRIALS = 6
NUM_CHANGED = 3

# Maximum number of draws to find settings that were not tried before
MOST_DRAWS = 20

# States of a trial in `all_results.json`, and in optuna, which ignores those that failed
STATES = {"complete": "COMPLETE", "pruned": "PRUNED", "out of time": "FAIL", "interrupted": "FAIL", "failed": "FAIL"}


class Study:
    """Trials around the chosen settings, which are the first trial; optuna's TPE sampler and median pruner choose.

    Args:
        space: Distribution of each value, by the name of the argument.
        chosen: The chosen values.
        recipe: Arguments that a resumed search must share.
        seed: Seed of the sampler.
        file: File for the trials, or `None`.

    Attributes:
        trials: One record for each trial, as in `all_results.json`.
        chosen_scores: Score of each row with the chosen settings.
        seconds: Seconds of earlier runs.
        ensemble_size: Networks of the last training, once the search is over.
    """

    def __init__(
        self, space: dict[str, Any], chosen: dict[str, Any], recipe: dict[str, Any], seed: int, file: Path | None
    ) -> None:
        self.space, self.chosen, self.recipe, self.seed, self.file = space, chosen, recipe, seed, file
        self.trials: list[dict[str, Any]] = []
        self.chosen_scores: Sequence[float] = []
        self.seconds = 0.0
        self.ensemble_size: int | None = None
        self.start(0)

    def start(self, num_saved: int) -> None:
        """Start the sampler, with other random numbers in a resumed search."""
        from optuna import create_study
        from optuna.pruners import MedianPruner
        from optuna.samplers import TPESampler

        sampler = TPESampler(seed=self.seed + num_saved, n_startup_trials=STARTUP_TRIALS)
        self.optuna = create_study(direction="maximize", sampler=sampler, pruner=MedianPruner(n_startup_trials=1))

    @property
    def complete(self) -> list[dict[str, Any]]:
        """The trials that were not stopped early."""
        return [record for record in self.trials if record["state"] == "complete"]

    @property
    def best(self) -> dict[str, Any] | None:
        """The complete trial with the highest score, the first of equals, or `None`."""
        return max(self.complete, key=lambda record: float(record["score"]), default=None)

    @property
    def winner(self) -> dict[str, Any] | None:
        """The best trial that is better than the chosen settings by more than chance can explain, or `None`.

        The best of many equal settings looks better than they are. The largest of n standard normal numbers is on
        average at most sqrt(2 ln n) (Boucheron, Lugosi and Massart, 2013); a trial must be better by as many standard
        errors, and at least by one.
        """
        margin = max(1.0, math.sqrt(2 * math.log(max(1, len(self.trials) - 1))))
        better = [record for record in self.complete if record["difference"] > margin * record["standard_error"]]
        return max(better, key=lambda record: float(record["score"]), default=None)

    def changed(self, record: Mapping[str, Any]) -> str:
        """Return the values of a trial that differ from the chosen ones, as text."""
        values = record["values"].items()
        return ", ".join(f"`{name}={value}`" for name, value in values if value != self.chosen[name])

    def ask(self) -> tuple[Any, dict[str, Any]] | None:
        """Return optuna's next trial and its record; `None` if everything was tried.

        The first trial has the chosen values; others change a few of the best values, or all values.
        """
        from optuna.trial import TrialState

        number, best = len(self.trials), self.best
        generator = np.random.default_rng([self.seed, number])
        for _ in range(MOST_DRAWS):
            fixed = self.chosen
            if best is not None:
                fixed = best["values"] if number <= STARTUP_TRIALS or number % 2 else {}
                free = generator.permutation(list(self.space))[:NUM_CHANGED]
                fixed = {name: value for name, value in fixed.items() if name not in free}
            self.optuna.enqueue_trial(fixed)
            trial = self.optuna.ask(self.space)
            values = {
                name: value if value == self.chosen[name] else rounded(name, value)
                for name, value in trial.params.items()
            }
            if all(values != record["values"] for record in self.trials):
                record = {"number": number, "state": "complete", "score": None, "values": values, "intermediate": []}
                return trial, record
            self.optuna.tell(trial, state=TrialState.FAIL)
        return None

    def report(self, trial: Any, record: dict[str, Any], score: float) -> bool:
        """Record a score; return whether the chosen settings, or half of the other trials, were better at this point.

        Folds are not equally hard, so scores are compared by their difference from the chosen settings.

        Args:
            trial: Optuna's trial.
            record: Its record.
            score: The score on the rows so far.
        """
        step = len(record["intermediate"])
        record["intermediate"].append(round(score, 6))
        gain = self._gain(record, step)
        trial.report(gain, step)
        return bool(self.trials) and (gain < 0 or bool(trial.should_prune()))

    def tell(self, trial: Any, record: dict[str, Any]) -> None:
        """Keep a finished trial."""
        from optuna.trial import TrialState

        self.optuna.tell(trial, record["score"], TrialState[STATES[record["state"]]])
        self.trials.append(record)

    def save(self, seconds: float) -> None:
        """Write the trials, if there is a file for them.

        Args:
            seconds: Seconds of this run so far.
        """
        if self.file is None:
            return
        if self.file.parent.is_symlink():
            remove(self.file.parent)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        facts = {"arguments": self.recipe, "seconds": self.seconds + seconds, "chosen_scores": self.chosen_scores}
        write_json(self.file, facts | {"ensemble_size": self.ensemble_size, "trials": self.trials})

    def load(self) -> None:
        """Continue from the trials in the file.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If it is damaged, or its run had other arguments.
        """
        if self.file is None or not self.file.is_file():
            raise FileNotFoundError(
                f"There is no search to resume, '{self.file}'. Start again without `resume_from_checkpoint`."
            )
        try:
            content = read_json(self.file)
            arguments, saved = dict(content["arguments"]), list(content["trials"])
            for name, value in self.recipe.items():
                if arguments.get(name) != value:
                    break
            else:
                name = ""
                self.seconds, self.chosen_scores = float(content["seconds"]), [*map(float, content["chosen_scores"])]
                self.ensemble_size = None if content["ensemble_size"] is None else int(content["ensemble_size"])
                # without the scores of the chosen settings, there is nothing to compare with
                self._restore(saved if saved and saved[0]["state"] == "complete" else [])
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"The search '{self.file}' is damaged ({error!r:.200}). Start again.") from error
        if name:
            raise ValueError(
                f"The search was made with `{name}={arguments.get(name)}`, this run has {self.recipe[name]}. "
                "Pass the same arguments to resume."
            )

    def _restore(self, saved: list[dict[str, Any]]) -> None:
        from optuna.trial import TrialState, create_trial

        self.start(len(saved))
        for record in saved:
            self.trials.append(record)
            trial = create_trial(
                state=TrialState[STATES[record["state"]]],
                value=record["score"],
                params=record["values"],
                distributions=self.space,
                intermediate_values={step: self._gain(record, step) for step in range(len(record["intermediate"]))},
            )
            self.optuna.add_trial(trial)

    def _gain(self, record: dict[str, Any], step: int) -> float:
        first = self.trials[0] if self.trials else record
        return float(record["intermediate"][step] - first["intermediate"][step])
