"""Training of a classifier: its batches, loss, evaluation and results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.batching import (
    BatchSampler,
    EncodedRows,
    LengthGroupedBatchSampler,
    PaddingCollator,
    RandomBatchSampler,
    SortedBatchSampler,
    padding_share,
)
from rnn_hf.data.streaming import PoolSampler, StreamedRows
from rnn_hf.modeling_rnn import RNNForSequenceClassification
from rnn_hf.progress import say

from .arguments import TrainArguments
from .calibration import effect_of_temperature, fit_temperature, fold_temperature, scale_logits
from .ensembles import join_networks
from .loop import Run
from .losses import Loss, class_weights_of, create_loss
from .metrics import MAIN_METRICS, compute_metrics, num_correct, predict_split
from .ngram_fit import weigh_branches
from .output_folder import round_weights
from .splits import TextSplits
from .targets import TargetScale, best_thresholds

# Number of training rows whose mean prediction is compared with the mean of their targets
ROWS_TO_CENTRE = 2_000

# From logits and their batch to the mean loss
BatchLoss = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]


def create_loader(
    rows: EncodedRows | StreamedRows,
    sampler: BatchSampler,
    pad_token_id: int,
    num_workers: int,
    accelerator: Accelerator,
) -> DataLoader[Any]:
    """Return the prepared batches of one split.

    Args:
        rows: The split.
        sampler: Sampler of the rows of each batch.
        pad_token_id: Id of padding.
        num_workers: Number of processes that prepare batches; 0 uses the training process.
        accelerator: The accelerator of this process.
    """
    loader = DataLoader(
        rows,
        batch_sampler=sampler,
        collate_fn=PaddingCollator(pad_token_id),  # type: ignore[arg-type]  # of a batch, not of a list
        num_workers=num_workers,
        # creating an iterator draws from a generator; the global one belongs to dropout
        generator=torch.Generator(),
    )
    # batches are on the CPU already
    prepared: DataLoader[Any] = accelerator.prepare(loader, device_placement=[accelerator.device.type != "cpu"])
    return prepared


def create_loaders(
    splits: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, args: TrainArguments, accelerator: Accelerator
) -> tuple[dict[str, DataLoader[Any]], BatchSampler]:
    """Return the prepared batches of every split, and the sampler of the training batches.

    Args:
        splits: The encoded rows of each split.
        tokenizer: The tokenizer of the model.
        args: Batch sizes, sampling strategy and seed.
        accelerator: The accelerator of this process.
    """
    processes, pad_token_id = accelerator.num_processes, tokenizer.pad_token_id
    batch_size = args.per_device_train_batch_size * processes
    sampler_types = {"group_by_length": LengthGroupedBatchSampler, "random": RandomBatchSampler}
    sampler_type = sampler_types[args.train_sampling_strategy]
    rows: EncodedRows | StreamedRows
    if isinstance(splits["train"], StreamedRows):
        rows = splits["train"]
        sampler: BatchSampler = PoolSampler(rows, sampler_type, batch_size, args.seed)
        say(f"A stream of training texts, {rows.pool_size:,} at a time, {len(tokenizer):,} words")
    else:
        rows = EncodedRows(splits["train"])
        sampler = sampler_type(rows.lengths, batch_size, args.seed)
        say(
            f"{len(rows):,} training texts in {len(sampler):,} batches, {len(tokenizer):,} words; "
            f"{100 * padding_share(rows.lengths, sampler):.1f} % of the positions are padding"
        )
    sampler.fill_last_batch = processes > 1  # every process needs its part
    loaders = {"train": create_loader(rows, sampler, pad_token_id, args.dataloader_num_workers, accelerator)}
    for split in (name for name in splits if name != "train"):
        rows = EncodedRows(splits[split])
        in_order = SortedBatchSampler(rows.lengths, args.per_device_eval_batch_size * processes)
        loaders[split] = create_loader(rows, in_order, pad_token_id, args.dataloader_num_workers, accelerator)
    return loaders, sampler


def create_label_loss(
    rows: Dataset | StreamedRows, splits: TextSplits, args: TrainArguments, device: torch.device
) -> Loss:
    """Return the loss between logits and labels, with the smoothing and weights of the arguments.

    Args:
        rows: The encoded training rows, whose labels `class_weights="balanced"` counts.
        splits: Type of the problem, and names of the classes.
        args: `label_smoothing_factor` and `class_weights`.
        device: Device of the model.
    """
    labels = np.empty(0)
    if args.class_weights and isinstance(rows, Dataset):
        labels = np.asarray(rows.with_format("numpy")["labels"][:])
    weights = class_weights_of(args.class_weights, labels, splits.label_names, splits.problem_type)
    return create_loss(
        splits.problem_type,
        label_smoothing=args.label_smoothing_factor,
        class_weights=None if weights is None else weights.to(device),
    )


@dataclass(kw_only=True)
class ClassifierRun(Run):
    """A classifier in training.

    Args:
        label_names: Names of the classes or targets in the order of their ids.
        problem_type: Problem type of the labels.
        loss: Computes the mean loss from logits and their batch.
        judged_by: The run whose model the validation rows judged, if this one trains on all rows.
        joins: The run whose network this one will be joined with, if it is not the first of an ensemble.
        scale: Mean and standard deviation of the targets, if the loss is that of standardized targets.
    """

    label_names: list[str]
    problem_type: ProblemType
    loss: BatchLoss
    scale: TargetScale | None = None
    judged_by: Self | None = None
    joins: Self | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bare_model: RNNForSequenceClassification
        self.main_metric = MAIN_METRICS[self.problem_type]
        self.title += (" another network" if self.joins else "") + (" on all rows" if self.judged_by else "")
        self.branch_factors = 1.0, 1.0
        self.temperature: float | None = None
        self.thresholds: list[float] | None = None
        self.test_logits: np.ndarray | None = None
        # logits and labels since the last count, which has to wait for the device
        self.uncounted: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def saves(self) -> bool:
        """Whether it writes checkpoints; a resumed run would take those of a further training for the first's."""
        return self.judged_by is None and self.joins is None

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mean loss of a training batch, and keep its logits for `read_counts`."""
        outputs = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        loss = self.loss(outputs.logits, batch)
        self.note_loss(loss, len(outputs.logits))
        self.uncounted.append((outputs.logits.detach().float(), batch["labels"]))
        return loss

    def read_counts(self) -> None:
        """Add the counts of all devices to the state, and show it."""
        state = self.state
        self.read_losses()
        if self.uncounted:
            logits, labels = zip(*self.uncounted, strict=True)
            self.uncounted.clear()
            correct = num_correct(torch.cat(logits), torch.cat(labels), self.problem_type)
            state.correct += round(self.accelerator.reduce(correct, reduction="sum").item())
        if state.seen:
            self.progress.set_postfix_str(
                f"loss {state.loss_sum / state.seen:.3f}, {self.running_accuracy(', ')}"
                f"{state.num_texts / max(state.train_runtime, 1e-9):,.0f} texts/s",
                refresh=False,
            )

    def running_accuracy(self, end: str = "") -> str:
        """Return the accuracy of the epoch so far as text; a regression has none."""
        return "" if self.problem_type == "regression" else f"accuracy {self.state.correct / self.state.seen:.3f}{end}"

    def log_running_figures(self) -> None:
        """Print and record the loss and the accuracy of the epoch so far, as AI for Beginners, lesson 16, does."""
        self.read_counts()
        state, num_batches = self.state, self.sampler.num_batches
        of_all = "" if num_batches is None else f"/{num_batches}"
        loss, accuracy = state.loss_sum / state.seen, state.correct / state.seen
        self.record({"loss": loss, "train_accuracy": accuracy, "learning_rate": float(self.schedule.get_last_lr()[0])})
        say(
            f"epoch {state.epoch + 1} | {state.batch:>5}{of_all} batches | loss {loss:.3f} | {self.running_accuracy()}"
        )

    def evaluate(self) -> None:
        """Evaluate on the validation split, and keep the weights if they are the best so far."""
        if not self.evaluates:
            return
        self.read_counts()
        state = self.state
        logits, labels = predict_split(self.model, self.loaders["validation"], self.accelerator)
        if self.scale is not None:
            logits = self.scale.restored(logits)
        self.model.train()
        metrics = compute_metrics(logits, labels, self.label_names, self.problem_type)
        metric = metrics[self.main_metric]
        self.record({f"validation_{self.main_metric}": metric, "validation_loss": metrics["loss"]})
        with_branch = "" if self.bare_model.ngrams is None else ", with the n-gram branch"
        say(f"step {state.step} | validation {self.main_metric} {metric:.4f}{with_branch}")
        self.keep_if_best(metric, metrics["loss"])

    def join(self, others: Sequence[Self]) -> None:
        """Replace the network by the mean of its own and other runs' answers, and measure the validation split.

        Args:
            others: The finished runs of the other networks.
        """
        joined = join_networks([self.bare_model, *(run.bare_model for run in others)])
        self.model = self.bare_model = joined.to(self.accelerator.device)
        self.state.train_runtime += sum(run.state.train_runtime for run in others)
        if self.state.best_metric is None:
            return
        logits, labels = predict_split(self.model, self.loaders["validation"], self.accelerator, "Joining")
        if self.scale is not None:
            logits = self.scale.restored(logits)
        metrics = compute_metrics(logits, labels, self.label_names, self.problem_type)
        self.state.best_metric = metrics[self.main_metric]
        say(f"{len(others) + 1} networks joined | validation {self.main_metric} {self.state.best_metric:.4f}")

    @torch.no_grad()
    def centre_answers(self) -> None:
        """Centre the predictions of a regression on the mean of the targets, which dropout may have shifted."""
        if self.scale is None:
            return
        rows: Any = self.loaders["train"].dataset
        if isinstance(rows, StreamedRows):
            return  # the rows of a stream are gone
        self.bare_model.eval()  # type: ignore[no-untyped-call]  # transformers' own
        chosen = [*range(0, len(rows), -(-len(rows) // ROWS_TO_CENTRE))]
        errors, size = [], self.args.per_device_eval_batch_size
        for start in range(0, len(chosen), size):
            batch = PaddingCollator(self.bare_model.config.pad_token_id or 0)(
                rows.__getitems__(chosen[start : start + size])
            )
            ids, mask = (batch[name].to(self.accelerator.device) for name in ("input_ids", "attention_mask"))
            logits = self.bare_model(input_ids=ids, attention_mask=mask).logits.cpu().float()
            errors.append(logits - self.scale.standardized(batch["labels"]).view_as(logits))
        bias = self.bare_model.classifier.bias
        bias.sub_(torch.cat(errors).mean(dim=0).to(bias))

    def finish_weights(self) -> None:
        """Choose the last parameters on the validation rows, and fold them into the model.

        They are the weight of the n-gram branch relative to the network and, if requested, temperature or thresholds.
        """
        args = self.args
        self.centre_answers()
        has_branch = self.bare_model.ngrams is not None and "validation" in self.loaders
        if has_branch or args.temperature_scaling or args.tune_thresholds:
            logits, labels = predict_split(self.model, self.loaders["validation"], self.accelerator, "Calibrating")
            if has_branch:
                logits = self.weigh_branches(logits, labels)
            if args.temperature_scaling:
                self.temperature = fit_temperature(logits, labels)
            elif args.tune_thresholds:
                self.thresholds = best_thresholds(logits, labels)
        self.fold_answers()

    def weigh_branches(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Choose the weights of network and n-gram branch; return the resulting logits of the validation rows.

        Args:
            logits: The logits before. Shape `(num_rows, num_labels)`.
            labels: The labels of the rows.
        """
        branch, self.bare_model.ngrams = self.bare_model.ngrams, None
        network, _ = predict_split(self.model, self.loaders["validation"], self.accelerator, "Calibrating")
        self.bare_model.ngrams = branch
        truth = labels if self.scale is None else self.scale.standardized(torch.from_numpy(labels)).numpy()
        of_network, of_branch = weigh_branches(network, logits - network, truth, self.problem_type)
        self.branch_factors = of_network, of_branch
        weighed: np.ndarray = of_network * network + of_branch * (logits - network)
        if self.state.best_metric is not None:  # the metric of the weights before
            answers = weighed if self.scale is None else self.scale.restored(weighed)
            metrics = compute_metrics(answers, labels, self.label_names, self.problem_type)
            self.state.best_metric = metrics[self.main_metric]
            say(f"network and n-gram branch combined | validation {self.main_metric} {self.state.best_metric:.4f}")
        return weighed

    def fold_answers(self) -> None:
        """Fold what was chosen into the model, so that it predicts in the unit of the labels; round its weights."""
        scale_logits(self.bare_model, *map(torch.tensor, self.branch_factors))
        if self.bare_model.ngrams is not None:
            self.bare_model.ngrams.train_together()
        if self.scale is not None:
            self.scale.fold(self.bare_model)
        if self.temperature is not None:
            fold_temperature(self.bare_model, self.temperature)
        if self.thresholds is not None:
            self.bare_model.config.label_thresholds = self.thresholds
        round_weights(self.bare_model, getattr(torch, self.args.save_dtype))

    def results(self) -> dict[str, Any]:
        """Evaluate the test split, and return the content of `all_results.json`."""
        state, rows, judge = self.state, self.loaders["train"].dataset, self.judged_by or self
        # if a stream was not read to its end, only the rows that were trained on are known
        num_train_examples = rows.num_rows or state.num_texts if isinstance(rows, StreamedRows) else len(rows)  # type: ignore[arg-type]  # sized
        validation = judge.loaders.get("validation")
        num_validation_examples = 0 if validation is None else len(validation.dataset)  # type: ignore[arg-type]  # sized
        facts = {
            "train_accuracy": None if self.problem_type == "regression" else state.correct / max(state.seen, 1),
            "epoch": state.num_texts / num_train_examples,
            "step": state.step,
            "best_step": judge.state.best_step if judge.state.best_metric is not None else state.step,
            "train_runtime": state.train_runtime + (judge.state.train_runtime if judge is not self else 0.0),
            "train_samples_per_second": state.num_texts / max(state.train_runtime, 1e-9),
            "num_train_examples": num_train_examples,
            "num_validation_examples": num_validation_examples,
            "trained_on_all_rows": judge is not self,
            "ensemble_size": self.args.ensemble_size,
            **({} if self.bare_model.ngrams is None else {"branch_factors": list(self.branch_factors)}),
            **self.facts(),
        }
        test = None
        if "test" in self.loaders:
            test = predict_split(self.model, self.loaders["test"], self.accelerator, "Testing")
            self.test_logits = test[0]
        results = classifier_results(
            self.label_names,
            self.problem_type,
            judge.state.best_metric,
            facts,
            test,
            self.temperature,
            self.thresholds,
        )
        return results | {"log": judge.state.log}


