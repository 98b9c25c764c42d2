"""Standard streams that are closed or full, or whose reader has exited."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Status that a shell reports for a program ended by SIGPIPE
BROKEN_PIPE_STATUS = 141


@contextmanager
def standard_streams() -> Iterator[None]:
    """Discard what is printed to a closed stream, and exit silently if the reader of an open stream has exited.

    `sys.stdin` and `sys.__stdout__` stay `None` if they are closed.
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
    """Flush the standard streams; a stream that cannot be written is discarded from then on.

    Raises:
        OSError: If a stream cannot be written; `BrokenPipeError` if its reader has exited.
    """
    failed = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            failed = error
            # Python flushes again when it exits
            with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
        except ValueError:
            continue  # it was closed by the program
    if failed is not None:
        raise failed


def _open_closed_streams() -> None:
    """Open closed streams, or else the next files would get their numbers and receive what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as the process
