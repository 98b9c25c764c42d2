import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from datasets import DatasetDict
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
)

from rnn_hf.commands import distill, evaluate, train
from rnn_hf.data.columns import NO_LABEL
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.unlabelled import load_unlabelled_texts
from rnn_hf.training import teachers as teaching
from rnn_hf.training.arguments import DistillationRunArguments
from rnn_hf.training.classifier import ClassifierRun
from rnn_hf.training.splits import TextSplits
from scripts.research import render_model_cards
from tests.commands.conftest import Distill
from tests.commands.test_train import PROMISED_FILES, PROMISED_RESULTS
from tests.conftest import TINY_RUN, last_line, weights


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trained classifiers of this package, which differ."""
    folders = [tmp_path_factory.mktemp("teachers") / name for name in ("first", "second")]
    for seed, folder in enumerate(folders):
        AcceleratorState._reset_state(reset_partial_state=True)
        argv = [*TINY_RUN, "--max_train_samples", "2000", "--num_train_epochs", "4", "--output_dir", str(folder)]
        train.main([*argv, "--learning_rate", "0.01", "--seed", str(seed)])
    return folders


def logits_alone(folder: Path, texts: list[str]) -> np.ndarray:
    """Return a teacher's predictions for each text alone, in the order of the dataset's classes."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limit = {"truncation": True, "max_length": 24} if isinstance(model, BertForSequenceClassification) else {}
    with torch.no_grad():
        rows = [model(**tokenizer(text, return_tensors="pt", **limit)).logits[0] for text in texts]
    names = [model.config.id2label[index] for index in range(4)]
    return torch.stack(rows)[:, [names.index(name) for name in ("World", "Sports", "Business", "Sci/Tech")]].numpy()


