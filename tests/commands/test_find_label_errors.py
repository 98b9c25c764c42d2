"""The list of rows whose label is probably wrong, as a file."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from rnn_hf.commands import find_label_errors
from rnn_hf.training import from_lists
from tests.conftest import last_line

TEXTS = [f"a {word} {number}" for number in range(20) for word in ("good film", "bad film")]
LABELS = ["good", "bad"] * 20
COLUMNS = [
    "row", "text", "given_label", "predicted_label", "predicted_probability", "given_probability", "is_error",
]  # fmt: skip
QUICK = [
    "--hidden_size", "8", "--embedding_size", "8", "--ngram_buckets", "0", "--max_steps", "60", "--learning_rate",
    "0.03", "--per_device_train_batch_size", "8", "--settings_from_data", "false", "--use_cpu", "--num_folds", "2",
]  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A table with a wrong label in row 7, and the only row of a class at the end."""
    labels = [*LABELS[:7], "good", *LABELS[8:], "once"]
    texts = [*TEXTS, 'an "odd",\tidea']
    pd.DataFrame({"topic": labels, "body": texts}).to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.csv"


def run(mine: Path, output: str, *argv: str) -> pd.DataFrame:
    columns = ["--label_column_name", "topic", "--text_column_names", "body"]
    file = str(mine.parent / output)
    return find_label_errors.main(["--train_file", str(mine), "--output_file", file, *columns, *QUICK, *argv])


def test_all_rows_are_written_the_most_doubtful_first(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(mine, "suspects.csv")
    written = pd.read_csv(mine.parent / "suspects.csv")
    assert list(written.columns) == list(found.columns) == COLUMNS
    assert len(written) == 41 and written.row[0] == 7 and bool(written.is_error[0])
    assert written.loc[0, ["text", "given_label", "predicted_label"]].tolist() == [TEXTS[7], "good", "bad"]
    assert written.loc[40, ["row", "text", "given_label"]].tolist() == [40, 'an "odd",\tidea', "once"]
    # it cannot be judged
    assert np.isnan(written.given_probability[40]) and not written.is_error[40]
    np.testing.assert_allclose(written.given_probability, found.given_probability, atol=1e-6)
    lines = capsys.readouterr().out.splitlines()
    assert (
        f"1 of 41 rows (2.4 %) look mislabelled. All rows are written to {mine.parent / 'suspects.csv'}" in lines[-1]
    )
    assert lines[-1].endswith(" s") and lines[-2] == "good, bad, 1"
    assert sorted(path.name for path in mine.parent.iterdir()) == ["mine.csv", "suspects.csv"]


def test_every_format_holds_the_same_rows(mine: Path) -> None:
    found = run(mine, "suspects.parquet", "--max_steps", "1")
    files = [mine.parent / f"suspects{ending}" for ending in (".jsonl", ".json", ".TSV")]
    for file in files:
        find_label_errors.write_rows(found, file)
    pd.testing.assert_frame_equal(pd.read_parquet(mine.parent / "suspects.parquet"), found)
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert lines == json.loads(files[1].read_text())
    assert lines[0] == json.loads(found.head(1).round(6).to_json(orient="records", double_precision=6))[0]
    assert lines[40]["row"] == 40 and lines[40]["given_probability"] is None
    assert files[2].read_text().splitlines()[41].startswith('40\tan "odd", idea\tonce\t')


def test_the_trainings_get_the_settings_that_were_given_and_no_others(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []

    def train(rows: dict[str, Dataset], settings: dict[str, Any]) -> None:
        given.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(from_lists, "train_on_rows", train)
    argv = ["--train_file", str(mine), "--label_column_name", "topic", "--text_column_names", "body", "--clean_text"]
    with pytest.raises(SystemExit):
        find_label_errors.main(
            [
                *argv,
                "--output_file",
                f"{mine.parent}/x.csv",
                "--no_pack_padded_sequences",
                "--seed",
                "42",
                "--max-length",
                "9",
            ]
        )
    assert given == [{"pack_padded_sequences": False, "seed": 42, "max_length": 9}]


def test_ctrl_c_leaves_the_file_as_it_was(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (mine.parent / "suspects.csv").write_text("before")

    def stopped(*arguments: Any) -> None:
        raise KeyboardInterrupt

    train = from_lists.train_on_rows
    for name in ("train_on_rows", "write"):
        with monkeypatch.context() as patch:
            if name == "write":
                patch.setattr(find_label_errors, "json_line", stopped)
            else:
                patch.setattr(from_lists, name, stopped)
            with pytest.raises(SystemExit, match="130"):
                run(mine, "suspects.csv", "--max_steps", "1")
        assert (mine.parent / "suspects.csv").read_text() == "before"
        assert sorted(path.name for path in mine.parent.iterdir()) == ["mine.csv", "suspects.csv"]
    assert from_lists.train_on_rows is train
    assert last_line(capsys.readouterr().err) == "rnn-hf find-label-errors: Stopped by SIGINT."


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: --output_file"),
        (["--output_file", "{folder}/x.txt"], "`--output_file` must end in .csv, .tsv, .jsonl, .json, .parquet, got"),
        (["--output_file", "{folder}/x.csv.gz"], "`--output_file` must end in .csv"),
        (["--output_file", "{folder}/./mine.csv"], "`--output_file` is the file of the rows"),
        (["--output_file", "{folder}/none/x.csv"], "The folder of `--output_file` does not exist"),
        (["--output_file", "{folder}/x.csv", "--num_folds", "1"], "`--num_folds` must be at least 2, got 1"),
        (["--output_file", "{folder}/x.csv", "--output_dir", "x"], "`--output_dir` is only for `rnn-hf train`"),
        (["--output_file", "{folder}/x.csv", "--streaming"], "is only for `rnn-hf train`. Leave it out."),
        (["--output_file", "{folder}/x.csv", "--save_strategy", "epoch"], "is only for `rnn-hf train`. Leave it out."),
        (["--output_file", "{folder}/x.csv", "--num_folds", "9"], "`--num_folds` must be at most the number of"),
        (
            ["--output_file", "{folder}/x.csv", "--label_column_name", "score"],
            "got a problem of type regression. Pass",
        ),
        (["--output_file", "{folder}/x.csv", "--label_column_name", "none"], 'Column "none" is not in the dataset'),
        (["--output_file", "{folder}/x.csv", "--word_vectors", "/no/such.txt"], "/no/such.txt"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    rows = {"text": TEXTS[:8] * 5, "label": LABELS, "score": [f"{number / 8}" for number in range(1, 41)]}
    pd.DataFrame(rows).to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(SystemExit, match="2"):
        find_label_errors.main(
            ["--train_file", f"{tmp_path}/mine.csv", *(word.format(folder=tmp_path) for word in argv)]
        )
    line = last_line(capsys.readouterr().err)
    assert line.startswith("rnn-hf find-label-errors: error: ") and message in line
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


def test_several_processes_are_refused(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2"):
        run(mine, "suspects.csv")
    assert re.search("must run in one process, got several. Leave out the launcher.", capsys.readouterr().err)
