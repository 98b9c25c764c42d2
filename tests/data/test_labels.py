import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.batching import EncodedRows, PaddingCollator
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.label_spellings import choice_of_problem
from rnn_hf.data.labels import label_names_of, problem_type_of
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.streaming import load_text_stream
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.data.files import write_csv


def write_labels(path: Path, labels: list[Any]) -> Path:
    rows = [json.dumps({"text": f"text {row}", "label": label}) for row, label in enumerate(labels)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        ([["b", "a"], [], ["b"]], ["a", "b"], [[1, 0], [], [1]]),
        ([[10, 9], [], [10]], ["9", "10"], [[1, 0], [], [1]]),
        # as many 0 and 1 in each row say which classes hold
        ([[1, 1], [0, 0], [0, 1]], ["0", "1"], [[0, 1], [], [1]]),
        ([[True, True], [False, False], [False, True]], ["0", "1"], [[0, 1], [], [1]]),
    ],
)
def test_lists_are_several_classes(tmp_path: Path, labels: list[Any], names: list[str], ids: list[list[int]]) -> None:
    rows = load_text_dataset(test_file=write_labels(tmp_path / "a.jsonl", labels))["test"]
    assert problem_type_of(rows) == "multi_label_classification"
    assert label_names_of(rows) == names
    assert rows["label"][:] == ids


def test_a_list_of_class_labels_keeps_its_names(tmp_path: Path) -> None:
    features = Features(text=Value("string"), label=List(ClassLabel(names=["c", "b", "a"])))
    (tmp_path / "f").mkdir()
    Dataset.from_dict({"text": ["x", "y"], "label": [[0, 1], [1, 0]]}, features=features).to_parquet(
        tmp_path / "f/test.parquet"
    )
    rows = load_text_dataset(str(tmp_path / "f"))["test"]
    assert label_names_of(rows) == ["c", "b", "a"]
    assert rows["label"][:] == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("labels", "names"), [([["b"], ["a"]], ["b", "a"]), ([[1, 0], [0, 1]], ["b", "a"])])
def test_several_classes_are_those_of_the_model(tmp_path: Path, labels: list[Any], names: list[str]) -> None:
    path = write_labels(tmp_path / "a.jsonl", labels)
    rows = load_text_dataset(test_file=path, label_names=names, problem_type="multi_label_classification")["test"]
    assert label_names_of(rows) == names and rows["label"][:] == [[0], [1]]


@pytest.mark.parametrize("labels", [[0.5, 2.0, -1.0], [[0.5, 1.0], [2.0, 0.0], [-1.0, 3.5]]])
def test_numbers_are_a_regression(tmp_path: Path, labels: list[Any]) -> None:
    rows = load_text_dataset(test_file=write_labels(tmp_path / "a.jsonl", labels))["test"]
    assert problem_type_of(rows) == "regression"
    assert len(label_names_of(rows)) == np.asarray(labels).reshape(3, -1).shape[1]
    assert rows["label"][:] == labels


def test_a_regression_on_whole_numbers_is_asked_for(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "a.jsonl", [1, 5])
    assert problem_type_of(load_text_dataset(test_file=path)["test"]) == "single_label_classification"
    assert problem_type_of(load_text_dataset(test_file=path, problem_type="regression")["test"]) == "regression"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([["b", "a"], [], ["b"]], [[1.0, 1], [0, 0], [0, 1]]),
        ([0.5, 2.0, -1.0], [0.5, 2, -1]),
        ([[0.5, 1.0], [2.0, 0.0], [-1.0, 3.5]], [[0.5, 1], [2, 0], [-1, 3.5]]),
    ],
)
def test_labels_that_are_numbers_reach_the_batch_as_floats(
    tmp_path: Path, labels: list[Any], expected: list[Any]
) -> None:
    dataset = load_text_dataset(test_file=write_labels(tmp_path / "a.jsonl", labels))
    tokenizer = train_tokenizer(["text 0"])
    rows = EncodedRows(encode_dataset(dataset, tokenizer, 9)["test"])
    batch = PaddingCollator(0)(rows.__getitems__([2, 0, 1]))
    assert str(batch["labels"].dtype) == "torch.float32"
    assert batch["labels"].tolist() == [expected[2], expected[0], expected[1]]


