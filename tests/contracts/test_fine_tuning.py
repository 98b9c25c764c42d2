"""Tests of what users do to go on training a saved model: other labels, new words, frozen parts, adapters."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AddedToken, PreTrainedTokenizerFast, Trainer, TrainingArguments

from rnn_hf import RNNForSequenceClassification, RNNForTokenClassification, TextClassifier
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.tiny_models import every_cell, make_batch, make_model

OLD_TEXTS = ["the cat sat", "a dog", "an unknown word"]
ROWS = [{"input_ids": [3, 4, 5, 6 + label], "labels": label} for label in (0, 1, 2, 1)]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["the cat sat on a mat . a dog and all day long !"], max_length=9)


def train(model: nn.Module, folder: Path) -> None:
    """A few steps of transformers' own Trainer, large enough to move every weight that may move."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        learning_rate=0.1,
        per_device_train_batch_size=4,
        max_steps=3,
        save_strategy="no",
        disable_tqdm=True,
    )
    Trainer(model=model, args=arguments, train_dataset=cast(Any, ROWS)).train()


@pytest.mark.parametrize("model_class", [RNNForSequenceClassification, RNNForTokenClassification])
def test_another_number_of_labels_gets_a_new_classifier_and_keeps_the_rest(model_class: Any, tmp_path: Path) -> None:
    model = make_model(model_class, bidirectional=True)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        model_class.from_pretrained(tmp_path, num_labels=7)
    loaded = model_class.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True)
    assert loaded.config.num_labels == loaded.num_labels == 7
    assert loaded.classifier.weight.shape == (7, 8)
    assert 0 < loaded.classifier.weight.abs().max() <= 8**-0.5  # drawn, not left as memory was
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert loaded(*make_batch("with holes")).logits.shape[-1] == 7


@every_cell
def test_new_words_leave_old_vectors_and_answers_as_they_are(
    cell_type: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = make_model(cell_type=cell_type, vocab_size=len(tokenizer), bidirectional=True)
    old_vectors = model.get_input_embeddings().weight.detach().clone()
    before = TextClassifier(model, tokenizer)
    old_answers, unknown = before.predict_proba(OLD_TEXTS), before.predict_proba("a zebra sat")

    assert tokenizer.add_tokens([AddedToken("zebra", single_word=True), AddedToken("okapi", single_word=True)]) == 2
    model.resize_token_embeddings(len(tokenizer))
    assert model.config.vocab_size == len(tokenizer) == len(old_vectors) + 2
    assert torch.equal(model.get_input_embeddings().weight[:-2], old_vectors)

    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for classifier in (TextClassifier(model, tokenizer), TextClassifier.from_pretrained(tmp_path)):
        assert np.array_equal(classifier.predict_proba(OLD_TEXTS), old_answers)
        assert not np.allclose(classifier.predict_proba("A Zebra sat"), unknown)
        assert classifier.max_length == 9


def test_padding_stays_out_of_the_gradients_after_resizing() -> None:
    model = make_model().train()
    model.resize_token_embeddings(25)
    input_ids = torch.tensor([[7, 8, 0], [24, 9, 3]])
    model(input_ids, attention_mask=input_ids != 0, labels=torch.tensor([0, 1])).loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    assert not gradient[0].any()
    assert gradient[24].any()


@every_cell
def test_frozen_word_vectors_stay_bit_for_bit_while_the_rest_is_trained(cell_type: str, tmp_path: Path) -> None:
    model = make_model(cell_type=cell_type, bidirectional=True)
    model.get_input_embeddings().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, tmp_path)
    assert not model.get_input_embeddings().weight.requires_grad
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == ("embed_tokens" in name), name


@every_cell
def test_frozen_encoder_leaves_only_the_classifier_to_train(cell_type: str, tmp_path: Path) -> None:
    model = make_model(cell_type=cell_type)
    model.base_model.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("model."), name


@pytest.mark.parametrize("task_type", [None, "SEQ_CLS"], ids=["plain", "sequence_classification"])
@every_cell
def test_adapters_on_word_vectors_and_classifier_are_trained_saved_and_merged(
    cell_type: str, task_type: str | None, tmp_path: Path
) -> None:
    """LoRA of PEFT; with its task type, the whole classifier is trained beside the adapters."""
    peft = pytest.importorskip("peft")

    def logits(model: nn.Module) -> Tensor:
        with torch.no_grad():
            answer: Tensor = model.eval()(*make_batch("with holes")).logits
        return answer

    model = make_model(cell_type=cell_type, bidirectional=True)
    untrained, before = logits(model), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "base")
    targets = ["embed_tokens"] if task_type else ["embed_tokens", "classifier"]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets, task_type=task_type))
    torch.testing.assert_close(logits(adapted), untrained)
    train(adapted, tmp_path / "run")
    trained = logits(adapted)
    assert (trained - untrained).abs().max() > 0.01
    weights = {
        name.replace(".base_layer", "").replace(".original_module", ""): tensor
        for name, tensor in adapted.base_model.model.state_dict().items()
    }
    for name, tensor in before.items():
        assert torch.equal(weights[name], tensor), name

    adapted.save_pretrained(tmp_path / "adapter")
    assert not list((tmp_path / "adapter").glob("*.bin"))
    base = RNNForSequenceClassification.from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded), trained)
    merged = loaded.merge_and_unload()
    assert type(merged) is RNNForSequenceClassification
    torch.testing.assert_close(logits(merged), trained)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_adapters_on_all_linear_layers_find_none_in_a_classifier(pooling: str) -> None:
    """It has no linear layer but those that PEFT trains whole, which PEFT says: no error from within."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")
    with pytest.raises(ValueError, match="target"):
        peft.get_peft_model(make_model(classifier_pooling=pooling), config)
