"""Measuring in turns, and the tables and files of a benchmark's results."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import tqdm

import rnn_hf
from rnn_hf.argument_fields import CheckedArguments, flag, path_flag
from rnn_hf.data.sources import DATASET_HELP

PACKAGES = (
    "torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy", "scikit-learn",
    "fasttext-numpy2-wheel", "model2vec",
)  # fmt: skip

NOT_INSTALLED = "not installed"
# How the header of a table says what its numbers are
IN_TURNS = "round(s) in turns, median (10th-90th percentile)"
NUM_OPERATORS = 15  # rows of a profile


@dataclass(kw_only=True)
class BenchmarkArguments(CheckedArguments):
    """Flags of every sub-command."""

    rounds: int = flag(3, "Number of rounds; each measures everything once, in turn.", at_least=1)
    output_file: str | None = path_flag(None, "JSON file for the results.")


@dataclass(kw_only=True)
class DatasetBenchmarkArguments(BenchmarkArguments):
    """Flags of a sub-command that reads a dataset."""

    dataset_name: str | None = path_flag(None, DATASET_HELP)


@dataclass(frozen=True)
class Spread:
    """A quantity that was measured in several rounds.

    Args:
        rounds: The value of each round, at least one.

    Example:
        >>> print(Spread([3.0, 1.0, 2.0]))
        2.00 (1.20-2.80)
        >>> print(Spread([3.0]))
        3.00
    """

    rounds: list[float]

    @property
    def median(self) -> float:
        """The median, which is robust to a disturbed round."""
        return statistics.median(self.rounds)

    @property
    def percentiles(self) -> tuple[float, float]:
        """The 10th and the 90th percentile, interpolated between rounds."""
        low, high = np.quantile(self.rounds, [0.1, 0.9]).tolist()
        return low, high

    def times(self, factor: float) -> "Spread":
        """Return the quantity multiplied by a factor."""
        return Spread([factor * value for value in self.rounds])

    def over(self, other: "Spread") -> "Spread":
        """Return the ratio to another quantity, round by round, so that what slowed down both cancels."""
        return Spread([mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True)])

    def as_dict(self) -> dict[str, Any]:
        """Return median, 10th and 90th percentile in a form that JSON can hold."""
        low, high = self.percentiles
        return {"median": self.median, "percentile_10": low, "percentile_90": high}

    def __str__(self) -> str:
        if len(self.rounds) == 1:
            return readable(self.median)
        low, high = self.percentiles
        return f"{readable(self.median)} ({readable(low)}-{readable(high)})"


@dataclass(frozen=True)
class Promise:
    """A promised value and the measured one.

    Args:
        text: The promise in words.
        measured: The measured value; `None` if it could not be measured.
        at_least: Smallest value that keeps the promise.
        at_most: Largest value that keeps it.
    """

    text: str
    measured: float | None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_kept(self) -> bool | None:
        """Whether the promise is kept; `None` if it could not be measured."""
        if self.measured is None:
            return None
        return (self.at_least is None or self.measured >= self.at_least) and (
            self.at_most is None or self.measured <= self.at_most
        )

    def __str__(self) -> str:
        verdict = {True: "ok", False: "MISSED", None: "not measured"}[self.is_kept]
        measured = "" if self.measured is None else f": {readable(self.measured)}"
        return f"{verdict:<12} {self.text}{measured}"


@dataclass
class Report:
    """The results of a benchmark.

    Args:
        header: What was measured, in one or two lines above the table.
        columns: Keys of the columns in the rows, and their titles.
        rows: A mapping for each row: `name`, and a `Spread`, a number or a word for each other key.
        promises: The promises with the measured values.
        facts: Further values for the JSON file.
    """

    header: str
    columns: Mapping[str, str]
    rows: list[dict[str, Any]]
    promises: list[Promise]
    facts: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        table = [list(self.columns.values())]
        table += [[cell(row.get(key)) for key in self.columns] for row in self.rows]
        lines = [self.header, "", aligned(table)]
        if self.promises:
            lines += ["", *map(str, self.promises)]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the report in a form that JSON can hold."""
        return {
            "rows": [
                {key: value.as_dict() if isinstance(value, Spread) else value for key, value in row.items()}
                for row in self.rows
            ],
            "promises": [
                {
                    "promise": promise.text,
                    "measured": promise.measured,
                    "at_least": promise.at_least,
                    "at_most": promise.at_most,
                    "is_kept": promise.is_kept,
                }
                for promise in self.promises
            ],
            **self.facts,
        }