def test_a_student_comes_near_its_teachers_and_says_how_near(
    student: Distill, teachers: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--max_train_samples", "2000", "--num_train_epochs", "6", "--learning_rate", "0.01"]
    results, folder = student("run", teachers, *argv)
    assert {path.name for path in folder.iterdir()} == PROMISED_FILES
    assert json.loads((folder / "all_results.json").read_text()) == results
    assert results.keys() >= PROMISED_RESULTS
    assert results["teacher_agreement"] > 0.8
    assert [each["name"] for each in results["teachers"]] == [str(teacher) for teacher in teachers]
    for each in results["teachers"]:
        own = evaluate.main(["--model_name_or_path", each["name"], "--dataset_name", "demo", "--use_cpu"])
        assert each["teacher_accuracy"] == own["accuracy"]
    shown = f"{100 * results['teacher_accuracy']:.2f} % accuracy; teacher and student agree on "
    assert shown + f"{100 * results['teacher_agreement']:.2f} %" in capsys.readouterr().out
    card = (folder / "README.md").read_text()
    assert f"| first | {100 * results['teachers'][0]['teacher_accuracy']:.2f} |" in card
    assert f"| all teachers together | {100 * results['teacher_accuracy']:.2f} |" in card
    assert str(teachers[0]) not in card
    assert "rnn-hf distill recipe.yaml" in card
    render_model_cards.main([str(folder)])
    assert (folder / "README.md").read_text() == card


def test_teachers_of_any_architecture_answer_as_they_do_alone(bert: Path, teachers: list[Path]) -> None:
    """Answers are in the order of rows and classes, with any batches, also for the noised copies."""
    args = DistillationRunArguments(
        teacher_name_or_path=[str(bert), str(teachers[0])],
        num_noised_copies=1,
        per_device_teacher_batch_size=7,
        seed=0,
    )
    texts = load_demo_news(num_train=30, num_test=9)
    names = ["World", "Sports", "Business", "Sci/Tech"]
    asked = [teaching.load_teacher(name, names, args) for name in args.teacher_name_or_path]
    answers = teaching.ask_teachers(
        asked, TextSplits(texts["train"], DatasetDict(test=texts["test"])), args, Accelerator(cpu=True)
    )
    assert (answers["train"].shape, answers["test"].shape) == ((2, 60, 4), (2, 9, 4))
    for of_teacher, folder in zip(range(2), (bert, teachers[0]), strict=True):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.split_special_tokens = False
        noised = teaching.noised_copies(texts["train"], tokenizer, args)["noised_0"]["text"][:]
        assert any(mask in text for text in noised for mask in ("[MASK]", "[UNK]"))
        for split, rows in (("train", texts["train"]["text"][:]), ("test", texts["test"]["text"][:])):
            got = answers[split][of_teacher, : len(rows)]
            np.testing.assert_allclose(got, logits_alone(folder, rows), rtol=1e-4, atol=1e-5)
    with_masks = AutoTokenizer.from_pretrained(bert)(noised_of(texts, bert, args)).input_ids
    assert any(4 in ids for ids in with_masks), "BERT's mask is its own token"
    np.testing.assert_allclose(
        answers["train"][0, 30:], logits_alone(bert, noised_of(texts, bert, args)), rtol=1e-4, atol=1e-5
    )


def noised_of(texts: DatasetDict, folder: Path, args: DistillationRunArguments) -> list[str]:
    copies = teaching.noised_copies(texts["train"], AutoTokenizer.from_pretrained(folder), args)
    noised: list[str] = copies["noised_0"]["text"][:]
    return noised


def test_a_masked_word_is_the_students_unknown_word(
    student: Distill, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[ClassifierRun] = []
    end = ClassifierRun.results
    monkeypatch.setattr(ClassifierRun, "results", lambda run: [runs.append(run), end(run)][1])
    argv = ["--num_noised_copies", "2", "--mask_probability", "0.5", "--ngram_probability", "0", "--max_steps", "2"]
    results, _ = student("run", [bert], *argv)
    assert (results["num_train_examples"], results["num_noised_examples"]) == (400, 800)
    batches = list(runs[0].loaders["train"])
    rows = torch.cat([batch["row"] for batch in batches])
    assert sorted(rows.tolist()) == list(range(1200))
    unknown, words = torch.zeros(2), torch.zeros(2)
    for batch in batches:
        is_copy = (batch["row"] >= 400).long()
        unknown.index_add_(0, is_copy, (batch["input_ids"] == 1).sum(dim=1).float())
        words.index_add_(0, is_copy, batch["attention_mask"].sum(dim=1).float())
    assert unknown[0] == 0
    # marks stay beside the words
    assert 0.3 < unknown[1] / words[1] < 0.5


def test_texts_without_labels_teach_what_the_teachers_say_about_them(
    student: Distill, teachers: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = load_demo_news(num_train=300, num_test=8)["train"]["text"]
    (tmp_path / "more.txt").write_text("".join(f"{text}\n" for text in texts[:200]))
    rows = [{"text": text, "label": "unheard of"} for text in texts[200:300]]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["--num_noised_copies", "1", "--max_steps", "2", "--alpha", "0.5", "--unlabelled_file"]
    for name, number in (("more.txt", 200), ("more.jsonl", 100)):
        results, folder = student(f"from {name}", teachers, *argv, str(tmp_path / name))
        counts = [results[f"num_{kind}_examples"] for kind in ("train", "unlabelled", "noised")]
        assert counts == [400, number, 400 + number]
        assert f"epochs of {2 * (400 + number):,} rows" in capsys.readouterr().out
        assert f"They also labelled {number} texts that had no label." in (folder / "README.md").read_text()
    # the words of these texts are in the vocabulary, too
    (tmp_path / "rare.txt").write_text("quizzaciously quizzaciously quizzaciously\n" * 20)
    _, folder = student("rare", teachers, *argv, str(tmp_path / "rare.txt"))
    assert "quizzaciously" in AutoTokenizer.from_pretrained(folder).get_vocab()


def test_settings_follow_the_data_and_the_branch_learns_from_the_teachers(
    student: Distill,
    teachers: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without labels of their own, texts also fit the n-gram branch."""
    fit_ngrams, learned = distill.fit_ngrams, []
    monkeypatch.setattr(distill, "fit_ngrams", lambda *args: (learned.append(args[1]["labels"][:]), fit_ngrams(*args)))
    texts = load_demo_news(num_train=300, num_test=8)["train"]["text"]
    (tmp_path / "more.txt").write_text("".join(f"{text}\n" for text in texts))
    argv = ["--settings_from_data", "true", "--max_steps", "2", "--num_noised_copies", "1"]
    argv += ["--eval_strategy", "steps", "--eval_steps", "1"]
    results, folder = student("followed", teachers[:1], *argv, "--unlabelled_file", str(tmp_path / "more.txt"))
    shown = capsys.readouterr().out
    assert "Chosen from the data: `--tokenizer_type word`" in shown and "`--label_smoothing_factor 0.0`" in shown
    assert "train_on_all_rows" not in shown
    # a tenth is held out, of all rows; noised copies are not counted a second time
    assert (results["num_validation_examples"], results["num_train_examples"]) == (400, 400)
    assert "n-grams of 700 texts" in shown
    answers = logits_alone(teachers[0], texts).argmax(axis=1)
    assert learned[0][400:] == answers.tolist()
    # of equally good weights, the best would be the first; the branch is weighed later
    assert results["best_step"] == results["step"] == 2 and shown.count("| validation accuracy") == 3
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert (recipe["ngram_buckets"], recipe["hidden_size"]) == (65536, 8)


def test_a_wrong_model_is_told_before_the_teachers_answer(
    student: Distill, teachers: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distill, "ask_teachers", lambda *arguments: pytest.fail("asked"))
    with pytest.raises(SystemExit, match="2"):
        student("wrong", teachers, "--model_name_or_path", str(teachers[0]), "--hidden_size", "9")
    assert "hidden_size" in last_line(capsys.readouterr().err)


def test_lines_are_read_without_their_ends_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_bytes("\ufeffgood film\r\na\u2028b\n\nbad".encode())
    features = load_demo_news(num_train=8, num_test=8)["train"].features
    rows = load_unlabelled_texts(tmp_path / "more.txt", features)
    assert rows["text"][:] == ["good film", "a\u2028b", "", "bad"] and set(rows["label"][:]) == {NO_LABEL}


def test_rows_without_a_label_get_that_of_the_teachers_and_no_other_loss() -> None:
    rows = datasets.Dataset.from_dict({"input_ids": [[1]] * 4, "labels": [2, 0, NO_LABEL, NO_LABEL]})
    logits = np.array([[[9, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]] * 2, dtype=np.float32)
    assert teaching.with_teachers_labels(rows, logits)["labels"][:] == [2, 0, 1, 2]
    assert teaching.with_teachers_labels(rows.select([0, 1]), logits[:, :2])["labels"][:] == [2, 0]


def test_noised_copies_and_the_seed_give_the_same_student_again(student: Distill, teachers: list[Path]) -> None:
    argv = ["--num_noised_copies", "1", "--alpha", "0.5"]
    _, first = student("first", teachers, *argv)
    AcceleratorState._reset_state(reset_partial_state=True)
    again = first.parent / "again"
    distill.main([str(first / "recipe.yaml"), "--output_dir", str(again)])
    assert weights(first) == weights(again)
    _, other = student("other", teachers[:1], *argv)
    assert weights(first) != weights(other)


def test_without_the_teachers_share_it_is_training(
    student: Distill, teachers: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if loading a teacher draws random numbers."""
    load_teacher = teaching.load_teacher
    monkeypatch.setattr(distill, "load_teacher", lambda *args: (load_teacher(*args), torch.rand(5))[0])
    _, folder = student("student", teachers, "--alpha", "0")
    AcceleratorState._reset_state(reset_partial_state=True)
    train.main([*TINY_RUN, "--output_dir", str(tmp_path / "trained")])
    assert weights(folder) == weights(tmp_path / "trained")


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(student: Distill, teachers: list[Path]) -> None:
    argv = ["--num_train_epochs", "2", "--save_strategy", "steps", "--save_steps", "9", "--num_noised_copies", "1"]
    expected, whole = student("whole", teachers, *argv)
    checkpoint = min((whole / "checkpoints").iterdir())
    resumed, folder = student("resumed", teachers, *argv, "--resume_from_checkpoint", str(checkpoint))
    assert resumed["step"] == expected["step"] > int(checkpoint.name.removeprefix("step-"))
    assert weights(folder) == weights(whole)
    with pytest.raises(SystemExit, match="2"):
        student("other", teachers, *argv, "--temperature", "3", "--resume_from_checkpoint", str(checkpoint))


def test_a_teacher_is_asked_once_about_rows_in_a_file(
    student: Distill, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.csv"
    load_demo_news(num_train=200, num_test=8)["train"].to_csv(rows)
    source = ["--train_file", str(rows), "--test_file", str(rows), "--use_cpu", "--max_steps", "3"]
    source += ["--label_column_name", "label", "--num_noised_copies", "1", "--teacher_name_or_path"]
    renamed = tmp_path / "bert"
    model = AutoModelForSequenceClassification.from_pretrained(bert, id2label=dict(enumerate("0123")))
    model.save_pretrained(renamed)
    AutoTokenizer.from_pretrained(bert).save_pretrained(renamed)
    asked: list[str] = []
    predict_split = teaching.predict_split
    monkeypatch.setattr(teaching, "predict_split", lambda *args: [asked.append(args[-1]), predict_split(*args)][1])
    outcomes = []
    for name in ("first", "again"):
        AcceleratorState._reset_state(reset_partial_state=True)
        outcomes.append(distill.main([*source, str(renamed), "--output_dir", str(tmp_path / name)]))
        assert len(asked) == 3, "training rows, noised copy, test rows"
    assert outcomes[0]["teacher_accuracy"] == outcomes[1]["teacher_accuracy"]
    assert weights(tmp_path / "first") == weights(tmp_path / "again")
    with torch.no_grad():
        model.classifier.weight.add_(1)
    model.save_pretrained(renamed)
    AcceleratorState._reset_state(reset_partial_state=True)
    distill.main([*source, str(renamed), "--output_dir", str(tmp_path / "other")])
    assert len(asked) == 6, "other weights, other answers"


def test_texts_are_cut_to_the_positions_of_the_teacher(student: Distill, bert: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert, model_max_length=512)
    tokenizer.save_pretrained(tmp_path / "teacher")
    AutoModelForSequenceClassification.from_pretrained(bert).save_pretrained(tmp_path / "teacher")
    results, _ = student("long", [tmp_path / "teacher"])  # most texts have more tokens than the 24 positions
    assert results["teacher_accuracy"] > 0


def test_labels_without_names_are_taken_in_order_and_told(
    student: Distill, bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unnamed = tmp_path / "unnamed"
    model = AutoModelForSequenceClassification.from_pretrained(
        bert, id2label={index: f"LABEL_{index}" for index in range(4)}
    )
    model.save_pretrained(unnamed)
    AutoTokenizer.from_pretrained(bert).save_pretrained(unnamed)
    student("run", [unnamed])
    assert (
        "have no names; they are assumed to be in the order World, Sports, Business, Sci/Tech"
        in capsys.readouterr().out
    )


def test_the_recipe_does_not_trust_code_a_second_time(student: Distill, teachers: list[Path]) -> None:
    _, folder = student("run", teachers[:1], "--trust_remote_code")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["trust_remote_code"] is False
    assert recipe["teacher_name_or_path"] == [str(teachers[0])]
