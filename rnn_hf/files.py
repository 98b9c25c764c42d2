"""Files and folders that are written completely or not at all, and JSON."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Characters after which an object in a JSON file takes a line for each of its entries
LINE_LENGTH = 119


def expand_home(path: str | Path) -> str:
    """Return a path with the home folder in the place of a leading `~` or `~user`.

    A shell expands it only at the start of a word, neither after `=` nor in a recipe.

    Args:
        path: The path; one that does not begin with `~` stays as it is.

    Raises:
        ValueError: If there is no such user.
    """
    if not str(path).startswith("~"):
        return str(path)
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise ValueError(
            f"{str(path)!r} begins with the home folder of an unknown user. Write './{path}' if that is its name."
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary file to write, and rename it to `path` at the end; an error leaves `path` unchanged.

    Args:
        path: The file to create or replace.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    # a link in its place must not be written through
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into, and rename it to `folder` once everything is written and flushed to disk.

    Args:
        folder: The folder to create or replace. An error leaves it unchanged.
    """
    temporary, replaced = (folder.with_name(f".{folder.name}.{kind}") for kind in ("tmp", "old"))
    for leftover in (temporary, replaced):
        remove(leftover)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _flush(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if folder.exists() or folder.is_symlink():
        folder.rename(replaced)
    temporary.rename(folder)
    _flush(folder.parent)
    remove(replaced)


def _flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk, where the operating system supports it."""
    if os.name == "nt":
        return  # a folder cannot be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder with its content, a file, or a link but not its target; a missing path is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def publish(files: Path, folder: Path) -> None:
    """Move finished files into a folder one by one, each replacing its namesake in one step, a folder in two.

    Args:
        files: Folder of finished files; it is removed.
        folder: Where they go; other files there stay.
    """
    for file in sorted(files.iterdir()):
        if file.is_dir():
            # a folder cannot replace one that has files
            remove(folder / file.name)
        file.replace(folder / file.name)
    files.rmdir()


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def json_text(value: Any) -> str:
    """Return a value as indented JSON in which what belongs together shares a line.

    A list without lists or objects in it takes one line, and so does each entry of another list. An object without
    them inside another object takes one line if it fits: the figures of 3,000 classes take 3,000 lines.

    Args:
        value: What `json` can write.

    Example:
        >>> print(json_text({"matrix": [[1, 2], [3, 4]], "per_class": {"a": {"f1": 0.5}}}))
        {
          "matrix": [
            [1, 2],
            [3, 4]
          ],
          "per_class": {
            "a": {"f1": 0.5}
          }
        }
    """
    # with only the types that JSON has
    return _indented(json.loads(json.dumps(value)), "")


def _indented(value: Any, indent: str) -> str:
    line, inner = json.dumps(value), indent + "  "
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    fits = not isinstance(value, dict) or 0 < len(indent) <= LINE_LENGTH - len(line)
    if not items or (fits and not any(isinstance(item, dict | list) for item in items)):
        return line
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key)}: {_indented(item, inner)}" for key, item in value.items()]
    else:
        lines = [inner + json.dumps(item) for item in value]
    return "\n".join([line[0], ",\n".join(lines), f"{indent}{line[-1]}"])


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically.

    Args:
        path: The file.
        value: What `json` can write.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(json_text(value) + "\n", encoding="utf-8")
