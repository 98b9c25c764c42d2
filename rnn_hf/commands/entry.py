"""Start and exit of every command: parsed arguments, and one line and an exit status for an error of the user."""

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from rnn_hf.argument_fields import names_of
from rnn_hf.errors import SIGNAL_STATUS, ExitStatusError, cache_error, exit_status_of, one_line, scrubbed_logs
from rnn_hf.progress import is_first_process, spelled_by, without_bars_of_transformers
from rnn_hf.standard_streams import flush_streams, standard_streams

from .parser import CommandParser, with_dashes

Parameters = ParamSpec("Parameters")
Arguments = TypeVar("Arguments")
Result = TypeVar("Result")
Answer = TypeVar("Answer", covariant=True)


class Command(Protocol[Answer]):
    """A job of the command line."""

    def __call__(self, argv: Sequence[str] | None = None) -> Answer:
        """Run it with the words after its name; by default those of this process."""
        ...


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors of the user inside the block into an error that exits with status 2, without a traceback.

    Use it around the reading of arguments, data and models, whose errors the user can fix. Errors elsewhere are bugs
    and keep their tracebacks. Secrets of the Hub are removed from the message, and from what is logged inside the
    block.
    """
    try:
        with scrubbed_logs():
            yield
    except (ExitStatusError, BrokenPipeError):
        raise
    except (ValueError, OSError, StrictDataclassError, SafetensorError) as error:
        raise ExitStatusError(one_line(cache_error(error) or error)) from error


def check_one_process(name: str, remedy: str = "") -> None:
    """Check that a launcher has not started several processes, which would do the same and replace each other's files.

    Args:
        name: Name of the program.
        remedy: What else to do than to leave out the launcher.

    Raises:
        ValueError: If there are several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(f"`{name}` must run in one process, got several. Leave out the launcher{remedy}.")


def exit_with(name: str, message: str, status: int) -> NoReturn:
    """Exit after printing one line, in the first of several processes.

    Args:
        name: Name of the program, which starts the line.
        message: What happened, and what to do.
        status: An exit status of `rnn_hf.errors`.
    """
    if is_first_process():
        print(f"{name}: {'error: ' if status < SIGNAL_STATUS else ''}{message}", file=sys.stderr)
    sys.exit(status)


def exit_statuses(
    name: str, *arguments: type
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Decorate the `main` of a program: errors that are not bugs exit with one line and their status.

    Args:
        name: Name of the program, which starts the line.
        arguments: Dataclasses of the flags, which get their dashes in that line and in the lines of `say`.
    """
    flags = {flag for group in arguments for flag in names_of(group)}

    def decorate(main: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @functools.wraps(main)
        def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            spelled = spelled_by(lambda line: with_dashes(line, flags))
            with standard_streams(), without_bars_of_transformers(), spelled:
                try:
                    result = main(*args, **kwargs)
                    flush_streams()
                    return result
                except KeyboardInterrupt:
                    exit_with(name, "Stopped by SIGINT.", SIGNAL_STATUS + signal.SIGINT)
                except Exception as error:
                    status = exit_status_of(error)
                    if status is None:
                        raise
                    exit_with(name, with_dashes(one_line(error), flags), status)

        return wrapped

    return decorate


def command(
    arguments: type[Arguments], description: str | None, name: str | None = None, from_data: Collection[str] = ()
) -> Callable[[Callable[[Arguments], Result]], Command[Result]]:
    """Decorate the `main` of a command, a function of its arguments, to make it a function of the command line.

    Args:
        arguments: Dataclass of the arguments.
        description: First text of `--help`: the docstring of the module.
        name: Name of the command. Default: `rnn-hf` and the job of these arguments.
        from_data: Names of the arguments that the job chooses from the data if they are not given.
    """
    name = name or f"rnn-hf {arguments.job}"  # type: ignore[attr-defined]  # every dataclass of a job has one
    parser = CommandParser([arguments], from_data, prog=name, description=description)

    def decorate(run: Callable[[Arguments], Result]) -> Command[Result]:
        @exit_statuses(name, arguments)
        @functools.wraps(run)
        def main(argv: Sequence[str] | None = None) -> Any:
            with user_errors():
                words = list(sys.argv[1:] if argv is None else argv)
                (args,), _ = parser.parse(words)
            try:
                return run(args)
            except ExitStatusError as error:
                columns = getattr(error.__cause__, "columns", None)  # of a `ColumnsError`
                if not columns or args.given & columns.keys():
                    raise
                words += [word for flag, names in columns.items() for word in (f"--{flag}", *names)]
                raise ExitStatusError(f"{error} Try: {shlex.join([*name.split(), *words])}") from error

        return main

    return decorate
