"""How many threads torch computes with in one thread of a process, without a change to the others.

Whoever computes here on a CPU does so in workers that have one thread each. So a process that has used a model can be
forked: OpenMP, whose threads are missing in the child, is never asked there to share work among them.
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
    """Call a function in a thread that nothing has used before, which has what threads of a process share alone."""
    future: Future[Result] = Future()

    def call() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # raised in the thread that waits
            future.set_exception(error)

    # a daemon, so that Ctrl-C need not wait for it
    threading.Thread(target=call, daemon=True).start()
    return future.result()


def set_num_threads_here(number: int) -> None:
    """Let torch compute with a number of threads in the calling thread alone.

    `torch.set_num_threads` also sets the number for every thread that uses torch for the first time: a new thread
    tells what it was, and another one puts it back.
    """
    with _setting:
        of_new_threads = in_new_thread(torch.get_num_threads)
        torch.set_num_threads(number)
        in_new_thread(torch.set_num_threads, of_new_threads)


@contextmanager
def num_threads_here(number: int) -> Iterator[None]:
    """Let torch compute with a number of threads in the calling thread inside the block."""
    before = torch.get_num_threads()
    if number != before:
        set_num_threads_here(number)
    try:
        yield
    finally:
        if number != before:
            set_num_threads_here(before)


def one_thread_each(num_workers: int) -> ThreadPoolExecutor:
    """Return a pool whose workers compute on one thread each: batches in parallel are faster than one by one."""
    return ThreadPoolExecutor(num_workers, "rnn_hf", initializer=set_num_threads_here, initargs=(1,))


def standing_workers(num_workers: int, purpose: str) -> ThreadPoolExecutor:
    """Return such a pool that all who name its purpose share for as long as the process lives."""
    # a process that was forked has none of the threads of its parent
    return _standing_workers(os.getpid(), num_workers, purpose)


@cache
def _standing_workers(process_id: int, num_workers: int, purpose: str) -> ThreadPoolExecutor:
    return one_thread_each(num_workers)
