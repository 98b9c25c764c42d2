"""Early ends of a run: by a signal, or by values that are NaN or infinite."""

import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

import torch

from rnn_hf.errors import DIVERGED_STATUS, SIGNAL_STATUS, ExitStatusError

# Seconds in which a launcher may pass on a Ctrl-C that its processes have already received from the terminal
ECHO_SECONDS = 2.0


class InterruptedRunError(ExitStatusError):
    """A signal stopped a run, which has written a checkpoint.

    Args:
        message: Position of the run, and how to resume it.
        number: The signal.
    """

    def __init__(self, message: str, number: signal.Signals) -> None:
        super().__init__(message)
        self.exit_status = SIGNAL_STATUS + number


class DivergedRunError(ExitStatusError):
    """A loss, a gradient or a weight of a run is NaN or infinite."""

    exit_status = DIVERGED_STATUS


class StopSignals:
    """Records SIGINT and SIGTERM, so that a run can stop between two steps.

    A SIGINT after the first signal raises `KeyboardInterrupt` at once. Outside the main thread, where Python does not
    allow signal handlers, signals keep their usual effect.

    Args:
        num_processes: Number of processes of the run, which may receive a signal at different steps.
        numbers: The signals to record.
    """

    def __init__(
        self, num_processes: int = 1, numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
    ) -> None:
        self.num_processes, self.numbers = num_processes, numbers
        self.received = 0
        self.received_at = 0.0
        self.before: dict[signal.Signals, Any] = {}
        # a group that communicates over the network, without waiting for a device
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
        """Record the first signal; a SIGINT after it stops at once."""
        is_echo = self.num_processes > 1 and time.monotonic() - self.received_at < ECHO_SECONDS
        if self.received and number == signal.SIGINT and not is_echo:
            raise KeyboardInterrupt
        if not self.received:
            self.received, self.received_at = number, time.monotonic()

    def asked_to_stop(self) -> signal.Signals | None:
        """Return the signal that any process of the run has received; all processes get the same result."""
        number = self.received
        if self.group is not None:
            numbers = torch.tensor([number])
            torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX, self.group)
            number = int(numbers)
        return signal.Signals(number) if number else None
