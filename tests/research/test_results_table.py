import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from scripts.research import ablation, few_labels, panel_results, results_table
from scripts.research.results_table import CARDS, PAGES, TABLES, check_recipes, load_results, with_tables
from scripts.research.run_recipe import without_details

README, MEASUREMENTS = (page.read_text() for page in PAGES[:2])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CARDS.parent)))
def test_a_page_shows_what_the_files_say(page: Path) -> None:
    assert with_tables(page.read_text()) == page.read_text()


def test_every_table_is_on_the_page_of_measurements_but_the_summary() -> None:
    assert re.findall("<!-- table: (.*) -->", MEASUREMENTS) == [name for name in TABLES if name != "summary"]
    assert all(TABLES[name]() for name in TABLES)
    assert README.count("<!-- table: summary -->") == 1


def test_a_table_replaces_the_one_between_its_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "lesson", lambda: "| new |")
    text = "a\n<!-- table: lesson -->\n\n| old |\n| older |\n\n<!-- end of table -->\nb"
    filled = "a\n<!-- table: lesson -->\n\n| new |\n\n<!-- end of table -->\nb"
    assert with_tables(text) == with_tables(filled) == filled
    monkeypatch.setitem(TABLES, "lesson", lambda: "")
    empty = "a\n<!-- table: lesson -->\n\n<!-- end of table -->\nb"
    assert with_tables(text) == with_tables(empty) == empty
    with pytest.raises(ValueError, match="got 'lessen'"):
        with_tables(text.replace("lesson", "lessen"))


def test_the_script_writes_the_tables_into_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = [tmp_path / "one.md", tmp_path / "other.md"]
    for page, text in zip(pages, (README, MEASUREMENTS), strict=True):
        page.write_text(text.replace("|", "!"))
    monkeypatch.setattr(results_table, "PAGES", pages)
    results_table.main(["--write"])
    assert capsys.readouterr().out == f"Written: {pages[0]}\nWritten: {pages[1]}\n"
    assert TABLES["summary"]() in pages[0].read_text()
    assert TABLES["results"]() in pages[1].read_text()
    results_table.main([])
    assert TABLES["ablation"]() in capsys.readouterr().out


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_panel_is_shown_once_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    """Its results on test rows, if there are any."""
    monkeypatch.setattr(results_table, "CARDS", tmp_path)
    assert TABLES["panel"]() == ""
    run = {
        "dataset": "banking77", "name": "rnn_hf", "seed": 42, "num_classes": 77, "num_train_rows": 9993,
        "macro_f1": 0.9, "seconds": 30.0, "megabytes": 5.5,
    }  # fmt: skip
    scores = {"validation": (0.9, 0.8), split: (0.91, 0.875)}
    runs = [
        run | {"split": of, "model": model, "key": model, "accuracy": accuracy}
        for of, pair in scores.items()
        for model, accuracy in zip(("ours", "tfidf"), pair, strict=True)
    ]
    compared = {"dataset": "banking77", "name": "rnn_hf", "peer": "tfidf", "seeds": [42]}
    compared |= {"split": split, "difference": 0.035, "standard_error": 0.004}
    content = {"runs": runs, "comparisons": [compared]}
    (tmp_path / "panel.json").write_text(json.dumps(content))
    shown = TABLES["panel"]()
    assert shown.endswith(f"\n\n{panel_results.panel_table(content, split)}")
    assert "| Banking77 | 9,993 | 77 | 91.0 | 87.5 | +3.5 ± 0.4 | 90.0 | 30 | 5.5 |" in shown
    assert f"Accuracy on {split} rows" in shown


