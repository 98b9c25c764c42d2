"""Training from Python: what goes in, what comes out, and what is the same in the process afterwards."""

import os
import pickle
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from rnn_hf import TextClassifier
from rnn_hf.training import classifier as training
from rnn_hf.training.loop import Run
from tests.conftest import weights
from tests.tiny_classifiers import unpickled

TEXTS = ["a good film", "a bad film", "a fine day", "an awful day"] * 25
LABELS = ["good", "bad"] * 50
TINY: dict[str, Any] = {
    "hidden_size": 8, "embedding_size": 8, "embedding_dropout": 0.0, "classifier_dropout": 0.0, "word_dropout": 0.0,
    "learning_rate": 0.03, "per_device_train_batch_size": 16, "settings_from_data": False, "use_cpu": True,
}  # fmt: skip


def train(texts: Any = TEXTS, labels: Any = LABELS, **settings: Any) -> TextClassifier:
    return TextClassifier.train(texts, labels, show_progress=False, **{**TINY, "num_train_epochs": 10, **settings})


def test_strings_come_back_as_strings_with_results_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier = train()
    assert classifier.predict(["a good day", "a bad day"]) == ["good", "bad"]
    assert classifier.predict("a good day") == "good"
    assert classifier.results["validation_accuracy"] == 1
    assert classifier.results["num_train_examples"] == 96 and classifier.results["num_validation_examples"] == 4
    assert classifier.recipe["hidden_size"] == 8 and classifier.recipe["seed"] == 42
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_whole_numbers_come_back_as_whole_numbers_also_after_saving_and_pickling(tmp_path: Path) -> None:
    classifier = train(labels=[10, 9] * 50)
    assert classifier.labels == [9, 10] and classifier.label_names == ["9", "10"]
    classifier.save_pretrained(tmp_path / "saved")
    for copy in (
        classifier,
        unpickled(pickle.dumps(classifier)),
        TextClassifier.from_pretrained(tmp_path / "saved"),
    ):
        answers = copy.predict(["a good day", "a bad day"])
        assert answers == [10, 9] and all(type(answer) is int for answer in answers)
        assert copy.evaluate(TEXTS, [10, 9] * 50, show_progress=False)["accuracy"] == 1
    assert unpickled(pickle.dumps(classifier)).results == classifier.results


@pytest.mark.parametrize(
    "column",
    [
        np.array, pd.Series, pl.Series, pa.array, tuple, iter,
        lambda values: pd.DataFrame({"x": values})["x"].astype("category"),
        lambda values: pd.Series(values, dtype="string"),
        lambda values: datasets.Dataset.from_dict({"x": values})["x"],
    ],
    ids=["numpy", "pandas", "polars", "pyarrow", "tuple", "generator", "category", "string", "dataset"],
)  # fmt: skip
def test_texts_and_labels_may_be_columns_of_any_library(column: Any) -> None:
    expected = train(num_train_epochs=1)
    actual = train(column(TEXTS), column(LABELS), num_train_epochs=1)
    assert actual.results["log"] == expected.results["log"]
    assert actual.labels == ["bad", "good"]


def test_lists_of_labels_are_several_and_floats_a_regression() -> None:
    several = train(labels=[["x", "y"], []] * 50, validation_size=0.2)
    assert several.predict("a good film") == ["x", "y"] and several.predict("a bad film") == []
    assert several.evaluate(TEXTS, [["y", "x"], []] * 50, show_progress=False)["micro_f1"] == 1
    numbers = train(labels=np.tile([1.5, -0.5], 50), num_train_epochs=20)
    assert numbers.predict("a good film") == pytest.approx(1.5, abs=0.4)
    assert numbers.evaluate(TEXTS, [1.5, -0.5] * 50, show_progress=False)["r2"] > 0.8
    targets = train(labels=[[1.5, 0.0], [-0.5, 1.0]] * 50, num_train_epochs=20)
    assert targets.predict("a bad film") == pytest.approx([-0.5, 1.0], abs=0.4)


def test_evaluation_takes_classes_by_their_names_alone() -> None:
    lists = train(labels=[[0], [0, 1]] * 50, num_train_epochs=1)
    answers = lists.predict(TEXTS[:4], threshold=0.0)
    assert answers == [[0, 1]] * 4
    assert lists.evaluate(TEXTS[:4], answers, threshold=0.0, show_progress=False)["accuracy"] == 1
    assert lists.evaluate(TEXTS[:2], [[], []], threshold=1.0, show_progress=False)["accuracy"] == 1
    flags = train(labels=np.tile([[1, 0, 1], [0, 1, 1]], (50, 1)), num_train_epochs=20)
    assert flags.predict("a good film") == ["0", "2"]
    assert flags.evaluate(TEXTS, [[1, 0, 1], [0, 1, 1]] * 50, show_progress=False)["accuracy"] == 1
    for classifier, labels in ((train(labels=[1, 2] * 50, num_train_epochs=1), [0, 0]), (train(), ["0", "1"])):
        with pytest.raises(ValueError, match=r"`labels` must be classes of the model .* got .?0.? at position 0"):
            classifier.evaluate(TEXTS[:2], labels, show_progress=False)
    with pytest.raises(TypeError, match="one class for each text"):
        train(num_train_epochs=1).evaluate(TEXTS[:1], [["good"]])


