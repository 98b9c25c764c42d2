"""The code that travels with a model: every kind of model loads from a Hub by it alone, and from older folders."""

import inspect
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import HfApi, hf_hub_download
from transformers import AutoModel, AutoTokenizer, pipeline

from rnn_hf import (
    RNNConfig,
    RNNForCausalLM,
    RNNForSequenceClassification,
    RNNForTokenClassification,
    RNNPreTrainedModel,
    TextClassifier,
)
from rnn_hf.commands import push_to_hub
from rnn_hf.data.tokenizer_training import save_tokenizer, train_tokenizer
from tests.test_hub import CARD, NAME, TEXTS, run_without_package
from tests.tiny_models import HUB_FILES, PACKAGE

# Folders of version 0.1.0, whose auto_map names one modeling file for all heads; their code was deleted
ONE_MODELING_FILE = Path(__file__).parents[1] / "fixtures" / "one_modeling_file"

# Of each kind: the model, its settings, its own Auto class and its pipeline
KINDS: dict[str, tuple[type[RNNPreTrainedModel], dict[str, Any], str, str]] = {
    "classifier": (
        RNNForSequenceClassification,
        {"bidirectional": True, "classifier_pooling": "mean_max", "ngram_buckets": 16},
        "AutoModelForSequenceClassification",
        "text-classification",
    ),
    "tagger": (
        RNNForTokenClassification,
        {"bidirectional": True, "cell_type": "rnn"},
        "AutoModelForTokenClassification",
        "token-classification",
    ),
    "language model": (
        RNNForCausalLM,
        {"cell_type": "gru", "adaptive_softmax_cutoffs": [5], "eos_token_id": 2, "bos_token_id": 2},
        "AutoModelForCausalLM",
        "text-generation",
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make_folder(kind: str, folder: Path) -> Path:
    """A saved model with its tokenizer and card."""
    model_class, settings, _, task = KINDS[kind]
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, has_end_of_text=kind == "language model")
    model = model_class(RNNConfig(vocab_size=len(tokenizer), embedding_size=4, hidden_size=3, **settings))
    if isinstance(model, RNNForSequenceClassification):
        torch.nn.init.normal_(model.ngrams.table.weight)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    (folder / "README.md").write_text(CARD.replace("text-classification", task))
    return folder


@torch.no_grad()
def answers(name: str, auto_class: str, task: str, texts: list[str], **trust: bool) -> tuple[Any, Any, Any, Any]:
    """Logits, states of the encoder and what the pipeline returns, as JSON; then model, encoder and tokenizer."""
    model = getattr(transformers, auto_class).from_pretrained(name, **trust)
    encoder, tokenizer = AutoModel.from_pretrained(name, **trust), AutoTokenizer.from_pretrained(name, **trust)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    # tokens: without the package, transformers' own pipeline puts no blank between a prompt and what follows
    arguments = {"max_new_tokens": 4, "do_sample": False, "return_tensors": True} if task == "text-generation" else {}
    answered = pipeline(task, model=name, **trust)(texts[:2], **arguments)
    results = [model(**batch).logits.tolist(), encoder(**batch).last_hidden_state.tolist(), answered]
    return json.loads(json.dumps(results, default=float)), model, encoder, tokenizer


LOAD_WITHOUT_PACKAGE = (
    f"""
import pickle, sys, transformers
from typing import Any
from transformers import AutoModelForCausalLM

{inspect.getsource(answers)}
"""
    + """
name, auto_class, task, texts = sys.argv[1:]
found = []
for place in (name, name + "-again"):
    results, model, encoder, tokenizer = answers(place, auto_class, task, json.loads(texts), trust_remote_code=True)
    found.append(results)
    config = AutoConfig.from_pretrained(place, trust_remote_code=True)
    for thing in (config, model, encoder):
        assert type(thing).__module__.startswith("transformers_modules."), type(thing)
        pickle.loads(pickle.dumps(thing))
    # of one class, however they were loaded
    assert type(model.model) is type(encoder)
    if task == "text-generation":
        classifier = AutoModelForSequenceClassification.from_pretrained(place, trust_remote_code=True)
        assert type(classifier.model) is type(encoder)
        for key, weight in encoder.state_dict().items():
            assert torch.equal(classifier.model.state_dict()[key], weight)
    else:
        try:
            AutoModelForCausalLM.from_pretrained(place, trust_remote_code=True)
        except ValueError as error:
            assert "Unrecognized configuration class" in str(error)
        else:
            raise AssertionError("it has code for generation")
    if place == name:
        model.push_to_hub(name + "-again")
        tokenizer.push_to_hub(name + "-again")
print(json.dumps(found))
"""
)


@every_kind
def test_every_kind_of_model_loads_from_the_hub_without_the_package_bit_for_bit(
    kind: str, hub: str, tmp_path: Path
) -> None:
    """Through every Auto class that applies and the pipeline, and once more after saving and pushing it from there."""
    _, _, auto_class, task = KINDS[kind]
    folder = make_folder(kind, tmp_path / "model")
    expected, *_ = answers(str(folder), auto_class, task, TEXTS)
    push_to_hub.main([str(folder), NAME])
    found = run_without_package(LOAD_WITHOUT_PACKAGE, NAME, auto_class, task, json.dumps(TEXTS))
    assert found == [expected, expected]
    # with the package, too, what was pushed from there is whole
    for name in (NAME, f"{NAME}-again"):
        results, model, encoder, _ = answers(name, auto_class, task, TEXTS)
        assert results == expected
        assert type(model) is KINDS[kind][0] and type(model.model) is type(encoder)


def test_language_model_that_was_loaded_after_its_encoder_is_pickled(hub: str, tmp_path: Path) -> None:
    push_to_hub.main([str(make_folder("language model", tmp_path / "model")), NAME])
    code = """
import pickle
from transformers import AutoModelForCausalLM
encoder = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(model.model) is type(encoder)
print(json.dumps(type(pickle.loads(pickle.dumps(model))).__name__))
"""
    assert run_without_package(code, NAME) == "RNNForCausalLM"


@pytest.mark.parametrize("kind", ["classifier", "tagger"])
def test_only_a_language_model_carries_code_for_generation(kind: str, hub: str, tmp_path: Path) -> None:
    push_to_hub.main([str(make_folder(kind, tmp_path / "model")), NAME])
    files = [name for name in HfApi().list_repo_files(NAME) if name.endswith(".py")]
    assert sorted(files) == sorted(f"{name}.py" for name in HUB_FILES if name != "causal_lm_rnn")
    assert not any("GenerationMixin" in Path(hf_hub_download(NAME, name)).read_text() for name in files)
    auto_map = json.loads(Path(hf_hub_download(NAME, "config.json")).read_text())["auto_map"]
    assert "AutoModelForCausalLM" not in auto_map


def test_a_language_model_that_becomes_a_classifier_drops_the_code_for_generation(tmp_path: Path) -> None:
    folder = make_folder("language model", tmp_path / "language_model")
    RNNForSequenceClassification.from_pretrained(folder).save_pretrained(tmp_path / "classifier")
    assert not (tmp_path / "classifier" / "causal_lm_rnn.py").exists()
    assert "causal_lm_rnn" not in (tmp_path / "classifier" / "config.json").read_text()
    # and the other way round
    config = RNNForSequenceClassification.from_pretrained(tmp_path / "classifier").config
    RNNForCausalLM(config).save_pretrained(tmp_path / "again")
    config_of = [json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "again")]
    assert config_of[0]["auto_map"] == config_of[1]["auto_map"]