def test_the_validation_rows_of_several_classes_are_cut_at_random(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "a.jsonl", [["a"]] * 50 + [["b", "a"]] * 50)
    loaded = load_text_dataset(train_file=path, validation_size=0.1)
    assert (len(loaded["train"]), len(loaded["validation"])) == (90, 10)
    assert sorted(loaded["train"]["text"][:] + loaded["validation"]["text"][:]) == sorted(
        f"text {i}" for i in range(100)
    )


@pytest.mark.parametrize(
    ("train", "test", "problem_type", "message"),
    [
        ([["a"], ["b"]], [["a"], ["a", "c"]], None, 'Label "c" in row 1 of the "test" split'),
        ([["a"], ["b"]], [["a"], None], None, 'got none in row 1 of the "test" split'),
        ([[1, 0], [0, 1]], [[1, 0], [1, 0, 0]], None, "Every row must have 2 numbers"),
        ([0.5, 1.5], [0.5, None], None, 'got none in row 1 of the "test" split'),
        (
            [[0.5, 1.5], [1.0, 2.0]],
            [[0.5, 1.5], [1.0]],
            None,
            'Every row must have 2 numbers in "label", got 1 in row 1',
        ),
        ([0.5, 1.5], [[0.5], [1.5]], None, "one number per row as in training"),
        ([["a"], ["b"]], [["a"]], "regression", "must hold a number"),
    ],
)
def test_rows_that_do_not_fit_are_named(
    tmp_path: Path, train: list[Any], test: list[Any], problem_type: ProblemType | None, message: str
) -> None:
    files = {"train": write_labels(tmp_path / "a.jsonl", train), "test": write_labels(tmp_path / "b.jsonl", test)}
    with pytest.raises(ValueError, match=message):
        load_text_dataset(
            train_file=files["train"], test_file=files["test"], problem_type=problem_type, validation_size=0
        )


def test_a_number_that_is_not_finite_is_named(tmp_path: Path) -> None:
    Dataset.from_dict({"text": ["x", "y"], "label": [1.0, float("inf")]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match='got NaN or infinity in row 1 of the "test" split'):
        load_text_dataset(test_file=tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("labels", "names"), [([0.5, 1.5], ["a", "b"]), ([[0.5], [1.5]], ["a", "b"]), ([[], []], None)]
)
def test_there_are_as_many_numbers_as_the_model_gives(
    tmp_path: Path, labels: list[Any], names: list[str] | None
) -> None:
    Dataset.from_dict(
        {"text": ["x", "y"], "label": labels},
        features=Features(
            text=Value("string"), label=Value("float64") if labels[0] == 0.5 else List(Value("float64"))
        ),
    ).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r'Every row must have (2 numbers|at least one number) in "label", got'):
        load_text_dataset(test_file=tmp_path / "a.parquet", label_names=names)


# Labels as a CSV file spells them, and why they are classes
CODES = [
    (["1", "01", "2"], "'01' has a leading zero"),
    (["01", "02", "10"], "'01' has a leading zero"),
    (["3.1", "3.10", "3.9"], "'3.1' and '3.10' are the same number"),
    (["1E5", "2E3", "3E4"], "'1E5' has an exponent"),
    (["1", "2", "3"], "'1' has no decimal point"),
    (["1.5", "2", "3.5"], "'2' has no decimal point"),
    (["0.5", "1.5", "2.5"], "only 3 numbers occur"),
    (["1.5", "n/a"], None),
    (["TRUE", "False"], None),
]
MANY = [f"{number / 4:.2f}" for number in range(-40, 40)]


