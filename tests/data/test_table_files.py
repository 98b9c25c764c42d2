"""Files of rows give the same rows however they are encoded, compressed, separated and typed."""

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, List

from rnn_hf.data import table_files
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.streaming import load_text_stream
from rnn_hf.data.table_files import TableFile, TableFileError
from rnn_hf.data.text_files import COMPRESSIONS

ROWS = [
    {"text": "Zoë, «enfin»", "label": "01"},
    {"text": "zwei\nZeilen", "label": "1"},
    {"text": "007", "label": "x"},
]
COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.compress(content, codec="zstd", asbytes=True),
}


def spelled(ending: str, delimiter: str = ",") -> str:
    """Return the content of a text file with the rows."""
    if ending == ".csv":
        return f"text{delimiter}label\n" + "".join(f'"{row["text"]}"{delimiter}{row["label"]}\n' for row in ROWS)
    return json.dumps(ROWS, indent=1) if ending == ".json" else "".join(json.dumps(row) + "\n" for row in ROWS)


def rows_in(path: Path, **reading: Any) -> list[dict[str, Any]]:
    return [row for batch in TableFile(path, **reading).batches() for row in batch.to_pylist()]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json"])
def test_a_byte_order_mark_names_the_encoding_and_is_no_part_of_the_rows(
    tmp_path: Path, ending: str, encoding: str
) -> None:
    path = tmp_path / f"rows{ending}"
    path.write_text(spelled(ending), encoding=encoding, newline="")
    assert rows_in(path) == ROWS
    assert rows_in(path, encoding="cp1252") == ROWS


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json"])
def test_text_that_is_not_utf8_names_the_argument_and_loads_with_it(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    path.write_bytes((spelled(".csv") if ending == ".csv" else '{"text": "Zoë", "label": "x"}').encode("cp1252"))
    with pytest.raises(ValueError, match=r"must be UTF-8 text, got .*Save it as UTF-8, or pass .*`encoding=cp1252`"):
        rows_in(path)
    assert rows_in(path, encoding="cp1252")[0]["text"].startswith("Zoë")
    with pytest.raises(ValueError, match="`encoding` must be a text encoding such as utf-8 or cp1252, got 'klingon'"):
        rows_in(path, encoding="klingon")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json"])
def test_a_compressed_file_gives_the_rows_of_the_file(tmp_path: Path, ending: str, compression: str) -> None:
    path = tmp_path / f"rows{ending}{compression}"
    path.write_bytes(COMPRESS[compression](spelled(ending).encode("utf-16")))
    assert rows_in(path) == ROWS
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"must hold rows in the format {ending}"):
        rows_in(path)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_named_and_loads_when_it_is_given(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(spelled(".csv", delimiter))
    with pytest.raises(ValueError, match="separated by ',', but the first line") as error:
        rows_in(path)
    assert f"Pass `delimiter={delimiter!r}`." in str(error.value)
    assert rows_in(path, delimiter=delimiter) == ROWS
    assert rows_in(path, delimiter=repr(delimiter)[1:-1]) == ROWS  # as a shell passes it
    with pytest.raises(ValueError, match="`delimiter` must be one character, got 'ab'"):
        rows_in(path, delimiter="ab")


def test_a_field_more_than_in_the_header_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\none, two,x\nthree, four,y\n")
    with pytest.raises(ValueError, match="must have 2 fields in each row, as in the first line"):
        rows_in(tmp_path / "rows.csv")


def test_batches_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    for ending in (".csv", ".jsonl", ".json"):
        path = tmp_path / f"rows{ending}"
        path.write_text(spelled(ending))
        assert [len(batch) for batch in TableFile(path).batches(2)] == [2, 1]


def test_half_a_character_in_json_becomes_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a \\ud83d"}\n{"text": "b"}\n')
    assert [row["text"] for row in rows_in(tmp_path / "rows.jsonl")] == ["a ?", "b"]


def test_an_array_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    for piece in (1, 7, 64):
        monkeypatch.setattr(table_files, "_PIECE", piece)
        for content in (
            json.dumps(ROWS),
            json.dumps(ROWS, indent=2),
            "\n".join(json.dumps(r, indent=1) for r in ROWS),
        ):
            path.write_text(content)
            assert rows_in(path) == ROWS


# Values of many rows, the value of a later one, and how a column of both stores it
LATE = [
    (3, "unknown", "unknown"),
    (None, "x", "x"),
    (1, 2.5, 2.5),
    ([], ["x"], ["x"]),
    ({"a": 1}, {"b": "x"}, {"a": None, "b": "x"}),
    ("x", 10**30, str(10**30)),
    (1, [2], b"[2]"),
]


@pytest.mark.parametrize(("early", "late", "read"), LATE, ids=[str(late) for _, late, _ in LATE])
@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_a_type_that_changes_late_is_that_of_a_short_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, early: Any, late: Any, read: Any
) -> None:
    monkeypatch.setattr(table_files, "BATCH_ROWS", 10)
    path, schemas = tmp_path / f"rows{ending}", []
    for number in (5, 35):
        rows = [{"value": value} for value in [*[early] * number, late]]
        path.write_text(json.dumps(rows) if ending == ".json" else "\n".join(map(json.dumps, rows)))
        schemas.append(TableFile(path).schema)
        found = [row for batch in TableFile(path).batches(10) for row in batch.to_pylist()]
        assert found[-1]["value"] == read and len(found) == len(rows)
    assert schemas[0].equals(schemas[1])


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_labels_that_become_words_after_many_rows_are_classes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    rows = [
        (f"text {row}", row % 3 if row < 11_000 else "unknown", None if row < 11_000 else "x") for row in range(11_100)
    ]
    if ending == ".csv":
        path.write_text("text,label,note\n" + "".join(f"{text},{label},{note or ''}\n" for text, label, note in rows))
    else:
        path.write_text("\n".join(json.dumps(dict(zip(("text", "label", "note"), row, strict=True))) for row in rows))
    loaded = load_text_dataset(train_file=path, validation_size=0)["train"]
    assert loaded.features["label"] == ClassLabel(names=["0", "1", "2", "unknown"])
    stream, _ = load_text_stream(train_file=path)
    assert stream.features == loaded.features
    assert [label for buffer, _ in stream.buffers(5_000) for label in buffer["label"]] == loaded["label"][:]


