"""Tables whose texts are classified: every row keeps its columns and its position."""

import codecs
import csv
import gzip
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnn_hf import TextClassifier
from rnn_hf.commands import predict, tables_of_answers, train
from tests.tiny_classifiers import make_classifier

TEXTS = ["the cat, sat", "a dog", None, 'a "mat" ! é']


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    classifier = make_classifier()
    folder = tmp_path_factory.mktemp("model")
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return str(folder)


def save(path: Path, delimiter: str = ",") -> Path:
    """Write a table of codes and texts in the format of its ending."""
    rows = [{"id": f"{number:02}", "text": text} for number, text in enumerate(TEXTS)]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".jsonl", ".json"):
        lines = [json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) if path.suffix == ".jsonl" else json.dumps(rows))
    elif path.suffix == ".tsv":
        path.write_text("\n".join(["id\ttext", *(f"{row['id']}\t{row['text'] or ''}" for row in rows)]))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


def rows_of(path: Path, delimiter: str = ",") -> list[dict[str, Any]]:
    """Read a table independently of the package; an empty field is a missing value."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".json":
        return list(json.loads(path.read_text()))
    if path.suffix == ".tsv":
        header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
        return [dict(zip(header, [field or None for field in line], strict=True)) for line in lines]
    with path.open(newline="") as file:
        return [
            {name: field or None for name, field in row.items()} for row in csv.DictReader(file, delimiter=delimiter)
        ]


def run(model: str, *argv: str | Path) -> None:
    predict.main(["--model_name_or_path", model, *map(str, argv)])


@pytest.mark.parametrize("output", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("source", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_row_keeps_its_columns_and_gets_its_answer(model: str, tmp_path: Path, source: str, output: str) -> None:
    file, written = save(tmp_path / f"rows{source}"), tmp_path / f"out{output}"
    run(model, "--input_file", file, "--output_file", written)
    rows = rows_of(written)
    assert [row["id"] for row in rows] == ["00", "01", "02", "03"]
    assert [row["text"] for row in rows] == TEXTS
    classifier = TextClassifier.from_pretrained(model)
    probabilities = classifier.predict_proba([text or "" for text in TEXTS])
    assert [row["label"] for row in rows] == classifier.answers(probabilities)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], probabilities.max(axis=1), atol=1e-5)


def test_pieces_of_a_table_keep_their_order(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "rows.csv")
    run(model, "--input_file", file, "--output_file", tmp_path / "whole.csv")
    monkeypatch.setattr(tables_of_answers, "CHUNK_SIZE", 3)
    run(model, "--input_file", file, "--output_file", tmp_path / "pieces.csv")
    assert (tmp_path / "pieces.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_without_an_output_file_a_table_is_written_in_its_own_format(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(model, "--input_file", save(tmp_path / "rows.csv", ";"), "--delimiter", ";")
    assert capsys.readouterr().out.splitlines()[0] == "id;text;label;probability"
    run(model, "--input_file", save(tmp_path / "rows.parquet"))
    assert list(json.loads(capsys.readouterr().out.splitlines()[0])) == ["id", "text", "label", "probability"]


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, "utf-16", "utf-32", "gzip", "cp1252"])
def test_marks_encodings_and_compressions_change_no_answer(
    model: str, tmp_path: Path, mark: bytes | str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "rows.csv")
    run(model, "--input_file", file)
    expected, content = capsys.readouterr().out, file.read_bytes()
    encoding: list[str] = []
    if isinstance(mark, bytes):
        file.write_bytes(mark + content)
    elif mark == "gzip":
        file = tmp_path / "rows.csv.gz"
        file.write_bytes(gzip.compress(content))
    else:
        file.write_text(content.decode(), encoding=mark, newline="")
        encoding = ["--encoding", mark] if mark == "cp1252" else []
    run(model, "--input_file", file, *encoding)
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_marks_are_no_part_of_the_first_line(
    model: str, tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for name in ("utf-8", encoding):
        (tmp_path / "lines.txt").write_text("the\rcat\na dog\r\n", encoding=name, newline="")
        run(model, "--input_file", tmp_path / "lines.txt", "--all_probabilities")
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == 2


def test_a_column_of_the_name_of_an_answer_stays(model: str, tmp_path: Path) -> None:
    file, written = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    # the second row alone has it
    file.write_text('{"text": "a dog"}\n{"text": "the cat", "label": "gold"}\n')
    run(model, "--input_file", file, "--output_file", written, "--top_k", "1")
    first, second = rows_of(written)
    assert list(first) == ["text", "predicted_label", "predicted_probability", "predicted_top_k"]
    assert second["label"] == "gold"
    assert second["predicted_top_k"] == [
        {"label": second["predicted_label"], "probability": second["predicted_probability"]}
    ]


def test_rows_of_json_lines_are_written_as_they_stand_in_the_file(model: str, tmp_path: Path) -> None:
    rows = [{"text": "a dog", "n": 1, "more": {"a": [1]}}, {"n": 2.5, "text": "the cat"}, {"text": "", "n": "x\u0007"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run(model, "--input_file", tmp_path / "rows.jsonl", "--output_file", tmp_path / "out.jsonl")
    written = [
        {name: row[name] for name in old} for old, row in zip(rows, rows_of(tmp_path / "out.jsonl"), strict=True)
    ]
    assert list(map(repr, written)) == list(map(repr, rows))


@pytest.mark.parametrize("output", [".jsonl", ".csv", ".parquet"])
def test_a_label_that_is_not_probable_enough_is_left_empty(model: str, tmp_path: Path, output: str) -> None:
    save(tmp_path / "rows.csv")
    for name, least in (("all", "0"), ("some", "0.35"), ("none", "1")):
        run(
            model, "--input_file", tmp_path / "rows.csv", "--output_file", tmp_path / f"{name}{output}",
            "--min_probability", least, "--top_k", "2",
        )  # fmt: skip
    full, some, none = (rows_of(tmp_path / f"{name}{output}") for name in ("all", "some", "none"))
    for row, partly, empty in zip(full, some, none, strict=True):
        assert row["label"] is not None
        assert partly["label"] == (row["label"] if float(row["probability"]) >= 0.35 else None)
        assert empty["label"] is None
        assert row["probability"] == partly["probability"] == empty["probability"]
        best = row["top_k"] if isinstance(row["top_k"], list) else json.loads(row["top_k"])
        assert [len(best), best[0]["label"]] == [2, row["label"]]


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_texts_are_read_from_the_columns_of_the_training_data(tmp_path: Path, streaming: str) -> None:
    file, folder = tmp_path / "rows.csv", tmp_path / "run"
    lines = [f"t{number},the {'cup' if number % 2 else 'oil'},{number % 2},x" for number in range(40)]
    file.write_text("\n".join(["Subject,Body,label,text", *lines]))
    train.main([
        "--train_file", str(file), "--text_column_names", "Subject", "Body", "--streaming", streaming,
        "--max_steps", "1", "--hidden_size", "4", "--embedding_size", "4", "--output_dir", str(folder),
    ])  # fmt: skip
    assert TextClassifier.from_pretrained(folder).model.config.text_column_names == ["Subject", "Body"]
    run(str(folder), "--input_file", file, "--output_file", tmp_path / "out.csv", "--all_probabilities")
    run(
        str(folder), "--input_file", file, "--output_file", tmp_path / "named.csv", "--all_probabilities",
        "--text_column_names", "Subject", "Body",
    )  # fmt: skip
    assert (tmp_path / "out.csv").read_text() == (tmp_path / "named.csv").read_text()


@pytest.mark.parametrize(
    ("name", "content", "argv", "message"),
    [
        ("rows.xlsx", b"PK", [], "Save the sheet as CSV."),
        ("rows.csv", "text\nthé\n".encode("cp1252"), [], "such as `--encoding cp1252`"),
        ("rows.txt", "a\nthé\n".encode("cp1252"), [], "such as `--encoding cp1252`"),
        ("rows.txt", b"a", ["--encoding", "utf-99"], "`--encoding` must be a text encoding"),
        ("rows.csv", b"id;text\n1;a\n", [], "Pass `--delimiter ';'`"),
        ("rows.csv", b"title,body\na,b\n", [], "Pass `--text_column_names`"),
        ("rows.csv", b"text,x\na,b\n", ["--text_column_names", "y"], 'Text column "y" is not'),
        ("rows.csv", b"text,label,predicted_label\na,b,c\n", [], 'must not have the column "predicted_label"'),
        ("rows.csv", b"", [], "got none in"),
        ("rows.jsonl", b'{"text": "a"}\n{"text"', [], "must hold rows in the format .jsonl"),
        ("rows.parquet", b"PAR1", [], "must hold rows in the format .parquet"),
        ("rows.txt", b"a", ["--text_column_names", "y"], "`--text_column_names` needs a table"),
        ("rows.txt", b"a", ["--input_format", "table"], "must end in .csv"),
        ("rows.txt", b"a", ["--output_file", "out.xlsx"], "`--output_file` must end in .csv"),
        ("rows.txt", b"a", ["--output_file", "out.csv.gz"], "`--output_file` must end in .csv"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(
    model: str, tmp_path: Path, name: str, content: bytes, argv: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / name).write_bytes(content)
    output = [] if "--output_file" in argv else ["--output_file", tmp_path / "out.jsonl"]
    with pytest.raises(SystemExit, match="2"):
        run(model, "--input_file", tmp_path / name, *output, *argv)
    *_, line = capsys.readouterr().err.splitlines()  # after the bar of the loaded weights
    assert line.startswith("rnn-hf predict: error: ")
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing is left of the output


def test_lines_of_a_table_are_lines_if_asked_for(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines.csv").write_text("id,text\n1,a dog\n")
    run(model, "--input_file", tmp_path / "lines.csv", "--input_format", "lines")
    assert [list(json.loads(line)) for line in capsys.readouterr().out.splitlines()] == [["label", "probability"]] * 2


@pytest.mark.parametrize(
    ("argv", "flag"),
    [(["--input_file", "rows.csv"], "input_file"), (["--text", "a", "--output_file", "a.parquet"], "output_file")],
)
def test_what_needs_the_packages_of_an_extra_says_which(
    model: str,
    argv: list[str],
    flag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("rows.csv"))
    monkeypatch.delitem(sys.modules, "rnn_hf.commands.tables_of_answers")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SystemExit, match="2"):
        run(model, *argv)
    *_, line = capsys.readouterr().err.splitlines()
    assert f"`--{flag}` needs the package pyarrow. Run `pip install" in line


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_half_a_surrogate_pair_in_json_is_written_as_a_question_mark(model: str, ending: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a \\ud83d"}\n')
    output = tmp_path / f"out{ending}"
    files = ["--input_file", str(tmp_path / "rows.jsonl"), "--output_file", str(output)]
    predict.main(["--model_name_or_path", model, *files])
    (row,) = rows_of(output)
    assert row["text"] in ("a ?", "a \ud83d")  # in JSON, it is escaped as it was
    assert row["label"]


def test_the_error_of_a_table_without_the_columns_of_the_text_is_the_command_that_works(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("id,Subject,Body\n1,hi,all well\n2,hi,not well\n")
    argv = ["--model_name_or_path", model, "--input_file", str(tmp_path / "rows.csv")]
    with pytest.raises(SystemExit, match="2"):
        predict.main(argv)
    words = shlex.split(capsys.readouterr().err.splitlines()[-1].partition(" Try: ")[2])
    assert words == ["rnn-hf", "predict", *argv, "--text_column_names", "Subject", "Body"]
    predict.main(words[2:])
    assert len(capsys.readouterr().out.splitlines()) == 3
