"""Settings that follow the data: the values of arguments that the user left out.

All rules are in `choose`, each with its reason. They were found on validation rows of AG News (500 to 74,430 rows) and
Banking77; `scripts/research/panel.py` measures them on more datasets.
"""

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from rnn_hf.argument_fields import names_of
from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.pretrained_vectors import vectors_width
from rnn_hf.data.streaming import TextStream
from rnn_hf.data.tokenizer_training import TokenizerType
from rnn_hf.data.writing_systems import choose_tokenizer_type
from rnn_hf.progress import say

from .arguments import ClassifierRunArguments, DistillationRunArguments
from .model_arguments import ModelArguments
from .splits import MOST_ROWS_TRAINED_TWICE, TextSplits

# Number of texts that are looked at
SAMPLE_SIZE = 2_000

# Minimum number of steps: on small datasets, fewer steps would read the rows often enough but change the weights too
# little
MIN_STEPS = 1_000

# Maximum number of epochs: more steps on a few hundred rows add nothing
MAX_EPOCHS = 60

# Number of words above which a text is long
LONG_TEXT = 100

# Pretrained word vectors of at most this width are used as they are; wider ones are reduced to the second
MAX_VECTORS_WIDTH, REDUCED_WIDTH = 100, 64

# Maximum number of entries in the table of the n-gram branch: about 9 MB in half precision
LARGEST_TABLE = 5_000_000


@dataclass(frozen=True)
class DataFacts:
    """The facts that the rules use.

    Args:
        num_rows: Number of rows to learn from; `None` for a stream.
        num_labels: Number of classes or targets.
        problem_type: Problem type of the labels.
        words_per_text: Median number of words; if spaces do not separate words, four characters count as one.
        tokenizer_type: Type of tokenizer for the texts.
        writing: The reason for it.
        has_teacher: Whether teachers answer for the rows.
    """

    num_rows: int | None
    num_labels: int
    problem_type: ProblemType
    words_per_text: float
    tokenizer_type: TokenizerType
    writing: str
    has_teacher: bool = False

    @classmethod
    def of(cls, splits: TextSplits, args: ClassifierRunArguments) -> "DataFacts":
        """Return the facts of the rows that a run learns from."""
        num_copies = args.num_noised_copies if isinstance(args, DistillationRunArguments) else 0
        is_stream = isinstance(splits.train, TextStream)
        num_rows = None if is_stream else len(splits.texts_to_learn()) * (1 + num_copies)
        texts = list(islice(splits.iterate_texts(), SAMPLE_SIZE))
        tokenizer_type, writing = choose_tokenizer_type(texts)
        lengths = [len(text.split()) if tokenizer_type == "word" else len(text) / 4 for text in texts]
        median = float(np.median(lengths or [0]))
        facts = num_rows, len(splits.label_names), splits.problem_type, median, tokenizer_type, writing
        return cls(*facts, has_teacher=isinstance(args, DistillationRunArguments))


