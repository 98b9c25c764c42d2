import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from rnn_hf.commands import evaluate
from scripts import train_with_trainer
from tests.commands.test_train import PROMISED_FILES, PROMISED_RESULTS
from tests.conftest import TINY_RUN

Train = Callable[..., tuple[dict[str, Any], Path]]
NO_DROPOUT = ["--word_dropout", "0", "--embedding_dropout", "0", "--classifier_dropout", "0"]


@pytest.fixture
def run(tmp_path: Path) -> Train:
    def run(name: str, *argv: str) -> tuple[dict[str, Any], Path]:
        AcceleratorState._reset_state(reset_partial_state=True)
        folder = tmp_path / name
        return train_with_trainer.main([*TINY_RUN, "--output_dir", str(folder), *argv]), folder

    return run


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_it_ends_with_the_same_folder_as_the_other_script(run: Train) -> None:
    results, folder = run("run", "--num_train_epochs", "2", "--save_dtype", "float16")
    assert {path.name for path in folder.iterdir()} == PROMISED_FILES
    assert json.loads((folder / "all_results.json").read_text()) == results
    assert results.keys() >= PROMISED_RESULTS
    assert (results["num_train_examples"], results["num_test_examples"], results["epoch"]) == (400, 1000, 2)
    AcceleratorState._reset_state(reset_partial_state=True)
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"])
    assert metrics["accuracy"] == results["test_accuracy"]
    assert metrics["confusion_matrix"] == results["test_confusion_matrix"]


def test_a_step_of_several_batches_is_that_of_one_large_batch(run: Train) -> None:
    argv = [*NO_DROPOUT, "--train_sampling_strategy", "random", "--max_steps", "3", "--logging_steps", "1"]
    argv += ["--label_smoothing_factor", "0.1", "--eval_strategy", "no", "--optim", "sgd", "--learning_rate", "1"]
    large, expected = run("large", *argv)
    small, folder = run("small", *argv, "--per_device_train_batch_size", "16", "--gradient_accumulation_steps", "4")
    torch.testing.assert_close(weights(folder), weights(expected))
    for one, other in zip(small["log"][:3], large["log"][:3], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=2e-4)


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(run: Train) -> None:
    argv = ["--num_train_epochs", "2", "--save_strategy", "epoch", "--optim", "lazy_adamw"]
    _, whole = run("whole", *argv)
    _, folder = run("resumed", *argv, "--resume_from_checkpoint", str(whole / "checkpoints" / "checkpoint-7"))
    expected, got = weights(whole), weights(folder)
    assert all(torch.equal(weight, got[name]) for name, weight in expected.items())


def test_training_stops_where_nothing_is_gained(run: Train) -> None:
    argv = ["--num_train_epochs", "9", "--learning_rate", "1e-12", "--early_stopping_patience", "2"]
    assert run("run", *argv)[0]["epoch"] == 3


@pytest.mark.parametrize("name", ["latest", "{folder}"])
def test_a_checkpoint_that_is_none_is_one_line(
    run: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("run", "--resume_from_checkpoint", name.format(folder=tmp_path))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train_with_trainer.py: error: `--resume_from_checkpoint` must be a checkpoint of Trainer")


@pytest.mark.parametrize(
    "flags", [["--freeze_embeddings_epochs", "1"], ["--temperature_scaling"], ["--gradual_unfreezing"]]
)
def test_what_trainer_has_nothing_for_is_one_line(
    run: Train, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("run", *flags)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"train_with_trainer.py: error: `{flags[0]}` is only for `rnn-hf train`. Leave it out."
