"""Keeps the files that a dataset maps into memory from counting as used for longer than they are read."""

import ctypes
import mmap
import sys
from bisect import bisect
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset

_MAPPINGS = Path("/proc/self/maps")


class MappedPages:
    """The memory-mapped files that a dataset lies in.

    `datasets` maps its files, and a page once read counts as this process's memory until the machine runs short of it:
    reading a dataset from end to end would seem to need memory for all of it. Released pages stay in the system's
    cache, and are mapped again when they are read again. On other systems than Linux, nothing happens.

    Args:
        dataset: The dataset, which must be kept for as long as this object is used.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._ranges: set[tuple[int, int]] = set()
        if not sys.platform.startswith("linux") or not _MAPPINGS.exists():
            return
        files = []
        for line in _MAPPINGS.read_text().splitlines():
            addresses, permissions, _, _, _, *path = line.split(maxsplit=5)
            # what may be written to could hold changes, which would be lost
            if path and path[0].startswith("/") and "w" not in permissions:
                start, end = (int(address, 16) for address in addresses.split("-"))
                files.append((start, end))
        for column in dataset.data.columns:
            for chunk in column.chunks:
                for buffer in chunk.buffers():
                    place = bisect(files, (buffer.address, sys.maxsize)) - 1 if buffer is not None else -1
                    if place >= 0 and files[place][0] <= buffer.address < files[place][1]:
                        self._ranges.add(files[place])

    def release(self) -> int:
        """Let go of the pages that were read; return the size of their files in bytes."""
        libc = ctypes.CDLL(None)
        for start, end in self._ranges:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
        return sum(end - start for start, end in self._ranges)


def iterate_texts(dataset: Dataset, batch_size: int = 1000) -> Iterator[str]:
    """Yield the column `text` row by row, in memory that does not grow with the dataset.

    Args:
        dataset: Rows with the column `text`.
        batch_size: Rows that are in memory at a time.
    """
    pages = MappedPages(dataset)
    for batch in dataset.select_columns("text").iter(batch_size):
        yield from batch["text"]
        pages.release()
