"""The datasets of the panel: where they are, and which rows train, choose and measure."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from datasets import Dataset

from rnn_hf.data.labels import item_of
from rnn_hf.data.sources import find_splits

Kind = Literal["one label", "several labels", "regression"]

# Rows that are cut from the training split where there is no validation split
HELD_OUT_SHARE, MAX_HELD_OUT, HELD_OUT_SEED = 0.2, 5_000, 0


@dataclass(frozen=True)
class PanelDataset:
    """A row of the panel.

    Args:
        title: Its name in the table.
        folder: Its folder among local copies.
        hub_id: Its id on the Hub; `None` if it is only read from a folder.
        config: Its configuration on the Hub.
        label_columns: Column of the labels; of several names, the first one that exists.
        kind: What is predicted.
        num_rows: Size of a random sample of the training rows. Defaults to all rows.
        without_blanks: Whether all blanks are removed from the texts.
        left_out: A label whose rows are left out.
    """

    title: str
    folder: str
    hub_id: str | None
    config: str | None = None
    label_columns: tuple[str, ...] = ("label",)
    kind: Kind = "one label"
    num_rows: int | None = None
    without_blanks: bool = False
    left_out: str | None = None


def _ag_news(title: str, num_rows: int | None = None, without_blanks: bool = False) -> PanelDataset:
    return PanelDataset(
        f"AG News{title}", "ag_news", "fancyzhx/ag_news", num_rows=num_rows, without_blanks=without_blanks
    )


DATASETS = {
    "ag_news_500": _ag_news("", 500),
    "ag_news_1000": _ag_news("", 1_000),
    "ag_news_2000": _ag_news("", 2_000),
    "ag_news_5000": _ag_news("", 5_000),
    "ag_news_20000": _ag_news("", 20_000),
    "ag_news": _ag_news(""),
    "ag_news_without_blanks": _ag_news(" without blanks", 5_000, without_blanks=True),
    "banking77": PanelDataset("Banking77", "banking77", "PolyAI/banking77"),
    # the configurations on the Hub also have requests that belong to no class
    "clinc150": PanelDataset(
        "CLINC150", "clinc150", "clinc/clinc_oos", "plus", label_columns=("label", "intent"), left_out="oos"
    ),
    "trec_coarse": PanelDataset("TREC, coarse", "trec", "CogComp/trec", label_columns=("coarse_label",)),
    "trec_fine": PanelDataset("TREC, fine", "trec", "CogComp/trec", label_columns=("fine_label",)),
    "go_emotions": PanelDataset(
        "GoEmotions", "go_emotions", "google-research-datasets/go_emotions", "simplified",
        label_columns=("labels",), kind="several labels",
    ),
    "clear": PanelDataset("CLEAR", "clear", None, label_columns=("easiness",), kind="regression"),
}  # fmt: skip


def check_datasets(names: Sequence[str]) -> None:
    """Refuse names that are not in `DATASETS`, and none at all.

    Raises:
        ValueError: If there are such names, or none.
    """
    unknown = sorted(set(names) - DATASETS.keys())
    if unknown or not names:
        raise ValueError(f"`datasets` must be of {', '.join(DATASETS)}, got {', '.join(unknown) or 'none'}.")


class Rows(NamedTuple):
    """Texts and their labels.

    Args:
        texts: The texts.
        labels: For each text its class, a list of its classes, or a number.
    """

    texts: list[str]
    labels: list[Any]

    def take(self, numbers: Sequence[int] | np.ndarray) -> "Rows":
        """Return the rows of these numbers."""
        return Rows([self.texts[number] for number in numbers], [self.labels[number] for number in numbers])

    def digest(self) -> str:
        """Return a hash of the texts and labels in their order."""
        return hashlib.sha256(json.dumps([self.texts, self.labels]).encode()).hexdigest()


class PanelRows(NamedTuple):
    """The rows of one run.

    Args:
        train: Rows to train on.
        validation: The dataset's own validation split, where the run may use it.
        measured: Rows to measure on.
    """

    train: Rows
    validation: Rows | None
    measured: Rows

    def digest(self) -> str:
        """Return a hash of all rows."""
        digests = [rows and rows.digest() for rows in self]
        return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


@cache
def load_splits(name: str, folder: str | None) -> dict[str, Rows]:
    """Return the splits of a dataset, with all their rows.

    Args:
        name: A name in `DATASETS`.
        folder: Folder of local copies. Without one, or where it has no such dataset, the dataset is that on the Hub.

    Raises:
        FileNotFoundError: If the dataset does not exist.
        ValueError: If it has no training split or another label column.
    """
    dataset = DATASETS[name]
    local = None if folder is None else Path(folder) / dataset.folder
    if local is not None and local.is_dir():
        found = find_splits(str(local), None, {})
    elif dataset.hub_id is not None:
        found = find_splits(dataset.hub_id, dataset.config, {})
    else:
        raise FileNotFoundError(
            f"{dataset.title} is not on the Hub. Pass `folder`, a folder with its files in {dataset.folder!r}."
        )
    if "train" not in found:
        raise ValueError(f"{dataset.title} must have a training split.")
    return {split: _rows_of(rows, dataset) for split, rows in found.items()}


def _rows_of(rows: Dataset, dataset: PanelDataset) -> Rows:
    column = next((name for name in dataset.label_columns if name in rows.column_names), None)
    if column is None or "text" not in rows.column_names:
        raise ValueError(
            f"{dataset.title} must have the columns text and {' or '.join(dataset.label_columns)}, got "
            f"{', '.join(rows.column_names)}."
        )
    texts, labels = list(rows["text"]), list(rows[column])
    names = getattr(item_of(rows.features[column]), "names", None)

    def name_of(label: Any) -> str:
        return str(label) if names is None else names[label]

    if dataset.kind == "one label":
        labels = [name_of(label) for label in labels]
    elif dataset.kind == "several labels":
        labels = [[name_of(label) for label in of_text] for of_text in labels]
    if dataset.without_blanks:
        texts = ["".join(text.split()) for text in texts]
    whole = Rows(texts, labels)
    if dataset.left_out is None:
        return whole
    return whole.take([number for number, label in enumerate(labels) if label != dataset.left_out])


def rows_of_run(name: str, folder: str | None, seed: int, is_test: bool) -> PanelRows:
    """Return the rows of a run.

    A sample of the training rows depends on the seed alone. Rows that are held out for measuring are the same for all
    seeds.

    Args:
        name: A name in `DATASETS`.
        folder: Folder of local copies.
        seed: Seed of the sample.
        is_test: Whether to measure on the test split. Otherwise it is the validation split or, where there is none,
            rows cut from the training split.

    Raises:
        ValueError: If there is no test split.
    """
    splits, dataset = load_splits(name, folder), DATASETS[name]
    train = splits["train"]
    shuffled = np.random.default_rng(seed).permutation(len(train.texts))
    validation = splits.get("validation")
    if is_test:
        if "test" not in splits:
            raise ValueError(f"{dataset.title} has no test split. Leave out `test`.")
        measured = splits["test"]
    elif validation is not None:
        measured, validation = validation, None
    else:
        held_out = held_out_rows(len(train.texts))
        measured = train.take(held_out)
        shuffled = shuffled[~np.isin(shuffled, held_out)]
    numbers = np.sort(shuffled) if dataset.num_rows is None else shuffled[: dataset.num_rows]
    return PanelRows(train.take(numbers), validation, measured)


def other_texts(name: str, folder: str | None, seed: int, num_texts: int) -> list[str]:
    """Return texts of the training split that `rows_of_run` leaves out of the sample for the test split.

    Args:
        name: A name in `DATASETS`.
        folder: Folder of local copies.
        seed: Seed of the sample.
        num_texts: Maximum number of texts.
    """
    texts, num_rows = load_splits(name, folder)["train"].texts, DATASETS[name].num_rows
    others = np.random.default_rng(seed).permutation(len(texts))[len(texts) if num_rows is None else num_rows :]
    return [texts[number] for number in others[:num_texts]]


def held_out_rows(num_rows: int) -> np.ndarray:
    """Return the numbers of the rows that are held out of a training split for measuring, in order.

    Args:
        num_rows: Size of the training split.
    """
    num_held_out = min(round(HELD_OUT_SHARE * num_rows), MAX_HELD_OUT)
    return np.sort(np.random.default_rng(HELD_OUT_SEED).permutation(num_rows)[:num_held_out])
