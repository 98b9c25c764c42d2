"""Which columns of a dataset hold texts and labels, and their conversion to the columns `text` and `label`."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, List, Value

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.progress import say

from .cleaning import clean_text
from .column_guesses import ColumnsError, holds_words, likely_label_column, likely_text_columns
from .labels import (
    check_numbers,
    class_ids,
    column_of,
    comma_list,
    convert_labels,
    item_of,
    label_feature,
    multi_hot_width,
    recognize_problem_type,
)

# What `ClassLabel` takes for a missing label
NO_LABEL = -1

# Number of rows that are read to guess the contents of columns
HEAD_ROWS = 1000


@dataclass(frozen=True)
class TextColumns:
    """The columns that hold texts and labels, and how they become `text` and `label`.

    Args:
        text_column_names: As in `load_text_dataset`.
        label_column_name: As in `load_text_dataset`.
        problem_type: Problem type of the labels.
        label: Feature of the new column `label`.
        is_multi_hot: Whether a row holds 0 or 1 for each class.
        ids_allowed: Whether numbers are accepted as ids of named classes.
        clean_text: Whether to pass the texts through `clean_text`.
    """

    text_column_names: Sequence[str] | None
    label_column_name: str
    problem_type: ProblemType
    label: ClassLabel | List | Value
    is_multi_hot: bool
    ids_allowed: bool
    clean_text: bool

    @classmethod
    def of(
        cls,
        reference: Mapping[str, Dataset],
        text_column_names: Sequence[str] | None,
        label_column_name: str,
        label_names: Sequence[str] | None,
        problem_type: ProblemType | None,
        clean_text: bool,
        *,
        problem_is_given: bool | None = None,
    ) -> "TextColumns":
        """Return the columns of a dataset, with the feature of `label` derived from its labels.

        Args:
            reference: The splits that together contain every label.
            text_column_names: As in `load_text_dataset`.
            label_column_name: As in `load_text_dataset`.
            label_names: As in `load_text_dataset`.
            problem_type: As in `load_text_dataset`.
            clean_text: As in `load_text_dataset`.
            problem_is_given: Whether the user gave the problem type. Defaults to whether there is one.

        Raises:
            ValueError: If the label column is missing or has the wrong type, or a label is missing or wrong.
        """
        if problem_is_given is None:
            problem_is_given = problem_type is not None
        problem = problem_type or recognize_problem_type(reference, label_column_name)
        label = label_feature(
            reference, label_column_name, problem, label_names, merges_whole_numbers=problem_is_given
        )
        features = [item_of(rows.features[label_column_name]) for rows in reference.values()]
        return cls(
            text_column_names=text_column_names,
            label_column_name=label_column_name,
            problem_type=problem,
            label=label,
            is_multi_hot=multi_hot_width(reference, label_column_name, problem, label_names) is not None,
            ids_allowed=label_names is not None or all(isinstance(feature, ClassLabel) for feature in features),
            clean_text=clean_text,
        )

    def read(self, rows: Dataset, split: str) -> Dataset:
        """Return rows with the columns `text` and `label`.

        Args:
            rows: The rows as they are stored.
            split: Name of their split, for error messages.

        Raises:
            ValueError: If a column is missing or has the wrong type, or a label is missing or wrong.
        """
        column = self.label_column_name
        texts = text_columns_of(rows, self.text_column_names, column)
        ids = None
        if self.problem_type == "regression" or self.is_multi_hot:
            width = len(item_of(self.label).names) if self.is_multi_hot else getattr(self.label, "length", None)
            check_numbers(rows, column, split, self.problem_type, width)
        else:
            names = item_of(self.label).names
            if self.problem_type == "multi_label_classification" and column_of(rows, column).null_count == len(rows):
                say(f'Warning: no row of the "{split}" split has a label, so each counts as a text without classes.')
            ids = class_ids(rows, column, split, self.problem_type, names, ids_allowed=self.ids_allowed)
        return _text_and_label(rows, texts, column, self.problem_type, ids, self.label, self.clean_text)


def check_columns(rows: Dataset, text_column_names: Sequence[str] | None, label_column_name: str) -> None:
    """Check that the columns of texts and labels exist.

    Args:
        rows: Rows with their columns as they are stored.
        text_column_names: As in `load_text_dataset`.
        label_column_name: As in `load_text_dataset`.

    Raises:
        ColumnsError: If a column does not exist; the error names likely columns.
    """
    missing, texts = [], list(text_column_names or ())
    if label_column_name not in rows.column_names:
        missing.append("label_column_name")
    try:
        texts = text_columns_of(rows, text_column_names, label_column_name)
    except ValueError as error:
        if text_column_names is not None:
            raise
        missing.append("text_column_names")
        message = str(error)
    if not missing:
        return
    if "label_column_name" in missing:
        message = f'Column "{label_column_name}" is not in the dataset (columns: {comma_list(rows.column_names)}). '
        message += f"Pass {' and '.join(f'`{name}`' for name in missing)}."
    head = first_rows(rows, rows.column_names)
    label = likely_label_column(head, texts) if "label_column_name" in missing else label_column_name
    likely = {"text_column_names": likely_text_columns(head, label)} if "text_column_names" in missing else {}
    likely |= {"label_column_name": [label]} if "label_column_name" in missing and label is not None else {}
    raise columns_error(message, likely)


def columns_error(message: str, likely: Mapping[str, Sequence[str]]) -> ColumnsError:
    """Return the error for missing columns.

    Args:
        message: What is missing.
        likely: Likely columns, by the argument that names them.
    """
    found = {name: list(columns) for name, columns in likely.items() if columns}
    if found:
        message += f" Likely: {' '.join(f'`{name}={shlex.join(columns)}`' for name, columns in found.items())}."
    return ColumnsError(message, found)


def first_rows(rows: Dataset, columns: Sequence[str]) -> pa.Table:
    """Return the first rows of some columns, enough to guess their contents."""
    return rows.select_columns(list(columns)).with_format("arrow")[: min(len(rows), HEAD_ROWS)]


def text_columns_of(
    dataset: Dataset, wanted: Sequence[str] | None = None, label_column: str | None = None
) -> list[str]:
    """Return the names of the columns that make up the text.

    Args:
        dataset: The rows; only their features are used.
        wanted: The columns. Defaults to `text`, or else to the only column of strings.
        label_column: A column that cannot be part of the text.

    Raises:
        ValueError: If a column is missing or does not hold strings, or there is no default.
    """
    others = [name for name in dataset.column_names if name != label_column]
    if wanted is None:
        strings = [name for name in others if dataset.features[name] in (Value("string"), Value("large_string"))]
        # in files without types, numbers are strings, too
        strings = [name for name in strings if holds_words(first_rows(dataset, [name])[name])]
        wanted = ["text"] if "text" in others else strings
        if len(wanted) != 1:
            raise ValueError(
                f'The dataset has no column "text" and {len(strings)} other columns of strings '
                f"(columns: {comma_list(dataset.column_names)}). Pass `text_column_names`."
            )
    for name in wanted:
        if name not in others:
            problem = "is the label" if name == label_column else "is not in the dataset"
            raise ValueError(
                f'Text column "{name}" {problem} (columns: {comma_list(dataset.column_names)}). '
                "Pass other `text_column_names`."
            )
        if not isinstance(dataset.features[name], Value):
            raise ValueError(f'Text column "{name}" must hold strings, got {dataset.features[name]}.')
    return list(wanted)


def joined_texts(table: pa.Table, text_columns: Sequence[str]) -> pa.ChunkedArray:
    """Return the text of each row: its columns joined by one space, a missing value as an empty string.

    Example:
        >>> joined_texts(pa.table({"title": ["Oil", None], "body": ["rose", "fell"]}), ["title", "body"]).to_pylist()
        ['Oil rose', ' fell']
    """
    texts = [pc.fill_null(pc.cast(table[name], pa.string()), "") for name in text_columns]
    return pc.binary_join_element_wise(*texts, " ")


def unlabelled(rows: Dataset, text_columns: Sequence[str], features: Features, *, clean: bool = False) -> Dataset:
    """Return rows with the column `text` and, in the column `label`, `NO_LABEL`.

    Args:
        rows: Rows with their columns as they are stored.
        text_columns: Columns that make up the text.
        features: Features of the result: `text` and a `ClassLabel`.
        clean: Whether to pass the texts through `clean_text`.
    """

    def convert(table: pa.Table) -> pa.Table:
        text = _texts(table, text_columns, clean)
        return pa.table({"text": text, "label": pa.repeat(pa.scalar(NO_LABEL, pa.int64()), len(table))})

    mapped = rows.with_format("arrow").map(
        convert, batched=True, remove_columns=rows.column_names, features=features, desc="Preparing texts"
    )
    return mapped.with_format(None)


def _texts(table: pa.Table, text_columns: Sequence[str], clean: bool) -> pa.ChunkedArray | pa.Array:
    """Return the text of each row."""
    text = joined_texts(table, text_columns)
    return pa.array([clean_text(text) for text in text.to_pylist()], type=pa.string()) if clean else text


def _text_and_label(
    dataset: Dataset,
    text_columns: list[str],
    label_column: str,
    problem_type: ProblemType,
    ids: dict[Any, int] | None,
    label: ClassLabel | List | Value,
    clean: bool,
) -> Dataset:
    """Return the columns `text` and `label`; stored columns are used as they are if possible."""
    features = Features(text=Value("string"), label=label)
    first = text_columns[0]
    is_unchanged = len(text_columns) == 1 and not clean and dataset.features[first] == features["text"]
    if (
        is_unchanged
        and dataset.features[label_column] == features["label"]
        and not column_of(dataset, first).null_count
    ):
        return dataset.select_columns([first, label_column]).rename_columns({first: "text", label_column: "label"})
    return (
        dataset.with_format("arrow")
        .map(
            _convert,
            batched=True,
            remove_columns=dataset.column_names,
            features=features,
            fn_kwargs={
                "text_columns": text_columns,
                "label_column": label_column,
                "problem_type": problem_type,
                "ids": ids,
                "clean": clean,
            },
            desc="Preparing texts",
        )
        .with_format(None)
    )


def _convert(
    table: pa.Table,
    text_columns: list[str],
    label_column: str,
    problem_type: ProblemType,
    ids: dict[Any, int] | None,
    clean: bool,
) -> pa.Table:
    """Return `text` and `label` of a batch of rows."""
    text = _texts(table, text_columns, clean)
    return pa.table({"text": text, "label": convert_labels(table[label_column], problem_type, ids)})
