import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.text_classifier import CHUNK_SIZE, TextClassifier

TEXTS = ["The cat sat.", "", "a dog", "the cat and the dog sat on a mat, all day long!", "unknown words only"]


@pytest.fixture
def classifier() -> TextClassifier:
    tokenizer = train_tokenizer(["the cat sat on a mat . a dog and all day long !"], max_length=9)
    torch.manual_seed(0)
    return TextClassifier(RNNForSequenceClassification(RNNConfig(vocab_size=len(tokenizer), num_labels=3)), tokenizer)


def test_probabilities_are_those_of_the_model_text_by_text(classifier: TextClassifier) -> None:
    expected = []
    for text in TEXTS:
        batch = classifier.tokenizer(text, truncation=True, return_tensors="pt")
        with torch.no_grad():
            expected.append(classifier.model(**batch).logits.softmax(dim=-1)[0].numpy())
    np.testing.assert_allclose(list(classifier.predict_proba(TEXTS, batch_size=2)), expected, atol=1e-6)


def test_a_stream_is_read_in_chunks_and_keeps_its_order(classifier: TextClassifier) -> None:
    read = 0

    def stream() -> object:
        nonlocal read
        for index in range(CHUNK_SIZE + 3):
            read += 1
            yield TEXTS[index % len(TEXTS)]

    answers = classifier.predict_proba(stream())  # type: ignore[arg-type]
    first = next(answers)
    assert read == CHUNK_SIZE
    rest = list(answers)
    assert len(rest) == CHUNK_SIZE + 2
    np.testing.assert_allclose(rest[len(TEXTS) - 1], first, atol=1e-6)


def test_texts_are_cut_where_training_cut_them(classifier: TextClassifier) -> None:
    words = "the cat sat on a mat and a dog"
    short, long = classifier.predict_proba([words, words + " all day long"])
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_a_lone_surrogate_is_an_unknown_character(classifier: TextClassifier) -> None:
    (answer,) = classifier.predict_proba(["a \ud800 dog"])
    (expected,) = classifier.predict_proba(["a ? dog"])
    np.testing.assert_allclose(answer, expected)


def test_one_string_is_refused(classifier: TextClassifier) -> None:
    with pytest.raises(TypeError, match="Pass `\\[text\\]`"):
        next(classifier.predict_proba("a dog"))


def test_a_larger_tokenizer_is_refused(classifier: TextClassifier) -> None:
    model = RNNForSequenceClassification(RNNConfig(vocab_size=4, num_labels=3))
    with pytest.raises(ValueError, match=r"The tokenizer has \d+ tokens but `config.vocab_size` is 4"):
        TextClassifier(model, classifier.tokenizer)


def test_a_saved_classifier_gives_the_same_answers(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    loaded = TextClassifier.from_pretrained(tmp_path)
    assert np.array_equal(list(loaded.predict_proba(TEXTS)), list(classifier.predict_proba(TEXTS)))
    assert (loaded.labels, loaded.max_length) == (["LABEL_0", "LABEL_1", "LABEL_2"], 9)


@pytest.mark.parametrize("damage", ["no weights", "pickle", "cut weights", "no config", "foreign config"])
def test_a_folder_that_is_no_model_is_refused(classifier: TextClassifier, tmp_path: Path, damage: str) -> None:
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    saved = tmp_path / "model.safetensors"
    if damage in ("no weights", "pickle"):
        saved.unlink()
    if damage == "pickle":
        torch.save(classifier.model.state_dict(), tmp_path / "pytorch_model.bin")
    if damage == "cut weights":
        saved.write_bytes(saved.read_bytes()[:100])
    if damage == "no config":
        (tmp_path / "config.json").unlink()
    if damage == "foreign config":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(ValueError, match="is not a model that can be loaded"):
        TextClassifier.from_pretrained(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        TextClassifier.from_pretrained(tmp_path / "nowhere")
