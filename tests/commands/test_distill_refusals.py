"""What cannot be distilled is one line: wrong texts, classes and teachers."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertForSequenceClassification, BertModel

from rnn_hf import RNNConfig, RNNForTokenClassification, train_tokenizer
from rnn_hf.commands import distill
from tests.commands.conftest import LABELS, Distill, tiny_bert
from tests.conftest import last_line
from tests.tiny_classifiers import make_classifier


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("more.csv", None, "`--unlabelled_file` must be a file, but there is none at"),
        ("more.csv", b"a,b\nx y z,v w\n", "Pass `--text_column_names`"),
        ("more.txt", b"", "`--unlabelled_file` must have at least one line, got the empty"),
        ("more.TXT", b"caf\xe9\n", "`--unlabelled_file` must be UTF-8 text, got"),
    ],
)
def test_a_wrong_file_of_texts_is_one_line(
    student: Distill, bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    name: str, content: bytes | None, message: str,
) -> None:  # fmt: skip
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        student("run", [bert], "--unlabelled_file", str(tmp_path / name))
    assert message in last_line(capsys.readouterr().err)


def test_one_class_is_one_line(bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "a", "label": "x"}\n' * 9)
    argv = ["--train_file", str(tmp_path / "one.jsonl"), "--output_dir", str(tmp_path / "run"), "--use_cpu"]
    with pytest.raises(SystemExit, match="2"):
        distill.main([*argv, "--teacher_name_or_path", str(bert)])
    assert "must have at least two classes, got one class, 'x'" in last_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nowhere", "The model folder"),
        ("tagger", "RNNForTokenClassification"),
        ("other labels", "must have the labels of the dataset (World, Sports, Business, Sci/Tech), got a, b, c, d."),
        ("no classifier", "but it lacks classifier.bias, classifier.weight."),
        ("pickle", "safetensors"),
        ("several labels", "must give one class per text, got the problem multi_label_classification."),
        ("other sizes", "do not fit its configuration"),
        ("no numbers", "must be finite numbers, got NaN or infinity."),
        ("too many words", "The tokenizer has the id"),
        ("no tokenizer", "has no words. Save it beside the model."),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_line(
    student: Distill, bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, message: str
) -> None:
    folder = tmp_path / kind
    if kind == "tagger":
        tokenizer = train_tokenizer(["the club won"])
        tokenizer.save_pretrained(folder)
        config = RNNConfig(vocab_size=len(tokenizer), id2label=dict(enumerate(LABELS)))
        RNNForTokenClassification(config).save_pretrained(folder)
    elif kind != "nowhere":
        AutoTokenizer.from_pretrained(bert).save_pretrained(folder)
        settings = {"other labels": {"id2label": dict(enumerate("abcd"))}}.get(
            kind, {"id2label": dict(enumerate(LABELS))}
        )
        if kind == "several labels":
            settings["problem_type"] = "multi_label_classification"  # type: ignore[assignment]
        model_class = BertModel if kind == "no classifier" else BertForSequenceClassification
        model_class(tiny_bert(200 if kind == "too many words" else 300, **settings)).save_pretrained(folder)
    if kind == "other sizes":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 10**9}))
    if kind == "no numbers":
        state = load_file(folder / "model.safetensors")
        state["classifier.bias"][1] = torch.nan
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    if kind == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    if kind == "pickle":
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        student("run", [folder])
    line = last_line(capsys.readouterr().err)
    assert line.startswith("rnn-hf distill: error: ")
    assert message in line
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_damaged_teacher_of_this_family_is_one_line(
    student: Distill, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "damaged"
    make_classifier().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 10**9}))
    with pytest.raises(SystemExit, match="2"):
        student("run", [folder])
    assert "`--hidden_size`" in last_line(capsys.readouterr().err)


def test_numbers_have_no_teacher(student: Distill, bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        student("run", [bert], "--problem_type", "regression")
    assert "Distillation needs one class per text, got a problem of type regression." in last_line(
        capsys.readouterr().err
    )
