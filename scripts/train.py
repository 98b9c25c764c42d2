"""Train a recurrent text classifier on one device, several processes, or several machines.

    python scripts/train.py [RECIPE.yaml] --output_dir runs/ag-news [--flag value ...]
    torchrun --nproc_per_node 2 scripts/train.py ... --use_cpu

A recipe is a YAML file of the same flags; the command line wins over it. `--help` lists them all.
"""

import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
import yaml
from accelerate import Accelerator, DataLoaderConfiguration, PartialState
from accelerate.utils import gather_object, set_seed, tqdm
from datasets import Dataset, DatasetDict
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

import rnn_hf
from rnn_hf import RNNConfig, RNNForCausalLM, RNNForSequenceClassification, RNNPreTrainedModel
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
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.labels import label_names_of, problem_type_of
from rnn_hf.data.loading import DEFAULT_DATASET, load_text_dataset
from rnn_hf.data.memory import iterate_texts
from rnn_hf.data.tokenizer_training import save_tokenizer, train_tokenizer
from rnn_hf.data.tokens import set_training_length
from rnn_hf.data.word_vectors import initialize_embeddings, read_word_vectors
from rnn_hf.reporting.command_line import ScriptParser, one_line, user_errors
from rnn_hf.reporting.hub import check_hub_access, push_folder
from rnn_hf.reporting.model_card import write_model_card
from rnn_hf.training.arguments import (
    NOT_PART_OF_THE_RUN,
    DataArguments,
    ModelArguments,
    TrainArguments,
    as_recipe,
)
from rnn_hf.training.checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    RunState,
    generator_states,
    open_checkpoint,
    publish,
    save_checkpoint,
    written_whole,
)
from rnn_hf.training.losses import Loss, class_weights_of, create_loss
from rnn_hf.training.metrics import MAIN_METRICS, compute_metrics, num_correct, predict_split
from rnn_hf.training.optimization import (
    LazyAdam,
    clip_grad_norm,
    create_optimizer,
    create_schedule,
    drop_frozen_gradients,
)
from rnn_hf.training.temperature import effect_of_temperature, fit_temperature, fold_temperature

# Settings that a checkpoint does not fix; all other fields of its configuration stay when training goes on from it
CHANGEABLE = {"embedding_dropout", "hidden_dropout_prob", "classifier_dropout", "word_dropout"}

# Those that may also be chosen for an encoder that had another head
PART_OF_THE_HEAD = {"classifier_pooling", "concat_embedding_mean"}

# Up to this batch, sharing out the work of a step among threads costs more time than it saves on a CPU
ONE_THREAD_BATCH = 32

# From logits and the batch they answer to the mean loss
BatchLoss = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]

# Batches between two looks at what the device has counted
READ_EVERY = 50


def start_accelerator(args: TrainArguments) -> Accelerator:
    """Return the accelerator of this process, or stop where the launcher and it disagree."""
    accelerator = Accelerator(
        cpu=args.use_cpu,
        mixed_precision="bf16" if args.bf16 else "no",
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=None if args.report_to == "none" else args.report_to,
        project_dir=args.output_dir,
        # every batch is one of like lengths, shared out, so that no process waits for another's longer texts
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    if args.report_to != "none" and not accelerator.log_with:
        raise ValueError(
            f"`--report_to {args.report_to}` needs the package {args.report_to}. Install it, or leave it out."
        )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ValueError(
            f"The launcher started {launched} processes, but Accelerate sees {accelerator.num_processes}: "
            "they would train separately. Pass `--use_cpu` where there are not as many GPUs."
        )
    return accelerator


def check_output_dir(args: TrainArguments) -> None:
    """Refuse a folder that holds something else than the run to be resumed, unless told to overwrite it."""
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`--output_dir` must be a folder, got the file {str(folder)!r}.")
    goes_on = args.overwrite_output_dir or args.resume_from_checkpoint is not None
    if not goes_on and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"The folder {str(folder)!r} is not empty. Pass `--overwrite_output_dir`, "
            "`--resume_from_checkpoint latest`, or another `--output_dir`."
        )


