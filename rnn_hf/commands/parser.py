"""Command lines and recipes become dataclasses."""

import copy
import difflib
import re
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import Field
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from rnn_hf.argument_fields import check_values
from rnn_hf.files import expand_home


class MappingLoader(yaml.SafeLoader):
    """Reads YAML as far as a recipe has a use for it.

    Aliases are rejected, because a few lines of them can stand for more values than memory holds, and duplicate keys,
    because YAML would silently take the last one.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next value, which must not be an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (`*`). Write the value out where it is used")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping without duplicate keys."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise yaml.YAMLError(f"`{twice[0]}` is in it more than once")
        return super().construct_mapping(node, deep)


class CommandParser(HfArgumentParser):
    """Turns command lines and recipes into dataclasses.

    A recipe is a YAML file of flag names and values, given before all flags. Its entries are read as if they had been
    typed at the start of the command line, so that both are checked alike and the command line overrides the recipe.

    Args:
        dataclass_types: The dataclasses whose fields are the flags.
        kwargs: Passed on to `argparse.ArgumentParser`.
    """

    def __init__(self, dataclass_types: Sequence[type], **kwargs: Any) -> None:
        super().__init__(dataclass_types, allow_abbrev=False, **kwargs)  # type: ignore[arg-type]  # typed as one class
        for action in self._actions:
            action.help = action.help and with_dashes(action.help, self.flags())

    @staticmethod
    def _parse_dataclass_field(parser: ArgumentParser, field: Field[Any]) -> None:
        # argparse does not know the domain of a value, nor a path, which the dataclass sees to
        field = copy.copy(field)
        known = {key: value for key, value in field.metadata.items() if key not in ("domain", "is_path")}
        field.metadata = MappingProxyType(known)
        HfArgumentParser._parse_dataclass_field(parser, field)

    def error(self, message: str) -> NoReturn:
        """Raise an error, where argparse would print the usage of a hundred flags and exit."""
        raise ValueError(message)

    def flags(self) -> list[str]:
        """Return the names of all flags but `--help`, without their dashes."""
        return [option[2:] for option in self._option_string_actions if option.startswith("--") and option != "--help"]

    def parse(self, argv: Sequence[str]) -> tuple[tuple[Any, ...], set[str]]:
        """Read a command line.

        Args:
            argv: The words after the command's name; the first one may be the path of a recipe.

        Returns:
            The dataclasses in the order of their types, and the names of the flags that were given.

        Raises:
            ValueError: If a flag is unknown, or a value has the wrong type or lies out of range.
            FileNotFoundError: If there is no recipe of that name.
        """
        words = list(argv)
        if words and not words[0].startswith("-"):
            words = [*self._recipe_words(Path(expand_home(words[0]))), *words[1:]]
        for word in words:
            if word == "--" or (word.startswith("--") and word.endswith("=--")):
                # argparse would drop the dashes and take an empty list for the value
                raise ValueError(f"`--` cannot be a value, got {word!r}. Pass another one.")
        *values, unknown = self.parse_args_into_dataclasses(
            words, look_for_args_file=False, return_remaining_strings=True
        )
        if unknown:
            raise ValueError(self._unknown(unknown[0], "argument"))
        given = {word[2:].split("=")[0] for word in words if word.startswith("--")}
        for arguments in values:
            check_values(arguments)
            arguments.given = frozenset(given)
        return tuple(values), given

    def _unknown(self, name: str, kind: str) -> str:
        close = difflib.get_close_matches(name.lstrip("-").split("=")[0], self.flags(), n=1)
        hint = f"Did you mean `--{close[0]}`?" if close else "`--help` lists the flags."
        return f"Unknown {kind} {name!r}. {hint}"

    def _recipe_words(self, path: Path) -> list[str]:
        recipe = read_mapping(path, "recipe", "flags to values")
        words = []
        for name, value in recipe.items():
            if name not in self.flags():
                raise ValueError(self._unknown(str(name), f"key in the recipe {str(path)!r}:"))
            values = value if isinstance(value, list) else [value]
            place = f"`{name}` in the recipe {str(path)!r}"
            if value is None:
                continue
            if not all(isinstance(item, str | int | float | date) for item in values):
                raise ValueError(f"{place} must be one value or a list, got {value!r:.80}.")
            if len(values) == 1:
                # in one word, because the value may look like a flag itself
                words.append(f"--{name}={values[0]}")
                continue
            for item in values:
                if isinstance(item, str) and item.startswith("-"):
                    raise ValueError(f"{place} must have items that do not begin with a dash, got {item!r:.80}.")
            words += [f"--{name}", *map(str, values)]
        return words


def read_mapping(path: Path, what: str, of: str) -> dict[Any, Any]:
    """Return the mapping in a YAML file.

    Args:
        path: The file.
        what: What it is called in the message of an error.
        of: What it must map, likewise.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not YAML, or no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), MappingLoader)  # it is a safe one
    except OSError:
        raise
    except Exception as error:  # PyYAML lets many kinds through: of bad numbers and dates, of deep nesting
        reason = str(error) or type(error).__name__
        raise ValueError(f"The {what} {str(path)!r} is not YAML of the kind it must be: {reason:.500}") from error
    if not isinstance(content, dict):
        raise ValueError(f"The {what} {str(path)!r} must be a mapping of {of}, got {content!r:.80}.")
    return content


def with_dashes(message: str, flags: Collection[str]) -> str:
    """Return a message in which the arguments that it names in backticks are spelled as flags.

    The library names arguments as Python does; only the command line knows of dashes.

    Args:
        message: The message.
        flags: Names of the flags, without dashes.

    Example:
        >>> with_dashes("Pass `seed=3` or another `output_dir`, not `x`.", {"seed", "output_dir"})
        'Pass `--seed 3` or another `--output_dir`, not `x`.'
    """

    def spelled(match: re.Match[str]) -> str:
        name, value = match.groups()
        return f"`--{name}{f' {value}' if value else ''}`" if name in flags else match[0]

    return re.sub(r"`(\w+)(?:=([^`]*))?`", spelled, message)


def check_folder_of(name: str, file: str | None) -> None:
    """Check that a file could be written, before hours are spent on its content.

    Args:
        name: The argument that names the file.
        file: The file, if there is to be one.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ValueError: If it is a folder itself, or a device or pipe, in whose place the file would be put.
    """
    if file is not None and Path(file).is_dir():
        raise ValueError(f"`{name}` must be a file, got the folder {file!r}. Pass a file in it.")
    if file is not None and Path(file).exists() and not Path(file).is_file():
        raise ValueError(f"`{name}` must be a file on a disk, got {file!r}. Leave it out and redirect the output.")
    if file is not None and not Path(file).parent.is_dir():
        raise FileNotFoundError(f"The folder of `{name}` does not exist: '{Path(file).parent}'. Create it.")
