import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rnn_hf.training.settings import DataFacts, choose
from scripts.research import panel_datasets
from scripts.research import settings_study as script
from scripts.research.render_model_cards import CARDS
from tests.refusals import assert_refused

RULES = {"wider": {"hidden_size": 64}, "no branch": {"ngram_buckets": 0}}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, dict[str, Any]]]:
    """What was trained, in the place of training it."""
    calls: list[tuple[str, int, dict[str, Any]]] = []

    def score_of(dataset: str, folder: str | None, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        calls.append((dataset, seed, dict(settings)))
        score = 0.8 + 0.01 * seed - (0.1 if settings.get("ngram_buckets") == 0 else 0)
        return {"score": score, "seconds": 1.0, "num_train_rows": 1000}

    monkeypatch.setattr(script, "score_of", score_of)
    return calls


def study(folder: Path, *argv: str, rules: Mapping[str, Any] = RULES) -> list[dict[str, Any]]:
    (folder / "rules.yaml").write_text(yaml.safe_dump(dict(rules), sort_keys=False))
    files = ["--rules", str(folder / "rules.yaml"), "--output_file", str(folder / "study.json")]
    return script.main([*files, "--datasets", "banking77", "ag_news_1000", *argv])


def test_every_rule_is_measured_alone_beside_the_defaults(
    trained: list[tuple[str, int, dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = study(tmp_path, "--seeds", "1", "2")
    assert len(trained) == len(points) == 12
    assert {tuple(settings.items()) for _, _, settings in trained} == {
        (),
        *(tuple(rule.items()) for rule in RULES.values()),
    }
    assert json.loads((tmp_path / "study.json").read_text())["points"] == points
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")][2:] == [
        "| defaults | 81.5 | 81.5 |",
        "| wider | +0.0 | +0.0 |",
        "| no branch | -10.0 | -10.0 |",
    ]


def test_only_a_changed_rule_is_measured_again(trained: list[tuple[str, int, dict[str, Any]]], tmp_path: Path) -> None:
    study(tmp_path, "--seeds", "1")
    study(tmp_path, "--seeds", "1", rules=RULES | {"wider": {"hidden_size": 128}})
    assert [settings for _, _, settings in trained[6:]] == [{"hidden_size": 128}] * 2


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("a: 3", "'a' must map arguments of training to values"),
        ("a: {hiden_size: 3}", "'a' must map arguments of training to values"),
        ("a: {seed: 3}", "'a' must map arguments of training to values"),
        ("defaults: {hidden_size: 3}", "'defaults' must map arguments"),
        ("- a", "must be a mapping of rules"),
    ],
)
def test_a_wrong_file_of_rules_is_one_line(
    rules: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules.yaml").write_text(rules)
    argv = ["--rules", str(tmp_path / "rules.yaml"), "--output_file", str(tmp_path / "study.json")]
    assert_refused("settings_study", argv, says, tmp_path, capsys)


def test_a_score_is_that_of_the_validation_rows(tmp_path: Path) -> None:
    data = tmp_path / "banking77" / "data"
    data.mkdir(parents=True)
    (data / "train.csv").write_text("text,label\n" + "ball goal,sport\nbank share,money\n" * 100)
    panel_datasets.load_splits.cache_clear()
    settings = {"max_steps": 30, "embedding_size": 8, "hidden_size": 4, "use_cpu": True}
    found = script.score_of("banking77", str(tmp_path), 1, settings)
    assert (found["score"], found["num_train_rows"]) == (1.0, 160)  # a fifth is held out
    panel_datasets.load_splits.cache_clear()


def test_the_rules_in_the_project_change_what_the_defaults_are() -> None:
    """Of a thousand long texts or of many short ones, else there would be nothing to measure."""
    facts = [
        DataFacts(rows, 4, "single_label_classification", words, "word", "")
        for rows, words in ((1_000, 40), (8_000, 10))
    ]
    for name, settings in script.read_rules(CARDS / "settings.yaml").items():
        ((flag, value),) = settings.items()
        assert any(choose(fact).get(flag) != value for fact in facts), name
