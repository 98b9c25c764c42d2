"""Lines and progress bars for work that takes seconds, and one switch that silences them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm
from transformers.utils import logging as transformers_logging

_is_silent: ContextVar[bool] = ContextVar("is_silent", default=False)
_spell: ContextVar[Callable[[str], str]] = ContextVar("spell", default=str)


@contextmanager
def silenced(enabled: bool = True) -> Iterator[None]:
    """Print no line and show no progress bar inside the block, including those of transformers and datasets.

    Args:
        enabled: Whether to silence them.
    """
    if not enabled:
        yield
        return
    token = _is_silent.set(True)
    try:
        with without_bars_of_transformers(), without_bars_of_datasets():
            yield
    finally:
        _is_silent.reset(token)


@contextmanager
def without_bars_of_transformers() -> Iterator[None]:
    """Hide the progress bars of transformers inside the block: models of this package load and save in a moment."""
    draws_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if draws_bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def without_bars_of_datasets() -> Iterator[None]:
    """Hide the progress bars of datasets inside the block, if it has been imported."""
    datasets = sys.modules.get("datasets")
    if datasets is None or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


@contextmanager
def spelled_by(spell: Callable[[str], str]) -> Iterator[None]:
    """Pass each line that `say` prints inside the block through a function: a command spells arguments as flags."""
    token = _spell.set(spell)
    try:
        yield
    finally:
        _spell.reset(token)


def is_first_process() -> bool:
    """Return whether this is the first process of those that a launcher started; only this one prints."""
    return int(os.environ.get("RANK", "0")) == 0


def say(line: str) -> None:
    """Print a line to standard output, above a progress bar if there is one."""
    if is_first_process() and not _is_silent.get():
        tqdm.write(_spell.get()(line))


def progress_bar(*args: Any, **settings: Any) -> "tqdm[Any]":
    """Return a progress bar; the arguments are those of tqdm."""
    return tqdm(*args, **{"disable": _is_silent.get() or not is_first_process(), **settings})
