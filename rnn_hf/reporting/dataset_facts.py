"""What a card says about a dataset apart from the results of a run: source, licence and limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_hf.data.demo_news import DEMO_DATASET
from rnn_hf.safe_loading import is_hub_id


@dataclass(frozen=True)
class DatasetFacts:
    """What is known about a dataset; the defaults are for one that is not described here.

    Args:
        description: Where its rows come from.
        intended_use: What a classifier trained on these rows is for.
        limits: Its limits, one or two sentences each.
        language: ISO 639-1 code of its language.
        license: Identifier on the Hub of the licence of a model trained on these rows; `None` if it is unknown.
        license_name: Short name of a licence that has no identifier.
        license_link: Address of its terms.
        license_text: What it means for a model, in a sentence.
        num_train_examples: Number of rows of the training split as published.
        examples: Texts to try a classifier on; none is a row of the dataset.
    """

    description: str = ""
    intended_use: str = (
        "To classify texts similar to those it was trained on. "
        "Test it on your own labelled texts before you rely on it."
    )
    limits: tuple[str, ...] = (
        "It assigns one of its classes to every text, also to texts of another kind, topic or language, possibly with "
        "a high probability.",
        "It reproduces errors and biases of the labels it was trained on.",
    )
    language: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    license_text: str = (
        "The licence of the training data is unknown, so this card names none. Check it before you share the model."
    )
    num_train_examples: int | None = None
    examples: tuple[str, ...] = ()


AG_NEWS = DatasetFacts(
    description="Title and description of English news articles that a search engine gathered from more than 2,000 "
    "sources in 2004 and 2005 (AG's corpus, Gulli), cut down to its four largest classes, all of one size "
    "(Zhang, Zhao and LeCun, 2015).",
    intended_use="To classify short English news as World, Sports, Business or Sci/Tech, to compare classifiers, "
    "and to teach how recurrent networks work.",
    limits=(
        "The news is from 2004 and 2005. It does not know later people, companies, products and events.",
        "The labels are noisy: each article has one, although many belong to two, most often Business and Sci/Tech, "
        "so some of the errors below are errors of the labels.",
        "It assigns one of the four labels to every text, also to a text on another topic, in another language or "
        "without words, possibly with a high probability. There is no label for other texts.",
        "The sources are English-language media, and topics and points of view are theirs.",
    ),
    language="en",
    license="other",
    license_name="ag-corpus-non-commercial",
    license_link="http://groups.di.unipi.it/~gulli/AG_corpus_of_news_articles.html",
    license_text="AG's corpus is provided for research and other non-commercial use, and so are weights trained on "
    "it. The code that comes with them is licensed under Apache-2.0.",
    num_train_examples=120_000,
    examples=(
        "The striker scored twice as the club won the cup.",
        "Shares fell as the price of oil rose.",
        "Voters in the north chose a new president.",
        "The telescope found water in the air of a distant planet.",
    ),
)

TREC = DatasetFacts(
    description="English questions, labelled by the type of answer they ask for, with 6 coarse and 50 fine classes "
    "(Li and Roth, 2002).",
    intended_use="To classify short English questions by the type of answer they ask for, and to compare classifiers.",
    limits=(
        "It was trained on short, well-formed questions, and assigns one of its classes to any other text, too.",
        "The test split has 500 questions: differences in accuracy of less than two or three points are not "
        "significant. Some of the fine classes have few training rows, and some no test row.",
    ),
    language="en",
    license="unknown",
    license_text="The questions have no stated licence. Ask their authors before you share a model trained on them.",
    num_train_examples=5_452,
    examples=("Who was the first woman on the moon?", "How far is it from the river to the coast?"),
)

DEMO_NEWS = DatasetFacts(
    description="Short pieces of news in the four classes of AG News, which `rnn_hf` itself generates from a small "
    "grammar.",
    intended_use="To try the package out without a download, and nothing else.",
    limits=("It knows only the words and sentences of one small grammar, not real news.",),
    language="en",
    license="apache-2.0",
    license_text="Data and code are part of `rnn_hf`, which is licensed under Apache-2.0.",
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
    """Return the id of the dataset on the Hub, or `None` if the rows came from elsewhere."""
    name = recipe.get("dataset_name")
    return name if name is not None and is_on_hub(name) else None


def dataset_title(recipe: Mapping[str, Any]) -> str:
    """Return the dataset's id, or the name of its folder or file without the path, which is specific to a machine."""
    name = str(recipe.get("dataset_name") or recipe.get("train_file") or "texts in memory")
    return hub_dataset(recipe) or Path(name).name


def dataset_facts(recipe: Mapping[str, Any]) -> DatasetFacts:
    """Return what is known of the dataset of a run."""
    if recipe.get("dataset_name") == DEMO_DATASET:
        return DEMO_NEWS
    return KNOWN.get(hub_dataset(recipe) or "", DatasetFacts())
