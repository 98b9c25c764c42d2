"""What the training scripts begin with: arguments that were checked, encoded rows, a tokenizer and a model."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration, PartialState
from accelerate.utils import is_torch_xla_available, set_seed
from datasets import Dataset, DatasetDict
from torch.utils.data import DataLoader
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from rnn_hf import (
    RNNConfig,
    RNNForCausalLM,
    RNNForSequenceClassification,
    RNNForTokenClassification,
    RNNModel,
    RNNPreTrainedModel,
)
from rnn_hf.commands.parser import check_output_folder
from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.batching import (
    BatchSampler,
    EncodedRows,
    LengthGroupedBatchSampler,
    PaddingCollator,
    RandomBatchSampler,
    SortedBatchSampler,
)
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.labels import label_names_of, problem_type_of
from rnn_hf.data.sources import DEFAULT_DATASET, iterate_texts, load_text_dataset
from rnn_hf.data.streaming import PoolSampler, StreamedRows, TextStream, load_text_stream
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.data.tokenizing import set_training_length
from rnn_hf.data.word_vectors import initialize_embeddings, read_model_vectors, read_word_vectors
from rnn_hf.hub import check_hub_access
from rnn_hf.safe_loading import CONFIG, check_model, check_token_ids, read_tokenizer
from rnn_hf.training.arguments import (
    DataArguments,
    ModelArguments,
    TrainArguments,
    as_recipe,
)
from rnn_hf.training.losses import Loss, class_weights_of, create_loss

# Settings that a checkpoint does not fix; all other fields of its configuration stay when training goes on from it
CHANGEABLE = {"embedding_dropout", "hidden_dropout_prob", "classifier_dropout", "word_dropout"}

# Those that may also be chosen for an encoder that had another head
PART_OF_THE_HEAD = {"classifier_pooling", "concat_embedding_mean"}


# Two word vectors are the same if no number of theirs differs by more; rounding to half precision is less
SAME_VECTORS = 1e-3

# Ways of `accelerate launch` to train that would be passed over in silence, change the results, or write half a model
FOREIGN_LAUNCHES = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}


def check_launch(bf16: bool = False, gradient_accumulation_steps: int = 1) -> None:
    """Refuse settings of `accelerate launch` and its configuration file that the flags of a script do not share.

    Args:
        bf16: Whether the script computes in bfloat16.
        gradient_accumulation_steps: Batches that the script takes for a step.

    Raises:
        ValueError: If the environment asks for something else.
    """
    for variable, name in FOREIGN_LAUNCHES.items():
        if os.environ.get(variable, "false").lower() == "true":
            raise ValueError(
                f"The launcher asks for {name} (`{variable}`), but the scripts are data parallel: models of a few "
                "megabytes need no sharding. Launch with `torchrun --nproc_per_node N`."
            )
    if is_torch_xla_available():
        raise ValueError("Accelerate would train on XLA, which the scripts do not support. Set `USE_TORCH_XLA=0`.")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if precision not in ("no", "bf16" if bf16 else "no"):
        raise ValueError(
            f"The launcher asks for mixed precision in {precision}, but the script computes in "
            f"{'bfloat16' if bf16 else 'float32'}. Launch with `--mixed_precision no`; `--bf16` is a flag of training."
        )
    steps = os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps not in ("1", str(gradient_accumulation_steps)):
        raise ValueError(
            f"The launcher asks for {steps} batches in a step, but the script takes {gradient_accumulation_steps}. "
            f"Pass `--gradient_accumulation_steps {steps}` to the script, not to the launcher."
        )
    backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend != "no":
        raise ValueError(
            f"The launcher asks for torch.compile ({backend}), which compiles anew for every length of a batch. "
            "Launch with `--dynamo_backend no`."
        )


def create_accelerator(
    use_cpu: bool, bf16: bool = False, gradient_accumulation_steps: int = 1, **settings: Any
) -> Accelerator:
    """Return the accelerator of this process, or stop where the launcher and the script disagree.

    Args:
        use_cpu: Whether to stay on the CPU.
        bf16: Whether to compute in bfloat16.
        gradient_accumulation_steps: Batches in a step.
        settings: Passed on to `Accelerator`.

    Raises:
        ValueError: If the launcher asks for something that the script does not do, or started more processes than work
            together.
    """
    check_launch(bf16, gradient_accumulation_steps)
    # the variable would win over the argument
    os.environ.pop("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", None)
    accelerator = Accelerator(
        cpu=use_cpu,
        mixed_precision="bf16" if bf16 else "no",
        gradient_accumulation_steps=gradient_accumulation_steps,
        **settings,
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ValueError(
            f"The launcher started {launched} processes, but Accelerate sees {accelerator.num_processes}: "
            "they would work separately. Pass `--use_cpu` where there are not as many GPUs."
        )
    return accelerator


def start_accelerator(args: TrainArguments) -> Accelerator:
    """Return the accelerator of a run of training, or stop where the launcher and it disagree."""
    accelerator = create_accelerator(
        args.use_cpu,
        args.bf16,
        args.gradient_accumulation_steps,
        log_with=None if args.report_to == "none" else args.report_to,
        project_dir=args.output_dir,
        # every batch is one of like lengths, shared out, so that no process waits for another's longer texts
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    if args.report_to != "none" and not accelerator.log_with:
        raise ValueError(
            f"`--report_to {args.report_to}` needs the package {args.report_to}. Install it, or leave it out."
        )
    return accelerator


def check_output_dir(args: TrainArguments) -> None:
    """Refuse a folder that holds something else than the run to be resumed, unless told to overwrite it."""
    folder = Path(args.output_dir)
    check_output_folder(folder)
    goes_on = args.overwrite_output_dir or args.resume_from_checkpoint is not None
    if not goes_on and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"The folder {str(folder)!r} is not empty. Pass `--overwrite_output_dir`, "
            "`--resume_from_checkpoint latest`, or another `--output_dir`."
        )


def begin(args: TrainArguments) -> Accelerator:
    """Check what can be checked before any data is read, and return the accelerator of this process, seeded."""
    check_output_dir(args)
    if args.push_to_hub:
        check_hub_access(str(args.hub_model_id))
    accelerator = start_accelerator(args)
    set_seed(args.seed)
    return accelerator


def load_data(data_args: DataArguments, args: TrainArguments, label_names: Sequence[str] | None) -> DatasetDict:
    """Return the splits, with the classes of a checkpoint where the dataset has the same."""
    if data_args.streaming:
        raise ValueError("`--streaming` is for `train.py`. Leave it out.")

    def load(names: Sequence[str] | None) -> DatasetDict:
        return load_text_dataset(
            **arguments_of(data_args), label_names=names, validation_size=data_args.validation_size, seed=args.seed
        )

    dataset = load(None)
    if "train" not in dataset:
        raise ValueError(f"The dataset has no training split (splits: {', '.join(dataset)}). Pass `--train_file`.")
    check_splits(problem_type_of(dataset["train"]), "validation" in dataset, args, "--validation_size 0.05")
    return load(label_names) if is_reordering(label_names_of(dataset["train"]), label_names) else dataset


def arguments_of(data_args: DataArguments) -> dict[str, Any]:
    """Return what `load_text_dataset` and `load_text_stream` are both given."""
    return {
        "dataset_name": data_args.dataset_name,
        "dataset_config_name": data_args.dataset_config_name,
        "train_file": data_args.train_file,
        "validation_file": data_args.validation_file,
        "test_file": data_args.test_file,
        "text_column_names": data_args.text_column_names,
        "label_column_name": data_args.label_column_name,
        "problem_type": data_args.problem_type,
        "clean_text": data_args.clean_text,
        "max_train_samples": data_args.max_train_samples,
    }


def is_reordering(names: list[str], known: Sequence[str] | None) -> bool:
    """Return whether the classes of a checkpoint, if there is one, are the same in another order."""
    return known is not None and names != list(known) and sorted(names) == sorted(known)


def check_splits(problem_type: ProblemType, has_validation: bool, args: TrainArguments, remedy: str) -> None:
    """Refuse what needs a validation split or another problem, and would not have it.

    Args:
        problem_type: What the labels ask for.
        has_validation: Whether there is a validation split.
        args: How the model is trained.
        remedy: The flag that would give one.
    """
    if not has_validation and args.early_stopping_patience is not None:
        raise ValueError(f"`--early_stopping_patience` needs a validation split. Pass `{remedy}`.")
    if args.temperature_scaling:
        if problem_type != "single_label_classification":
            raise ValueError("`--temperature_scaling` is for one class a text. Leave it out.")
        if not has_validation:
            raise ValueError(f"`--temperature_scaling` needs a validation split. Pass `{remedy}`.")


def open_stream(
    data_args: DataArguments, args: TrainArguments, label_names: Sequence[str] | None
) -> tuple[TextStream, DatasetDict]:
    """Return the training rows as a stream, with the classes of a checkpoint if there is one, and the other splits."""
    if args.max_steps < 0:
        raise ValueError(
            "`--streaming` needs `--max_steps`: how many rows a stream has is not known before it was read."
        )
    if args.class_weights == ["balanced"]:
        raise ValueError("`--class_weights balanced` needs to count the labels of a stream. Pass a number for each.")
    if args.dataloader_num_workers:
        raise ValueError("`--dataloader_num_workers` cannot share a stream. Leave it out with `--streaming`.")

    def load(names: Sequence[str] | None) -> tuple[TextStream, DatasetDict]:
        return load_text_stream(**arguments_of(data_args), label_names=names)

    stream, others = load(None)
    if is_reordering(label_names_of(stream), label_names):
        stream, others = load(label_names)
    check_splits(problem_type_of(stream), "validation" in others, args, "--validation_file")
    if "validation" not in others and args.eval_strategy != "no":
        PartialState().print("The stream has no validation split, so nothing is evaluated before the end.")
    return stream, others


def load_tokenizer(
    texts: Callable[[], Iterator[str]],
    model_args: ModelArguments,
    data_args: DataArguments,
    args: TrainArguments,
    config: RNNConfig | None,
    has_end_of_text: bool = False,
) -> PreTrainedTokenizerBase:
    """Return the checkpoint's tokenizer, the one that was named, or one trained on the training rows.

    Args:
        texts: Yields the texts of the training rows.
        model_args: Size of a vocabulary that is trained here.
        data_args: What kind of tokenizer, and how long texts may be.
        args: The checkpoint, if training goes on from one.
        config: The checkpoint's configuration.
        has_end_of_text: Whether one that is trained here has a token that ends a text.
    """
    name = data_args.tokenizer_name_or_path or args.model_name_or_path
    if name is None:
        return train_tokenizer(
            texts(),
            tokenizer_type=data_args.tokenizer_type,
            vocab_size=model_args.vocab_size,
            min_frequency=data_args.min_frequency,
            max_length=data_args.max_length,
            has_end_of_text=has_end_of_text,
        )
    tokenizer = read_tokenizer(name)
    check_token_ids(tokenizer, len(tokenizer) if config is None else max(config.vocab_size, len(tokenizer)))
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
    config: RNNConfig | None,
) -> RNNForSequenceClassification:
    """Return a new model, or the checkpoint's, of which this is the configuration, with the labels of the data."""
    labels: dict[str, Any] = {
        "problem_type": problem_type,
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: index for index, name in enumerate(label_names)},
    }
    settings = asdict(model_args)
    if config is None or args.model_name_or_path is None:
        settings["vocab_size"] = len(tokenizer)
        return RNNForSequenceClassification(
            RNNConfig(
                **settings,
                **labels,
                pad_token_id=tokenizer.pad_token_id,
                unk_token_id=tokenizer.unk_token_id,
            )
        )
    architecture = (config.architectures or ["?"])[0]
    if architecture == RNNForTokenClassification.__name__:
        raise ValueError(f"{args.model_name_or_path!r} is a `{architecture}`, which labels tokens and not texts.")
    is_language_model = architecture == RNNForCausalLM.__name__
    changeable = CHANGEABLE | PART_OF_THE_HEAD if is_language_model else CHANGEABLE
    check_checkpoint(config, args, settings, given, changeable, len(tokenizer))
    if config.reads_backward:
        raise ValueError(
            f"{args.model_name_or_path!r} reads texts backwards. Pass it as `--backward_model_name_or_path`, beside "
            "one that reads them forwards."
        )
    if args.backward_model_name_or_path is not None:
        if not is_language_model:
            raise ValueError(f"{args.model_name_or_path!r} must be a language model, got a `{architecture}`.")
        return create_bidirectional_model(config, args, labels, {name: settings[name] for name in given & changeable})
    if is_language_model:
        PartialState().print(f"{args.model_name_or_path} is a language model: its encoder gets a new classifier.")
    model: RNNForSequenceClassification = RNNForSequenceClassification.from_pretrained(
        args.model_name_or_path,
        use_safetensors=True,
        ignore_mismatched_sizes=config.num_labels != len(label_names),
        # training goes on from weights that were divided, and leaves nothing of that
        calibration_temperature=1.0,
        **labels,
        **{name: settings[name] for name in given & changeable},
    )
    return model


