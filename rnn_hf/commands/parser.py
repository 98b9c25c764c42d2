"""One way for every command to read its arguments, to show an error, and to exit."""

import copy
import difflib
import functools
import math
import os
import signal
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, fields
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, ParamSpec, TypeVar

import yaml
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import HfArgumentParser

from rnn_hf.errors import SIGNAL_STATUS, USER_ERROR_STATUS, exit_status_of, one_line, scrubbed_logs

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class MappingLoader(yaml.SafeLoader):
    """Reads YAML as far as a recipe has a use for it.

    An alias is refused, because a few lines of them can stand for more values than memory holds; a key that stands
    twice is, because YAML would take the last one without a word.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next value, which must stand where it is used."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (`*`). Write the value out where it is used")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping none of whose keys stands twice."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise yaml.YAMLError(f"`{twice[0]}` stands in it more than once")
        return super().construct_mapping(node, deep)


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
        """Return the names of all flags but `--help`, without their dashes."""
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
        for word in words:
            if word == "--" or (word.startswith("--") and word.endswith("=--")):
                # argparse would drop the dashes and take an empty list for the value
                raise ValueError(f"`--` cannot be a value, got {word!r}. Pass another one.")
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
        content = yaml.load(path.read_text(encoding="utf-8"), MappingLoader)  # it is a safe one
    except OSError:
        raise
    except Exception as error:  # PyYAML lets many kinds through: of bad numbers and dates, of deep nesting
        reason = str(error) or type(error).__name__
        raise ValueError(f"The {what} {str(path)!r} is not YAML of the kind it must be: {reason:.500}") from error
    if not isinstance(content, dict):
        raise ValueError(f"The {what} {str(path)!r} must be a mapping of {of}, got {content!r:.80}.")
    return content


@contextmanager
def user_errors(script: str) -> Iterator[None]:
    """Show an error of the user as one line, without a traceback, and exit with status 2.

    It stands around the reading of arguments, data and models, where an error is the user's to mend. What goes wrong
    afterwards is a defect and keeps its traceback. No secret of the Hub comes into the line, or into what is logged
    until then.

    Args:
        script: Name of the script, which the line begins with.
    """
    try:
        with scrubbed_logs():
            yield
    except (ValueError, OSError, StrictDataclassError, SafetensorError) as error:
        leave(script, one_line(error), USER_ERROR_STATUS)


def leave(script: str, message: str, status: int) -> NoReturn:
    """Exit with one line, which the first of several processes prints.

    Args:
        script: Name of the script, which the line begins with.
        message: What happened, and what to do.
        status: One of the exit statuses listed above.
    """
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"{script}: {'error: ' if status < SIGNAL_STATUS else ''}{message}", file=sys.stderr)
    sys.exit(status)


def exit_statuses(script: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Let a script's `main` end with one line and the exit status for it, wherever it is interrupted or runs dry.

    An exception that carries an `exit_status` of its own, as those of a stopped run do, ends with that.

    Args:
        script: Name of the script, which the line begins with.
    """

    def decorate(main: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(main)
        def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            try:
                return main(*args, **kwargs)
            except KeyboardInterrupt:
                leave(script, "Stopped by SIGINT.", SIGNAL_STATUS + signal.SIGINT)
            except Exception as error:
                status = exit_status_of(error)
                if status is None:
                    raise
                leave(script, one_line(error), status)

        return wrapped

    return decorate


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
