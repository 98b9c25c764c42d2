"""Saved models and the files beside them: loaded models compute the same, in a fresh process, too."""

import ast
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers.dynamic_module_utils import get_relative_imports

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNModel
from rnn_hf.configuration_rnn import CellType
from rnn_hf.reporting import results
from rnn_hf.safe_loading import HEADS
from tests.conftest import in_new_process
from tests.tiny_models import HUB_FILES, PACKAGE, TINY, make_batch, make_model

Train = Callable[..., tuple[dict[str, Any], Path]]

TINY_CHECKPOINT = Path(__file__).parents[1] / "fixtures" / "tiny_checkpoint"


@torch.no_grad()
def save_outputs(model: RNNForSequenceClassification, batch: dict[str, Tensor], file: Path) -> None:
    """Write a batch with the logits and the states that a loaded model must give."""
    states = model.model(**batch).last_hidden_state
    save_file({**batch, "logits": model(**batch).logits, "last_hidden_state": states}, file)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a saved classifier of each cell, and what it must give."""
    folder = tmp_path_factory.mktemp("checkpoints")
    batch = dict(zip(("input_ids", "attention_mask"), make_batch("with holes"), strict=True))
    for cell_type in get_args(CellType):
        model = make_model(
            cell_type=cell_type, bidirectional=True, num_hidden_layers=2, classifier_pooling="attention"
        )
        model.save_pretrained(folder / cell_type)
        save_outputs(model, batch, folder / f"{cell_type}.safetensors")
    return folder


def check(folder: Path) -> None:
    """Check that the models in a folder give what they gave before they were saved."""
    for file in sorted(folder.glob("*.safetensors")):
        tensors = load_file(file)
        batch = {name: tensors[name] for name in ("input_ids", "attention_mask")}
        classifier = AutoModelForSequenceClassification.from_pretrained(folder / file.stem)
        encoder = AutoModel.from_pretrained(folder / file.stem)
        assert type(classifier) is RNNForSequenceClassification
        assert type(encoder) is RNNModel
        assert not classifier.training and not encoder.training
        with torch.no_grad():
            assert torch.equal(classifier(**batch).logits, tensors["logits"])
            assert torch.equal(encoder(**batch).last_hidden_state, tensors["last_hidden_state"])


def test_loaded_models_compute_the_same_bit_for_bit(checkpoints: Path) -> None:
    assert len(list(checkpoints.glob("*.safetensors"))) == len(get_args(CellType))
    check(checkpoints)


FRESH = f"""
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification
from rnn_hf import RNNForSequenceClassification, RNNModel

{inspect.getsource(check)}

for folder in map(Path, sys.argv[1:]):
    check(folder)
"""


def test_a_fresh_process_computes_the_same(
    checkpoints: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the models did before they were saved, and as a model did that was trained."""
    trained: list[RNNForSequenceClassification] = []
    write_results = results.write_results
    monkeypatch.setattr(
        results, "write_results", lambda model, *rest: [trained.append(model), write_results(model, *rest)]
    )
    _, folder = train("run")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["A minister met voters.", "", "The club won!"], padding=True, return_tensors="pt")
    save_outputs(trained[0].eval(), dict(batch), tmp_path / "run.safetensors")
    done = in_new_process(FRESH, str(checkpoints), str(tmp_path))
    assert done.returncode == 0, done.stderr


@torch.no_grad()
def test_checkpoint_of_the_first_version_gives_the_logits_it_gave_then() -> None:
    """Names of weights, defaults of fields and the arithmetic stay as checkpoints rely on them.

    Made in the root folder, after which the copied `*.py` files were deleted, by:

        import json, torch
        from tests.contracts.test_saved_models import TINY_CHECKPOINT
        from tests.tiny_models import make_batch, make_model
        model = make_model(
            vocab_size=50, embedding_size=8, hidden_size=8, num_hidden_layers=2, bidirectional=True,
            classifier_pooling="attention", concat_embedding_mean=True,
        )
        model.save_pretrained(TINY_CHECKPOINT)
        input_ids, attention_mask = make_batch("with holes")
        expected = {"input_ids": input_ids, "attention_mask": attention_mask}
        expected["logits"] = model(**expected).logits
        text = json.dumps({name: tensor.tolist() for name, tensor in expected.items()})
        (TINY_CHECKPOINT / "expected_logits.json").write_text(text + "\\n")
    """
    expected = json.loads((TINY_CHECKPOINT / "expected_logits.json").read_text())
    model = AutoModelForSequenceClassification.from_pretrained(TINY_CHECKPOINT)
    outputs = model(torch.tensor(expected["input_ids"]), attention_mask=torch.tensor(expected["attention_mask"]))
    torch.testing.assert_close(outputs.logits, torch.tensor(expected["logits"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("model_class", HEADS)
def test_saved_folder_holds_all_that_the_auto_classes_need(model_class: type[PreTrainedModel], tmp_path: Path) -> None:
    """Weights as safetensors, never a pickle; the code that `trust_remote_code` runs, for generation where it is."""
    config = RNNConfig(**TINY)
    # as left by a model of the other kind
    config.auto_map = {"AutoModelForCausalLM": "causal_lm_rnn.RNNForCausalLM", "AutoModelForOther": "other.Other"}
    model_class(config).save_pretrained(tmp_path)
    generates = model_class.can_generate()
    code = {f"{name}.py" for name in HUB_FILES if generates or name != "causal_lm_rnn"}
    others = {"config.json", "model.safetensors"} | ({"generation_config.json"} if generates else set())
    assert {path.name for path in tmp_path.iterdir()} == code | others
    for name in code:
        assert (tmp_path / name).read_text() == (PACKAGE / name).read_text()
    file = "causal_lm_rnn" if generates else "modeling_rnn"
    expected = {
        "AutoConfig": "configuration_rnn.RNNConfig",
        "AutoModel": f"{file}.RNNModel",
        "AutoModelForSequenceClassification": f"{file}.RNNForSequenceClassification",
        "AutoModelForTokenClassification": f"{file}.RNNForTokenClassification",
    } | ({"AutoModelForCausalLM": "causal_lm_rnn.RNNForCausalLM"} if generates else {})
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == expected


def test_files_that_travel_with_a_checkpoint_are_all_known_and_can_be_read_at_a_sitting() -> None:
    lengths = {path.stem: len(path.read_text().splitlines()) for path in PACKAGE.glob("*_rnn.py")}
    assert lengths.keys() == set(HUB_FILES)
    assert max(lengths.values()) <= 450, lengths


@pytest.mark.parametrize("file", HUB_FILES)
def test_file_that_travels_with_a_checkpoint_imports_nothing_but_files_before_it(file: str) -> None:
    """Only torch, transformers, huggingface_hub and the standard library; the others by name, without a cycle.

    transformers finds the files to copy by a regular expression, which must find neither less nor more.
    """
    absolute, relative = set(), []
    for node in ast.walk(ast.parse((PACKAGE / f"{file}.py").read_text())):
        if isinstance(node, ast.Import):
            absolute.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1
            relative.append(str(node.module))
        elif isinstance(node, ast.ImportFrom):
            absolute.add(str(node.module).partition(".")[0])
    assert absolute - set(sys.stdlib_module_names) <= {"torch", "transformers", "huggingface_hub"}
    before = set(HUB_FILES[: HUB_FILES.index(file)])
    assert set(relative) <= before
    if file in ("modeling_rnn", "causal_lm_rnn"):
        # older versions of transformers copy from a folder only what the file in `auto_map` itself imports
        assert set(relative) == before
    assert sorted(relative) == sorted(get_relative_imports(PACKAGE / f"{file}.py"))
