"""Which code travels with a model."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from rnn_hf import RNNForCausalLM, RNNForSequenceClassification
from rnn_hf.commands import push_to_hub
from tests.contracts.test_without_package import make_folder
from tests.test_hub import NAME
from tests.tiny_models import HUB_FILES


@pytest.mark.parametrize("kind", ["classifier", "tagger"])
def test_only_a_language_model_carries_code_for_generation(kind: str, hub: str, tmp_path: Path) -> None:
    push_to_hub.main([str(make_folder(kind, tmp_path / "model")), NAME])
    files = [name for name in HfApi().list_repo_files(NAME) if name.endswith(".py")]
    assert sorted(files) == sorted(f"{name}.py" for name in HUB_FILES if name != "causal_lm_rnn")
    assert not any("GenerationMixin" in Path(hf_hub_download(NAME, name)).read_text() for name in files)
    auto_map = json.loads(Path(hf_hub_download(NAME, "config.json")).read_text())["auto_map"]
    assert "AutoModelForCausalLM" not in auto_map


def test_a_language_model_that_becomes_a_classifier_drops_the_code_for_generation(tmp_path: Path) -> None:
    folder = make_folder("language-model", tmp_path / "language_model")
    RNNForSequenceClassification.from_pretrained(folder).save_pretrained(tmp_path / "classifier")
    assert not (tmp_path / "classifier" / "causal_lm_rnn.py").exists()
    assert "causal_lm_rnn" not in (tmp_path / "classifier" / "config.json").read_text()
    # and the other way round
    config = RNNForSequenceClassification.from_pretrained(tmp_path / "classifier").config
    RNNForCausalLM(config).save_pretrained(tmp_path / "again")
    config_of = [json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "again")]
    assert config_of[0]["auto_map"] == config_of[1]["auto_map"]
