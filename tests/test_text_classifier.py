"""Answers of a classifier: those of its model, whatever batches and streams the texts come in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNModel, inference, onnx_classifier
from rnn_hf.configuration_rnn import CellType, ClassifierPooling
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.text_classifier import TextClassifier
from rnn_hf.threads import num_threads_here
from tests.tiny_classifiers import TEXTS, make_classifier, text_by_text


@pytest.fixture
def classifier() -> TextClassifier:
    return make_classifier()


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("cell_type", get_args(CellType))
def test_probabilities_are_those_of_the_model_text_by_text(
    cell_type: str, bidirectional: bool, num_threads: int
) -> None:
    classifier = make_classifier(cell_type=cell_type, bidirectional=bidirectional)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    actual = classifier.predict_proba(TEXTS, batch_size=2)
    assert torch.get_num_threads() == num_threads
    torch.set_num_threads(before)
    assert (actual.shape, actual.dtype) == ((5, 3), np.float32)
    np.testing.assert_allclose(actual, text_by_text(classifier, TEXTS), atol=1e-6)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_batches_of_many_texts_have_few_shapes_and_little_padding(
    classifier: TextClassifier, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every shape costs time and memory once, so a stream must not bring new ones for ever."""
    generator = np.random.default_rng(0)
    texts = ["a " * length for length in generator.integers(0, 10, size=2000)]
    shapes, num_positions, classify = set(), 0, classifier.model.classify

    def noted(input_ids: torch.Tensor, *others: object) -> object:
        nonlocal num_positions
        shapes.add(tuple(input_ids.shape))
        num_positions += input_ids.numel()
        return classify(input_ids, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(classifier.model, "classify", noted)
    with num_threads_here(num_threads):
        actual = classifier.predict_proba(texts, batch_size=64)
    assert {size for size, _ in shapes if size > 8} <= {16, 32, 48, 64}
    num_tokens = sum(len(text) // 2 for text in texts)
    assert num_tokens < num_positions < 1.1 * num_tokens
    first_of_length = {text: texts.index(text) for text in texts}
    expected = text_by_text(classifier, list(first_of_length))
    np.testing.assert_allclose(actual[list(first_of_length.values())], expected, atol=1e-6)
    np.testing.assert_allclose(actual, actual[[first_of_length[text] for text in texts]], atol=1e-6)


def test_labels_are_the_most_probable_ones(classifier: TextClassifier) -> None:
    expected = [classifier.labels[index] for index in text_by_text(classifier, TEXTS).argmax(axis=1)]
    assert len(set(expected)) > 1  # or the order would not be seen
    assert classifier.predict(TEXTS) == expected
    assert classifier.predict(iter(TEXTS), batch_size=1) == expected


def test_a_single_string_has_a_single_answer(classifier: TextClassifier) -> None:
    probabilities = classifier.predict_proba(TEXTS[3])
    np.testing.assert_allclose(probabilities, text_by_text(classifier, TEXTS)[3], atol=1e-6)
    assert classifier.predict(TEXTS[3]) == classifier.labels[probabilities.argmax()]


def test_no_text_has_no_answer(classifier: TextClassifier) -> None:
    assert classifier.predict([]) == []
    assert classifier.predict_proba([]).shape == (0, 3)


def test_progress_is_shown_for_long_inputs_unless_it_is_not_wanted(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier.predict(TEXTS)
    assert not capsys.readouterr().err
    monkeypatch.setattr(inference, "SECONDS_BEFORE_PROGRESS", 0)
    classifier.predict(TEXTS)
    assert "5/5" in capsys.readouterr().err
    classifier.predict(TEXTS, show_progress=False)
    assert not capsys.readouterr().err


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("batch_size", [2, 1000], ids=["in_the_pool", "in_this_thread"])
@pytest.mark.parametrize("pooling", get_args(ClassifierPooling))
def test_vectors_are_what_the_classifier_reads(pooling: str, batch_size: int) -> None:
    """Its linear layer over them gives the probabilities."""
    classifier = make_classifier(classifier_pooling=pooling, bidirectional=True, concat_embedding_mean=True)
    vectors = classifier.encode(TEXTS, batch_size=batch_size)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, classifier.model.classifier.in_features)
    with torch.no_grad():
        probabilities = classifier.model.classifier(torch.from_numpy(vectors)).softmax(dim=-1).numpy()
    np.testing.assert_allclose(probabilities, text_by_text(classifier, TEXTS), atol=1e-6)
    assert not vectors[1].any()  # the empty text
    np.testing.assert_allclose(classifier.encode(TEXTS[3]), vectors[3], atol=1e-6)
    np.testing.assert_allclose(classifier.encode(iter(TEXTS)), vectors, atol=1e-6)
    assert classifier.encode([]).shape == (0, vectors.shape[1])


def test_normalized_vectors_have_length_one_and_the_same_direction(classifier: TextClassifier) -> None:
    vectors, normalized = classifier.encode(TEXTS), classifier.encode(TEXTS, normalize_embeddings=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(normalized * lengths, vectors, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(normalized, axis=1), [1, 0, 1, 1, 1], atol=1e-6)


def test_a_model_in_half_the_bytes_gives_vectors(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    vectors = TextClassifier.from_pretrained(tmp_path, dtype="bfloat16").encode(TEXTS)
    np.testing.assert_allclose(vectors, classifier.encode(TEXTS), atol=0.1)


def test_a_tokenizer_without_a_note_cuts_texts_at_its_longest(classifier: TextClassifier) -> None:
    """As tokenizers of other models and of older folders are."""
    tokenizer = train_tokenizer(["the cat sat on a mat"])
    assert TextClassifier(classifier.model, tokenizer).max_length is None
    del tokenizer.init_kwargs["max_length"]
    tokenizer.model_max_length = 3
    older = TextClassifier(classifier.model, tokenizer)
    assert older.max_length == 3
    np.testing.assert_allclose(older.predict_proba("the cat sat on"), older.predict_proba("the cat sat"), atol=1e-6)


def test_texts_are_cut_where_training_cut_them(classifier: TextClassifier) -> None:
    words = "the cat sat on a mat and a dog"
    short, long = classifier.predict_proba([words, words + " all day long"])
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_a_lone_surrogate_is_an_unknown_character(classifier: TextClassifier) -> None:
    np.testing.assert_allclose(classifier.predict_proba("a \ud800 dog"), classifier.predict_proba("a ? dog"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a dog", None], "must be strings, got None at position 1"),
        (pd.Series(["a dog", float("nan")], dtype=object), "got nan at position 1"),
        ([b"a dog"], "got b'a dog' at position 0"),
        (("a dog", 3), "got 3 at position 1"),
        ((text for text in [*["a dog"] * 50, float("inf")]), "got inf at position 50"),
        ([["a dog", "a cat"]], r"got \['a dog', 'a cat'\] at position 0"),  # a pair, to `tokenizers`
        (np.array([["a dog", "a cat"]]), r"got array\(.* at position 0"),
        (None, "must be a list, got NoneType"),
        (b"a dog", "must be a list, got bytes"),
        ({"text": ["a dog"]}, "must be a list, got dict"),
        (pd.DataFrame({"text": ["a dog"]}), "must be one column, got a table"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch, texts: Any, message: str
) -> None:
    monkeypatch.setattr(onnx_classifier, "CHUNK_SIZE", 20)
    with pytest.raises(TypeError, match=message):
        classifier.predict(texts)
    if not isinstance(texts, Iterator):
        with pytest.raises(TypeError, match=message):
            classifier.encode(texts)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(classifier: TextClassifier, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"`batch_size` must be at least 1, got {batch_size}"):
        classifier.predict(TEXTS, batch_size=batch_size)


def test_a_string_is_no_stream(classifier: TextClassifier) -> None:
    with pytest.raises(TypeError, match="Pass `\\[text\\]`"):
        next(classifier.iter_proba("a dog"))


def test_a_larger_tokenizer_is_refused(classifier: TextClassifier) -> None:
    model = RNNForSequenceClassification(RNNConfig(vocab_size=4, num_labels=3))
    with pytest.raises(ValueError, match=r"The tokenizer has \d+ tokens but `config.vocab_size` is 4"):
        TextClassifier(model, classifier.tokenizer)


def test_a_model_with_adapters_is_refused_until_they_are_merged(classifier: TextClassifier) -> None:
    peft = pytest.importorskip("peft")
    expected = classifier.predict_proba(TEXTS)
    model: Any = peft.get_peft_model(
        classifier.model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["embed_tokens"], r=2)
    ).eval()
    with pytest.raises(TypeError, match=r"got `PeftModel.*`\. Pass what its `merge_and_unload\(\)` returns"):
        TextClassifier(model, classifier.tokenizer)
    merged = TextClassifier(model.merge_and_unload(), classifier.tokenizer)
    np.testing.assert_allclose(merged.predict_proba(TEXTS), expected, atol=1e-6)


@pytest.mark.parametrize("model", [RNNModel(RNNConfig(vocab_size=30)), "folder"], ids=["encoder", "path"])
def test_what_is_no_classifier_is_refused(classifier: TextClassifier, model: Any) -> None:
    with pytest.raises(TypeError, match=r"must be an `RNNForSequenceClassification`, got `(RNNModel|str)`"):
        TextClassifier(model, classifier.tokenizer)
