import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_dataset

from rnn_hf import tables
from rnn_hf.commands import predict
from rnn_hf.tables import TableClassifier
from rnn_hf.text_classifier import TextClassifier
from tests.conftest import in_new_process
from tests.tiny_classifiers import make_classifier

NUM_ROWS = {"b": 300, "a": 1, "c": 702}


@pytest.fixture
def model(tmp_path: Path) -> str:
    classifier = make_classifier()
    classifier.model.save_pretrained(tmp_path / "model")
    classifier.tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of three files; each row has a number and a class, and one text is missing."""
    num_rows = sum(NUM_ROWS.values())
    words = np.random.default_rng(0).choice(["the", "cat", "sat", "a", "dog", "mat", "!"], size=(num_rows, 5))
    texts = [" ".join(row) for row in words.tolist()]
    features = Features(id=Value("int64"), text=Value("string"), label=ClassLabel(names=["no", "yes"]))
    rows = {"id": range(num_rows), "text": [None, *texts[1:]], "label": np.arange(num_rows) % 2}
    dataset = Dataset.from_dict(rows, features=features)
    start = 0
    (tmp_path / "shards").mkdir()
    for name, length in NUM_ROWS.items():  # the order of the names is not that of the numbers
        part = dataset.select(range(start, start + length))
        part.to_parquet(tmp_path / "shards" / f"{name}.parquet", batch_size=100)
        start += length
    (tmp_path / "shards" / "notes.txt").write_text("not read")
    return tmp_path / "shards"


def read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])


def arguments(model: str, shards: Path, output: Path, *argv: str) -> list[str]:
    return ["--model_name_or_path", model, "--input_dir", str(shards), "--output_dir", str(output), *argv]


def hidden_files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def assert_answered(output: Path, shards: Path, model: str) -> None:
    """The rows of the input are there, each once and in order, and have the answers of one call of the classifier."""
    answered, rows = read(output), read(shards)
    assert answered.select(rows.column_names).to_pylist() == rows.to_pylist()
    classifier = TextClassifier.from_pretrained(model)
    probabilities = classifier.predict_proba([text or "" for text in rows["text"].to_pylist()])
    assert answered["predicted_label"].to_pylist() == classifier.answers(probabilities)
    assert len(set(answered["predicted_label"].to_pylist())) > 1  # or the order would not be seen
    np.testing.assert_allclose(answered["predicted_probability"], probabilities.max(axis=1), atol=1e-5)
    assert not hidden_files(output.parent)


def test_each_file_comes_out_with_its_name_its_rows_and_their_answers(
    model: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    predict.main(arguments(model, shards, output))
    assert "1,003 texts in" in capsys.readouterr().err
    assert {file.stem: pq.read_metadata(file).num_rows for file in output.iterdir()} == NUM_ROWS
    assert_answered(output, shards, model)
    columns = ["id", "text", "label", "predicted_label", "predicted_probability"]
    assert read(output).column_names == columns


def test_files_are_read_in_pieces(model: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Noting(TableClassifier):
        def __call__(self, table: pa.Table) -> pa.Table:
            sizes.append(len(table))
            return super().__call__(table)

    monkeypatch.setattr(tables, "TableClassifier", Noting)
    monkeypatch.setattr(tables, "CHUNK_SIZE", 70)
    predict.main(arguments(model, shards, tmp_path / "output"))
    assert (max(sizes), sum(sizes)) == (70, 1003)
    assert_answered(tmp_path / "output", shards, model)


def test_datasets_reads_the_output_and_its_classes_have_their_names(model: str, shards: Path, tmp_path: Path) -> None:
    predict.main(arguments(model, shards, tmp_path / "output", "--all_probabilities"))
    rows = load_dataset(str(tmp_path / "output"), split="train")
    assert rows.features["label"] == ClassLabel(names=["no", "yes"])
    for row in rows:
        probabilities = row["predicted_probabilities"]
        assert list(probabilities) == ["LABEL_0", "LABEL_1", "LABEL_2"]
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert probabilities[row["predicted_label"]] == row["predicted_probability"] == max(probabilities.values())


def test_columns_of_the_text_are_joined(model: str, shards: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    two.mkdir()
    for file in shards.glob("*.parquet"):
        table = pq.read_table(file)
        halves = [(text or "").partition(" ") for text in table["text"].to_pylist()]
        for name, column in (("title", 0), ("body", 2)):
            table = table.append_column(name, pa.array([half[column] for half in halves]))
        pq.write_table(table, two / file.name)
    output = tmp_path / "output"
    predict.main(arguments(model, two, output, "--text_column_names", "title", "body"))
    assert_answered(output, two, model)


@pytest.mark.parametrize(
    ("problem_type", "num_labels", "name"),
    [
        ("multi_label_classification", 3, "predicted_labels"),
        ("regression", 1, "predicted_value"),
        ("regression", 2, "predicted_values"),
    ],
)
def test_other_problems_have_columns_of_their_own(problem_type: str, num_labels: int, name: str) -> None:
    classifier = make_classifier(problem_type=problem_type, num_labels=num_labels)
    texts = ["the cat", "a dog", "sat on a mat"]
    answered = TableClassifier(classifier, ["text"], threshold=0.4)(pa.table({"text": texts}))
    assert answered.column_names == ["text", name]
    expected = classifier.predict(texts, threshold=0.4)
    if name == "predicted_values":
        assert answered[name].to_pylist() == [dict(zip(classifier.labels, row, strict=True)) for row in expected]
    else:
        assert answered[name].to_pylist() == expected


def test_after_an_error_there_is_no_output(
    model: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(TableClassifier):
        def __call__(self, table: pa.Table) -> pa.Table:
            if 999 in table["id"].to_pylist():
                assert hidden_files(tmp_path)
                raise RuntimeError("the power is gone")
            return super().__call__(table)

    monkeypatch.setattr(tables, "TableClassifier", Failing)
    with pytest.raises(RuntimeError, match="the power is gone"):
        predict.main(arguments(model, shards, tmp_path / "output"))
    assert not (tmp_path / "output").exists()
    assert not hidden_files(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no folder", "The folder of `--input_dir` does not exist"),
        ("no file", "`--input_dir` must hold files that end in .parquet, got none"),
        ("no rows", "`--input_dir` must hold rows, got none"),
        ("other columns", "'{0}/b.parquet' must have the columns of '{0}/a.parquet'"),
        ("no Parquet", "'{0}/b.parquet' is not a Parquet file"),
        ("no text", 'The dataset has no column "text" and 2 other columns of strings (columns: title, body)'),
        ("taken", 'The input must not have the column "predicted_label"'),
        ("full output", "`--output_dir` must be a new or empty folder"),
        ("output in no folder", "The folder of `--output_dir` does not exist"),
    ],
)
def test_a_folder_that_cannot_be_answered_is_one_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, message: str
) -> None:
    folder, output = tmp_path / "shards", tmp_path / "output"
    if damage != "no folder":
        folder.mkdir()
    columns: dict[str, list[str]] = {"text": [] if damage == "no rows" else ["a dog"]}
    if damage == "no text":
        columns = {"title": ["a"], "body": ["dog"]}
    if damage == "taken":
        columns["predicted_label"] = ["dog"]
    if damage not in ("no folder", "no file"):
        pq.write_table(pa.table(columns), folder / "a.parquet")
    if damage == "other columns":
        pq.write_table(pa.table({"text": ["a"], "id": [1]}), folder / "b.parquet")
    if damage == "no Parquet":
        (folder / "b.parquet").write_text("text\na dog\n")
    if damage == "full output":
        output.mkdir()
        (output / "precious").write_text("")
    if damage == "output in no folder":
        output = tmp_path / "nowhere" / "output"
    with pytest.raises(SystemExit, match="2"):
        predict.main(arguments(model, folder, output))
    line = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    assert line.startswith("rnn-hf predict: error: ")
    assert message.format(folder) in line
    assert sorted(path.name for path in tmp_path.glob("output/*")) == ["precious"] * (damage == "full output")


def test_without_ray_its_installation_is_named(
    model: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        predict.main(arguments(model, shards, tmp_path / "output", "--num_workers", "2"))
    line = capsys.readouterr().err.splitlines()[-1].split("\r")[-1]
    assert line == 'rnn-hf predict: error: `--num_workers` needs Ray. Install it with `pip install "rnn-hf[ray]"`.'
    assert not (tmp_path / "output").exists()


def own_connections() -> set[str]:
    """The addresses to which this process and those it started are connected."""
    process = psutil.Process()
    family = [process, *process.children(recursive=True)]
    return {each.raddr.ip.removeprefix("::ffff:") for one in family for each in one.net_connections() if each.raddr}


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True], ids=["undisturbed", "with_a_worker_killed"])
def test_two_workers_give_the_answers_of_one_process(
    model: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    connected: set[str] = set()

    # not of a module, so that it is sent to the workers as it is
    class Noting(TableClassifier):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            (tmp_path / f"started-{os.getpid()}").write_text("")

        def __call__(self, table: pa.Table) -> pa.Table:
            deadline = time.monotonic() + 60
            while len(list(tmp_path.glob("started-*"))) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)  # with this process they are three; or one worker would do it all
            with (tmp_path / "notes").open("a") as notes:
                notes.write(f"{os.getpid()} {len(table)}\n")
            if is_killed and 700 in table["id"].to_pylist() and not (tmp_path / "killed").exists():
                (tmp_path / "killed").write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(table)

    atomic_folder = tables.atomic_folder

    def noted(folder: Path) -> object:
        connected.update(own_connections())
        return atomic_folder(folder)

    monkeypatch.setattr(tables, "TableClassifier", Noting)
    monkeypatch.setattr(tables, "atomic_folder", noted)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    output = tmp_path / "output"
    predict.main(arguments(model, shards, output, "--num_workers", "2", "--batch_size", "32"))
    assert_answered(output, shards, model)
    assert [file.name for file in sorted(output.iterdir())] == [f"part-{number:05}.parquet" for number in range(8)]
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    assert connected and connected <= own
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert len({pid for pid, _ in notes}) == 2 + is_killed
    if is_killed:
        assert not psutil.pid_exists(int((tmp_path / "killed").read_text()))
        assert sum(int(size) for _, size in notes) > 1003


@pytest.mark.slow
def test_a_cluster_is_joined_where_it_has_room(model: str, shards: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    context = ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="warning")
    try:
        code = "import sys; from rnn_hf.commands.predict import main; main(sys.argv[1:])"

        def joined(output: str, num_workers: str) -> tuple[int, str]:
            argv = arguments(model, shards, tmp_path / output, "--num_workers", num_workers)
            done = in_new_process(code, *argv, RAY_ADDRESS=context.address_info["gcs_address"])
            return done.returncode, done.stderr

        status, error = joined("refused", "2")
        assert status == 2
        assert "rnn-hf predict: error: `--num_workers` must be below the 2 CPUs of the cluster, got 2." in error
        assert not (tmp_path / "refused").exists()
        status, error = joined("output", "1")
        assert status == 0, error
    finally:
        ray.shutdown()
    assert_answered(tmp_path / "output", shards, model)