def classifier_results(
    label_names: list[str],
    problem_type: ProblemType,
    best_metric: float | None,
    facts: Mapping[str, Any],
    test: tuple[np.ndarray, np.ndarray] | None,
    temperature: float | None = None,
    thresholds: list[float] | None = None,
) -> dict[str, Any]:
    """Return the content of `all_results.json` from the measurements of a run.

    Args:
        label_names: Names of the classes or targets in the order of their ids.
        problem_type: Problem type of the labels.
        best_metric: Validation metric of the weights that were kept, or `None`.
        facts: Steps, times, sizes and versions.
        test: Logits and labels of the test split, or `None`.
        temperature: Divisor of the logits, if they were calibrated.
        thresholds: Minimum probability of each label, if thresholds were chosen.
    """
    results = {
        "problem_type": problem_type,
        "test_accuracy": None,
        "test_macro_f1": None,
        "validation_accuracy": None,
        f"validation_{MAIN_METRICS[problem_type]}": best_metric,
        "num_test_examples": 0,
        **facts,
    }
    if thresholds is not None:
        results["label_thresholds"] = dict(zip(label_names, thresholds, strict=True))
    if test is not None:
        metrics = compute_metrics(*test, label_names, problem_type, thresholds or 0.5)
        results |= {f"test_{name}": value for name, value in metrics.items()}
        results["num_test_examples"] = results.pop("test_num_examples")
        if temperature is not None:
            results |= effect_of_temperature(temperature, *test)
    return results
