"""What holds for all logits and names: metrics, and the cards that show them."""

import ast
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from rnn_hf.errors import plain
from rnn_hf.reporting.model_card import render_model_card
from rnn_hf.training.metrics import classification_metrics, multi_label_metrics, regression_metrics
from tests.reporting.test_model_card import (
    CLASS,
    cells,
    check_survives,
    code_blocks,
    facts,
    language_model_facts,
    page,
    recipe,
    shown,
)

# Lone surrogates are in it, which no other text has
any_text = st.text(st.characters())


def logits_and_labels(kind: str) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return logits, labels and an order of the rows."""

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num_rows, width = draw(st.integers(1, 12)), draw(st.integers(1 if kind == "numbers" else 2, 4))
        numbers = st.integers(-20, 20).map(float)
        # no two logits of a row are the same, so that rounding decides nothing
        logits = draw(arrays(np.float32, (num_rows, width), elements=numbers)) + np.linspace(
            0.1, 0.4, width, dtype="f4"
        )
        labels = {
            "classes": lambda: arrays(np.int64, (num_rows,), elements=st.integers(0, width - 1)),
            "sets": lambda: arrays(np.float32, (num_rows, width), elements=st.sampled_from([0.0, 1.0])),
            "numbers": lambda: arrays(np.float32, (num_rows, width), elements=numbers),
        }[kind]()
        return logits, draw(labels), np.array(draw(st.permutations(range(num_rows))))

    return drawn()


def assert_same_metrics(metrics: dict[str, Any], others: dict[str, Any]) -> None:
    """Check all numbers of two reports, however deep they lie, up to the rounding of sums."""
    assert metrics.keys() == others.keys()
    for name, value in metrics.items():
        if isinstance(value, dict):
            assert_same_metrics(value, others[name])
        elif isinstance(value, list):
            assert len(value) == len(others[name])
            for item, other in zip(value, others[name], strict=True):
                assert_same_metrics({"item": item}, {"item": other})
        else:
            assert value == pytest.approx(others[name], abs=1e-6), name


@given(logits_and_labels("classes"))
def test_metrics_of_classes_are_scikit_learns_in_any_order_of_the_rows(
    given_rows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    logits, labels, order = given_rows
    names = [f"class {index}" for index in range(logits.shape[1])]
    metrics = classification_metrics(logits, labels, names)
    assert_same_metrics(classification_metrics(logits[order], labels[order], names), metrics)
    predictions, ids = logits.argmax(axis=1), list(range(len(names)))
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro", zero_division=0))
    assert metrics["confusion_matrix"] == confusion_matrix(labels, predictions, labels=ids).tolist()
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    assert metrics["loss"] == pytest.approx(-log_probabilities.mean(), rel=1e-5, abs=1e-9)
    for score, name in ((precision_score, "precision"), (recall_score, "recall")):
        expected = score(labels, predictions, labels=ids, average=None, zero_division=0)
        assert [of_class[name] for of_class in metrics["per_class"].values()] == pytest.approx(expected.tolist())
    assert sum(entry["count"] for entry in metrics["calibration"]["bins"]) == len(labels)


@given(logits_and_labels("sets"), st.sampled_from([0.01, 0.3, 0.5, 0.9]))
def test_metrics_of_sets_are_scikit_learns_in_any_order_of_the_rows(
    given_rows: tuple[np.ndarray, np.ndarray, np.ndarray], threshold: float
) -> None:
    logits, labels, order = given_rows
    names = [f"class {index}" for index in range(logits.shape[1])]
    metrics = multi_label_metrics(logits, labels, names, threshold)
    assert_same_metrics(multi_label_metrics(logits[order], labels[order], names, threshold), metrics)
    predictions = 1 / (1 + np.exp(-logits.astype(np.float64))) >= threshold
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert metrics["micro_f1"] == pytest.approx(f1_score(labels, predictions, average="micro", zero_division=0))
    occurring = [index for index in range(len(names)) if labels[:, index].any() or predictions[:, index].any()]
    if occurring:
        expected = f1_score(labels, predictions, labels=occurring, average="macro", zero_division=0)
        assert metrics["macro_f1"] == pytest.approx(expected)


@given(logits_and_labels("numbers"))
def test_metrics_of_numbers_are_finite_and_those_of_any_order_of_the_rows(
    given_rows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    predictions, truth, order = given_rows
    names = [f"target {index}" for index in range(truth.shape[1])]
    metrics = regression_metrics(predictions, truth, names)
    assert_same_metrics(regression_metrics(predictions[order], truth[order], names), metrics)
    assert all(np.isfinite(value) for name, value in metrics.items() if name != "per_target")
    assert metrics["mse"] == pytest.approx(((predictions - truth) ** 2).mean(), rel=1e-5)
    assert -1 - 1e-9 <= metrics["spearman"] <= 1 + 1e-9
    perfect = regression_metrics(truth, truth, names)
    assert perfect["mae"] == 0 and perfect["r2"] == np.mean([float(column.var() > 0) for column in truth.T])


# Marks of Markdown, HTML and YAML, whole and in pieces
marked_up = st.lists(
    st.sampled_from(
        [
            "[x](javascript:alert(1))", "<script>", "</td>", "<img src=x onerror=alert(1)>", "<!--", "| a |", "|",
            "\n", "---", "\n---\n", "../../etc/passwd", "{{ x }}", "&lt;", "&#60;", "\\", "`", "```", "~~~", "# ",
            "- ", "!", "!!python/object:os.system", "&a", "*a", "%", "@", '"', "'", ": ", "http://x.y", "<http://x.y>",
            "\ud800", "\u202e", "\x1b[31m", "x" * 500, "$$", "~", "null", "_", "*", "[", "]", "(", ")",
        ]
    )
    | any_text,
    min_size=1,
    max_size=6,
).map("".join)  # fmt: skip


@settings(max_examples=60)
@given(labels=st.lists(marked_up, min_size=2, max_size=5, unique=True))
def test_the_table_of_a_card_has_a_row_for_each_label_as_it_is(labels: list[str]) -> None:
    matrix = [
        [int(row != column) + (row == 0 and column == 1) for column in range(len(labels))]
        for row in range(len(labels))
    ]
    results = {"test_per_class": dict.fromkeys(labels, CLASS), "test_confusion_matrix": matrix}
    ordinary = {**results, "test_per_class": {f"label {index}": CLASS for index in range(len(labels))}}
    with tempfile.TemporaryDirectory() as folder:
        card = check_survives(render_model_card(facts(results)), render_model_card(facts(ordinary)), Path(folder))
    found = [shown(cell) for cell in cells(page(card)) if not cell.content.startswith("`")]
    start = found.index("class")
    assert found[start + 5 : start + 5 + 5 * len(labels) : 5] == [plain(label) for label in labels]
    (error,) = (block for block in page(card) if block.content.startswith("The most frequent error"))
    assert f": {plain(labels[0])} classified as {plain(labels[1])}, 2 of" in shown(error)


@settings(max_examples=60)
@given(name=marked_up, file=marked_up, config=marked_up, setting=marked_up)
def test_no_name_breaks_a_card(name: str, file: str, config: str, setting: str) -> None:
    changes = {
        "dataset_name": None,
        "dataset_config_name": config,
        "text_column_names": [setting],
        "word_vectors": setting,
    }
    card = render_model_card(facts(name=name, recipe=recipe(**changes, train_file=file)))
    ordinary = {**changes, "dataset_config_name": "config", "text_column_names": ["a"], "word_vectors": "b"}
    with tempfile.TemporaryDirectory() as folder:
        check_survives(card, render_model_card(facts(recipe=recipe(**ordinary, train_file="x.csv"))), Path(folder))
    assert shown(page(card)[1]) == plain(name)
    for code in code_blocks(card, "python"):
        ast.parse(code)


@settings(max_examples=60)
@given(texts=st.lists(marked_up, min_size=1, max_size=3))
def test_what_a_language_model_writes_stays_in_its_block(texts: list[str]) -> None:
    given_facts = language_model_facts()
    given_facts.results["generated_texts"] = texts  # type: ignore[index]  # a dict in fact
    [written] = code_blocks(render_model_card(given_facts), "text")
    assert written.splitlines() == [plain(text) or "(an empty text)" for text in texts]
