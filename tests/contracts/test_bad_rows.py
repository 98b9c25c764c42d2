"""Rows and word vectors that cannot be are refused in one line; an earlier result stays as it is."""

import gzip
import json
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from rnn_hf.commands import evaluate, train
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.word_vectors import read_word_vectors
from tests.refusals import assert_one_line, assert_refused


def parquet(**columns: list[object]) -> bytes:
    """Return the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def lines(*rows: object) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


WHOLE = parquet(text=["a", "b"], label=["x", "y"])

# The name of a file of rows, its bytes, and what is wrong with them
ROWS = [
    ("a.csv", b"", "must hold rows|must have rows"),
    ("a.csv", b"text,label\n", "must have rows, got none"),
    ("a.csv", b"text,label\na,x\n", "must have two rows"),
    ("a.csv", b"words,label\n1,x\n2,y\n", 'no column "text"'),
    ("a.csv", b"text,topic\na,x\nb,y\n", 'Column "label" is not in the dataset'),
    ("a.csv", b"text,label\na,x\nb,\n", "Every row must have a label, got none in row 1"),
    ("a.csv", b"text,label\na,\nb,\n", "label"),
    ("a.csv", b"text,label\na,x,1,2\nb,y\nc,d,e,f,g\n", "must hold rows in the format .csv"),
    ("a.csv", b"text,label\n\xe9t\xe9,x\nb,y\n", "must be UTF-8 text.*encoding=cp1252"),
    ("a.csv", "text,label\na,x\nb,y\n".encode("utf-16-le"), "must be text|must be UTF-8 text"),
    ("a.csv", "text,label\na,x\nb,y\n".encode("utf-16")[:-1], "must be UTF-8 text"),
    ("a.csv", b"text,label\na,x\n" * 30 + b"\xff\xfe\x00\n", "must be UTF-8 text.*encoding=cp1252"),
    ("a.csv", b"text;label\na;x\nb;y\n", "Pass `delimiter=';'`"),
    ("a.csv", b"text,label\na,b,x\nc,d,y\n", "must have 2 fields in each row"),
    ("a.csv", b"text,text,label\na,b,x\nc,d,y\n", "has 'text' more than once. Rename one"),
    ("a.tsv", b"text\tlabel\tlabel\na\tx\ty\nc\ty\tx\n", "has 'label' more than once"),
    ("a.csv", b"\x00" * 100, "a.csv|label"),
    ("a.jsonl", b"", "must hold rows|must have rows"),
    ("a.jsonl", b"{", "must hold rows in the format .jsonl"),
    ("a.jsonl", b"not json\n", "must hold rows in the format .jsonl"),
    ("a.jsonl", b"[1, 2]\n3\n", "must hold rows in the format .jsonl"),
    ("a.jsonl", b'{"text": "a", "label": 0}\n{"text": "b", "label": {"x": 1}}\n', "a.jsonl|must hold"),
    ("a.jsonl", lines({"text": ["a"], "label": 0}, {"text": ["b"], "label": 1}), "must hold strings"),
    ("a.jsonl", lines({"text": {"a": 1}, "label": 0}, {"text": {"a": 2}, "label": 1}), "must hold strings"),
    ("a.jsonl", lines({"text": "a", "label": None}, {"text": "b", "label": None}), "label"),
    ("a.jsonl", lines({"text": "a", "label": {"x": 1}}, {"text": "b", "label": {"x": 2}}), "must hold"),
    ("a.jsonl", lines({"text": "a", "label": [[1]]}, {"text": "b", "label": [[2]]}), "must hold"),
    ("a.jsonl", lines({"text": "a", "label": []}, {"text": "b", "label": []}), "must hold|label"),
    ("a.jsonl", lines({"text": "a", "label": [1.0, 2.0]}, {"text": "b", "label": [1.0]}), "must have 2 numbers"),
    ("a.jsonl", lines({"text": "a", "label": [1, None]}, {"text": "b", "label": [1]}), "must have a label"),
    ("a.jsonl", b'{"text": "a", "label": 1.5}\n{"text": "b", "label": NaN}\n', "a.jsonl|finite"),
    ("a.json", b"{}", "a.json|rows|label"),
    ("a.json", b"[]", "rows|format"),
    ("a.json", b"3", "must hold rows in the format .json"),
    ("a.parquet", b"", "must hold rows in the format .parquet"),
    ("a.parquet", b"PAR1", "must hold rows in the format .parquet"),
    ("a.parquet", WHOLE[:-1], "must hold rows in the format .parquet"),
    ("a.parquet", WHOLE[:40], "must hold rows in the format .parquet"),
    ("a.parquet", b"text,label\na,x\n", "must hold rows in the format .parquet"),
    ("a.parquet", parquet(text=[], label=[]), "rows|label"),
    ("a.parquet", parquet(text=["a", "b"], label=[1.5, float("nan")]), "must be a finite number"),
    ("a.parquet", parquet(text=["a", "b"], label=[1.5, float("inf")]), "must be a finite number"),
    ("a.parquet", parquet(text=[b"\xff"] * 4, label=["x", "y"] * 2), "utf|UTF"),
    ("a.parquet", parquet(text=["a", "b"], label=[b"x", b"y"]), "must hold"),
    ("a.txt", b"a\nb\n", "must end in .csv"),
    ("a", b"text,label\na,x\n", "must end in .csv"),
    ("a.csv.gz", b"\x1f\x8b", "must hold rows in the format .csv"),
    ("a.csv.gz", b"text,label\na,x\nb,y\n", "must hold rows in the format .csv"),
    ("a.jsonl.zst", b"{}", "must hold rows in the format .jsonl"),
    ("a.csv.zip", b"PK", "must end in .csv"),
    ("a.csv", b"PK\x03\x04\x14\x00\x80\xff", "is a ZIP archive or an Excel sheet. Save the sheet as CSV"),
    ("a.csv.gz", gzip.compress(b"text,label\n\xe9t\xe9,x\n", mtime=0), "must be UTF-8 text.*encoding=cp1252"),
    ("a.csv", gzip.compress(b"text,label\na,x\n", mtime=0), "is compressed. Rename it to end in .gz"),
    ("a.jsonl", b'{"text": "a", "label": ' + b"[" * 100_000, "must hold rows in the format .jsonl"),
    ("a.json", b'[{"text": "a", "label": 1}]\n[{"text": "b", "label": 2}]', "nothing may follow the array"),
    ("a.xlsx", b"PK", "Save the sheet as CSV"),
    ("a.pkl", b"\x80\x04.", "must end in .csv"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "says"), ROWS, ids=[f"{n} {c[:40]!r}" for n, c, _ in ROWS])
def test_rows_that_cannot_be_are_refused(
    name: str, content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        load_text_dataset(train_file=path)
    assert_one_line(error.value)
    out = tmp_path / "out"
    out.mkdir()
    (out / "all_results.json").write_text("{}")
    argv = ["--train_file", str(path), "--output_dir", str(out), "--overwrite_output_dir", "--use_cpu"]
    assert_refused("train", argv, str(error.value).split(" (")[0][:40], tmp_path, capsys)


# A file, and the flags that make a run on it work, which the error of one without them names
REMEDIES = [
    ("a.csv", b"Subject,Body,Category\n" + b"hi,all well,x\nhi,not well,y\n" * 9, None),
    ("a.csv.gz", gzip.compress(b"text;label\n" + b"all;x\nwell;y\n" * 9, mtime=0), ["--delimiter", ";"]),
    ("a.csv", b"text\tlabel\n" + b"all\tx\nwell\ty\n" * 9, ["--delimiter", r"\t"]),
    ("a.csv", b"text,label\n" + b"\xe9t\xe9,x\nwell,y\n" * 9, ["--encoding", "cp1252"]),
]


@pytest.mark.parametrize(("name", "content", "flags"), REMEDIES, ids=["columns", "semicolon", "tab", "cp1252"])
def test_the_error_names_the_flags_that_help(
    name: str, content: bytes, flags: list[str] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    argv = ["--train_file", str(path), "--output_dir", str(tmp_path / "out"), "--use_cpu", "--num_train_epochs", "1"]
    with pytest.raises(SystemExit, match="2"):
        train.main(argv)
    said = capsys.readouterr().err.splitlines()[-1]
    if flags is None:
        words = shlex.split(said.partition(" Try: ")[2])
        assert words[:2] == ["rnn-hf", "train"] and words[2 : 2 + len(argv)] == argv
        flags = words[2 + len(argv) :]
        assert flags == ["--text_column_names", "Subject", "Body", "--label_column_name", "Category"]
    else:
        assert f"`{flags[0]} " in said and flags[1] in said
    assert train.main([*argv, *flags])["num_train_examples"] > 0
    assert evaluate.main(
        ["--model_name_or_path", str(tmp_path / "out"), "--test_file", str(path), "--use_cpu", *flags]
    )["accuracy"] >= 0  # fmt: skip


# The bytes of a file of word vectors, and what is wrong with them
VECTORS = [
    (b"", "got no such line"),
    (b"\n\n\n", "got no such line"),
    (b"cat\n", "line 1"),
    (b"1 2 3\n4 5 6\n", "None of the"),
    (b"cat 1 2\ncat 1\n", "line 2"),
    (b"cat 1 2\ndog 1 2 3\n", "line 2"),
    (b"cat 1 two\n", "line 1|None of the"),
    (b"cat nan nan\n", "finite"),
    (b"cat inf 1\n", "finite"),
    (b"cat 1e999 1\n", "finite"),
    (b"cat -1e39 1\n", "finite"),
    (b"cat,1,2\n", "line 1"),
    (b"cat\t1\t2\n", "line 1"),
    (b"2 3\ncat 1 2\n", "line 2"),
    (b"0 0\ncat 1 2\n", "a width of 0"),
    (b"5 2\n", "got no such line"),
    (b"10 2\nbird 1 2\n", "None of the"),
    (b"1000000000000 2\nbird 1 2\n", "None of the"),
    (b"1000000000000 1000000000000\ncat \x00\x01\x02", "which is impossible"),
    (b"2 2\ncat \x00\x00\x80?", "which is impossible"),
    (b"1 2\ncat \x00\x00\xc0\x7f\x00\x00\xc0\x7f", "finite"),
    (b"2 2\n" + b"\x01" * 100, "must|truncated file"),
    (bytes(range(256)), "must"),
    (b"\x80\x04\x95", "must"),
    (b"PK\x03\x04" + b"\x00" * 50, "must be text"),
    (b"\x1f\x8b", "must be a valid|truncated file"),
    (b"\x1f\x8bgarbage", "must be a valid|truncated file"),
    (b"\xba\x16O/" + b"\x00" * 10, "truncated file"),
    (b"\xba\x16O/\x0c\x00\x00\x00" + b"\xff" * 200, "fastText|truncated file|impossible for its size|must"),
    ("cat 1 2\n".encode("utf-16"), "must"),
    (b"cat 1 2\n\xe9 1 2\n", "must be UTF-8 text"),
]


@pytest.mark.parametrize(("content", "says"), VECTORS, ids=[repr(content[:30]) for content, _ in VECTORS])
def test_word_vectors_that_cannot_be_are_refused(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        read_word_vectors(path, {"cat": 0, "dog": 1, "absent": 2})
    assert_one_line(error.value)
    assert str(path) in str(error.value)
