"""Tiny classifiers of texts."""

import pickle

import numpy as np
import torch

from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.text_classifier import TextClassifier

TEXTS = ["The cat sat.", "", "a dog", "the cat and the dog sat on a mat, all day long!", "unknown words only"]


def make_classifier(**arguments: object) -> TextClassifier:
    """A classifier whose answers differ from text to text, over a tokenizer that cuts texts after nine tokens."""
    tokenizer = train_tokenizer(["the cat sat on a mat . a dog and all day long !"], max_length=9)
    torch.manual_seed(0)
    settings = {"num_labels": 3, "embedding_initializer_range": 1, **arguments}
    config = RNNConfig(vocab_size=len(tokenizer), **settings)  # type: ignore[arg-type]
    return TextClassifier(RNNForSequenceClassification(config), tokenizer)


def unpickled(data: bytes) -> TextClassifier:
    classifier: TextClassifier = pickle.loads(data)  # noqa: S301  # what a test has pickled
    return classifier


def text_by_text(classifier: TextClassifier, texts: list[str]) -> np.ndarray:
    """The probabilities that the plain model gives each text alone."""
    expected = []
    for text in texts:
        batch = classifier.tokenizer(text, truncation=True, max_length=classifier.max_length, return_tensors="pt")
        with torch.no_grad():
            expected.append(classifier.model(**batch).logits.softmax(dim=-1)[0].numpy())
    return np.array(expected)