def test_the_n_gram_branch_is_named_where_the_model_beside_the_recipe_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_table, "CARDS", tmp_path)
    (tmp_path / "ag-news").mkdir()
    assert not results_table.model_of("ag-news").endswith("n-gram branch")
    for num_buckets in (0, 1024):
        (tmp_path / "ag-news" / "config.json").write_text(json.dumps({"ngram_buckets": num_buckets}))
        assert results_table.model_of("ag-news").endswith(", n-gram branch") == (num_buckets > 0)


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
    panel = json.loads((CARDS / "panel.json").read_text())["runs"]
    linear = [run["accuracy"] for run in panel if run["dataset"] == "ag_news" and run["model"] != "ours"]
    assert linear
    assert sum(run["test_accuracy"] for run in results) / 3 > max(0.922, *linear)
    assert all(run["train_runtime"] <= 180 for run in results)
    assert all(run["test_ece"] < 0.015 for run in results)


def test_what_is_learned_from_the_text_itself_is_worth_more_than_half_a_point() -> None:
    begun, new = ([run["test_accuracy"] for run in load_results(name)] for name in ("ag-news-lm", "ag-news"))
    assert len(begun) == len(new) == 3
    assert sum(begun) / 3 > sum(new) / 3 + 0.005


def test_each_rung_of_the_ladder_is_above_the_one_below() -> None:
    names = ("ag-news", "ag-news-lm", "ag-news-lm-bidirectional")
    means = [sum(run["test_accuracy"] for run in load_results(name)) / 3 for name in names]
    assert all({run["seed"] for run in load_results(name)} == {42, 1, 2} for name in names)
    gains = [above - below for below, above in pairwise(means)]
    assert min(gains) > 0


def test_a_taught_network_of_the_defaults_size_comes_near_its_teachers() -> None:
    taught, default = load_results("ag-news-distilled"), load_results("ag-news")
    assert max(run["num_parameters"] for run in taught) <= min(run["num_parameters"] for run in default)
    accuracy = sum(run["test_accuracy"] for run in taught) / 3
    assert accuracy > sum(run["test_accuracy"] for run in default) / 3 + 0.003
    assert accuracy > sum(run["teacher_accuracy"] for run in taught) / 3 - 0.006
    assert all(run["train_runtime"] <= 180 for run in taught)


def test_a_student_of_few_labels_is_five_points_above_them_and_above_its_teacher() -> None:
    content = json.loads((CARDS / "few_labels.json").read_text())
    panel = json.loads((CARDS / "panel.json").read_text())
    accuracies = {
        name: [run["test_accuracy"] for run in content["runs"] if run["name"] == name]
        for name in (few_labels.TEACHER, few_labels.STUDENT, few_labels.STUDENT_WITH_VECTORS)
    }
    assert {len(found) for found in accuracies.values()} == {3}
    teacher, student, with_vectors = (sum(found) / 3 for found in accuracies.values())
    runs = panel_results.find_runs(panel, dataset=content["dataset"], split="test", model=panel_results.OURS)
    alone = sum(run["accuracy"] for run in runs) / len(runs)
    assert round(100 * (student - alone)) == 5  # as the README says
    assert teacher < student < with_vectors
    assert max(run["model_bytes"] for run in content["runs"] if run["name"] == few_labels.STUDENT) < 5e6


def test_the_ablation_is_of_one_recipe_over_all_seeds() -> None:
    file = json.loads((CARDS / "ag-news" / "ablation.json").read_text())
    techniques = yaml.safe_load((CARDS / "ag-news" / "techniques.yaml").read_text())
    assert file["settings"].keys() == techniques.keys() | {"recipe"}
    digest = ablation.digest_of(file["settings"]["recipe"]["recipe"])
    for name, settings in file["settings"].items():
        assert name == "recipe" or settings["recipe"] == digest
        assert {point["seed"] for point in file["points"] if point["technique"] == name} == {42, 1, 2}


def test_the_files_of_further_seeds_have_no_details() -> None:
    """`scripts/research/run_recipe.py` writes them so."""
    for path in CARDS.glob("*/all_results_seed_*.json"):
        run = json.loads(path.read_text())
        assert without_details(run) == run, path
