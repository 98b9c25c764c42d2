import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from transformers import AutoTokenizer, pipeline

from rnn_hf.causal_lm_rnn import RNNForCausalLM
from rnn_hf.commands import train
from rnn_hf.commands import train_language_model as script
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.hub import files_to_push
from rnn_hf.reporting.model_card import render_model_card
from rnn_hf.reporting.run_facts import read_run_facts
from rnn_hf.training import splits
from rnn_hf.training.classifier import ClassifierRun
from rnn_hf.training.language_model import LanguageModelRun
from scripts.research import render_model_cards

ROOT = Path(__file__).parents[2]
TINY_RUN = [
    "--dataset_name", "demo", "--max_train_samples", "200", "--embedding_size", "8", "--hidden_size", "6",
    "--num_train_epochs", "1", "--per_device_train_batch_size", "8", "--bptt", "11", "--adaptive_softmax_cutoffs",
    "30", "90", "--use_cpu",
]  # fmt: skip

PROMISED_FILES = {
    "README.md", "all_results.json", "causal_lm_rnn.py", "config.json", "configuration_rnn.py", "figures",
    "generation_config.json", "layers_rnn.py", "model.safetensors", "modeling_rnn.py", "ngrams_rnn.py",
    "outputs_rnn.py", "pooling_rnn.py", "recipe.yaml",
    "recurrences_rnn.py", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip
PROMISED_RESULTS = {
    "validation_perplexity", "validation_loss", "train_loss", "epoch", "step", "best_step", "train_runtime",
    "train_tokens_per_second", "num_train_examples", "num_train_tokens", "num_validation_tokens", "num_processes",
    "seed", "generated_texts", "num_parameters", "model_bytes", "torch_version", "transformers_version",
}  # fmt: skip

Run = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the script on a few demo rows; `run("name", "--flag", "value")` returns results and folder."""

    def call(name: str, *argv: str) -> tuple[dict[str, Any], Path]:
        AcceleratorState._reset_state(reset_partial_state=True)
        folder = tmp_path / name
        return script.main([*TINY_RUN, "--output_dir", str(folder), *argv]), folder

    return call


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def validation_texts(seed: int = 42) -> list[str]:
    """The texts that `rnn-hf train` holds out for validation with the same seed."""
    return list(load_text_dataset("demo", seed=seed)["validation"]["text"])


def test_a_run_writes_what_is_promised(run: Run) -> None:
    results, folder = run("run")
    assert {path.name for path in folder.iterdir()} == PROMISED_FILES
    assert json.loads((folder / "all_results.json").read_text()) == results
    assert results.keys() >= PROMISED_RESULTS
    assert (results["num_train_examples"], results["num_test_examples"], results["epoch"]) == (200, 0, 1)
    assert len(results["generated_texts"]) == 3
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["eos_token_id"]) == (["RNNForCausalLM"], 2)
    assert pipeline("text-generation", model=str(folder))("the club", max_new_tokens=3)
    card = (folder / "README.md").read_text()
    assert card == str(render_model_card(read_run_facts(folder, **render_model_cards.described(folder))))
    assert f"Perplexity {results['validation_perplexity']:.4g} on the validation split" in card
    for name in PROMISED_FILES - {"figures"}:
        assert name in files_to_push(folder)


def test_validation_perplexity_is_that_of_reading_the_held_out_texts_one_after_the_other(run: Run) -> None:
    """Counted here token by token, with the state carried from text to text."""
    results, folder = run("run", "--per_device_eval_batch_size", "1")
    model, tokenizer = RNNForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens = [2] + [token for text in validation_texts() for token in [*tokenizer(text).input_ids, 2]]
    ids = torch.tensor([tokens])
    with torch.no_grad():
        losses = F.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none")
    assert len(losses) == results["num_validation_tokens"]
    assert results["validation_perplexity"] == pytest.approx(losses.mean().exp().item(), rel=1e-4)


def test_neither_test_rows_nor_validation_rows_are_trained_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows held out are those that the classifier holds out."""
    encoded: list[Any] = []
    encode = splits.encode_dataset
    monkeypatch.setattr(
        splits, "encode_dataset", lambda texts, *rest: (encoded.append(texts), encode(texts, *rest))[1]
    )
    run("run", "--max_steps", "1", "--max_train_samples", "100000", "--seed", "7")
    assert set(encoded[0]) == {"train", "validation"}
    assert list(encoded[0]["validation"]["text"]) == validation_texts(seed=7)
    held_out = {*validation_texts(seed=7), *load_demo_news()["test"]["text"]}
    assert not held_out & set(encoded[0]["train"]["text"])


def test_a_model_learns_more_than_how_often_words_come(run: Run) -> None:
    results, folder = run(
        "run", "--max_train_samples", "800", "--num_train_epochs", "3", "--hidden_size", "32",
        "--embedding_size", "32", "--learning_rate", "0.02", "--per_device_train_batch_size", "16",
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = torch.tensor([token for text in validation_texts() for token in [*tokenizer(text).input_ids, 2]])
    shares = tokens.bincount()[tokens] / len(tokens)
    assert results["validation_perplexity"] < 0.5 * shares.log().neg().mean().exp()
    assert all(len(text.split()) > 3 for text in results["generated_texts"])


def test_the_same_seed_and_the_written_recipe_give_the_same_weights(run: Run) -> None:
    _, first = run("first")
    _, other_seed = run("other", "--seed", "1")
    again = first.parent / "again"
    script.main([str(first / "recipe.yaml"), "--output_dir", str(again)])
    assert weights(first) == weights(again)
    assert weights(first) != weights(other_seed)


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_a_resumed_run_ends_like_an_undisturbed_one(run: Run, monkeypatch: pytest.MonkeyPatch, cell_type: str) -> None:
    """Interrupted in the middle of the second epoch: the state of the streams continues, too."""
    settings = ["--num_train_epochs", "3", "--save_strategy", "steps", "--save_steps", "7", "--cell_type", cell_type]
    undisturbed, whole = run("whole", *settings)
    steps_per_epoch = undisturbed["step"] // 3

    save = LanguageModelRun.save

    def save_and_break_off(self: LanguageModelRun) -> None:
        save(self)
        if self.state.step > 1.4 * steps_per_epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelRun, "save", save_and_break_off)
        with pytest.raises(SystemExit, match="130"):
            run("broken", *settings)
    resumed, folder = run("broken", *settings, "--resume_from_checkpoint", "latest")
    assert weights(folder) == weights(whole)
    for name in ("log", "epoch", "step", "best_step", "train_loss", "generated_texts"):
        assert resumed[name] == undisturbed[name], name


def test_the_best_weights_are_kept_and_training_stops_where_nothing_is_gained(run: Run) -> None:
    results, folder = run(
        "run", "--num_train_epochs", "9", "--learning_rate", "1e-12", "--early_stopping_patience", "2"
    )
    assert results["epoch"] == 3
    assert results["best_step"] == results["step"] // 3
    losses = [entry["validation_loss"] for entry in results["log"] if "validation_loss" in entry]
    assert results["validation_loss"] == min(losses) == losses[0]
    assert folder.exists()


def test_training_goes_on_from_a_language_model(run: Run, tmp_path: Path) -> None:
    _, first = run("first")
    folder = tmp_path / "second"
    script.main(
        ["--dataset_name", "demo", "--max_train_samples", "50", "--model_name_or_path", str(first), "--use_cpu",
         "--max_steps", "1", "--learning_rate", "1e-30", "--output_dir", str(folder)]
    )  # fmt: skip
    assert weights(folder) == weights(first)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert (recipe["hidden_size"], recipe["adaptive_softmax_cutoffs"]) == (6, [30, 90])


def test_words_may_begin_with_pretrained_vectors(run: Run, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the " + " ".join(["0.25"] * 8) + "\n")
    _, folder = run("run", "--word_vectors", str(vectors), "--max_steps", "1", "--learning_rate", "1e-30")
    row = AutoTokenizer.from_pretrained(folder).get_vocab()["the"]
    model = RNNForCausalLM.from_pretrained(folder)
    assert torch.equal(model.lm_head.weight[row], torch.full((8,), 0.25))


def test_a_classifier_begins_with_the_encoder_and_the_words_of_a_language_model(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, first = run("first")
    folder = tmp_path / "classifier"
    train.main(
        ["--dataset_name", "demo", "--max_train_samples", "100", "--model_name_or_path", str(first), "--use_cpu",
         "--max_steps", "1", "--learning_rate", "1e-30", "--classifier_pooling", "mean_max",
         "--settings_from_data", "false", "--output_dir", str(folder)]
    )  # fmt: skip
    assert f"{first} is a language model: its encoder gets a new classifier." in capsys.readouterr().out
    before, after = (load_file(path / "model.safetensors") for path in (first, folder))
    for name in before.keys() - after.keys():
        assert name.startswith(("lm_head.", "clusters.", "projection.")), name
    for name in before.keys() & after.keys():
        torch.testing.assert_close(after[name], before[name])
    assert after["classifier.weight"].shape == (4, 12)
    assert (folder / "tokenizer.json").read_text() == (first / "tokenizer.json").read_text()


def test_gradual_unfreezing_reaches_the_encoder_after_the_first_epoch_and_can_be_resumed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is interrupted after the epoch that trained the classifier alone."""
    _, first = run("first")
    argv = [
        "--dataset_name", "demo", "--max_train_samples", "100", "--model_name_or_path", str(first), "--use_cpu",
        "--num_train_epochs", "2", "--gradual_unfreezing", "true", "--layer_learning_rate_decay", "0.38",
        "--save_strategy", "epoch", "--eval_strategy", "no", "--output_dir",
    ]  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train.main([*argv, str(whole)])
    after_one, after_two = (
        load_file(path / "model.safetensors") for path in sorted((whole / "checkpoints").iterdir())
    )
    before = load_file(first / "model.safetensors")
    for name in ("model.embed_tokens.weight", "model.layers.0.recurrent.weight_hh_l0"):
        assert torch.equal(after_one[name], before[name])
    assert torch.equal(after_two["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(
        after_two["model.layers.0.recurrent.weight_hh_l0"], before["model.layers.0.recurrent.weight_hh_l0"]
    )
    assert not torch.equal(after_one["classifier.weight"], after_two["classifier.weight"])

    save = ClassifierRun.save

    def save_and_break_off(self: ClassifierRun) -> None:
        save(self)
        raise KeyboardInterrupt

    AcceleratorState._reset_state(reset_partial_state=True)
    with monkeypatch.context() as patch:
        patch.setattr(ClassifierRun, "save", save_and_break_off)
        with pytest.raises(SystemExit, match="130"):
            train.main([*argv, str(broken)])
    AcceleratorState._reset_state(reset_partial_state=True)
    train.main([*argv, str(broken), "--resume_from_checkpoint", "latest"])
    assert weights(broken) == weights(whole)


def test_a_tokenizer_without_an_end_of_text_token_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tokenizer(["some words"]).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(SystemExit, match="2"):
        run("run", "--tokenizer_name_or_path", str(tmp_path / "tokenizer"))
    assert "has no end-of-text token" in capsys.readouterr().err
