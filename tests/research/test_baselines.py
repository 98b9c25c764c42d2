import json
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score

from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.sources import load_text_dataset
from scripts.research import baselines as script
from tests.conftest import TINY_RUN

MODELS = [
    pytest.param(
        "fasttext",
        marks=pytest.mark.skipif(
            script.find_spec("fasttext") is None, reason="the extra [benchmark] is not installed"
        ),
    ),
    "tfidf",
]
PEERS: dict[str, Any] = {
    "fasttext": script.FastText,
    "tfidf": lambda texts, labels: next(script.tfidf_classifiers(texts, labels, [1.0])),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_trained_baseline_has_learnt(model: str) -> None:
    texts = [f"{subject}\nwon" for subject in ("The club", "The team", "The bank", "The fund")] * 50
    classify = PEERS[model](texts, ["Sports", "Sports", "Business", "Business"] * 50)
    assert list(classify(["The CLUB", "bank", "team, won\n"])) == ["Sports", "Business", "Sports"]
    assert classify([""])[0] in ("Sports", "Business")


@pytest.mark.parametrize("model", MODELS)
def test_the_same_rows_give_the_same_results(model: str) -> None:
    dataset = load_text_dataset("demo", max_train_samples=200)
    first, second = (script.measure(model, dataset, [5]) for _ in range(2))
    assert first == second


def test_the_settings_are_those_that_are_the_best_on_the_validation_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that are the best on the test split, and equals that come later, are passed over."""
    dataset = load_text_dataset("demo", max_train_samples=50)
    (_, validation_labels), (_, test_labels) = (script.labelled(dataset[split]) for split in ("validation", "test"))
    num_rows = len(validation_labels)

    def right_in(num_right: int, on_test: list[str]) -> script.Classify:
        wrong = ["nothing"] * (num_rows - num_right)
        return lambda texts: [*validation_labels[:num_right], *wrong] if len(texts) == num_rows else on_test

    found = [*test_labels[:600], *["World"] * 400]
    tried = [
        ({"penalty": 1}, right_in(3, test_labels)),
        ({"penalty": 2}, right_in(9, found)),
        ({"penalty": 3}, right_in(9, test_labels)),
    ]
    monkeypatch.setattr(script, "candidates", lambda *args: iter(tried))
    measured = script.measure("tfidf", dataset, [5])
    assert measured["settings"] == {"penalty": 2}
    assert measured["validation_accuracy"] == pytest.approx(9 / num_rows)
    num_right = sum(one == other for one, other in zip(found, test_labels, strict=True))
    assert measured["test_accuracy"] == pytest.approx(num_right / 1000)
    assert measured["test_macro_f1"] == pytest.approx(f1_score(test_labels, found, average="macro"))


def test_the_candidates_learn_from_the_training_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_text_dataset("demo", max_train_samples=50)
    given = []
    monkeypatch.setattr(
        script, "candidates", lambda *args: [given.append(args[1:3]) or ({}, lambda texts: ["World"] * len(texts))]
    )
    script.measure("tfidf", dataset, [5])
    assert given == [script.labelled(dataset["train"])]


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_is_tried_once(model: str) -> None:
    rows = load_demo_news(num_train=80)["train"]
    tried = [settings for settings, _ in script.candidates(model, *script.labelled(rows), [1, 2])]
    if model == "tfidf":
        assert tried == [{"penalty": penalty} for penalty in script.PENALTIES]
    else:
        assert sorted((settings["num_epochs"], settings["learning_rate"]) for settings in tried) == [
            (epochs, rate) for epochs in (1, 2) for rate in script.LEARNING_RATES
        ]


def test_the_rows_are_those_that_the_recipe_trains_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, file = tmp_path / "recipe.yaml", tmp_path / "baselines.json"
    recipe.write_text("dataset_name: demo\nmax_train_samples: 300\nvalidation_size: 0.1\nhidden_size: 8\nseed: 5\n")
    result = script.main([str(recipe), "--models", "tfidf", "--seeds", "1", "2", "--output_file", str(file)])
    assert json.loads(file.read_text()) == result
    expected = load_text_dataset("demo", max_train_samples=300, validation_size=0.1, seed=2)
    first, second = result["runs"]
    assert (first["seed"], second["seed"], second["num_train_examples"]) == (1, 2, 300)
    assert {"model": "tfidf", "seed": 2, **script.measure("tfidf", expected, [5])} == second
    assert result["settings"]["dataset_name"] == "demo"
    assert "TF-IDF + linear" in capsys.readouterr().out


def test_a_baseline_that_is_not_installed_is_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "find_spec", lambda package: None)
    with pytest.raises(SystemExit, match="2"):
        script.main(TINY_RUN)
    assert "fastText is not installed" in capsys.readouterr().err
