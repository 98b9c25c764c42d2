"""The built wheel, without the clone: commands and Python do what they do in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROWS = "text,label\n" + "a good film,good\na bad film,bad\na fine day,good\nan awful day,bad\n" * 25
FLAGS = ["--num_train_epochs", "20", "--hidden_size", "8", "--per_device_train_batch_size", "16", "--use_cpu"]
IN_PYTHON = """
import rnn_hf
from rnn_hf import TextClassifier
from rnn_hf.__main__ import main

assert "installed" in rnn_hf.__file__, rnn_hf.__file__
texts, labels = ["a good film", "a bad film"] * 30, ["good", "bad"] * 30
settings = {"hidden_size": 8, "num_train_epochs": 20, "per_device_train_batch_size": 16, "use_cpu": True}
classifier = TextClassifier.train(texts, labels, show_progress=False, **settings)
classifier.save_pretrained("python")
print(TextClassifier.from_pretrained("python").predict("a bad film"))

model = ["--model_name_or_path", "runs/mine"]
main(["predict", *model, "--text", "a good film"])
main(["evaluate", *model, "--test_file", "mine.csv", "--use_cpu"])
main(["push", "runs/mine", "owner/name", "--dry_run"])
"""
MISTAKES = """
import sys
sys.modules["accelerate"] = None
from rnn_hf.__main__ import main
for words in (["fly"], ["train"], ["predict", "--model_name_or_path", "./nowhere"]):
    try:
        main(words)
    except SystemExit as stop:
        print(stop.code)
from rnn_hf import TextClassifier
try:
    TextClassifier.train(["a"], ["b"])
except ImportError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel of the package installs, and nothing else."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "rnn_hf", source / "rnn_hf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(source / "dist"), str(source)], check=True)
    (wheel,) = (source / "dist").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    return target


def run(installed: Path, folder: Path, *command: str) -> str:
    """Run a command in a folder, where the package is the installed one."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_trains_evaluates_and_predicts_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """As a program and from Python."""
    (tmp_path / "mine.csv").write_text(ROWS)
    program = str(installed / "bin" / "rnn-hf")
    run(installed, tmp_path, program, "train", "--train_file", "mine.csv", "--output_dir", "runs/mine", *FLAGS)
    said = run(installed, tmp_path, sys.executable, "-c", IN_PYTHON)
    assert said.startswith("bad\n")
    assert '"label": "good"' in said
    assert "accuracy 100.00 %" in said
    assert "modeling_rnn.py" in said


def test_the_list_of_jobs_needs_no_torch(installed: Path, tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['rnn-hf']; from rnn_hf.__main__ import main; main(); print('torch' in sys.modules)"
    jobs, _, has_torch = run(installed, tmp_path, sys.executable, "-c", code).strip().rpartition("\n")
    assert has_torch == "False" and "train-language-model" in jobs
    assert run(installed, tmp_path, sys.executable, "-m", "rnn_hf", "--help").strip() == jobs
    assert run(installed, tmp_path, str(installed / "bin" / "rnn-hf")).strip() == jobs


def test_a_mistake_or_a_missing_package_is_one_line(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", MISTAKES]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    *statuses, missing = done.stdout.splitlines()
    assert statuses == ["2", "2", "2"], done.stderr
    needs = 'needs the package accelerate. Run `pip install "rnn-hf[train]"`.'
    assert missing == f"`TextClassifier.train` {needs}"
    job, package, model = done.stderr.splitlines()
    assert job.startswith("rnn-hf: error: Unknown job 'fly'. Choose from train, ")
    assert package == f"rnn-hf: error: `rnn-hf train` {needs}"
    assert model.startswith("rnn-hf predict: error: The model folder './nowhere'")