def choose(facts: DataFacts) -> dict[str, Any]:
    """Return the settings for some rows, as arguments of `rnn-hf train` by name.

    Args:
        facts: Facts about the rows.
    """
    num_rows = facts.num_rows or 10**6
    is_small, is_short = num_rows <= MOST_ROWS_TRAINED_TWICE, facts.words_per_text <= 16
    is_classification = facts.problem_type == "single_label_classification"
    has_several = facts.problem_type == "multi_label_classification"
    # A step learns more from many texts; small datasets need many steps more than large batches. So many steps of long
    # texts would take minutes
    largest = 32 if is_small and facts.words_per_text > LONG_TEXT else 128
    batch_size = int(np.clip(2 ** round(np.log2(max(num_rows, 1) / 60)), 16, largest))
    batches = -(-num_rows // batch_size)
    chosen: dict[str, Any] = {
        # Without spaces, a sentence would be one unknown word; few rows have only some thousand subwords
        "tokenizer_type": facts.tokenizer_type,
        "vocab_size": 30_000 if facts.tokenizer_type == "word" else 8_000,
        # Two directions see both sides of a word; maxima find the decisive word, means the topic
        "cell_type": "lstm",
        "bidirectional": True,
        "classifier_pooling": "mean_max",
        "embedding_size": 64,
        # With few rows, a wider state learns faster; with many, a narrow one is as accurate and faster. Several labels
        # are more to remember
        "hidden_size": 64 if has_several else 32 if is_small else 16,
        # A linear model learns from few rows which words indicate a class; a bucket has a number for each class
        "ngram_buckets": ngram_buckets(facts.num_labels),
        # Each word of a short text counts; long texts are redundant, and few rows are soon overfitted. Several rare
        # labels are learned slowly enough without
        "word_dropout": 0.1 if has_several else 0.3 if is_short else 0.5 if is_small else 0.4,
        "embedding_dropout": 0.2 if has_several else 0.3 if is_short or not is_small else 0.5,
        "classifier_dropout": 0.3 if is_short or not is_small else 0.5,
        # A teacher's answers are not certain either
        "label_smoothing_factor": 0.1 if is_classification and not facts.has_teacher else 0.0,
        "per_device_train_batch_size": batch_size,
        # The squared error is unbounded, so long steps overfit it
        "learning_rate": 1e-3 if facts.problem_type == "regression" else 4e-3,
        "temperature_scaling": is_classification,
        "tune_thresholds": has_several,
        # A number may be too large for 16 bits, or too close to others
        "save_dtype": "float32" if facts.problem_type == "regression" else "float16",
        "train_on_all_rows": is_small,
    }
    if facts.has_teacher:
        # Answers for many texts are hardly overfitted, and few held-out rows would choose weights by chance
        chosen["load_best_model_at_end"] = False
    if facts.num_rows is not None:
        at_least = min(MIN_STEPS, MAX_EPOCHS * batches)
        # Most of several labels are rare, and need more epochs
        chosen["max_steps"] = max(at_least, (10 if has_several else 5) * batches)
    return chosen


def ngram_buckets(num_labels: int) -> int:
    """Return the number of buckets of the n-gram branch: a power of two with a table of limited size.

    Args:
        num_labels: Number of classes or targets.

    Example:
        >>> ngram_buckets(4), ngram_buckets(150)
        (65536, 32768)
    """
    return int(2 ** np.clip(np.floor(np.log2(LARGEST_TABLE / num_labels)), 12, 16))


# Names of the arguments that are chosen from the data; `choose_validation_size` chooses `validation_size`
_SOME_FACTS = DataFacts(1_000, 2, "single_label_classification", 10.0, "word", "")
CHOSEN_FROM_DATA = {"validation_size", *choose(_SOME_FACTS)}
CHOSEN_FOR_STUDENTS = {"validation_size", *choose(replace(_SOME_FACTS, has_teacher=True))}.difference(
    DistillationRunArguments.hidden
)


def follow_the_data(args: ClassifierRunArguments, splits: TextSplits) -> None:
    """Set the arguments that the user left out to values for the data, and show them.

    Args:
        args: The arguments of the run, which are changed.
        splits: The splits of the dataset.
    """
    if not args.settings_from_data:
        return
    facts = DataFacts.of(splits, args)
    chosen = {name: value for name, value in choose(facts).items() if name not in {*args.given, *args.hidden}}
    if args.tokenizer_name_or_path is not None:
        chosen = {name: value for name, value in chosen.items() if name not in ("tokenizer_type", "vocab_size")}
    elif facts.tokenizer_type != "word":
        say(f"{facts.writing[0].upper()}{facts.writing[1:]}")
    if "num_train_epochs" in args.given or args.streaming:
        chosen.pop("max_steps", None)
    if "validation" not in splits.others:
        chosen |= dict.fromkeys(chosen.keys() & {"temperature_scaling", "tune_thresholds"}, False)
    if not splits.validation_is_cut or args.early_stopping_patience is not None:
        chosen.pop("train_on_all_rows", None)  # the user's own validation rows are not trained on
    if args.early_stopping_patience is not None:
        chosen.pop("load_best_model_at_end", None)
    fields_of_model = names_of(ModelArguments)
    if args.model_name_or_path is not None:  # tokenizer, sizes and dropouts are those of the checkpoint
        chosen = {name: value for name, value in chosen.items() if name not in [*fields_of_model, "tokenizer_type"]}
    elif args.word_vectors is not None and "embedding_size" in chosen:
        width = vectors_width(args.word_vectors)
        # wider vectors are reduced: with 50,000 words, each entry of a vector takes a tenth of a megabyte
        chosen["embedding_size"] = width if width <= MAX_VECTORS_WIDTH else REDUCED_WIDTH
    for name, value in chosen.items():
        setattr(args, name, value)
    if chosen:
        say(f"Chosen from the data: {', '.join(f'`{name}={value}`' for name, value in chosen.items())}")
