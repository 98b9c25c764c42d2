"""What a card says about a dataset beyond the figures of a run: its source, its licence, its limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_hf.data.demo_news import DEMO_DATASET
from rnn_hf.safe_loading import is_hub_id


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a dataset; the defaults are those of one nobody has described.

    Args:
        description: Where its rows come from.
        intended_use: What a classifier of these rows is good for.
        limits: What it is not good for, one sentence or two each.
        language: ISO 639-1 code of its language.
        license: Identifier the Hub knows, for a model made from these rows; `None` leaves it to whoever shares one.
        license_name: Short name of a licence that has no identifier.
        license_link: Where its terms stand.
        license_text: What it means for a model, in a sentence.
        num_train_examples: Rows of the training split as published.
        examples: Texts to try a classifier on; none is a row of the dataset.
    """

    description: str = ""
    intended_use: str = (
        "To tell the classes of texts like those it was trained on. "
        "Test it on texts of your own, with labels of your own, before you rely on it."
    )
    limits: tuple[str, ...] = (
        "It answers every text with what it learned, also texts of another kind, subject or language, "
        "and may sound sure of it.",
        "Whatever is wrong or one-sided in the labels of its training rows, it has learned, too.",
    )
    language: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    license_text: str = (
        "Nothing is known here of the terms of the training data, so this card names no licence. "
        "Look them up before you share the model."
    )
    num_train_examples: int | None = None
    examples: tuple[str, ...] = ()


AG_NEWS = DatasetFacts(
    description="Title and description of English news articles that a search engine gathered from more than 2,000 "
    "sources in 2004 and 2005 (AG's corpus, Gulli), cut down to its four largest classes, all of one size "
    "(Zhang, Zhao and LeCun, 2015).",
    intended_use="To sort short English news into World, Sports, Business and Sci/Tech, to compare classifiers, "
    "and to teach how recurrent networks work.",
    limits=(
        "The news is of 2004 and 2005. People, firms, products and events since then are unknown words to it, or "
        "stand for what they were at that time.",
        "The labels are noisy: each article has one, though many belong to two, above all to Business and Sci/Tech, "
        "so part of the errors below are not the classifier's.",
        "Every text gets one of the four labels, also a text about something else, in another language, or with no "
        "words in it at all, and possibly with a high probability. There is no label for none of them.",
        "Sources, subjects and the space they get are those of a few English-language media; what the "
        "classifier takes for World news is the world as these saw it.",
    ),
    language="en",
    license="other",
    license_name="ag-corpus-non-commercial",
    license_link="http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html",
    license_text="AG's corpus is given for research and other non-commercial use, and so are the weights made from "
    "it. The code that comes with them is under Apache-2.0.",
    num_train_examples=120_000,
    examples=(
        "The striker scored twice as the club won the cup.",
        "Shares fell as the price of oil rose.",
        "Voters in the north chose a new president.",
        "The telescope found water in the air of a distant planet.",
    ),
)

TREC = DatasetFacts(
    description="English questions, sorted by what they ask for, coarsely into 6 and finely into 50 classes (Li and "
    "Roth, 2002).",
    intended_use="To tell what kind of answer a short English question asks for, and to compare classifiers.",
    limits=(
        "It has seen short, well-formed questions only, and sorts any other text into one of its classes, too.",
        "The test split has 500 questions: two accuracies that differ by less than two or three points are not to be "
        "told apart. Some of the fine classes have a handful of training rows, and some no test row.",
    ),
    language="en",
    license="unknown",
    license_text="No licence is given for the questions. Ask whose they are before you share what was made from them.",
    num_train_examples=5_452,
    examples=("Who was the first woman on the moon?", "How far is it from the river to the coast?"),
)

DEMO_NEWS = DatasetFacts(
    description="Short pieces of news in the four classes of AG News, which `rnn_hf` itself generates from a small "
    "grammar.",
    intended_use="To try the package out without a download, and nothing else.",
    limits=("It has seen the words and sentences of one small grammar. Real news is foreign to it.",),
    language="en",
    license="apache-2.0",
    license_text="Data and code are parts of `rnn_hf`, which is under Apache-2.0.",
    examples=AG_NEWS.examples[:2],
)

KNOWN = {"fancyzhx/ag_news": AG_NEWS, "ag_news": AG_NEWS, "CogComp/trec": TREC, DEMO_DATASET: DEMO_NEWS}


def is_on_hub(name: str) -> bool:
    """Return whether a name is that of a repository on the Hub: neither a local folder or file nor the demo dataset.

    Example:
        >>> is_on_hub("fancyzhx/ag_news"), is_on_hub("/data/news"), is_on_hub("demo")
        (True, False, False)
    """
    return is_hub_id(name) and name != DEMO_DATASET and not Path(name).exists()


def hub_dataset(recipe: Mapping[str, Any]) -> str | None:
    """Return the id of the dataset on the Hub, or `None` where the rows came from elsewhere."""
    name = recipe.get("dataset_name")
    return name if name is not None and is_on_hub(name) else None


def dataset_title(recipe: Mapping[str, Any]) -> str:
    """Return the dataset's id, or the name of its folder or file: the path would be one of this machine."""
    name = str(recipe.get("dataset_name") or recipe.get("train_file") or "unknown")
    return hub_dataset(recipe) or Path(name).name


def dataset_facts(recipe: Mapping[str, Any]) -> DatasetFacts:
    """Return what is known of the dataset of a run."""
    if recipe.get("dataset_name") == DEMO_DATASET:
        return DEMO_NEWS
    return KNOWN.get(hub_dataset(recipe) or "", DatasetFacts())
