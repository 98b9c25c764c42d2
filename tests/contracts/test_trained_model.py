"""The trained model that lies in the repository."""

import hashlib
import json
from pathlib import Path

from rnn_hf import TextClassifier

FOLDER = Path(__file__).parents[2] / "model_cards" / "ag-news"


def test_the_weights_are_those_of_the_results() -> None:
    results = json.loads((FOLDER / "all_results.json").read_text())
    assert hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest() == results["model_sha256"]


def test_it_is_small() -> None:
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert sum((FOLDER / name).stat().st_size for name in names) <= 6e6


def test_it_answers_before_anything_is_trained() -> None:
    classifier = TextClassifier.from_pretrained(FOLDER)
    texts = [
        "The striker scored twice in the second half as the club won the cup final.",
        "Shares fell as the price of crude oil rose to a record on Wall Street.",
        "The president met rebel leaders for peace talks after the election.",
        "The company released new software for wireless networks and PCs.",
    ]
    assert classifier.predict(texts) == ["Sports", "Business", "World", "Sci/Tech"]
