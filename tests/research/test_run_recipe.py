import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import yaml

from rnn_hf.commands import train
from rnn_hf.reporting.model_card import render_model_card
from rnn_hf.reporting.run_facts import read_run_facts
from scripts.research import render_model_cards
from scripts.research import run_recipe as script
from tests.conftest import TINY_RUN

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return lambda *argv: script.main([*TINY_RUN, "--output_dir", str(tmp_path / "runs"), *argv])


def results_of(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "all_results.json").read_text())
    return loaded


def test_each_seed_is_a_run_of_the_training_script(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump({"dataset_name": "demo", "settings_from_data": False, "seed": 7, "use_cpu": True})
    )
    argv = [str(recipe), "--hidden_size", "8", "--max_steps", "9", "--output_dir", str(tmp_path / "runs")]
    summary = script.main([*argv, "--seeds", "5"])
    train.main([*argv[:-2], "--seed", "5", "--output_dir", str(tmp_path / "alone")])
    expected, got = results_of(tmp_path / "alone"), results_of(tmp_path / "runs" / "seed_5")
    assert got["test_confusion_matrix"] == expected["test_confusion_matrix"]
    assert summary["statistics"]["test_accuracy"]["values"] == (expected["test_accuracy"],)


@pytest.mark.parametrize(
    ("own", "job"),
    [({}, "train"), ({"bptt": 8}, "train-language-model"), ({"teacher_name_or_path": ["a"]}, "distill")],
)
def test_a_recipe_is_trained_by_its_own_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, Any], job: str
) -> None:
    commands: list[list[str]] = []

    def note(command: list[str]) -> int:
        commands.append(command)
        return -9

    monkeypatch.setattr(script, "run_to_its_end", note)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"dataset_name": "demo", "hidden_size": 8, **own}))
    with pytest.raises(SystemExit, match="137"):
        script.main([str(recipe), "--output_dir", str(tmp_path / "runs")])
    assert commands[0][1:4] == ["-m", "rnn_hf", job]
    assert yaml.safe_load(Path(commands[0][4]).read_text()) == {"dataset_name": "demo", "hidden_size": 8, **own}


@pytest.mark.usefixtures("trained_here")
def test_the_summary_has_mean_and_spread_of_what_the_seeds_reached(run: Run, tmp_path: Path) -> None:
    summary = run("--seeds", "3", "1")
    folders = [tmp_path / "runs" / f"seed_{seed}" for seed in (3, 1)]
    for name in ("test_accuracy", "test_macro_f1", "validation_accuracy", "train_runtime"):
        values = [results_of(folder)[name] for folder in folders]
        assert values[0] != values[1]
        assert summary["statistics"][name]["mean"] == pytest.approx(mean(values))
        assert summary["statistics"][name]["standard_deviation"] == pytest.approx(stdev(values))
    assert summary["seeds"] == [3, 1]
    written = json.loads((tmp_path / "runs" / "summary.json").read_text())
    assert written == json.loads(json.dumps(summary))


@pytest.mark.usefixtures("trained_here")
def test_the_folder_of_all_seeds_is_one_that_a_card_is_rendered_from(run: Run, tmp_path: Path) -> None:
    summary = run("--seeds", "3", "1")
    folder = tmp_path / "runs"
    assert results_of(folder) == results_of(folder / "seed_3")
    whole, kept = results_of(folder / "seed_1"), json.loads((folder / "all_results_seed_1.json").read_text())
    assert whole.items() >= kept.items() and {"log", "test_per_class", "data"} <= whole.keys() - kept.keys()
    card = render_model_card(read_run_facts(folder, **render_model_cards.described(folder)))
    low, high = summary["statistics"]["test_accuracy"]["interval"]
    assert f"{100 * low:.2f} to {100 * high:.2f} %" in card.text
    assert "seeds 3, 1" in card.text


def test_a_killed_run_goes_on_with_the_seeds_that_are_not_finished(
    run: Run, trained_here: list[int], tmp_path: Path
) -> None:
    run("--seeds", "1")
    killed = tmp_path / "runs" / "seed_2"
    (killed / "checkpoints").mkdir(parents=True)
    half_published = tmp_path / "runs" / "seed_3"
    (half_published / "finished").mkdir(parents=True)
    (half_published / "all_results.json").write_text("{}")
    summary = run("--seeds", "1", "2", "3")
    assert trained_here == [1, 2, 3]
    assert summary["seeds"] == [1, 2, 3]
    run("--seeds", "2", "1")
    assert trained_here == [1, 2, 3]
    assert results_of(tmp_path / "runs")["seed"] == 2
    assert not (tmp_path / "runs" / "all_results_seed_3.json").exists()


def test_a_killed_seed_goes_on_from_its_checkpoint(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def note(command: list[str]) -> int:
        commands.append(command)
        return -9

    monkeypatch.setattr(script, "run_to_its_end", note)
    with pytest.raises(SystemExit, match="137"):
        run("--seeds", "1")
    (tmp_path / "runs" / "seed_1" / "checkpoints" / "step-00000007").mkdir(parents=True)
    with pytest.raises(SystemExit, match="137"):
        run("--seeds", "1")
    assert ["--overwrite_output_dir" in command for command in commands] == [True, False]
    assert commands[1][-2:] == ["--resume_from_checkpoint", "latest"]


def test_seeds_of_another_recipe_are_not_added_but_replaced_on_request(
    run: Run, trained_here: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    run("--seeds", "1")
    run("--seeds", "1", "--logging_steps", "3")
    with pytest.raises(SystemExit, match="2"):
        run("--seeds", "1", "2", "--learning_rate", "0.5")
    assert "`learning_rate: None`, but this recipe has 0.5. Pass `--overwrite_output_dir`" in capsys.readouterr().err
    run("--seeds", "2", "--learning_rate", "0.5", "--overwrite_output_dir")
    assert trained_here == [1, 2]


def test_a_folder_that_holds_something_else_is_kept(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "letter.txt").write_text("kept")
    with pytest.raises(SystemExit, match="2"):
        run()
    assert "is not empty" in capsys.readouterr().err
    assert (tmp_path / "runs" / "letter.txt").read_text() == "kept"


@pytest.mark.usefixtures("trained_here")
def test_a_seed_that_fails_stops_the_others_with_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--dataset_name", "./nowhere", "--use_cpu", "--output_dir", str(tmp_path / "runs"), "--seeds", "1", "2"]
    with pytest.raises(SystemExit, match="2"):
        script.main(argv)
    assert "rnn-hf train: error: " in capsys.readouterr().err
    assert not (tmp_path / "runs" / "seed_2").exists()
