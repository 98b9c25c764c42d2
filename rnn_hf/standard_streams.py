"""Standard streams that are closed, full, or read by a program that has ended."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What a shell reports of a program that SIGPIPE ended
BROKEN_PIPE_STATUS = 141


@contextmanager
def standard_streams() -> Iterator[None]:
    """Let a closed output go nowhere, and exit without a word if nobody reads an open one any more.

    `sys.stdin` stays `None` where it is closed, and so does `sys.__stdout__`.
    """
    _open_closed_streams()
    try:
        yield
        flush_streams()
    except BrokenPipeError:
        with suppress(OSError):
            flush_streams()
        sys.exit(BROKEN_PIPE_STATUS)
    except BaseException:
        with suppress(OSError):
            flush_streams()
        raise


def flush_streams() -> None:
    """Write what is left in the standard streams; one that cannot be written goes nowhere from then on.

    Raises:
        OSError: If one cannot be written; `BrokenPipeError` if nobody reads it.
    """
    failed = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            failed = error
            # Python flushes once more when it exits
            with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
        except ValueError:
            continue  # it was closed by the program
    if failed is not None:
        raise failed


def _open_closed_streams() -> None:
    """Open what the operating system would otherwise give to the next files, which would get what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as the process
