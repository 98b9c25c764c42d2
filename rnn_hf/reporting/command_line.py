"""One way for every script to read its arguments and to show an error of its user."""

import copy
import difflib
import json
import math
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import yaml
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import HfArgumentParser

USER_ERROR_STATUS = 2

# Of the key `<<`, which takes over what another mapping has
MERGE_TAG = "tag:yaml.org,2002:merge"


class ScriptParser(HfArgumentParser):
    """Turns command lines and recipes into dataclasses; a mistake in either ends in one line and exit status 2.

    A recipe is a YAML file of flag names and values, given before every flag. Its entries are read as if they had been
    typed at the front of the command line, so that both go through the same types and the command line wins.

    Args:
        dataclass_types: The dataclasses whose fields are the flags.
        kwargs: Passed on to `argparse.ArgumentParser`.
    """

    def __init__(self, dataclass_types: Sequence[type], **kwargs: Any) -> None:
        super().__init__(dataclass_types, allow_abbrev=False, **kwargs)  # type: ignore[arg-type]  # typed as one class

    @staticmethod
    def _parse_dataclass_field(parser: ArgumentParser, field: Field[Any]) -> None:
        # argparse would refuse the domain of a value, which is checked by the dataclass
        field = copy.copy(field)
        field.metadata = MappingProxyType({key: value for key, value in field.metadata.items() if key != "domain"})
        HfArgumentParser._parse_dataclass_field(parser, field)

    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage of a hundred flags, and exit."""
        raise ValueError(message)

    def flags(self) -> list[str]:
        """Return the names of all flags, without their dashes."""
        return [option[2:] for option in self._option_string_actions if option.startswith("--") and option != "--help"]

    def parse(self, argv: Sequence[str]) -> tuple[tuple[Any, ...], set[str]]:
        """Read a command line.

        Args:
            argv: The words after the script's name; the first one may be the path of a recipe.

        Returns:
            The dataclasses in the order of their types, and the names of the flags that were given.

        Raises:
            ValueError: If a flag is unknown, or a value has the wrong type or lies out of range.
            FileNotFoundError: If there is no recipe of that name.
        """
        words = list(argv)
        if words and not words[0].startswith("-"):
            words = [*self._recipe_words(Path(words[0])), *words[1:]]
        *values, unknown = self.parse_args_into_dataclasses(
            words, look_for_args_file=False, return_remaining_strings=True
        )
        if unknown:
            raise ValueError(self._unknown(unknown[0], "argument"))
        for arguments in values:
            check_values(arguments)
        given = {word[2:].split("=")[0] for word in words if word.startswith("--")}
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
            if any(isinstance(item, dict | list) for item in values):
                raise ValueError(f"`{name}` in the recipe {str(path)!r} must be one value or a list, got {value!r}.")
            if value is not None:
                words += [f"--{name}", *map(str, values)]
        return words


class UniqueKeyLoader(yaml.SafeLoader):
    """Reads YAML, but refuses a key that comes twice, of which the first value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE_TAG:
                if key.value in seen:
                    raise yaml.YAMLError(f"`{key.value}` comes twice")
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_mapping(path: Path, what: str, of: str) -> dict[Any, Any]:
    """Return what a YAML file maps to what.

    Args:
        path: The file.
        what: What it is called in the message of an error.
        of: What it must hold.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not YAML, or no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader)  # it is a safe one
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"The {what} {str(path)!r} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"The {what} {str(path)!r} must be a mapping of {of}, got {content!r:.80}.")
    return content


@contextmanager
def user_errors(script: str) -> Iterator[None]:
    """Show an error of the user as one line, without a traceback, and exit with status 2.

    It stands around the reading of arguments, data and models, where an error is the user's to mend. What goes wrong
    afterwards is a defect and keeps its traceback.

    Args:
        script: Name of the script, which the line begins with.
    """
    try:
        yield
    except (ValueError, OSError, StrictDataclassError, SafetensorError) as error:
        if int(os.environ.get("RANK", "0")) == 0:
            print(f"{script}: error: {one_line(error)}", file=sys.stderr)
        sys.exit(USER_ERROR_STATUS)


def check_values(arguments: Any) -> None:
    """Refuse what no flag can mean: an empty name, and a number that is not finite.

    Args:
        arguments: A dataclass of flags.

    Raises:
        ValueError: If a flag has such a value.
    """
    for entry in fields(arguments):
        value = getattr(arguments, entry.name)
        if value == "":
            raise ValueError(f"`--{entry.name}` must not be empty. Leave it out, or give it a value.")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"`--{entry.name}` must be a finite number, got {number}.")


def check_folder_of(name: str, file: str | None) -> None:
    """Check that a file could be written before hours are spent on what goes into it.

    Args:
        name: The flag that names the file, without its dashes.
        file: The file, if there is to be one.

    Raises:
        FileNotFoundError: If the folder it would lie in does not exist.
        ValueError: If it is a folder itself.
    """
    if file is not None and Path(file).is_dir():
        raise ValueError(f"`--{name}` must be a file, got the folder {file!r}. Pass a file in it.")
    if file is not None and not Path(file).parent.is_dir():
        raise FileNotFoundError(f"The folder of `--{name}` does not exist: '{Path(file).parent}'. Make it.")


def check_output_folder(folder: Path) -> None:
    """Check that a folder is there or could be made, before hours are spent on what goes into it.

    Args:
        folder: The value of `--output_dir`.

    Raises:
        ValueError: If it, or what it would lie in, is a file.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(
                f"`--output_dir` must be a folder, got {str(folder)!r}, but {str(place)!r} is a file. Pass another."
            )


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a file to write, and rename it to `path` once it is written; an error leaves what stood there.

    Args:
        path: Where the file stands at the end.
    """
    beside = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        yield beside
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; what stood there is replaced by a whole file or not at all.

    Args:
        path: The file.
        value: What `json` can write.
    """
    with written_beside(path) as beside:
        beside.write_text(json.dumps(value, indent=2) + "\n")


def one_line(error: BaseException) -> str:
    r"""Return what an error says, on one line.

    Example:
        >>> one_line(ValueError("`seed` must be\n  at least 0, got -1."))
        '`seed` must be at least 0, got -1.'
    """
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename!r}."
    if isinstance(error, StrictDataclassError) and error.__cause__ is not None:
        return one_line(error.__cause__)
    return " ".join(str(error).split()) or type(error).__name__
