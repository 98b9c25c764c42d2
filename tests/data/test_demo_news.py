"""The demo news: reproducible, balanced, free of leaks, and beyond a model that ignores the order of words."""

from collections import Counter, defaultdict
from itertools import combinations

import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def news() -> DatasetDict:
    return load_demo_news()


def labels_by_bag(split: Dataset) -> dict[tuple[str, ...], list[int]]:
    """The labels of the texts that consist of the same words."""
    tokenizer = train_tokenizer(split["text"])
    bags = defaultdict(list)
    for row in split:
        bags[tuple(sorted(tokenizer.tokenize(row["text"])))].append(row["label"])
    return bags


def test_columns_are_text_and_the_classes_of_ag_news(news: DatasetDict) -> None:
    assert {name: split.num_rows for name, split in news.items()} == {"train": 4000, "test": 1000}
    for split in news.values():
        assert split.column_names == ["text", "label"]
        assert split.features["text"].dtype == "string"
        assert split.features["label"] == ClassLabel(names=["World", "Sports", "Business", "Sci/Tech"])


@pytest.mark.parametrize("size", [1, 2, 7, 50, 402])
def test_classes_are_balanced_to_one_text(size: int) -> None:
    for split in load_demo_news(num_train=size, num_test=size).values():
        counts = Counter(dict.fromkeys(range(4), 0))
        counts.update(split["label"])
        assert counts.total() == size
        assert max(counts.values()) - min(counts.values()) <= 1


def test_rows_are_shuffled(news: DatasetDict) -> None:
    for split in news.values():
        labels = list(split["label"])
        assert all(set(labels[start : start + 100]) == {0, 1, 2, 3} for start in range(0, len(labels), 100))


def test_no_text_occurs_twice_within_or_across_splits(news: DatasetDict) -> None:
    texts = [text.lower() for split in news.values() for text in split["text"]]
    assert len(set(texts)) == len(texts)


def test_texts_have_10_to_40_words(news: DatasetDict) -> None:
    lengths = [len(text.split()) for split in news.values() for text in split["text"]]
    assert min(lengths) >= 10
    assert max(lengths) <= 40


@pytest.mark.parametrize("name", ["train", "test"])
def test_same_words_in_another_order_are_another_class(name: str, news: DatasetDict) -> None:
    twins = [labels for labels in labels_by_bag(news[name]).values() if len(labels) > 1]
    assert all(len(labels) == len(set(labels)) == 2 for labels in twins)
    assert {tuple(sorted(labels)) for labels in twins} == set(combinations(range(4), 2))
    assert 0.15 <= 2 * len(twins) / news[name].num_rows <= 0.25


def test_test_split_has_no_bag_of_words_of_the_training_split(news: DatasetDict) -> None:
    assert not labels_by_bag(news["train"]).keys() & labels_by_bag(news["test"]).keys()


def test_bag_of_words_learns_much_but_not_all(news: DatasetDict) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    model.fit(list(news["train"]["text"]), list(news["train"]["label"]))
    assert 0.8 <= model.score(list(news["test"]["text"]), list(news["test"]["label"])) <= 0.88


def test_another_seed_gives_other_texts() -> None:
    first, second = (set(load_demo_news(seed=seed, num_train=200, num_test=8)["train"]["text"]) for seed in (0, 1))
    assert not first & second


@pytest.mark.parametrize("argument", ["num_train", "num_test"])
def test_empty_split_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` must be at least 1, got 0"):
        load_demo_news(**{argument: 0})