TEXTS = ["a dog", "a cat", "a cow"]
NAMES = ["dog", "cat", "cow"]
STRINGS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.large_string())]


@pytest.mark.parametrize("stored", STRINGS, ids=str)
def test_every_type_of_strings_loads(tmp_path: Path, stored: pa.DataType) -> None:
    def column(values: list[str]) -> pa.Array:
        return pa.array(values).cast(stored)

    pq.write_table(pa.table({"text": column(TEXTS), "label": column(NAMES)}), tmp_path / "a.parquet")
    loaded = load_text_dataset(test_file=tmp_path / "a.parquet")["test"]
    assert loaded["text"][:] == TEXTS and loaded.features["label"] == ClassLabel(names=sorted(NAMES))


@pytest.mark.parametrize("items", [*STRINGS[:3], pa.int8(), pa.float64()], ids=str)
@pytest.mark.parametrize("wrap", [pa.list_, pa.large_list], ids=lambda w: w.__name__)
def test_every_type_of_lists_is_several_classes(tmp_path: Path, wrap: Any, items: pa.DataType) -> None:
    values: list[list[Any]] = [["x"], [], ["x", "y"]] if "string" in str(items) else [[3], [], [3, 4]]
    column = pa.array(values, pa.list_(pa.string() if "string" in str(items) else items))
    column = column.cast(pa.list_(items)).cast(wrap(items))
    pq.write_table(pa.table({"text": TEXTS, "label": column}), tmp_path / "a.parquet")
    loaded = load_text_dataset(test_file=tmp_path / "a.parquet", problem_type="multi_label_classification")["test"]
    names = ["x", "y"] if "string" in str(items) else ["3", "4"]
    assert loaded.features["label"] == List(ClassLabel(names=names)) and loaded["label"][:] == [[0], [], [0, 1]]


LISTS, NO_LISTS = pa.list_(pa.string()), pa.list_(pa.null())

# Columns of three rows without a label
MISSING = [pa.nulls(3), pa.nulls(3, LISTS), pa.array([[]] * 3, NO_LISTS), pa.array([[]] * 3, LISTS)]


@pytest.mark.parametrize("missing", MISSING, ids=lambda column: f"{column.type} {column.null_count}")
def test_a_split_without_any_label_has_texts_of_no_class(tmp_path: Path, missing: pa.Array) -> None:
    pq.write_table(pa.table({"text": TEXTS, "label": [["x"], [], ["x", "y"]]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": TEXTS, "label": missing}), tmp_path / "b.parquet")
    loaded = load_text_dataset(train_file=tmp_path / "a.parquet", test_file=tmp_path / "b.parquet", validation_size=0)
    assert loaded["test"]["label"][:] == [[], [], []]
    with pytest.raises(ValueError, match="label"):
        load_text_dataset(train_file=tmp_path / "b.parquet", validation_size=0)


def test_what_polars_writes_loads(tmp_path: Path) -> None:
    frame = pl.DataFrame({"text": TEXTS, "label": [["x"], [], ["x", "y"]], "kind": NAMES})
    frame = frame.with_columns(pl.col("kind").cast(pl.Categorical))
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_ndjson(tmp_path / "a.jsonl")
    for name in ("a.parquet", "a.jsonl"):
        assert load_text_dataset(test_file=tmp_path / name)["test"]["label"][:] == [[0], [], [0, 1]]
        kinds = load_text_dataset(test_file=tmp_path / name, label_column_name="kind", text_column_names=["text"])
        assert kinds["test"].features["label"] == ClassLabel(names=sorted(NAMES))


def test_columns_without_names_may_be_several(tmp_path: Path) -> None:
    """As spreadsheets write them."""
    path = tmp_path / "rows.csv"
    path.write_text("id,,text,,label\n1,,a,,x\n")
    assert TableFile(path).schema.names == ["id", "Unnamed: 1", "text", "Unnamed: 3", "label"]


def test_a_blank_line_of_a_file_of_one_column_is_an_empty_field(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\na\n\n  \nb\n")
    assert [row["text"] for row in rows_in(path)] == ["a", None, "  ", "b"]
    path.write_text("text,label\na,x\n\nb,y\n")
    assert [row["text"] for row in rows_in(path)] == ["a", "b"]


def test_columns_of_one_name_are_refused_in_parquet_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table([["a"], [1], [2]], names=["text", "x", "x"]), path)
    with pytest.raises(TableFileError, match="has 'x' more than once"):
        rows_in(path)
