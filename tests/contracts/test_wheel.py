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
FROM_PYTHON = """
import rnn_hf
from rnn_hf import TextClassifier

assert "installed" in rnn_hf.__file__, rnn_hf.__file__
texts, labels = ["a good film", "a bad film"] * 30, ["good", "bad"] * 30
settings = {"hidden_size": 8, "num_train_epochs": 20, "per_device_train_batch_size": 16, "use_cpu": True}
classifier = TextClassifier.train(texts, labels, show_progress=False, **settings)
classifier.save_pretrained("python")
print(TextClassifier.from_pretrained("python").predict("a bad film"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel of the package installs, and nothing else."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "rnn_hf", source / "rnn_hf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(source / "dist"), str(source)], check=True, timeout=300)
    (wheel,) = (source / "dist").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, timeout=300)
    return target


def run(installed: Path, folder: Path, *command: str) -> str:
    """Run a command in a folder, where the package is the installed one."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_trains_evaluates_and_predicts_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    command = str(installed / "bin" / "rnn-hf")
    (tmp_path / "mine.csv").write_text(ROWS)
    run(installed, tmp_path, command, "train", "--train_file", "mine.csv", "--output_dir", "runs/mine", *FLAGS)
    model = ["--model_name_or_path", "runs/mine"]
    assert '"label": "good"' in run(installed, tmp_path, command, "predict", *model, "--text", "a good film")
    evaluated = run(installed, tmp_path, command, "evaluate", *model, "--test_file", "mine.csv", "--use_cpu")
    assert "accuracy 100.00 %" in evaluated
    dry = run(installed, tmp_path, sys.executable, "-m", "rnn_hf", "push", "runs/mine", "owner/name", "--dry_run")
    assert "modeling_rnn.py" in dry


def test_the_wheel_trains_from_python_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, sys.executable, "-c", FROM_PYTHON).strip() == "bad"


def test_the_list_of_jobs_needs_no_torch(installed: Path, tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['rnn-hf']; from rnn_hf.__main__ import main; main(); print('torch' in sys.modules)"
    jobs, _, has_torch = run(installed, tmp_path, sys.executable, "-c", code).strip().rpartition("\n")
    assert has_torch == "False" and "train-language-model" in jobs
    assert run(installed, tmp_path, sys.executable, "-m", "rnn_hf", "--help").strip() == jobs
    assert run(installed, tmp_path, str(installed / "bin" / "rnn-hf")).strip() == jobs


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["fly"], "rnn-hf: error: Unknown job 'fly'. Choose from train, "),
        (["train"], 'rnn-hf: error: `rnn-hf train` needs the package accelerate. Run `pip install "rnn-hf[train]"`.'),
        (["predict", "--model_name_or_path", "./nowhere"], "rnn-hf predict: error: The model folder './nowhere'"),
    ],
)
def test_a_mistake_or_a_missing_package_is_one_line(
    installed: Path, tmp_path: Path, words: list[str], line: str
) -> None:
    code = "import sys; sys.modules['accelerate'] = None; from rnn_hf.__main__ import main; main(sys.argv[1:])"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1, done.stderr
