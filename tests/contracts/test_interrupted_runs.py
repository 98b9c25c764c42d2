"""Runs that are interrupted or killed, diverge, or fill the disk: what remains, and how they resume."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rnn_hf import TextClassifier
from rnn_hf.commands import train as script
from rnn_hf.safe_loading import is_finite
from rnn_hf.training import checkpoints, loop, loss_log
from rnn_hf.training.checkpoints import open_checkpoint
from rnn_hf.training.classifier import ClassifierRun
from rnn_hf.training.signals import StopSignals
from tests.conftest import ROOT, TINY_RUN, TORCHRUN, last_line, run_script, weights

Train = Callable[..., tuple[dict[str, Any], Path]]

# dropout, an optimizer with state, accumulation: everything that a checkpoint must restore
LONG_RUN = [
    "--num_train_epochs", "8", "--hidden_dropout_prob", "0.3", "--num_hidden_layers", "2",
    "--save_strategy", "steps", "--save_steps", "5", "--max_train_samples", "2000",
    "--gradient_accumulation_steps", "2", "--optim", "lazy_adamw", "--weight_decay", "0.1",
    "--max_grad_norm", "0.1", "--logging_steps", "7",
]  # fmt: skip
# a learning rate at which the weights overflow
DIVERGES = ["--learning_rate", "1e38", "--optim", "sgd", "--max_grad_norm", "0", "--num_train_epochs", "9"]
SAME = ("log", "epoch", "step", "best_step", "train_accuracy", "test_confusion_matrix")


def start(folder: Path, *settings: str, launcher: tuple[str, ...] = (sys.executable,)) -> subprocess.Popen[str]:
    """Start a training on a few demo rows, and return once its second checkpoint is complete."""
    command = [*launcher, str(ROOT / "scripts" / "train.py"), *TINY_RUN, "--output_dir", str(folder), *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(folder.glob("checkpoints/step-*"))) >= 2, process)
    return process


def wait_for(event: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something has happened in a process."""
    deadline = time.monotonic() + 120
    while not event():
        assert process.poll() is None, f"the run ended too early: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def stopped_after(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Expect a training in this process to be stopped, by a signal in that step."""
    take_step = loop.Run.train_on

    def stop_at_step(run: loop.Run, batch: dict[str, torch.Tensor]) -> bool:
        took_step = take_step(run, batch)
        if run.state.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return took_step

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "train_on", stop_at_step)
        with pytest.raises(SystemExit) as ended:
            yield
    assert ended.value.code == 128 + signal.SIGTERM


def newest(folder: Path) -> Path:
    return max(folder.glob("checkpoints/step-*"))


