"""The number of threads that torch uses in one thread of a process, without a change for others.

On a CPU, models run in workers of one thread each. A process that has used a model can therefore be forked: OpenMP,
whose threads are missing in the child process, never has to share work among them there.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_setting = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_setting.acquire, after_in_parent=_setting.release, after_in_child=_setting.release)


def in_new_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call a function in a new thread, which has the settings that all threads of the process share."""
    future: Future[Result] = Future()

    def call() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # it is raised in the waiting thread
            future.set_exception(error)

    # a daemon, so that Ctrl-C does not wait for it
    threading.Thread(target=call, daemon=True).start()
    return future.result()


def set_num_threads_here(number: int) -> None:
    """Set the number of threads that torch uses in the calling thread alone.

    `torch.set_num_threads` also sets the number for every thread that uses torch for the first time. A new thread
    therefore reads that number beforehand, and another one restores it. The calling thread must have used torch
    before, or it would take over the restored number.
    """
    torch.get_num_threads()
    with _setting:
        of_new_threads = in_new_thread(torch.get_num_threads)
        torch.set_num_threads(number)
        in_new_thread(torch.set_num_threads, of_new_threads)


@contextmanager
def num_threads_here(number: int) -> Iterator[None]:
    """Set the number of threads that torch uses in the calling thread inside the block."""
    before = torch.get_num_threads()
    if number != before:
        set_num_threads_here(number)
    try:
        yield
    finally:
        if number != before:
            set_num_threads_here(before)


def one_thread_each(num_workers: int) -> ThreadPoolExecutor:
    """Return a pool whose workers use one thread each: parallel batches are faster than one batch at a time."""
    return ThreadPoolExecutor(num_workers, "rnn_hf", initializer=set_num_threads_here, initargs=(1,))


def standing_workers(num_workers: int, purpose: str) -> ThreadPoolExecutor:
    """Return such a pool, which lives as long as the process; all callers with the same purpose share it."""
    # a forked process has none of the threads of its parent
    return _standing_workers(os.getpid(), num_workers, purpose)


@cache
def _standing_workers(process_id: int, num_workers: int, purpose: str) -> ThreadPoolExecutor:
    return one_thread_each(num_workers)
