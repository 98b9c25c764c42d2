"""The arguments of training: every field is a flag, a key of a recipe and a keyword of `TextClassifier.train`.

The names are those of `transformers.TrainingArguments` and of `RNNConfig` wherever these have one.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rnn_hf.argument_fields import CheckedArguments, flag, names_of, path_flag
from rnn_hf.configuration_rnn import CellType, ClassifierPooling, ProblemType, RecurrentInitializer
from rnn_hf.data.sources import DATASET_HELP, DELIMITER_HELP, ENCODING_HELP
from rnn_hf.data.tokenizer_training import TokenizerType

OptimizerName = Literal[
    "adam", "adamw_torch", "adamw_torch_fused", "lazy_adam", "lazy_adamw", "adagrad", "rmsprop", "sgd"
]
SchedulerName = Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial"]
IntervalStrategy = Literal["no", "steps", "epoch"]
SaveDtype = Literal["float32", "float16", "bfloat16"]
SamplingStrategy = Literal["group_by_length", "random"]
DistillationLossName = Literal["kl", "mse"]


def is_positive_number(word: str) -> bool:
    """Return whether a word is a finite number above 0."""
    try:
        return 0 < float(word) < math.inf
    except ValueError:
        return False


@dataclass(kw_only=True)
class ModelArguments(CheckedArguments):
    """The fields of `RNNConfig`, with its defaults; the configuration checks their ranges."""

    vocab_size: int = flag(30_000, "Most words the vocabulary may have, [PAD] and [UNK] among them.")
    embedding_size: int = flag(64, "Width of the word vectors.")
    hidden_size: int = flag(64, "Width of the state in one direction.")
    num_hidden_layers: int = flag(1, "Number of recurrent layers.")
    cell_type: CellType = flag("lstm", "The recurrent cell.")
    bidirectional: bool = flag(False, "Whether every layer also reads from the end to the start.")
    classifier_pooling: ClassifierPooling = flag("mean", "How the states of a text become one vector.")
    concat_embedding_mean: bool = flag(False, "Whether the mean of the word vectors stands beside the pooled states.")
    ngram_buckets: int = flag(0, "Buckets of a classifier's branch of hashed n-grams; 0: no such branch.")
    ngram_order: int = flag(2, "Most words in an n-gram of that branch.")
    pack_padded_sequences: bool = flag(True, "Whether padding is left out (`false`: the lesson's padded classifiers).")
    embedding_dropout: float = flag(0.3, "Dropout probability of the word vectors' entries.")
    hidden_dropout_prob: float = flag(0.0, "Dropout probability of the states between two layers.")
    classifier_dropout: float = flag(0.3, "Dropout probability of the pooled vector.")
    word_dropout: float = flag(0.3, "Share of the tokens that training replaces with the unknown word.")
    embedding_initializer_mean: float = flag(0.0, "Mean of the distribution the word vectors are drawn from.")
    embedding_initializer_range: float = flag(0.1, "Standard deviation of that distribution.")
    recurrent_initializer: RecurrentInitializer = flag("orthogonal", "How the recurrent weights are drawn.")


@dataclass(kw_only=True)
class RowArguments(CheckedArguments):
    """Where the rows of the splits come from."""

    dataset_name: str | None = path_flag(None, DATASET_HELP)
    dataset_config_name: str | None = flag(None, "Configuration of the dataset.")
    train_file: str | None = path_flag(
        None, "Training rows: .csv, .tsv, .jsonl or .json, perhaps followed by .gz, .bz2 or .zst; or .parquet."
    )
    validation_file: str | None = path_flag(None, "Validation rows, likewise.")
    test_file: str | None = path_flag(None, "Test rows, likewise.")
    text_column_names: list[str] | None = field(
        default=None, metadata={"help": "Columns of the text, joined by a blank. Default: `text`, or the only one."}
    )
    label_column_name: str = flag("label", "Column of the label.")
    delimiter: str | None = flag(None, DELIMITER_HELP)
    encoding: str | None = flag(None, ENCODING_HELP)
    validation_size: float = flag(
        0.05, "Share of the training rows cut off for validation where no such split exists.", at_least=0, below=1
    )


@dataclass(kw_only=True)
class DataArguments(RowArguments):
    """Where texts and labels come from, and how a text becomes tokens."""

    problem_type: ProblemType | None = flag(
        None,
        "What the labels ask for. Default: numbers with a decimal point, lists, or one class a text, as they are.",
    )
    clean_text: bool = flag(False, "Whether to decode HTML entities and drop tags and stray backslashes.")
    max_train_samples: int | None = flag(
        None, "Train on a random sample of this many rows; of a stream, on the first ones.", at_least=1
    )
    streaming: bool = flag(
        False,
        "Whether the training rows are read, from the Hub or files, while they are needed, in memory that does not "
        "grow with their number. Needs `max_steps`.",
    )
    shuffle_buffer_size: int = flag(
        50_000, "Rows of a stream that are in memory, shuffled and grouped by length at a time.", at_least=1
    )
    tokenizer_name_or_path: str | None = path_flag(None, "Tokenizer. Default: one trained on the training rows.")
    tokenizer_type: TokenizerType = flag("word", "What a tokenizer trained here reads: words, or pieces of words.")
    min_frequency: int = flag(1, "How often a word must occur to enter the vocabulary.", at_least=1)
    max_length: int = flag(512, "Tokens after which a text is cut off.", at_least=1)
    word_vectors: str | None = path_flag(
        None,
        "Pretrained word vectors: a file (GloVe's text, word2vec's text or binary, fastText's `.vec` or `.bin`), or "
        "the folder or Hub repository of a model2vec model, of any transformers model or of one of this family. PCA "
        "reduces those that are wider than `embedding_size`.",
    )
    max_extra_words: int = flag(
        50_000,
        "Most words that `word_vectors` adds to a vocabulary of words trained here, beside the `vocab_size` of the "
        "training rows; 0: none.",
        at_least=0,
    )

    @property
    def has_files(self) -> bool:
        """Whether the rows come from files rather than from a dataset."""
        return any((self.train_file, self.validation_file, self.test_file))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset_name is not None and self.has_files:
            raise ValueError("`dataset_name` cannot stand beside `train_file` and its like. Drop one of them.")
        if self.tokenizer_name_or_path is not None and self.tokenizer_type != "word":
            raise ValueError("`tokenizer_type` cannot stand beside `tokenizer_name_or_path`. Drop one of them.")


@dataclass(kw_only=True)
class TrainArguments(CheckedArguments):
    """How the model is trained."""

    output_dir: str | None = path_flag(None, "Folder for the model, its results and its checkpoints.")
    overwrite_output_dir: bool = flag(False, "Whether to replace another run in that folder.")
    model_name_or_path: str | None = path_flag(None, "Checkpoint of this family to go on from. Default: new weights.")
    backward_model_name_or_path: str | None = path_flag(
        None,
        "Language model that reads texts backwards, with the word vectors of the one that `model_name_or_path` "
        "names: the two become a bidirectional encoder (Howard and Ruder, 2018, train a classifier on each).",
    )
    per_device_train_batch_size: int = flag(128, "Texts per training batch and process.", at_least=1)
    per_device_eval_batch_size: int = flag(256, "Texts per evaluation batch and process.", at_least=1)
    learning_rate: float = flag(4e-3, "Highest learning rate.", above=0)
    num_train_epochs: float = flag(3.0, "How often the training rows are read.", above=0)
    max_steps: int = flag(-1, "Number of optimizer steps; -1: as `num_train_epochs` says.", at_least=-1)
    warmup_steps: float = flag(0.1, "Steps of rising learning rate; below 1, a share of all steps.", at_least=0)
    lr_scheduler_type: SchedulerName = flag("linear", "How the learning rate falls.")
    optim: OptimizerName = flag(
        "lazy_adamw", "The optimizer; the `lazy` ones spare the word vectors that are not in the batch."
    )
    layer_learning_rate_decay: float = flag(
        1.0, "What the learning rate of each layer is of that of the layer above it.", above=0, at_most=1
    )
    gradual_unfreezing: bool = flag(
        False, "Whether the first epoch trains the classifier alone, and each further one a layer more, from the top."
    )
    weight_decay: float = flag(0.0, "Weight decay of every matrix; biases have none.", at_least=0)
    adam_beta1: float = flag(0.9, "Adam's first decay rate.", at_least=0, below=1)
    adam_beta2: float = flag(0.999, "Adam's second decay rate.", at_least=0, below=1)
    adam_epsilon: float = flag(1e-8, "Adam's epsilon.", above=0)
    max_grad_norm: float = flag(1.0, "Norm to which gradients are clipped; 0: never.", at_least=0)
    skip_nonfinite_steps: bool = flag(
        False, "Whether a step whose gradient is not finite is left out. Default: it ends the run."
    )
    gradient_accumulation_steps: int = flag(1, "Batches per optimizer step.", at_least=1)
    label_smoothing_factor: float = flag(0.0, "Share of each label spread over all classes.", at_least=0, below=1)
    class_weights: list[str] | None = field(
        default=None,
        metadata={
            "help": "A number for each class, or `balanced`: it gives rare classes more weight in the training loss."
        },
    )
    freeze_embeddings_epochs: int = flag(
        0, "Epochs at the beginning in which the word vectors stay as they are; -1: all of them.", at_least=-1
    )
    train_sampling_strategy: SamplingStrategy = flag(
        "group_by_length", "Batches of texts of similar length, or drawn without regard to it."
    )
    seed: int = flag(42, "Seed of weights, batches, dropout and the validation split.", at_least=0, at_most=2**32 - 1)
    bf16: bool = flag(False, "Whether to compute in bfloat16 where it is safe.")
    use_cpu: bool = flag(False, "Whether to stay on the CPU. Several processes on a CPU need it.")
    eval_strategy: IntervalStrategy = flag("epoch", "When the validation split is evaluated.")
    eval_steps: int = flag(500, 'Steps between two evaluations with `eval_strategy="steps"`.', at_least=1)
    early_stopping_patience: int | None = flag(
        None, "Stop after this many evaluations without a better validation score.", at_least=1
    )
    save_strategy: IntervalStrategy = flag("no", "When the state of the run is saved.")
    save_steps: int = flag(500, 'Steps between two checkpoints with `save_strategy="steps"`.', at_least=1)
    settings_from_data: bool = flag(
        True,
        "Whether arguments that were left out are chosen from the rows; `false`: they have the defaults given here.",
    )
    tune_minutes: float | None = flag(
        None,
        "Minutes for the whole run, in which settings around the chosen ones are tried and the best are kept; given "
        "arguments stay. Needs `rnn-hf[tune]`.",
        above=0,
    )
    train_on_all_rows: bool = flag(
        False, "Whether a second training, on all rows, follows the one that the validation rows judge."
    )
    ensemble_size: int = flag(
        1,
        "Networks that are trained from different seeds and joined into one, which is more accurate and larger.",
        at_least=1,
        at_most=16,
    )
    tune_thresholds: bool = flag(
        False, "Whether each of several labels gets the threshold of the highest F1 on the validation split."
    )
    temperature_scaling: bool = flag(
        False, "Whether the finished logits are divided by a temperature fitted on the validation split."
    )
    save_dtype: SaveDtype = flag("float32", "Type the finished weights are rounded to, tested and saved in.")
    save_total_limit: int | None = flag(2, "Checkpoints kept, the newest ones.", at_least=1)
    resume_from_checkpoint: str | None = path_flag(None, "Folder of a checkpoint to go on from, or `latest`.")
    logging_steps: int = flag(500, "Batches between two lines of loss and running accuracy.", at_least=1)
    report_to: str = flag("none", "Experiment tracker of Accelerate (tensorboard, trackio, wandb, ...).")
    dataloader_num_workers: int = flag(0, "Processes that prepare batches; 0: the training process.", at_least=0)
    push_to_hub: bool = flag(False, "Whether to push the finished folder to the Hub.")
    hub_model_id: str | None = flag(None, "OWNER/NAME of the repository to push to.")
    hub_private_repo: bool = flag(False, "Whether a new repository is private.")
    hub_revision: str | None = flag(None, "Branch to push to. Default: main.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.push_to_hub and self.hub_model_id is None:
            raise ValueError("`push_to_hub` needs a repository. Pass `hub_model_id=OWNER/NAME`.")
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise ValueError("`early_stopping_patience` needs evaluations. Set `eval_strategy=epoch` or `steps`.")
        if self.class_weights is not None and self.class_weights != ["balanced"]:
            for weight in self.class_weights:
                if not is_positive_number(weight):
                    raise ValueError(f"`class_weights` must be `balanced` or numbers above 0, got {weight!r}.")
        if self.backward_model_name_or_path is not None and self.model_name_or_path is None:
            raise ValueError(
                "`backward_model_name_or_path` stands beside a language model that reads forwards. "
                "Pass `model_name_or_path`."
            )
        if self.max_steps == 0:
            raise ValueError("`max_steps` must be -1 or at least 1, got 0.")


@dataclass(kw_only=True)
class LanguageModelArguments(ModelArguments):
    """The fields of `RNNConfig` that shape a language model, with other defaults where it needs more."""

    embedding_size: int = flag(256, "Width of the word vectors, which the output layer shares.")
    hidden_size: int = flag(256, "Width of the state.")
    word_dropout: float = flag(0.0, "Share of the tokens that training replaces with the unknown word.")
    classifier_dropout: float = flag(0.3, "Dropout probability of the states before the output layer.")
    adaptive_softmax_cutoffs: list[int] | None = field(
        default=None,
        metadata={"help": "Ids at which the clusters of the adaptive softmax begin. Default: one softmax over all."},
    )
    reads_backward: bool = flag(False, "Whether each text is read from its last token to its first.")


@dataclass(kw_only=True)
class LanguageModelTrainArguments(TrainArguments):
    """How a language model is trained."""

    per_device_train_batch_size: int = flag(32, "Streams of text that a process reads side by side.", at_least=1)
    per_device_eval_batch_size: int = flag(32, "Streams per process in evaluation.", at_least=1)
    bptt: int = flag(70, "Tokens of each stream in a batch, through which the gradient reaches back.", at_least=1)
    num_train_epochs: float = flag(10.0, "How often the training texts are read.", above=0)
    learning_rate: float = flag(3e-3, "Highest learning rate.", above=0)
    lr_scheduler_type: SchedulerName = flag("cosine", "How the learning rate falls.")
    optim: OptimizerName = flag(
        "adamw_torch_fused", "The optimizer; the `lazy` ones spare nothing where the output layer needs all words."
    )
    max_extra_words: int = flag(
        0,
        "Most words that `word_vectors` adds to the vocabulary; the texts never teach the model to predict them.",
        at_least=0,
    )
    num_generated_texts: int = flag(3, "Texts the finished model makes up for its card.", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optim.startswith("lazy_"):
            raise ValueError(
                f"`optim={self.optim}` spares word vectors that a language model's output layer needs. "
                "Pass `optim=adamw_torch_fused`."
            )
        for name, default in (
            ("backward_model_name_or_path", None),
            ("class_weights", None),
            ("label_smoothing_factor", 0.0),
            ("gradual_unfreezing", False),
            ("temperature_scaling", False),
            ("tune_thresholds", False),
            ("train_on_all_rows", False),
            ("ensemble_size", 1),
            ("tune_minutes", None),
            ("train_sampling_strategy", "group_by_length"),
            ("dataloader_num_workers", 0),
        ):
            if getattr(self, name) != default:
                raise ValueError(f"`{name}` is only for classifiers. Leave it out.")


@dataclass(kw_only=True)
class DistillationArguments(CheckedArguments):
    """Who teaches the model, and how."""

    teacher_name_or_path: list[str] = field(
        metadata={
            "help": "Classifiers that teach, folders or names on the Hub; of several, the mean probability.",
            "is_path": True,
        }
    )
    distillation_loss: DistillationLossName = flag(
        "kl",
        "What is learned of the teacher: its probabilities at `temperature` (Hinton et al., 2015), or its logits by "
        "mean squared error (Tang et al., 2019).",
    )
    temperature: float = flag(2.0, "Divisor of the logits of teacher and student; `mse` has none.", above=0)
    alpha: float = flag(0.9, "Share of the teacher in the loss; the labels have the rest.", at_least=0, at_most=1)
    num_noised_copies: int = flag(
        0, "Noised copies of each training text that the teacher answers, too (Tang et al., 2019).", at_least=0
    )
    mask_probability: float = flag(
        0.1, "Share of a noised copy's words that the mask or the unknown word stands for.", at_least=0, at_most=1
    )
    ngram_probability: float = flag(
        0.25, "Share of the noised copies of which one to five words in a row are kept.", at_least=0, at_most=1
    )
    per_device_teacher_batch_size: int = flag(32, "Texts per batch and process that a teacher reads.", at_least=1)
    trust_remote_code: bool = flag(False, "Whether to run the code that lies beside a teacher's weights.")


@dataclass(kw_only=True)
class ClassifierRunArguments(TrainArguments, DataArguments, ModelArguments):
    """Everything that shapes a run of `rnn-hf train`."""

    job: ClassVar[str] = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, default in (("tune_minutes", None), ("train_on_all_rows", False), ("ensemble_size", 1)):
            if getattr(self, name) != default and self.job != "train":
                raise ValueError(f"`{name}` is not for `rnn-hf {self.job}`. Leave it out.")
        if self.ensemble_size > 1 and self.streaming:
            raise ValueError("`ensemble_size` reads the rows many times, a stream only once. Leave out `streaming`.")
        if self.tune_minutes is not None and self.streaming:
            raise ValueError("`tune_minutes` reads the rows many times, a stream only once. Leave out `streaming`.")
        if self.tune_minutes is not None and self.resume_from_checkpoint not in (None, "latest"):
            raise ValueError("`tune_minutes` resumes its own search alone. Pass `resume_from_checkpoint=latest`.")

    def leave_to_trainer(self) -> None:
        """Refuse what transformers' `Trainer` cannot do, and choose nothing from the data, which might be among it.

        Raises:
            ValueError: If such an argument is set.
        """
        for name in (
            "streaming", "gradual_unfreezing", "freeze_embeddings_epochs", "temperature_scaling", "tune_thresholds",
            "train_on_all_rows", "tune_minutes",
        ):  # fmt: skip
            if getattr(self, name):
                raise ValueError(f"`{name}` is only for `rnn-hf train`. Leave it out.")
        self.settings_from_data = False


@dataclass(kw_only=True)
class DistillationRunArguments(DistillationArguments, ClassifierRunArguments):
    """Everything that shapes a run of `rnn-hf distill`."""

    job: ClassVar[str] = "distill"


@dataclass(kw_only=True)
class LanguageModelRunArguments(LanguageModelTrainArguments, DataArguments, LanguageModelArguments):
    """Everything that shapes a run of `rnn-hf train-language-model`."""

    job: ClassVar[str] = "train-language-model"


RunArguments = ClassifierRunArguments | DistillationRunArguments | LanguageModelRunArguments


def adds_extra_words(args: RunArguments) -> bool:
    """Return whether a run trains a tokenizer of words, which `word_vectors` adds words to."""
    trains_words = args.tokenizer_type == "word" and not (args.tokenizer_name_or_path or args.model_name_or_path)
    return trains_words and args.word_vectors is not None and args.max_extra_words > 0


def model_settings(args: ModelArguments) -> dict[str, Any]:
    """Return the arguments that are fields of `RNNConfig`."""
    known = LanguageModelArguments if isinstance(args, LanguageModelArguments) else ModelArguments
    return {name: getattr(args, name) for name in names_of(known)}
