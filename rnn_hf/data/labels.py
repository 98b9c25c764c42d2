"""The labels of a dataset: their problem type, their classes, and their conversion to class ids or numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features, LargeList, List, Value

from rnn_hf.configuration_rnn import ProblemType

from .label_spellings import NUMBER, WHOLE_NUMBER, whole_number, why_classes
from .table_files import plain_type
from .table_rows import is_untyped

_EXPECTED = {
    "single_label_classification": "one class per row (a string, an integer or a boolean)",
    "multi_label_classification": "a list of classes, or a list of 0 and 1 for each class, per row",
    "regression": "a number, or a list of numbers of fixed length, per row",
}


class HasFeatures(Protocol):
    """Rows with a column `label`: a loaded dataset, or a stream."""

    @property
    def features(self) -> Features:
        """The features of the columns."""
        ...


def problem_type_of(dataset: HasFeatures) -> ProblemType:
    """Return the problem type of the column `label` of a loaded dataset."""
    feature = dataset.features["label"]
    if isinstance(feature, ClassLabel):
        return "single_label_classification"
    return "multi_label_classification" if isinstance(item_of(feature), ClassLabel) else "regression"


def label_names_of(dataset: HasFeatures) -> list[str]:
    """Return the names of the classes, or of the targets of a regression, of a loaded dataset."""
    feature = dataset.features["label"]
    if isinstance(item_of(feature), ClassLabel):
        return list(item_of(feature).names)
    return [f"LABEL_{index}" for index in range(feature.length if isinstance(feature, List) else 1)]


def item_of(feature: Any) -> Any:
    """Return the feature of a single label: that of the items of a list, or else the feature itself."""
    return feature.feature if isinstance(feature, List | LargeList) else feature


def comma_list(names: Iterable[str]) -> str:
    """Return names joined by commas, at most 20 of them, for an error message."""
    names = list(names)
    return ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")


def column_of(dataset: Dataset, name: str) -> pa.ChunkedArray:
    """Return a column as an Arrow array of a plain type."""
    return _plain(dataset.with_format("arrow")[name])


def recognize_problem_type(reference: Mapping[str, Dataset], column: str) -> ProblemType:
    """Return the problem type of a column: floating-point numbers are targets, other lists are sets of classes.

    In a file without types, labels are targets unless `why_classes` has a reason against it.
    """
    (split, rows), *_ = reference.items()
    labels = _labelled(rows, column, split)
    values = labels.type.value_type if _is_list(labels.type) else labels.type
    is_target = is_untyped(rows) and pa.types.is_string(values) and why_classes(pc.unique(labels)) is None
    if pa.types.is_floating(values) or is_target:
        return "regression"
    return "multi_label_classification" if _is_list(labels.type) else "single_label_classification"


def label_feature(
    reference: Mapping[str, Dataset],
    column: str,
    problem_type: ProblemType,
    label_names: Sequence[str] | None,
    *,
    merges_whole_numbers: bool = False,
) -> ClassLabel | List | Value:
    """Return the feature of the column `label`, with the classes in the order of their ids.

    Args:
        reference: The splits that together contain every label.
        column: Column of the labels.
        problem_type: Problem type of the labels.
        label_names: The classes, if they are known.
        merges_whole_numbers: Whether strings `1.0` and `1` are one class if all labels are such numbers.

    Raises:
        ValueError: If a label is missing or has the wrong type.
    """
    if problem_type == "regression":
        (split, rows), *_ = reference.items()
        labels = _checked(rows, column, split, problem_type)
        width = pc.list_value_length(labels)[0].as_py() if _is_list(labels.type) else 1
        if width == 0 or (label_names is not None and width != len(label_names)):
            expected = "at least one number" if label_names is None else f"{len(label_names)} numbers"
            raise ValueError(f'Every row must have {expected} in "{column}", got {width} in row 0 of "{split}".')
        return List(Value("float32"), length=width) if _is_list(labels.type) else Value("float32")
    width = multi_hot_width(reference, column, problem_type, label_names)
    if label_names is not None:
        classes = list(label_names)
    elif width is not None:
        classes = [str(index) for index in range(width)]
    else:
        classes = _class_names(reference, column, problem_type, merges_whole_numbers)
    feature = ClassLabel(names=classes)
    return feature if problem_type == "single_label_classification" else List(feature)


def multi_hot_width(
    reference: Mapping[str, Dataset], column: str, problem_type: ProblemType, label_names: Sequence[str] | None
) -> int | None:
    """Return the number of classes if every row holds 0 or 1 for each class; `None` if rows list their classes."""
    if problem_type != "multi_label_classification":
        return None
    widths = set()
    for split, rows in reference.items():
        labels = _checked(rows, column, split, problem_type)
        is_class = isinstance(item_of(rows.features[column]), ClassLabel)
        if is_class or pa.types.is_string(labels.type.value_type) or pa.types.is_null(labels.type.value_type):
            return None
        is_flag = pc.is_in(_numbers(labels), pa.array([0.0, 1.0]))
        if not pc.all(is_flag, min_count=0).as_py():
            return None
        widths.update(pc.unique(pc.list_value_length(labels)).to_pylist())
    width = widths.pop() if len(widths) == 1 else 0
    is_multi_hot = width > 1 and (label_names is None or width == len(label_names))
    return width if is_multi_hot else None


def class_ids(
    dataset: Dataset,
    column: str,
    split: str,
    problem_type: ProblemType,
    classes: Sequence[str],
    *,
    ids_allowed: bool,
) -> dict[Any, int]:
    """Return the class id of every label that occurs in a split; `2.0` is the class `2` unless there is another.

    Args:
        dataset: The rows.
        column: Column of the labels.
        split: Name of the split, for error messages.
        problem_type: Problem type of the labels.
        classes: Names of the classes in the order of their ids.
        ids_allowed: Whether numbers are accepted as ids if no label is the name of a class.

    Raises:
        ValueError: If a label is missing, has the wrong type or is not one of the classes.
    """
    named = _named_labels(dataset, column, split, problem_type)
    ids = {name: class_id for class_id, name in enumerate(classes)}
    named = {label: name if name in ids else whole_number(name) for label, name in named.items()}
    if ids_allowed and not any(name in ids for name in named.values()):
        ids = {str(class_id): class_id for class_id in range(len(classes))}
    for label, name in named.items():
        if name not in ids:
            row = _first_row(column_of(dataset, column), pc.index(_values(column_of(dataset, column)), label).as_py())
            raise ValueError(
                f'Label "{name}" in row {row} of the "{split}" split (labels: {comma_list(sorted(named.values()))}) '
                f"is not one of the classes {comma_list(classes)}. Remove such rows, or pass `label_column_name`."
            )
    return {label: ids[name] for label, name in named.items()}


def check_numbers(dataset: Dataset, column: str, split: str, problem_type: ProblemType, width: int | None) -> None:
    """Check that every row holds a list of `width` finite numbers, or one finite number if `width` is `None`.

    Raises:
        ValueError: If a row does not.
    """
    labels = _checked(dataset, column, split, problem_type)
    if width is not None:
        wrong = pc.not_equal(pc.list_value_length(labels), width)
        if pc.any(wrong).as_py():
            row = pc.index(wrong, True).as_py()
            raise ValueError(
                f'Every row must have {width} numbers in "{column}", got {len(labels[row])} in row {row} of the '
                f'"{split}" split.'
            )
    elif _is_list(labels.type):
        raise ValueError(f'Column "{column}" must hold one number per row as in training, got lists in "{split}".')
    finite = pc.is_finite(pc.cast(_numbers(labels), pa.float32()))
    if not pc.all(finite, min_count=0).as_py():
        row = _first_row(labels, pc.index(finite, False).as_py())
        raise ValueError(
            f'Every label must be a finite number of 32 bits, got NaN or infinity in row {row} of the "{split}" split.'
        )


def convert_labels(labels: pa.ChunkedArray, problem_type: ProblemType, ids: dict[Any, int] | None) -> pa.Array:
    """Return the column `label` of a batch of rows.

    Args:
        labels: The labels as they are stored.
        problem_type: Problem type of the labels.
        ids: Class id of each label; `None` for a regression and for rows that hold 0 or 1 for each class.
    """
    labels = _plain(labels)
    if problem_type == "regression":
        numbers = pc.cast(_numbers(labels), pa.float32()).combine_chunks()
        if not _is_list(labels.type):
            return numbers
        return pa.FixedSizeListArray.from_arrays(numbers, len(numbers) // len(labels))
    if problem_type == "multi_label_classification" and labels.type in (pa.null(), pa.list_(pa.null())):
        labels = labels.cast(pa.list_(pa.string()))  # no row has a class
    if ids is None:
        flags = _numbers(labels).to_numpy().reshape(len(labels), -1)
        return pa.array([row.nonzero()[0] for row in flags], type=pa.list_(pa.int64()))
    values = _values(labels)
    positions = pc.index_in(values, pa.array(list(ids), type=values.type))
    classes = pc.take(pa.array(list(ids.values()), type=pa.int64()), positions)
    if problem_type == "single_label_classification":
        return classes
    offsets = [0, *pc.cumulative_sum(pc.fill_null(pc.list_value_length(labels), 0)).to_pylist()]
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), classes.combine_chunks())


def _is_list(labels: pa.DataType) -> bool:
    return bool(pa.types.is_list(labels) or pa.types.is_large_list(labels) or pa.types.is_fixed_size_list(labels))


def _values(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the labels of all rows in one flat array."""
    return pc.list_flatten(labels) if _is_list(labels.type) else labels


