"""Recipes: they are read, and written and read again, or refused in one line."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from rnn_hf.commands.parser import CommandParser
from rnn_hf.training.arguments import ClassifierRunArguments
from rnn_hf.training.recipes import as_recipe

FILE = Path(tempfile.gettempdir()) / "fuzz-recipe.yaml"
PARSER = CommandParser([ClassifierRunArguments])


def read() -> dict[str, object]:
    """Return all arguments; the folder is given on the command line."""
    (args,), _ = PARSER.parse([str(FILE), "--output_dir", "run"])
    return as_recipe(args)


def check(data: bytes) -> None:
    """Read a recipe; what was read is the same when it is written and read again."""
    FILE.write_bytes(data)
    try:
        recipe = read()
    except ValueError as error:
        # a message that quotes what stands in the file must not repeat all of it
        assert len(str(error)) < 5000, str(error)[:200]
        return
    FILE.write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    again = read()
    assert repr(again) == repr(recipe), (again, recipe)


def seeds() -> Iterator[bytes]:
    """Return recipes of every kind of value, and YAML that a recipe has no use for."""
    yield yaml.safe_dump(as_recipe(ClassifierRunArguments(output_dir="run"))).encode()
    texts = [
        "hidden_size: 8\nlearning_rate: 1e-2\nbidirectional: true\ntext_column_names: [title, body]\n",
        "class_weights: [1, 2.5]\nmax_steps: -1\nhub_revision: 2026-01-01\nword_vectors: null\n",
        "a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "seed: 1\nseed: 2\n? [a, b]\n: {c: d}\n<<: {seed: 3}\n",
        "train_file: !!binary aGVsbG8=\ntest_file: !!set {a, b}\nseed: !!int '0x1F'\n",
        'output_dir: "\\ud800 \\0 \\U0001F600 \\x9b"\nreport_to: |\n  two\n  lines\n',
        "%YAML 1.1\n--- # comment\n{cell_type: gru, seed: 1:30, learning_rate: .inf}\n...\n--- two\n",
        "[" * 50 + "]" * 50,
    ]
    yield from map(str.encode, texts)


def words() -> list[bytes]:
    """Return the flags, and what has a meaning in YAML."""
    yaml_words = [
        "- ",
        ": ",
        "? ",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!!float ",
        "!!timestamp ",
        "!!bool ",
        "!!omap ",
        "|\n",
    ]
    return [
        word.encode() for word in (*(f"{name}: " for name in PARSER.flags()), *yaml_words, "--", ".nan", "0o7", "~")
    ]
