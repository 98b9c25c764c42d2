"""Wrong labels are found, by models that have not seen the rows that they judge."""

import re
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

import rnn_hf
from rnn_hf import find_label_errors
from rnn_hf.data.demo_news import LABEL_NAMES, load_demo_news
from rnn_hf.label_errors import are_errors, folds_of
from rnn_hf.training import from_lists
from rnn_hf.training.from_lists import TrainedClassifier
from tests.tiny_classifiers import make_classifier

TEXTS = ["a good film", "a bad film", "a good day", "a bad day"] * 10
LABELS = ["good", "bad"] * 20
QUICK: dict[str, Any] = {
    "hidden_size": 8, "embedding_size": 8, "ngram_buckets": 0, "max_steps": 60, "learning_rate": 0.03,
    "per_device_train_batch_size": 8, "settings_from_data": False, "use_cpu": True,
}  # fmt: skip


def find(texts: Any = TEXTS, labels: Any = LABELS, num_folds: int = 2, **settings: Any) -> Any:
    return find_label_errors(texts, labels, num_folds=num_folds, show_progress=False, **{**QUICK, **settings})


def flipped_demo(num_rows: int) -> tuple[list[str], list[str], np.ndarray]:
    """Return demo texts, their labels, 5 % of them changed to another class, and the changed rows."""
    rows, rng = load_demo_news(num_train=num_rows, num_test=1)["train"], np.random.default_rng(42)
    labels, flipped = np.array(rows["label"][:]), rng.permutation(num_rows)[: num_rows // 20]
    labels[flipped] = (labels[flipped] + rng.integers(1, 4, len(flipped))) % 4
    return rows["text"][:], [LABEL_NAMES[label] for label in labels], flipped


def share_found(num_rows: int, num_folds: int, **settings: Any) -> float:
    """Return the share of changed rows in the first 5 % of the list."""
    texts, labels, flipped = flipped_demo(num_rows)
    found = find_label_errors(texts, labels, num_folds=num_folds, show_progress=False, use_cpu=True, **settings)
    return float(np.isin(found.row[: len(flipped)], flipped).mean())


def test_most_changed_labels_of_the_demo_are_among_the_first_rows() -> None:
    settings = {
        "hidden_size": 16, "embedding_size": 32, "ngram_buckets": 0, "word_dropout": 0.0, "embedding_dropout": 0.0,
        "classifier_dropout": 0.3, "per_device_train_batch_size": 16, "num_train_epochs": 10,
        "train_on_all_rows": False,
    }  # fmt: skip
    assert share_found(2_000, 2, **settings) >= 0.7


@pytest.mark.slow
def test_nearly_all_changed_labels_of_the_whole_demo_are_among_the_first_rows_with_default_settings() -> None:
    assert share_found(4_000, 5) >= 0.95


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """The rows of each training; nothing is learned from them."""
    trainings: list[Dataset] = []

    def train(rows: dict[str, Dataset], settings: Any) -> TrainedClassifier:
        trainings.append(rows["train"])
        classifier = make_classifier(num_labels=rows["train"].features["label"].num_classes)
        return TrainedClassifier(classifier.model, classifier.tokenizer, {}, {})

    monkeypatch.setattr(from_lists, "train_on_rows", train)
    return trainings


def rows_of(texts: list[str], labels: list[int]) -> tuple[Dataset, np.ndarray]:
    return Dataset.from_dict({"text": texts}), np.array(labels)


def test_errors_are_those_computed_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.array(
        [[0.9, 0.05, 0.05], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]]
    )
    # the thresholds are (0.9 + 0.7 + 0.2) / 3 = 0.6, (0.8 + 0.4) / 2 = 0.6 and 0.4; the fifth row reaches none
    assert are_errors(labels, probabilities).tolist() == [False, False, True, False, False, False]


def test_the_most_probable_class_is_no_error_although_it_does_not_reach_its_threshold() -> None:
    labels, probabilities = np.array([0, 0, 1]), np.array([[0.95, 0.05], [0.55, 0.45], [0.7, 0.3]])
    assert not are_errors(labels, probabilities).any()


def test_classes_and_rows_may_be_missing() -> None:
    labels, probabilities = np.array([0, 0, 1]), np.array([[0.1, 0.1, 0.8], [0.2, 0.2, 0.6], [0.4, 0.5, 0.1]])
    assert not are_errors(labels, probabilities)[2]
    assert are_errors(labels[:0], probabilities[:0]).tolist() == []


@pytest.mark.parametrize("num_folds", [2, 5])
def test_folds_have_equal_shares_of_the_classes_and_depend_on_the_seed(num_folds: int) -> None:
    rows, labels = rows_of([f"text {number}" for number in range(103)], [0] * 60 + [1] * 40 + [2] * 3)
    folds = folds_of(rows, labels, num_folds, seed=1)
    counts = np.array([np.bincount(labels[folds == fold], minlength=3) for fold in range(num_folds)])
    assert (np.ptp(counts, axis=0) <= 1).all() and np.ptp(counts.sum(axis=1)) <= 1
    assert (folds == folds_of(rows, labels, num_folds, seed=1)).all()
    assert (folds != folds_of(rows, labels, num_folds, seed=2)).any()


def test_no_model_has_seen_a_copy_of_a_text_that_it_judges(trained_on: list[Dataset]) -> None:
    originals = [f"text {number}" for number in range(20)]
    copies = [f"  TEXT\t{number} " for number in range(20)]
    find(originals + copies + originals, ["a", "b"] * 30, num_folds=4)
    texts = [{" ".join(text.lower().split()) for text in rows["text"]} for rows in trained_on]
    assert [len(rows) for rows in trained_on] == [45] * 4
    assert [len(each) for each in texts] == [15] * 4
    # each text is missing in one training
    assert sorted(text for each in texts for text in set(originals) - each) == sorted(originals)


