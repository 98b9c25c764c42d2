"""Fine-tune a pretrained encoder with transformers' `Trainer`: a teacher for `rnn-hf distill`, and a peer.

    python -m scripts.research.fine_tune_encoder sentence-transformers/all-MiniLM-L6-v2 --output_dir runs/minilm \
        [--dataset_name NAME] [--learning_rate 1e-4] [--freeze_embeddings]

Writes the model, its tokenizer, and `all_results.json` with the accuracy on the validation and the test rows. The
pooler, which a classifier of sentence embeddings lacks, is a new layer, like the classifier itself. After an
interruption, the same command continues.
"""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint, set_seed

from rnn_hf.argument_fields import flag, path_flag
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser
from rnn_hf.data.labels import label_names_of
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.files import write_json
from rnn_hf.training.arguments import RowArguments

Arguments = TypeVar("Arguments")

# Steps between two checkpoints
SAVE_STEPS = 200

OF_THE_TRAINING = (
    "max_length", "freeze_embeddings", "num_train_epochs", "learning_rate", "per_device_train_batch_size",
)  # fmt: skip


@dataclass(kw_only=True)
class FineTuningArguments(RowArguments):
    """The rows, and how an encoder is fine-tuned on them."""

    max_train_samples: int | None = flag(None, "Size of a random sample of the training rows.", at_least=1)
    max_length: int = flag(64, "Number of tokens after which a text is truncated.", at_least=1)
    freeze_embeddings: bool = flag(False, "Whether to keep the word vectors as they are, which saves time.")
    num_train_epochs: float = flag(1.0, "Number of epochs.", above=0)
    learning_rate: float = flag(1e-4, "Largest learning rate.", above=0)
    per_device_train_batch_size: int = flag(32, "Batch size per device.", at_least=1)
    output_dir: str = path_flag("", "New folder for the model.")
    seed: int = flag(42, "Seed of the validation split, the order of the rows, and new weights.", at_least=0)


def encoded(rows: datasets.Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> datasets.Dataset:
    """Return tokenized rows for `Trainer`."""
    return rows.map(
        lambda batch: dict(tokenizer(batch["text"], truncation=True, max_length=max_length)),
        batched=True, remove_columns=["text"], desc="Tokenizing",
    ).rename_column("label", "labels")  # fmt: skip


def accuracy(prediction: Any) -> dict[str, float]:
    """Return the share of rows whose largest logit is that of their label."""
    return {"accuracy": float((np.asarray(prediction.predictions).argmax(axis=-1) == prediction.label_ids).mean())}


def fine_tune(name: str, args: FineTuningArguments) -> dict[str, Any]:
    """Fine-tune an encoder, save it, and return the content of `all_results.json`."""
    started = time.perf_counter()
    set_seed(args.seed)
    reading = asdict(args)
    own = {name: reading.pop(name) for name in OF_THE_TRAINING}
    reading.pop("output_dir")
    found = load_text_dataset(**reading)
    labels = label_names_of(found["train"])
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSequenceClassification.from_pretrained(
        name, id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)}
    )
    if args.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    rows = {split: encoded(part, tokenizer, args.max_length) for split, part in found.items()}
    settings = TrainingArguments(
        output_dir=args.output_dir, num_train_epochs=args.num_train_epochs, learning_rate=args.learning_rate,
        per_device_train_batch_size=args.per_device_train_batch_size, per_device_eval_batch_size=128,
        lr_scheduler_type="linear", warmup_steps=0.1, optim="adamw_torch_fused", seed=args.seed,
        train_sampling_strategy="group_by_length", save_steps=SAVE_STEPS, save_total_limit=1, logging_steps=100,
        report_to="none",
    )  # fmt: skip
    trainer = Trainer(
        model, settings, DataCollatorWithPadding(tokenizer), rows["train"], processing_class=tokenizer,
        compute_metrics=accuracy,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=get_last_checkpoint(args.output_dir))
    train_runtime = time.perf_counter() - started
    results: dict[str, Any] = {"model_name_or_path": Path(name).name, "train_runtime": train_runtime}
    for split in ("validation", "test"):
        if split in rows:
            measured = trainer.evaluate(rows[split], metric_key_prefix=split)
            results[f"{split}_accuracy"] = measured[f"{split}_accuracy"]
    results |= {f"num_{split}_examples": len(part) for split, part in rows.items()}
    results |= own | {"seed": args.seed}
    tokenizer.model_max_length = args.max_length
    trainer.save_model()
    write_json(Path(args.output_dir) / "all_results.json", results)
    for checkpoint in Path(args.output_dir).glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    return results


def parse_encoder(
    arguments: type[Arguments], argv: Sequence[str] | None, description: str | None
) -> tuple[str, Arguments]:
    """Return the encoder, which is the first word of a command, and the arguments after it.

    Args:
        arguments: The dataclass of the arguments.
        argv: The words after the name of the program; by default those of this process.
        description: What `--help` shows first.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    parser = CommandParser([arguments], description=description)
    has_encoder = bool(words) and not words[0].startswith("-")
    (args,), _ = parser.parse(words[has_encoder:])  # or `--help`
    if not has_encoder:
        raise ValueError("Pass the name or folder of an encoder first.")
    return words[0], args


@exit_statuses("fine_tune_encoder", FineTuningArguments)
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Fine-tune an encoder; return the content of `all_results.json`."""
    with user_errors():
        encoder, args = parse_encoder(FineTuningArguments, argv, __doc__)
        if not args.output_dir or (Path(args.output_dir) / "config.json").exists():
            raise ValueError(f"`output_dir` must be a folder without a model, got {args.output_dir!r}.")
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        results = fine_tune(encoder, args)
    shown = ", ".join(f"{name[:-9]} {100 * value:.2f} %" for name, value in results.items() if "accuracy" in name)
    print(f"Written: {args.output_dir}; accuracy: {shown}; {results['train_runtime']:.0f} s")
    return results


if __name__ == "__main__":
    main()