def create_bidirectional_model(
    config: RNNConfig, args: TrainArguments, labels: dict[str, Any], settings: dict[str, Any]
) -> RNNForSequenceClassification:
    """Return a classifier that begins as two language models, of which one reads the texts backwards.

    Args:
        config: Configuration of the one that reads forwards.
        args: The names of both.
        labels: What the configuration says of the labels.
        settings: What else it says.

    Raises:
        ValueError: If the two do not fit together.
    """
    names = str(args.model_name_or_path), str(args.backward_model_name_or_path)
    backward_config = check_model(names[1], RNNForCausalLM)
    if not backward_config.reads_backward:
        raise ValueError(f"{names[1]!r} reads texts forwards. Train it with `--reads_backward true`.")
    if config.num_hidden_layers != 1:
        raise ValueError(
            f"A bidirectional encoder can begin as two language models of one layer, got {config.num_hidden_layers}: "
            "a second one would read both directions of the first. Leave out `--backward_model_name_or_path`."
        )
    for name in ("cell_type", "num_hidden_layers", "hidden_size", "embedding_size", "vocab_size"):
        ours, theirs = getattr(config, name), getattr(backward_config, name)
        if ours != theirs:
            raise ValueError(f"Both language models must have the same `{name}`, got {ours} and {theirs}.")
    forward, backward = (RNNModel.from_pretrained(name, use_safetensors=True).state_dict() for name in names)
    vectors = [weights["embed_tokens.weight"].clone() for weights in (forward, backward)]
    if config.pad_token_id is not None:
        for weight in vectors:
            weight[config.pad_token_id] = 0.0
    if (vectors[0] - vectors[1]).abs().max() > SAME_VECTORS:
        raise ValueError(
            f"{names[1]!r} must have the word vectors of {names[0]!r}. "
            f"Train it with `--word_vectors {names[0]} --freeze_embeddings_epochs -1`."
        )
    of_encoder = config.to_dict() | {"bidirectional": True, "architectures": None} | labels | settings
    model = RNNForSequenceClassification(RNNConfig.from_dict(of_encoder))
    model.model.load_state_dict(forward | {f"{name}_reverse": backward[name] for name in backward if "_l0" in name})
    PartialState().print(f"{names[0]} and {names[1]} become the two directions of an encoder with a new classifier.")
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
        is_model = (Path(data_args.word_vectors) / CONFIG).exists()
        read = read_model_vectors if is_model else read_word_vectors
        vectors = read(data_args.word_vectors, tokenizer.get_vocab())
        embeddings: Any = model.get_input_embeddings()
        initialize_embeddings(embeddings.weight, vectors, padding_idx=embeddings.padding_idx)
        PartialState().print(f"{data_args.word_vectors}: {vectors}")


