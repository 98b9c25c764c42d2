"""Train a recurrent text classifier on one device, several processes, or several machines.

    python scripts/train.py [RECIPE.yaml] --output_dir runs/ag-news [--flag value ...]
    torchrun --nproc_per_node 2 scripts/train.py ... --use_cpu

A recipe is a YAML file of the same flags; the command line wins over it. `--help` lists them all.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from rnn_hf.commands.parser import ScriptParser, exit_statuses, user_errors
from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.batching import padding_share
from rnn_hf.data.streaming import StreamedRows
from rnn_hf.reporting.results import finish, round_weights, size_and_versions
from rnn_hf.training.arguments import DataArguments, ModelArguments, TrainArguments
from rnn_hf.training.calibration import effect_of_temperature, fit_temperature, fold_temperature
from rnn_hf.training.loop import Run
from rnn_hf.training.metrics import MAIN_METRICS, compute_metrics, num_correct, predict_split
from rnn_hf.training.optimization import create_optimizer, create_schedule, num_training_steps
from rnn_hf.training.preparation import Prepared, begin, create_loaders, prepare, training_loss

# From logits and the batch they answer to the mean loss
BatchLoss = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]


@dataclass(kw_only=True)
class ClassifierRun(Run):
    """A classifier in training."""

    label_names: list[str]
    problem_type: ProblemType
    loss: BatchLoss
    temperature: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.main_metric = MAIN_METRICS[self.problem_type]
        self.test_logits: np.ndarray | None = None
        # logits and labels since the last look at them; looking waits for the device
        self.unread: list[tuple[torch.Tensor, torch.Tensor]] = []

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of one batch of training, and note what `read_counts` will count."""
        logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        loss = self.loss(logits, batch)
        self.note_loss(loss, len(logits))
        self.unread.append((logits.detach(), batch["labels"]))
        return loss

    def read_counts(self) -> None:
        """Add what was counted on all devices to the state, and show it."""
        state = self.state
        self.read_losses()
        if self.unread:
            logits, labels = zip(*self.unread, strict=True)
            self.unread.clear()
            correct = num_correct(torch.cat(logits), torch.cat(labels), self.problem_type)
            state.correct += round(self.accelerator.reduce(correct, reduction="sum").item())
        if state.seen:
            self.progress.set_postfix_str(
                f"loss {state.loss_sum / state.seen:.3f}, {self.running_accuracy(', ')}"
                f"{state.num_texts / max(state.train_runtime, 1e-9):,.0f} texts/s",
                refresh=False,
            )

    def running_accuracy(self, end: str = "") -> str:
        """Return the accuracy of the epoch so far in words; a regression has none."""
        return "" if self.problem_type == "regression" else f"accuracy {self.state.correct / self.state.seen:.3f}{end}"

    def log_running_figures(self) -> None:
        """Write a line with the loss and the accuracy of the epoch so far, as the lesson does."""
        self.read_counts()
        state, num_batches = self.state, self.sampler.num_batches
        of_all = "" if num_batches is None else f"/{num_batches}"
        loss, accuracy = state.loss_sum / state.seen, state.correct / state.seen
        self.record({"loss": loss, "train_accuracy": accuracy, "learning_rate": float(self.schedule.get_last_lr()[0])})
        self.progress.write(
            f"epoch {state.epoch + 1} | {state.batch:>5}{of_all} batches | loss {loss:.3f} | {self.running_accuracy()}"
        )

    def evaluate(self) -> None:
        """Measure the validation split, and keep the weights if they are the best so far."""
        if not self.evaluates:
            return
        self.read_counts()
        state = self.state
        logits, labels = predict_split(self.model, self.loaders["validation"], self.accelerator)
        self.model.train()
        metrics = compute_metrics(logits, labels, self.label_names, self.problem_type)
        metric = metrics[self.main_metric]
        self.record({f"validation_{self.main_metric}": metric, "validation_loss": metrics["loss"]})
        self.progress.write(f"step {state.step} | validation {self.main_metric} {metric:.4f}")
        self.keep_if_best(metric, metrics["loss"])

    def finish_weights(self) -> None:
        """Fold the temperature in, if that was asked for, and round the weights to what they are saved in."""
        if self.args.temperature_scaling:
            self.scale_temperature()
        round_weights(self.bare_model, getattr(torch, self.args.save_dtype))

    def scale_temperature(self) -> None:
        """Divide the logits by the temperature that fits the validation split."""
        logits, labels = predict_split(self.model, self.loaders["validation"], self.accelerator, "Calibrating")
        self.temperature = fit_temperature(logits, labels)
        fold_temperature(self.bare_model, self.temperature)

    def results(self) -> dict[str, Any]:
        """Evaluate the test split, and return what `all_results.json` holds."""
        state, rows = self.state, self.loaders["train"].dataset
        # of a stream that was not read to its end, nobody knows more rows than were trained on
        num_train_examples = rows.num_rows or state.num_texts if isinstance(rows, StreamedRows) else len(rows)  # type: ignore[arg-type]  # sized
        validation = self.loaders.get("validation")
        num_validation_examples = 0 if validation is None else len(validation.dataset)  # type: ignore[arg-type]  # sized
        results: dict[str, Any] = {
            "problem_type": self.problem_type,
            "test_accuracy": None,
            "test_macro_f1": None,
            "validation_accuracy": None,
            f"validation_{self.main_metric}": state.best_metric,
            "train_accuracy": None if self.problem_type == "regression" else state.correct / max(state.seen, 1),
            "epoch": state.num_texts / num_train_examples,
            "step": state.step,
            "best_step": state.best_step if state.best_metric is not None else state.step,
            "train_runtime": state.train_runtime,
            "train_samples_per_second": state.num_texts / max(state.train_runtime, 1e-9),
            "num_train_examples": num_train_examples,
            "num_validation_examples": num_validation_examples,
            "num_test_examples": 0,
            "num_processes": self.accelerator.num_processes,
            "seed": self.args.seed,
            "device": self.accelerator.device.type,
            "num_threads": self.num_threads,
            **size_and_versions(self.bare_model),
        }
        if "test" in self.loaders:
            logits, labels = predict_split(self.model, self.loaders["test"], self.accelerator, "Testing")
            self.test_logits = logits
            metrics = compute_metrics(logits, labels, self.label_names, self.problem_type)
            results |= {f"test_{name}": value for name, value in metrics.items()}
            results["num_test_examples"] = results.pop("test_num_examples")
            if self.temperature is not None:
                results |= effect_of_temperature(self.temperature, logits, labels)
        return results | {"log": state.log}


