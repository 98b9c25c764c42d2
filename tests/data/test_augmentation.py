import numpy as np
import pytest
from datasets import Dataset

from rnn_hf.data.augmentation import LONGEST_NGRAM, noised_copy, noised_words

WORDS = [f"word{index}" for index in range(20)]
TEXTS = Dataset.from_dict({"text": [" ".join(WORDS), "", "one", " ".join(WORDS)], "label": [3, 1, 0, 2]})


def draw(count: int, **probabilities: float) -> list[list[str]]:
    generator = np.random.default_rng(0)
    return [noised_words(WORDS, "[UNK]", generator, **probabilities) for _ in range(count)]


def test_words_are_masked_in_their_places_as_often_as_asked() -> None:
    copies = draw(500, mask_probability=0.3, ngram_probability=0)
    assert all(noised in (word, "[UNK]") for copy in copies for noised, word in zip(copy, WORDS, strict=True))
    assert np.mean([word == "[UNK]" for copy in copies for word in copy]) == pytest.approx(0.3, abs=0.02)


def test_as_many_copies_as_asked_are_runs_of_up_to_five_words_from_any_place() -> None:
    copies = draw(2000, mask_probability=0, ngram_probability=0.25)
    runs = [copy for copy in copies if len(copy) < len(WORDS)]
    assert len(runs) / len(copies) == pytest.approx(0.25, abs=0.03)
    assert {len(run) for run in runs} == set(range(1, LONGEST_NGRAM + 1))
    for run in runs:
        start = WORDS.index(run[0])
        assert run == WORDS[start : start + len(run)]
    assert {word for run in runs for word in run} == set(WORDS)


def test_a_copy_depends_on_seed_and_number_and_keeps_the_other_columns() -> None:
    settings = {"mask_probability": 0.5, "ngram_probability": 0.0}
    copies = {
        (seed, number): noised_copy(TEXTS, "[UNK]", seed=seed, number=number, **settings)
        for seed in (0, 1)
        for number in (0, 1)
    }
    assert len({tuple(copy["text"]) for copy in copies.values()}) == 4
    assert copies[0, 0]["text"][0] != copies[0, 0]["text"][3], "the same text, but another row"
    again = noised_copy(TEXTS, "[UNK]", seed=0, number=0, **settings)
    assert again["text"][:] == copies[0, 0]["text"][:]
    assert again["label"][:] == TEXTS["label"][:]


def test_readers_with_masks_of_their_own_get_the_same_copy() -> None:
    ours = noised_copy(TEXTS, "[UNK]", seed=0)
    theirs = noised_copy(TEXTS, "[MASK]", seed=0)
    assert [text.replace("[UNK]", "[MASK]") for text in ours["text"]] == theirs["text"][:]
    assert "[MASK]" in " ".join(theirs["text"])
