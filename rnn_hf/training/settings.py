"""Settings that follow the data: what a run uses where its user said nothing.

Every rule has its reason beside it, and stands in `choose`. They were settled on validation rows of AG News (500 to
74,430 rows) and Banking77; `scripts/research/panel.py` measures them on more datasets.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from rnn_hf.argument_fields import names_of
from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.data.pretrained_vectors import vectors_width
from rnn_hf.data.scripts_of_text import choose_tokenizer_type
from rnn_hf.data.streaming import TextStream
from rnn_hf.data.tokenizer_training import TokenizerType
from rnn_hf.progress import say

from .arguments import ClassifierRunArguments
from .model_arguments import ModelArguments
from .splits import MOST_ROWS_TRAINED_TWICE, TextSplits

# Texts that are looked at
SAMPLE_SIZE = 2_000

# Steps that small datasets need: with fewer, the rows are read often enough but the weights move too little
MIN_STEPS = 1_000

# Epochs after which more steps only repeat what a few hundred rows hold
MAX_EPOCHS = 60

# Pretrained word vectors of up to this width are used as they are, wider ones are reduced to the other
MAX_VECTORS_WIDTH, REDUCED_WIDTH = 100, 64

# Numbers in the table of the n-gram branch: about 9 MB in half precision
LARGEST_TABLE = 5_000_000


@dataclass(frozen=True)
class DataFacts:
    """What the rules look at.

    Args:
        num_rows: Number of training rows; `None` for a stream.
        num_labels: Number of classes or targets.
        problem_type: What the labels ask for.
        words_per_text: Median number of words; where blanks do not separate words, of every four characters.
        tokenizer_type: What a tokenizer should read.
        writing: Why.
    """

    num_rows: int | None
    num_labels: int
    problem_type: ProblemType
    words_per_text: float
    tokenizer_type: TokenizerType
    writing: str

    @classmethod
    def of(cls, splits: TextSplits) -> "DataFacts":
        """Return the facts of the training rows."""
        num_rows = None if isinstance(splits.train, TextStream) else len(splits.train)
        texts = list(islice(splits.iterate_texts(), SAMPLE_SIZE))
        tokenizer_type, writing = choose_tokenizer_type(texts)
        lengths = [len(text.split()) if tokenizer_type == "word" else len(text) / 4 for text in texts]
        median = float(np.median(lengths or [0]))
        return cls(num_rows, len(splits.label_names), splits.problem_type, median, tokenizer_type, writing)


def choose(facts: DataFacts) -> dict[str, Any]:
    """Return the settings for some rows, as arguments of `rnn-hf train` by their names.

    Args:
        facts: What is known of the rows.
    """
    num_rows = facts.num_rows or 10**6
    is_small, is_short = num_rows <= MOST_ROWS_TRAINED_TWICE, facts.words_per_text <= 16
    is_classification = facts.problem_type == "single_label_classification"
    has_several = facts.problem_type == "multi_label_classification"
    # A step learns more from many texts; small datasets need many steps more than large batches
    batch_size = int(np.clip(2 ** round(np.log2(max(num_rows, 1) / 60)), 16, 128))
    batches = -(-num_rows // batch_size)
    chosen: dict[str, Any] = {
        # Without blanks, a sentence would be one unknown word; few rows cannot fill more than some thousand pieces
        "tokenizer_type": facts.tokenizer_type,
        "vocab_size": 30_000 if facts.tokenizer_type == "word" else 8_000,
        # Two directions see a word's both sides; maxima find the decisive word, means the topic
        "cell_type": "lstm",
        "bidirectional": True,
        "classifier_pooling": "mean_max",
        "embedding_size": 64,
        # With few rows a wider state learns faster, with many a narrow one is as accurate and faster; which of several
        # labels hold is more to remember
        "hidden_size": 64 if has_several else 32 if is_small else 16,
        # A linear model knows after few rows which words stand for a class; a bucket has a number for each class
        "ngram_buckets": ngram_buckets(facts.num_labels),
        # Each word of a short text counts; long texts say everything several times, and few rows are soon learned by
        # heart. Several rare labels are learned slowly enough without
        "word_dropout": 0.1 if has_several else 0.3 if is_short else 0.5 if is_small else 0.4,
        "embedding_dropout": 0.2 if has_several else 0.3 if is_short or not is_small else 0.5,
        "classifier_dropout": 0.3 if is_short or not is_small else 0.5,
        "label_smoothing_factor": 0.1 if is_classification else 0.0,
        "per_device_train_batch_size": batch_size,
        # A squared error has no bound, and so is fitted too closely by long steps
        "learning_rate": 1e-3 if facts.problem_type == "regression" else 4e-3,
        "temperature_scaling": is_classification,
        "tune_thresholds": has_several,
        # A number may be too large for 16 bits, or differ from others by less than they can tell
        "save_dtype": "float32" if facts.problem_type == "regression" else "float16",
        "train_on_all_rows": is_small,
    }
    if facts.num_rows is not None:
        at_least = min(MIN_STEPS, MAX_EPOCHS * batches)
        # Of several labels most are rare, and need more epochs
        chosen["max_steps"] = max(at_least, (10 if has_several else 5) * batches)
    return chosen


def ngram_buckets(num_labels: int) -> int:
    """Return the number of buckets of the n-gram branch: a power of two whose table stays below a size.

    Args:
        num_labels: Number of classes or targets.

    Example:
        >>> ngram_buckets(4), ngram_buckets(150)
        (65536, 32768)
    """
    return int(2 ** np.clip(np.floor(np.log2(LARGEST_TABLE / num_labels)), 12, 16))


# Names of the arguments that are chosen from the data, `validation_size` by `choose_validation_size`
CHOSEN_FROM_DATA = {"validation_size", *choose(DataFacts(1_000, 2, "single_label_classification", 10.0, "word", ""))}


def follow_the_data(args: ClassifierRunArguments, splits: TextSplits) -> None:
    """Set the arguments that the user left out to what suits the rows, and show them.

    Args:
        args: The arguments of the run, which are changed.
        splits: The splits of the dataset.
    """
    if not args.settings_from_data:
        return
    facts = DataFacts.of(splits)
    chosen = {name: value for name, value in choose(facts).items() if name not in args.given}
    if args.tokenizer_name_or_path is not None:
        chosen = {name: value for name, value in chosen.items() if name not in ("tokenizer_type", "vocab_size")}
    elif facts.tokenizer_type != "word":
        say(f"{facts.writing[0].upper()}{facts.writing[1:]}")
    if "num_train_epochs" in args.given or args.streaming:
        chosen.pop("max_steps", None)
    if "validation" not in splits.others:
        chosen |= dict.fromkeys(chosen.keys() & {"temperature_scaling", "tune_thresholds"}, False)
    if not splits.validation_is_cut or args.early_stopping_patience is not None:
        chosen.pop("train_on_all_rows", None)  # rows that the user set aside are not trained on
    fields_of_model = names_of(ModelArguments)
    if args.model_name_or_path is not None:  # its tokenizer, sizes and dropouts are the checkpoint's
        chosen = {name: value for name, value in chosen.items() if name not in [*fields_of_model, "tokenizer_type"]}
    elif args.word_vectors is not None and "embedding_size" in chosen:
        width = vectors_width(args.word_vectors)
        # wider vectors are reduced: with 50,000 words, each number of a vector is a tenth of a megabyte
        chosen["embedding_size"] = width if width <= MAX_VECTORS_WIDTH else REDUCED_WIDTH
    for name, value in chosen.items():
        setattr(args, name, value)
    if chosen:
        say(f"Chosen from the data: {', '.join(f'`{name}={value}`' for name, value in chosen.items())}")
