"""Trainings on rows that are streamed: stopped and resumed, on several processes, from the Hub, with bad rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from rnn_hf import TextClassifier
from rnn_hf.commands.train import main
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.training.checkpoints import open_checkpoint
from tests.conftest import last_line, weights
from tests.contracts.test_interrupted_runs import SAME, stopped_after

Train = Callable[..., tuple[dict[str, Any], Path]]

# shuffle buffers of three batches, some of them in two epochs
STREAMED = ["--streaming", "--shuffle_buffer_size", "192", "--max_steps", "12", "--logging_steps", "1"]
STREAMED += ["--max_train_samples", "100000"]


def write_news(folder: Path) -> Path:
    """Write the demo in the Hub's layout: 500 training rows in two files, 100 for validation, 200 to test."""
    place = folder / "data"
    demo = load_demo_news()
    rows = demo["train"].select(range(600))
    for split, part in (("validation", rows.select(range(500, 600))), ("test", demo["test"].select(range(200)))):
        part.to_parquet(place / f"{split}-00000-of-00001.parquet")
    for number in range(2):
        rows.select(range(500)).shard(2, number).to_parquet(place / f"train-{number:05}-of-00002.parquet")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_news(tmp_path / "news")


def test_a_stream_trains_a_model_and_says_what_it_read(folder: Path, train: Train) -> None:
    settings = ["--dataset_name", str(folder), *STREAMED]
    results, output = train("run", *settings, "--max_steps", "40", "--learning_rate", "0.05")
    assert results["num_train_examples"] == 500
    assert (results["num_validation_examples"], results["num_test_examples"]) == (100, 200)
    assert results["epoch"] == pytest.approx(40 / 8)
    assert results["test_accuracy"] > 0.35 and results["validation_accuracy"] > 0.35
    assert TextClassifier.from_pretrained(output).labels == ["World", "Sports", "Business", "Sci/Tech"]
    assert "streaming: true" in (output / "recipe.yaml").read_text()


def test_of_a_stream_that_does_not_end_the_rows_that_were_read_are_counted(folder: Path, train: Train) -> None:
    results, _ = train("run", "--dataset_name", str(folder), *STREAMED, "--max_steps", "3")
    assert (results["num_train_examples"], results["epoch"]) == (192, 1)


def test_a_stream_stopped_at_any_step_goes_on_as_if_nothing_had_happened(
    folder: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a shuffle buffer, at its end, at the end of an epoch, and of the run."""
    settings = ["--dataset_name", str(folder), *STREAMED]
    undisturbed, whole = train("whole", *settings)
    for step in (2, 3, 8, 12):
        with stopped_after(step, monkeypatch):
            train(f"stopped {step}", *settings)
        results, output = train(f"stopped {step}", *settings, "--resume_from_checkpoint", "latest")
        assert weights(output) == weights(whole), step
        for name in (*SAME, "num_train_examples"):
            assert results[name] == undisturbed[name], (step, name)


def test_a_resumed_stream_must_be_cut_into_the_same_pools(
    folder: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--dataset_name", str(folder), *STREAMED, "--save_strategy", "steps", "--save_steps", "5"]
    train("run", *settings)
    with pytest.raises(SystemExit, match="2"):
        train("run", *settings, "--shuffle_buffer_size", "128", "--resume_from_checkpoint", "latest")
    assert "The checkpoint was made with" in last_line(capsys.readouterr().err)


def test_a_stream_comes_from_the_hub(folder: Path, tmp_path: Path, hub: str, train: Train) -> None:
    place = tmp_path / "hub" / "datasets" / "owner" / "news"
    place.parent.mkdir(parents=True)
    folder.rename(place)
    results, there = train("there", *STREAMED, "--dataset_name", "owner/news")
    assert (results["num_train_examples"], results["num_test_examples"]) == (500, 200)
    _, here = train("here", *STREAMED, "--dataset_name", str(place))
    assert weights(there) == weights(here)


def test_a_bad_row_in_the_middle_ends_the_run_in_one_line_and_leaves_the_last_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = Features(text=Value("string"), label=ClassLabel(names=["a", "b"]))
    labels: list[int | None] = [row % 2 for row in range(2000)]
    labels[1999] = None
    rows = Dataset.from_dict({"text": [f"text {row}" for row in range(2000)], "label": labels}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    rows.select(range(10)).to_parquet(tmp_path / "few.parquet")
    argv = ["--train_file", str(tmp_path / "rows.parquet"), "--test_file", str(tmp_path / "few.parquet"), "--use_cpu"]
    argv += [
        "--output_dir",
        str(tmp_path / "run"),
        "--streaming",
        "--max_steps",
        "100",
        "--shuffle_buffer_size",
        "640",
    ]
    train_tokenizer(["text"], vocab_size=10).save_pretrained(tmp_path / "tokenizer")
    argv += [
        "--tokenizer_name_or_path",
        str(tmp_path / "tokenizer"),
    ]  # else the row is found in the pass for its words
    # nor in the look at the first 2,000 rows
    argv += ["--settings_from_data", "false"]
    argv += ["--per_device_train_batch_size", "64", "--save_strategy", "steps", "--save_steps", "5"]
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert last_line(capsys.readouterr().err).startswith(
        "rnn-hf train: error: In rows 1,920 to 1,999 of the stream (row 0 is row 1,920): Every row must have a "
        "label, got none in row 79"
    )
    checkpoint = open_checkpoint(tmp_path / "run", "latest", print)
    assert checkpoint.state.step == 25
    assert not (tmp_path / "run" / "model.safetensors").exists()