def test_class_weights_may_be_named() -> None:
    named = train(class_weights={"good": 3.0, "bad": 1.0}, num_train_epochs=2)
    assert named.recipe["class_weights"] == ["1.0", "3.0"]
    assert named.results["log"] == train(class_weights=np.array([1.0, 3.0]), num_train_epochs=2).results["log"]


def test_a_text_that_is_none_is_one_error() -> None:
    with pytest.raises(TypeError, match="`texts` must be strings, got None"):
        train(num_train_epochs=1).predict(["a good film", None])  # type: ignore[list-item]  # the point


def test_it_trains_what_the_command_trains(tmp_path: Path) -> None:
    from rnn_hf.commands.train import main
    from rnn_hf.data import load_text_dataset

    AcceleratorState._reset_state(reset_partial_state=True)
    argv = ["--dataset_name", "demo", "--max_steps", "20", "--use_cpu", "--output_dir", str(tmp_path / "command")]
    results = main(argv)
    splits = load_text_dataset("demo", validation_size=0, splits=["train"])["train"]
    names = splits.features["label"].names
    labels = [names[label] for label in splits["label"]]
    folder = tmp_path / "python"
    classifier = TextClassifier.train(
        splits["text"], labels, max_steps=20, use_cpu=True, output_dir=folder, show_progress=False
    )
    # the classes of a dataset have an order of their own, lists are sorted: only that differs
    assert classifier.results["num_train_examples"] == results["num_train_examples"]
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "command").iterdir()}
    again = TextClassifier.train(splits["text"], labels, max_steps=20, use_cpu=True, show_progress=False)
    again.save_pretrained(tmp_path / "again")
    assert weights(tmp_path / "again") == weights(folder)


def test_it_continues_from_a_saved_model_with_its_labels(tmp_path: Path) -> None:
    train(num_train_epochs=1).save_pretrained(tmp_path / "first")
    longer = train(model_name_or_path=tmp_path / "first", embedding_size=8)
    assert longer.predict("a good day") == "good"
    with pytest.raises(ValueError, match="`hidden_size=16` contradicts the checkpoint's 8"):
        train(model_name_or_path=tmp_path / "first", hidden_size=16)


def test_a_validation_split_may_be_given() -> None:
    classifier = train(validation=(["a good day", "a bad day"], ["good", "bad"]))
    assert classifier.results["num_train_examples"] == 100 and classifier.results["num_validation_examples"] == 2


def states() -> list[Any]:
    return [
        random.random(), float(np.random.rand()), torch.rand(1).item(), torch.get_num_threads(),
        signal.getsignal(signal.SIGINT), dict(os.environ), datasets.are_progress_bars_disabled(),
    ]  # fmt: skip


def test_the_process_is_as_it_was() -> None:
    def seeded() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    own = Accelerator(cpu=True, mixed_precision="no")
    shared = dict(AcceleratorState._shared_state)
    seeded()
    expected = states()
    seeded()
    train(num_train_epochs=1, bf16=True)
    assert states() == expected
    assert shared == AcceleratorState._shared_state
    assert own.mixed_precision == "no"