class Benchmark:
    """A sub-command, which loads data and models when it is created and measures afterwards."""

    def run(self) -> Report:
        """Measure all contestants in turns."""
        raise NotImplementedError

    def profile(self) -> str:
        """Return a profile of this package's part."""
        raise NotImplementedError


def take_turns(contestants: Mapping[str, Callable[[], float]], rounds: int, desc: str) -> dict[str, Spread]:
    """Measure all contestants once in each round: A B, A B, ...

    The speed of a machine varies over minutes; measuring in turns lets that affect all contestants alike.

    Args:
        contestants: Names, and functions that return one measurement each.
        rounds: Number of measurements of each.
        desc: Label of the progress bar.

    Returns:
        The measurements of each contestant.
    """
    values: dict[str, list[float]] = {name: [] for name in contestants}
    with tqdm(total=rounds * len(contestants), desc=desc, unit="turn") as progress:
        for _ in range(rounds):
            for name, measure in contestants.items():
                progress.set_postfix_str(name)
                values[name].append(measure())
                progress.update()
    return {name: Spread(measured) for name, measured in values.items()}


def seconds_of(function: Callable[[], Any]) -> float:
    """Return the duration of a call in seconds."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def machine() -> dict[str, Any]:
    """Return what the results depend on apart from the code: the processor and the threads."""
    return {
        "cpu": cpu_name(),
        "num_cpus": num_cpus(),
        "num_threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


def num_cpus() -> int:
    """Return the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str | None:
    """Return the name of the processor's model; `None` if it is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that were compared; `None` for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "rnn_hf": rnn_hf.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def readable(value: float) -> str:
    """Return a number with three significant digits or all integer digits.

    Example:
        >>> readable(12345.6), readable(12.345), readable(1.2345), readable(0.012345)
        ('12,346', '12.3', '1.23', '0.0123')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def cell(value: Any) -> str:
    """Return a value as the text of a table's cell."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return readable(value) if isinstance(value, float) else str(value)


def percent(part: float, whole: float) -> str:
    """Return a share in percent."""
    return f"{100 * part / whole:.1f}"


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return a table as text, with the first column aligned on the left and the others on the right.

    Args:
        table: Rows of the same length, the titles first.

    Example:
        >>> print(aligned([["name", "texts/s"], ["ours", "20,000"]]))
        name  texts/s
        ours   20,000
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            word.rjust(width) if index else word.ljust(width)
            for index, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )


def sample_of(rows: Sequence[Any], size: int | None) -> list[Any]:
    """Return a random sample of rows, always the same one, or all rows if there are no more than that."""
    if size is None or size >= len(rows):
        return list(rows)
    chosen = np.random.default_rng(0).permutation(len(rows))[:size]
    return [rows[index] for index in chosen]


def profile_table(title: str, total: float, sections: dict[str, float], recorded: Any) -> str:
    """Return the shares of sections in the wall-clock time, and of operators in the time of all operators.

    Args:
        title: What was profiled.
        total: Seconds of all sections.
        sections: Seconds of each section.
        recorded: Result of `torch.profiler.profile` for another run, because profiling is slow.
    """
    table = [["section", "% of the time"]]
    table += [[name, percent(seconds, total)] for name, seconds in sections.items()]
    events = sorted(recorded.key_averages(), key=lambda event: event.self_cpu_time_total, reverse=True)
    all_operators = sum(event.self_cpu_time_total for event in events)
    operators = [["operator", "% of all operators", "calls"]]
    for event in events[:NUM_OPERATORS]:
        operators.append(
            [event.key[:60], f"{100 * event.self_cpu_time_total / all_operators:.1f}", f"{event.count:,}"]
        )
    return f"{title} in {total:.3f} s\n\n{aligned(table)}\n\n{aligned(operators)}"


def check_profile(is_profile: bool, output_file: str | None) -> None:
    """Reject a profile with an output file."""
    if is_profile and output_file is not None:
        raise ValueError("`profile` and `output_file` exclude each other: a profile is only shown. Drop one.")
