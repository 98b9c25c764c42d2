"""What `rnn-hf train` refuses, and what it leaves as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from rnn_hf.commands import train as script
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.sources import DEFAULT_DATASET
from tests.conftest import TINY_RUN, in_new_process, last_line, weights

Train = Callable[..., tuple[dict[str, Any], Path]]

OF_THE_HUB = [word for word in TINY_RUN if word not in ("--dataset_name", "demo")]


def test_the_default_dataset_comes_from_the_hub(hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    for split, rows in load_demo_news(num_train=200, num_test=40).items():
        rows.to_parquet(tmp_path / "hub" / "datasets" / DEFAULT_DATASET / "data" / f"{split}-00000-of-00001.parquet")
    results = script.main([*OF_THE_HUB, "--output_dir", str(tmp_path / "run")])
    assert (results["num_train_examples"], results["num_test_examples"]) == (192, 40)
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["dataset_name"] == DEFAULT_DATASET


OUT_OF_REACH = """
import sys, time
from rnn_hf.commands.train import main
from rnn_hf.data.sources import load_text_dataset
start = time.perf_counter()
try:
    load_text_dataset("fancyzhx/ag_news")
except ConnectionError as error:
    print(error)
print(time.perf_counter() - start)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("env", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_out_of_reach_is_one_line_with_the_ways_out_and_soon(tmp_path: Path, env: dict[str, str]) -> None:
    home = {"HF_HOME": str(tmp_path / "home"), "HF_DATASETS_CACHE": str(tmp_path / "datasets")}
    done = in_new_process(OUT_OF_REACH, *OF_THE_HUB, "--output_dir", str(tmp_path / "run"), **env, **home)
    message, seconds = done.stdout.splitlines()
    assert "Pass a local folder, or `dataset_name=demo`." in message
    assert float(seconds) < 5  # `datasets` alone tries for 23 seconds
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert last_line(done.stderr).startswith("rnn-hf train: error: ")
    assert "`--dataset_name demo`" in last_line(done.stderr)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text,label\na,x\nb,y\n", "z"),
        ("text,label\n", "must have rows, got none"),
        ("words\na\n", "(columns: words)"),
    ],
)
def test_a_wrong_test_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, message: str
) -> None:
    """A label outside the classes, no rows, no label column."""
    train_rows, test_rows = tmp_path / "train.csv", tmp_path / "test.csv"
    train_rows.write_text("text,label\n" + "a,x\nb,y\n" * 30)
    test_rows.write_text(rows.replace("b,y", "b,z"))
    with pytest.raises(SystemExit, match="2"):
        script.main(
            ["--train_file", str(train_rows), "--test_file", str(test_rows), "--output_dir", str(tmp_path / "run")]
        )
    line = last_line(capsys.readouterr().err)
    assert line.startswith("rnn-hf train: error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_a_training_split_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\na,x\nb,y\n")
    with pytest.raises(SystemExit, match="2"):
        script.main(["--test_file", str(rows), "--output_dir", str(tmp_path / "run")])
    assert "The dataset has no training split (splits: test)." in last_line(capsys.readouterr().err)


def test_a_folder_that_holds_a_run_is_kept_unless_told_otherwise(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = train("run", "--save_strategy", "epoch")
    before = weights(folder)
    for argv in (["--seed", "1"], ["--seed", "1", "--overwrite_output_dir", "--dataset_name", "./nowhere"]):
        with pytest.raises(SystemExit, match="2"):
            train("run", *argv)
        assert "rnn-hf train: error: " in capsys.readouterr().err
        assert weights(folder) == before
        assert list(folder.glob("checkpoints/step-*"))
    train("run", "--seed", "1", "--overwrite_output_dir")
    assert weights(folder) != before
    assert not list(folder.glob("checkpoints/step-*"))


def test_a_run_is_not_resumed_with_other_arguments(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train("run", "--save_strategy", "epoch")
    with pytest.raises(SystemExit, match="2"):
        train("run", "--learning_rate", "0.5", "--resume_from_checkpoint", "latest")
    assert "The checkpoint was made with `--learning_rate 0.004`, this run has 0.5." in capsys.readouterr().err