def load_data(data_args: DataArguments, args: TrainArguments, label_names: Sequence[str] | None) -> DatasetDict:
    """Return the splits, with the classes of a checkpoint where the dataset has the same."""

    def load(names: Sequence[str] | None) -> DatasetDict:
        return load_text_dataset(
            data_args.dataset_name,
            data_args.dataset_config_name,
            train_file=data_args.train_file,
            validation_file=data_args.validation_file,
            test_file=data_args.test_file,
            text_column_names=data_args.text_column_names,
            label_column_name=data_args.label_column_name,
            label_names=names,
            problem_type=data_args.problem_type,
            validation_size=data_args.validation_size,
            seed=args.seed,
            clean_text=data_args.clean_text,
            max_train_samples=data_args.max_train_samples,
        )

    dataset = load(None)
    if "train" not in dataset:
        raise ValueError(f"The dataset has no training split (splits: {', '.join(dataset)}). Pass `--train_file`.")
    if "validation" not in dataset and args.early_stopping_patience is not None:
        raise ValueError("`--early_stopping_patience` needs a validation split. Pass `--validation_size 0.05`.")
    if args.temperature_scaling:
        if problem_type_of(dataset["train"]) != "single_label_classification":
            raise ValueError("`--temperature_scaling` is for one class a text. Leave it out.")
        if "validation" not in dataset:
            raise ValueError("`--temperature_scaling` needs a validation split. Pass `--validation_size 0.05`.")
    names = label_names_of(dataset["train"])
    if label_names is not None and names != label_names and sorted(names) == sorted(label_names):
        return load(label_names)
    return dataset


def load_tokenizer(
    dataset: DatasetDict,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: TrainArguments,
    has_end_of_text: bool = False,
) -> PreTrainedTokenizerBase:
    """Return the checkpoint's tokenizer, the one that was named, or one trained on the training rows."""
    name = data_args.tokenizer_name_or_path or args.model_name_or_path
    if name is None:
        return train_tokenizer(
            iterate_texts(dataset["train"]),
            tokenizer_type=data_args.tokenizer_type,
            vocab_size=model_args.vocab_size,
            min_frequency=data_args.min_frequency,
            max_length=data_args.max_length,
            has_end_of_text=has_end_of_text,
        )
    tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.pad_token_id is None:
        raise ValueError(f"The tokenizer {name!r} has no padding token. Add one and save it.")
    set_training_length(tokenizer, data_args.max_length)
    return tokenizer


