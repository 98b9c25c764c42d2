"""Train a recurrent text classifier with transformers' own `Trainer`: an example to copy from.

    python scripts/train_with_trainer.py --dataset_name demo --output_dir runs/demo
    python scripts/train_with_trainer.py model_cards/ag-news/recipe.yaml ...

It takes the recipes and most flags of `rnn-hf train`, which is faster, and writes the same files.
"""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorWithPadding, EarlyStoppingCallback, EvalPrediction, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint, set_seed

from rnn_hf.commands.entry import command, user_errors
from rnn_hf.progress import say
from rnn_hf.reporting.results import classifier_summary, write_results
from rnn_hf.training.arguments import ClassifierRunArguments, TrainerRunArguments
from rnn_hf.training.checkpoints import CHECKPOINTS
from rnn_hf.training.classifier import classifier_results, create_label_loss
from rnn_hf.training.initial_models import checkpoint_config, create_classifier, load_tokenizer
from rnn_hf.training.metrics import MAIN_METRICS, compute_metrics
from rnn_hf.training.optimization import DENSE_COUNTERPARTS, create_optimizer
from rnn_hf.training.output_folder import check_output_folder, round_weights, run_facts
from rnn_hf.training.recipes import as_recipe
from rnn_hf.training.splits import load_splits


def training_arguments(args: ClassifierRunArguments, folder: Path, metric: str, evaluates: bool) -> TrainingArguments:
    """Return transformers' arguments of the same names and values, and what differs."""
    keeps_best = evaluates and args.load_best_model_at_end
    known = TrainingArguments.__dataclass_fields__
    settings = {name: value for name, value in dataclasses.asdict(args).items() if name in known} | {
        "output_dir": str(folder),
        "eval_strategy": args.eval_strategy if evaluates else "no",
        "load_best_model_at_end": keeps_best,
        "metric_for_best_model": metric,
        "save_strategy": "best" if keeps_best and args.save_strategy == "no" else args.save_strategy,
        # Trainer gets the loss and the optimizer, some of which have no name among its own
        "label_smoothing_factor": 0.0,
        "optim": "adamw_torch",
        "dataloader_pin_memory": torch.cuda.is_available() and not args.use_cpu,
    }
    return TrainingArguments(**settings)


@command(TrainerRunArguments, __doc__, "train_with_trainer.py")
def main(args: TrainerRunArguments) -> dict[str, Any]:
    """Train, evaluate and write a classifier; return the content of `all_results.json`."""
    started = time.perf_counter()
    with user_errors():
        folder = check_output_folder(args)
        checkpoint = args.resume_from_checkpoint
        if checkpoint == "latest" and (folder / CHECKPOINTS).is_dir():
            checkpoint = get_last_checkpoint(str(folder / CHECKPOINTS)) or "latest"
        if checkpoint is None:
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        elif not Path(checkpoint, "trainer_state.json").is_file():
            raise ValueError(f"`resume_from_checkpoint` must be a checkpoint of Trainer, got {checkpoint!r}.")
        set_seed(args.seed)
        config = checkpoint_config(args)
        splits = load_splits(args, config)
        tokenizer = load_tokenizer(splits.iterate_texts, args, config)
        rows = splits.encode(tokenizer, args)
        model = create_classifier(splits, tokenizer, args, config, rows["train"])
        label_names, problem_type, patience = splits.label_names, splits.problem_type, args.early_stopping_patience
        evaluates = "validation" in rows and args.eval_strategy != "no"
        trainer_args = training_arguments(args, folder / CHECKPOINTS, MAIN_METRICS[problem_type], evaluates)
        loss = create_label_loss(rows["train"], splits, args, trainer_args.device)
        # Trainer's clipping does not take the sparse gradients of the `lazy` optimizers
        dense = dataclasses.replace(args, optim=DENSE_COUNTERPARTS.get(args.optim, args.optim))  # type: ignore[arg-type]

        def mean_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            # Trainer adds up the losses of the batches in a step, so each of them is its share of the step's mean
            share = 1 if num_items_in_batch is None else labels.numel() / num_items_in_batch
            return share * loss(outputs.logits, labels)

        def metrics_of(prediction: EvalPrediction) -> dict[str, float]:
            metrics = compute_metrics(prediction.predictions, prediction.label_ids, label_names, problem_type)  # type: ignore[arg-type]  # arrays
            return {name: value for name, value in metrics.items() if isinstance(value, float)}

        trainer = Trainer(
            model=model,
            args=trainer_args,
            train_dataset=rows["train"],
            eval_dataset=rows.get("validation"),
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            optimizers=(create_optimizer(model, dense, trainer_args.device), None),
            compute_loss_func=mean_loss,
            compute_metrics=metrics_of,
            callbacks=[EarlyStoppingCallback(patience)] if patience else None,
        )
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    round_weights(model, getattr(torch, args.save_dtype))
    facts = {
        "epoch": trainer.state.epoch,
        "step": trainer.state.global_step,
        **{name: outcome.metrics[name] for name in ("train_runtime", "train_samples_per_second")},
        "num_train_examples": len(rows["train"]),
        "num_validation_examples": len(rows.get("validation", ())),
        "log": trainer.state.log_history,
        **run_facts(model, args, trainer_args.device, trainer_args.world_size, torch.get_num_threads()),
    }
    test: Any = trainer.predict(rows["test"])[:2] if "test" in rows else None
    results = classifier_results(label_names, problem_type, trainer.state.best_metric, facts, test)
    if trainer.is_world_process_zero():
        write_results(model, tokenizer, results, as_recipe(args, model.config), folder)
        if args.save_strategy == "no":
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        say(classifier_summary(results, folder, time.perf_counter() - started))
    return results


if __name__ == "__main__":
    main()