def position(checkpoint: Path) -> dict[str, Any]:
    """Return the position of a checkpoint's run."""
    state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())["run"]
    return state


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGTERM))],
)
def test_a_stopped_and_resumed_run_ends_like_an_undisturbed_one(
    train: Train, tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, whole = train("whole", *LONG_RUN)
    folder = tmp_path / "stopped"
    process = start(folder, *LONG_RUN)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert not (folder / "all_results.json").exists()
    last = newest(folder)
    assert 0 < position(last)["step"] < undisturbed["step"]
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        line = last_line(errors)
        assert line.startswith(f"rnn-hf train: Stopped by {number.name} after step {position(last)['step']} of ")
        assert f"'{last}'" in line and "--resume_from_checkpoint latest" in line
        assert "Traceback" not in errors

    capsys.readouterr()
    resumed, _ = train("stopped", *LONG_RUN, "--resume_from_checkpoint", "latest")
    assert f"Resuming from {last}" in capsys.readouterr().out
    assert weights(folder) == weights(whole)
    for name in SAME:
        assert resumed[name] == undisturbed[name], name


def test_a_signal_at_any_step_leaves_a_run_that_goes_on_as_if_nothing_had_happened(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the last step of an epoch and of the run."""
    settings = ["--num_train_epochs", "2", "--logging_steps", "3"]
    undisturbed, whole = train("whole", *settings)
    assert undisturbed["step"] == 14
    for step in (3, 7, 14):
        with stopped_after(step, monkeypatch):
            train(f"stopped {step}", *settings)
        results, folder = train(f"stopped {step}", *settings, "--resume_from_checkpoint", "latest")
        assert weights(folder) == weights(whole), step
        for name in SAME:
            assert results[name] == undisturbed[name], (step, name)


@pytest.mark.slow
def test_a_language_model_is_stopped_and_goes_on(tmp_path: Path) -> None:
    settings = ["--dataset_name", "demo", "--max_train_samples", "400", "--embedding_size", "8", "--hidden_size", "8"]
    settings += ["--num_train_epochs", "8", "--bptt", "16", "--per_device_train_batch_size", "16", "--use_cpu"]
    settings += ["--num_generated_texts", "0", "--save_strategy", "steps", "--save_steps", "10"]

    def command(name: str, *more: str) -> list[str]:
        words = [sys.executable, str(ROOT / "scripts" / "train_language_model.py"), *settings]
        return [*words, "--output_dir", str(tmp_path / name), *more]

    subprocess.run(command("whole"), check=True, capture_output=True)
    process = subprocess.Popen(command("stopped"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list((tmp_path / "stopped").glob("checkpoints/step-*"))) >= 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert last_line(errors).startswith("rnn-hf train-language-model: Stopped by SIGINT")
    subprocess.run(command("stopped", "--resume_from_checkpoint", "latest"), check=True, capture_output=True)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def test_the_second_interrupt_stops_at_once() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignals() as signals:
        assert signals.asked_to_stop() is None
        signal.raise_signal(signal.SIGTERM)
        assert signals.asked_to_stop() == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)  # a batch system may send it again
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_launcher_that_repeats_an_interrupt_does_not_count_as_a_second_one() -> None:
    signals = StopSignals()
    signals.num_processes = 2
    with signals:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signals.received_at -= 10
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_before_training_is_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "load_splits", interrupt)
    with pytest.raises(SystemExit) as ended:
        train("run")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "rnn-hf train: Stopped by SIGINT.\n"


@pytest.mark.slow
def test_a_recipes_run_passes_a_signal_on_to_the_seed_in_training(tmp_path: Path) -> None:
    folder, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    recipe.write_text("dataset_name: demo\n")
    words = [*TINY_RUN, *LONG_RUN, "--output_dir", str(folder), "--seeds", "1", "2"]
    command = [sys.executable, "-m", "scripts.research.run_recipe", str(recipe), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(folder.glob("seed_1/checkpoints/step-*"))) >= 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert last_line(errors).startswith("rnn-hf train: Stopped by SIGINT")
    assert not (folder / "seed_2").exists()


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
def test_two_processes_stop_together_and_go_on_as_one_or_four(tmp_path: Path, at_once: bool) -> None:
    """Through the launcher, or through a signal that only one of them receives."""
    folder = tmp_path / "run"
    settings = [*TINY_RUN, "--output_dir", str(folder), *LONG_RUN]
    process = start(folder, *LONG_RUN, launcher=(sys.executable, "-m", *TORCHRUN))
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(workers) == 2
    os.kill(process.pid if at_once else workers[1], signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"rnn-hf train: Stopped by SIGTERM after step {position(newest(folder))['step']} of " in errors
    settings += ["--resume_from_checkpoint", "latest"]
    done = run_script(*settings)
    assert done.returncode == 2
    assert "64` on 2 processes, this run has 64 on 1. Pass `--per_device_train_batch_size 128`" in done.stderr
    number = "1" if at_once else "4"
    settings += ["--per_device_train_batch_size", str(128 // int(number))]
    done = run_script(*settings, launcher=(sys.executable, "-m", *TORCHRUN[:-1], number))
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "all_results.json").read_text())["num_processes"] == int(number)


@pytest.mark.slow
def test_a_killed_process_ends_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, *LONG_RUN, launcher=(sys.executable, "-m", *TORCHRUN))
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    os.kill(workers[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"pid: {workers[1]}" in errors and "Signal 9 (SIGKILL)" in errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert open_checkpoint(folder, "latest", pytest.fail).state.step > 0


@pytest.mark.parametrize("save", ["no", "epoch"])
def test_a_loss_that_is_no_number_ends_the_run_and_leaves_what_was_good(
    train: Train, capsys: pytest.CaptureFixture[str], save: str
) -> None:
    _, folder = train("run")
    before = weights(folder)
    with pytest.raises(SystemExit) as ended:
        train("run", *DIVERGES, "--save_strategy", save, "--overwrite_output_dir")
    assert ended.value.code == 3
    line = last_line(capsys.readouterr().err)
    assert line.startswith("rnn-hf train: error: ")
    assert "at step" in line and "at a learning rate of" in line and "--skip_nonfinite_steps" in line
    if save == "no":
        assert "There is no checkpoint" in line
    for checkpoint in folder.glob("checkpoints/*"):
        assert all(map(is_finite, load_file(checkpoint / "model.safetensors").values()))
    assert weights(folder) == before


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Let the losses of some steps be infinite."""
    loss_of = ClassifierRun.loss_of

    def poisoned(run: ClassifierRun, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = loss_of(run, batch)
        if run.state.step + 1 in steps:
            loss = loss * torch.inf
            unread = run.loss_log.unread
            unread[-1] = unread[-1]._replace(loss=loss.detach())
        return loss

    monkeypatch.setattr(ClassifierRun, "loss_of", poisoned)


def test_the_step_that_left_the_finite_numbers_is_named(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, {9})
    with pytest.raises(SystemExit) as ended:
        train("run", "--num_train_epochs", "3", "--save_strategy", "steps", "--save_steps", "4")
    assert ended.value.code == 3
    error = last_line(capsys.readouterr().err)
    assert "The loss is inf at step 9, at a learning rate of 0.00" in error
    assert "step-00000008'" in error


def test_steps_that_are_not_finite_are_left_out_if_asked(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, _ = train("whole", "--num_train_epochs", "3")
    poison(monkeypatch, {3, 4})
    results, folder = train("run", "--num_train_epochs", "3", "--skip_nonfinite_steps", "--save_strategy", "epoch")
    assert "step 3 | skipped" in capsys.readouterr().out
    assert results["step"] == undisturbed["step"]
    assert all(map(is_finite, load_file(folder / "model.safetensors").values()))
    assert results["epoch"] == pytest.approx(undisturbed["epoch"] - 128 / 400, abs=0.01)


def test_a_run_of_which_nothing_is_finite_is_given_up(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loss_log, "MOST_SKIPPED_STEPS", 5)
    poison(monkeypatch, set(range(1, 1000)))
    with pytest.raises(SystemExit) as ended:
        train("run", "--num_train_epochs", "3", "--skip_nonfinite_steps")
    assert ended.value.code == 3
    assert "The gradients of the 5 steps up to 5 are NaN or infinite" in last_line(capsys.readouterr().err)


@pytest.mark.parametrize("when", ["evaluate", "save", "end"])
def test_weights_that_are_no_numbers_are_neither_kept_nor_saved(
    train: Train, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The loss of the last step is that of the weights before it: checking losses is not enough."""

    def spoil(run: loop.Run) -> None:
        with torch.no_grad():
            next(run.bare_model.parameters())[5] = torch.nan

    flags = {
        "evaluate": ["--eval_strategy", "epoch"],
        "save": ["--eval_strategy", "no", "--save_strategy", "epoch"],
        "end": ["--eval_strategy", "no", "--save_strategy", "no"],
    }[when]
    step = loop.Run.train_on

    def spoiled(run: loop.Run, batch: dict[str, torch.Tensor]) -> bool:
        took_step = step(run, batch)
        if run.state.step == run.num_steps:
            spoil(run)
        return took_step

    monkeypatch.setattr(loop.Run, "train_on", spoiled)
    with pytest.raises(SystemExit) as ended:
        train("run", *flags)
    assert ended.value.code == 3


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("part", ["checkpoint", "model"])
def test_a_full_disk_leaves_the_last_checkpoint_and_the_last_model(
    train: Train, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*LONG_RUN, "--max_steps", "10"]
    _, folder = train("run", *settings)
    model, checkpoint = weights(folder), newest(folder)
    if part == "checkpoint":
        file, again = checkpoint / "optimizer.safetensors", ["--overwrite_output_dir", "--max_steps", "5"]
    else:
        file, again = folder / "model.safetensors", ["--save_steps", "500", "--resume_from_checkpoint", "latest"]
    with full_disk(file.stat().st_size - 1000), pytest.raises(SystemExit, match="2"):
        train("run", *settings, *again)
    said = capsys.readouterr().err
    assert last_line(said).startswith("rnn-hf train: error: ") and "File too large" in last_line(said)
    assert "Traceback" not in said
    assert weights(folder) == model
    TextClassifier.from_pretrained(folder)
    if part == "model":
        assert open_checkpoint(folder, "latest", pytest.fail).state.step == 10
    assert not list(folder.rglob(".*")), "what was not finished is left"


def test_a_folder_that_cannot_be_written_is_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "model.safetensors")

    settings = ["--save_strategy", "epoch", "--num_train_epochs", "2"]
    _, folder = train("run", *settings)
    before = newest(folder)
    monkeypatch.setattr(checkpoints, "save_file", refuse)
    with pytest.raises(SystemExit) as ended:
        train("run", "--save_strategy", "epoch", "--num_train_epochs", "2", "--resume_from_checkpoint",
              str(folder / "checkpoints" / "step-00000007"))  # fmt: skip
    assert ended.value.code == 2
    assert last_line(capsys.readouterr().err) == "rnn-hf train: error: Read-only file system: 'model.safetensors'."
    assert open_checkpoint(folder, "latest", pytest.fail).folder == before


def test_resuming_does_not_remove_what_it_goes_on_from(train: Train) -> None:
    settings = ["--save_strategy", "epoch", "--num_train_epochs", "2"]
    _, folder = train("run", *settings)
    train("run", *settings, "--save_strategy", "no", "--overwrite_output_dir", "--resume_from_checkpoint", "latest")
    assert newest(folder).exists()
