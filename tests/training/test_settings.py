"""Settings that follow the data, the validation share, the second training on all rows, and thresholds."""

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.argument_fields import names_of
from rnn_hf.commands import evaluate, predict
from rnn_hf.commands.train import main
from rnn_hf.data.in_memory import dataset_of_lists
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.training import classifier_task, settings
from rnn_hf.training.arguments import ClassifierRunArguments, DistillationRunArguments, ModelArguments
from rnn_hf.training.classifier import ClassifierRun
from rnn_hf.training.classifier_task import ClassifierTask
from rnn_hf.training.from_lists import split_rows
from rnn_hf.training.settings import DataFacts, choose, follow_the_data, ngram_buckets
from rnn_hf.training.signals import StopSignals
from rnn_hf.training.splits import TextSplits, validation_share
from tests.conftest import last_line, weights

TEXTS = ["a good film", "a bad film", "a fine day", "an awful day"] * 25
LABELS = ["good", "bad"] * 50
TINY: dict[str, Any] = {
    "hidden_size": 8, "embedding_size": 8, "num_train_epochs": 2, "per_device_train_batch_size": 16, "use_cpu": True,
}  # fmt: skip
FACTS = DataFacts(1_000, 4, "single_label_classification", 30.0, "word", "")


def splits_of(
    args: ClassifierRunArguments, texts: list[str] = TEXTS, labels: Any = LABELS, is_cut: bool = True
) -> TextSplits:
    rows = {"train": dataset_of_lists(texts, labels)}
    if not is_cut:
        rows["validation"] = dataset_of_lists(texts[:10], labels[:10])
    return split_rows(rows, args)


def followed(
    texts: list[str] = TEXTS,
    labels: Any = LABELS,
    is_cut: bool = True,
    job: type[ClassifierRunArguments] = ClassifierRunArguments,
    **given: Any,
) -> dict[str, Any]:
    """The arguments that looking at the data has changed."""
    args = job.from_keywords(given, "test")
    before = {name: getattr(args, name) for name in names_of(args)}
    follow_the_data(args, splits_of(args, texts, labels, is_cut))
    after = {name: getattr(args, name) for name in names_of(args)}
    return {name: value for name, value in after.items() if value != before[name] and name != "validation_size"}


def train(texts: Any = TEXTS, labels: Any = LABELS, **arguments: Any) -> TextClassifier:
    return TextClassifier.train(texts, labels, show_progress=False, **{**TINY, **arguments})


def test_few_and_many_rows_get_what_suits_them() -> None:
    few, many = choose(FACTS), choose(replace(FACTS, num_rows=100_000))
    assert (few["hidden_size"], many["hidden_size"]) == (32, 16)
    assert (few["train_on_all_rows"], many["train_on_all_rows"]) == (True, False)
    assert (few["per_device_train_batch_size"], many["per_device_train_batch_size"]) == (16, 128)
    # at least 1,000 steps, at most 60 epochs, and at least 5
    assert (few["max_steps"], many["max_steps"]) == (1_000, 5 * 782)
    assert choose(replace(FACTS, num_rows=100))["max_steps"] == 60 * 7
    edge = [choose(replace(FACTS, num_rows=number))["train_on_all_rows"] for number in (20_000, 20_001)]
    assert edge == [True, False]


def test_long_texts_come_in_small_batches_while_so_many_steps_would_take_minutes() -> None:
    sizes = [
        choose(replace(FACTS, num_rows=num_rows, words_per_text=words))["per_device_train_batch_size"]
        for num_rows, words in ((4_000, 100), (4_000, 101), (20_000, 101), (20_001, 101))
    ]
    assert sizes == [64, 32, 32, 128]


def test_short_texts_lose_fewer_words_than_long_ones() -> None:
    assert choose(replace(FACTS, words_per_text=16))["word_dropout"] == 0.3
    assert choose(FACTS)["word_dropout"] == 0.5
    assert choose(replace(FACTS, num_rows=100_000))["word_dropout"] == 0.4
    assert choose(FACTS)["embedding_dropout"] == 0.5 and choose(FACTS)["classifier_dropout"] == 0.5


def test_several_labels_get_thresholds_and_more_epochs() -> None:
    several, one = choose(replace(FACTS, problem_type="multi_label_classification")), choose(FACTS)
    assert several["tune_thresholds"] and not one["tune_thresholds"]
    assert one["temperature_scaling"] and not several["temperature_scaling"]
    many = choose(replace(FACTS, problem_type="multi_label_classification", num_rows=100_000))
    assert many["max_steps"] == 2 * choose(replace(FACTS, num_rows=100_000))["max_steps"]
    assert (several["label_smoothing_factor"], one["label_smoothing_factor"]) == (0.0, 0.1)
    assert (several["hidden_size"], several["word_dropout"]) == (64, 0.1)
    stream = replace(FACTS, problem_type="multi_label_classification", num_rows=None)
    assert "max_steps" not in choose(stream)


