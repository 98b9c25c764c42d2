import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from rnn_hf.commands import train
from scripts.research import ablation as script
from tests.conftest import TINY_RUN

TECHNIQUES = {
    "word dropout": {"source": "Iyyer et al., 2015", "without": {"word_dropout": 0.0}},
    "GRU": {"source": "Cho et al., 2014", "with": {"cell_type": "gru"}},
}
Measure = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], int]]:
    """Answer without training; return the recipes and seeds that were asked for."""
    asked: list[tuple[dict[str, Any], int]] = []

    def train_for_results(recipe: dict[str, Any], seed: int) -> dict[str, Any]:
        asked.append((recipe, seed))
        accuracy = 0.8 - 0.1 * (recipe.get("word_dropout") == 0) + 0.05 * (recipe.get("cell_type") == "gru")
        return {"test_accuracy": accuracy + seed / 1000, "log": []}

    def getrusage(who: int) -> SimpleNamespace:
        return SimpleNamespace(ru_utime=10.0 * len(asked), ru_stime=1.0)

    monkeypatch.setattr(script, "train_for_results", train_for_results)
    monkeypatch.setattr(script.resource, "getrusage", getrusage)
    return asked


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    def run(*argv: str, techniques: Any = TECHNIQUES) -> list[dict[str, Any]]:
        file = tmp_path / "techniques.yaml"
        file.write_text(techniques if isinstance(techniques, str) else yaml.safe_dump(techniques, sort_keys=False))
        return script.main(
            [*TINY_RUN, "--techniques", str(file), "--output_file", str(tmp_path / "ablation.json"), *argv]
        )

    return run


def test_each_technique_is_changed_alone_and_by_every_seed(
    measure: Measure, trained: list[tuple[dict[str, Any], int]], tmp_path: Path
) -> None:
    points = measure("--seeds", "1", "2")
    bare = trained[0][0]
    assert [recipe for recipe, _ in trained[:3]] == [bare, {**bare, "word_dropout": 0.0}, {**bare, "cell_type": "gru"}]
    assert [seed for _, seed in trained] == [1] * 3 + [2] * 3
    found = [(point["technique"], point["seed"], round(point["test_accuracy"], 3)) for point in points]
    assert found == [
        ("recipe", 1, 0.801), ("recipe", 2, 0.802), ("GRU", 1, 0.851), ("GRU", 2, 0.852),
        ("word dropout", 1, 0.701), ("word dropout", 2, 0.702),
    ]  # fmt: skip
    assert json.loads((tmp_path / "ablation.json").read_text())["points"] == points


def test_only_what_has_changed_is_measured_again(measure: Measure, trained: list[tuple[dict[str, Any], int]]) -> None:
    measure("--seeds", "1")
    assert len(trained) == 3
    measure("--seeds", "1", "2")
    assert len(trained) == 6
    changed = {**TECHNIQUES, "GRU": {"source": "Cho et al., 2014", "with": {"cell_type": "gru", "hidden_size": 9}}}
    measure("--seeds", "1", techniques=changed)
    assert [recipe.get("hidden_size") for recipe, _ in trained[6:]] == [9]
    measure("--seeds", "1", "--learning_rate", "0.5")
    assert len(trained) == 10


def test_the_table_tells_what_a_technique_adds_whether_the_recipe_has_it_or_not() -> None:
    recipe = {"hidden_size": 8}
    digest = script.digest_of(recipe)
    settings = {
        "recipe": {"recipe": recipe},
        "dropout": {"source": "A", "without": {}, "recipe": digest},
        "GRU": {"source": "B", "with": {}, "recipe": digest},
        "of another recipe": {"source": "C", "with": {}, "recipe": script.digest_of({})},
    }
    figures = {
        "recipe": [(1, 0.80, 10), (2, 0.82, 10)],
        "dropout": [(1, 0.70, 5), (2, 0.74, 5)],
        "GRU": [(1, 0.79, 30), (3, 0.1, 30)],
        "of another recipe": [(1, 0.9, 1)],
    }
    points = [
        {"technique": name, "seed": seed, "test_accuracy": accuracy, "cpu_seconds": seconds}
        for name, runs in figures.items()
        for seed, accuracy, seconds in runs
    ]
    assert script.ablation_table(settings, points).splitlines()[2:] == [
        "| dropout | A | yes | +9.00 ± 1.41 | 2.00 |",
        "| GRU | B | no | -1.00 | 3.00 |",
    ]


@pytest.mark.parametrize(
    ("techniques", "message"),
    [
        ("[a, b]", "must be a mapping of techniques, got"),
        ({"GRU": {"with": {"cell_type": "gru"}}}, "'GRU' must have `source` and either `with` or `without`"),
        ({"GRU": {"source": "B", "with": {"cell": "gru"}}}, "'GRU' must map flags of `rnn-hf train`"),
        ({"GRU": {"source": "B", "with": {}}}, "'GRU' must map flags of `rnn-hf train`"),
        ({"recipe": {"source": "B", "with": {"cell_type": "gru"}}}, "'recipe' is the name of the unchanged recipe"),
    ],
)
def test_a_wrong_file_of_techniques_is_told_in_one_line(
    measure: Measure, techniques: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        measure(techniques=techniques)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_run_in_a_process_of_its_own_is_measured(tmp_path: Path) -> None:
    recipe = {
        "dataset_name": "demo",
        "max_train_samples": 200,
        "hidden_size": 8,
        "num_train_epochs": 1,
        "use_cpu": True,
    }
    point = script.measure(recipe, {"cell_type": "gru"}, 1)
    assert point["cpu_seconds"] > 1
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "cell_type": "gru"}))
    expected = train.main([str(tmp_path / "recipe.yaml"), "--seed", "1", "--output_dir", str(tmp_path / "run")])
    for name in ("test_accuracy", "num_parameters"):
        assert point[name] == expected[name]
