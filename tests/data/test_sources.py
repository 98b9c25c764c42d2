import json
from collections import Counter
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from rnn_hf.data.sources import iterate_texts, load_text_dataset
from rnn_hf.data.streaming import load_text_stream
from tests.data.files import write_csv


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_file_format_gives_the_same_rows(tmp_path: Path, extension: str) -> None:
    rows = [{"text": 'he said "NA"', "label": "None"}, {"text": "null", "label": "b"}]
    path = tmp_path / f"rows[1].{extension}"
    if extension == "csv":
        path.write_text('text,label\n"he said ""NA""",None\nnull,b\n')
    elif extension == "tsv":
        path.write_text('text\tlabel\nhe said "NA"\tNone\nnull\tb\n')
    elif extension == "parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text(json.dumps(rows) if extension == "json" else "\n".join(map(json.dumps, rows)))
    loaded = load_text_dataset(test_file=path)
    assert loaded["test"].features == Features(text=Value("string"), label=ClassLabel(names=["None", "b"]))
    assert loaded["test"][:] == {"text": ['he said "NA"', "null"], "label": [0, 1]}


def test_a_stray_quote_in_a_tsv_does_not_swallow_lines(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"one\tx\ntwo\ty\n"three\tx\n')
    assert load_text_dataset(test_file=tmp_path / "a.tsv")["test"]["text"][:] == ['"one', "two", '"three']


def test_the_demo_has_the_three_splits() -> None:
    loaded = load_text_dataset("demo")
    assert list(loaded) == ["train", "validation", "test"]
    assert len(loaded["train"]) == 3800 and len(loaded["validation"]) == 200


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_every_name_of_a_validation_split_is_known(tmp_path: Path, name: str) -> None:
    rows = {"text": ["a", "b"], "label": ["x", "y"]}
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: a.parquet\n"
        f"  - split: {name}\n    path: b.parquet\n---\n"
    )
    Dataset.from_dict(rows).to_parquet(folder / "a.parquet")
    Dataset.from_dict({"text": ["c"], "label": ["y"]}).to_parquet(folder / "b.parquet")
    loaded = load_text_dataset(str(folder))
    assert len(loaded["train"]) == 2
    assert loaded["validation"][:] == {"text": ["c"], "label": [1]}


def test_texts_come_in_order_also_from_a_selection() -> None:
    dataset = Dataset.from_dict({"text": [f"text {row}" for row in range(100)]}).select([5, 3, 99])
    assert list(iterate_texts(dataset, batch_size=2)) == ["text 5", "text 3", "text 99"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_saved_dataset_is_the_training_split(tmp_path: Path, streaming: bool) -> None:
    rows = Dataset.from_dict({"text": [f"text {row}" for row in range(6)], "label": ["b", "a"] * 3})
    rows.with_format("numpy").select([5, 0, 1, 2]).save_to_disk(tmp_path / "one")
    DatasetDict(train=rows, test=rows.select([3])).save_to_disk(tmp_path / "several")
    if streaming:
        stream, others = load_text_stream(str(tmp_path / "one"))
        assert list(stream.iterate_texts()) == ["text 5", "text 0", "text 1", "text 2"] and not others
        assert load_text_stream(str(tmp_path / "several"))[1]["test"]["text"][:] == ["text 3"]
        return
    loaded = load_text_dataset(str(tmp_path / "one"), validation_size=0)
    assert list(loaded) == ["train"]
    assert loaded["train"][:] == {"text": ["text 5", "text 0", "text 1", "text 2"], "label": [0, 1, 0, 1]}
    several = load_text_dataset(str(tmp_path / "several"), validation_size=0)
    assert {split: len(rows) for split, rows in several.items()} == {"train": 6, "test": 1}
    (tmp_path / "one" / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(ValueError, match=r"one\" could not be read as a dataset"):
        load_text_dataset(str(tmp_path / "one"))


@pytest.mark.parametrize("streaming", [False, True])
def test_the_files_of_a_folder_are_read_as_a_file_is(tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "train-0.csv").write_bytes("text;label\né 007;01\nb;1\n".encode("cp1252"))
    (tmp_path / "train-1.csv").write_bytes(b"text;label\nc;A1\n")
    (tmp_path / "test.csv").write_bytes(b"text;label\nd;1\n")
    reading = {"delimiter": ";", "encoding": "cp1252"}
    if streaming:
        stream, others = load_text_stream(str(tmp_path), **reading)
        assert list(stream.iterate_texts()) == ["é 007", "b", "c"] and others["test"]["label"][:] == [1]
        return
    loaded = load_text_dataset(str(tmp_path), validation_size=0, **reading)
    assert loaded["train"].features["label"].names == ["01", "1", "A1"]
    assert loaded["train"]["text"][:] == ["é 007", "b", "c"] and loaded["test"]["label"][:] == [1]
    with pytest.raises(ValueError, match=r"Each file of .* separated by .*train-0\.csv.*Pass `delimiter=';'`"):
        load_text_dataset(str(tmp_path), encoding="cp1252")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["x", "y"])
    assert len(load_text_dataset(test_file=path)["test"]) == 2
    write_csv(path, ["x", "y", "z"])
    assert len(load_text_dataset(test_file=path)["test"]) == 3


# splits


def test_the_validation_cut_is_stratified_seeded_and_a_partition(tmp_path: Path) -> None:
    labels = ["a"] * 60 + ["b"] * 39 + ["c"]
    path = write_csv(tmp_path / "a.csv", labels)
    loaded = load_text_dataset(train_file=path, validation_size=0.1)
    again = load_text_dataset(train_file=path, validation_size=0.1)
    other = load_text_dataset(train_file=path, validation_size=0.1, seed=1)
    assert Counter(loaded["validation"]["label"]) == {0: 6, 1: 4}
    assert sorted([*loaded["train"]["text"], *loaded["validation"]["text"]]) == sorted(f"text {i}" for i in range(100))
    assert loaded["validation"]["text"][:] == again["validation"]["text"][:]
    assert loaded["validation"]["text"][:] != other["validation"]["text"][:]


def test_the_validation_split_is_the_same_with_and_without_the_training_split(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["a", "b"] * 20)
    alone = load_text_dataset(train_file=path, splits=["validation"])
    assert list(alone) == ["validation"]
    assert alone["validation"]["text"][:] == load_text_dataset(train_file=path)["validation"]["text"][:]


def test_a_sample_of_the_training_rows_leaves_the_validation_split_alone(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["a", "b"] * 50)
    whole, sample = (load_text_dataset(train_file=path, max_train_samples=n) for n in (None, 10))
    assert len(sample["train"]) == 10
    assert set(sample["train"]["text"]) < set(whole["train"]["text"])
    assert sample["validation"]["text"][:] == whole["validation"]["text"][:]
    assert sample["train"]["text"][:] != whole["train"]["text"][:10]


# errors


def test_a_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`test_file` must be a file, but there is none at .*nowhere\.csv"):
        load_text_dataset(test_file=tmp_path / "nowhere.csv")


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got the directory .* Pass a directory as `dataset_name`"):
        load_text_dataset(test_file=tmp_path)


def test_a_file_is_not_a_dataset_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["x"])
    with pytest.raises(ValueError, match=r"got the file .*a\.csv\. Pass files as `train_file`"):
        load_text_dataset(str(path))


