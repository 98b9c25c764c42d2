import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.sources import clean_text, load_text_dataset
from tests.conftest import in_new_process


def write_csv(path: Path, labels: list[str], texts: list[str] | None = None) -> Path:
    texts = texts or [f"text {row}" for row in range(len(labels))]
    path.write_text("text,label\n" + "".join(f"{t},{label}\n" for t, label in zip(texts, labels, strict=True)))
    return path


def write_folder(folder: Path, **splits: dict[str, list[object]]) -> str:
    (folder / "data").mkdir(parents=True)
    for split, columns in splits.items():
        pa.parquet.write_table(pa.table(columns), folder / "data" / f"{split}-0.parquet")
    return str(folder)


# texts and labels


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


def test_text_columns_are_joined_by_a_blank_and_a_missing_text_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"title": "A", "year": 1999, "body": "b", "label": 0}\n{"title": "C", "body": null, "label": 1}\n'
    )
    texts = load_text_dataset(test_file=path, text_column_names=["title", "year", "body"])["test"]["text"][:]
    assert texts == ["A 1999 b", "C  "]
    assert load_text_dataset(test_file=path, text_column_names=["body"])["test"]["text"][:] == ["b", ""]


def test_the_only_column_of_strings_is_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,question,kind\n1,why,x\n2,who,y\n")
    loaded = load_text_dataset(test_file=tmp_path / "a.csv", label_column_name="kind")
    assert loaded["test"]["text"][:] == ["why", "who"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a", "c"], ["a", "b", "c"]),
        ([10, 9, 2], ["2", "9", "10"]),
        ([True, False, True], ["False", "True"]),
    ],
)
def test_classes_are_the_sorted_labels(tmp_path: Path, labels: list[object], names: list[str]) -> None:
    folder = write_folder(tmp_path / "f", test={"text": ["x"] * 3, "label": labels})
    rows = load_text_dataset(folder)["test"]
    assert rows.features["label"].names == names
    assert [names[label] for label in rows["label"]] == [str(label) for label in labels]


def test_class_labels_keep_their_order_and_lie_where_they_lay(tmp_path: Path) -> None:
    features = Features(text=Value("string"), kind=ClassLabel(names=["z", "a"]))
    (tmp_path / "f").mkdir()
    Dataset.from_dict({"text": ["p", "q"], "kind": [1, 0]}, features=features).to_parquet(tmp_path / "f/train.parquet")
    rows = load_text_dataset(str(tmp_path / "f"), label_column_name="kind", validation_size=0)["train"]
    assert rows.features["label"].names == ["z", "a"]
    assert rows["label"][:] == [1, 0]
    assert not list(tmp_path.rglob("cache-*.arrow"))


def test_labels_are_matched_to_the_names_of_a_model_by_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["cat", "dog"])
    rows = load_text_dataset(test_file=path, label_names=["dog", "bird", "cat"])["test"]
    assert rows["label"][:] == [2, 0]
    assert rows.features["label"].names == ["dog", "bird", "cat"]


def test_unnamed_integers_are_the_ids_of_a_models_classes(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["1", "0"])
    assert load_text_dataset(test_file=path, label_names=["dog", "cat"])["test"]["label"][:] == [1, 0]


def test_integers_that_are_names_of_classes_are_matched_by_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["1", "2"])
    assert load_text_dataset(test_file=path, label_names=["2", "1"])["test"]["label"][:] == [1, 0]


def test_a_test_split_alone_has_the_ids_it_has_beside_the_training_split(tmp_path: Path) -> None:
    train, test = {"text": ["p", "q"], "label": ["a", "b"]}, {"text": ["r"], "label": ["b"]}
    folder = write_folder(tmp_path / "f", train=train, test=test)
    loaded = load_text_dataset(folder, splits=["test"])
    assert list(loaded) == ["test"]
    assert loaded["test"]["label"][:] == [1]


