"""transformers' `Trainer`, unmodified, trains the models of this family as it trains any other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(load_text_dataset("demo")["train"]["text"][:400])


@pytest.fixture(scope="module")
def rows(tokenizer: PreTrainedTokenizerFast) -> Any:
    return encode_dataset(load_text_dataset("demo"), tokenizer, 64)


def make_model(
    tokenizer: PreTrainedTokenizerFast, dropout: float = 0.0, **settings: Any
) -> RNNForSequenceClassification:
    torch.manual_seed(0)
    return RNNForSequenceClassification(
        RNNConfig(
            vocab_size=len(tokenizer),
            num_labels=4,
            embedding_size=16,
            hidden_size=8,
            embedding_dropout=dropout,
            classifier_dropout=dropout,
            word_dropout=dropout,
            **settings,
        )
    )


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def make_trainer(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    rows: Any,
    num_rows: int = 256,
    model: RNNForSequenceClassification | None = None,
    callbacks: list[TrainerCallback] | None = None,
    model_init: Any = None,
    compute_metrics: Any = accuracy,
    **settings: Any,
) -> Trainer:
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 32,
        "num_train_epochs": 1,
        "learning_rate": 0.01,
        "save_strategy": "no",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }
    return Trainer(
        model=None if model_init else model or make_model(tokenizer),
        args=TrainingArguments(output_dir=str(folder), **defaults | settings),
        train_dataset=rows["train"].select(range(num_rows)),
        eval_dataset=rows["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
        callbacks=callbacks,
        model_init=model_init,
    )


def test_it_learns_and_measures(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, rows: Any) -> None:
    trainer = make_trainer(tmp_path, tokenizer, rows, num_rows=2000, num_train_epochs=3, eval_strategy="epoch")
    trainer.train()
    accuracies = [entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry]
    assert len(accuracies) == 3
    assert accuracies[-1] > 0.7 and accuracies[-1] == trainer.evaluate()["eval_accuracy"]


class Declared:
    """Declares what each evaluation found, and keeps the weights it found it with."""

    def __init__(self, *accuracies: float) -> None:
        self.accuracies = list(accuracies)
        self.logits: list[np.ndarray] = []

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        self.logits.append(prediction.predictions)
        return {"accuracy": self.accuracies[len(self.logits) - 1]}


def test_the_best_model_is_loaded_at_the_end(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, rows: Any) -> None:
    declared = Declared(0.3, 0.9, 0.5, 0.0)
    trainer = make_trainer(
        tmp_path, tokenizer, rows, compute_metrics=declared, num_train_epochs=3, eval_strategy="epoch",
        save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="accuracy",
    )  # fmt: skip
    trainer.train()
    logits = trainer.predict(rows["validation"]).predictions
    np.testing.assert_array_equal(logits, declared.logits[1])
    assert not np.array_equal(logits, declared.logits[2])


def test_training_stops_where_nothing_is_gained(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, rows: Any) -> None:
    trainer = make_trainer(
        tmp_path, tokenizer, rows, compute_metrics=Declared(0.5, 0.4, 0.4, 0.4), num_train_epochs=9,
        eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, metric_for_best_model="accuracy",
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
    )  # fmt: skip
    trainer.train()
    assert trainer.state.epoch == 3


class Gradients(TrainerCallback):
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.first: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if not self.first:
            self.first = {name: weight.grad.clone() for name, weight in model.named_parameters()}


def test_accumulated_gradients_and_loss_are_those_of_one_large_batch(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, rows: Any
) -> None:
    gradients, losses = [], []
    for batch_size, steps in ((32, 1), (8, 4)):
        kept = Gradients()
        trainer = make_trainer(
            tmp_path, tokenizer, rows, per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps,
            max_steps=1, logging_steps=1, callbacks=[kept],
        )  # fmt: skip
        trainer.train()
        gradients.append(kept.first)
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    # reported losses are rounded to four digits
    assert losses[0] == pytest.approx(losses[1], abs=2e-4) and losses[0][0] == pytest.approx(np.log(4), abs=0.2)


@pytest.mark.parametrize("has_length_column", [True, False])
def test_batches_are_of_like_lengths_without_a_warning(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    rows: Any,
    has_length_column: bool,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    if not has_length_column:
        rows = {split: dataset.remove_columns(["length", "row"]) for split, dataset in rows.items()}
    padding = {}
    for strategy in ("random", "group_by_length"):
        trainer = make_trainer(tmp_path, tokenizer, rows, num_rows=2000, train_sampling_strategy=strategy)
        masks = [batch["attention_mask"].float() for batch in trainer.get_train_dataloader()]
        padding[strategy] = sum(float((1 - mask).sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    assert padding["group_by_length"] < padding["random"] / 2
    trainer.train()
    assert not caplog.records and not recwarn.list


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, rows: Any
) -> None:
    settings: dict[str, Any] = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 5}
    whole = make_trainer(tmp_path / "a", tokenizer, rows, model=make_model(tokenizer, dropout=0.3), **settings)
    whole.train()
    resumed = make_trainer(tmp_path / "b", tokenizer, rows, model=make_model(tokenizer, dropout=0.3), **settings)
    # the second of three checkpoints, inside the second epoch
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-10"))
    assert resumed.state.global_step == whole.state.global_step == 16
    expected, got = whole.model.state_dict(), resumed.model.state_dict()
    for name, weight in expected.items():
        assert torch.equal(weight, got[name]), name


def test_trials_of_a_search_start_from_new_weights(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, rows: Any
) -> None:
    def create(trial: Any = None) -> RNNForSequenceClassification:
        return make_model(tokenizer, cell_type="gru")

    losses = []
    for learning_rate in (1e-12, 0.01):
        trainer = make_trainer(tmp_path, tokenizer, rows, model_init=create, learning_rate=learning_rate)
        trainer.train()
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(np.log(4), abs=0.2) and losses[1] < losses[0]


def test_a_search_by_optuna_finds_the_better_of_two_rates(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, rows: Any
) -> None:
    optuna = pytest.importorskip("optuna", reason="it is no dependency of this package")
    trainer = make_trainer(
        tmp_path, tokenizer, rows, model_init=lambda trial: make_model(tokenizer), eval_strategy="epoch"
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", [1e-12, 0.01])},
        compute_objective=lambda metrics: metrics["eval_loss"],
        direction="minimize",
        n_trials=2,
        sampler=optuna.samplers.GridSampler({"learning_rate": [1e-12, 0.01]}),
    )
    assert best.hyperparameters == {"learning_rate": 0.01}


# its name, too, says which loss it has
class FinalRNNForSequenceClassification(RNNForSequenceClassification):
    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None) -> Any:
        outputs = super().forward(input_ids, attention_mask, labels=labels)
        encoded = self.model(input_ids, attention_mask)
        outputs["final_hidden_state"] = encoded.final_hidden_state
        outputs["final_cell_state"] = encoded.final_cell_state
        return outputs


@pytest.mark.parametrize("model_type", [RNNForSequenceClassification, FinalRNNForSequenceClassification])
def test_predictions_are_logits_alone(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    rows: Any,
    model_type: type[RNNForSequenceClassification],
) -> None:
    model = model_type(make_model(tokenizer).config)
    trainer = make_trainer(tmp_path, tokenizer, rows, model=model)
    prediction = trainer.predict(rows["test"])
    assert isinstance(prediction.predictions, np.ndarray) and prediction.predictions.shape == (1000, 4)
    assert prediction.label_ids.tolist() == rows["test"]["labels"][:]


@pytest.mark.parametrize(
    ("problem_type", "label", "shape"),
    [("multi_label_classification", [1.0, 0.0, 0.0, 1.0], (200, 4)), ("regression", 0.5, (200, 1))],
)
def test_other_problems_train_and_predict(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    rows: Any,
    problem_type: str,
    label: Any,
    shape: tuple[int, int],
) -> None:
    def labelled(dataset: Dataset) -> Dataset:
        return dataset.remove_columns("labels").add_column("labels", [label] * len(dataset))

    others = {split: labelled(rows[split]) for split in ("train", "validation")}
    model = make_model(tokenizer, problem_type=problem_type)
    if problem_type == "regression":
        model = RNNForSequenceClassification(RNNConfig(vocab_size=len(tokenizer), num_labels=1))
    trainer = make_trainer(
        tmp_path, tokenizer, others, model=model, compute_metrics=None, gradient_accumulation_steps=2,
        num_train_epochs=4, learning_rate=0.05,
    )  # fmt: skip
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 2
    assert trainer.predict(others["validation"]).predictions.shape == shape
    assert trainer.model.config.problem_type == problem_type


@pytest.mark.parametrize("cell_type", ["rnn", "lstm", "gru"])
def test_it_trains_in_bfloat16_on_a_cpu(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, rows: Any, cell_type: str
) -> None:
    model = make_model(tokenizer, cell_type=cell_type)
    trainer = make_trainer(tmp_path, tokenizer, rows, model=model, bf16=True, num_train_epochs=3)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
