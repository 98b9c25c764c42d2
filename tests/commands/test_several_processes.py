"""One, two and four processes with the same batches: the same losses, the same counts."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.conftest import ROOT, TINY_RUN, TORCHRUN

BATCH = 64
NO_DROPOUT = ["--word_dropout", "0", "--embedding_dropout", "0", "--classifier_dropout", "0"]
CLASSIFIER = [*TINY_RUN, *NO_DROPOUT, "--num_train_epochs", "2", "--logging_steps", "1", "--eval_strategy", "steps"]
CLASSIFIER += ["--eval_steps", "3"]


def run_on(num_processes: int, folder: Path, name: str, *settings: str) -> dict[str, Any]:
    """Run a script on a number of processes, which share one batch; return its results."""
    launcher = [sys.executable] if num_processes == 1 else [sys.executable, "-m", *TORCHRUN[:-1], str(num_processes)]
    batch = ["--per_device_train_batch_size", str(BATCH // num_processes)]
    output = folder / f"{num_processes}"
    done = subprocess.run(
        [*launcher, str(ROOT / "scripts" / name), *settings, *batch, "--output_dir", str(output)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads((output / "all_results.json").read_text())
    return results


def losses_of(results: dict[str, Any]) -> list[float]:
    """Return the mean loss of every batch of the first epoch, from the running means that the log holds."""
    sums = [0.0, *(entry["loss"] * index for index, entry in enumerate(first_epoch(results), start=1))]
    return [later - earlier for earlier, later in pairwise(sums)]


def first_epoch(results: dict[str, Any]) -> list[dict[str, float]]:
    return [entry for entry in results["log"] if "loss" in entry and entry["epoch"] == 0]


@pytest.mark.parametrize("optim", ["adamw_torch_fused", pytest.param("lazy_adamw", marks=pytest.mark.slow)])
def test_as_many_processes_as_you_like_train_the_same_model(tmp_path: Path, optim: str) -> None:
    """Of the 400 rows, the last batch is short; several processes fill it, and from there on they may differ."""
    counts = (1, 2, 4) if optim == "lazy_adamw" else (1, 2)
    runs = {number: run_on(number, tmp_path, "train.py", *CLASSIFIER, "--optim", optim) for number in counts}
    alone = runs.pop(1)
    num_full = 400 // BATCH
    expected = losses_of(alone)[:num_full]
    assert len(set(expected)) == num_full, "losses that are all the same would prove nothing"
    for number, results in runs.items():
        assert losses_of(results)[:num_full] == pytest.approx(expected, rel=1e-4), number
        assert results["num_processes"] == number
        # evaluated before the batch that is filled
        ours, theirs = (next(entry for entry in one["log"] if "validation_loss" in entry) for one in (results, alone))
        assert ours["validation_accuracy"] == theirs["validation_accuracy"]
        assert ours["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=1e-5)
        for name in ("num_validation_examples", "num_test_examples"):
            assert results[name] == alone[name]
        table = results["test_confusion_matrix"]
        assert sum(map(sum, table)) == alone["num_test_examples"], "a row was lost or counted twice"


@pytest.mark.slow
def test_four_processes_train_the_language_model_of_one(tmp_path: Path) -> None:
    settings = ["--dataset_name", "demo", "--max_train_samples", "400", "--embedding_size", "8", "--hidden_size", "8"]
    settings += ["--num_train_epochs", "1", "--bptt", "16", "--use_cpu", "--classifier_dropout", "0"]
    settings += ["--embedding_dropout", "0", "--num_generated_texts", "0", "--logging_steps", "1", "--optim", "sgd"]
    alone, four = (run_on(number, tmp_path, "train_language_model.py", *settings) for number in (1, 4))
    ours, theirs = ([entry["loss"] for entry in first_epoch(one)] for one in (four, alone))
    assert len(ours) > 5
    assert ours == pytest.approx(theirs, rel=1e-5)
    weights = [load_file(tmp_path / number / "model.safetensors") for number in ("1", "4")]
    for name, weight in weights[0].items():
        assert (weight - weights[1][name]).abs().max() < 1e-5, name