@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize(("codes", "reason"), CODES, ids=[" ".join(codes) for codes, _ in CODES])
def test_codes_in_a_file_without_types_are_classes_as_they_are_spelled(
    tmp_path: Path, codes: list[str], reason: str | None, delimiter: str
) -> None:
    path = tmp_path / ("a.csv" if delimiter == "," else "a.tsv")
    path.write_text(f"text{delimiter}label\n" + "".join(f"00{code}{delimiter}{code}\n" for code in codes * 2))
    for streaming in (False, True):
        if streaming:
            stream, _ = load_text_stream(train_file=path)
            rows = next(stream.buffers(100))[0]
        else:
            rows = load_text_dataset(test_file=path)["test"]
        assert sorted(label_names_of(rows)) == sorted(codes)
        assert rows["text"][:] == [f"00{code}" for code in codes * 2]
        assert [rows.features["label"].names[label] for label in rows["label"]] == codes * 2
    line = choice_of_problem("single_label_classification", label_names_of(rows))
    expected = f"The labels are classes, because {reason}. For numbers pass `problem_type=regression`."
    assert line == (None if reason is None else expected)


@pytest.mark.parametrize("extra", ["07.25", "1e3", "3", "0.250", "+1.75", ".5", "5.", "x"])
def test_labels_of_a_csv_file_are_a_regression_only_if_all_are_decimal_numbers(tmp_path: Path, extra: str) -> None:
    path = write_csv(tmp_path / "a.csv", MANY)
    rows = load_text_dataset(test_file=path)["test"]
    assert problem_type_of(rows) == "regression" and rows["label"][:] == [float(label) for label in MANY]
    stream, _ = load_text_stream(train_file=path)
    assert problem_type_of(stream) == "regression"
    line = choice_of_problem("regression", label_names_of(rows))
    assert line is not None and "`problem_type=single_label_classification`" in line
    rows = load_text_dataset(test_file=path, problem_type="single_label_classification")["test"]
    assert sorted(label_names_of(rows)) == sorted(MANY)
    rows = load_text_dataset(test_file=write_csv(tmp_path / "b.csv", [*MANY, extra]))["test"]
    assert extra in label_names_of(rows) and problem_type_of(rows) == "single_label_classification"


def test_decimal_numbers_that_a_typed_file_holds_as_strings_are_classes(tmp_path: Path) -> None:
    rows = load_text_dataset(test_file=write_labels(tmp_path / "a.jsonl", MANY))["test"]
    assert sorted(label_names_of(rows)) == sorted(MANY)


def test_a_regression_on_a_csv_file_is_asked_for(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["1", " 2.5", "3e1"])
    assert load_text_dataset(test_file=path, problem_type="regression")["test"]["label"][:] == [1.0, 2.5, 30.0]
    with pytest.raises(ValueError, match=r'must hold a number.*, got "x" in row 1 of the "test" split'):
        load_text_dataset(test_file=write_csv(path, ["1", "x"]), problem_type="regression")


@pytest.mark.parametrize("whole", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("floats", [".csv", ".jsonl", ".parquet"])
def test_whole_floats_are_the_classes_of_whole_numbers_where_classes_are_asked_for(
    tmp_path: Path, floats: str, whole: str
) -> None:
    def written(name: str, labels: list[float] | list[int]) -> Path:
        path = tmp_path / name
        if name.endswith(".csv"):
            return write_csv(path, list(map(str, labels)))
        if name.endswith(".jsonl"):
            return write_labels(path, labels)
        Dataset.from_dict({"text": [f"text {row}" for row in range(len(labels))], "label": labels}).to_parquet(path)
        return path

    first, second = written(f"a{floats}", [0.0, 10.0, 2.0]), written(f"b{whole}", [10, 2, 0])
    for train, test, ids in ((first, second, [2, 1, 0]), (second, first, [0, 2, 1])):
        loaded = load_text_dataset(
            train_file=train, test_file=test, problem_type="single_label_classification", validation_size=0
        )
        assert label_names_of(loaded["train"]) == ["0", "2", "10"]
        assert loaded["test"]["label"][:] == ids


@pytest.mark.parametrize("labels", [[0.0, 1.5], [0.0, float("inf")]])
def test_other_floats_are_no_classes(tmp_path: Path, labels: list[float]) -> None:
    Dataset.from_dict({"text": ["a", "b"], "label": labels}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="must hold one class per row"):
        load_text_dataset(test_file=tmp_path / "a.parquet", problem_type="single_label_classification")