def test_a_regression_takes_shorter_steps_and_nothing_of_classes() -> None:
    chosen = choose(replace(FACTS, problem_type="regression"))
    assert (chosen["learning_rate"], choose(FACTS)["learning_rate"]) == (1e-3, 4e-3)
    assert not (chosen["temperature_scaling"] or chosen["tune_thresholds"] or chosen["label_smoothing_factor"])


def test_writing_without_blanks_gets_pieces_of_words() -> None:
    sentences = [
        "これはとても良い映画でした",
        "これはひどい映画でした",
        "今日はとても良い天気です",
        "今日はひどい天気です",
    ]
    chosen = followed(sentences * 25)
    assert chosen["tokenizer_type"] != "word" and chosen["vocab_size"] == 8_000
    args = ClassifierRunArguments()
    facts = DataFacts.of(splits_of(args, sentences * 25), args)
    assert facts.words_per_text == np.median([len(text) / 4 for text in sentences])
    assert DataFacts.of(splits_of(args), args).words_per_text == 3


def test_the_table_of_ngrams_has_a_largest_size() -> None:
    assert [ngram_buckets(number) for number in (1, 76, 77, 150, 100_000)] == [2**16, 2**16, 2**15, 2**15, 2**12]


def test_given_values_win() -> None:
    given = {"hidden_size": 64, "word_dropout": 0.3, "save_dtype": "float32", "temperature_scaling": False}
    chosen = followed(**given)
    assert not given.keys() & chosen.keys()
    assert chosen["bidirectional"] and chosen["ngram_buckets"] == 2**16 and chosen["max_steps"] == 60 * 6
    assert "max_steps" not in followed(num_train_epochs=3.0)


def test_without_settings_from_data_all_defaults_stay() -> None:
    assert followed(settings_from_data=False) == {}
    args = ClassifierRunArguments.from_keywords({"settings_from_data": False}, "test")
    assert len(splits_of(args).others["validation"]) == 4  # 5 %, shared out equally


def test_what_needs_a_validation_split_is_not_chosen_without_one() -> None:
    chosen = followed(validation_size=0.0)
    assert not chosen.keys() & {"temperature_scaling", "tune_thresholds", "train_on_all_rows"}


def test_rows_that_the_user_set_aside_are_not_trained_on() -> None:
    assert followed()["train_on_all_rows"]
    assert "train_on_all_rows" not in followed(is_cut=False)
    assert "train_on_all_rows" not in followed(early_stopping_patience=2)


def test_a_student_keeps_its_last_weights_unless_it_stops_early() -> None:
    """A few held-out rows would choose the best weights by chance."""
    student: dict[str, Any] = {"job": DistillationRunArguments, "teacher_name_or_path": ["runs/teacher"]}
    assert followed(**student)["load_best_model_at_end"] is False
    assert "load_best_model_at_end" not in followed(**student, early_stopping_patience=2)
    assert "load_best_model_at_end" not in followed(**student, load_best_model_at_end=True)
    assert "load_best_model_at_end" not in followed()


def test_noised_copies_are_rows_that_a_student_learns_from() -> None:
    student: dict[str, Any] = {"job": DistillationRunArguments, "teacher_name_or_path": ["runs/teacher"]}
    assert [followed(**student, num_noised_copies=copies)["max_steps"] for copies in (0, 9)] == [60 * 6, 1_000]


def test_a_tokenizer_that_is_named_is_not_trained() -> None:
    assert not followed(tokenizer_name_or_path="x").keys() & {"tokenizer_type", "vocab_size"}


def test_of_a_checkpoint_the_fields_of_the_model_stay(tmp_path: Path) -> None:
    chosen = followed(model_name_or_path="x")
    assert not chosen.keys() & {*names_of(ModelArguments), "tokenizer_type"}
    assert chosen["temperature_scaling"]
    first = train(settings_from_data=False, cell_type="gru", output_dir=tmp_path / "first")
    second = train(model_name_or_path=tmp_path / "first", hidden_size=8, embedding_size=8)
    assert second.model.config.cell_type == "gru" and second.model.ngrams is None
    assert second.recipe["ngram_buckets"] == 0 and first.recipe["save_dtype"] == "float32"
    assert second.recipe["save_dtype"] == "float16"


