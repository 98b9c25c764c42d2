"""The temperature of a run: what it changes, where it is fitted, when it is forgotten."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rnn_hf import RNNForSequenceClassification
from rnn_hf.commands import evaluate

Train = Callable[..., tuple[dict[str, Any], Path]]


@pytest.mark.parametrize("save_dtype", ["float32", "float16"])
def test_a_temperature_changes_probabilities_and_no_prediction(train: Train, save_dtype: str) -> None:
    argv = ["--num_train_epochs", "4", "--eval_strategy", "no", "--save_dtype", save_dtype]
    plain, plain_folder = train("plain", *argv)
    scaled, folder = train("scaled", *argv, "--temperature_scaling")
    temperature = scaled["temperature"]
    assert abs(temperature - 1) > 0.01
    assert json.loads((folder / "config.json").read_text())["calibration_temperature"] == temperature
    before, after = (load_file(path / "model.safetensors") for path in (plain_folder, folder))
    for name, weight in before.items():
        # divided first and rounded then, both to so many digits
        digits = {"rtol": 2e-3, "atol": 1e-6} if save_dtype == "float16" else {"rtol": 1e-5, "atol": 1e-8}
        expected = weight / temperature if name.startswith("classifier.") else weight
        torch.testing.assert_close(after[name].float(), expected.float(), **digits)
    assert scaled["test_accuracy"] == pytest.approx(plain["test_accuracy"], abs=0.002)
    if save_dtype == "float32":
        assert scaled["test_confusion_matrix"] == plain["test_confusion_matrix"]
    error = plain["test_calibration"]["expected_calibration_error"]
    assert scaled["test_ece_before_scaling"] == pytest.approx(error, abs=1e-3)
    assert scaled["test_ece"] == scaled["test_calibration"]["expected_calibration_error"]
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"])
    assert (metrics["confusion_matrix"], metrics["loss"]) == (scaled["test_confusion_matrix"], scaled["test_loss"])
    assert f"temperature of {temperature:.3g}" in (folder / "README.md").read_text()
    assert "temperature" not in (plain_folder / "README.md").read_text()


def test_the_temperature_is_that_of_the_best_weights_on_the_validation_split(train: Train) -> None:
    """No other temperature gives a lower loss there, nor does the split of the training rows."""
    _, folder = train("run", "--num_train_epochs", "15", "--temperature_scaling")
    argv = ["--model_name_or_path", str(folder), "--dataset_name", "demo", "--split", "validation", "--use_cpu"]
    losses = []
    for factor in (1.0, 0.98, 1.02):
        model = RNNForSequenceClassification.from_pretrained(folder)
        with torch.no_grad():
            for weight in model.classifier.parameters():
                weight.mul_(factor)
        model.save_pretrained(folder)
        losses.append(evaluate.main(argv)["loss"])
    assert losses[0] < min(losses[1:])


def test_training_that_goes_on_forgets_the_temperature(train: Train) -> None:
    _, first = train("first", "--temperature_scaling", "--num_train_epochs", "4")
    _, second = train("second", "--model_name_or_path", str(first), "--max_steps", "1")
    temperatures = [
        json.loads((path / "config.json").read_text())["calibration_temperature"] for path in (first, second)
    ]
    assert temperatures[0] != 1 == temperatures[1]