class Prepared(NamedTuple):
    """What a run begins with."""

    dataset: dict[str, Any]  # the encoded rows of each split
    tokenizer: PreTrainedTokenizerBase
    model: RNNForSequenceClassification
    label_names: list[str]
    problem_type: ProblemType
    recipe: dict[str, Any]
    texts: dict[str, Any]  # the rows before that


def prepare(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: TrainArguments,
    given: set[str],
    *,
    can_stream: bool = False,
) -> Prepared:
    """Return encoded rows, their tokenizer, the model, and every argument of the run as a recipe.

    Args:
        model_args: What the model is.
        data_args: What it reads.
        args: How it is trained.
        given: Flags that were given, whose values a checkpoint must not contradict.
        can_stream: Whether the training rows may be a stream: `StreamedRows` of a `TextStream`.
    """
    RNNConfig(**asdict(model_args))  # a wrong value is told before any data is read
    if data_args.dataset_name is None and not data_args.has_files:
        data_args.dataset_name = DEFAULT_DATASET
    config = None if args.model_name_or_path is None else check_model(args.model_name_or_path)
    known_labels = None if config is None else list((config.id2label or {}).values())
    with PartialState().main_process_first():  # the others read what it has cached
        texts: dict[str, Any]
        if data_args.streaming and can_stream:
            stream, others = open_stream(data_args, args, known_labels)
            tokenizer = load_tokenizer(stream.iterate_texts, model_args, data_args, args, config)
            texts = {"train": stream, **others}
            dataset = {
                "train": StreamedRows(stream, tokenizer, data_args.max_length, data_args.shuffle_buffer_size),
                **encode_dataset(others, tokenizer, data_args.max_length),
            }
        else:
            texts = load_data(data_args, args, known_labels)
            rows = texts["train"]
            tokenizer = load_tokenizer(lambda: iterate_texts(rows), model_args, data_args, args, config)
            dataset = encode_dataset(texts, tokenizer, data_args.max_length)
    label_names, problem_type = label_names_of(texts["train"]), problem_type_of(texts["train"])
    model = create_model(tokenizer, label_names, problem_type, model_args, args, given, config)
    place_word_vectors(model, tokenizer, data_args)

    # the recipe says what the model became: a checkpoint's sizes, the vocabulary that was found
    model_args = ModelArguments(**{name: getattr(model.config, name) for name in asdict(model_args)})
    recipe = as_recipe(model_args, data_args, args)
    return Prepared(dataset, tokenizer, model, label_names, problem_type, recipe, texts)


