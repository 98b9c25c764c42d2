"""Lines and progress bars of what takes longer than a few seconds, and the one switch that silences them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm

_is_silent: ContextVar[bool] = ContextVar("is_silent", default=False)


@contextmanager
def silenced(enabled: bool = True) -> Iterator[None]:
    """Print no line and draw no bar inside the block, in this thread.

    Args:
        enabled: Whether to silence them at all.
    """
    token = _is_silent.set(enabled or _is_silent.get())
    try:
        yield
    finally:
        _is_silent.reset(token)


def is_first_process() -> bool:
    """Return whether this is the first of the processes that a launcher started; only that one speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def say(line: str) -> None:
    """Print a line to standard output; above a bar if one is drawn."""
    if is_first_process() and not _is_silent.get():
        tqdm.write(line)


def progress_bar(*args: Any, **settings: Any) -> "tqdm[Any]":
    """Return a progress bar of tqdm; arguments are its own."""
    return tqdm(*args, **{"disable": _is_silent.get() or not is_first_process(), **settings})
