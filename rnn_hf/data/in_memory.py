"""From texts and labels in memory to a dataset: lists, arrays, columns of data frames and of datasets."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features

from rnn_hf.onnx_classifier import check_column, check_strings, encodable

# Names of the conversion to a list in numpy and pandas, polars, and pyarrow
TO_LIST = ("tolist", "to_list", "to_pylist")


def dataset_of_lists(
    texts: Iterable[str], labels: Iterable[Any], name: str = "", *, needs_a_class: bool = True
) -> Dataset:
    """Return texts and their labels as a dataset with the columns `text` and `label`.

    Args:
        texts: Strings: a list, an array, or a column of a data frame or a dataset.
        labels: As many strings, integers or booleans (one class per text), lists of strings or of integers (any number
            of classes), or floating-point numbers or lists of them (regression).
        name: Prefix of `texts` and `labels` in error messages.
        needs_a_class: Whether lists of labels must not all be empty.

    Raises:
        TypeError: If a text is not a string, or the labels are not of one of these types.
        ValueError: If there are no texts, the numbers of texts and labels differ, or a value is missing.

    Example:
        >>> dataset_of_lists(["a dog", "a cat"], [1, 0])["label"][:]
        [1, 0]
    """
    found, answers = as_list(texts, f"{name}texts"), as_list(labels, f"{name}labels")
    if len(found) != len(answers):
        raise ValueError(
            f"`{name}texts` and `{name}labels` must have the same length, got {len(found)} and {len(answers)}."
        )
    if not found:
        raise ValueError(f"`{name}texts` must have at least one text, got none.")
    check_strings(found, f"{name}texts")
    try:
        columns = {
            "text": pa.array([encodable(text) for text in found], pa.string()),
            "label": pa.array(checked_labels(answers, f"{name}labels", needs_a_class)),
        }
    except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"`{name}labels` must be 64-bit numbers or valid text, got other values ({error})."
        ) from error
    table = pa.table(columns)
    # rows in memory are not cached, so any fingerprint will do
    info = DatasetInfo(features=Features.from_arrow_schema(table.schema))
    return Dataset(table, info=info, fingerprint=f"{name}lists")


def as_list(values: Any, name: str) -> list[Any]:
    """Return values as a list of Python objects.

    Args:
        values: A list, a tuple, a generator, an array of numpy or pyarrow, a tensor, or a column of a data frame or
            a dataset.
        name: Name of the argument, for error messages.

    Raises:
        TypeError: If they are a single string, a mapping or a set, or not a sequence.

    Example:
        >>> import numpy as np
        >>> as_list(np.array([1, 2]), "labels"), as_list(("a", np.str_("b")), "texts")
        ([1, 2], ['a', 'b'])
    """
    check_column(values, name)
    convert = next((getattr(values, method) for method in TO_LIST if hasattr(values, method)), None)
    items = list(values) if convert is None else convert()
    return [_python_object(item) for item in items]


def _python_object(item: Any) -> Any:
    """Convert a value of numpy or torch to Python, also inside a list, and a set to a sorted list."""
    if isinstance(item, str):
        return str(item)
    if hasattr(item, "tolist"):
        return item.tolist()
    if isinstance(item, set | frozenset):
        return sorted(map(_python_object, item), key=str)
    return [_python_object(each) for each in item] if isinstance(item, list | tuple) else item


def checked_labels(labels: Sequence[Any], name: str, needs_a_class: bool = True) -> list[Any]:
    """Return labels, after a check that they have one type and none is missing.

    Args:
        labels: Labels, or lists of them, as objects of Python.
        name: Name of the argument, for error messages.
        needs_a_class: Whether lists of labels must not all be empty.

    Raises:
        TypeError: If they are of several types, or of a type that labels cannot have.
        ValueError: If a label is missing.
    """
    kinds: dict[str, int] = {}
    for position, label in enumerate(labels):
        for item in label if isinstance(label, list) else [label]:
            kind = _kind_of(item)
            if kind is None:
                raise ValueError(f"`{name}` must have no missing value, got {item!r:.80} at position {position}.")
            kinds.setdefault(f"lists of {kind}" if isinstance(label, list) else kind, position)
    num_lists = sum(isinstance(label, list) for label in labels)
    if num_lists == len(labels) and not kinds and needs_a_class:
        raise ValueError(f"`{name}` must name at least one class, got only empty lists.")
    if len(kinds) > 1:
        (first, _), (second, position), *_ = kinds.items()
        raise TypeError(f"`{name}` must be of one type, got {first} and, at position {position}, {second}.")
    if num_lists not in (0, len(labels)):
        raise TypeError(f"`{name}` must be of one type, got lists and other values.")
    return list(labels)


def _kind_of(label: Any) -> str | None:
    """Return the type of a label, or `None` if it is missing.

    Raises:
        TypeError: If labels cannot have its type.
    """
    if isinstance(label, str):
        return "strings"
    if isinstance(label, bool):
        return "booleans"
    if isinstance(label, int):
        return "integers"
    if isinstance(label, float):
        return "numbers" if math.isfinite(label) else None
    if label is None or type(label).__name__ in ("NAType", "NaTType"):  # of pandas
        return None
    raise TypeError(f"A label must be a string, a number or a list of them, got {label!r:.80}.")
