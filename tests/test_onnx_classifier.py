"""Strings in, labels and probabilities out by onnxruntime: as by torch, from a file that runs alone."""

import ast
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier, onnx_classifier
from rnn_hf.hub import ONNX_FILES
from rnn_hf.onnx_classifier import QUANTIZED_GRAPH, OnnxTextClassifier
from tests.conftest import in_new_process
from tests.tiny_classifiers import TEXTS, make_classifier

ODD = [*TEXTS, "a \ud800 dog", "[PAD] [UNK]", "ΣΑΣ", "a " * 500]
KINDS: dict[str, dict[str, Any]] = {
    "classes": {"bidirectional": True, "classifier_pooling": "mean_max", "ngram_buckets": 32},
    "integers": {"id2label": {0: "10", 1: "-3", 2: "7"}, "has_integer_labels": True},
    "several labels": {"problem_type": "multi_label_classification", "label_thresholds": [0.4, 0.5, 0.6]},
    "numbers": {"problem_type": "regression"},
}


def exported(folder: Path, **settings: Any) -> TextClassifier:
    """A classifier that is saved and exported into a folder."""
    classifier = make_classifier(**settings)
    classifier.save_pretrained(folder)
    classifier.export_onnx(folder)
    return classifier


def exported_in_full_size(folder: Path) -> None:
    """A classifier of the default's size."""
    sizes = {"vocab_size": 30_000, "embedding_size": 64, "hidden_size": 16, "ngram_buckets": 65_536, "num_labels": 4}
    model = RNNForSequenceClassification(RNNConfig(bidirectional=True, classifier_pooling="mean_max", **sizes))
    torch.nn.init.normal_(model.ngrams.table.weight)
    classifier = TextClassifier(model, make_classifier().tokenizer)
    classifier.save_pretrained(folder)
    classifier.export_onnx(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_both_backends_and_the_file_alone_answer_alike(tmp_path: Path, kind: str) -> None:
    classifier = exported(tmp_path, **KINDS[kind])
    alone, backend = OnnxTextClassifier(tmp_path), TextClassifier.from_pretrained(tmp_path, backend="onnx")
    labels = [["a"]] * len(ODD) if kind == "several labels" else classifier.predict(ODD)
    expected = classifier.predict_proba(ODD)
    for other in (alone, backend):
        np.testing.assert_allclose(other.predict_proba(ODD, batch_size=2), expected, atol=1e-5)
        np.testing.assert_allclose(other.predict_proba(ODD[3]), expected[3], atol=1e-5)
        np.testing.assert_allclose(np.concatenate([*other.iter_proba(iter(ODD))]), expected, atol=1e-5)
        assert other.predict_proba([]).shape == (0, 3) and other.predict([]) == []
        assert (other.labels, other.label_names) == (classifier.labels, classifier.label_names)
        assert (other.max_length, other.problem_type) == (9, classifier.problem_type)
        again = pickle.loads(pickle.dumps(other))  # noqa: S301  # what was pickled here
        np.testing.assert_allclose(again.predict_proba(ODD), expected, atol=1e-5)
        if kind == "numbers":
            np.testing.assert_allclose(other.predict(ODD), classifier.predict(ODD), atol=1e-5)
        else:
            assert other.predict(ODD) == classifier.predict(ODD) and other.predict(ODD[0]) == classifier.predict(
                ODD[0]
            )
    if kind == "several labels":
        assert alone.predict(ODD, threshold=0.0) == [classifier.labels] * len(ODD)
        labels = [[classifier.labels[0]]] * len(ODD)
    metrics, theirs = backend.evaluate(ODD, labels), classifier.evaluate(ODD, labels)
    assert metrics["num_examples"] == theirs["num_examples"] == len(ODD)
    assert metrics["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


def test_threads_share_a_classifier(tmp_path: Path) -> None:
    exported(tmp_path)
    classifier = OnnxTextClassifier(tmp_path)
    expected = classifier.predict_proba(ODD)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: classifier.predict_proba(ODD, batch_size=3), range(20)):
            np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="not run: needs os.fork")
def test_a_process_may_fork_after_use(tmp_path: Path) -> None:
    exported(tmp_path)
    code = (
        "import os, sys\nfrom rnn_hf.onnx_classifier import OnnxTextClassifier\n"
        "classifier = OnnxTextClassifier(sys.argv[1])\nbefore = classifier.predict(['a dog'] * 300)\n"
        "child = os.fork()\nsame = classifier.predict(['a dog'] * 300) == before\n"
        "if child == 0: os._exit(0 if same else 1)\n"
        "print(same, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert in_new_process(code, str(tmp_path)).stdout.split() == ["True", "0"]


def test_the_copy_imports_no_more_than_it_says_and_answers_on_the_command_line(tmp_path: Path) -> None:
    classifier = exported(tmp_path, ngram_buckets=32)
    copy = tmp_path / "onnx" / "onnx_classifier.py"
    tree = ast.parse(copy.read_text(encoding="utf-8"))
    modules = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or "."
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert {name.split(".")[0] for name in modules} - sys.stdlib_module_names == {"numpy", "onnxruntime", "tokenizers"}
    done = subprocess.run([sys.executable, copy, *TEXTS], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["answer"] for line in lines] == classifier.predict(TEXTS)
    assert [*lines[0]["probabilities"].values()] == pytest.approx(classifier.predict_proba(TEXTS[0]), abs=1e-3)
    for argv in ([], ["--help"]):
        nothing = subprocess.run([sys.executable, copy, *argv], capture_output=True, text=True)
        assert nothing.returncode == 2 and nothing.stderr.startswith("usage: ")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="not run: needs /proc")