def test_trainings_follow_one_another_with_other_settings_and_in_threads() -> None:
    first = train(num_train_epochs=2)
    half = train(num_train_epochs=2, bf16=True)
    assert half.predict("a good film") in LABELS
    pickle.dumps(half)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert train(num_train_epochs=2).results["log"] == first.results["log"]
    torch.set_num_threads(threads)
    found: list[TextClassifier] = []
    workers = [threading.Thread(target=lambda: found.append(train(num_train_epochs=2))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [each.results["log"] for each in found] == [first.results["log"]] * 2


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A shell lets the programs that it starts in the background ignore Ctrl-C, and so the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_a_keyboard_interrupt_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_step = Run.train_on

    def interrupted(run: Run, batch: dict[str, torch.Tensor]) -> bool:
        if run.state.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return take_step(run, batch)

    monkeypatch.setattr(training.ClassifierRun, "train_on", interrupted)
    random.seed(1)
    state = random.getstate()
    with pytest.raises(KeyboardInterrupt):
        train(output_dir=tmp_path / "run", per_device_train_batch_size=8)
    assert not (tmp_path / "run").exists()
    assert random.getstate() == state
    monkeypatch.undo()
    assert train().predict("a good film") == "good"


@pytest.mark.parametrize(
    ("texts", "labels", "settings", "error", "message"),
    [
        (TEXTS, LABELS[:3], {}, ValueError, "`texts` and `labels` must have the same length, got 100 and 3"),
        ([], [], {}, ValueError, "`texts` must have at least one text"),
        ("abc", ["x"], {}, TypeError, "`texts` must be a list, got str"),
        (["a", None], ["x", "y"], {}, TypeError, "`texts` must be strings, got None at position 1"),
        (pd.Series(["a", None, "b"]), [1, 2, 3], {}, TypeError, "`texts` must be strings, got .* at position 1"),
        (pd.DataFrame({"a": ["b"]}), ["x"], {}, TypeError, "must be one column, got a table"),
        (["a", "b"], ["x", None], {}, ValueError, "`labels` must have no missing value, got None at position 1"),
        (["a", "b"], [float("nan"), 1.0], {}, ValueError, "missing value, got nan at position 0"),
        (["a", "b"], pd.array([1, None], dtype="Int64"), {}, ValueError, "missing value, got <NA> at position 1"),
        (["a", "b"], ["x", 1], {}, TypeError, "one type, got strings and, at position 1, integers"),
        (["a", "b"], [object(), "x"], {}, TypeError, "A label must be a string, a number or a list"),
        (["a", "b"], [[], []], {}, ValueError, "only empty lists"),
        (TEXTS, ["x"] * 100, {}, ValueError, "at least two classes, got one class, 'x'"),
        (TEXTS, LABELS, {"hiden_size": 3}, TypeError, "no argument 'hiden_size'. Did you mean `hidden_size`?"),
        (TEXTS, LABELS, {"train_file": "x"}, TypeError, "no argument 'train_file': the rows are its texts"),
        (TEXTS, LABELS, {"hidden_size": "8"}, TypeError, "`hidden_size` must be of the type int, got '8'"),
        (TEXTS, LABELS, {"hidden_size": 0}, ValueError, "hidden_size"),
        (TEXTS, LABELS, {"optim": "adamm"}, ValueError, "`optim` must be one of adam, .*, got 'adamm'"),
        (TEXTS, LABELS, {"seed": -1}, ValueError, "`seed` must be at least 0"),
        (TEXTS, LABELS, {"learning_rate": float("inf")}, ValueError, "`learning_rate` must be a finite number"),
        (TEXTS, LABELS, {"save_strategy": "epoch"}, TypeError, "no argument 'save_strategy'. Use `rnn-hf train`"),
        (TEXTS, LABELS, {"push_to_hub": True}, TypeError, r"no argument 'push_to_hub'. Use `push_to_hub\(\)`"),
        (set(TEXTS), LABELS, {}, TypeError, "`texts` must be a list, got set"),
        (["a", "b"], [2**70, 1], {}, ValueError, "`labels` must be 64-bit numbers or valid text"),
        (["a", "b"], ["\ud800", "x"], {}, ValueError, "`labels` must be 64-bit numbers or valid text"),
        (["a", "b"], [{"a", 1}, {"b"}], {}, TypeError, "`labels` must be of one type"),
        (["a", "b"], [["x"], "x"], {}, TypeError, "`labels` must be of one type"),
        (TEXTS, LABELS, {"class_weights": 5}, TypeError, "`class_weights` must be of the type"),
        (
            TEXTS,
            LABELS,
            {"class_weights": {"good": 1.0}},
            ValueError,
            "`class_weights` must have the classes bad, good",
        ),
        (TEXTS, LABELS, {"early_stopping_patience": 1, "validation_size": 0}, ValueError, "needs a validation split"),
        (TEXTS, LABELS, {"validation": (["a"], ["z"])}, ValueError, 'Label "z" in row 0 of the "validation" split'),
        (TEXTS, LABELS, {"validation": "abc"}, TypeError, "`validation` must be a pair"),
        (TEXTS, LABELS, {"class_weights": [1, 2, 3]}, ValueError, "a number for each of the 2 classes"),
        (TEXTS, LABELS, {"report_to": "nothing"}, ValueError, "nothing"),
    ],
)
def test_a_mistake_is_one_clear_error_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, texts: Any, labels: Any, settings: dict[str, Any], error: type[Exception],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(training.ClassifierRun, "train_on", lambda *_: pytest.fail("it runs"))
    with pytest.raises(Exception, match=message) as raised:
        train(texts, labels, **settings)
    assert isinstance(raised.value, error) or isinstance(raised.value.__cause__, error)
    assert "--" not in str(raised.value)


def test_a_class_of_one_row_is_trained_on_and_named_in_a_warning() -> None:
    with pytest.warns(UserWarning, match="Classes with a single row.*: rare"):
        classifier = train([*TEXTS, "odd"], [*LABELS, "rare"])
    assert classifier.labels == ["bad", "good", "rare"]
    assert classifier.results["num_train_examples"] == 97 and classifier.results["num_validation_examples"] == 4
    with pytest.warns(UserWarning, match="nothing is held out"):
        assert train(["a", "b"], ["x", "y"]).results["num_validation_examples"] == 0


def test_a_trained_classifier_goes_to_the_hub_and_comes_back(hub: str, tmp_path: Path) -> None:
    classifier = train()
    address = classifier.push_to_hub("owner/mine", commit_message="First")
    assert "owner/mine" in address
    loaded = TextClassifier.from_pretrained("owner/mine")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS[:4]), classifier.predict_proba(TEXTS[:4]))
    assert "owner/theirs" in loaded.push_to_hub("owner/theirs")
    with pytest.raises(ValueError, match="OWNER/NAME"):
        classifier.push_to_hub("mine")
