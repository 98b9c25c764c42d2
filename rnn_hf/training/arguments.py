"""The arguments of training: every field is a flag, a key of a recipe and a keyword of `TextClassifier.train`.

The names are those of `transformers.TrainingArguments` and of `RNNConfig` if these have one.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from rnn_hf.argument_fields import CheckedArguments, flag, path_flag
from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.sources import DATASET_HELP, DELIMITER_HELP, ENCODING_HELP, TEXT_COLUMNS_HELP
from rnn_hf.data.tokenizer_training import TokenizerType

from .model_arguments import LanguageModelArguments, ModelArguments

OptimizerName = Literal[
    "adam", "adamw_torch", "adamw_torch_fused", "lazy_adam", "lazy_adamw", "adagrad", "rmsprop", "sgd"
]
SchedulerName = Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial"]
IntervalStrategy = Literal["no", "steps", "epoch"]
SaveDtype = Literal["float32", "float16", "bfloat16"]
SamplingStrategy = Literal["group_by_length", "random"]
DistillationLossName = Literal["kl", "mse"]

# Flags that `--help` shows first, in all training jobs
MOST_USED = (
    "dataset_name", "train_file", "validation_file", "text_column_names", "output_dir", "overwrite_output_dir",
)  # fmt: skip
# Arguments of `rnn-hf train` that other jobs do not use
OF_STREAMS = ("streaming", "shuffle_buffer_size")
FURTHER_TRAININGS = ("tune_minutes", "train_on_all_rows", "ensemble_size")
NOT_FOR_TRAINER = (
    *OF_STREAMS, *FURTHER_TRAININGS, "settings_from_data", "gradual_unfreezing", "freeze_embeddings_epochs",
    "temperature_scaling", "tune_thresholds",
)  # fmt: skip
ONLY_FOR_CLASSIFIERS = (
    "backward_model_name_or_path", "class_weights", "label_smoothing_factor", "gradual_unfreezing",
    "temperature_scaling", "tune_thresholds", "train_sampling_strategy", "dataloader_num_workers", *FURTHER_TRAININGS,
)  # fmt: skip


def is_positive_number(word: str) -> bool:
    """Return whether a word is a finite number above 0."""
    try:
        return 0 < float(word) < math.inf
    except ValueError:
        return False


@dataclass(kw_only=True)
class RowArguments(CheckedArguments):
    """Sources of the rows of the splits."""

    group: ClassVar[str] = "data"

    dataset_name: str | None = path_flag(None, DATASET_HELP)
    dataset_config_name: str | None = flag(None, "Configuration of the dataset.")
    train_file: str | None = path_flag(
        None, "Training rows: .csv, .tsv, .jsonl or .json, optionally with .gz, .bz2 or .zst after it; or .parquet."
    )
    validation_file: str | None = path_flag(None, "Validation rows, in one of the same formats.")
    test_file: str | None = path_flag(None, "Test rows, in one of the same formats.")
    text_column_names: list[str] | None = flag(None, TEXT_COLUMNS_HELP)
    label_column_name: str = flag("label", "Column of the labels.")
    delimiter: str | None = flag(None, DELIMITER_HELP)
    encoding: str | None = flag(None, ENCODING_HELP)
    validation_size: float = flag(
        0.05, "Share of training rows to hold out if there is no validation split.", at_least=0, below=1
    )


@dataclass(kw_only=True)
class DataArguments(RowArguments):
    """Sources of texts and labels, and how a text becomes tokens."""

    problem_type: ProblemType | None = flag(
        None,
        "Type of the problem. Default: inferred from the labels, which are classes, lists of classes, or numbers with "
        "a decimal point.",
    )
    clean_text: bool = flag(False, "Whether to decode HTML entities and remove tags and stray backslashes.")
    max_train_samples: int | None = flag(
        None, "Maximum number of training rows: a random sample or, with `streaming`, the first ones.", at_least=1
    )
    streaming: bool = flag(
        False,
        "Whether to read the training rows, from the Hub or files, while training, in memory that does not grow with "
        "their number; needs `max_steps`.",
    )
    shuffle_buffer_size: int = flag(
        50_000, "Number of rows that `streaming` holds in memory to shuffle them and group them by length.", at_least=1
    )
    tokenizer_name_or_path: str | None = path_flag(None, "Tokenizer. Default: one trained on the training rows.")
    tokenizer_type: TokenizerType = flag("word", "Type of a tokenizer trained here: words or subwords.")
    min_frequency: int = flag(1, "Minimum number of occurrences of a word in the vocabulary.", at_least=1)
    max_length: int = flag(512, "Maximum number of tokens in a text; longer texts are truncated.", at_least=1)
    word_vectors: str | None = path_flag(
        None,
        "Pretrained word vectors: a file (GloVe text, word2vec text or binary, fastText `.vec` or `.bin`), or the "
        "folder or Hub repository of a model2vec model, any transformers model or a model of this package; PCA "
        "reduces those wider than `embedding_size`.",
    )
    max_extra_words: int = flag(
        50_000,
        "Maximum number of words that `word_vectors` adds to a vocabulary of words trained here, on top of "
        "`vocab_size`; 0 adds none.",
        at_least=0,
    )

    @property
    def has_files(self) -> bool:
        """Whether the rows come from files rather than from a dataset."""
        return any((self.train_file, self.validation_file, self.test_file))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset_name is not None and self.has_files:
            raise ValueError("`dataset_name` and files (`train_file`) are mutually exclusive. Drop one of them.")
        if self.tokenizer_name_or_path is not None and self.tokenizer_type != "word":
            raise ValueError("`tokenizer_type` and `tokenizer_name_or_path` are mutually exclusive. Drop one of them.")


@dataclass(kw_only=True)
class TrainArguments(CheckedArguments):
    """How the model is trained."""

    group: ClassVar[str] = "training"

    output_dir: str | None = path_flag(None, "Folder for the model, its results and its checkpoints.", "output")
    overwrite_output_dir: bool = flag(False, "Whether to replace an earlier run in that folder.", "output")
    model_name_or_path: str | None = path_flag(
        None, "Checkpoint of this package that training starts from. Default: new weights."
    )
    backward_model_name_or_path: str | None = path_flag(
        None,
        "Language model that reads texts backwards, with the word vectors of `model_name_or_path`: together they "
        "become a bidirectional encoder (Howard and Ruder, 2018, train a classifier on each).",
    )
    per_device_train_batch_size: int = flag(128, "Training batch size per process.", at_least=1)
    per_device_eval_batch_size: int = flag(256, "Evaluation batch size per process.", at_least=1)
    learning_rate: float = flag(4e-3, "Peak learning rate.", above=0)
    num_train_epochs: float = flag(3.0, "Number of passes over the training rows.", above=0)
    max_steps: int = flag(-1, "Number of optimizer steps; -1 follows `num_train_epochs`.", at_least=-1)
    warmup_steps: float = flag(0.1, "Number of warmup steps or, below 1, their share of all steps.", at_least=0)
    lr_scheduler_type: SchedulerName = flag("linear", "Schedule of the learning rate.")
    optim: OptimizerName = flag(
        "lazy_adamw", "Optimizer; the `lazy` ones touch only the word vectors that are in the batch."
    )
    layer_learning_rate_decay: float = flag(
        1.0, "Ratio of a layer's learning rate to that of the layer above it.", above=0, at_most=1
    )
    gradual_unfreezing: bool = flag(
        False,
        "Whether the first epoch trains only the classifier, and each further epoch one more layer, from the top.",
    )
    weight_decay: float = flag(0.0, "Weight decay of matrices; biases have none.", at_least=0)
    adam_beta1: float = flag(0.9, "Decay rate of Adam's first moment.", at_least=0, below=1)
    adam_beta2: float = flag(0.999, "Decay rate of Adam's second moment.", at_least=0, below=1)
    adam_epsilon: float = flag(1e-8, "Epsilon of Adam.", above=0)
    max_grad_norm: float = flag(1.0, "Norm to which gradients are clipped; 0 turns clipping off.", at_least=0)
    skip_nonfinite_steps: bool = flag(
        False, "Whether to skip a step whose gradient is NaN or infinite, rather than end the run."
    )
    gradient_accumulation_steps: int = flag(1, "Number of batches per optimizer step.", at_least=1)
    label_smoothing_factor: float = flag(
        0.0, "Share of each label that is spread over all classes.", at_least=0, below=1
    )
    class_weights: list[str] | None = flag(
        None, "Weight of each class in the training loss, or `balanced`, which gives rare classes more weight."
    )
    freeze_embeddings_epochs: int = flag(
        0, "Number of epochs, from the first, in which word vectors are frozen; -1 freezes them in all.", at_least=-1
    )
    train_sampling_strategy: SamplingStrategy = flag(
        "group_by_length", "Whether batches group texts of similar length or are drawn at random."
    )
    seed: int = flag(
        42, "Random seed of weights, batches, dropout and the validation split.", at_least=0, at_most=2**32 - 1
    )
    bf16: bool = flag(False, "Whether to compute in bfloat16 where it is safe.", "distributed")
    use_cpu: bool = flag(False, "Whether to use only the CPU, which several processes on a CPU need.", "distributed")
    eval_strategy: IntervalStrategy = flag("epoch", "When to evaluate on the validation split.")
    eval_steps: int = flag(500, "Number of steps between evaluations with `eval_strategy=steps`.", at_least=1)
    load_best_model_at_end: bool = flag(True, "Whether to keep the best weights on validation rows, or the last.")
    early_stopping_patience: int | None = flag(
        None, "Number of evaluations without a better validation score after which training stops.", at_least=1
    )
    save_strategy: IntervalStrategy = flag("no", "When to save a checkpoint of the run.", "output")
    save_steps: int = flag(
        500, "Number of steps between checkpoints with `save_strategy=steps`.", "output", at_least=1
    )
    settings_from_data: bool = flag(
        True,
        "Whether flags that you leave out are chosen from the data; `false` uses the fixed defaults, which `--help` "
        'lists as "otherwise".',
    )
    tune_minutes: float | None = flag(
        None,
        "Minutes for the whole run, in which it tries settings around the chosen ones and keeps the best; flags that "
        "you give stay as they are. Needs `rnn-hf[tune]`.",
        above=0,
    )
    train_on_all_rows: bool = flag(
        False, "Whether to train again on all rows after the validation rows have judged the first training."
    )
    ensemble_size: int = flag(
        1,
        "Networks that are trained from different seeds and joined into one, which is more accurate and larger.",
        at_least=1,
        at_most=16,
    )
    tune_thresholds: bool = flag(
        False, "Whether the threshold of each of several labels is the one with the best F1 on the validation split."
    )
    temperature_scaling: bool = flag(
        False, "Whether the final logits are divided by a temperature fitted on the validation split."
    )
    save_dtype: SaveDtype = flag(
        "float32", "Data type that the final weights are rounded to, tested and saved in.", "output"
    )
    save_total_limit: int | None = flag(2, "Maximum number of checkpoints to keep.", "output", at_least=1)
    resume_from_checkpoint: str | None = path_flag(
        None, "Folder of the checkpoint to resume from, or `latest`.", "output"
    )
    logging_steps: int = flag(
        500, "Number of batches between two reports of loss and running accuracy.", "output", at_least=1
    )
    report_to: str = field(
        default="none",
        metadata={
            "help": "Experiment tracker of Accelerate (tensorboard, trackio, wandb, ...).",
            "group": "output",
            "metavar": "TRACKER",
        },
    )
    dataloader_num_workers: int = flag(
        0, "Number of processes that prepare batches; 0 is the training process.", "distributed", at_least=0
    )
    push_to_hub: bool = flag(False, "Whether to push the finished folder to the Hub.", "output")
    hub_model_id: str | None = flag(None, "Repository to push to, OWNER/NAME.", "output")
    hub_private_repo: bool = flag(False, "Whether a new repository is private.", "output")
    hub_revision: str | None = flag(None, "Branch to push to. Default: main.", "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.push_to_hub and self.hub_model_id is None:
            raise ValueError("`push_to_hub` needs a repository. Pass `hub_model_id=OWNER/NAME`.")
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise ValueError("`early_stopping_patience` needs evaluations. Set `eval_strategy=epoch` or `steps`.")
        if self.early_stopping_patience is not None and not self.load_best_model_at_end:
            raise ValueError("`early_stopping_patience` needs `load_best_model_at_end=true`.")
        if self.class_weights is not None and self.class_weights != ["balanced"]:
            for weight in self.class_weights:
                if not is_positive_number(weight):
                    raise ValueError(f"`class_weights` must be `balanced` or numbers above 0, got {weight!r}.")
        if self.backward_model_name_or_path is not None and self.model_name_or_path is None:
            raise ValueError(
                "`backward_model_name_or_path` needs a language model that reads forwards. Pass `model_name_or_path`."
            )
        if self.max_steps == 0:
            raise ValueError("`max_steps` must be -1 or at least 1, got 0.")


@dataclass(kw_only=True)
class LanguageModelTrainArguments(TrainArguments):
    """How a language model is trained."""

    per_device_train_batch_size: int = flag(
        32, "Number of contiguous streams of text that a process reads in parallel.", at_least=1
    )
    per_device_eval_batch_size: int = flag(32, "Number of streams per process in evaluation.", at_least=1)
    bptt: int = flag(70, "Tokens of each stream in a batch: the length of backpropagation through time.", at_least=1)
    num_train_epochs: float = flag(10.0, "Number of passes over the training texts.", above=0)
    learning_rate: float = flag(3e-3, "Peak learning rate.", above=0)
    lr_scheduler_type: SchedulerName = flag("cosine", "Schedule of the learning rate.")
    optim: OptimizerName = flag(
        "adamw_torch_fused",
        "Optimizer; the `lazy` ones are not for language models, whose output layer needs all words.",
    )
    max_extra_words: int = flag(
        0,
        "Maximum number of words that `word_vectors` adds to the vocabulary; training never teaches the model to "
        "predict them.",
        at_least=0,
    )
    num_generated_texts: int = flag(3, "Number of texts to generate for the model card.", "output", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optim.startswith("lazy_"):
            raise ValueError(
                f"`optim={self.optim}` spares word vectors that a language model's output layer needs. "
                "Pass `optim=adamw_torch_fused`."
            )
        self.refuse(ONLY_FOR_CLASSIFIERS, "classifiers")


@dataclass(kw_only=True)
class DistillationArguments(CheckedArguments):
    """The teachers of a model, and how it learns from them."""

    group: ClassVar[str] = "distillation"

    teacher_name_or_path: list[str] = field(
        metadata={
            "help": "Teachers, each a folder or a name on the Hub; several are combined by their mean probabilities.",
            "is_path": True,
        }
    )
    distillation_loss: DistillationLossName = flag(
        "kl",
        "`kl` is the divergence from the teacher's probabilities at `temperature` (Hinton et al., 2015), `mse` the "
        "mean squared error of its logits (Tang et al., 2019).",
    )
    temperature: float = flag(2.0, "Divisor of the logits of teacher and student; `mse` has none.", above=0)
    alpha: float = flag(0.9, "Weight of the teacher in the loss; the labels have the rest.", at_least=0, at_most=1)
    unlabelled_file: str | None = path_flag(
        None,
        "Further texts, without labels, from which the student learns the teacher's answers: a file like "
        "`train_file`, or .txt with one text a line.",
    )
    num_noised_copies: int = flag(
        0,
        "Number of noised copies of each text that the teacher also labels (Tang et al., 2019).",
        at_least=0,
    )
    mask_probability: float = flag(
        0.1,
        "Share of words in a noised copy that are replaced by the mask or the unknown word.",
        at_least=0,
        at_most=1,
    )
    ngram_probability: float = flag(
        0.25, "Share of noised copies of which only one to five words in a row are kept.", at_least=0, at_most=1
    )
    per_device_teacher_batch_size: int = flag(32, "Batch size of a teacher per process.", at_least=1)
    trust_remote_code: bool = flag(False, "Whether to run code from the folder or repository of a teacher.")


@dataclass(kw_only=True)
class ClassifierRunArguments(TrainArguments, DataArguments, ModelArguments):
    """All arguments of `rnn-hf train`."""

    job: ClassVar[str] = "train"
    most_used: ClassVar[tuple[str, ...]] = (
        *MOST_USED, "label_column_name", "test_file", "word_vectors", "tune_minutes",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse({*FURTHER_TRAININGS}.intersection(self.hidden), "`rnn-hf train`")
        if self.streaming and (self.tune_minutes is not None or self.ensemble_size > 1):
            name = "ensemble_size" if self.tune_minutes is None else "tune_minutes"
            raise ValueError(f"`{name}` reads the rows many times, a stream only once. Leave out `streaming`.")
        if self.tune_minutes is not None and self.resume_from_checkpoint not in (None, "latest"):
            raise ValueError("`tune_minutes` can only resume its own search. Pass `resume_from_checkpoint=latest`.")


@dataclass(kw_only=True)
class TrainerRunArguments(ClassifierRunArguments):
    """The arguments of `rnn-hf train`, except for what transformers' `Trainer` cannot do."""

    hidden: ClassVar[tuple[str, ...]] = NOT_FOR_TRAINER

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse(set(NOT_FOR_TRAINER) - {"shuffle_buffer_size", "settings_from_data"}, "`rnn-hf train`")
        self.settings_from_data = False  # what is chosen may be among these