def test_the_copy_takes_little_memory(tmp_path: Path) -> None:
    exported_in_full_size(tmp_path)
    code = (
        "import runpy, sys; sys.argv = [sys.argv[1], 'a dog']; runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = in_new_process(code, str(tmp_path / "onnx" / "onnx_classifier.py"))
    assert int(done.stdout.split()[-2]) * 1024 < 120e6, done.stderr


def test_the_small_file_is_small_and_answers_alike(tmp_path: Path) -> None:
    exported_in_full_size(tmp_path)
    sizes = [(tmp_path / name).stat().st_size for name in ONNX_FILES[:2]]
    assert sizes[1] <= 0.3 * sizes[0]
    small, large = OnnxTextClassifier(tmp_path, QUANTIZED_GRAPH), OnnxTextClassifier(tmp_path)
    np.testing.assert_allclose(small.predict_proba(ODD), large.predict_proba(ODD), atol=0.02)


@pytest.mark.parametrize("name", ["encode", "save_pretrained", "push_to_hub", "export_onnx"])
def test_what_needs_torch_says_so(tmp_path: Path, name: str) -> None:
    exported(tmp_path)
    backend = TextClassifier.from_pretrained(tmp_path, backend="onnx")
    with pytest.raises(AttributeError, match=f'^`{name}` needs torch. Load the classifier with `backend="torch"`.$'):
        getattr(backend, name)("x")
    with pytest.raises(AttributeError, match=r"^`model` needs torch"):
        _ = backend.model


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.save_pretrained(tmp_path)
    for load in (OnnxTextClassifier, lambda folder: TextClassifier.from_pretrained(folder, backend="onnx")):
        with pytest.raises(FileNotFoundError, match="Run `rnn-hf export-onnx "):
            load(tmp_path)
    classifier.export_onnx(tmp_path)
    with pytest.raises(ValueError, match="`backend` must be 'torch' or 'onnx', got 'tf'"):
        TextClassifier.from_pretrained(tmp_path, backend="tf")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`device` must be the CPU and `dtype` float32"):
        TextClassifier.from_pretrained(tmp_path, backend="onnx", dtype="float16")
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        OnnxTextClassifier(tmp_path).predict(TEXTS, batch_size=0)
    with pytest.raises(TypeError, match="must be strings, got None at position 1"):
        OnnxTextClassifier(tmp_path).predict(["a", None])  # type: ignore[list-item]
    RNNConfig.from_pretrained(tmp_path, id2label={0: "x", 1: "y", 2: "z"}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not agree with the configuration or the tokenizer"):
        TextClassifier.from_pretrained(tmp_path, backend="onnx")
    (tmp_path / ONNX_FILES[0]).write_bytes(b"no graph")
    with pytest.raises(ValueError, match="is not a classifier that `rnn-hf export-onnx` wrote") as caught:
        OnnxTextClassifier(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["../../secret", "{secret}"])
def test_a_graph_cannot_read_files_elsewhere(tmp_path: Path, place: str) -> None:
    exported(tmp_path / "mine")
    (tmp_path / "secret").write_bytes(bytes(4096))
    path = tmp_path / "mine" / ONNX_FILES[0]
    graph = onnx.load(path)
    weight = next(weight for weight in graph.graph.initializer if weight.name == "classifier.weight")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": place.format(secret=tmp_path / "secret"), "offset": "0"}.items():
        weight.external_data.add(key=key, value=value)
    path.write_bytes(graph.SerializeToString())
    for load in (OnnxTextClassifier, lambda folder: TextClassifier.from_pretrained(folder, backend="onnx")):
        with pytest.raises(ValueError, match="External data path"):
            load(tmp_path / "mine")


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = exported(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "rnn_hf.onnx_export", raising=False)
    for use in (
        lambda: TextClassifier.from_pretrained(tmp_path, backend="onnx"),
        lambda: classifier.export_onnx(tmp_path),
    ):
        with pytest.raises(ImportError, match=r'needs the package onnxruntime. Run `pip install "rnn-hf\[onnx\]"`'):
            use()
    assert onnx_classifier.flatten([[1], []])[1].tolist() == [1, 0]


@pytest.mark.parametrize(
    "changed",
    [
        [], 5, None, {}, {"label_names": "abc"}, {"label_names": ["a"]}, {"label_names": [1, 2, 3]},
        {"problem_type": "x"},
        {"max_length": 0}, {"max_length": -1}, {"max_length": 2**70}, {"max_length": "9"}, {"truncation_side": 5},
        {"split_special_tokens": "x"}, {"label_thresholds": [0.5]}, {"label_thresholds": ["a", "b", "c"]},
        {"label_thresholds": [0.5, 0.5, float("nan")]}, {"max_length": True}, {"pad_token_id": None},
        {"pad_token_id": -1},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_that_do_not_fit_the_graph_are_one_line(tmp_path: Path, changed: Any) -> None:
    exported(tmp_path)
    graph = onnx.load(tmp_path / ONNX_FILES[0])
    facts = json.loads(graph.metadata_props[0].value)
    graph.metadata_props[0].value = json.dumps(facts | changed if isinstance(changed, dict) and changed else changed)
    onnx.save(graph, tmp_path / ONNX_FILES[0])
    with pytest.raises(ValueError, match="is not a classifier that `rnn-hf export-onnx` wrote") as caught:
        OnnxTextClassifier(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_that_reads_padding_reads_the_same_padding(tmp_path: Path) -> None:
    classifier = exported(tmp_path, pack_padded_sequences=False, pad_token_id=2)
    for texts in ([""], ["", "a dog"], ["a dog", "the cat sat"]):
        np.testing.assert_allclose(
            OnnxTextClassifier(tmp_path).predict_proba(texts), classifier.predict_proba(texts), atol=1e-6
        )
