"""Count the rows of a split that have an exact or near duplicate among the training rows, and compare their labels.

    python -m scripts.research.count_near_duplicates [--dataset_name NAME] [--splits test validation]
        [--output_file duplicates.json]

Texts are compared in lower case and without punctuation. Two texts are near duplicates if the Jaccard similarity of
their sets of word trigrams is at least 0.8, or 0.5. All pairs that share a trigram are compared exactly, without
hashing. Accuracy on duplicates measures how well a model remembers its training rows.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import tqdm
from datasets import Dataset
from sklearn.feature_extraction.text import CountVectorizer

from rnn_hf.argument_fields import flag, path_flag
from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.parser import CommandParser, check_folder_of
from rnn_hf.data.sources import iterate_texts, load_text_dataset
from rnn_hf.files import write_json
from rnn_hf.training.arguments import RowArguments

SHINGLE_SIZE = 3
CHUNK_SIZE = 4096  # training rows that are compared at once
EXACT = "exact"


@dataclass
class CopyArguments(RowArguments):
    """The rows to compare."""

    seed: int = flag(42, "Seed of the validation split.", at_least=0)
    splits: list[str] = field(
        default_factory=lambda: ["test"],
        metadata={"help": "Splits whose rows are compared with the training rows: test, validation."},
    )
    similarities: list[float] = field(
        default_factory=lambda: [0.8, 0.5],
        metadata={"help": "Jaccard similarities at which a row is a near duplicate."},
    )
    output_file: str | None = path_flag(None, "JSON file for the results.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.splits or set(self.splits) - {"test", "validation"}:
            raise ValueError(f"`splits` must be of test, validation, got {', '.join(self.splits) or 'none'}.")
        if not self.similarities or not all(0 < similarity <= 1 for similarity in self.similarities):
            raise ValueError(f"`similarities` must be above 0 and at most 1, got {self.similarities}.")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation.

    Example:
        >>> words_of("The STRASSE, they say: 'gone'!")
        ['the', 'strasse', 'they', 'say', 'gone']
    """
    return re.findall(r"\w+", text.casefold())


def shingles(words: Sequence[str], size: int = SHINGLE_SIZE) -> set[str]:
    """Return all word n-grams of a text, or the whole text if it is shorter.

    Example:
        >>> sorted(shingles(["a", "b", "c", "d"])), shingles(["a"])
        (['a b c', 'b c d'], {'a'})
    """
    return {" ".join(words[start : start + size]) for start in range(max(len(words) - size + 1, 1))}