def test_clean_text_is_off_unless_asked_for(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["x"], [r"it #39;s\here"])
    assert load_text_dataset(test_file=path)["test"]["text"][:] == [r"it #39;s\here"]
    assert load_text_dataset(test_file=path, clean_text=True)["test"]["text"][:] == ["it's here"]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("fans #39; joy", "fans' joy"),
        ("in the #39;90s", "in the '90s"),
        ("he said  quot;no quot; (AP)", 'he said "no " (AP)'),
        ('&lt;A HREF="http://a.b/c;1"&gt;IBM&lt;/A&gt; fell', "IBM fell"),
        ("didn rsquo;t &amp; can #8217;t", "didn't & can't"),
        ("Johnson  amp; Johnson", "Johnson & Johnson"),
        ("3 < 4; so 5 > 2", "3 < 4; so 5 > 2"),
        ("Sign up; the image; total", "Sign up; the image; total"),
        ("", ""),
    ],
)
def test_clean_text_mends_what_is_broken_and_nothing_else(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


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
    with pytest.raises(FileNotFoundError, match=r"`--test_file` must be a file, but there is none at .*nowhere\.csv"):
        load_text_dataset(test_file=tmp_path / "nowhere.csv")


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got the directory .* Pass a directory as `--dataset_name`"):
        load_text_dataset(test_file=tmp_path)


def test_a_file_is_not_a_dataset_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["x"])
    with pytest.raises(ValueError, match=r"got the file .*a\.csv\. Pass files as `--train_file`"):
        load_text_dataset(str(path))


def test_an_unknown_extension_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ValueError, match=r"must end in .csv, .tsv, .jsonl, .json, .parquet, got .*a\.xlsx"):
        load_text_dataset(test_file=tmp_path / "a.xlsx")


