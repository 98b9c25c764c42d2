"""Tuning by time: the settings that it tries and keeps, and the time and files that it takes."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from datasets import DatasetDict

from rnn_hf import TextClassifier
from rnn_hf.commands import distill, train_language_model
from rnn_hf.commands import train as script
from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.encoding import multi_hot
from rnn_hf.training import tuning
from rnn_hf.training import tuning_study as studies
from rnn_hf.training.arguments import ClassifierRunArguments
from rnn_hf.training.from_lists import split_rows
from rnn_hf.training.metrics import MAIN_METRICS, compute_metrics
from rnn_hf.training.search_space import LOSS_WEIGHT, cut_folds, row_scores
from rnn_hf.training.splits import TextSplits
from tests.conftest import ROOT, TINY_RUN, last_line, weights
from tests.training.test_from_lists import LABELS, TEXTS
from tests.training.test_from_lists import TINY as WITHOUT_CHOICE

Train = Callable[..., tuple[dict[str, Any], Path]]
TINY = {**WITHOUT_CHOICE, "settings_from_data": True}
GIVEN = {"hidden_size", "embedding_size", "embedding_dropout", "classifier_dropout", "word_dropout", "learning_rate"}


def tuned(texts: Any = TEXTS, labels: Any = LABELS, **settings: Any) -> TextClassifier:
    """Train one network, or with `ensemble_size=None` as many as there is time for."""
    settings = {"num_train_epochs": 3, "tune_minutes": 5, "show_progress": False, "ensemble_size": 1} | settings
    settings = {name: value for name, value in settings.items() if value is not None}
    return TextClassifier.train(texts, labels, **{**TINY, **settings})


@pytest.fixture
def few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MOST_TRIALS", 3)


@pytest.fixture
def last_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare the last complete trial the winner."""
    monkeypatch.setattr(studies.Study, "winner", property(lambda study: study.complete[-1]))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Advance the clock by 0.1 seconds at every reading, and collect the readings."""
    seen = [time.perf_counter()]

    def tick() -> float:
        seen.append(seen[-1] + 0.1)
        return seen[-1]

    monkeypatch.setattr(tuning, "now", tick)
    return seen


@pytest.mark.usefixtures("few_trials")
def test_the_first_trial_has_the_chosen_settings_and_given_ones_are_not_searched(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verbosity, handler = optuna.logging.get_verbosity(), signal.getsignal(signal.SIGINT)
    classifier = tuned(show_progress=True)
    facts = classifier.results["tuning"]
    assert [trial["number"] for trial in facts["trials"]] == [0, 1, 2]
    first, *others = (trial["values"] for trial in facts["trials"])
    plain = TextClassifier.train(TEXTS, LABELS, show_progress=False, **TINY, num_train_epochs=3).recipe
    assert first == {name: plain[name] for name in first}
    assert not first.keys() & (GIVEN | {"num_train_epochs", "max_steps", "per_device_train_batch_size"})
    assert first.keys() >= {"classifier_pooling", "label_smoothing_factor", "ngram_buckets", "concat_embedding_mean"}
    assert all(values != first for values in others)
    assert classifier.recipe["tune_minutes"] is None
    # nothing but the lines of the last training and of the best trials
    lines = capsys.readouterr().out.splitlines()
    assert sum("training texts in" in line for line in lines) == 2
    assert sum(line.startswith("step ") for line in lines) == 3
    assert sum(line.startswith("trial ") for line in lines) >= 1
    assert list(tmp_path.iterdir()) == []
    assert (optuna.logging.get_verbosity(), signal.getsignal(signal.SIGINT)) == (verbosity, handler)


def test_no_trial_runs_into_the_time_of_the_last_training(clock: list[float]) -> None:
    trials = tuned(tune_minutes=1)
    records = trials.results["tuning"]["trials"]
    finished = [record for record in records if record["state"] == "complete"]
    assert len(finished) >= 1 and len(records) > len(finished)
    reserve = max(record["final_seconds"] for record in finished[:1])
    assert clock[-1] - clock[0] <= 60 - reserve + 1
    assert clock[-1] - clock[0] >= 30  # it does not stop long before, either


def test_minutes_too_few_to_compare_leave_the_chosen_settings(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = tuned(tune_minutes=0.01, show_progress=True)
    assert [trial["state"] for trial in classifier.results["tuning"]["trials"]] == ["out of time"]
    assert "too short to compare settings" in capsys.readouterr().out
    assert classifier.results["tuning"]["winner"] == 0


def test_the_whole_run_takes_the_minutes() -> None:
    started = time.perf_counter()
    facts = tuned(tune_minutes=0.1).results["tuning"]
    assert 1 < time.perf_counter() - started < 8
    assert facts["trials"][0]["state"] == "complete"


@pytest.mark.usefixtures("few_trials", "last_wins")
def test_the_winner_is_in_the_recipe_which_trains_it_again_without_tuning(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    argv = ["--train_on_all_rows", "true"]
    results, folder = train("run", "--tune_minutes", "5", *argv)
    winner = results["tuning"]["trials"][results["tuning"]["winner"]]
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert winner["number"] > 0 and recipe["tune_minutes"] is None
    assert winner["values"] == {name: recipe[name] for name in winner["values"]}
    assert json.loads((folder / "all_results.json").read_text())["tuning"] == results["tuning"]
    again = folder.parent / "again"
    assert "tuning" not in script.main([str(folder / "recipe.yaml"), "--output_dir", str(again)])
    assert weights(again) == weights(folder)


def test_chosen_settings_give_way_only_to_those_that_are_better_by_more_than_chance_can_explain() -> None:
    study = studies.Study({}, {}, {}, 0, None)
    for difference, error in ((0.0, 0.0), (0.02, 0.03), (0.01, 0.005), (-0.1, 0.01)):
        record = {"number": len(study.trials), "state": "complete", "score": 0.5 + difference}
        study.trials.append(record | {"difference": difference, "standard_error": error})
    assert study.best is not None and study.winner is not None
    assert (study.best["number"], study.winner["number"]) == (1, 2)
    # the best of many looks better than it is
    study.trials += [study.trials[-1] | {"state": "pruned"}] * 20
    assert study.winner is None


def test_a_study_is_resumed_with_the_time_that_is_left(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # figures take longer than the trials
    monkeypatch.setattr(tuning, "MOST_TRIALS", 2)
    first, folder = train("run", "--tune_minutes", "5")
    file = folder / "checkpoints" / "tuning.json"
    saved = json.loads(file.read_text())
    monkeypatch.setattr(tuning, "MOST_TRIALS", 4)
    resume = ["--tune_minutes", "5", "--resume_from_checkpoint", "latest"]
    second, _ = train("run", *resume)
    assert second["tuning"]["trials"][:2] == first["tuning"]["trials"] and len(second["tuning"]["trials"]) == 4
    assert json.loads(file.read_text())["seconds"] > saved["seconds"] > 0
    # no time is left
    saved["seconds"] = 299.9
    file.write_text(json.dumps(saved))
    third, _ = train("run", *resume)
    assert third["tuning"]["trials"] == first["tuning"]["trials"]
    capsys.readouterr()
    for content, argv, message in (
        (json.dumps(saved), ["--weight_decay", "0.1"], "The search was made with `--weight_decay 0.0`, this run has"),
        ("{}", [], "is damaged"),
        (json.dumps(saved | {"trials": [{}]}), [], "is damaged"),
    ):
        file.write_text(content)
        with pytest.raises(SystemExit) as ended:
            train("run", *resume, *argv)
        assert ended.value.code == 2 and message in last_line(capsys.readouterr().err)


def test_a_resumed_last_training_has_as_many_networks(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(tuning, "MOST_TRIALS", 1)
    argv = ["--tune_minutes", "5", "--save_strategy", "epoch"]
    first, folder = train("run", *argv)
    file = folder / "checkpoints" / "tuning.json"
    saved = json.loads(file.read_text())
    assert saved["ensemble_size"] == first["ensemble_size"] == tuning.MOST_NETWORKS
    file.write_text(json.dumps(saved | {"seconds": 299.9}))  # no time is left
    before = weights(folder)
    again, _ = train("run", *argv, "--resume_from_checkpoint", "latest")
    assert again["ensemble_size"] == tuning.MOST_NETWORKS and weights(folder) == before


def test_ctrl_c_keeps_the_best_and_trains_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = "import sys; sys.modules['matplotlib'] = None; from rnn_hf.commands.train import main; main()"
    command = [sys.executable, "-c", code, *TINY_RUN, "--output_dir", str(folder)]
    process = subprocess.Popen(
        [*command, "--tune_minutes", "5"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    file, deadline = folder / "checkpoints" / "tuning.json", time.monotonic() + 60
    while not file.exists() or len(json.loads(file.read_text())["trials"]) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    facts = json.loads((folder / "all_results.json").read_text())["tuning"]
    assert {trial["state"] for trial in facts["trials"][:-1]} <= {"complete", "pruned"}
    assert "Written:" in output


@pytest.mark.usefixtures("few_trials")
def test_a_given_validation_split_judges_and_a_thread_tunes_too() -> None:
    found: list[TextClassifier] = []
    worker = threading.Thread(target=lambda: found.append(tuned(validation=(TEXTS[:20], LABELS[:20]))))
    worker.start()
    worker.join()
    facts = found[0].results["tuning"]
    assert facts["num_folds"] == 1 and len(facts["trials"][0]["intermediate"]) == 4


@pytest.mark.usefixtures("few_trials", "last_wins")
def test_of_a_checkpoint_only_what_it_leaves_open_is_searched(tmp_path: Path) -> None:
    TextClassifier.train(TEXTS, LABELS, show_progress=False, **TINY, num_train_epochs=1).save_pretrained(tmp_path)
    settings = {"model_name_or_path": tmp_path, "use_cpu": True, "show_progress": False, "num_train_epochs": 1.0}
    classifier = TextClassifier.train(TEXTS, LABELS, tune_minutes=5, **settings)
    facts = classifier.results["tuning"]
    assert facts["trials"][0]["values"].keys() == {
        "word_dropout", "embedding_dropout", "classifier_dropout", "learning_rate", "label_smoothing_factor",
        "per_device_train_batch_size",
    }  # fmt: skip
    assert facts["trials"][0]["values"]["word_dropout"] == 0
    winner = facts["trials"][facts["winner"]]["values"]
    assert classifier.model.config.word_dropout == winner["word_dropout"] == classifier.recipe["word_dropout"]


@pytest.mark.usefixtures("few_trials")
@pytest.mark.parametrize("labels", [[["x", "y"], []] * 50, np.tile([1.5, -0.5], 50)], ids=["several", "regression"])
def test_other_problem_types_are_tuned(labels: Any) -> None:
    values = tuned(labels=labels, validation_size=0.2).results["tuning"]["trials"][0]["values"]
    assert "label_smoothing_factor" not in values


@pytest.mark.parametrize("problem_type", MAIN_METRICS)
def test_the_mean_of_the_row_scores_is_the_metric_and_a_share_of_the_loss(problem_type: ProblemType) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(200, 3)).astype(np.float32)
    labels: np.ndarray = logits.argmax(axis=1) * (generator.random(200) < 0.7)
    if problem_type == "multi_label_classification":
        labels = multi_hot([[label] for label in labels], 3)
    if problem_type == "regression":
        labels = (logits + generator.normal(size=logits.shape)).astype(np.float32)
    metrics = compute_metrics(logits, labels, ["a", "b", "c"], problem_type)
    expected = metrics[MAIN_METRICS[problem_type]]
    mean = row_scores(logits, labels, problem_type).mean()
    if problem_type == "multi_label_classification":
        expected -= LOSS_WEIGHT * metrics["loss"]
    if problem_type == "single_label_classification":  # the loss at the best temperature is at most the loss
        assert expected - LOSS_WEIGHT * metrics["loss"] <= mean < expected
    else:
        assert mean == pytest.approx(expected, abs=1e-6)


def test_folds_have_every_row_once_and_equal_shares_of_the_classes() -> None:
    from rnn_hf.data.in_memory import dataset_of_lists
    from rnn_hf.training.initial_models import load_tokenizer

    args = ClassifierRunArguments()
    texts = [f"text {number}" for number in range(100)]
    splits = split_rows({"train": dataset_of_lists(texts, ["a", "b", "b", "b"] * 25)}, args)
    rows = splits.encode(load_tokenizer(splits.iterate_texts, args), args)
    folds = cut_folds(splits, rows, seed=0)
    assert len(folds) == 5
    seen = []
    for fold in folds:
        assert len(fold["train"]) + len(fold["validation"]) == 100
        assert fold["validation"]["row"][:] == list(range(20)) and fold["validation"]["labels"][:].count(0) == 5
        seen += [tuple(tokens) for tokens in fold["validation"]["input_ids"]]
    every = [tuple(tokens) for name in ("train", "validation") for tokens in rows[name]["input_ids"]]
    assert sorted(seen) == sorted(every)
    splits = TextSplits(splits.train, DatasetDict(splits.others), validation_is_cut=False)
    assert cut_folds(splits, rows, seed=0) == [{"train": rows["train"], "validation": rows["validation"]}]


@pytest.mark.parametrize(
    ("main", "argv", "message"),
    [
        (script.main, ["--tune_minutes", "0"], "`--tune_minutes` must be above 0, got 0"),
        (script.main, ["--tune_minutes", "1", "--streaming"], "Leave out `--streaming`"),
        (script.main, ["--tune_minutes", "1", "--resume_from_checkpoint", "x"], "can only resume its own search"),
        (script.main, ["--tune_minutes", "1", "--resume_from_checkpoint", "latest"], "There is no search to resume"),
        (distill.main, ["--tune_minutes", "1", "--teacher_name_or_path", "x"], "is only for `rnn-hf train`"),
        (train_language_model.main, ["--tune_minutes", "1"], "`--tune_minutes` is only for classifiers"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(
    main: Any, argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*TINY_RUN, "--output_dir", str(tmp_path / "run"), *argv])
    assert ended.value.code == 2
    assert message in last_line(capsys.readouterr().err)


def test_missing_packages_and_further_processes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="needs a single process, got 2"):
        tuning.check_tuning(ClassifierRunArguments(tune_minutes=1), num_processes=2)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r'needs the package optuna. Run `pip install "rnn-hf\[tune\]"`'):
        tuned()


def test_where_every_setting_is_given_there_is_nothing_to_search() -> None:
    given = {
        "label_smoothing_factor": 0.0, "classifier_pooling": "mean", "concat_embedding_mean": False,
        "ngram_buckets": 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="has nothing to search"):
        tuned(**given)
