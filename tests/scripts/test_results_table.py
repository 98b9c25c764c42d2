from pathlib import Path

from scripts.results_table import (
    check_recipes,
    lesson_table,
    load_results,
    prediction_table,
    results_table,
    training_table,
)

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readme_shows_what_the_files_say() -> None:
    assert results_table() in README
    assert lesson_table() in README
    assert prediction_table() in README
    assert training_table() in README


def test_every_recipe_has_results_on_the_same_rows() -> None:
    check_recipes()


def test_packing_beats_padding_over_three_seeds() -> None:
    packed, padded = (
        [run["test_accuracy"] for run in load_results(name)] for name in ("lesson-lstm-packed", "lesson-lstm")
    )
    assert len(packed) == len(padded) == 3
    assert sum(packed) > sum(padded)


def test_the_default_reaches_what_it_promises() -> None:
    results = load_results("ag-news")
    assert {run["seed"] for run in results} == {42, 1, 2}
    assert sum(run["test_accuracy"] for run in results) / 3 >= 0.918  # what fastText reaches on the same rows
    assert all(run["train_runtime"] <= 60 for run in results)