def training_loss(
    rows: Dataset | StreamedRows,
    label_names: list[str],
    problem_type: ProblemType,
    args: TrainArguments,
    device: torch.device,
) -> Loss:
    """Return the loss of the problem, smoothed and weighted as the arguments say."""
    labels = np.empty(0)
    if args.class_weights and isinstance(rows, Dataset):
        labels = np.asarray(rows.with_format("numpy")["labels"][:])
    weights = class_weights_of(args.class_weights, labels, label_names, problem_type)
    return create_loss(
        problem_type,
        label_smoothing=args.label_smoothing_factor,
        class_weights=None if weights is None else weights.to(device),
    )


def create_loader(
    rows: EncodedRows | StreamedRows,
    sampler: BatchSampler,
    pad_token_id: int,
    num_workers: int,
    accelerator: Accelerator,
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
    dataset: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    args: TrainArguments,
    accelerator: Accelerator,
) -> tuple[dict[str, DataLoader[Any]], BatchSampler]:
    """Return the prepared batches of every split, and the sampler of the training batches."""
    processes, pad_token_id = accelerator.num_processes, tokenizer.pad_token_id
    batch_size = args.per_device_train_batch_size * processes
    sampler_types = {"group_by_length": LengthGroupedBatchSampler, "random": RandomBatchSampler}
    sampler_type = sampler_types[args.train_sampling_strategy]
    rows: EncodedRows | StreamedRows
    if isinstance(dataset["train"], StreamedRows):
        rows = dataset["train"]
        train_sampler: BatchSampler = PoolSampler(rows, sampler_type, batch_size, args.seed)
    else:
        rows = EncodedRows(dataset["train"])
        train_sampler = sampler_type(rows.lengths, batch_size, args.seed)
    train_sampler.fill_last_batch = processes > 1  # every process needs its part
    loaders = {"train": create_loader(rows, train_sampler, pad_token_id, args.dataloader_num_workers, accelerator)}
    for split in (name for name in dataset if name != "train"):
        rows = EncodedRows(dataset[split])
        sampler = SortedBatchSampler(rows.lengths, args.per_device_eval_batch_size * processes)
        loaders[split] = create_loader(rows, sampler, pad_token_id, args.dataloader_num_workers, accelerator)
    return loaders, train_sampler
