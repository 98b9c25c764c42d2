"""Several labels per text, and regression: a file, training, evaluation, prediction, and the loaded model."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from sklearn.metrics import recall_score

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.commands import evaluate, predict, train
from rnn_hf.data.tokenizer_training import train_tokenizer
from scripts import train_with_trainer
from tests.refusals import program_of

SCRIPTS = {"train": train.main, "train_with_trainer": train_with_trainer.main}
TINY = [
    "--embedding_size", "16", "--hidden_size", "16", "--num_train_epochs", "12", "--learning_rate", "0.02",
    "--per_device_train_batch_size", "16", "--word_dropout", "0", "--classifier_dropout", "0",
    "--embedding_dropout", "0", "--classifier_pooling", "max", "--validation_size", "0.25", "--use_cpu",
    "--settings_from_data", "false",
]  # fmt: skip
TOPICS = {"food": ["soup", "bread"], "sport": ["goal", "match"], "music": ["song", "drum"]}
FILLERS = ["the", "a", "was", "and", "then", "there"]
Main = Callable[[list[str]], dict[str, Any]]


def write_rows(path: Path, num_rows: int, label: Callable[[list[str]], Any]) -> str:
    """Write texts about any of the topics, with labels that a function computes from their topics."""
    generator = random.Random(path.name)
    with path.open("w") as file:
        for _ in range(num_rows):
            topics = [topic for topic in TOPICS if generator.random() < 0.5]
            words = [generator.choice(TOPICS[topic]) for topic in topics] + generator.choices(FILLERS, k=3)
            generator.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "label": label(topics)}) + "\n")
    return str(path)


def run(script: str, folder: Path, label: Callable[[list[str]], Any], *argv: str) -> tuple[dict[str, Any], str]:
    """Train on generated rows; return the results and the test rows."""
    AcceleratorState._reset_state(reset_partial_state=True)
    test = write_rows(folder / "test.jsonl", 100, label)
    files = ["--train_file", write_rows(folder / "train.jsonl", 400, label), "--test_file", test]
    return SCRIPTS[script]([*TINY, *files, "--output_dir", str(folder / "model"), *argv]), test


def evaluated(folder: Path, test: str, *argv: str) -> dict[str, Any]:
    AcceleratorState._reset_state(reset_partial_state=True)
    return evaluate.main(["--model_name_or_path", str(folder / "model"), "--test_file", test, "--use_cpu", *argv])


def predicted(folder: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    predict.main(["--model_name_or_path", str(folder / "model"), *argv])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("script", SCRIPTS)
def test_several_labels_a_text_are_learned_and_predicted(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, test = run(script, tmp_path, lambda topics: topics)
    assert results["problem_type"] == "multi_label_classification"
    assert results["validation_micro_f1"] > 0.9
    # a guess of all three topics has 0.125 and 0.67
    assert results["test_accuracy"] > 0.9 and results["test_micro_f1"] > 0.95

    classifier = TextClassifier.from_pretrained(tmp_path / "model")
    assert classifier.model.config.problem_type == "multi_label_classification"
    assert classifier.labels == ["food", "music", "sport"]
    texts = ["the drum and the soup", "the goal", "then there was"]
    assert classifier.predict(texts) == [["food", "music"], ["sport"], []]
    assert classifier.predict(texts[0]) == ["food", "music"]
    assert classifier.predict(texts, threshold=0.0) == [classifier.labels] * 3
    assert classifier.predict_proba(texts)[0, :2].min() > 0.5

    metrics = evaluated(tmp_path, test)
    assert metrics["accuracy"] == pytest.approx(results["test_accuracy"])
    assert "micro F1" in capsys.readouterr().out
    assert evaluated(tmp_path, test, "--threshold", "0")["per_class"]["food"]["recall"] == 1
    answers = predicted(tmp_path, capsys, "--all_probabilities", "--text", *texts)
    assert [answer["labels"] for answer in answers] == classifier.predict(texts)
    assert list(answers[0]["probabilities"]) == classifier.labels


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_number_is_learned_and_predicted(script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, test = run(script, tmp_path, lambda topics: 0.5 + len(topics))
    assert results["problem_type"] == "regression"
    assert results["test_r2"] > 0.8 and results["validation_r2"] > 0.8
    assert results["test_accuracy"] is None

    classifier = TextClassifier.from_pretrained(tmp_path / "model")
    assert classifier.model.config.problem_type == "regression"
    few, many = classifier.predict(["then there was", "a soup and a goal and a drum"])
    assert isinstance(few, float) and few == pytest.approx(0.5, abs=0.5) and many == pytest.approx(3.5, abs=0.5)
    assert classifier.predict("then there was") == pytest.approx(few)

    metrics = evaluated(tmp_path, test)
    assert metrics["mae"] == pytest.approx(results["test_mae"], rel=1e-4)
    assert f"{metrics['r2']:.4f}" in capsys.readouterr().out
    (answer,) = predicted(tmp_path, capsys, "--text", "then there was")
    assert answer["value"] == pytest.approx(few, abs=1e-5)


def test_several_numbers_are_learned_and_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, test = run("train", tmp_path, lambda topics: [1.5 * len(topics), -1.0 if "food" in topics else 1.0])
    assert results["test_r2"] > 0.8 and list(results["test_per_target"]) == ["LABEL_0", "LABEL_1"]
    (answer,) = TextClassifier.from_pretrained(tmp_path / "model").predict(["a soup"])
    assert answer == pytest.approx([1.5, -1.0], abs=0.5)
    assert evaluated(tmp_path, test)["r2"] == pytest.approx(results["test_r2"], rel=1e-4)
    (line,) = predicted(tmp_path, capsys, "--text", "a soup")
    assert line == {"values": {"LABEL_0": pytest.approx(answer[0]), "LABEL_1": pytest.approx(answer[1])}}


def test_whole_numbers_are_targets_where_the_flag_says_so(tmp_path: Path) -> None:
    results, test = run("train", tmp_path, len, "--problem_type", "regression", "--num_train_epochs", "1")
    assert results["problem_type"] == "regression"
    # the model knows it
    assert evaluated(tmp_path, test)["mse"] == pytest.approx(results["test_mse"], rel=1e-4)


@pytest.mark.parametrize("script", SCRIPTS)
def test_class_weights_find_more_rows_of_a_rare_class(script: str, tmp_path: Path) -> None:
    """A word indicates the rare class in twenty rows, but occurs in as many others."""
    generator = np.random.default_rng(0)
    rows = [("rare", "odd")] * 20 + [("usual", "odd")] * 40 + [("usual", "even")] * 340
    lines = [json.dumps({"text": f"{word} {generator.integers(9)}", "label": label}) for label, word in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    file = str(tmp_path / "rows.jsonl")
    recalls = []
    for name, weights in (("plain", []), ("weighted", ["--class_weights", "balanced"])):
        AcceleratorState._reset_state(reset_partial_state=True)
        argv = [
            "--train_file",
            file,
            "--test_file",
            file,
            "--validation_size",
            "0",
            "--output_dir",
            str(tmp_path / name),
        ]
        SCRIPTS[script]([*TINY, *argv, "--num_train_epochs", "3", *weights])
        predictions = TextClassifier.from_pretrained(tmp_path / name).predict([f"{word} x" for _, word in rows])
        recalls.append(recall_score([label for label, _ in rows], predictions, pos_label="rare"))
    assert recalls == [0, 1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--class_weights", "1", "heavy"], "`--class_weights` must be `balanced` or numbers above 0, got 'heavy'"),
        (["--class_weights", "1", "2"], "a number for each of the 3 classes (food, music, sport), got 2 values"),
        (["--label_smoothing_factor", "0.1"], "`--label_smoothing_factor` must be 0"),
        (["--problem_type", "regression"], 'Column "label" must hold a number'),
        (["--problem_type", "ranking"], "--problem_type"),
        (["--no_such_flag", "1"], "--no_such_flag"),
    ],
)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_mistake_of_the_user_is_one_line(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(script, tmp_path, lambda topics: topics, *argv)
    line = capsys.readouterr().err.strip().splitlines()[-1].split("\r")[-1]
    assert line.startswith(f"{program_of(script)}: error: ")
    assert message in line


def test_a_model_with_one_number_and_no_problem_type_is_a_regression() -> None:
    tokenizer = train_tokenizer(["a dog", "a cat"])
    model = RNNForSequenceClassification(RNNConfig(vocab_size=5, num_labels=1))
    assert isinstance(TextClassifier(model, tokenizer).predict("a dog"), float)