class Copies:
    """Finds the rows of a split among other rows; memory grows with the split only.

    Args:
        texts: Texts of the split.
        labels: Their labels, of any JSON type.
        similarities: Jaccard similarities at which a row is a near duplicate.
    """

    def __init__(self, texts: Iterable[str], labels: Sequence[Any], similarities: Sequence[float]) -> None:
        self.similarities = list(similarities)
        self.labels: dict[str, int] = {}
        self.label_ids = self.ids_of(labels)
        self.rows_of_text: dict[str, list[int]] = {}
        of_texts = []
        for row, text in enumerate(texts):
            words = words_of(text)
            self.rows_of_text.setdefault(" ".join(words), []).append(row)
            of_texts.append(shingles(words))
        self.sizes = np.array([len(of_text) for of_text in of_texts])
        self.vectorizer = CountVectorizer(analyzer=list, dtype=np.int32)
        # 1 where a row has a shingle
        self.matrix = self.vectorizer.fit_transform(of_texts)
        names = [EXACT, *map(str, self.similarities)]
        # whether a row has a duplicate with the same label, and whether it has one with another label
        self.has_same = {name: np.zeros(len(of_texts), dtype=bool) for name in names}
        self.has_other = {name: np.zeros(len(of_texts), dtype=bool) for name in names}

    def ids_of(self, labels: Sequence[Any]) -> np.ndarray:
        """Return an id for each label; equal labels have the same id."""
        keys = [json.dumps(label) for label in labels]
        return np.array([self.labels.setdefault(key, len(self.labels)) for key in keys])

    def look_among(self, texts: Sequence[str], labels: Sequence[Any]) -> None:
        """Record which rows of the split have duplicates among other rows.

        Args:
            texts: The other texts.
            labels: Their labels.
        """
        label_ids, of_texts = self.ids_of(labels), []
        for text, label in zip(texts, label_ids, strict=True):
            words = words_of(text)
            for row in self.rows_of_text.get(" ".join(words), ()):
                self.note(EXACT, np.array([row]), np.array([label]))
            of_texts.append(shingles(words))
        sizes = np.array([len(of_text) for of_text in of_texts])
        shared = (self.matrix @ self.vectorizer.transform(of_texts).T).tocoo()
        either = self.sizes[shared.row] + sizes[shared.col] - shared.data
        jaccard = shared.data / either
        for similarity in self.similarities:
            is_copy = jaccard >= similarity
            self.note(str(similarity), shared.row[is_copy], label_ids[shared.col[is_copy]])

    def note(self, name: str, rows: np.ndarray, labels: np.ndarray) -> None:
        """Record that rows have duplicates with these labels."""
        is_same = self.label_ids[rows] == labels
        self.has_same[name][rows[is_same]] = True
        self.has_other[name][rows[~is_same]] = True

    def counts(self) -> dict[str, Any]:
        """Return how many rows have duplicates, and how many have one with another label, as JSON can hold it."""
        num_rows = len(self.sizes)
        counted: dict[str, Any] = {"num_rows": num_rows}
        for name, has_same in self.has_same.items():
            has_other = self.has_other[name]
            num_copies = int((has_same | has_other).sum())
            counted[name if name == EXACT else f"similarity_{name}"] = {
                "num_rows": num_copies,
                "share": num_copies / max(num_rows, 1),
                "num_rows_with_another_label": int(has_other.sum()),
            }
        return counted


def count_copies(rows: Dataset, train: Dataset, similarities: Sequence[float], desc: str) -> dict[str, Any]:
    """Return how many rows have duplicates among the training rows.

    Args:
        rows: Rows with the columns `text` and `label`.
        train: Training rows with the same columns.
        similarities: Jaccard similarities at which a row is a near duplicate.
        desc: Label of the progress bar.
    """
    copies = Copies(iterate_texts(rows), list(rows["label"]), similarities)
    texts, labels = iterate_texts(train), iter(train["label"])
    with tqdm(total=len(train), desc=desc, unit="row") as progress:
        while chunk := list(islice(texts, CHUNK_SIZE)):
            copies.look_among(chunk, list(islice(labels, len(chunk))))
            progress.update(len(chunk))
    return copies.counts()


def as_table(splits: dict[str, dict[str, Any]]) -> str:
    """Return the counts as text, a line for each split and similarity."""
    lines = []
    for split, counts in splits.items():
        lines.append(f"{split}: {counts['num_rows']:,} rows; with a duplicate among the training rows:")
        for name, figures in counts.items():
            if name != "num_rows":
                lines.append(
                    f"  {name.replace('_', ' '):<16} {figures['num_rows']:>7,} ({100 * figures['share']:.2f} %), "
                    f"of which {figures['num_rows_with_another_label']:,} have one with another label"
                )
    return "\n".join(lines)


@exit_statuses("count_near_duplicates", CopyArguments)
def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Count the duplicates; return the content of the JSON file."""
    with user_errors():
        parser = CommandParser([CopyArguments], description=__doc__)
        (args,), _ = parser.parse(sys.argv[1:] if argv is None else argv)
        check_folder_of("output_file", args.output_file)
        settings = asdict(args)
        own = {name: settings.pop(name) for name in ("splits", "similarities", "output_file")}
        dataset = load_text_dataset(**settings, splits=["train", *own["splits"]])

    train = dataset["train"]
    splits = {
        split: count_copies(dataset[split], train, args.similarities, f"Comparing {split} rows")
        for split in args.splits
    }
    print(as_table(splits))
    given = {name: value for name, value in settings.items() if value is not None}
    result = {"settings": given, "num_train_examples": len(train), "shingle_size": SHINGLE_SIZE, "splits": splits}
    if args.output_file is not None:
        write_json(Path(args.output_file), result)
        print(f"Written: {args.output_file}")
    return result


if __name__ == "__main__":
    main()
