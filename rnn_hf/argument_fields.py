"""Arguments that are flags, keys of a recipe and keywords of Python functions: declared and checked once."""

import difflib
import inspect
import math
import operator
import os
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from .files import expand_home

Arguments = TypeVar("Arguments", bound="CheckedArguments")

COMPARISONS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "at_least": (operator.ge, "at least"),
    "at_most": (operator.le, "at most"),
    "above": (operator.gt, "above"),
    "below": (operator.lt, "below"),
}


# Groups in `--help`: the flags that most people need, and those without a named group
MOST_USED, OTHER = "most used", "options"


def flag(default: Any, text: str, group: str | None = None, **domain: float) -> Any:
    """Return a dataclass field with its help text.

    Args:
        default: Default value; `dataclasses.MISSING` makes the argument required.
        text: Help text.
        group: Group in `--help`. Defaults to the group of the dataclass.
        domain: Bounds of the values: `at_least`, `at_most`, `above` and `below`.
    """
    return field(default=default, metadata={"help": text, "group": group, "domain": domain})


def path_flag(default: Any, text: str, group: str | None = None) -> Any:
    """Return a dataclass field for a file, a folder or a name on the Hub; a leading `~` means the home folder."""
    return field(default=default, metadata={"help": text, "group": group, "is_path": True})


def group_of(arguments: type, entry: Field[Any]) -> str:
    """Return the group of a field in `--help`.

    Args:
        arguments: The dataclass of a job.
        entry: One of its fields.
    """
    if entry.name in getattr(arguments, "most_used", ()):
        return MOST_USED
    origin = next(base for base in reversed(arguments.__mro__) if entry.name in inspect.get_annotations(base))
    return str(entry.metadata.get("group") or getattr(origin, "group", OTHER))


@dataclass
class CheckedArguments:
    """Arguments whose values are checked when they are set; `~` is expanded in those that `path_flag` declares.

    Attributes:
        given: Names of the arguments that the user gave; the others have their defaults.
        group: Group of the fields in `--help`.
        most_used: Names of the arguments that `--help` shows first.
        hidden: Names of the arguments that `--help` does not show, because the job does not use them.

    Raises:
        ValueError: If a number is outside its domain, or a path starts with the home folder of an unknown user.
    """

    group: ClassVar[str] = OTHER
    most_used: ClassVar[tuple[str, ...]] = ()
    hidden: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        self.given: frozenset[str] = frozenset()
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None and entry.metadata.get("is_path"):
                expanded = [*map(expand_home, value)] if isinstance(value, list) else expand_home(value)
                setattr(self, entry.name, expanded)
            domain = entry.metadata.get("domain", {})
            if value is not None and not all(COMPARISONS[key][0](value, bound) for key, bound in domain.items()):
                expected = " and ".join(f"{COMPARISONS[key][1]} {bound}" for key, bound in domain.items())
                raise ValueError(f"`{entry.name}` must be {expected}, got {value}.")

    def refuse(self, names: Collection[str], only_for: str) -> None:
        """Check that some arguments have their defaults.

        Args:
            names: Their names.
            only_for: What takes them.

        Raises:
            ValueError: If one has another value.
        """
        for entry in fields(self):
            if entry.name in names and getattr(self, entry.name) != entry.default:
                raise ValueError(f"`{entry.name}` is only for {only_for}. Leave it out.")

    def changed(self: Arguments, **changes: Any) -> Arguments:
        """Return a copy with other values of some arguments, which keeps `given`.

        `dataclasses.replace` would lose it.
        """
        arguments = replace(self, **changes)
        arguments.given = self.given
        return arguments

    @classmethod
    def from_keywords(cls: type[Arguments], keywords: Mapping[str, Any], caller: str) -> Arguments:
        """Return the arguments from the keywords of a function.

        Args:
            keywords: Names and values.
            caller: Name of the function, for error messages.

        Raises:
            TypeError: If a name is unknown, or a value has another type than its field.
            ValueError: If a value is not one of the choices, not finite, empty, or out of its domain.
        """
        hints = get_type_hints(cls)
        known = {entry.name: hints[entry.name] for entry in fields(cls)}
        values = {}
        for name, value in keywords.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean `{close[0]}`?" if close else ""
                raise TypeError(f"{caller} has no argument {name!r}.{hint}")
            values[name] = _coerced(value, known[name])
            check_type(name, values[name], known[name])
        arguments = cls(**values)
        check_values(arguments)
        arguments.given = frozenset(keywords)
        return arguments


def _coerced(value: Any, hint: Any) -> Any:
    """Convert paths to strings, scalars of numpy to those of Python, and a string or numbers to a list of strings."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    if list[str] in (hint, *get_args(hint)) and (hasattr(value, "tolist") or isinstance(value, str | list | tuple)):
        items = [value] if isinstance(value, str) else list(getattr(value, "tolist", lambda: value)())
        return [str(item) if isinstance(item, int | float) else item for item in items]
    return value


def names_of(arguments: Any) -> list[str]:
    """Return the names of the fields of a dataclass."""
    return [entry.name for entry in fields(arguments)]


def check_type(name: str, value: Any, hint: Any) -> None:
    """Check that a value has the type of its field.

    Args:
        name: Name of the field.
        value: The value.
        hint: The type: `str`, `int`, `float`, `bool`, a `Literal`, a list of one of these, or a union with `None`.

    Raises:
        TypeError: If it has another type.
        ValueError: If it is not one of the choices of a `Literal`.

    Example:
        >>> check_type("hidden_size", "64", int)
        Traceback (most recent call last):
        TypeError: `hidden_size` must be of the type int, got '64'.
    """
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    choices = [choice for option in options if get_origin(option) is Literal for choice in get_args(option)]
    if any(_is_of(value, option) for option in options):
        return
    if choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(str, choices))}, got {value!r:.80}.")
    expected = " or ".join(option.__name__ if isinstance(option, type) else str(option) for option in options)
    raise TypeError(f"`{name}` must be of the type {expected.replace('NoneType', 'None')}, got {value!r:.80}.")


def _is_of(value: Any, option: Any) -> bool:
    if get_origin(option) is Literal:
        return value in get_args(option)
    if get_origin(option) is list:
        return isinstance(value, list | tuple) and all(_is_of(item, get_args(option)[0]) for item in value)
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, option)


def check_values(arguments: Any) -> None:
    """Reject values that no argument can have: an empty string, and a number that is NaN or infinite.

    Args:
        arguments: A dataclass.

    Raises:
        ValueError: If an argument has such a value.
    """
    for entry in fields(arguments):
        value = getattr(arguments, entry.name)
        if value == "":
            raise ValueError(f"`{entry.name}` must not be empty. Leave it out, or pass a value.")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"`{entry.name}` must be a finite number, got {number}.")
