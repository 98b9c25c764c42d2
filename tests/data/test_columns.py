from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.streaming import load_text_stream
from tests.data.files import write_csv, write_folder


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


def test_class_labels_keep_their_order_and_are_not_written_again(tmp_path: Path) -> None:
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


def test_a_missing_label_column_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"columns: text, label\). Pass `label_column_name`"):
        load_text_dataset(test_file=write_csv(tmp_path / "a.csv", ["x"]), label_column_name="kind")


def test_a_missing_or_unclear_text_column_lists_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,body,label\na,b,x\n")
    with pytest.raises(ValueError, match=r"columns: title, body, label\). Pass `text_column_names`"):
        load_text_dataset(test_file=tmp_path / "a.csv")
    with pytest.raises(ValueError, match=r'Text column "head" is not in .*title, body, label.*`text_column_names`'):
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
    with pytest.raises(ValueError, match=r'Label "-1" in row 1 of the "test" split .* not one of the classes a, b'):
        load_text_dataset(str(tmp_path / "f"))


@pytest.mark.parametrize(
    ("problem_type", "labels", "expected"),
    [
        ("single_label_classification", [0.5, 1.0], "one class per row"),
        ("single_label_classification", [[0, 1], [1]], "one class per row"),
        ("multi_label_classification", ["a", "b"], "a list of classes"),
        ("multi_label_classification", [[0.5], [1.0]], "a list of classes"),
        ("regression", ["a", "b"], "a number"),
    ],
)
def test_labels_must_be_what_the_problem_asks_for(
    tmp_path: Path, problem_type: ProblemType, labels: list[object], expected: str
) -> None:
    folder = write_folder(tmp_path / "f", test={"text": ["p", "q"], "label": labels})
    with pytest.raises(ValueError, match=f'Column "label" must hold {expected}.*Pass .*`problem_type`'):
        load_text_dataset(folder, problem_type=problem_type)


def test_a_label_outside_the_training_classes_names_label_split_and_classes(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "a.csv", ["x", "y"]), write_csv(tmp_path / "b.csv", ["y", "z"])
    with pytest.raises(ValueError, match=r'Label "z" in row 1 of the "test" split .*not one of the classes x, y'):
        load_text_dataset(train_file=train, test_file=test, validation_size=0)


@pytest.mark.parametrize("labels", [["dog", "cow"], ["1", "2"]])
def test_labels_a_model_does_not_know_name_both_lists(tmp_path: Path, labels: list[str]) -> None:
    path = write_csv(tmp_path / "a.csv", labels)
    listed = ", ".join(sorted(labels))
    with pytest.raises(ValueError, match=rf"\(labels: {listed}\) is not one of the classes dog, cat"):
        load_text_dataset(test_file=path, label_names=["dog", "cat"])


def test_integers_are_not_taken_for_ids_of_classes_that_were_only_sorted(tmp_path: Path) -> None:
    train, test = write_csv(tmp_path / "a.csv", ["x", "y"]), write_csv(tmp_path / "b.csv", ["0", "1"])
    with pytest.raises(ValueError, match='Label "0" in row 0'):
        load_text_dataset(train_file=train, test_file=test)


# A header and a row of a file, and what its error says is likely
UNNAMED = [
    ("Subject,Body,Category\nhi,all well,x\n", "`text_column_names=Subject Body` `label_column_name=Category`"),
    ("id,review_text,Stars\n1,fine,5\n", "`label_column_name=Stars`"),
    ("The text,kind\nis it,x\nit is,y\nso,x\n", "`text_column_names='The text'` `label_column_name=kind`"),
    ("text,verdict\na,x\nb,y\nc,x\n", "`label_column_name=verdict`"),
    ("title,body,label\na,b,x\n", "`text_column_names=title body`"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "likely"), UNNAMED, ids=[content.split("\n")[0] for content, _ in UNNAMED])
def test_the_first_error_lists_the_columns_and_names_the_likely_ones(
    tmp_path: Path, content: str, likely: str
) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match="columns: ") as error:
        load_text_dataset(train_file=tmp_path / "a.csv")
    assert f" Likely: {likely}." in str(error.value)
    with pytest.raises(ValueError, match="columns: ") as of_stream:
        load_text_stream(train_file=tmp_path / "a.csv")
    assert str(of_stream.value) == str(error.value)


def test_numbers_are_not_taken_for_the_text_of_a_file_without_types(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,words,length,label\n01,a dog,5,x\n02,a cat,5,y\n")
    assert load_text_dataset(test_file=tmp_path / "a.csv")["test"]["text"][:] == ["a dog", "a cat"]
    loaded = load_text_dataset(test_file=tmp_path / "a.csv", text_column_names=["id", "words"])
    assert loaded["test"]["text"][:] == ["01 a dog", "02 a cat"]
