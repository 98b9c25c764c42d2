"""Train a recurrent text classifier with transformers' own `Trainer`, from the recipes and flags of `train.py`.

    python scripts/train_with_trainer.py [RECIPE.yaml] --output_dir runs/ag-news [--flag value ...]

It ends with the same folder as `train.py`, which is faster: its batches are made from flat arrays, and its optimizer
spares the word vectors that are not in the batch. `--help` lists the flags.
"""

import dataclasses
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import (
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from rnn_hf.commands.parser import ScriptParser, exit_statuses, user_errors
from rnn_hf.reporting.results import print_summary, round_weights, size_and_versions, write_results
from rnn_hf.training.arguments import DataArguments, ModelArguments, TrainArguments
from rnn_hf.training.calibration import effect_of_temperature, fit_temperature, fold_temperature
from rnn_hf.training.checkpoints import CHECKPOINTS
from rnn_hf.training.metrics import MAIN_METRICS, compute_metrics
from rnn_hf.training.optimization import DENSE_COUNTERPARTS, create_optimizer, embeddings_are_frozen
from rnn_hf.training.preparation import check_output_dir, prepare, training_loss


def training_arguments(args: TrainArguments, metric: str, has_validation: bool) -> TrainingArguments:
    """Return transformers' arguments of the same names and values."""
    theirs = {entry.name for entry in dataclasses.fields(TrainingArguments)}
    settings = {name: value for name, value in dataclasses.asdict(args).items() if name in theirs}
    evaluates = has_validation and args.eval_strategy != "no"
    settings |= {
        "output_dir": str(Path(args.output_dir) / CHECKPOINTS),
        "eval_strategy": args.eval_strategy if evaluates else "no",
        "load_best_model_at_end": evaluates,
        "metric_for_best_model": metric,
        # the best weights are found again at the end, even if no checkpoint was asked for
        "save_strategy": "best" if evaluates and args.save_strategy == "no" else args.save_strategy,
        # Trainer is given the loss and the optimizer, some of which have no name among its own
        "label_smoothing_factor": 0.0,
        "optim": "adamw_torch",
        # frozen word vectors have no gradient that processes could wait for
        "ddp_find_unused_parameters": args.freeze_embeddings_epochs != 0 or None,
        "dataloader_pin_memory": torch.cuda.is_available() and not args.use_cpu,
    }
    return TrainingArguments(**settings)


class FrozenEmbeddings(TrainerCallback):
    """Keeps the word vectors as they are for the first epochs.

    Args:
        args: Says how many epochs.
    """

    def __init__(self, args: TrainArguments) -> None:
        self.args = args

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Freeze or thaw them."""
        is_frozen = embeddings_are_frozen(self.args, int(state.epoch or 0))
        kwargs["model"].get_input_embeddings().weight.requires_grad_(not is_frozen)


def checkpoint_of(args: TrainArguments) -> str | None:
    """Return the folder to go on from, if there is to be one; a run that starts anew loses its old ones."""
    folder = Path(args.output_dir) / CHECKPOINTS
    name = args.resume_from_checkpoint
    if name is None:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    if name == "latest":
        name = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if name is None or not (Path(name) / "trainer_state.json").is_file():
        raise ValueError(
            f"`--resume_from_checkpoint` must be a checkpoint of Trainer, got {args.resume_from_checkpoint!r} "
            f"(`latest` is sought in {str(folder)!r})."
        )
    return name


@exit_statuses("train_with_trainer.py")
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, evaluate and write a model; return what `all_results.json` holds."""
    started = time.perf_counter()
    with user_errors("train_with_trainer.py"):
        parser = ScriptParser((ModelArguments, DataArguments, TrainArguments), description=__doc__)
        (model_args, data_args, args), given = parser.parse(sys.argv[1:] if argv is None else argv)
        check_output_dir(args)
        if args.gradual_unfreezing:
            raise ValueError(
                "`--gradual_unfreezing` is for `train.py`: Trainer has nothing of the kind. Leave it out."
            )
        checkpoint = checkpoint_of(args)
        PartialState(cpu=args.use_cpu)  # Trainer would take the first device that anything asks for
        set_seed(args.seed)

        prepared = prepare(model_args, data_args, args, given)
        dataset, tokenizer, model, label_names, problem_type, recipe, _ = prepared
        metric = MAIN_METRICS[problem_type]
        trainer_args = training_arguments(args, metric, "validation" in dataset)
        loss = training_loss(dataset["train"], label_names, problem_type, args, trainer_args.device)
        # Trainer clips gradients by a function that refuses sparse ones, and saves weights without asking the
        # optimizer to make up for what it has put off: the dense counterparts give the same weights and do neither
        dense = dataclasses.replace(args, optim=DENSE_COUNTERPARTS.get(args.optim, args.optim))
        optimizer = create_optimizer(model, dense, trainer_args.device)

        def mean_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            # Trainer adds up the losses of the batches of a step, so each of them is its share of the step's mean
            share = 1 if num_items_in_batch is None else labels.numel() / num_items_in_batch
            return loss(outputs.logits.float(), labels) * share

        def metrics_of(prediction: EvalPrediction) -> dict[str, float]:
            metrics = compute_metrics(prediction.predictions, prediction.label_ids, label_names, problem_type)  # type: ignore[arg-type]  # arrays
            return {name: value for name, value in metrics.items() if isinstance(value, float)}

        callbacks: list[TrainerCallback] = [FrozenEmbeddings(args)] if args.freeze_embeddings_epochs else []
        if args.early_stopping_patience:
            callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        trainer = Trainer(
            model=model,
            args=trainer_args,
            train_dataset=dataset["train"],
            eval_dataset=dataset.get("validation"),
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            optimizers=(optimizer, None),
            compute_loss_func=mean_loss,
            compute_metrics=metrics_of,
            callbacks=callbacks,
        )

    outcome = trainer.train(resume_from_checkpoint=checkpoint)

    if args.temperature_scaling:
        prediction = trainer.predict(dataset["validation"])
        fold_temperature(model, fit_temperature(prediction.predictions, prediction.label_ids))  # type: ignore[arg-type]
    round_weights(model, getattr(torch, args.save_dtype))
    results: dict[str, Any] = {
        "problem_type": problem_type,
        "test_accuracy": None,
        "test_macro_f1": None,
        "validation_accuracy": None,
        f"validation_{metric}": trainer.state.best_metric,
        "epoch": trainer.state.epoch,
        "step": trainer.state.global_step,
        "train_runtime": outcome.metrics["train_runtime"],
        "train_samples_per_second": outcome.metrics["train_samples_per_second"],
        "num_train_examples": len(dataset["train"]),
        "num_validation_examples": len(dataset.get("validation", ())),
        "num_test_examples": 0,
        "num_processes": trainer_args.world_size,
        "seed": args.seed,
        "device": trainer_args.device.type,
        "num_threads": torch.get_num_threads(),
        **size_and_versions(model),
    }
    if "test" in dataset:
        prediction = trainer.predict(dataset["test"])
        figures = compute_metrics(prediction.predictions, prediction.label_ids, label_names, problem_type)  # type: ignore[arg-type]
        results |= {f"test_{name}": value for name, value in figures.items()}
        results["num_test_examples"] = results.pop("test_num_examples")
        if args.temperature_scaling:
            temperature = model.config.calibration_temperature
            results |= effect_of_temperature(temperature, prediction.predictions, prediction.label_ids)  # type: ignore[arg-type]
    results["log"] = trainer.state.log_history
    if trainer.is_world_process_zero():
        write_results(model, tokenizer, results, recipe)
        if args.save_strategy == "no":
            shutil.rmtree(Path(args.output_dir) / CHECKPOINTS, ignore_errors=True)
        print_summary(results, args.output_dir, time.perf_counter() - started)
    return results


if __name__ == "__main__":
    main()
