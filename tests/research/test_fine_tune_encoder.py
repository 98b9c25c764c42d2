"""`scripts/research/fine_tune_encoder.py` on a tiny encoder."""

import json
from pathlib import Path

import pytest

from rnn_hf.commands import distill
from scripts.research import fine_tune_encoder as script
from tests.conftest import TINY_RUN, last_line


def test_an_encoder_becomes_a_teacher(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    student = [*TINY_RUN, "--max_steps", "2", "--output_dir", str(tmp_path / "student"), "--teacher_name_or_path"]
    with pytest.raises(SystemExit, match="2"):
        distill.main([*student, str(encoder)])
    assert "must be a trained classifier, but it lacks" in (line := last_line(capsys.readouterr().err))
    assert "Fine-tune it first with transformers' `Trainer`" in line

    monkeypatch.setattr(script, "SAVE_STEPS", 2)
    folder = tmp_path / "teacher"
    argv = [str(encoder), "--dataset_name", "demo", "--max_train_samples", "96", "--max_length", "24"]
    results = script.main([*argv, "--output_dir", str(folder), "--freeze_embeddings", "true"])
    assert json.loads((folder / "all_results.json").read_text()) == results
    assert (results["num_train_examples"], results["num_test_examples"]) == (96, 1000)
    assert 0 <= results["test_accuracy"] <= 1 and "encoder" in results["model_name_or_path"]
    assert not list(folder.glob("checkpoint-*"))
    assert "accuracy: validation" in capsys.readouterr().out
    assert distill.main([*student, str(folder)])["teachers"][0]["teacher_accuracy"] == pytest.approx(
        results["test_accuracy"], abs=0.005
    )
    with pytest.raises(SystemExit, match="2"):
        script.main([*argv, "--output_dir", str(folder)])
    assert "`--output_dir` must be a folder without a model" in last_line(capsys.readouterr().err)


def test_a_name_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main(["--output_dir", "x"])
    assert "Pass the name or folder of an encoder first." in last_line(capsys.readouterr().err)