def test_the_name_of_a_file_is_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` would put its value there, and tell it in its error."""
    monkeypatch.setenv("SECRET", "value")
    for name in ("$SECRET.csv", "a${SECRET}b.csv", "$.csv"):
        (tmp_path / name).write_text("text,label\na,b\na,c\n")
    for name in ("$SECRET.csv", "a${SECRET}b.csv"):
        with pytest.raises(ValueError, match="must not have the name of a variable") as error:
            load_text_dataset(test_file=tmp_path / name)
        assert "value" not in str(error.value)
    assert len(load_text_dataset(test_file=tmp_path / "$.csv")["test"]) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("zero.csv", b""),
        ("header.csv", b"text,label\n"),
        ("ragged.csv", b"text,label\na,b\na,b,c,d\n"),
        ("latin.csv", "text,label\nécole,x\n".encode("latin-1")),
        ("cut.jsonl", b'{"text": "a", "label": 1}\n{"text": '),
        ("zero.jsonl", b""),
        ("empty.json", b"[]"),
        ("junk.parquet", b"PAR1 and nothing else"),
    ],
)
def test_a_broken_or_empty_file_gives_one_line_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"`--test_file` must (hold|have) rows.*{name}") as error:
        load_text_dataset(test_file=tmp_path / name)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is not None


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
    with pytest.raises(ValueError, match=f"`--dataset_config_name` must be one of one, two .*, got {config}"):
        load_text_dataset(str(tmp_path), config)


@pytest.mark.parametrize(
    "environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}], ids=["dead endpoint", "offline"]
)
def test_without_the_hub_the_answer_is_quick_and_names_the_ways_out(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    code = (
        "import time; from rnn_hf.data.sources import load_text_dataset\n"
        "start = time.perf_counter()\n"
        "try: load_text_dataset('fancyzhx/ag_news')\n"
        "except ConnectionError as error: print(error)\n"
        "print(time.perf_counter() - start)"
    )
    result = in_new_process(code, HF_HOME=str(tmp_path / "home"), **environment)
    message, seconds = result.stdout.splitlines()
    assert "Pass a local folder, or `--dataset_name demo`." in message
    assert float(seconds) < 5  # `datasets` alone tries for 23 seconds


def test_a_missing_split_names_those_present(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["x", "y"])
    with pytest.raises(ValueError, match=r'no "validation" split\. Choose from test'):
        load_text_dataset(test_file=path, splits=["validation"])
    with pytest.raises(ValueError, match='`splits` must be of train, validation, test, got "dev"'):
        load_text_dataset(test_file=path, splits=["dev"])


def test_a_missing_label_column_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"columns: text, label\). Pass `--label_column_name`"):
        load_text_dataset(test_file=write_csv(tmp_path / "a.csv", ["x"]), label_column_name="kind")


def test_a_missing_or_unclear_text_column_lists_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,body,label\na,b,x\n")
    with pytest.raises(ValueError, match=r"columns: title, body, label\). Pass `--text_column_names`"):
        load_text_dataset(test_file=tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r'Text column "head" is not in .*title, body, label.*`--text_column_names`'):
        load_text_dataset(test_file=tmp_path / "a.csv", text_column_names=["head"])
    with pytest.raises(ValueError, match='Text column "label" is the label'):
        load_text_dataset(test_file=tmp_path / "a.csv", text_column_names=["title", "label"])


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='got none in row 2 of the "test" split'):
        load_text_dataset(test_file=write_csv(tmp_path / "a.csv", ["1", "2", ""]))


def test_an_unlabelled_class_label_is_named(tmp_path: Path) -> None:
    features = Features(text=Value("string"), label=ClassLabel(names=["a", "b"]))
    (tmp_path / "f").mkdir()
    Dataset.from_dict({"text": ["p", "q"], "label": [1, -1]}, features=features).to_parquet(
        tmp_path / "f/test.parquet"
    )
    with pytest.raises(ValueError, match=r'Label "-1" in row 1 of the "test" split .* none of the classes a, b'):
        load_text_dataset(str(tmp_path / "f"))


@pytest.mark.parametrize(
    ("problem_type", "labels", "expected"),
    [
        ("single_label_classification", [0.5, 1.0], "one class a row"),
        ("single_label_classification", [[0, 1], [1]], "one class a row"),
        ("multi_label_classification", ["a", "b"], "a list of classes"),
        ("multi_label_classification", [[0.5], [1.0]], "a list of classes"),
        ("regression", ["a", "b"], "a number"),
    ],
)
def test_labels_must_be_what_the_problem_asks_for(
    tmp_path: Path, problem_type: ProblemType, labels: list[object], expected: str
) -> None:
    folder = write_folder(tmp_path / "f", test={"text": ["p", "q"], "label": labels})
    with pytest.raises(ValueError, match=f'Column "label" must hold {expected}.*Pass .*`--problem_type`'):
        load_text_dataset(folder, problem_type=problem_type)


def test_a_label_outside_the_training_classes_names_label_split_and_classes(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "a.csv", ["x", "y"]), write_csv(tmp_path / "b.csv", ["y", "z"])
    with pytest.raises(ValueError, match=r'Label "z" in row 1 of the "test" split .*none of the classes x, y'):
        load_text_dataset(train_file=train, test_file=test, validation_size=0)


@pytest.mark.parametrize("labels", [["dog", "cow"], ["1", "2"]])
def test_labels_a_model_does_not_know_name_both_lists(tmp_path: Path, labels: list[str]) -> None:
    path = write_csv(tmp_path / "a.csv", labels)
    listed = ", ".join(sorted(labels))
    with pytest.raises(ValueError, match=rf"\(labels: {listed}\) is none of the classes dog, cat"):
        load_text_dataset(test_file=path, label_names=["dog", "cat"])


def test_integers_are_not_taken_for_ids_of_classes_that_were_only_sorted(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "a.csv", ["x", "y"]), write_csv(tmp_path / "b.csv", ["0", "1"])
    with pytest.raises(ValueError, match='Label "0" in row 0'):
        load_text_dataset(train_file=train, test_file=test)


def test_a_cut_needs_a_class_of_two_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`--validation_size 0`"):
        load_text_dataset(train_file=write_csv(tmp_path / "a.csv", ["x", "y"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_size": 1.0}, "`validation_size` must be at least 0 and below 1, got 1.0"),
        ({"max_train_samples": 0}, "`max_train_samples` must be at least 1, got 0"),
        ({"test_file": "a.csv"}, '`dataset_name` is "demo" but files are given'),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_text_dataset("demo", **arguments)
