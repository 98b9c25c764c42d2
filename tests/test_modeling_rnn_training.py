"""Losses, dropout, and what Trainer makes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Trainer, TrainingArguments

from rnn_hf.layers_rnn import RNNDropout
from tests.tiny_models import TEXTS, every_cell, logits_alone, make_batch, make_model, torch_layers


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem_type", "expected_loss"),
    [
        (3, torch.tensor([2, 0, 1]), "single_label_classification", F.cross_entropy),
        (3, torch.eye(3), "multi_label_classification", F.binary_cross_entropy_with_logits),
        (1, torch.tensor([0.5, -2.0, 1.0]), "regression", lambda logits, labels: F.mse_loss(logits[:, 0], labels)),
    ],
    ids=["single_label", "multi_label", "regression"],
)
@pytest.mark.parametrize("is_set", [True, False], ids=["problem_type_set", "problem_type_found"])
def test_loss_is_that_of_the_problem_type(
    num_labels: int, labels: Tensor, problem_type: str, expected_loss: Callable[..., Tensor], is_set: bool
) -> None:
    """The first batch with labels writes the problem type into the configuration."""
    model = make_model(num_labels=num_labels, problem_type=problem_type if is_set else None)
    input_ids, attention_mask = make_batch("padded on the right")
    outputs = model(input_ids, attention_mask=attention_mask, labels=labels)
    torch.testing.assert_close(outputs.loss, expected_loss(outputs.logits, labels))
    assert outputs.logits.shape == (3, num_labels)
    assert model.config.problem_type == problem_type


def test_regression_of_several_numbers_has_the_mean_squared_error() -> None:
    model = make_model(problem_type="regression")
    labels = torch.randn(3, 3)
    outputs = model(*make_batch("padded on the right"), labels=labels)
    torch.testing.assert_close(outputs.loss, F.mse_loss(outputs.logits, labels))


@pytest.mark.parametrize("is_embedded", [False, True], ids=["input_ids", "inputs_embeds"])
def test_word_dropout_replaces_a_share_of_the_tokens_in_training_only(is_embedded: bool) -> None:
    model = make_model(word_dropout=0.3)
    input_ids = torch.randint(2, 20, (100, 100))
    words = model.get_input_embeddings()(input_ids)
    inputs = {"inputs_embeds": words} if is_embedded else {"input_ids": input_ids}
    torch.testing.assert_close(model(**inputs, output_hidden_states=True).hidden_states[0], words)
    read = model.train()(**inputs, output_hidden_states=True).hidden_states[0]
    is_replaced = (read != words).any(dim=-1)
    assert 0.28 < is_replaced.float().mean() < 0.32
    unknown_word = model.get_input_embeddings().weight[model.config.unk_token_id]
    torch.testing.assert_close(read[is_replaced], unknown_word.expand(int(is_replaced.sum()), -1))


def test_embedding_dropout_acts_on_word_vectors_in_training_only() -> None:
    model = make_model(embedding_dropout=0.5)
    input_ids = torch.randint(2, 20, (100, 100))
    words = model.get_input_embeddings()(input_ids)
    torch.testing.assert_close(model(input_ids, output_hidden_states=True).hidden_states[0], words)
    read = model.train()(input_ids, output_hidden_states=True).hidden_states[0]
    is_dropped = read == 0
    assert 0.48 < is_dropped.float().mean() < 0.52
    torch.testing.assert_close(read[~is_dropped], 2 * words[~is_dropped])


@pytest.mark.parametrize("probability", [0.3, 0.5, 0.999999])
def test_dropout_sets_its_share_to_zero_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(0)
    dropout = RNNDropout(probability)
    inputs = torch.ones(999, 1001, requires_grad=True)
    outputs = dropout(inputs)
    assert (outputs == 0).float().mean().item() == pytest.approx(probability, abs=2e-3)
    (kept,) = outputs[outputs != 0].unique().tolist()
    assert kept == pytest.approx(1 / (1 - probability), rel=1e-4) or probability > 0.9999
    outputs.sum().backward()
    assert torch.equal(inputs.grad, outputs.detach())  # type: ignore[arg-type]
    # neighbours share a number drawn, but not what becomes of them
    is_zero = (outputs.flatten()[: 4 * 249_000].view(-1, 4) == 0).float()
    if probability < 0.9:
        assert is_zero.T.corrcoef().fill_diagonal_(0).abs().max() < 0.01
    assert torch.equal(dropout.eval()(inputs), inputs)


def test_hidden_dropout_acts_between_layers_in_training_only() -> None:
    model = make_model(hidden_dropout_prob=0.5, num_hidden_layers=2)
    input_ids = torch.tensor([TEXTS[2]])
    expected = model(input_ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(torch_layers(model)(expected[0])[0], expected[2])
    read: list[Tensor] = []
    model.model.layers[1].register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    states = model.train()(input_ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[0], expected[0])
    torch.testing.assert_close(states[1], expected[1])
    is_dropped = read[0] == 0
    assert is_dropped.any()
    torch.testing.assert_close(read[0][~is_dropped], 2 * expected[1][~is_dropped])
    assert states[2].all()


def test_classifier_dropout_acts_on_the_pooled_vector_in_training_only() -> None:
    model = make_model(classifier_dropout=0.5, hidden_size=50)
    read: list[Tensor] = []
    model.classifier.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    model(torch.tensor([TEXTS[2]]))
    model.train()(torch.tensor([TEXTS[2]]))
    pooled, dropped = read
    assert pooled.all()
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    torch.testing.assert_close(dropped[dropped != 0], 2 * pooled[dropped != 0])


@every_cell
def test_gradient_checkpointing_leaves_the_gradients_as_they_are(cell_type: str) -> None:
    gradients = []
    for is_checkpointed in (False, True):
        model = make_model(cell_type=cell_type, num_hidden_layers=2, bidirectional=True).train()
        if is_checkpointed:
            model.activation_checkpointing_enable()
            assert model.is_activation_checkpointing
        model(*make_batch("with holes"), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("num_steps", [1, 2])
def test_trainer_reports_the_mean_loss_of_the_texts(num_steps: int, tmp_path: Path) -> None:
    """Not multiplied by the number of batches whose gradients are accumulated."""
    model = make_model()
    dataset = [{"input_ids": [3, 4, 5, 6 + label], "labels": label} for label in (0, 1, 2, 1)]
    expected = model(
        torch.tensor([row["input_ids"] for row in dataset]), labels=torch.tensor([row["labels"] for row in dataset])
    ).loss
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        learning_rate=0.0,
        per_device_train_batch_size=4 // num_steps,
        gradient_accumulation_steps=num_steps,
        max_steps=1,
        save_strategy="no",
        disable_tqdm=True,
    )
    result = Trainer(model=model, args=arguments, train_dataset=cast(Any, dataset)).train()
    assert result.training_loss == pytest.approx(expected.item(), abs=1e-5)


def test_trainer_predicts_the_logits(tmp_path: Path) -> None:
    """Batches of different lengths and a short last batch are joined row by row."""
    model = make_model(num_hidden_layers=2, bidirectional=True)
    dataset = [{"input_ids": text, "attention_mask": [1] * len(text), "labels": 1} for text in TEXTS]

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        padded = {
            name: torch.tensor([row[name] + [0] * (width - len(row[name])) for row in rows])
            for name in ("input_ids", "attention_mask")
        }
        return {**padded, "labels": torch.tensor([row["labels"] for row in rows])}

    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, per_device_eval_batch_size=2, disable_tqdm=True
    )
    trainer = Trainer(model=model, args=arguments, data_collator=collate)
    predictions = trainer.predict(cast(Any, dataset))
    torch.testing.assert_close(torch.from_numpy(predictions.predictions), logits_alone(model).detach())
