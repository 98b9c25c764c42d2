import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from scripts.research.results_table import (
    CARDS,
    SECOND_DATASET,
    ablation_table,
    check_recipes,
    copies_table,
    curve_table,
    lesson_table,
    load_results,
    prediction_table,
    results_table,
    second_dataset_table,
    training_table,
)

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readme_shows_what_the_files_say() -> None:
    assert results_table() in README
    assert ablation_table() in README
    assert second_dataset_table() in README
    assert copies_table() in README
    assert curve_table() in README
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
    baselines = json.loads((CARDS / "ag-news" / "learning_curve.json").read_text())["points"]
    linear = [point["test_accuracy"] for point in baselines if point["model"] != "recipe"]
    assert sum(run["test_accuracy"] for run in results) / 3 > max(linear)
    assert all(run["train_runtime"] <= 180 for run in results)
    assert all(run["test_ece"] < run["test_ece_before_scaling"] / 2 for run in results)


def test_what_is_learned_from_the_text_itself_is_worth_a_point() -> None:
    begun, new = ([run["test_accuracy"] for run in load_results(name)] for name in ("ag-news-lm", "ag-news"))
    assert len(begun) == len(new) == 3
    assert sum(begun) / 3 > sum(new) / 3 + 0.01


def test_each_rung_of_the_ladder_is_above_the_one_below() -> None:
    names = ("ag-news", "ag-news-large", "ag-news-lm", "ag-news-lm-bidirectional")
    means = [sum(run["test_accuracy"] for run in load_results(name)) / 3 for name in names]
    assert all({run["seed"] for run in load_results(name)} == {42, 1, 2} for name in names)
    gains = [above - below for below, above in pairwise(means)]
    assert min(gains) > 0.002


def test_a_taught_network_of_the_defaults_size_comes_near_its_teachers() -> None:
    taught, default = load_results("ag-news-distilled"), load_results("ag-news")
    assert {run["num_parameters"] for run in taught} == {run["num_parameters"] for run in default}
    accuracy = sum(run["test_accuracy"] for run in taught) / 3
    assert accuracy > sum(run["test_accuracy"] for run in default) / 3 + 0.005
    assert accuracy > sum(run["teacher_accuracy"] for run in taught) / 3 - 0.006
    assert all(run["train_runtime"] <= 180 for run in taught)


def test_the_ablation_is_that_of_the_stored_recipe_over_all_seeds() -> None:
    file = json.loads((CARDS / "ag-news" / "ablation.json").read_text())
    recipe = yaml.safe_load((CARDS / "ag-news" / "recipe.yaml").read_text())
    techniques = yaml.safe_load((CARDS / "ag-news" / "techniques.yaml").read_text())
    assert file["settings"].keys() == techniques.keys() | {"recipe"}
    for name, settings in file["settings"].items():
        # it was measured before settings could follow the data
        assert settings["recipe"] | {"settings_from_data": False} == recipe
        assert {point["seed"] for point in file["points"] if point["technique"] == name} == {42, 1, 2}


@pytest.mark.parametrize("name", SECOND_DATASET)
def test_the_second_dataset_has_the_default_recipe_but_for_its_rows_and_epochs(name: str) -> None:
    default, recipe = (yaml.safe_load((CARDS / of / "recipe.yaml").read_text()) for of in ("ag-news", name))
    own = {"dataset_name": "CogComp/trec", "label_column_name": f"{name.removeprefix('trec-')}_label"}
    assert recipe.items() >= own.items()
    for key in own.keys() | {"num_train_epochs"}:
        default.pop(key, None), recipe.pop(key)
    assert recipe == default


@pytest.mark.parametrize("name", SECOND_DATASET)
def test_the_baselines_have_the_rows_and_the_seeds_of_the_recipe(name: str) -> None:
    baselines = json.loads((CARDS / name / "baselines.json").read_text())
    recipe = yaml.safe_load((CARDS / name / "recipe.yaml").read_text())
    for key in ("dataset_name", "label_column_name"):
        assert baselines["settings"][key] == recipe[key]
    ours = {
        (run["seed"], run["num_train_examples"], run["num_validation_examples"], run["num_test_examples"])
        for run in load_results(name)
    }
    for model in ("fasttext", "tfidf"):
        theirs = [run for run in baselines["runs"] if run["model"] == model]
        assert ours == {
            (run["seed"], run["num_train_examples"], run["num_validation_examples"], run["num_test_examples"])
            for run in theirs
        }


def test_the_curve_has_the_rows_of_ag_news_and_its_figure() -> None:
    curve = json.loads((CARDS / "ag-news" / "learning_curve.json").read_text())
    assert all(
        settings.get("dataset_name", "fancyzhx/ag_news") == "fancyzhx/ag_news"
        for settings in curve["settings"].values()
    )
    assert {point["num_test_examples"] for point in curve["points"]} == {7600}
    assert (CARDS / "ag-news" / "learning_curve.png").exists()
    assert "](model_cards/ag-news/learning_curve.png)" in README
