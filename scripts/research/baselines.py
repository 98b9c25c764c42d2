"""Train the linear classifiers that the recurrent ones are compared with, on the rows that a recipe trains on.

    python -m scripts.research.baselines RECIPE.yaml [--seeds 42 1 2] [--output_file baselines.json]
        [any flag of `rnn-hf train`]

They are fastText (vectors of size 10, word pairs) and TF-IDF of words and word pairs with a linear support vector
machine. Their hyperparameters, fastText's learning rate and epochs and the machine's penalty, are chosen from a few
values on the validation split; the test split is read once. fastText is in the extra `benchmark`.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.utils import tqdm
from datasets import Dataset, DatasetDict
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from rnn_hf.argument_fields import names_of, path_flag
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import check_folder_of
from rnn_hf.files import write_json
from rnn_hf.reporting.seeds import percent
from rnn_hf.training.arguments import ClassifierRunArguments, DataArguments
from rnn_hf.training.splits import load_splits
from scripts.research.run_recipe import SeedArguments, parse_study

# Names of the baselines, and their titles in tables
TITLES = {"fasttext": "fastText", "tfidf": "TF-IDF + linear"}
LEARNING_RATES = [0.1, 0.25, 0.5, 1.0]
PENALTIES = [0.1, 0.3, 1.0, 3.0]
# Data arguments of a recipe that do not affect which rows are used
ABOUT_TOKENS = {"tokenizer_name_or_path", "min_frequency", "max_length", "word_vectors"}

Classify = Callable[[list[str]], Sequence[str]]
Candidates = Iterator[tuple[dict[str, Any], Classify]]


@dataclass
class BaselineArguments(SeedArguments):
    """Which baselines to train, and how."""

    models: list[str] = field(
        default_factory=lambda: list(TITLES), metadata={"help": f"Models to train, of {', '.join(TITLES)}."}
    )
    fasttext_epochs: list[int] = field(
        default_factory=lambda: [5],
        metadata={"help": "Numbers of epochs of fastText; the best on the validation split is chosen."},
    )
    output_file: str | None = path_flag(None, "JSON file for the results.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_models(self.models, list(TITLES))
        if min(self.fasttext_epochs, default=0) < 1:
            raise ValueError(f"`fasttext_epochs` must be at least 1, got {self.fasttext_epochs}.")


def check_models(models: Sequence[str], known: Sequence[str]) -> None:
    """Check that the models to train are known and that their packages are installed."""
    unknown = set(models) - set(known)
    if unknown or not models:
        raise ValueError(f"`models` must be of {', '.join(known)}, got {', '.join(sorted(unknown)) or 'none'}.")
    if "fasttext" in models and find_spec("fasttext") is None:
        raise ValueError(
            'fastText is not installed. Install it with `pip install -e ".[benchmark]"`, or name other `models`.'
        )


class FastText:
    """fastText's classifier with word pairs (Joulin et al., 2017).

    Args:
        texts: Training texts.
        labels: Their labels.
        learning_rate: Initial learning rate, which decreases linearly to 0.
        num_epochs: Number of epochs.
        num_threads: Number of threads; training is reproducible only with one.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        learning_rate: float = 0.1,
        num_epochs: int = 5,
        num_threads: int = 1,
    ) -> None:
        import fasttext  # an extra

        self.labels = sorted(set(labels))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "train.txt"
            with file.open("w", encoding="utf-8") as lines:
                for text, label in zip(texts, labels, strict=True):
                    lines.write(f"__label__{self.labels.index(label)} {self.separate(text)}\n")
            started = time.perf_counter()
            self.model = fasttext.train_supervised(
                str(file), dim=10, wordNgrams=2, lr=learning_rate, epoch=num_epochs, thread=num_threads, verbose=0
            )
            self.train_runtime = time.perf_counter() - started

    @property
    def num_bytes(self) -> int:
        """Size of the file of the model."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.bin"
            self.model.save_model(str(file))
            return file.stat().st_size

    @staticmethod
    def separate(text: str) -> str:
        """Return the text in lower case on one line with punctuation separated, as in fastText's examples."""
        return " ".join(re.sub(r"([.,'/()!?])", r" \1 ", text.lower()).split())

    def __call__(self, texts: list[str]) -> list[str]:
        """Return the label of each text."""
        found, _ = self.model.predict([self.separate(text) for text in texts])
        return [self.labels[int(names[0].removeprefix("__label__"))] for names in found]


def tfidf_classifiers(texts: Sequence[str], labels: Sequence[str], penalties: Sequence[float]) -> Iterator[Classify]:
    """Yield a linear support vector machine on TF-IDF of words and word pairs, trained with each penalty.

    Args:
        texts: Training texts.
        labels: Their labels.
        penalties: Values of the parameter `C`.
    """
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    features = vectorizer.fit_transform(texts)
    for penalty in penalties:
        yield make_pipeline(vectorizer, LinearSVC(C=penalty, random_state=0).fit(features, labels)).predict