@dataclass(kw_only=True)
class DistillationRunArguments(DistillationArguments, ClassifierRunArguments):
    """All arguments of `rnn-hf distill`."""

    job: ClassVar[str] = "distill"
    most_used: ClassVar[tuple[str, ...]] = (
        *MOST_USED, "label_column_name", "test_file", "word_vectors", "teacher_name_or_path",
    )  # fmt: skip
    hidden: ClassVar[tuple[str, ...]] = (*FURTHER_TRAININGS, *OF_STREAMS)


@dataclass(kw_only=True)
class LanguageModelRunArguments(LanguageModelTrainArguments, DataArguments, LanguageModelArguments):
    """All arguments of `rnn-hf train-language-model`."""

    job: ClassVar[str] = "train-language-model"
    most_used: ClassVar[tuple[str, ...]] = (
        *MOST_USED, "per_device_train_batch_size", "num_train_epochs", "max_steps", "bf16",
    )  # fmt: skip
    hidden: ClassVar[tuple[str, ...]] = (*ONLY_FOR_CLASSIFIERS, *OF_STREAMS, "settings_from_data")


RunArguments = ClassifierRunArguments | DistillationRunArguments | LanguageModelRunArguments


def adds_extra_words(args: RunArguments) -> bool:
    """Return whether a run trains a word tokenizer, to which `word_vectors` adds words."""
    trains_words = args.tokenizer_type == "word" and not (args.tokenizer_name_or_path or args.model_name_or_path)
    return trains_words and args.word_vectors is not None and args.max_extra_words > 0