def _numbers(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    values = _values(labels)
    return pc.cast(pc.utf8_trim_whitespace(values) if pa.types.is_string(values.type) else values, pa.float64())


def _plain(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    plain = plain_type(labels.type)
    return labels if labels.type == plain else labels.cast(plain)


def _first_row(labels: pa.ChunkedArray, position: int) -> int:
    """Return the row that a position in the flat array of all labels belongs to."""
    if not _is_list(labels.type):
        return position
    row: int = pc.list_parent_indices(labels.combine_chunks())[position].as_py()
    return row


def _labelled(dataset: Dataset, column: str, split: str) -> pa.ChunkedArray:
    """Return a column of labels, after a check that none is missing."""
    labels = _labels_of(dataset, column, split)
    for missing in (labels, _values(labels)):
        if missing.null_count:
            position = pc.index(pc.is_null(missing), True).as_py()
            row = position if missing is labels else _first_row(labels, position)
            others = f" and {missing.null_count - 1:,} more" if missing.null_count > 1 else ""
            raise ValueError(
                f'Every row must have a label, got none in row {row}{others} of the "{split}" split (the first row '
                "is 0). Drop these rows."
            )
    return labels


def _labels_of(dataset: Dataset, column: str, split: str) -> pa.ChunkedArray:
    """Return a column of labels."""
    if column not in dataset.column_names:
        raise ValueError(
            f'Column "{column}" is not in the dataset (columns: {comma_list(dataset.column_names)}). '
            "Pass `label_column_name`."
        )
    if len(dataset) == 0:
        raise ValueError(f'The "{split}" split must have rows, got none.')
    return column_of(dataset, column)


def _checked(dataset: Dataset, column: str, split: str, problem_type: ProblemType) -> pa.ChunkedArray:
    """Return a column of labels of the type that the problem type requires."""
    labels = _labels_of(dataset, column, split)
    if problem_type == "multi_label_classification" and split != "train" and labels.null_count == len(labels):
        return pa.chunked_array([pa.array([[]] * len(labels), pa.list_(pa.string()))])
    labels = _labelled(dataset, column, split)
    feature = dataset.features[column]
    values = labels.type.value_type if _is_list(labels.type) else labels.type
    got = str(feature)
    if problem_type == "single_label_classification":
        fits = _is_name(values) and not _is_list(labels.type)
    elif problem_type == "multi_label_classification":
        fits = _is_list(labels.type) and (_is_name(values) or pa.types.is_null(values))
    else:
        fits = pa.types.is_integer(values) or pa.types.is_floating(values)
        if pa.types.is_string(labels.type):
            is_number = pc.match_substring_regex(labels, NUMBER)
            fits = pc.all(is_number).as_py()
            if not fits:
                row = pc.index(is_number, False).as_py()
                got = f'"{labels[row]}" in row {row} of the "{split}" split'
    if fits and problem_type != "regression" and pa.types.is_floating(values):
        numbers = _numbers(labels)
        is_whole = pc.and_(pc.is_finite(numbers), pc.equal(numbers, pc.trunc(numbers)))
        fits = pc.all(is_whole, min_count=0).as_py()
    if not fits:
        raise ValueError(
            f'Column "{column}" must hold {_EXPECTED[problem_type]}, got {got}. Pass `label_column_name` or '
            "`problem_type`."
        )
    return labels


def _is_name(values: pa.DataType) -> bool:
    """Return whether values of a type may name classes; floating-point numbers may if they are integers."""
    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_boolean, pa.types.is_floating)
    return any(is_kind(values) for is_kind in kinds)


def _named_labels(dataset: Dataset, column: str, split: str, problem_type: ProblemType) -> dict[Any, str]:
    """Return the name of every label that occurs in a split."""
    labels = _checked(dataset, column, split, problem_type)
    feature = item_of(dataset.features[column])
    names = dict(enumerate(feature.names)) if isinstance(feature, ClassLabel) else {}
    return {
        label: names.get(label, str(int(label)) if isinstance(label, float) else str(label))
        for label in pc.unique(_values(labels)).to_pylist()
    }


def _class_names(
    reference: Mapping[str, Dataset], column: str, problem_type: ProblemType, merges_whole_numbers: bool
) -> list[str]:
    """Return the names of the classes in the order of their ids."""
    names: set[str] = set()
    for split, rows in reference.items():
        names.update(_named_labels(rows, column, split, problem_type).values())
        if isinstance(item_of(rows.features[column]), ClassLabel):
            return list(item_of(rows.features[column]).names)
    if not names:
        raise ValueError(f'Column "{column}" must hold {_EXPECTED[problem_type]}, got only empty lists.')
    are_whole = all(re.match(WHOLE_NUMBER, name) for name in names)
    if are_whole and merges_whole_numbers:
        names = set(map(whole_number, names))
    numbers = all(re.fullmatch(r"-?\d+", name) for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if numbers else sorted(names)
