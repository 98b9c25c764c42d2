"""How a run ends before its time: a signal, or numbers that are none."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch

# What a shell shows of a process that a signal ended
SIGNAL_STATUS = 128
DIVERGED_STATUS = 3

# A launcher passes a terminal's Ctrl-C on to processes that have already got it
ECHO_SECONDS = 2.0


class StoppedRunError(Exception):
    """A run ended before its time, and left what there is to go on from.

    Args:
        message: What happened, where the run stands, and what to do.
        exit_status: What the script ends with.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class InterruptedRunError(StoppedRunError):
    """A run was asked to stop, and has written a checkpoint."""


class DivergedRunError(StoppedRunError):
    """A loss, a gradient or a weight of a run is not a finite number."""


class StopSignals:
    """Turns SIGINT and SIGTERM into a question that a run answers between two steps.

    A SIGINT after the first signal raises `KeyboardInterrupt` at once. Outside the main thread, where Python lets no
    handler be set, signals do what they did before.

    Args:
        num_processes: Processes of the run; one of them may hear of a signal a step before the others.
    """

    def __init__(self, num_processes: int = 1) -> None:
        self.num_processes = num_processes
        self.received = 0
        self.received_at = 0.0
        self.before: dict[signal.Signals, Any] = {}
        # one that talks over the network cards: a device need not be waited for
        self.group = torch.distributed.new_group(backend="gloo") if num_processes > 1 else None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
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