def test_copies_are_found_in_rows_of_several_chunks() -> None:
    parts = [Dataset.from_dict({"text": texts}) for texts in (["a", "b", "c"], ["d", "b"], ["c", "e", "a"])]
    folds = folds_of(concatenate_datasets(parts), np.zeros(8, dtype=int), 5, seed=0)
    assert len({*folds[:4], folds[6]}) == 5 and folds[[4, 5, 7]].tolist() == folds[[1, 2, 0]].tolist()


def test_wrong_labels_come_first_and_are_called_errors() -> None:
    labels = [*LABELS]
    labels[7], labels[16] = "good", "bad"
    # no other row has these texts
    texts = [f"{text} {number}" for number, text in enumerate(TEXTS)]
    found = find(texts, labels)
    assert list(found.columns) == [
        "row", "text", "given_label", "predicted_label", "predicted_probability", "given_probability", "is_error",
    ]  # fmt: skip
    assert sorted(found.row[:2]) == [7, 16] and found.is_error[0] and not found.is_error[2:].any()
    assert sorted(found.row) == list(range(40)) and found.text.tolist() == [texts[row] for row in found.row]
    assert found.given_label.tolist() == [labels[row] for row in found.row]
    assert (found.predicted_label[:2] != found.given_label[:2]).all()
    assert (np.diff(found.given_probability) >= 0).all()


def test_the_same_seed_gives_the_same_list_and_another_one_another() -> None:
    first, again, other = (find(max_steps=2, seed=seed) for seed in (1, 1, 2))
    assert again.equals(first) and not other.equals(first)


def test_whole_numbers_stay_whole_numbers(trained_on: list[Dataset]) -> None:
    found = find(TEXTS, [10, 9] * 20)
    assert found.given_label.tolist() == [[10, 9][row % 2] for row in found.row]
    assert {*found.predicted_label} <= {9, 10}


def test_a_class_with_fewer_texts_than_folds_is_judged_if_another_fold_has_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts, labels = [*TEXTS, "one", "two", "lone", "LONE"], [*LABELS, "twice", "twice", "once", "once"]
    found = find_label_errors(texts, labels, num_folds=3, **QUICK | {"max_steps": 1})
    last = found[found.given_label == "once"]
    assert last.index.tolist() == [42, 43] and last.row.tolist() == [42, 43]
    assert last.given_probability.isna().all() and not last.is_error.any()
    assert found.given_probability[:42].notna().all() and {40, 41} <= {*found.row[:42]}
    assert "2 rows cannot be judged, because their class has too few different texts." in capsys.readouterr().out


def test_the_texts_that_are_judged_are_cleaned_as_those_of_training(trained_on: list[Dataset]) -> None:
    texts = ["a <b>good</b> film", "a bad film", "a good film", "a bad day", "a good day"]
    found = find(texts, ["x", "y", "y", "x", "x"], clean_text=True)
    assert {*found.text} == {text for rows in trained_on for text in rows["text"]}
    assert found.text.tolist().count("a good film") == 2


def test_settings_of_training_are_used() -> None:
    weights = {"good": 1000.0, "bad": 0.001}
    assert {*find(class_weights=weights, max_steps=20).predicted_label} == {"good"}


@pytest.mark.parametrize(
    ("texts", "labels", "settings", "message"),
    [
        (TEXTS, [["a"], ["b"]] * 20, {}, "needs one class per text, got a problem of type multi_label_classification"),
        (TEXTS, [0.5, 1.5] * 20, {}, "needs one class per text, got a problem of type regression. Pass labels with"),
        (TEXTS, LABELS[1:], {}, "`texts` and `labels` must have the same length, got 40 and 39"),
        (TEXTS, ["good"] * 40, {}, "At least two classes must have two different texts each"),
        (TEXTS, ["good"] * 39 + ["bad"], {}, "At least two classes must have two different texts each"),
        (TEXTS, LABELS, {"num_folds": 1}, "`num_folds` must be at least 2, got 1"),
        (TEXTS, LABELS, {"num_folds": 5}, "must be at most the number of different texts, 4, got 5. Lower it"),
        (TEXTS, LABELS, {"hiden_size": 8}, "find_label_errors has no argument 'hiden_size'. Did you mean"),
        (TEXTS, LABELS, {"output_dir": "x"}, "find_label_errors has no argument 'output_dir': no model is kept"),
        (TEXTS, LABELS, {"train_file": "x"}, "find_label_errors has no argument 'train_file': the rows are its texts"),
        (TEXTS, LABELS, {"push_to_hub": True}, "find_label_errors has no argument 'push_to_hub'. Use"),
        (TEXTS, LABELS, {"max_length": 0}, "`max_length` must be at least 1"),
    ],
)
def test_mistakes_are_errors_before_any_training(
    trained_on: list[Dataset], texts: Any, labels: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        find(texts, labels, **settings)
    assert trained_on == []


def test_tokenized_rows_are_not_cached_and_the_cache_is_enabled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    enabled = []

    def train(rows: Any, settings: Any) -> None:
        enabled.append(datasets.is_caching_enabled())
        raise RuntimeError("stopped")

    monkeypatch.setattr(from_lists, "train_on_rows", train)
    with pytest.raises(RuntimeError, match="stopped"):
        find()
    assert enabled == [False] and datasets.is_caching_enabled()


def test_the_package_offers_it() -> None:
    assert rnn_hf.find_label_errors is find_label_errors and "find_label_errors" in rnn_hf.__all__