def test_an_unknown_extension_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ValueError, match=r"must end in .csv, .tsv, .jsonl, .json, .parquet, got .*a\.xlsx"):
        load_text_dataset(test_file=tmp_path / "a.xlsx")


def test_the_name_of_a_file_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` would insert the value of a variable, and show it in an error."""
    monkeypatch.setenv("SECRET", "value")
    for name in ("$SECRET.csv", "a${SECRET}b.csv", "$.csv", "a*[b]?.csv", "a::b.csv"):
        (tmp_path / name).write_text("text,label\na,b\na,c\n")
        assert len(load_text_dataset(test_file=tmp_path / name)["test"]) == 2
        (tmp_path / name).write_text("text;label\na;b\n")
        with pytest.raises(ValueError, match="separated by") as error:
            load_text_dataset(test_file=tmp_path / name)
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("zero.csv", b""),
        ("header.csv", b"text,label\n"),
        ("ragged.csv", b"text,label\na,b\na,b,c,d\n"),
        ("cut.jsonl", b'{"text": "a", "label": 1}\n{"text": '),
        ("zero.jsonl", b""),
        ("empty.json", b"[]"),
        ("junk.parquet", b"PAR1 and nothing else"),
    ],
)
def test_a_broken_or_empty_file_gives_one_line_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"`test_file` must (hold|have) rows.*{name}") as error:
        load_text_dataset(test_file=tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../nowhere", "./nowhere", "/nowhere/at/all", "a/b/c", "~/nowhere-at-all"])
def test_what_looks_like_a_path_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_text_dataset(name)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match="doesn't contain any data files"):
        load_text_dataset(str(tmp_path / "f"))


@pytest.mark.parametrize("config", [None, "three"])
def test_a_missing_or_unknown_configuration_lists_those_there_are(tmp_path: Path, config: str | None) -> None:
    for name in ("one", "two"):
        write_csv(tmp_path / f"{name}.csv", ["x"])
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: one.csv\n- config_name: two\n  data_files: two.csv\n---\n"
    )
    with pytest.raises(ValueError, match=f"`dataset_config_name` must be one of one, two .*, got {config}"):
        load_text_dataset(str(tmp_path), config)


def test_a_missing_split_names_those_present(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["x", "y"])
    with pytest.raises(ValueError, match=r'no "validation" split\. Choose from test'):
        load_text_dataset(test_file=path, splits=["validation"])
    with pytest.raises(ValueError, match='`splits` must contain only train, validation, test, got "dev"'):
        load_text_dataset(test_file=path, splits=["dev"])


def test_a_cut_needs_a_class_of_two_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`validation_size=0`"):
        load_text_dataset(train_file=write_csv(tmp_path / "a.csv", ["x", "y"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_size": 1.0}, "`validation_size` must be at least 0 and below 1, got 1.0"),
        ({"max_train_samples": 0}, "`max_train_samples` must be at least 1, got 0"),
        ({"test_file": "a.csv"}, '`dataset_name` is "demo" but files are also given'),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_text_dataset("demo", **arguments)
