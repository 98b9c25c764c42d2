"""What the lesson page computes on many texts, against loops over single texts."""

import numpy as np

from rnn_hf.lesson_page.corpus import (
    MIN_OCCURRENCES,
    mean_gradients_by_distance,
    nearest_texts,
    words_that_drive_units,
)
from rnn_hf.lesson_page.readings import Reading
from tests.tiny_classifiers import TEXTS, make_classifier

SIZES = {"embedding_size": 5, "hidden_size": 4, "cell_type": "rnn"}


def test_the_words_that_drive_a_unit_have_its_extreme_mean_states() -> None:
    classifier = make_classifier(**SIZES)
    texts = [text for text in TEXTS if text] * 2 + ["the mat", "mat a day", "day mat a dog", "mat mat day"]
    found = words_that_drive_units(classifier, texts)
    states: dict[str, list[float]] = {}
    for text in texts:
        reading = Reading(classifier, text)
        tokens = classifier.tokenizer.convert_ids_to_tokens(reading.ids[0].tolist())
        for word, state in zip(tokens[: classifier.max_length], reading.states[:, 2].tolist(), strict=False):
            states.setdefault(word, []).append(state)
    means = {
        word: float(np.mean(values))
        for word, values in states.items()
        if len(values) >= MIN_OCCURRENCES and word != classifier.tokenizer.unk_token
    }
    assert len(found) == 4 and len(means) > 2
    for side, sign in (("highest", -1), ("lowest", 1)):
        expected = sorted(means, key=lambda word: sign * means[word])[:5]
        assert [word for word, _ in found[2][side]] == expected
        np.testing.assert_allclose(
            [value for _, value in found[2][side]], [means[word] for word in expected], atol=1e-6
        )


def test_mean_gradients_are_geometric_means_over_long_texts() -> None:
    classifier = make_classifier(**SIZES)
    long = ["the cat sat on a mat .", "a dog and the cat sat all day"]
    found = mean_gradients_by_distance(classifier, [*long, *["cat"] * 18])
    assert found is not None and found["num_texts"] == 2
    readings = [Reading(classifier, " ".join(text.split()[:7])) for text in long]
    expected = np.exp(np.mean([np.log(reading.gradient_by_distance()) for reading in readings], axis=0))
    np.testing.assert_allclose([found["as_computed"], found["last_state"]], expected, rtol=1e-4)
    assert mean_gradients_by_distance(classifier, ["cat"]) is None
    assert mean_gradients_by_distance(classifier, []) is None


def test_the_nearest_text_is_the_text_itself() -> None:
    classifier = make_classifier(**SIZES)
    texts = [text for text in TEXTS if text]
    for text, neighbours in zip(texts, nearest_texts(classifier, texts, texts, list("abcd")), strict=True):
        assert neighbours[0]["text"] == text and neighbours[0]["label"] == "abcd"[texts.index(text)]
        cosines = [neighbour["cosine"] for neighbour in neighbours]
        assert cosines == sorted(cosines, reverse=True) and cosines[0] > 0.9999
    vectors = classifier.encode(texts)
    cosine = (np.dot(*vectors[:2]) / np.prod(np.linalg.norm(vectors[:2], axis=1))).item()
    (neighbours,) = nearest_texts(classifier, texts[:1], texts[1:2], ["b"])
    assert abs(neighbours[0]["cosine"] - cosine) < 1e-5
