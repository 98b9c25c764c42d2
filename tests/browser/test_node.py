"""Exported models in Node: run with `pytest -m browser`, which needs Node and npm."""

import json
import subprocess
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNForTokenClassification, train_tokenizer
from rnn_hf.configuration_rnn import CellType
from rnn_hf.onnx_export import export_onnx

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

TEXTS = ["the club won the cup.", "", "oil", "Unknown words, and the club " * 30]


@pytest.mark.parametrize("model_class", [RNNForSequenceClassification, RNNForTokenClassification])
@pytest.mark.parametrize("cell_type", get_args(CellType))
def test_transformers_js_computes_the_same_logits(
    cell_type: Any, model_class: Any, node_modules: Path, tmp_path: Path
) -> None:
    tokenizer = train_tokenizer(TEXTS)
    config = RNNConfig(vocab_size=len(tokenizer), cell_type=cell_type, bidirectional=True, num_hidden_layers=2)
    config.ngram_buckets, config.classifier_pooling = 16, "mean_max_last"
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)  # larger ones would make long texts chaotic
    export_onnx(model, tokenizer, tmp_path / "model")
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    argv = [node_modules, tmp_path / "model", tmp_path / "texts.json"]
    script = Path(__file__).with_name("logits.mjs")
    done = subprocess.run(["node", script, *map(str, argv)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for text, logits in zip(TEXTS, json.loads(done.stdout), strict=True):
        with torch.no_grad():
            batch = tokenizer([text], return_tensors="pt")
            expected = model(batch["input_ids"].long(), attention_mask=batch["attention_mask"]).logits[0]
        np.testing.assert_allclose(np.array(logits).reshape(expected.shape), expected, atol=1e-4)
