"""Errors of the user, reported on one line without secrets, and their exit statuses.

| exit status | what happened |
|---|---|
| 0 | success |
| 1 | a bug of this package, with its traceback |
| 2 | something you can fix: arguments, data, a model, a full disk; one line says what |
| 3 | the loss or a weight became NaN or infinite; one line names the step and the last good checkpoint |
| 141 | the reader of standard output has exited, as `head -1` does; no message |
| 130, 143 | SIGINT or SIGTERM; a training run has written a checkpoint, and one line says how to resume |
"""

import base64
import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants, get_token
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

USER_ERROR_STATUS = 2
DIVERGED_STATUS = 3
SIGNAL_STATUS = 128  # plus the number of the signal, as in a shell

HIDDEN = "***"

_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/\s]*@")

# Errors of the operating system if there is no space for a file, or no permission to write it
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class ExitStatusError(Exception):
    """An error that ends a program with a certain exit status.

    Args:
        message: What happened, and what to do.

    Attributes:
        exit_status: The exit status.
    """

    exit_status = USER_ERROR_STATUS


class MissingExtraError(ExitStatusError, ImportError):
    """An error for something that needs a package of an extra."""


def exit_status_of(error: BaseException) -> int | None:
    """Return the exit status of an error that is not a bug of this package; `None` for a bug."""
    if isinstance(error, ExitStatusError):
        return error.exit_status
    return USER_ERROR_STATUS if cannot_write(error) else None


def cannot_write(error: BaseException) -> bool:
    """Return whether an error says that there is no space for a file, or no permission to write it."""
    if isinstance(error, SafetensorError):
        # its number is only in its text
        return any(f"os error {number})" in str(error) for number in _UNWRITABLE)
    return isinstance(error, OSError) and error.errno in _UNWRITABLE


def causes_of(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, each once: an error that is raised again may be among its own causes."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def cache_error(error: BaseException) -> OSError | None:
    """Return an error that names the cache of Hugging Face, if the cache caused an error because it cannot be written.

    Args:
        error: The error; libraries wrap those of the operating system.
    """
    roots = [Path(constants.HF_HOME), Path(constants.HF_HUB_CACHE)]
    roots += map(Path, filter(None, [os.environ.get("HF_DATASETS_CACHE")]))
    for cause in causes_of(error):
        if isinstance(cause, OSError) and isinstance(cause.filename, str):
            path = Path(cause.filename)
            for root in roots:
                is_there = root in (path, *path.parents) or path in root.parents
                if is_there and (cause.errno in _UNWRITABLE or not root.is_dir()):
                    return OSError(
                        f"The cache folder {str(root)!r} cannot be written ({cause.strerror}: {str(path)!r}). Set the "
                        "environment variable HF_HOME to a folder that can."
                    )
    return None


def plain(text: object) -> str:
    r"""Return a text on one line, with each unprintable character replaced.

    Example:
        >>> plain(" two\n lines\x00")
        'two lines�'
    """
    words = " ".join(str(text).split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)


def one_line(error: BaseException) -> str:
    r"""Return the message of an error on one line, without secrets and without terminal control sequences.

    Example:
        >>> one_line(ValueError("`seed` must be\n  at least 0, got -1."))
        '`seed` must be at least 0, got -1.'
    """
    if isinstance(error, OSError) and error.strerror and error.filename:
        return scrubbed(f"{error.strerror}: {error.filename!r}.")
    if isinstance(error, StrictDataclassError) and error.__cause__ is not None:
        return one_line(error.__cause__)
    return scrubbed(plain(error)) or type(error).__name__


def missing_extra(name: str, error: ModuleNotFoundError, extra: str = "train") -> MissingExtraError:
    """Return the error for something that needs a package of an extra.

    Args:
        name: What needs the package.
        error: The error of the import.
        extra: The extra.
    """
    return MissingExtraError(f'`{name}` needs the package {error.name}. Run `pip install "rnn-hf[{extra}]"`.')


def scrubbed(text: str) -> str:
    """Return a text without the Hub's access token, and without user names and passwords in addresses.

    A server may echo the request, which then becomes part of an error message.

    Example:
        >>> scrubbed("Client error for url 'https://user:password@example.org/api'")
        "Client error for url 'https://example.org/api'"
    """
    user = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[0]
    # an HTTP client sends the user name and password of an address in a header
    for secret in (_token(), user and base64.b64encode(unquote(user).encode()).decode()):
        if secret:
            text = text.replace(secret, HIDDEN)
    return _USER_IN_ADDRESS.sub("", text)


def _token() -> str | None:
    try:
        return get_token()
    except OSError:  # the file of the token cannot be read
        return None


@contextmanager
def scrubbed_logs() -> Iterator[None]:
    """Remove secrets from every message that any library logs inside the block."""
    make = logging.getLogRecordFactory()

    def make_scrubbed(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        with suppress(Exception):  # the handler reports a message that does not match its arguments
            record.msg, record.args = scrubbed(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(make_scrubbed)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)
