import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from huggingface_hub import ModelCard

from rnn_hf import RNNConfig, RNNForTokenClassification, TextClassifier, train_tokenizer
from rnn_hf.commands import export_onnx
from rnn_hf.hub import ONNX_FILES, files_to_push
from tests.conftest import last_line
from tests.tiny_classifiers import TEXTS, make_classifier


def test_an_export_goes_into_the_model_folder_its_card_and_the_files_to_push(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = make_classifier()
    classifier.save_pretrained(tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir() if path.name != "README.md"}
    assert not set(ONNX_FILES) & set(files_to_push(tmp_path / "mine"))
    for _ in range(2):
        assert export_onnx.main([str(tmp_path / "mine")]) == tmp_path / "mine"
        assert {*ONNX_FILES} <= {*files_to_push(tmp_path / "mine")}
        card = ModelCard.load(tmp_path / "mine" / "README.md")
        assert sorted(card.data.tags) == ["onnx", "rnn_hf", "transformers.js"]
        assert card.text.count("## ONNX") == 1 and "OnnxTextClassifier('mine')" in card.text
    assert before == {name: (tmp_path / "mine" / name).read_bytes() for name in before}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == [str(tmp_path / "mine" / name) for name in ONNX_FILES]
    backend = TextClassifier.from_pretrained(tmp_path / "mine", backend="onnx")
    np.testing.assert_allclose(backend.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=1e-5)


def test_an_export_elsewhere_is_a_folder_that_can_be_used(tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.save_pretrained(tmp_path / "mine")
    export_onnx.main([str(tmp_path / "mine"), "--output_dir", str(tmp_path / "exported")])
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {
        "config.json", "tokenizer.json", "tokenizer_config.json", "onnx"
    }  # fmt: skip
    backend = TextClassifier.from_pretrained(tmp_path / "exported", backend="onnx")
    assert backend.predict(TEXTS) == classifier.predict(TEXTS)
    assert not (tmp_path / "mine" / "onnx").exists()


def test_a_model_that_is_saved_again_loses_the_export_of_the_old_one(tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.save_pretrained(tmp_path)
    classifier.export_onnx(tmp_path)
    (tmp_path / "onnx" / "mine.txt").touch()
    classifier.save_pretrained(tmp_path)
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["mine.txt"]


def test_a_missing_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classifier().save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "rnn_hf.onnx_export", raising=False)
    with pytest.raises(SystemExit, match="2"):
        export_onnx.main([str(tmp_path)])
    assert 'needs the package onnx. Run `pip install "rnn-hf[onnx]"`' in last_line(capsys.readouterr().err)


def test_a_tagger_is_exported(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS)
    model = RNNForTokenClassification(RNNConfig(vocab_size=len(tokenizer), bidirectional=True)).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    export_onnx.main([str(tmp_path)])
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {"model.onnx", "model_quantized.onnx"}
    batch = tokenizer(TEXTS[:1], return_tensors="pt")
    inputs = {name: batch[name].numpy() for name in ("input_ids", "attention_mask")}
    logits = onnxruntime.InferenceSession(str(tmp_path / ONNX_FILES[0])).run(None, inputs)[0]
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(**batch).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: model"),
        (["./nowhere"], "The model folder './nowhere' does not exist"),
        (["owner/name"], "`--output_dir` is needed for a model on the Hub"),
        (["{mine}", "--output_dir", "{mine}/config.json"], "`--output_dir` must be a folder"),
        (["{mine}", "--output_dir", "{other}"], "is not that of the model. Export into the model's own folder"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    make_classifier().save_pretrained(tmp_path / "mine")
    (tmp_path / "other").mkdir()
    train_tokenizer(["something else"]).save_pretrained(tmp_path / "other")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        export_onnx.main([word.format(mine=tmp_path / "mine", other=tmp_path / "other") for word in argv])
    line = last_line(capsys.readouterr().err)
    assert line.startswith("rnn-hf export-onnx: error: ") and message in line
    assert sorted(tmp_path.rglob("*")) == before


def test_other_files_stay_and_other_models_are_not_mixed_in(tmp_path: Path) -> None:
    make_classifier().save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "onnx" / "folder").mkdir(parents=True)
    (tmp_path / "mine" / "onnx" / "other.onnx").write_text("other")
    for _ in range(2):
        export_onnx.main([str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "onnx" / "other.onnx").read_text() == "other"
    assert (tmp_path / "mine" / "onnx" / "folder").is_dir()
    other = make_classifier()
    torch.nn.init.normal_(other.model.classifier.weight)
    with pytest.raises(ValueError, match="has another model's weights"):
        other.export_onnx(tmp_path / "mine")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_16_bits_or_in_training_is_exported_as_it_predicts_in_32(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    classifier = make_classifier(ngram_buckets=8)
    classifier.model.to(dtype).train()
    classifier.export_onnx(tmp_path)
    assert classifier.model.training and classifier.model.dtype == dtype
    exported = TextClassifier.from_pretrained(tmp_path, backend="onnx").predict_proba(TEXTS)
    np.testing.assert_allclose(
        exported, TextClassifier(classifier.model.float(), classifier.tokenizer).predict_proba(TEXTS), atol=1e-5
    )


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.save_pretrained(tmp_path / "mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.onnx").write_text("theirs")
    (tmp_path / "mine" / "onnx").symlink_to(tmp_path / "elsewhere")
    classifier.save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "onnx").symlink_to(tmp_path / "elsewhere")
    classifier.export_onnx(tmp_path / "mine")
    assert [path.read_text() for path in (tmp_path / "elsewhere").iterdir()] == ["theirs"]
    assert not (tmp_path / "mine" / "onnx").is_symlink()


CARDS = {
    "comments": "---\n# mine\nlanguage: no\ntags:\n- a\nversion: 1.10\n---\n\n# Title\n",
    "no tags": "---\nlicense: mit\n---\ntext\n",
    "no front matter": "# Title\n",
    "broken": "---\nfoo: [a\n---\ntext\n",
    "a number for tags": "---\ntags: 5\n---\ntext\n",
    "tags on one line": "---\ntags: [a]\n---\ntext\n",
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_keeps_what_it_says(tmp_path: Path, name: str) -> None:
    make_classifier().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text(CARDS[name])
    export_onnx.main([str(tmp_path)])
    text = (tmp_path / "README.md").read_text()
    kept = [line for line in text.splitlines() if line not in ("tags:", "- onnx", "- transformers.js")]
    expected = [line for line in CARDS[name].splitlines() if line != "tags:"]
    assert kept[: len(expected)] == expected
    is_readable = name not in ("broken", "a number for tags")
    assert ("## ONNX" in text, "- onnx" in text) == (is_readable, name in ("comments", "no tags"))
