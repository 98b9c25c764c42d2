import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_hf.commands import evaluate
from rnn_hf.commands import train as train_script
from rnn_hf.training.metrics import compute_metrics
from tests.conftest import TINY_RUN

Train = Callable[..., tuple[dict[str, Any], Path]]


def test_the_table_and_the_file_hold_the_metrics(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = train("model")
    capsys.readouterr()
    file = tmp_path / "metrics.json"
    argv = ["--model_name_or_path", str(folder), "--dataset_name", "demo", "--output_file", str(file), "--use_cpu"]
    metrics = evaluate.main(argv)
    assert json.loads(file.read_text()) == metrics
    table = capsys.readouterr().out
    assert (
        f"accuracy {100 * metrics['accuracy']:.2f} %, macro F1 {100 * metrics['macro_f1']:.2f} %, 1,000 rows" in table
    )
    for label, row in zip(metrics["per_class"], metrics["confusion_matrix"], strict=True):
        figures = metrics["per_class"][label]
        shares = [f"{100 * figures[name]:.2f}" for name in ("precision", "recall", "f1")]
        lines = [line.removeprefix(label).split() for line in table.splitlines() if line.startswith(label)]
        assert lines == [[*shares, str(figures["support"])], [str(count) for count in row]]


def test_the_table_of_many_classes_shows_the_most_frequent_ones_and_errors() -> None:
    labels = np.repeat(np.arange(60), np.arange(1, 61))
    predictions = np.where(labels == 3, 4, labels)
    metrics = compute_metrics(
        np.eye(60)[predictions], labels, [f"class_{index}" for index in range(60)], "single_label_classification"
    )
    lines = evaluate.as_table(metrics).splitlines()
    assert [line.split()[0] for line in lines[3:53]] == [f"class_{index}" for index in range(59, 9, -1)]
    assert lines[53].startswith("... and 10 less frequent classes")
    assert lines[54:] == ["", "most frequent errors (true class, predicted class, rows)", "class_3, class_4, 4"]


@pytest.mark.draws
def test_a_picture_of_the_confusion_matrix_is_written(train: Train, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")
    _, folder = train("model")
    argv = ["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"]
    evaluate.main([*argv, "--figure_file", str(tmp_path / "matrix.svg")])
    assert "</svg>" in (tmp_path / "matrix.svg").read_text()
    assert not list(tmp_path.glob(".matrix*"))


def test_names_of_labels_are_matched_whatever_their_order(train: Train, tmp_path: Path) -> None:
    _, folder = train("model")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nsome news,Sci/Tech\nsome news,Sports\nsome news,World\nsome news,World\n")
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--test_file", str(rows), "--use_cpu"])
    assert [figures["support"] for figures in metrics["per_class"].values()] == [2, 1, 0, 1]


def test_a_label_that_the_model_does_not_know_is_one_line(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = train("model")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\nsome news,Weather\n")
    with pytest.raises(SystemExit, match="2"):
        evaluate.main(["--model_name_or_path", str(folder), "--test_file", str(rows)])
    line = capsys.readouterr().err.strip().splitlines()[-1].split("\r")[-1]
    assert "Weather" in line and "Sci/Tech" in line


def test_texts_are_in_the_columns_used_in_training(tmp_path: Path) -> None:
    rows = tmp_path / "tickets.csv"
    rows.write_text("subject,body,queue\n" + "an invoice,please pay,money\na match,they won,sport\n" * 20)
    columns = ["--text_column_names", "subject", "body", "--label_column_name", "queue"]
    folder = str(tmp_path / "model")
    train_script.main([*TINY_RUN[2:], "--train_file", str(rows), *columns, "--output_dir", folder])
    argv = ["--model_name_or_path", folder, "--test_file", str(rows), "--label_column_name", "queue", "--use_cpu"]
    metrics = evaluate.main(argv)
    assert metrics["num_examples"] == 40
    assert metrics == evaluate.main([*argv, *columns[:3]])
