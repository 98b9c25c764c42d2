"""Language models that read texts backwards, and classifiers that start from one language model per direction."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from rnn_hf import RNNForSequenceClassification, RNNModel
from rnn_hf.causal_lm_rnn import RNNForCausalLM
from rnn_hf.commands import train, train_language_model
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.data.word_vectors import read_model_vectors
from tests.conftest import last_line

DEMO = ["--dataset_name", "demo", "--use_cpu"]
MODEL = [*DEMO, "--max_train_samples", "200", "--embedding_size", "8", "--hidden_size", "6", "--num_train_epochs", "1"]
SHARED = ["--reads_backward", "true", "--freeze_embeddings_epochs", "-1"]
BARELY = ["--max_steps", "1", "--learning_rate", "1e-30", "--max_train_samples", "100"]
BARELY += ["--settings_from_data", "false"]

Classify = Callable[..., Path]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train two language models with the same word vectors, of which the second reads backwards."""
    folder = tmp_path_factory.mktemp("models")
    forward, backward = folder / "forward", folder / "backward"
    train_language_model.main([*MODEL, "--output_dir", str(forward)])
    AcceleratorState._reset_state(reset_partial_state=True)
    argv = [*MODEL, *SHARED, "--word_vectors", str(forward), "--output_dir", str(backward)]
    train_language_model.main(argv)
    return forward, backward


@pytest.fixture
def classify(models: tuple[Path, Path], tmp_path: Path) -> Classify:
    """Train a classifier that starts from the two for one step, with a negligible learning rate."""

    def call(*argv: str, forward: Path = models[0], backward: Path = models[1]) -> Path:
        names = ["--model_name_or_path", str(forward), "--backward_model_name_or_path", str(backward)]
        folder = tmp_path / "classifier"
        train.main([*DEMO, *BARELY, *names, *argv, "--output_dir", str(folder)])
        return folder

    return call


def test_each_direction_reads_as_its_language_model_does(models: tuple[Path, Path], classify: Classify) -> None:
    encoder = RNNForSequenceClassification.from_pretrained(classify()).model
    assert encoder.config.bidirectional and not encoder.config.reads_backward
    input_ids = torch.tensor([[9, 4, 30, 5, 17]])
    states = encoder(input_ids).last_hidden_state
    forward, backward = (RNNModel.from_pretrained(folder) for folder in models)
    torch.testing.assert_close(states[..., :6], forward(input_ids).last_hidden_state)
    torch.testing.assert_close(states[..., 6:], backward(input_ids.flip(1)).last_hidden_state.flip(1))
    assert not torch.allclose(states[..., :6], states[..., 6:])


def test_both_share_word_vectors_that_the_second_left_alone(models: tuple[Path, Path]) -> None:
    ours, theirs = (load_file(folder / "model.safetensors")["model.embed_tokens.weight"] for folder in models)
    assert torch.equal(ours[1:], theirs[1:])
    assert ours[1:].std() > 0


def test_settings_of_a_classifier_are_those_that_were_given(classify: Classify) -> None:
    folder = classify("--classifier_pooling", "mean_max", "--embedding_dropout", "0.45", "--seed", "3")
    config = RNNForSequenceClassification.from_pretrained(folder).config
    assert (config.classifier_pooling, config.embedding_dropout) == ("mean_max", 0.45)
    assert list(config.id2label.values()) == ["World", "Sports", "Business", "Sci/Tech"]


def test_generated_texts_are_turned_round(models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = RNNForCausalLM.from_pretrained(models[1]), AutoTokenizer.from_pretrained(models[1])
    written = tokenizer("the cup was of", return_tensors="pt")["input_ids"]
    monkeypatch.setattr(RNNForCausalLM, "generate", lambda *_, **__: written)
    assert train_language_model.generate_texts(model, tokenizer, 1, 0) == [
        " ".join(reversed(tokenizer.decode(written[0]).split()))
    ]


def test_the_card_says_how_it_reads(models: tuple[Path, Path]) -> None:
    forward, backward = ((folder / "README.md").read_text() for folder in models)
    assert "from the last word to the first" in backward
    assert "--model_name_or_path FORWARD --backward_model_name_or_path backward" in backward
    assert "last word" not in forward


def test_what_does_not_fit_is_refused(
    models: tuple[Path, Path], classify: Classify, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forward, backward = models
    other = tmp_path / "other"
    shutil.copytree(backward, other)
    weights = load_file(other / "model.safetensors")
    weights["model.embed_tokens.weight"][7] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    large = tmp_path / "large"
    AcceleratorState._reset_state(reset_partial_state=True)
    train_language_model.main(
        [*MODEL, *BARELY, "--hidden_size", "7", "--reads_backward", "true", "--output_dir", str(large)]
    )
    two = tmp_path / "two"
    AcceleratorState._reset_state(reset_partial_state=True)
    train_language_model.main([*MODEL, *BARELY, "--num_hidden_layers", "2", "--output_dir", str(two)])
    for names, message in (
        (
            {"backward": forward},
            f"{str(forward)!r} reads texts forwards. Train it with `rnn-hf train-language-model --reads_backward`.",
        ),
        (
            {"forward": backward},
            f"{str(backward)!r} reads texts backwards. Pass it as `--backward_model_name_or_path`",
        ),
        ({"backward": other}, f"must have the word vectors of {str(forward)!r}. Train it with `rnn-hf train-"),
        ({"backward": large}, "Both language models must have the same `--hidden_size`, got 6 and 7."),
        ({"forward": two}, "only if they have one layer, got 2"),
    ):
        AcceleratorState._reset_state(reset_partial_state=True)
        with pytest.raises(SystemExit, match="2"):
            classify(**names)
        assert message in last_line(capsys.readouterr().err)
    assert not (tmp_path / "classifier").exists()


def test_a_backward_model_alone_is_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        train.main([*DEMO, "--backward_model_name_or_path", str(models[1]), "--output_dir", str(tmp_path / "run")])


def test_vectors_of_a_model_are_those_of_the_same_words(models: tuple[Path, Path]) -> None:
    vocabulary = train_tokenizer(["the of zebra cup"]).get_vocab()
    vectors = read_model_vectors(models[0], vocabulary)
    theirs = AutoTokenizer.from_pretrained(models[0]).get_vocab()
    table = load_file(models[0] / "model.safetensors")["model.embed_tokens.weight"]
    names = {index: word for word, index in vocabulary.items()}
    assert "zebra" not in {names[index] for index in vectors.ids.tolist()}
    assert {"the", "of", "cup"} <= {names[index] for index in vectors.ids.tolist()}
    for index, vector in zip(vectors.ids.tolist(), vectors.vectors, strict=True):
        assert torch.equal(vector, table[theirs[names[index]]])


def test_a_model_without_any_of_the_words_is_refused(models: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="has none of the 1 words"):
        read_model_vectors(models[0], {"zebra": 0})
