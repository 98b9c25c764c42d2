"""Copies of texts with words left out: more texts for a teacher to answer."""

from typing import Any

import numpy as np
from datasets import Dataset
from datasets.fingerprint import Hasher

from .memory import MappedPages

LONGEST_NGRAM = 5


def noised_words(
    words: list[str],
    mask_word: str,
    generator: np.random.Generator,
    *,
    mask_probability: float = 0.1,
    ngram_probability: float = 0.25,
) -> list[str]:
    """Return the words with some of them masked, or a run of them alone (Tang et al., 2019).

    What is drawn does not depend on `mask_word`: two readers with masks of their own are given the same copy.

    Args:
        words: Words of a text.
        mask_word: What stands for a masked word.
        generator: Where the draws come from.
        mask_probability: Share of the words that are masked.
        ngram_probability: Share of the texts of which only one to five words in a row are kept.

    Example:
        >>> noised_words("the club won the cup".split(), "[UNK]", np.random.default_rng(3), mask_probability=0.4)
        ['[UNK]', '[UNK]', 'won', 'the', '[UNK]']
    """
    is_masked = generator.random(len(words)) < mask_probability
    keeps_ngram, start = generator.random(2)
    length = generator.integers(1, LONGEST_NGRAM, endpoint=True)
    noised = [mask_word if masked else word for word, masked in zip(words, is_masked, strict=True)]
    if keeps_ngram < ngram_probability:
        first = int(start * max(1, len(words) - length + 1))
        noised = noised[first : first + length]
    return noised


def noised_copy(
    dataset: Dataset,
    mask_word: str,
    *,
    seed: int,
    number: int = 0,
    mask_probability: float = 0.1,
    ngram_probability: float = 0.25,
) -> Dataset:
    """Return a dataset whose column `text` is noised; the other columns stay.

    Args:
        dataset: Rows with the column `text`.
        mask_word: What stands for a masked word, mostly a special token of the reader.
        seed: Seed of the draws; 0 or more.
        number: Which copy of several it is; 0 or more.
        mask_probability: Share of the words that are masked.
        ngram_probability: Share of the texts of which only a few words in a row are kept.
    """
    settings: dict[str, Any] = {"mask_probability": mask_probability, "ngram_probability": ngram_probability}

    def noise(texts: list[str], rows: list[int], pages: MappedPages) -> dict[str, list[str]]:
        noised = [
            " ".join(noised_words(text.split(), mask_word, np.random.default_rng([seed, number, row]), **settings))
            for text, row in zip(texts, rows, strict=True)
        ]
        pages.release()
        return {"text": noised}

    return dataset.map(
        noise,
        input_columns=["text"],
        with_indices=True,
        batched=True,
        fn_kwargs={"pages": MappedPages(dataset)},
        new_fingerprint=Hasher.hash([dataset._fingerprint, "noised", mask_word, seed, number, settings]),
        desc="Noising texts",
    )