def candidates(model: str, texts: Sequence[str], labels: Sequence[str], fasttext_epochs: Sequence[int]) -> Candidates:
    """Yield the hyperparameters to try for a baseline, each with a classifier trained with them.

    Args:
        model: Name of the baseline.
        texts: Training texts.
        labels: Their labels.
        fasttext_epochs: Numbers of epochs of fastText.
    """
    if model == "fasttext":
        for num_epochs in fasttext_epochs:
            for learning_rate in LEARNING_RATES:
                settings = {"learning_rate": learning_rate, "num_epochs": num_epochs}
                yield settings, FastText(texts, labels, learning_rate, num_epochs)
    else:
        for penalty, classify in zip(PENALTIES, tfidf_classifiers(texts, labels, PENALTIES), strict=True):
            yield {"penalty": penalty}, classify


def labelled(rows: Dataset) -> tuple[list[str], list[str]]:
    """Return the texts of a split and the names of their labels."""
    names = rows.features["label"].names
    return list(rows["text"]), [names[label] for label in rows["label"]]


def settings_of(run_args: ClassifierRunArguments, args: BaselineArguments) -> dict[str, Any]:
    """Return what the results of a baseline depend on apart from the seed: the rows and the hyperparameters tried."""
    rows = {name: getattr(run_args, name) for name in names_of(DataArguments)}
    tried = {"fasttext_epochs": args.fasttext_epochs, "learning_rates": LEARNING_RATES, "penalties": PENALTIES}
    return {name: value for name, value in rows.items() if value is not None and name not in ABOUT_TOKENS} | tried


def load_rows(args: ClassifierRunArguments, seed: int) -> DatasetDict:
    """Return the splits that `rnn-hf train` would use with the same arguments.

    Args:
        args: The arguments of the recipe.
        seed: Seed of the validation split and of the sample of rows.

    Raises:
        ValueError: If a split is missing, or the labels are not one class per text.
    """
    splits = load_splits(args.changed(seed=seed))
    if splits.problem_type != "single_label_classification":
        raise ValueError(f"The baselines need one class per text, got a problem of type {splits.problem_type}.")
    dataset = DatasetDict(train=splits.train, **splits.others)
    for split, remedy in (("validation", "validation_size=0.05"), ("test", "test_file=FILE")):
        if split not in dataset:
            raise ValueError(f"The baselines need a {split} split. Pass `{remedy}`.")
    return dataset


def measure(model: str, dataset: DatasetDict, fasttext_epochs: Sequence[int]) -> dict[str, Any]:
    """Train a baseline with several hyperparameters, and test the first one that is best on the validation split.

    Args:
        model: Name of the baseline.
        dataset: The splits `train`, `validation` and `test`.
        fasttext_epochs: Numbers of epochs of fastText.

    Returns:
        A mapping that JSON can hold: settings, accuracies, macro F1 on the test split, numbers of rows.
    """
    validation_texts, validation_labels = labelled(dataset["validation"])
    best: tuple[float, dict[str, Any], Classify] | None = None
    for settings, classify in candidates(model, *labelled(dataset["train"]), fasttext_epochs):
        accuracy = float(accuracy_score(validation_labels, classify(validation_texts)))
        if best is None or accuracy > best[0]:
            best = accuracy, settings, classify
    assert best is not None
    validation_accuracy, settings, classify = best
    test_texts, test_labels = labelled(dataset["test"])
    found = classify(test_texts)
    return {
        "settings": settings,
        "test_accuracy": float(accuracy_score(test_labels, found)),
        "test_macro_f1": float(f1_score(test_labels, found, average="macro")),
        "validation_accuracy": validation_accuracy,
        **{f"num_{split}_examples": len(dataset[split]) for split in ("train", "validation", "test")},
    }


@exit_statuses("baselines", BaselineArguments, ClassifierRunArguments)
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train the baselines with all seeds; return the content of the JSON file."""
    with user_errors():
        args, run_args, _ = parse_study(BaselineArguments, argv, __doc__)
        check_folder_of("output_file", args.output_file)
        rows = {seed: load_rows(run_args, seed) for seed in args.seeds}

    runs = []
    with tqdm(total=len(args.seeds) * len(args.models), desc="Training the baselines", unit="model") as progress:
        for seed, dataset in rows.items():
            for model in args.models:
                runs.append({"model": model, "seed": seed, **measure(model, dataset, args.fasttext_epochs)})
                progress.update()
    print(f"test accuracy, %, on {runs[0]['num_test_examples']:,} rows, mean ± standard deviation over the seeds")
    for model in args.models:
        of_model = [run for run in runs if run["model"] == model]
        settings = [", ".join(f"{name} {value:g}" for name, value in run["settings"].items()) for run in of_model]
        print(f"{TITLES[model]:<16} {percent([run['test_accuracy'] for run in of_model])}  ({'; '.join(settings)})")
    result = {"settings": settings_of(run_args, args), "runs": runs}
    if args.output_file is not None:
        write_json(Path(args.output_file), result)
        print(f"Written: {args.output_file}")
    return result


if __name__ == "__main__":
    main()
