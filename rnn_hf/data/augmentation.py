"""Noised copies of texts: more texts for a teacher to label in distillation."""

from typing import Any

import numpy as np
from datasets import Dataset

LONGEST_NGRAM = 5


def noised_words(
    words: list[str],
    mask_word: str,
    generator: np.random.Generator,
    *,
    mask_probability: float = 0.1,
    ngram_probability: float = 0.25,
) -> list[str]:
    """Return the words with some of them masked, or only a short run of them (Tang et al., 2019).

    The draws do not depend on `mask_word`: two models with different mask words get the same copy.

    Args:
        words: Words of a text.
        mask_word: Replacement for a masked word.
        generator: Generator of the draws.
        mask_probability: Share of the words that are masked.
        ngram_probability: Share of the texts of which only one to five consecutive words are kept.

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
    """Return a copy of a dataset with noise in the column `text`; the other columns are unchanged.

    Args:
        dataset: Rows with the column `text`.
        mask_word: Replacement for a masked word, usually a special token of the model that reads the texts.
        seed: Seed of the draws; 0 or more.
        number: Number of this copy, if there are several; 0 or more.
        mask_probability: Share of the words that are masked.
        ngram_probability: Share of the texts of which only a few consecutive words are kept.
    """
    return dataset.map(
        _noise,
        input_columns=["text"],
        with_indices=True,
        batched=True,
        fn_kwargs={
            "mask_word": mask_word,
            "seed": [seed, number],
            "mask_probability": mask_probability,
            "ngram_probability": ngram_probability,
        },
        desc="Noising texts",
    )


def _noise(
    texts: list[str], rows: list[int], *, mask_word: str, seed: list[int], **settings: Any
) -> dict[str, list[str]]:
    """Return a batch of texts with noise that depends on the seed and the row."""
    noised = (
        noised_words(text.split(), mask_word, np.random.default_rng([*seed, row]), **settings)
        for text, row in zip(texts, rows, strict=True)
    )
    return {"text": [" ".join(words) for words in noised]}
