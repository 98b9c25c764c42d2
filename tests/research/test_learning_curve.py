import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rnn_hf.data.sources import load_text_dataset
from scripts.research import baselines
from scripts.research import learning_curve as script
from tests.conftest import TINY_RUN

pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")

RECIPE_FLAGS = [word for word in TINY_RUN if word not in ("--max_train_samples", "400")]
Measure = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "curve.json"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Answer without training; return the models that were asked for, and the rows they were given."""
    asked: list[tuple[str, int]] = []

    def measure(model: str, dataset: Any, *rest: Any) -> dict[str, Any]:
        asked.append((model, len(dataset["train"])))
        return {"test_accuracy": 0.5 + len(asked) / 100, "num_train_examples": len(dataset["train"])}

    def train_recipe(recipe: Any, train_args: Any, num_rows: int, *rest: Any) -> dict[str, Any]:
        asked.append(("recipe", num_rows))
        return {"test_accuracy": 0.7, "num_train_examples": num_rows}

    monkeypatch.setattr(baselines, "measure", measure)
    monkeypatch.setattr(script, "train_recipe", train_recipe)
    return asked


@pytest.fixture
def measure(file: Path) -> Measure:
    def run(*argv: str, models: str = "tfidf") -> list[dict[str, Any]]:
        return script.main([*RECIPE_FLAGS, "--models", *models.split(), "--output_file", str(file), *argv])

    return run


@pytest.mark.usefixtures("trained_here")
def test_all_learn_from_equally_many_rows_and_are_tested_on_the_same(file: Path, measure: Measure) -> None:
    points = measure("--num_rows", "100", "9999", "--seeds", "3", models="recipe tfidf")
    found = [(point["model"], point["num_train_examples"], point["num_test_examples"]) for point in points]
    assert found == [("recipe", 100, 1000), ("recipe", 3800, 1000), ("tfidf", 100, 1000), ("tfidf", 3800, 1000)]
    assert json.loads(file.read_text())["points"] == points
    assert file.with_suffix(".png").exists()
    dataset = load_text_dataset("demo", max_train_samples=100, seed=3)
    expected = baselines.measure("tfidf", dataset, [5])
    assert points[2].items() >= expected.items()


def test_points_that_the_file_holds_are_not_computed_again(measure: Measure, trained: list[tuple[str, int]]) -> None:
    first = measure("--num_rows", "100", "--seeds", "1")
    again = measure("--num_rows", "200", "100", "--seeds", "1", "2")
    assert trained == [("tfidf", 100)] * 2 + [("tfidf", 200)] * 2
    assert first[0] in again
    assert [(point["num_rows"], point["seed"]) for point in again] == [(100, 1), (100, 2), (200, 1), (200, 2)]
    assert measure("--num_rows", "100", "200", "--seeds", "1", "2") == again


def test_a_killed_measurement_keeps_what_it_had(
    file: Path, measure: Measure, monkeypatch: pytest.MonkeyPatch, trained: list[tuple[str, int]]
) -> None:
    answer = baselines.measure

    def killed_at_the_second(*args: Any) -> dict[str, Any]:
        if len(trained) == 1:
            raise KeyboardInterrupt
        return answer(*args)

    monkeypatch.setattr(baselines, "measure", killed_at_the_second)
    with pytest.raises(SystemExit, match="130"):
        measure("--num_rows", "100", "200", "--seeds", "1")
    assert [point["num_rows"] for point in json.loads(file.read_text())["points"]] == [100]


def test_a_changed_recipe_is_measured_again_and_the_baselines_are_kept(
    measure: Measure, trained: list[tuple[str, int]]
) -> None:
    argv = ["--num_rows", "100", "--seeds", "1"]
    measure(*argv, models="recipe tfidf")
    measure(*argv, "--learning_rate", "0.5", models="recipe tfidf")
    measure(*argv, "--learning_rate", "0.5", "--min_steps", "9", models="recipe")
    assert trained == [("recipe", 100), ("tfidf", 100), ("recipe", 100), ("recipe", 100)]
    points = measure(*argv, "--validation_size", "0.2", models="tfidf")
    assert trained[4:] == [("tfidf", 100)]
    assert [point["model"] for point in points] == ["recipe", "tfidf"]


@pytest.mark.parametrize(("num_rows", "flags"), [(100, ["--max_steps", "9"]), (5000, [])])
def test_the_recipe_takes_more_steps_where_its_epochs_are_few(
    monkeypatch: pytest.MonkeyPatch, num_rows: int, flags: list[str]
) -> None:
    given: list[tuple[Any, ...]] = []

    def note(*args: Any) -> dict[str, Any]:
        given.append(args)
        return {"test_accuracy": 0.5}

    monkeypatch.setattr(script, "train_for_results", note)
    train_args = script.ClassifierRunArguments(num_train_epochs=2)
    assert script.train_recipe({"dataset_name": "demo"}, train_args, num_rows, 1, 9) == {"test_accuracy": 0.5}
    assert given == [({"dataset_name": "demo"}, 1, "--max_train_samples", str(num_rows), *flags)]


def test_the_table_has_a_row_for_each_size_and_the_spread_of_the_seeds() -> None:
    points = [
        {"model": "recipe", "num_train_examples": 1000, "test_accuracy": 0.5},
        {"model": "recipe", "num_train_examples": 1000, "test_accuracy": 0.7},
        {"model": "tfidf", "num_train_examples": 70_709, "test_accuracy": 0.92},
    ]
    assert script.curve_table(points).splitlines() == [
        "| training rows | rnn_hf | TF-IDF + linear |",
        "|---|---|---|",
        "| 1,000 | 60.0 ± 14.1 |  |",
        "| 70,709 |  | 92.0 |",
    ]
