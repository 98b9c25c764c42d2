"""How a run ends before its time: a signal, or values that are NaN or infinite."""

import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

import torch

from rnn_hf.errors import DIVERGED_STATUS, SIGNAL_STATUS, ExitStatusError

# A launcher passes a terminal's Ctrl-C on to processes that have already got it
ECHO_SECONDS = 2.0


class InterruptedRunError(ExitStatusError):
    """A run was asked to stop by a signal, and has written a checkpoint.

    Args:
        message: Where the run stands, and how to resume it.
        number: The signal.
    """

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.exit_status = SIGNAL_STATUS + number


class DivergedRunError(ExitStatusError):
    """A loss, a gradient or a weight of a run is NaN or infinite."""

    exit_status = DIVERGED_STATUS


class StopSignals:
    """Turns SIGINT and SIGTERM into a question that a run answers between two steps.

    A SIGINT after the first signal raises `KeyboardInterrupt` at once. Outside the main thread, where Python lets no
    handler be set, signals do what they did before.

    Args:
        num_processes: Processes of the run; one of them may hear of a signal a step before the others.
        numbers: The signals; others do what they did before.
    """

    def __init__(
        self, num_processes: int = 1, numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
    ) -> None:
        self.num_processes, self.numbers = num_processes, numbers
        self.received = 0
        self.received_at = 0.0
        self.before: dict[signal.Signals, Any] = {}
        # one that talks over the network cards: a device need not be waited for
        self.group = torch.distributed.new_group(backend="gloo") if num_processes > 1 else None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in self.numbers:
                self.before[number] = signal.signal(number, self.handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; a SIGINT after it stops at once."""
        is_echo = self.num_processes > 1 and time.monotonic() - self.received_at < ECHO_SECONDS
        if self.received and number == signal.SIGINT and not is_echo:
            raise KeyboardInterrupt
        if not self.received:
            self.received, self.received_at = number, time.monotonic()

    def asked_to_stop(self) -> signal.Signals | None:
        """Return the signal that any process of the run has received; all of them get the same answer."""
        number = self.received
        if self.group is not None:
            numbers = torch.tensor([number])
            torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX, self.group)
            number = int(numbers)
        return signal.Signals(number) if number else None
