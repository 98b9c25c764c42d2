"""Which columns of a dataset hold texts and labels, and their conversion to the columns `text` and `label`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, List, Value

from rnn_hf.configuration_rnn import ProblemType

from .cleaning import clean_text
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
    ) -> "TextColumns":
        """Return the columns of a dataset, with the feature of `label` derived from its labels.

        Args:
            reference: The splits that together contain every label.
            text_column_names: As in `load_text_dataset`.
            label_column_name: As in `load_text_dataset`.
            label_names: As in `load_text_dataset`.
            problem_type: As in `load_text_dataset`.
            clean_text: As in `load_text_dataset`.

        Raises:
            ValueError: If the label column is missing or has the wrong type, or a label is missing or wrong.
        """
        problem = problem_type or recognize_problem_type(reference, label_column_name)
        label = label_feature(reference, label_column_name, problem, label_names)
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
            ids = class_ids(rows, column, split, self.problem_type, names, ids_allowed=self.ids_allowed)
        return _text_and_label(rows, texts, column, self.problem_type, ids, self.label, self.clean_text)


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
    """Return the text of each row: its columns joined by one blank, a missing value as an empty string.

    Example:
        >>> joined_texts(pa.table({"title": ["Oil", None], "body": ["rose", "fell"]}), ["title", "body"]).to_pylist()
        ['Oil rose', ' fell']
    """
    texts = [pc.fill_null(pc.cast(table[name], pa.string()), "") for name in text_columns]
    return pc.binary_join_element_wise(*texts, " ")


def _text_and_label(
    dataset: Dataset,
    text_columns: list[str],
    label_column: str,
    problem_type: ProblemType,
    ids: dict[Any, int] | None,
    label: ClassLabel | List | Value,
    clean: bool,
) -> Dataset:
    """Return the columns `text` and `label`; nothing is written where the stored columns will do."""
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
    text = joined_texts(table, text_columns)
    if clean:
        text = pa.array([clean_text(text) for text in text.to_pylist()], type=pa.string())
    return pa.table({"text": text, "label": convert_labels(table[label_column], problem_type, ids)})
