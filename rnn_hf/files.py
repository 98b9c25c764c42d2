"""Files and folders that are written completely or not at all, and JSON."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Length above which an object in a JSON file takes one line per entry
LINE_LENGTH = 119


def expand_home(path: str | Path) -> str:
    """Return a path with a leading `~` or `~user` expanded to the home folder.

    A shell expands it only at the start of a word, not after `=` or in a recipe.

    Args:
        path: The path; without a leading `~` it is returned unchanged.

    Raises:
        ValueError: If there is no such user.
    """
    if not str(path).startswith("~"):
        return str(path)
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        raise ValueError(
            f"{str(path)!r} starts with the home folder of an unknown user. Write './{path}' if that is its name."
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write, and rename it to `path` at the end; an error leaves `path` unchanged.

    Args:
        path: The file to create or replace.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    # a link there must not be followed
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write, and rename it to `folder` once everything in it is flushed to disk.

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
    """Wait until a file or a folder is on disk, where the operating system supports it."""
    if os.name == "nt":
        return  # folders cannot be opened on this system
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder with its content, a file, or a link without its target; a missing path is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def publish(files: Path, folder: Path) -> None:
    """Move finished files into a folder one by one; each file replaces its namesake atomically, a folder in two steps.

    Args:
        files: Folder of the finished files; it is removed.
        folder: Destination; other files in it are kept.
    """
    for file in sorted(files.iterdir()):
        if file.is_dir():
            # a folder cannot replace another that is not empty
            remove(folder / file.name)
        file.replace(folder / file.name)
    files.rmdir()


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def json_text(value: Any) -> str:
    """Return a value as indented JSON in which related numbers share a line.

    A list without lists or objects in it takes one line, and so does each entry of another list. An object without
    them inside another object takes one line if it fits: the metrics of 3,000 classes take 3,000 lines.

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
    # convert to the types of JSON
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
