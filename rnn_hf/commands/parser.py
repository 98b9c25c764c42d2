"""Parsing command lines and recipes into dataclasses."""

import difflib
import re
import shutil
import textwrap
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import MISSING, fields
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from rnn_hf.argument_fields import MOST_USED, check_values, group_of
from rnn_hf.files import expand_home

# Groups of flags in the order of `--help`
GROUPS = (MOST_USED, "data", "model", "training", "distillation", "output", "distributed")
EPILOG = (
    "recipe.yaml is a YAML file of flag names, without their leading dashes, and values; the command line overrides "
    "it. A flag that takes true or false means true if no value follows. Dashes may replace underscores in a flag."
)


class MappingLoader(yaml.SafeLoader):
    """Reads the part of YAML that recipes need.

    Aliases are rejected, because a few lines of them can stand for more values than fit into memory; so are duplicate
    keys, because YAML would silently use the last one.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next value, which must not be an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (`*`). Repeat the value instead")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping without duplicate keys."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise yaml.YAMLError(f"the key `{twice[0]}` occurs more than once")
        return super().construct_mapping(node, deep)


class CommandParser(HfArgumentParser):
    """Parses command lines and recipes into dataclasses.

    A recipe is a YAML file of flag names and values, given before all flags. Its entries are parsed as if they were
    typed at the start of the command line: they are checked in the same way, and the command line overrides them.

    Args:
        dataclass_types: Dataclasses whose fields are the flags.
        from_data: Names of the flags that the job chooses from the data if they are not given.
        kwargs: Passed on to `argparse.ArgumentParser`.
    """

    def __init__(self, dataclass_types: Sequence[type], from_data: Collection[str] = (), **kwargs: Any) -> None:
        entries = [(job, entry) for job in dataclass_types for entry in fields(job)]
        self.group_names = {entry.name: group_of(job, entry) for job, entry in entries}
        self.hidden = {name for job in dataclass_types for name in getattr(job, "hidden", ())}
        self.from_data = from_data
        self.groups: dict[str, Any] = {}
        super().__init__(
            dataclass_types,  # type: ignore[arg-type]  # typed as one class
            allow_abbrev=False,
            formatter_class=RawDescriptionHelpFormatter,
            **kwargs,
        )
        if entries:
            needed = [entry.name for _, entry in entries if entry.default is entry.default_factory is MISSING]
            required = [f"--{name} {value_name(name)}\n   " for name in needed]
            self.usage = " ".join([self.prog, "[recipe.yaml]", *required, "[--flag value ...]"])
            self.epilog = EPILOG

    def add_argument(self, *names: str, **settings: Any) -> Action:
        """Add a flag to its group in `--help`, which shows the first spelling only.

        Args:
            names: All spellings.
            settings: Metadata of a field, and arguments of `argparse.ArgumentParser.add_argument`.
        """
        if not self.groups:
            self.groups = {title: self.add_argument_group(title) for title in GROUPS}
        settings = {key: value for key, value in settings.items() if key not in ("group", "domain", "is_path")}
        name = names[0].lstrip("-")
        if name in self.group_names and not settings.get("choices"):
            value = {"?": "true|false", "+": value_name(name).removesuffix("S")}
            settings.setdefault("metavar", value.get(settings.get("nargs", ""), value_name(name)))
        is_negation = settings.get("action") == "store_false"
        if name == "h" or is_negation or name in self.hidden:
            settings["help"] = SUPPRESS
        elif settings.get("help"):
            settings["help"] = with_dashes(
                self._help_text(name, settings["help"], settings.get("default")), self.flags()
            )
        group = self.groups.get(self.group_names.get(name, ""))
        add = super().add_argument if group is None else group.add_argument
        action: Action = add(*names, **settings)
        if names[0].startswith("--"):
            action.option_strings = names[:1]  # argparse still reads the others
        return action

    def _help_text(self, name: str, text: str, default: Any) -> str:
        if default in (None, []) or "Default:" in text:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, list) else str(default)
        shown = shown.lower() if isinstance(default, bool) else shown
        shown = f"chosen from the data (otherwise {shown})" if name in self.from_data else shown
        return f"{text} Default: {shown}.".replace("%", "%%")

    def format_help(self) -> str:
        """Return the text of `--help`: prose filled to the width of the terminal, examples unchanged."""
        width = shutil.get_terminal_size().columns - 2
        self.description, self.epilog = (_filled(text, width) for text in (self.description, self.epilog))
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise an error, instead of printing the usage and exiting."""
        raise ValueError(message)

    def flags(self) -> list[str]:
        """Return the names of all flags except `--help`, without dashes."""
        return list(self.group_names)

    def parse(self, argv: Sequence[str]) -> tuple[tuple[Any, ...], set[str]]:
        """Parse a command line.

        Args:
            argv: The words after the command's name; the first one may be the path of a recipe.

        Returns:
            The dataclasses in the order of their types, and the names of the given flags.

        Raises:
            ValueError: If a flag is unknown, or a value has the wrong type or is out of its domain.
            FileNotFoundError: If the recipe does not exist.
        """
        words = list(argv)
        if words and not words[0].startswith("-"):
            words = [*self._recipe_words(Path(expand_home(words[0]))), *words[1:]]
        for word in words:
            if word == "--" or (word.startswith("--") and word.endswith("=--")):
                # argparse would drop the dashes and use an empty list
                raise ValueError(f"`--` cannot be a value, got {word!r}. Pass another one.")
        *values, unknown = self.parse_args_into_dataclasses(
            words, look_for_args_file=False, return_remaining_strings=True
        )
        if unknown:
            raise ValueError(self._unknown(unknown[0], "argument"))
        given = {word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--")}
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
                # in one word, because the value may look like a flag
                words.append(f"--{name}={values[0]}")
                continue
            for item in values:
                if isinstance(item, str) and item.startswith("-"):
                    raise ValueError(f"{place} must have items that do not start with a dash, got {item!r:.80}.")
            words += [f"--{name}", *map(str, values)]
        return words


def read_mapping(path: Path, what: str, of: str) -> dict[Any, Any]:
    """Return the mapping in a YAML file.

    Args:
        path: The file.
        what: Name of the file in error messages.
        of: Description of the mapping in error messages.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not YAML, or not a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), MappingLoader)  # a safe loader
    except OSError:
        raise
    except Exception as error:  # PyYAML passes on errors of numbers, dates and deep nesting
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"The {what} {str(path)!r} is not YAML, or uses a feature of it that is not supported: {reason:.500}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"The {what} {str(path)!r} must be a mapping of {of}, got {content!r:.80}.")
    return content


def value_name(flag: str) -> str:
    """Return the placeholder of a flag's value in `--help`.

    Example:
        >>> value_name("train_file"), value_name("text_column_names")
        ('FILE', 'NAMES')
    """
    return flag.rpartition("_")[2].upper()


def _filled(text: str | None, width: int) -> str | None:
    """Return a text with its paragraphs filled to a width, except for indented ones."""
    paragraphs = (text or "").strip("\n").split("\n\n")
    return "\n\n".join(
        part if part.startswith(" ") else textwrap.fill(part, width, break_on_hyphens=False) for part in paragraphs
    )


def with_dashes(message: str, flags: Collection[str]) -> str:
    """Return a message with the arguments in backticks spelled as flags.

    The library names arguments as Python does; only the command line uses dashes.

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
    """Check that a file can be written, before hours are spent on its content.

    Args:
        name: Name of the argument.
        file: The file, or `None`.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ValueError: If it is a folder, a device or a pipe, which a file would replace.
    """
    if file is not None and Path(file).is_dir():
        raise ValueError(f"`{name}` must be a file, got the folder {file!r}. Pass a file in it.")
    if file is not None and Path(file).exists() and not Path(file).is_file():
        raise ValueError(f"`{name}` must be a regular file, got {file!r}. Leave it out and redirect the output.")
    if file is not None and not Path(file).parent.is_dir():
        raise FileNotFoundError(f"The folder of `{name}` does not exist: '{Path(file).parent}'. Create it.")