def create_model(
    tokenizer: PreTrainedTokenizerBase,
    label_names: list[str],
    problem_type: ProblemType,
    model_args: ModelArguments,
    args: TrainArguments,
    given: set[str],
) -> RNNForSequenceClassification:
    """Return a new model, or the checkpoint's with as many labels as the data has."""
    labels: dict[str, Any] = {
        "problem_type": problem_type,
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
    settings = asdict(model_args)
    if args.model_name_or_path is None:
        settings["vocab_size"] = len(tokenizer)
        return RNNForSequenceClassification(
            RNNConfig(
                **settings,
                **labels,
                pad_token_id=tokenizer.pad_token_id,
                unk_token_id=tokenizer.unk_token_id,
            )
        )
    config = AutoConfig.from_pretrained(args.model_name_or_path)
    is_language_model = (config.architectures or ["?"])[0] == RNNForCausalLM.__name__
    changeable = CHANGEABLE | PART_OF_THE_HEAD if is_language_model else CHANGEABLE
    check_checkpoint(config, args, settings, given, changeable, len(tokenizer))
    if is_language_model:
        PartialState().print(f"{args.model_name_or_path} is a language model: its encoder gets a new classifier.")
    model: RNNForSequenceClassification = RNNForSequenceClassification.from_pretrained(
        args.model_name_or_path,
        use_safetensors=True,
        ignore_mismatched_sizes=config.num_labels != len(label_names),
        # training goes on from weights that were divided, and leaves nothing of that
        temperature=1.0,
        **labels,
        **{name: settings[name] for name in given & changeable},
    )
    return model


def check_checkpoint(
    config: PreTrainedConfig,
    args: TrainArguments,
    settings: dict[str, Any],
    given: set[str],
    changeable: set[str],
    num_tokens: int,
) -> None:
    """Refuse a checkpoint that this family, a flag or the tokenizer does not fit."""
    if not isinstance(config, RNNConfig):
        raise ValueError(f"{args.model_name_or_path!r} is a {config.model_type!r} model, not one of this family.")
    for name in given & settings.keys() - {"vocab_size"}:
        if name not in changeable and getattr(config, name) != settings[name]:
            raise ValueError(
                f"`--{name} {settings[name]}` contradicts the checkpoint's {getattr(config, name)}. Leave it out."
            )
    if num_tokens > config.vocab_size:
        raise ValueError(
            f"The tokenizer has {num_tokens} tokens but the checkpoint's `vocab_size` is {config.vocab_size}. "
            "Leave out `--tokenizer_name_or_path`."
        )


def place_word_vectors(
    model: RNNPreTrainedModel, tokenizer: PreTrainedTokenizerBase, data_args: DataArguments
) -> None:
    """Let the words of a model begin with pretrained vectors, if a file of them was named."""
    if data_args.word_vectors is not None:
        vectors = read_word_vectors(data_args.word_vectors, tokenizer.get_vocab())
        embeddings: Any = model.get_input_embeddings()
        initialize_embeddings(embeddings.weight, vectors, padding_idx=embeddings.padding_idx)
        PartialState().print(f"{data_args.word_vectors}: {vectors}")


class Prepared(NamedTuple):
    """What a run begins with."""

    dataset: DatasetDict
    tokenizer: PreTrainedTokenizerBase
    model: RNNForSequenceClassification
    label_names: list[str]
    problem_type: ProblemType
    recipe: dict[str, Any]
    texts: DatasetDict


def begin(args: TrainArguments) -> Accelerator:
    """Check what can be checked before any data is read, and return the accelerator of this process, seeded."""
    check_output_dir(args)
    if args.push_to_hub:
        check_hub_access(str(args.hub_model_id))
    accelerator = start_accelerator(args)
    set_seed(args.seed)
    return accelerator


def prepare(model_args: ModelArguments, data_args: DataArguments, args: TrainArguments, given: set[str]) -> Prepared:
    """Return encoded rows, their tokenizer, the model, and every argument of the run as a recipe."""
    RNNConfig(**asdict(model_args))  # a wrong value is told before any data is read
    if data_args.dataset_name is None and not data_args.has_files:
        data_args.dataset_name = DEFAULT_DATASET
    known_labels = None
    if args.model_name_or_path is not None:
        known_labels = list(AutoConfig.from_pretrained(args.model_name_or_path).id2label.values())
    with PartialState().main_process_first():  # the others read what it has cached
        texts = load_data(data_args, args, known_labels)
        tokenizer = load_tokenizer(texts, model_args, data_args, args)
        dataset = encode_dataset(texts, tokenizer, data_args.max_length)
    label_names, problem_type = label_names_of(texts["train"]), problem_type_of(texts["train"])
    model = create_model(tokenizer, label_names, problem_type, model_args, args, given)
    place_word_vectors(model, tokenizer, data_args)

    # the recipe says what the model became: a checkpoint's sizes, the vocabulary that was found
    model_args = ModelArguments(**{name: getattr(model.config, name) for name in asdict(model_args)})
    recipe = as_recipe(model_args, data_args, args)
    return Prepared(dataset, tokenizer, model, label_names, problem_type, recipe, texts)


def training_loss(
    rows: Dataset, label_names: list[str], problem_type: ProblemType, args: TrainArguments, device: torch.device
) -> Loss:
    """Return the loss of the problem, smoothed and weighted as the arguments say."""
    labels = np.asarray(rows.with_format("numpy")["labels"][:]) if args.class_weights else np.empty(0)
    weights = class_weights_of(args.class_weights, labels, label_names, problem_type)
    return create_loss(
        problem_type,
        label_smoothing=args.label_smoothing_factor,
        class_weights=None if weights is None else weights.to(device),
    )


def create_loader(
    rows: EncodedRows, sampler: BatchSampler, pad_token_id: int, num_workers: int, accelerator: Accelerator
) -> DataLoader[Any]:
    """Return the prepared batches of one split."""
    loader = DataLoader(
        rows,
        batch_sampler=sampler,
        collate_fn=PaddingCollator(pad_token_id),  # type: ignore[arg-type]  # of a batch, not of a list
        num_workers=num_workers,
        # making an iterator draws from a generator; the global one belongs to dropout
        generator=torch.Generator(),
    )
    # batches are on the CPU as they are
    prepared: DataLoader[Any] = accelerator.prepare(loader, device_placement=[accelerator.device.type != "cpu"])
    return prepared


def create_loaders(
    dataset: DatasetDict, tokenizer: PreTrainedTokenizerBase, args: TrainArguments, accelerator: Accelerator
) -> tuple[dict[str, DataLoader[Any]], BatchSampler]:
    """Return the prepared batches of every split, and the sampler of the training batches."""
    processes, pad_token_id = accelerator.num_processes, tokenizer.pad_token_id
    sampler_type = {"group_by_length": LengthGroupedBatchSampler, "random": RandomBatchSampler}
    loaders, train_sampler = {}, None
    for split, rows in ((split, EncodedRows(dataset[split])) for split in dataset):
        if split == "train":
            sampler = train_sampler = sampler_type[args.train_sampling_strategy](
                rows.lengths, args.per_device_train_batch_size * processes, args.seed
            )
            sampler.fill_last_batch = processes > 1  # every process needs its part
        else:
            sampler = SortedBatchSampler(rows.lengths, args.per_device_eval_batch_size * processes)
        loaders[split] = create_loader(rows, sampler, pad_token_id, args.dataloader_num_workers, accelerator)
    assert train_sampler is not None
    return loaders, train_sampler


@torch.no_grad()
def round_weights(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Round weights to a type they will be saved in, so that what is tested is what is saved."""
    for weight in model.state_dict().values():
        weight.copy_(weight.to(dtype))


def write_results(
    model: RNNPreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    results: dict[str, Any],
    recipe: dict[str, Any],
) -> None:
    """Write the finished model and its papers; a file that stood there is replaced only by a whole one."""
    folder = Path(recipe["output_dir"])
    with written_whole(folder / "finished") as beside:
        # the configuration keeps float32, so that whoever loads the model computes in it
        dtype = getattr(torch, recipe["save_dtype"])
        # a weight that is tied to another is saved with it
        weights = {
            name: weight.to(dtype)
            for name, weight in model.state_dict().items()
            if name not in model.all_tied_weights_keys
        }
        model.save_pretrained(beside, state_dict=weights)
        save_tokenizer(tokenizer, beside)
        results["model_bytes"] = (beside / "model.safetensors").stat().st_size
        (beside / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        (beside / "all_results.json").write_text(json.dumps(results, indent=2) + "\n")
        write_model_card(beside, name=recipe["hub_model_id"] or folder.resolve().name, recipe=recipe)
        if find_spec("matplotlib") is None:
            print('No figures were drawn: matplotlib is not installed (`pip install -e ".[plots]"`).')
    publish(folder / "finished", folder)


def size_and_versions(model: torch.nn.Module) -> dict[str, Any]:
    """Return what `all_results.json` tells of a model and of what it was trained with."""
    return {
        "num_parameters": sum(weight.numel() for weight in model.parameters()),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
        "rnn_hf_version": rnn_hf.__version__,
    }


@dataclass(kw_only=True)
class Run:
    """A model in training, and everything that training it touches."""

    args: TrainArguments
    recipe: dict[str, Any]
    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    loaders: dict[str, DataLoader[Any]]
    sampler: BatchSampler
    num_steps: int
    state: RunState = field(default_factory=RunState)
    best_weights: dict[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        self.bare_model, self.bare_optimizer = self.model, self.optimizer
        self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self.evaluates = "validation" in self.loaders and self.args.eval_strategy != "no"
        self.progress: Any = None

    def train(self) -> None:
        """Take the steps of the run, from where `state` stands, on as many threads as are worth their while."""
        self.num_threads = threads = torch.get_num_threads()
        if self.accelerator.device.type == "cpu" and self.has_little_work:
            self.num_threads = 1
        torch.set_num_threads(self.num_threads)
        try:
            self.take_steps()
        finally:
            torch.set_num_threads(threads)

    @property
    def has_little_work(self) -> bool:
        """Whether sharing out a step among threads costs more time than it saves."""
        return self.args.per_device_train_batch_size <= ONE_THREAD_BATCH

    def take_steps(self) -> None:
        """Read the batches and step, evaluate and save in between, and end with the best weights."""
        args, state = self.args, self.state
        self.progress = tqdm(total=self.num_steps, initial=state.step, unit="step", desc="Training")
        started, runtime_before = time.perf_counter(), state.train_runtime
        self.model.train()
        while state.step < self.num_steps and not self.is_out_of_patience():
            self.sampler.start_batch = state.batch
            # the loader's: it hands its own count on to the sampler
            self.loaders["train"].set_epoch(state.epoch)  # type: ignore[attr-defined]  # Accelerate added it
            for batch in self.loaders["train"]:
                took_step = self.train_on(batch)
                state.train_runtime = runtime_before + time.perf_counter() - started
                if state.batch % args.logging_steps == 0:
                    self.log_running_figures()
                if not took_step:
                    continue
                if args.eval_strategy == "steps" and state.step % args.eval_steps == 0:
                    self.evaluate()
                if args.save_strategy == "steps" and state.step % args.save_steps == 0:
                    self.save()
                if state.step >= self.num_steps or self.is_out_of_patience():
                    break
            else:
                state.epoch, state.batch = state.epoch + 1, 0
            self.read_counts()
            is_last_unmeasured = args.eval_strategy == "steps" and state.step % args.eval_steps != 0
            if args.eval_strategy == "epoch" or (is_last_unmeasured and state.step >= self.num_steps):
                self.evaluate()
            if args.save_strategy == "epoch":
                self.save()
            if state.batch == 0 and state.step < self.num_steps and not self.is_out_of_patience():
                state.seen, state.correct, state.loss_sum = 0, 0, 0.0
        state.train_runtime = runtime_before + time.perf_counter() - started
        self.progress.close()
        if isinstance(self.bare_optimizer, LazyAdam):
            self.bare_optimizer.catch_up()
        if self.best_weights is not None:
            self.bare_model.load_state_dict(self.best_weights)

    def train_on(self, batch: dict[str, torch.Tensor]) -> bool:
        """Add the gradients of one batch; return whether the optimizer took a step."""
        args = self.args
        with self.accelerator.accumulate(self.model):
            self.accelerator.backward(self.loss_of(batch))
            took_step: bool = self.accelerator.sync_gradients
            if took_step and (args.gradual_unfreezing or args.freeze_embeddings_epochs):
                drop_frozen_gradients(self.bare_model, args, self.state.epoch)
            if took_step and args.max_grad_norm > 0:
                clip_grad_norm(self.model.parameters(), args.max_grad_norm)
            if took_step:
                # Accelerate's own search for a package, and look at signatures, in every step
                self.bare_optimizer.step()
                self.bare_model.zero_grad()
        self.state.batch += 1
        if took_step:
            self.schedule.step()
            self.state.step += 1
            self.progress.update()
        if self.state.batch % READ_EVERY == 0:
            self.read_counts()
        return took_step

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of one batch of training, and note what `read_counts` will count."""
        raise NotImplementedError

    def read_counts(self) -> None:
        """Add what was counted on all devices to the state, and show it."""
        raise NotImplementedError

    def log_running_figures(self) -> None:
        """Write a line with how the epoch goes so far."""
        raise NotImplementedError

    def evaluate(self) -> None:
        """Measure the validation split, and keep the weights if they are the best so far."""
        raise NotImplementedError

    def keep_if_best(self, metric: float) -> None:
        """Keep the weights if no evaluation before had as great a metric."""
        state = self.state
        state.evaluations_without_gain += 1
        if state.best_metric is None or metric > state.best_metric:
            state.best_metric, state.best_step, state.evaluations_without_gain = metric, state.step, 0
            weights = self.bare_model.state_dict()
            self.best_weights = {name: weight.detach().cpu().clone() for name, weight in weights.items()}

    def is_out_of_patience(self) -> bool:
        """Return whether the validation split has seen no gain for too long."""
        patience = self.args.early_stopping_patience
        return patience is not None and self.state.evaluations_without_gain >= patience

    def record(self, values: dict[str, float]) -> None:
        """Keep values for `all_results.json`, and hand them to the experiment tracker if there is one."""
        self.state.log.append({"step": self.state.step, "epoch": self.state.epoch, **values})
        self.accelerator.log(values, step=self.state.step)

    def save(self) -> None:
        """Write a checkpoint from which all processes can go on."""
        self.read_counts()
        generators = gather_object([generator_states()])
        own = self.stream_state()
        stream_states = None if own is None else gather_object([own])
        if self.accelerator.is_main_process:
            save_checkpoint(
                Path(self.args.output_dir),
                self.state,
                model=self.bare_model,
                optimizer=self.optimizer,
                schedule=self.schedule,
                generators=generators,
                best_weights=self.best_weights,
                arguments=self.recipe,
                stream_states=stream_states,
                total_limit=self.args.save_total_limit,
            )
        self.accelerator.wait_for_everyone()

    def stream_state(self) -> dict[str, torch.Tensor] | None:
        """Return what the model remembers from batch to batch; a classifier remembers nothing."""
        return None

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint as if nothing had happened."""
        for name, value in checkpoint.arguments.items():
            if name not in NOT_PART_OF_THE_RUN and self.recipe.get(name) != value:
                raise ValueError(
                    f"The checkpoint was made with `--{name} {value}`, this run has {self.recipe.get(name)}. "
                    "Pass the same arguments to resume."
                )
        checkpoint.restore(self.bare_model, self.optimizer, self.schedule)
        checkpoint.restore_generators(self.accelerator.process_index)
        self.state, self.best_weights = checkpoint.state, checkpoint.best_weights
        self.accelerator.print(f"Going on from {checkpoint.folder}.")

    def end(self) -> None:
        """Let go of the other processes.

        The wrapped model goes first: if it were the last to hold the process group, torch would wait for a thread of
        the group while that thread waits for Python's lock.
        """
        self.model = self.bare_model
        self.accelerator.free_memory()
        self.accelerator.end_training()


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
        # losses, logits and labels since the last look at them; looking waits for the device
        self.unread: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of one batch of training, and note what `read_counts` will count."""
        logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()
        loss = self.loss(logits, batch)
        self.unread.append((loss.detach(), logits.detach(), batch["labels"]))
        return loss

    def read_counts(self) -> None:
        """Add what was counted on all devices to the state, and show it."""
        counts = torch.zeros(3, device=self.accelerator.device)
        if self.unread:
            losses, logits, labels = zip(*self.unread, strict=True)
            sizes = torch.tensor([len(batch) for batch in labels], device=counts.device)
            correct = num_correct(torch.cat(logits), torch.cat(labels), self.problem_type)
            counts = torch.stack([(torch.stack(losses) * sizes).sum(), correct, sizes.sum()])
        self.unread.clear()
        loss_sum, num_right, seen = self.accelerator.reduce(counts, reduction="sum").tolist()
        state = self.state
        state.loss_sum, state.correct = state.loss_sum + loss_sum, state.correct + round(num_right)
        state.seen, state.num_texts = state.seen + round(seen), state.num_texts + round(seen)
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
        state, num_batches = self.state, len(self.sampler) + self.sampler.start_batch
        loss, accuracy = state.loss_sum / state.seen, state.correct / state.seen
        self.record({"loss": loss, "train_accuracy": accuracy, "learning_rate": float(self.schedule.get_last_lr()[0])})
        self.progress.write(
            f"epoch {state.epoch + 1} | {state.batch:>5}/{num_batches} batches | loss {loss:.3f} "
            f"| {self.running_accuracy()}"
        )

    def evaluate(self) -> None:
        """Measure the validation split, and keep the weights if they are the best so far."""
        if not self.evaluates:
            return
        state = self.state
        logits, labels = predict_split(self.model, self.loaders["validation"], self.accelerator)
        self.model.train()
        metrics = compute_metrics(logits, labels, self.label_names, self.problem_type)
        metric = metrics[self.main_metric]
        self.record({f"validation_{self.main_metric}": metric, "validation_loss": metrics["loss"]})
        self.progress.write(f"step {state.step} | validation {self.main_metric} {metric:.4f}")
        self.keep_if_best(metric)

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
        state, num_train_examples = self.state, len(self.loaders["train"].dataset)  # type: ignore[arg-type]  # sized
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


def print_summary(results: dict[str, Any], folder: str, seconds: float) -> None:
    """Print what came out, where it lies and how to load it."""
    test = "no test split"
    if results["num_test_examples"] and results["problem_type"] == "regression":
        test = f"R2 {results['test_r2']:.3f}, mean absolute error {results['test_mae']:.3f}"
    elif results["num_test_examples"]:
        test = f"{100 * results['test_accuracy']:.2f} % accuracy, {100 * results['test_macro_f1']:.2f} % macro F1"
    if results["num_test_examples"]:
        test += f" on {results['num_test_examples']:,} rows"
    teacher = ""
    if "teacher_accuracy" in results:
        accuracy, agreement = (100 * results[name] for name in ("teacher_accuracy", "teacher_agreement"))
        teacher = f"\nTeacher:  {accuracy:.2f} % accuracy; teacher and student agree on {agreement:.2f} % of the rows"
    size = (Path(folder) / "model.safetensors").stat().st_size / 1e6
    print(
        f"""
Test:     {test}{teacher}
Training: {results["train_runtime"]:.1f} s, {results["train_samples_per_second"]:,.0f} texts a second, \
{results["epoch"]:g} epochs of {results["num_train_examples"]:,} rows
Written:  {folder} ({size:.1f} MB of weights), {seconds:.1f} s in all

Load it with
    import rnn_hf
    from transformers import pipeline
    classify = pipeline("text-classification", model="{folder}")"""
    )


def push_results(args: TrainArguments) -> None:
    """Push the finished folder to the Hub; a refusal leaves it as it is."""
    name = str(args.hub_model_id)
    try:
        address = push_folder(args.output_dir, name, private=args.hub_private_repo, revision=args.hub_revision)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"The model is whole in {args.output_dir!r}, but it was not pushed: {one_line(error)} "
            f"`python scripts/push_to_hub.py {args.output_dir} {name}` tries again."
        ) from error
    print(f"Pushed:   {address}")


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
    accelerator.print(
        f"{len(sampler.lengths):,} training texts in {len(sampler):,} batches, {len(tokenizer):,} words; "
        f"{100 * padding_share(sampler.lengths, sampler):.1f} % of the positions are padding"
    )
    steps_per_epoch = math.ceil(len(loaders["train"]) / args.gradient_accumulation_steps)
    num_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_per_epoch)
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
    if args.resume_from_checkpoint is not None:
        run.resume(open_checkpoint(Path(args.output_dir), args.resume_from_checkpoint, accelerator.print))
    if args.report_to != "none":
        accelerator.init_trackers("rnn_hf", config={name: str(value) for name, value in recipe.items()})
    if args.overwrite_output_dir and accelerator.is_main_process:
        shutil.rmtree(Path(args.output_dir) / CHECKPOINTS, ignore_errors=True)
    return run