@pytest.mark.parametrize(("width", "expected"), [(50, 50), (100, 100), (300, 64)])
def test_the_word_vectors_have_the_width_of_pretrained_ones(
    monkeypatch: pytest.MonkeyPatch, width: int, expected: int
) -> None:
    monkeypatch.setattr(settings, "vectors_width", lambda name: width)
    args = ClassifierRunArguments.from_keywords({"word_vectors": "x"}, "test")
    follow_the_data(args, splits_of(args))
    assert args.embedding_size == expected
    args = ClassifierRunArguments.from_keywords({"word_vectors": "x", "embedding_size": 8}, "test")
    follow_the_data(args, splits_of(args))
    assert args.embedding_size == 8


def test_what_was_chosen_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    followed()
    assert "Chosen from the data: `tokenizer_type=word`, `vocab_size=30000`, " in capsys.readouterr().out
    args = ClassifierRunArguments.from_keywords(followed(), "test")
    capsys.readouterr()
    args.given = frozenset(names_of(args))
    follow_the_data(args, splits_of(args))
    assert "Chosen" not in capsys.readouterr().out


def test_a_written_recipe_repeats_the_run_bit_for_bit(train: Callable[..., tuple[dict[str, Any], Path]]) -> None:
    flags = ["--settings_from_data", "true", "--max_steps", "15"]
    results, folder = train("first", *flags)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["ngram_buckets"] == 2**16 and recipe["bidirectional"] and recipe["train_on_all_rows"]
    assert recipe["validation_size"] == 0.1 and recipe["hidden_size"] == 8
    AcceleratorState._reset_state(reset_partial_state=True)
    repeated = main([str(folder / "recipe.yaml"), "--output_dir", str(folder.parent / "second")])
    assert weights(folder) == weights(folder.parent / "second")
    assert repeated["temperature"] == results["temperature"] and repeated["test_accuracy"] == results["test_accuracy"]


def test_a_tenth_or_two_thousand_rows_validate() -> None:
    assert [validation_share(number) * number for number in (100, 20_000, 40_000)] == [10, 2_000, 2_000]
    assert train(num_train_epochs=1).results["num_validation_examples"] == 10
    classifier = train(num_train_epochs=1, validation_size=0.2)
    assert classifier.results["num_validation_examples"] == 20 and classifier.recipe["validation_size"] == 0.2


def test_a_second_training_reads_all_rows_and_has_the_temperature_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = {"settings_from_data": False, "temperature_scaling": True, "validation_size": 0.1}
    first = train(**shared)
    rows: list[int] = []
    prepare = ClassifierTask.prepare

    def spy(task: ClassifierTask, *arguments: Any, **named: Any) -> ClassifierRun:
        rows.append(len(task.rows["train"]))
        assert named.get("judged_by") is None or "validation" not in task.rows
        return prepare(task, *arguments, **named)

    monkeypatch.setattr(ClassifierTask, "prepare", spy)
    both = train(**shared, train_on_all_rows=True)
    assert rows == [90, 100]
    assert not first.results["trained_on_all_rows"] and both.results["trained_on_all_rows"]
    assert (first.results["num_train_examples"], both.results["num_train_examples"]) == (90, 100)
    assert both.results["num_validation_examples"] == 10
    for name in ("validation_accuracy", "best_step"):
        assert both.results[name] == first.results[name]
    temperature = first.model.config.calibration_temperature
    assert both.model.config.calibration_temperature == temperature != 1
    assert not np.array_equal(both.predict_proba(TEXTS), first.predict_proba(TEXTS))


def test_a_user_who_sets_rows_aside_gets_one_training() -> None:
    classifier = train(validation=(TEXTS[:10], LABELS[:10]))
    assert not classifier.results["trained_on_all_rows"] and not classifier.recipe["train_on_all_rows"]
    assert classifier.results["num_train_examples"] == 100


def test_a_second_training_needs_validation_rows_and_a_classifier() -> None:
    with pytest.raises(ValueError, match=r"`train_on_all_rows` needs a validation split\. Pass `validation_size"):
        train(train_on_all_rows=True, validation_size=0.0)
    with pytest.raises(ValueError, match=r"`train_on_all_rows` is only for `rnn-hf train`\. Leave it out"):
        DistillationRunArguments(teacher_name_or_path=["x"], train_on_all_rows=True)


