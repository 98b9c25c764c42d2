"""The handler of an endpoint, called as the toolkit of Inference Endpoints does, from the files of a repository."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNForTokenClassification, TextClassifier, train_tokenizer
from rnn_hf.hub import HANDLER_FILES, files_to_push
from tests.test_hub import CARD

TEXTS = ["the club won", "", "oil", "a \ud800 club " * 400]


def repository(folder: Path, **settings: Any) -> tuple[Any, TextClassifier]:
    """A handler of a repository with a classifier, and the classifier."""
    tokenizer = train_tokenizer(["the club won the cup", "oil prices rise"], max_length=300)
    config = RNNConfig(vocab_size=len(tokenizer), id2label=dict(enumerate("abc")), ngram_buckets=16, **settings)
    model = RNNForSequenceClassification(config)
    model.classifier.weight.data.normal_(std=3)
    classifier = TextClassifier(model, tokenizer)
    classifier.save_pretrained(folder / "saved")
    (folder / "pushed").mkdir()
    for name, path in files_to_push(folder / "saved", with_handler=True).items():
        (folder / "pushed" / name).write_bytes(path.read_bytes())
    spec = importlib.util.spec_from_file_location("handler", folder / "pushed" / "handler.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder / "pushed")), classifier


def labels_of(rows: list[Any]) -> list[str]:
    return [entry["label"] for row in rows for entry in (row if isinstance(row, list) else [row])]


def test_answers_are_those_of_the_classifier_in_the_form_of_the_pipeline(tmp_path: Path) -> None:
    handler, classifier = repository(tmp_path)
    expected = classifier.predict_proba(TEXTS)
    answers = json.loads(json.dumps(handler({"inputs": TEXTS})))
    assert [answer["label"] for answer in answers] == classifier.predict(TEXTS)
    assert [answer["score"] for answer in answers] == pytest.approx(expected.max(axis=1).tolist(), abs=1e-6)
    by_pipeline = pipeline("text-classification", model=str(tmp_path / "saved"))
    for parameters in ({}, {"top_k": 2}, {"top_k": 9}):
        for inputs in ("the club won", ["the club won", "oil"]):
            theirs = by_pipeline(inputs, **parameters)
            ours = handler({"inputs": inputs, "parameters": parameters})
            assert [isinstance(row, list) for row in ours] == [isinstance(row, list) for row in theirs]
            assert labels_of(ours) == labels_of(theirs)
    assert handler({"inputs": []}) == []


def test_thresholds_choose_the_labels_of_a_text_that_may_have_several(tmp_path: Path) -> None:
    handler, classifier = repository(
        tmp_path, problem_type="multi_label_classification", label_thresholds=[0.3, 0.6, 0.9]
    )
    for threshold in (None, 0.0, 0.5, 1.0):
        answers = handler({"inputs": TEXTS, "parameters": {} if threshold is None else {"threshold": threshold}})
        got = [{entry["label"] for entry in answer} for answer in answers]
        assert got == [set(answer) for answer in classifier.predict(TEXTS, threshold=threshold)]
    for threshold, number in ((0.0, 1), (1.0, 0)):
        answers = handler({"inputs": TEXTS, "parameters": {"threshold": threshold, "top_k": 1}})
        assert [len(answer) for answer in answers] == [number] * len(TEXTS)
    assert len(handler({"inputs": "oil", "parameters": {"top_k": 2}})) == 2


def test_a_regression_answers_numbers(tmp_path: Path) -> None:
    handler, classifier = repository(tmp_path, problem_type="regression")
    rows = [[entry["score"] for entry in answer] for answer in handler({"inputs": TEXTS})]
    assert rows == [pytest.approx(row, abs=1e-5) for row in classifier.predict(TEXTS)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "A request must be an object with `inputs`"),
        ({}, "`inputs` must be a string or a list of strings, got None"),
        ({"inputs": {"text": "oil"}}, "`inputs` must be a string or a list of strings"),
        ({"inputs": ["oil", None]}, "`inputs` must be a string or a list of strings"),
        ({"inputs": "oil", "parameters": {"topk": 1}}, "`parameters` must be `top_k` and `threshold`"),
        ({"inputs": "oil", "parameters": [1]}, "`parameters` must be `top_k` and `threshold`"),
        ({"inputs": "oil", "parameters": []}, "`parameters` must be `top_k` and `threshold`"),
        ({"inputs": "oil", "parameters": {"threshold": True}}, "`threshold` must be a number from 0 to 1, got True"),
        ({"inputs": "oil", "parameters": {"top_k": 0}}, "`top_k` must be an integer of at least 1, got 0"),
        ({"inputs": "oil", "parameters": {"threshold": 2}}, "`threshold` must be a number from 0 to 1, got 2"),
        ({"inputs": "oil", "parameters": {"threshold": 0.1}}, "`threshold` needs a model of several labels per text"),
    ],
)
def test_a_bad_request_is_one_line(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    handler, _ = repository(tmp_path)
    with pytest.raises(ValueError, match="^" + message) as caught:
        handler(data)
    assert "\n" not in str(caught.value)


def test_only_a_classifier_has_a_handler(tmp_path: Path) -> None:
    repository(tmp_path)
    assert not set(HANDLER_FILES) & set(files_to_push(tmp_path / "saved"))
    tokenizer = train_tokenizer(["the club"])
    RNNForTokenClassification(RNNConfig(vocab_size=len(tokenizer))).save_pretrained(tmp_path / "tagger")
    tokenizer.save_pretrained(tmp_path / "tagger")
    (tmp_path / "tagger" / "README.md").write_text(CARD)
    with pytest.raises(ValueError, match="`with_handler` needs a classifier"):
        files_to_push(tmp_path / "tagger", with_handler=True)


def test_weights_of_16_bits_and_a_tokenizer_without_padding_give_the_same_answers(tmp_path: Path) -> None:
    handler, classifier = repository(tmp_path)
    assert handler.model.dtype == torch.float32
    classifier.tokenizer.pad_token = None
    classifier.tokenizer.save_pretrained(tmp_path / "pushed")
    again = type(handler)(str(tmp_path / "pushed"))
    assert again({"inputs": TEXTS}) == handler({"inputs": TEXTS})