def finish(
    run: Run, tokenizer: PreTrainedTokenizerBase, results: dict[str, Any], started: float, script: str = "train.py"
) -> None:
    """Write and show what came out, let go of the other processes, and push the folder if that was asked for.

    Args:
        run: The run, at its end.
        tokenizer: The model's tokenizer.
        results: What `all_results.json` will hold.
        started: When the script began, by `time.perf_counter`.
        script: Its name, which a line about an error begins with.
    """
    is_main_process = run.accelerator.is_main_process
    if is_main_process:
        model: RNNForSequenceClassification = run.bare_model  # type: ignore[assignment]  # whatever it was wrapped in
        write_results(model, tokenizer, results, run.recipe)
        print_summary(results, run.args.output_dir, time.perf_counter() - started)
    run.end()
    if run.args.push_to_hub and is_main_process:
        with user_errors(script):
            push_results(run.args)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, evaluate and write a model; return what `all_results.json` holds."""
    started = time.perf_counter()
    with user_errors("train.py"):
        parser = ScriptParser((ModelArguments, DataArguments, TrainArguments), description=__doc__)
        (model_args, data_args, args), given = parser.parse(sys.argv[1:] if argv is None else argv)
        accelerator = begin(args)
        prepared = prepare(model_args, data_args, args, given)
        run = create_run(prepared, args, accelerator)

    run.train()
    run.finish_weights()
    results = run.results()
    finish(run, prepared.tokenizer, results, started)
    return results


if __name__ == "__main__":
    main()
