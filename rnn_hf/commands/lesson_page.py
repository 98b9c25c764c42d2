"""Write a page that shows what recurrent networks do with a text: states, gates, gradients, padding, pooling.

    rnn-hf lesson-page --train         # trains an RNN, an LSTM and a GRU on generated texts first, in a minute or two
    rnn-hf lesson-page runs/rnn runs/lstm --texts "The striker scored twice." --output_file lesson.html

The page is one HTML file that needs no network. Needs `pip install "rnn-hf[train]"`.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnn_hf.data.demo_news import DEMO_DATASET
from rnn_hf.data.labels import label_names_of
from rnn_hf.data.sources import DATASET_HELP, TEXT_COLUMNS_HELP, load_text_dataset
from rnn_hf.files import expand_home
from rnn_hf.lesson_page.page import STRINGS_FILE, LabelledTexts, write_lesson_page
from rnn_hf.text_classifier import TextClassifier
from rnn_hf.training.arguments import RowArguments

from . import train
from .entry import exit_statuses, user_errors
from .parser import CommandParser, check_folder_of, read_mapping

NAME = "rnn-hf lesson-page"

# Folder of each of the lesson's networks, its cell and its pooling
NETWORKS = {
    "runs/lesson-rnn": ("rnn", "mean"),
    "runs/lesson-lstm": ("lstm", "last"),
    "runs/lesson-gru": ("gru", "last"),
}

# The sizes and the optimizer are the lesson's; six epochs of the few generated texts take the time of one of AG News
TRAINING = [
    "--dataset_name", DEMO_DATASET, "--settings_from_data", "false", "--embedding_size", "64", "--hidden_size", "32",
    "--bidirectional", "false", "--ngram_buckets", "0", "--word_dropout", "0", "--optim", "adam", "--learning_rate",
    "0.003", "--per_device_train_batch_size", "16", "--num_train_epochs", "6",
]  # fmt: skip

# One for each label of AG News, and one whose label changes while it is read
TEXTS = (
    "The keeper saved a late penalty as the club reached the final of the cup.",
    "Shares fell on Tuesday after the bank said that its profit would be lower than expected.",
    "Scientists have found water on a planet that is smaller than the moon.",
    "The president met the rebels for peace talks as troops left the capital.",
    "The team that won the world cup last year has sold its software company to a rival for three billion dollars.",
)

# Texts of each split that are read for the views of a dataset
MOST_TEXTS = {"train": 20_000, "test": 2_000}

# What `recipe.yaml` says about the dataset of a model
OF_THE_DATASET = (
    "dataset_name", "dataset_config_name", "train_file", "test_file", "text_column_names", "label_column_name",
    "clean_text", "delimiter", "encoding",
)  # fmt: skip
PLACES = {"dataset_name", "train_file", "test_file"}


@exit_statuses(NAME, RowArguments)  # it has the flags of the dataset
def main(argv: Sequence[str] | None = None) -> Path:
    """Write the page; return its file."""
    started = time.perf_counter()
    with user_errors():
        args = parse(argv)
        check_folder_of("output_file", str(args.output_file))
        if args.train:
            for folder, (cell, pooling) in NETWORKS.items():
                flags = ["--cell_type", cell, "--classifier_pooling", pooling, "--output_dir", folder]
                train.main([*TRAINING, *flags])
        names = [Path(model).name for model in args.models]
        if len(set(names)) < len(names):
            names = args.models
        classifiers = {
            name: TextClassifier.from_pretrained(model) for name, model in zip(names, args.models, strict=True)
        }
        dataset = arguments_of_dataset(args)
        training, test = load_texts(dataset, next(iter(classifiers.values())))
        is_demo = dataset.get("dataset_name") == DEMO_DATASET  # with words of its own
        texts = args.texts or (one_of_each_label(test) if is_demo and test is not None else TEXTS)
        num_bytes = write_lesson_page(
            args.output_file, classifiers, texts, training=training, test=test, strings_file=args.strings_file
        )
    print(f"Written: {args.output_file}, {num_bytes / 1e6:.1f} MB, in {time.perf_counter() - started:.1f} s")
    return Path(args.output_file)


def parse(argv: Sequence[str] | None) -> Namespace:
    """Return the arguments of the command line."""
    parser = CommandParser([], prog=NAME, description=__doc__)
    parser.add_argument(
        "models", nargs="*", type=expand_home, default=list(NETWORKS),
        help=f"Model folders, or `owner/name` on the Hub. Default: {', '.join(NETWORKS)}, which `--train` trains.",
    )  # fmt: skip
    parser.add_argument(
        "--output_file", metavar="FILE", type=lambda path: Path(expand_home(path)), default=Path("lesson.html"),
        help="HTML file to write. Default: lesson.html.",
    )  # fmt: skip
    parser.add_argument("--train", action="store_true", help="Train the lesson's networks on generated texts first.")
    parser.add_argument("--texts", metavar="TEXT", nargs="+", help="Texts to read. Default: some examples.")
    parser.add_argument("--dataset_name", metavar="NAME", help=f"{DATASET_HELP} Default: that of the first model.")
    for split in ("train", "test"):
        parser.add_argument(f"--{split}_file", metavar="FILE", type=expand_home, help=f"File of {split} rows.")
    parser.add_argument("--text_column_names", metavar="NAME", nargs="+", help=TEXT_COLUMNS_HELP)
    parser.add_argument("--label_column_name", metavar="NAME", help="Column of the labels. Default: label.")
    parser.add_argument(
        "--strings_file", metavar="FILE", type=lambda path: Path(expand_home(path)), default=STRINGS_FILE,
        help="JSON file with the sentences of the page in another language: a translation of "
        "rnn_hf/lesson_page/strings.json.",
    )  # fmt: skip
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.train and args.models != list(NETWORKS):
        raise ValueError("`--train` trains the lesson's networks. Leave out the models.")
    full = [folder for folder in NETWORKS if args.train and Path(folder).is_dir() and any(Path(folder).iterdir())]
    if full:
        raise ValueError(f"'{full[0]}' is not empty. Leave out `--train` to show the models that are there.")
    if not args.train and args.models == list(NETWORKS) and not Path(args.models[0]).exists():
        raise ValueError("Pass model folders, or `--train` to train the lesson's networks first.")
    return args


def arguments_of_dataset(args: Namespace) -> dict[str, Any]:
    """Return arguments of `load_text_dataset`: those that were given, or else of the recipe of the first model."""
    given = {name: value for name in OF_THE_DATASET if (value := getattr(args, name, None)) is not None}
    recipe = Path(args.models[0], "recipe.yaml")
    if PLACES & given.keys() or not recipe.is_file():
        return given
    written = read_mapping(recipe, "recipe", "flags")
    return {name: written[name] for name in OF_THE_DATASET if written.get(name) is not None} | given


def load_texts(
    arguments: dict[str, Any], classifier: TextClassifier
) -> tuple[LabelledTexts | None, LabelledTexts | None]:
    """Return training and test texts, `None` for a split that does not exist.

    Args:
        arguments: Result of `arguments_of_dataset`.
        classifier: A model, whose labels are read.
    """
    if not PLACES & arguments.keys():
        return None, None
    dataset = load_text_dataset(
        **arguments,
        label_names=classifier.label_names,
        problem_type=classifier.problem_type,
        validation_size=0,
        max_train_samples=MOST_TEXTS["train"],
    )
    names = label_names_of(next(iter(dataset.values())))

    def texts_of(split: str) -> LabelledTexts | None:
        if split not in dataset:
            return None
        rows = dataset[split].select(range(min(MOST_TEXTS[split], len(dataset[split]))))
        return LabelledTexts(list(rows["text"]), [name_of(label, names) for label in rows["label"]])

    return texts_of("train"), texts_of("test")


def name_of(label: Any, names: Sequence[str]) -> str:
    """Return a label of a dataset as text."""
    if isinstance(label, list):
        return ", ".join(name_of(entry, names) for entry in label)
    return names[label] if isinstance(label, int) else f"{label:.3g}"


def one_of_each_label(found: LabelledTexts) -> list[str]:
    """Return the first text of each label."""
    return list(dict(reversed(list(zip(found.labels, found.texts, strict=True)))).values())[::-1]
