"""From encoded rows to a trained classifier: one training, another one on all rows, or those of an ensemble."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import DatasetDict, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import RNNConfig
from rnn_hf.progress import say

from .arguments import ClassifierRunArguments
from .classifier import ClassifierRun, create_label_loss, create_loaders
from .ensembles import SEED_STEP, check_pooling
from .initial_models import create_classifier, load_tokenizer
from .ngram_fit import known_rows
from .signals import StopSignals
from .splits import TextSplits
from .targets import TargetScale


@dataclass(frozen=True)
class ClassifierTask:
    """Everything that a classifier is trained from.

    Args:
        splits: The splits as texts and labels.
        rows: The encoded rows of each split.
        tokenizer: The tokenizer of the model.
        args: The arguments of the run.
        config: Configuration of the checkpoint, if the run starts from one.
        accelerator: The accelerator of this process.
    """

    splits: TextSplits
    rows: Mapping[str, Any]
    tokenizer: PreTrainedTokenizerBase
    args: ClassifierRunArguments
    config: RNNConfig | None
    accelerator: Accelerator

    def prepare(
        self,
        signals: StopSignals | None = None,
        judged_by: ClassifierRun | None = None,
        joins: ClassifierRun | None = None,
        run_type: type[ClassifierRun] = ClassifierRun,
    ) -> ClassifierRun:
        """Create the model, its batches and its loss, and return the run at its start.

        Args:
            signals: As in `Run`.
            judged_by: As in `ClassifierRun`.
            joins: Likewise.
            run_type: Class of the run.

        Raises:
            ValueError: If networks are to be joined that cannot be.
        """
        splits, rows, args, accelerator = self.splits, self.rows, self.args, self.accelerator
        check_pooling((self.config or args).classifier_pooling, args.ensemble_size)
        is_regression = splits.problem_type == "regression"
        scale = TargetScale.of(known_rows(rows["train"]).labels) if is_regression else None
        if scale is not None:
            scale.check(args.save_dtype)
        branch = None if joins is None else joins.bare_model.ngrams
        model = create_classifier(splits, self.tokenizer, args, self.config, rows["train"], scale, branch)
        loaders, sampler = create_loaders(rows, self.tokenizer, args, accelerator)
        label_loss = create_label_loss(rows["train"], splits, args, accelerator.device)
        return run_type.prepare(
            model,
            args,
            accelerator,
            loaders,
            sampler,
            signals=signals,
            label_names=splits.label_names,
            problem_type=splits.problem_type,
            loss=lambda logits, batch: label_loss(
                logits, batch["labels"] if scale is None else scale.standardized(batch["labels"])
            ),
            scale=scale,
            judged_by=judged_by,
            joins=joins,
        )

    def train(self, run: ClassifierRun) -> tuple[Self, ClassifierRun]:
        """Train a prepared model and, if the arguments say so, another one on all rows; return the last task and run.

        Args:
            run: The result of `prepare`, started.
        """
        run.train()
        self.join_others(run)
        run.finish_weights()
        if not self.args.train_on_all_rows:
            return self, run
        task = self.with_all_rows()
        return task, task.train_again(run)

    def join_others(self, first: ClassifierRun) -> None:
        """Train the other networks of the ensemble, if there are any, and join them with the first one.

        Args:
            first: The run of the first network, with its best weights.
        """
        others, size = [], self.args.ensemble_size
        for number in range(1, size):
            say(f"Training network {number + 1} of {size}")
            args = self.args.changed(seed=(self.args.seed + number * SEED_STEP) % 2**32)
            set_seed(args.seed)
            run = replace(self, args=args).prepare(first.signals, first.judged_by, joins=first)
            run.train()
            others.append(run)
        if others:
            first.join(others)

    def with_all_rows(self) -> Self:
        """Return the task with the validation rows as training rows, whose words the tokenizer then has, too."""
        others = DatasetDict({name: rows for name, rows in self.splits.others.items() if name != "validation"})
        train = concatenate_datasets([self.splits.train, self.splits.others["validation"]])
        splits = replace(self.splits, train=train, others=others, validation_is_cut=False)
        with self.accelerator.main_process_first():
            tokenizer = load_tokenizer(splits.iterate_texts, self.args, self.config)
            return replace(self, splits=splits, tokenizer=tokenizer, rows=splits.encode(tokenizer, self.args))

    def train_again(self, first: ClassifierRun) -> ClassifierRun:
        """Train a new model on all rows, like the first one on fewer; return its run.

        The weights of the branches, temperature and thresholds are those of the first model, which has not seen the
        validation rows.

        Args:
            first: The finished run of the first model.
        """
        say(f"Training again, on all {len(self.rows['train']):,} rows")
        set_seed(self.args.seed)
        run = self.prepare(first.signals, judged_by=first)
        run.train()
        self.join_others(run)
        run.centre_answers()
        run.branch_factors, run.temperature, run.thresholds = first.branch_factors, first.temperature, first.thresholds
        run.fold_answers()
        return run