def test_a_second_training_that_is_interrupted_says_that_it_has_no_checkpoint(
    train: Callable[..., tuple[dict[str, Any], Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(classifier_task, "set_seed", seeds.append)
    monkeypatch.setattr(StopSignals, "asked_to_stop", lambda self: signal.SIGTERM if seeds else None)
    with pytest.raises(SystemExit) as ended:
        train("run", "--train_on_all_rows", "--max_steps", "5")
    assert ended.value.code == 128 + signal.SIGTERM and seeds == [42]
    message = "Stopped by SIGTERM after step 1 of 5 of a further training, which has no checkpoints."
    assert message in last_line(capsys.readouterr().err)


@pytest.fixture
def several(tmp_path: Path) -> TextClassifier:
    """A saved classifier of several labels, whose thresholds decide differently from 0.5."""
    tokenizer = train_tokenizer(TEXTS)
    config = RNNConfig(
        vocab_size=len(tokenizer),
        id2label={0: "a", 1: "b", 2: "c"},
        problem_type="multi_label_classification",
        label_thresholds=[0.2, 0.9, 0.5],
    )
    model = RNNForSequenceClassification(config)
    model.classifier.weight.data.zero_()
    model.classifier.bias.data.copy_(torch.tensor([0.3, 0.75, 0.6]).logit())
    TextClassifier(model, tokenizer).save_pretrained(tmp_path / "model")
    return TextClassifier.from_pretrained(tmp_path / "model")


def test_thresholds_of_the_model_decide_unless_one_is_given(several: TextClassifier) -> None:
    assert several.predict("a film") == ["a", "c"]
    assert several.predict(["a film"], threshold=0.5) == [["b", "c"]]
    assert several.thresholds() == [0.2, 0.9, 0.5] and several.thresholds(0.0) == 0.0
    assert several.evaluate(["a film"], [["a", "c"]], show_progress=False)["accuracy"] == 1
    assert several.evaluate(["a film"], [["b", "c"]], show_progress=False, threshold=0.5)["accuracy"] == 1


def test_commands_use_the_thresholds_of_the_model(
    several: TextClassifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict.main(["--model_name_or_path", str(tmp_path / "model"), "--text", "a film"])
    assert yaml.safe_load(capsys.readouterr().out)["labels"] == ["a", "c"]
    (tmp_path / "test.jsonl").write_text('{"text": "a film", "label": ["a", "c"]}\n' * 2)
    argv = ["--model_name_or_path", str(tmp_path / "model"), "--test_file", str(tmp_path / "test.jsonl"), "--use_cpu"]
    assert evaluate.main(argv)["accuracy"] == 1
    AcceleratorState._reset_state(reset_partial_state=True)
    assert evaluate.main([*argv, "--threshold", "0.5"])["accuracy"] == 0


@pytest.mark.parametrize("thresholds", [[], [0.5], [0.5, 0.5, 1.5], [0.5, -0.1, 0.5]])
def test_thresholds_that_do_not_fit_the_labels_are_refused(thresholds: list[float]) -> None:
    with pytest.raises(Exception, match="`label_thresholds` must be a number from 0 to 1 for each of 3 labels"):
        RNNConfig(num_labels=3, label_thresholds=thresholds)


def test_tuned_thresholds_are_those_of_the_validation_split_and_stay_with_the_model(tmp_path: Path) -> None:
    labels = [["x", "rare"] if position % 10 == 0 else ["y"] for position in range(100)]
    shared = {"settings_from_data": False, "validation_size": 0.2}
    classifier = train(labels=labels, **shared, tune_thresholds=True, output_dir=tmp_path / "model")
    thresholds = classifier.model.config.label_thresholds
    assert thresholds is not None and len(thresholds) == 3 and thresholds != [0.5] * 3
    assert train(labels=labels, **shared).model.config.label_thresholds is None
    both = train(labels=labels, **shared, tune_thresholds=True, train_on_all_rows=True)
    assert both.model.config.label_thresholds == thresholds
    assert TextClassifier.from_pretrained(tmp_path / "model").thresholds() == thresholds
    with pytest.raises(ValueError, match="`tune_thresholds` needs several labels per text"):
        train(tune_thresholds=True)


def test_a_regression_answers_in_the_unit_of_its_targets_whatever_it_is() -> None:
    """It also trains in the same way: the targets it learns are standardized."""
    targets = [1.0 + len(text) for text in TEXTS]
    arguments = {"settings_from_data": False, "num_train_epochs": 5, "ngram_buckets": 64, "train_on_all_rows": True}
    small = train(labels=targets, **arguments)
    large = train(labels=[1_000 * target + 5 for target in targets], **arguments)
    answers = np.array(small.predict(TEXTS[:4]))
    np.testing.assert_allclose(large.predict(TEXTS[:4]), 1_000 * answers + 5, rtol=1e-3)
    assert abs(answers.mean() - np.mean(targets)) < 2
