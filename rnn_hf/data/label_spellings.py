"""Labels in files without types: whether they are classes or the targets of a regression, and why."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rnn_hf.configuration_rnn import ProblemType

# Labels with at most this many distinct values are classes
MOST_NUMBERED_CLASSES = 20

NUMBER = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
# An integer, which a spreadsheet or a data frame may write as `2.0`
WHOLE_NUMBER = r"^(-?(?:0|[1-9][0-9]*))(?:\.0+)?$"
# A number with a decimal comma, as in many languages
COMMA = r"^[-+]?[0-9]+(,[0-9]+)?$"

# Signs that numbers are codes rather than measurements
_OF_CODES = (
    (r"[eE]", "has an exponent"),
    (r"^[-+]?0[0-9]", "has a leading zero"),
    (r"^[^.]*$", "has no decimal point"),
    (r"^[+.\s]|^-\.|\.$|\s$", "is not written as a decimal number"),
)


def why_classes(labels: pa.Array | pa.ChunkedArray) -> str | None:
    """Return why labels that are stored as strings are classes, or `None` if they are the targets of a regression.

    Codes, versions, ids and ratings are also written as numbers, so labels are targets only if nothing speaks against
    it.

    Args:
        labels: The distinct labels, without missing ones.

    Example:
        >>> why_classes(pa.array(["3.1", "3.10"])), why_classes(pa.array(["01", "2.5"]))
        ("'3.1' and '3.10' are the same number", "'01' has a leading zero")
        >>> why_classes(pa.array([f"{number / 8}" for number in range(21)]))
    """
    is_number = pc.match_substring_regex(labels, NUMBER)
    if not pc.all(is_number).as_py():
        return f"{pc.filter(labels, pc.invert(is_number))[0].as_py()!r} is not a number"
    for pattern, reason in _OF_CODES:
        found = pc.filter(labels, pc.match_substring_regex(labels, pattern))
        if len(found):
            return f"{found[0].as_py()!r} {reason}"
    numbers = pc.cast(labels, pa.float64())
    if len(pc.unique(numbers)) < len(labels):
        order = pc.sort_indices(numbers)
        ordered = pc.take(numbers, order)
        position = pc.index(pc.equal(ordered[1:], ordered[:-1]), True).as_py()
        first, second = sorted(pc.take(labels, order)[position : position + 2].to_pylist())
        return f"{first!r} and {second!r} are the same number"
    if len(labels) <= MOST_NUMBERED_CLASSES:
        return f"only {len(labels)} numbers occur"
    return None


def whole_number(label: str) -> str:
    """Return a label without the `.0` of an integer.

    Example:
        >>> whole_number("2.0"), whole_number("2.5"), whole_number("02.0")
        ('2', '2.5', '02.0')
    """
    return re.sub(WHOLE_NUMBER, r"\1", label)


def choice_of_problem(problem_type: ProblemType, label_names: Sequence[str]) -> str | None:
    """Return a line that explains how numeric labels were interpreted; `None` for labels that can only be classes.

    Args:
        problem_type: The interpretation.
        label_names: Names of the classes or targets.

    Example:
        >>> choice_of_problem("single_label_classification", ["1", "2"])
        "The labels are classes, because '1' has no decimal point. For numbers pass `problem_type=regression`."
        >>> choice_of_problem("single_label_classification", [f"{number},5" for number in range(30)])
        "The labels are classes, because '0,5' is not a number. Numbers must have a decimal point, not a comma."
        >>> choice_of_problem("single_label_classification", [f"{number}" for number in range(30)])
        "The labels are classes, because '0' has no decimal point. For numbers pass `problem_type=regression`."
    """
    if problem_type == "regression":
        if len(label_names) > 1:
            return None
        return (
            "The labels are the numbers of a regression, because all are decimal numbers. For classes pass "
            "`problem_type=single_label_classification`."
        )
    names = pa.array(label_names, pa.string())
    reason = why_classes(names) or "their type says so"
    if problem_type != "single_label_classification":
        return None
    if reason.endswith("is not a number"):
        has_commas = len(names) > MOST_NUMBERED_CLASSES and pc.all(pc.match_substring_regex(names, COMMA)).as_py()
        remedy = "Numbers must have a decimal point, not a comma."
        return f"The labels are classes, because {reason}. {remedy}" if has_commas else None
    return f"The labels are classes, because {reason}. For numbers pass `problem_type=regression`."


def near_duplicates(label_names: Sequence[str]) -> list[list[str]]:
    """Return pairs of classes whose names differ only in spaces or in case.

    Example:
        >>> near_duplicates(["sport", "sport ", "tech"])
        [['sport', 'sport ']]
    """
    first: dict[str, str] = {}
    pairs = []
    for name in label_names:
        other = first.setdefault(" ".join(name.split()).casefold(), name)
        if other != name:
            pairs.append([other, name])
    return pairs