@pytest.fixture(params=["classifier", "language_model"])
def older_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of version 0.1.0, whose code is one modeling file.

    Its configuration and weights are those that 0.1.0 saved; its modeling file is today's code joined in one.
    """
    folder = Path(shutil.copytree(ONE_MODELING_FILE / request.param, tmp_path / "model"))
    configuration, *others = [(PACKAGE / f"{name}.py").read_text() for name in HUB_FILES]
    (folder / "configuration_rnn.py").write_text(configuration)
    imports = re.compile(r"^from \.(?!configuration_rnn)\w+ import (?:\([^)]*\)|.*)\n", re.MULTILINE)
    joined = "\n".join(imports.sub("", text) for text in others)
    (folder / "modeling_rnn.py").write_text(joined)
    (folder / "README.md").write_text(CARD)
    return folder


def test_an_older_folder_loads_and_can_be_pushed_with_and_without_the_package(hub: str, older_folder: Path) -> None:
    """The logits are those of the version that saved it."""
    generates = older_folder.joinpath("generation_config.json").exists()
    auto_class = "AutoModelForCausalLM" if generates else "AutoModelForSequenceClassification"
    expected = json.loads((older_folder / "expected_logits.json").read_text())
    push_to_hub.main([str(older_folder), NAME])
    code = [name for name in HfApi().list_repo_files(NAME) if name.endswith(".py")]
    assert sorted(code) == ["configuration_rnn.py", "modeling_rnn.py"]
    loading = """
import transformers
auto_class, texts, *places = sys.argv[1:]
found = []
for place in places:
    model = getattr(transformers, auto_class).from_pretrained(place, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    found.append(logits_of(model, AutoTokenizer.from_pretrained(place, trust_remote_code=True), json.loads(texts)))
print(json.dumps(found))
"""
    places = [NAME, str(older_folder)]
    for logits in run_without_package(loading, auto_class, json.dumps(TEXTS), *places):
        torch.testing.assert_close(torch.tensor(logits), torch.tensor(expected), rtol=0, atol=1e-6)
    model_class = RNNForCausalLM if generates else RNNForSequenceClassification
    for place in places:
        model = model_class.from_pretrained(place).eval()
        batch = AutoTokenizer.from_pretrained(place)(TEXTS, padding=True, return_tensors="pt")
        torch.testing.assert_close(model(**batch).logits, torch.tensor(expected), rtol=0, atol=1e-6)
    if not generates:
        assert TextClassifier.from_pretrained(older_folder).predict(TEXTS)
    # saved anew, it has the files of this version
    model.save_pretrained(older_folder)
    push_to_hub.main([str(older_folder), NAME])
    assert {f"{name}.py" for name in HUB_FILES if generates or name != "causal_lm_rnn"} <= set(
        HfApi().list_repo_files(NAME)
    )
    assert pickle.loads(pickle.dumps(model)) is not None  # noqa: S301  # what this test has pickled
