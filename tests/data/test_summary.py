"""The summary of the data before training: figures counted by hand, and a warning for each problem."""

import json
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.labels import label_names_of, problem_type_of
from rnn_hf.data.summary import DataSummary, describe_data
from rnn_hf.data.tokenizer_training import train_tokenizer

NAMES = ["bad", "good"]
SINGLE, SEVERAL = ClassLabel(names=NAMES), List(ClassLabel(names=NAMES))
# ten distinct texts of three known words each
WORDS = ["film", "day", "dog", "song", "book", "meal", "game", "play", "trip", "news"]
TEXTS = [f"the {word} was" for word in WORDS]


def rows(texts: list[str], labels: list[Any], feature: Any = SINGLE) -> Dataset:
    return Dataset.from_dict({"text": texts, "label": labels}, Features(text=Value("string"), label=feature))


def summary(max_length: int | None = 8, is_stream: bool = False, **splits: Dataset) -> DataSummary:
    """Describe splits with a tokenizer that knows the words of `TEXTS`."""
    given = DatasetDict(splits)
    tokenizer = train_tokenizer(TEXTS)
    encoded = encode_dataset(given, tokenizer, max_length)
    return describe_data(
        {name: each for name, each in given.items() if not (is_stream and name == "train")},
        encoded,
        tokenizer,
        max_length=max_length,
        label_names=label_names_of(given["train"]),
        problem_type=problem_type_of(given["train"]),
    )


def warnings_of(**splits: Any) -> list[str]:
    return summary(**splits).warnings()


def test_facts_of_a_dataset_without_faults() -> None:
    found = summary(
        train=rows(TEXTS[:5], [0, 0, 1, 1, 1]), validation=rows(TEXTS[5:7], [0, 1]), test=rows(TEXTS[7:], [0, 1, 1])
    )
    assert found.lines() == [
        "Rows:     train 5, validation 2, test 3",
        "Labels:   2 classes, the rarest 'bad' with 2 training rows",
        "Texts:    0 duplicates in training; 0 with different labels; 0 longer than 8 tokens (`max_length`)",
        "Held out: 0 of validation also in training; 0 of test also in training; 0.0 % of the words unknown",
    ]
    assert found.warnings() == []
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == found.as_dict()
    assert found.as_dict()["class_counts"] == {"bad": 2, "good": 3} and found.as_dict()["warnings"] == []


def test_duplicates_are_rows_whose_text_occurs_before() -> None:
    found = summary(train=rows(["a", "b", "a", "a", "c", "b", "d e"], [0, 1, 0, 0, 1, 0, 1]))
    # a twice more and b once more; b alone has two labels
    assert (found.num_duplicates, found.num_contradictory, found.num_distinct) == (3, 1, 4)


def test_rows_selected_out_of_order_are_counted_with_their_own_labels() -> None:
    """Cutting out a validation split leaves a mapping of indices."""
    train = rows(["a", "b", "c", "a", "b"], [0, 0, 1, 1, 0]).select([4, 2, 0, 3])
    found = summary(train=train)
    assert (found.num_duplicates, found.num_contradictory, found.num_distinct) == (1, 1, 3)
    assert found.class_counts == {"bad": 2, "good": 2}


def test_labels_in_another_order_are_the_same_labels() -> None:
    train = rows(["a", "a", "b", "b", "c"], [[0, 1], [1, 0], [0], [0, 1], []], SEVERAL)
    found = summary(train=train)
    assert found.num_contradictory == 1
    assert found.class_counts == {"bad": 4, "good": 3} and found.labels_per_text == pytest.approx(7 / 5)
    assert found.lines()[1] == "Labels:   2 classes, the rarest 'good' with 3 training rows, 1.40 per text on average"


@pytest.mark.parametrize(
    ("labels", "feature", "line"),
    [
        (
            [1.0, 2.0, 6.0],
            Value("float32"),
            "Labels:   minimum 1, mean 3, maximum 6, standard deviation 2.16",
        ),
        (
            [[1.0, 2.0], [6.0, 1.0], [2.0, 6.0]],
            List(Value("float32"), length=2),
            "Labels:   2 targets, minimum 1, mean 3, maximum 6, standard deviation 2.16",
        ),
    ],
)
def test_numbers_have_a_mean_and_a_deviation_but_no_classes(labels: list[Any], feature: Any, line: str) -> None:
    # the deviation of 1, 2, 6 is the square root of 14 / 3
    found = summary(train=rows(["a b", "c d", "a b"], labels, feature))
    assert found.lines()[1] == line
    assert found.class_counts is None and found.num_contradictory == 1


def test_texts_as_long_as_the_limit_are_not_truncated() -> None:
    texts = ["a b c", "a b c d", "a b", "a b c d e f"]
    assert summary(train=rows(texts, [0, 1, 0, 1]), max_length=3).num_truncated == 2
    assert summary(train=rows(texts, [0, 1, 0, 1]), max_length=None).num_truncated is None
    many = rows(["a b c", "a b c d"] * 300, [0, 1] * 300)
    assert summary(train=many, max_length=3).num_truncated == pytest.approx(300, abs=3)


def test_unknown_words_are_those_of_the_held_out_rows() -> None:
    train = rows(["strange words here", *TEXTS[:3]], [0, 1, 0, 1])
    found = summary(train=train, validation=rows(["the film"], [0]), test=rows(["the zebra was"], [1]))
    assert found.unknown_share == pytest.approx(1 / 5)
    assert summary(train=train).unknown_share is None
    assert summary(train=train, test=rows([""], [0])).unknown_share is None


