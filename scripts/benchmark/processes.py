"""The sub-commands `load` and `memory`: loading time and memory of new processes."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils.hub import cached_file

from rnn_hf.argument_fields import flag
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.text_classifier import TextClassifier
from scripts.benchmark.report import (
    IN_TURNS,
    Benchmark,
    BenchmarkArguments,
    DatasetBenchmarkArguments,
    Promise,
    Report,
    Spread,
    sample_of,
    take_turns,
)

SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(kw_only=True)
class LoadBenchmarkArguments(BenchmarkArguments):
    """Seconds from the start of a process to the first prediction."""

    model_name_or_path: str = field(metadata={"help": "Model folder or `owner/name` on the Hub.", "is_path": True})
    rounds: int = flag(5, "Number of rounds; each measures everything once, in turn.", at_least=1)


# Runs the statements it is given, and prints the seconds of each
STOPWATCH = """
import json, sys, time
names, seconds = {}, []
for statement in sys.argv[1:]:
    started = time.perf_counter()
    exec(statement, names)
    seconds.append(time.perf_counter() - started)
print(json.dumps(seconds))
"""


class LoadBenchmark(Benchmark):
    """Measures the time of imports, loading and the first prediction, in new processes.

    Args:
        args: The flags.
    """

    FIRST_TEXT: ClassVar[str] = "Stocks fall as oil prices surge"

    def __init__(self, args: LoadBenchmarkArguments) -> None:
        self.args = args
        TextClassifier.from_pretrained(args.model_name_or_path)
        file = cached_file(args.model_name_or_path, "model.safetensors")
        assert file is not None
        self.size = Path(file).stat().st_size
        torch_and_transformers, package = "import torch, transformers", "import rnn_hf"
        module = "from rnn_hf.text_classifier import TextClassifier"
        self.programs = {
            "imports": [torch_and_transformers],
            "imports with rnn_hf": [torch_and_transformers, package],
            "imports with TextClassifier": [torch_and_transformers, package, module],
            "TextClassifier": [
                torch_and_transformers,
                package,
                module,
                f"classify = TextClassifier.from_pretrained({args.model_name_or_path!r}).predict",
                f"classify({self.FIRST_TEXT!r})",
            ],
            "pipeline": [
                torch_and_transformers,
                package,
                "from transformers import pipeline",
                f"classify = pipeline('text-classification', {args.model_name_or_path!r}, device='cpu')",
                f"classify({self.FIRST_TEXT!r})",
            ],
        }

    def run(self) -> Report:
        """Run all programs in turns."""
        found: dict[str, list[list[float]]] = defaultdict(list)

        def measure(name: str) -> float:
            found[name].append(self.seconds_of_statements(self.programs[name]))
            return sum(found[name][-1])

        totals = take_turns({name: partial(measure, name) for name in self.programs}, self.args.rounds, "Loading")
        rows: list[dict[str, Any]] = [
            {"name": "import torch, transformers", "seconds": totals["imports"]},
            {"name": "... and rnn_hf", "seconds": totals["imports with rnn_hf"]},
            {"name": "... and TextClassifier", "seconds": totals["imports with TextClassifier"]},
        ]
        for name, call in (("TextClassifier", "TextClassifier.from_pretrained"), ("pipeline", "pipeline")):
            loading, first = (Spread([seconds[index] for seconds in found[name]]) for index in (-2, -1))
            rows.append({"name": f"{call}, beyond imports", "seconds": loading})
            rows.append({"name": f"{call}, first prediction", "seconds": first})
        return Report(
            header=f"Loading: {self.args.rounds} {IN_TURNS}, each in a fresh process; model.safetensors has "
            f"{self.size / 1e6:.2f} MB",
            columns={"name": "what", "seconds": "s"},
            rows=rows,
            promises=[
                Promise("from_pretrained: at most 1 s beyond imports", rows[3]["seconds"].median, at_most=1),
                Promise("the default model: at most 5 MB on disk", self.size / 1e6, at_most=5),
            ],
            facts={"model_bytes": self.size},
        )

    @staticmethod
    def seconds_of_statements(statements: list[str]) -> list[float]:
        """Run statements in a new process; return the seconds of each."""
        # -P: as for a script, the current folder is not searched for modules
        words = run_child([sys.executable, "-P", "-c", STOPWATCH, *statements])
        seconds: list[float] = json.loads(words.splitlines()[-1])
        return seconds


@dataclass(kw_only=True)
class MemoryBenchmarkArguments(DatasetBenchmarkArguments):
    """Peak memory on a dataset and on several copies of it."""

    max_samples: int | None = flag(None, "Maximum number of training rows. Default: all.", at_least=1)
    copies: int = flag(10, "Number of copies of the rows in the second run.", at_least=2)
    rounds: int = flag(1, "Number of rounds; each measures everything once, in turn.", at_least=1)


class MemoryBenchmark(Benchmark):
    """Measures how the peak memory of training and of prediction grows with the number of rows.

    The promise is on anonymous memory. Resident memory also counts the pages of mapped files that were read, which
    grow with the rows but are taken back by the operating system when it needs memory.

    Args:
        args: The flags.
    """

    # a model so small that an epoch mostly consists of reading rows
    TINY: ClassVar[list[str]] = [
        "--embedding_size", "8", "--hidden_size", "8", "--num_train_epochs", "1", "--validation_size", "0",
        "--eval_strategy", "no", "--per_device_train_batch_size", "256", "--use_cpu",
    ]  # fmt: skip
    SCRIPTS: ClassVar[tuple[str, ...]] = ("train.py", "predict.py")
    LIMIT: ClassVar[float] = 1.1

    def __init__(self, args: MemoryBenchmarkArguments) -> None:
        self.args = args
        rows = load_text_dataset(args.dataset_name, splits=["train"], validation_size=0)["train"]
        self.rows = sample_of(list(zip(rows["text"], rows["label"], strict=True)), args.max_samples)

    def run(self) -> Report:
        """Train and predict in child processes, on the rows and on several copies of them."""
        found: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def measure(script: str, copies: int) -> float:
                found[script, copies].append(peak_of(script, self.argv(script, copies, folder), folder))
                return float(found[script, copies][-1]["seconds"])

            contestants: dict[str, Callable[[], float]] = {}
            for copies in (1, self.args.copies):
                self.write_files(folder, copies)
                for script in self.SCRIPTS:
                    contestants[self.row_name(script, copies)] = partial(measure, script, copies)
            seconds = take_turns(contestants, self.args.rounds, "Measuring memory")
        rows = []
        for (script, copies), peaks in found.items():
            row_name, num_rows = self.row_name(script, copies), copies * len(self.rows)
            row: dict[str, Any] = {"name": row_name, "num_rows": num_rows, "seconds": seconds[row_name]}
            row["microseconds_per_row"] = seconds[row_name].times(1e6 / num_rows)
            for kind in ("resident", "anonymous"):
                values = [peak[f"peak_{kind}_bytes"] for peak in peaks]
                if None not in values:  # anonymous memory is only known on Linux
                    row[f"peak_{kind}_megabytes"] = Spread([value / 1e6 for value in values])
            rows.append(row)
        return Report(
            header=f"Memory: peaks of child processes on {len(self.rows):,} rows and on {self.args.copies} times as "
            f"many, {self.args.rounds} {IN_TURNS};\none epoch of a tiny model, "
            "tokenization and start of the process included. Anonymous: without mapped files.",
            columns={
                "name": "script",
                "num_rows": "rows",
                "seconds": "s",
                "microseconds_per_row": "us per row",
                "peak_resident_megabytes": "peak, MB",
                "peak_anonymous_megabytes": "anonymous, MB",
            },
            rows=rows,
            promises=self.promises({row["name"]: row for row in rows}),
            facts={"copies": self.args.copies},
        )

    @staticmethod
    def row_name(script: str, copies: int) -> str:
        """Return the name of a run in the table."""
        return f"{script}, rows x {copies}"

    def argv(self, script: str, copies: int, folder: Path) -> list[str]:
        """Return the command line of a run; all predictions are by the model trained on one copy."""
        flags: dict[str, Path]
        if script == "train.py":
            flags = {"--train_file": folder / f"rows_{copies}.parquet", "--output_dir": folder / f"model_{copies}"}
            more = ["--overwrite_output_dir", *self.TINY]
        else:
            flags = {
                "--model_name_or_path": folder / "model_1",
                "--input_file": folder / f"lines_{copies}.txt",
                "--output_file": folder / "labels.jsonl",
            }
            more = []
        return [*(word for name, path in flags.items() for word in (name, str(path))), *more]

    def write_files(self, folder: Path, copies: int) -> None:
        """Write copies of the rows as Parquet, and of their texts as lines."""
        texts = [" ".join(text.split()) for text, _ in self.rows]
        table = pa.table({"text": texts, "label": [label for _, label in self.rows]})
        with (
            pq.ParquetWriter(folder / f"rows_{copies}.parquet", table.schema) as parquet,
            (folder / f"lines_{copies}.txt").open("w", encoding="utf-8") as lines,
        ):
            for _ in range(copies):
                parquet.write_table(table, row_group_size=10_000)
                lines.writelines(f"{text}\n" for text in texts)

    def promises(self, rows: dict[str, dict[str, Any]]) -> list[Promise]:
        """Return what is promised of memory, measured."""
        promises = []
        for script in self.SCRIPTS:
            few, many = (
                rows[self.row_name(script, copies)].get("peak_anonymous_megabytes") for copies in (1, self.args.copies)
            )
            ratio = many.over(few).median if few is not None and many is not None else None
            text = f"{script}: at most {self.LIMIT} times the anonymous memory with {self.args.copies} times the rows"
            promises.append(Promise(text, ratio, at_most=self.LIMIT))
        return promises


def peak_of(script: str, argv: list[str], folder: Path) -> dict[str, Any]:
    """Run a script in a child process; return its seconds and its peak memory in bytes.

    Args:
        script: Name of the script.
        argv: Its arguments.
        folder: Folder for temporary files and an empty cache of datasets.
    """
    output, caches = folder / "peak.json", {"HF_DATASETS_CACHE": tempfile.mkdtemp(dir=folder)}
    watcher = [sys.executable, str(SCRIPTS / "benchmark" / "peak_memory.py"), str(output)]
    started = time.perf_counter()
    run_child([*watcher, str(SCRIPTS / script), *argv], **caches)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, **json.loads(output.read_text())}


def run_child(command: Sequence[str], **environment: str) -> str:
    """Run a command; return its output.

    Raises:
        RuntimeError: If it fails, with the end of its error output.
    """
    child = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(command)[:200]!r} failed: {child.stderr.strip()[-2000:]}")
    return child.stdout