def create_run(
    prepared: Prepared, args: TrainArguments, accelerator: Accelerator, batch_loss: BatchLoss | None = None
) -> ClassifierRun:
    """Return a run at its beginning, or where its checkpoint stands.

    Args:
        prepared: What it begins with.
        args: How the model is trained.
        accelerator: The accelerator of this process.
        batch_loss: What it lowers. Default: the loss of the problem, between logits and labels.
    """
    dataset, tokenizer, model, label_names, problem_type, recipe, _ = prepared
    loaders, sampler = create_loaders(dataset, tokenizer, args, accelerator)
    if sampler.num_batches is None:
        accelerator.print(
            f"A stream of training texts, {dataset['train'].pool_size:,} at a time, {len(tokenizer):,} words"
        )
    else:
        accelerator.print(
            f"{len(sampler.lengths):,} training texts in {len(sampler):,} batches, {len(tokenizer):,} words; "
            f"{100 * padding_share(sampler.lengths, sampler):.1f} % of the positions are padding"
        )
    num_steps = num_training_steps(args, sampler.num_batches or 0)
    optimizer = create_optimizer(model, args, accelerator.device)
    schedule = create_schedule(optimizer, args, num_steps)
    if batch_loss is None:
        loss = training_loss(dataset["train"], label_names, problem_type, args, accelerator.device)

        def batch_loss(logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return loss(logits, batch["labels"])

    run = ClassifierRun(
        args=args,
        recipe=recipe,
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        loaders=loaders,
        sampler=sampler,
        label_names=label_names,
        problem_type=problem_type,
        loss=batch_loss,
        num_steps=num_steps,
    )
    run.start()
    return run


@exit_statuses("train.py")
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, evaluate and write a model; return what `all_results.json` holds."""
    started = time.perf_counter()
    with user_errors("train.py"):
        parser = ScriptParser((ModelArguments, DataArguments, TrainArguments), description=__doc__)
        (model_args, data_args, args), given = parser.parse(sys.argv[1:] if argv is None else argv)
        accelerator = begin(args)
        prepared = prepare(model_args, data_args, args, given, can_stream=True)
        run = create_run(prepared, args, accelerator)

    run.train()
    run.finish_weights()
    results = run.results()
    finish(run, prepared.tokenizer, results, started, "train.py")
    return results


if __name__ == "__main__":
    main()