def test_a_stream_has_the_facts_of_its_held_out_rows_alone() -> None:
    found = summary(train=rows(TEXTS, [0, 1] * 5), test=rows(["the zebra", ""], [0, 1]), is_stream=True)
    assert found.lines() == [
        "Rows:     train a stream, test 2",
        "Labels:   2 classes",
        "Texts:    0 longer than 8 tokens (`max_length`)",
        "Held out: 50.0 % of the words unknown",
    ]
    assert [line.split(" ")[0] for line in found.warnings()] == ["Some", "50.0"]


GOOD = rows(TEXTS, [0, 1] * 5)


def many(share: int) -> Dataset:
    """Return 100 distinct texts, a given number of which have the class `bad`."""
    return rows([f"{first} {second}" for first in WORDS for second in WORDS], [0] * share + [1] * (100 - share))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": many(95)},
            "95.0 % of the training rows have the class 'bad', so accuracy says little. Pass "
            "`class_weights=balanced`, or compare macro F1.",
        ),
        (
            {"train": rows(TEXTS, [0] + [1] * 9)},
            "1 class has fewer than 2 training rows ('bad'). Add rows, or merge classes.",
        ),
        (
            {"train": rows([*TEXTS, *TEXTS[:3]], [0, 1] * 5 + [1, 0, 0])},
            "2 training texts (20.0 %) occur with different labels, which contradict each other. Choose one label for "
            "each text.",
        ),
        (
            {"train": rows([f"row-{index}" for index in range(10)], [0, 1] * 5)},
            "The texts look like an id column: nearly all are single words with digits. Pass `text_column_names`.",
        ),
        (
            {"train": rows([*TEXTS, " ", ""], [0, 1] * 6)},
            "Some texts are empty (train 2 rows). Drop these rows, or pass other `text_column_names`.",
        ),
        (
            {"train": GOOD, "test": rows(["a b c d e f g h i", "the film"], [0, 1]), "max_length": 8},
            "8.3 % of the texts are truncated after 8 tokens. Raise `max_length`.",
        ),
        (
            {"train": GOOD, "test": rows([TEXTS[0], "the film"], [0, 1])},
            "1 of the 2 test texts are also in the training rows, so the scores are too high. Drop them.",
        ),
        (
            {"train": GOOD, "validation": rows([TEXTS[0], TEXTS[0]], [0, 1])},
            "2 of the 2 validation texts are also in the training rows, so the scores are too high. Drop them.",
        ),
        (
            {"train": GOOD, "test": rows(["la pelicula", "the film was"], [0, 1])},
            "40.0 % of the words in the held-out rows are unknown. Check that their language and spelling are those "
            "of the training rows, or pass `tokenizer_type=bpe` or `word_vectors`.",
        ),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(splits: dict[str, Any], message: str) -> None:
    assert message in warnings_of(**splits)
    assert all("\n" not in line for line in warnings_of(**splits))


@pytest.mark.parametrize(
    "splits",
    [
        {"train": many(94)},
        {"train": rows(TEXTS[:4], [0, 0, 1, 1])},
        # one of 50 distinct texts is 2 %
        {"train": rows([*many(50)["text"][:50], "film film"], [0, 1] * 25 + [1])},
        {"train": rows(["anna", "juan", "2 dogs", "wei"], [0, 0, 1, 1])},
        {"train": rows([f"{word}s" for word in WORDS], [0, 1] * 5)},
        {"train": many(50), "test": rows(["a b c d e f g h i"] + ["the film"] * 20, [0] * 21)},
    ],
    ids=["94 %", "two rows", "2 % contradict", "names", "single words", "1 % truncated"],
)  # fmt: skip
def test_what_is_usual_is_not_warned_of(splits: dict[str, Any]) -> None:
    ours = [line for line in warnings_of(**splits) if "unknown" not in line]
    assert ours == []


@pytest.mark.parametrize("text", ["17", "d41d8cd98f00b204", "3f2b8c1e-9a4d-4e5f-8b6a-1c2d3e4f5a6b", "B00X4WHP5E"])
def test_what_looks_like_an_id(text: str) -> None:
    assert summary(train=rows([text] * 20, [0, 1] * 10)).num_ids == 20


@pytest.mark.parametrize("text", ["2 dogs", "dog", "http://example.org/17", "今天3点见面", "", "1" * 65])
def test_what_does_not_look_like_an_id(text: str) -> None:
    assert summary(train=rows([text] * 20, [0, 1] * 10)).num_ids == 0


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_a_class_without_a_training_row_is_warned_of(problem_type: ProblemType) -> None:
    single = problem_type == "single_label_classification"
    feature = ClassLabel(names=["a", "b", "c"])
    labels: list[Any] = [0, 0, 1, 1] if single else [[0, 1], [0], [1], []]
    found = warnings_of(train=rows(TEXTS[:4], labels, feature if single else List(feature)))
    assert found == ["1 class has fewer than 2 training rows ('c'). Add rows, or merge classes."]


def test_many_rare_classes_are_one_line() -> None:
    names = [f"class {index}" for index in range(9)]
    [line] = warnings_of(train=rows(TEXTS[:9], list(range(9)), ClassLabel(names=names)))
    assert line == (
        "9 classes have fewer than 2 training rows ('class 0', 'class 1', 'class 2', 'class 3', 'class 4', ...). "
        "Add rows, or merge classes."
    )


def test_classes_whose_names_differ_in_blanks_or_case_are_named() -> None:
    feature = ClassLabel(names=["sport", "sport ", "tech", "Tech", "news"])
    (line,) = (line for line in warnings_of(train=rows(TEXTS[:10], [0, 1, 2, 3, 4] * 2, feature)) if "differ" in line)
    assert "'sport' and 'sport ', 'tech' and 'Tech'. Rename one of each pair." in line and "news" not in line
    assert not warnings_of(train=rows(TEXTS[:4], [0, 1, 0, 1]))
