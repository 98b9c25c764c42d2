"""Batches of tokenized rows: samplers that decide which rows form a batch, and a collator that pads them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from .tokenizing import pad

MAX_BUCKET_BATCHES = 200


class TokenBatch(NamedTuple):
    """Rows of a batch, with their tokens in one flat array."""

    tokens: np.ndarray
    """Token ids of all rows, one row after the other. Shape `(num_tokens,)`."""
    lengths: np.ndarray
    """Number of tokens of each row. Shape `(batch_size,)`."""
    labels: np.ndarray
    """Class ids, int64 of shape `(batch_size,)`; or float32 of shape `(batch_size,)` or `(batch_size, num_labels)`."""
    row: np.ndarray
    """Index of each row in its split. Shape `(batch_size,)`."""


class EncodedRows(Dataset[TokenBatch]):
    """Rows of a tokenized dataset, from which a `DataLoader` fetches a whole batch at once.

    Tokens stay in the memory-mapped Arrow files until a batch copies them, without a Python object for each token.
    Pages of these files count as resident memory once they are read, but the operating system takes them back when it
    needs memory; only a few numbers per row are kept besides.

    Args:
        dataset: Rows with the columns `input_ids`, `labels`, `length` and `row`, as returned by `encode_dataset`.

    Attributes:
        lengths: Number of tokens of each row. Shape `(num_rows,)`, int32.
        labels: Labels of all rows, as in `TokenBatch`.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        # private; `flatten_indices` would otherwise write a copy of rows that are in order
        if dataset._indices is not None:
            dataset = dataset.flatten_indices()
        self._dataset = dataset
        table = dataset.with_format("arrow")[:]
        self.lengths: np.ndarray = table["length"].to_numpy().astype(np.int32)
        labels = table["labels"]
        is_table = pa.types.is_fixed_size_list(labels.type)
        flat = (pc.list_flatten(labels) if is_table else labels).to_numpy()
        self.labels: np.ndarray = flat.reshape(len(labels), -1) if is_table else flat
        self._row = table["row"].to_numpy()
        texts = [chunk for chunk in table["input_ids"].chunks if len(chunk)]
        self._tokens = [chunk.values.to_numpy() for chunk in texts]
        self._starts = np.concatenate([np.empty(0, np.int32), *(chunk.offsets.to_numpy()[:-1] for chunk in texts)])
        self._chunk_ends = np.cumsum([len(chunk) for chunk in texts])

    def __reduce__(self) -> tuple[Any, ...]:
        # another process maps the files itself instead of receiving their content
        return EncodedRows, (self._dataset,)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> TokenBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> TokenBatch:
        """Return the rows at `indices`, in that order; a `DataLoader` calls this method."""
        rows = np.asarray(indices)
        lengths, starts = self.lengths[rows], self._starts[rows]
        chunks = np.searchsorted(self._chunk_ends, rows, side="right")
        places = zip(chunks.tolist(), starts.tolist(), (starts + lengths).tolist(), strict=True)
        tokens = np.concatenate([self._tokens[chunk][start:end] for chunk, start, end in places])
        return TokenBatch(tokens, lengths, self.labels[rows], self._row[rows])


class PaddingCollator:
    """Turns rows of `EncodedRows` into tensors, padded on the right as `pad` does.

    Args:
        pad_token_id: Id of the padding.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: TokenBatch) -> dict[str, Tensor]:
        """Return the batch as tensors, all int64 except labels that are float32.

        Returns:
            `input_ids` and `attention_mask` (1 for tokens, 0 for padding), shape `(batch_size, longest)`; `labels`, as
            in `TokenBatch`; and `row` (index of the row in its split), shape `(batch_size,)`.
        """
        input_ids, mask = pad(rows.tokens, rows.lengths, self.pad_token_id)
        return {
            "input_ids": input_ids,
            "attention_mask": mask.long(),
            "labels": torch.from_numpy(rows.labels),
            "row": torch.from_numpy(rows.row.astype(np.int64)),
        }


class BatchSampler(Sampler[list[int]]):
    """Batches of one size, redrawn in each epoch; only the last one may be shorter.

    The order is a function of `(seed, epoch)` alone, so a resumed run has no generator state to restore. Accelerate's
    prepared loader calls `set_epoch` with its own count before each epoch, so call the *loader's* `set_epoch(epoch)`,
    which sets that count, and not the sampler's.

    Args:
        lengths: Number of tokens of each row. Shape `(num_rows,)`.
        batch_size: Number of rows in a batch.
        seed: Seed of the order; 0 or more.

    Attributes:
        epoch: Epoch whose order is drawn next.
        start_batch: Number of batches to skip at the start of the epoch, because a resumed run has seen them. The
            remaining batches are unchanged. Set it back to 0 for the next epoch.
        fill_last_batch: Whether the last batch is filled up with the first rows of the epoch. With several processes
            Accelerate fills it in any case, but with the first rows that it is given, which would be different rows
            when an epoch is resumed.
    """

    drop_last = False  # Accelerate reads it

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}. Raise it.")
        if seed < 0:
            raise ValueError(f"`seed` must be at least 0, got {seed}. Pass another one.")
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.start_batch = 0
        self.fill_last_batch = False

    @property
    def sampler(self) -> "BatchSampler":
        """This sampler; Accelerate's loader looks for `set_epoch` here when it runs in several processes."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order the next iteration has."""
        self.epoch = epoch

    @property
    def num_batches(self) -> int | None:
        """Number of batches in a whole epoch; `None` if it is unknown."""
        return math.ceil(len(self.lengths) / self.batch_size)

    def __len__(self) -> int:
        if self.num_batches is None:
            raise TypeError("The number of batches is unknown until all rows were read.")
        return max(0, self.num_batches - self.start_batch)

    def place_of(self, batch: int) -> dict[str, Any] | None:
        """Return what a resumed run needs to find a batch of this epoch, besides its number; here, nothing."""
        return None

    def go_on(self, place: dict[str, Any]) -> None:
        """Restore the position that `place_of` returned in an earlier run."""

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches(np.random.default_rng([self.seed, self.epoch]))

    def batches(self, generator: np.random.Generator) -> Iterator[list[int]]:
        """Yield the batches of one epoch, in an order drawn from a generator."""
        order = self.draw_order(generator)
        if self.fill_last_batch:
            order = np.resize(order, math.ceil(len(order) / self.batch_size) * self.batch_size)
        for start in range(self.start_batch * self.batch_size, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows in the order of the batches, the shorter batch last. Shape `(num_rows,)`."""
        raise NotImplementedError


class RandomBatchSampler(BatchSampler):
    """Batches of rows drawn at random, regardless of their lengths."""

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows in random order."""
        return generator.permutation(len(self.lengths))


class LengthGroupedBatchSampler(BatchSampler):
    """Batches of texts of similar length, in random order: little padding, and different batches in every epoch.

    Rows are assigned at random to at least two buckets of up to `MAX_BUCKET_BATCHES` batches each. Each bucket is
    sorted by length and cut into batches, and the batches are shuffled. The rows of a shorter last batch are drawn
    from all rows, so that it favours no length.
    """

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows grouped by length, with the batches shuffled."""
        num_batches = len(self.lengths) // self.batch_size
        num_buckets = max(2, math.ceil(num_batches / MAX_BUCKET_BATCHES))
        rows, rest = np.split(generator.permutation(len(self.lengths)), [num_batches * self.batch_size])
        buckets = np.arange(num_batches).repeat(self.batch_size) * num_buckets // max(1, num_batches)
        batches = rows[np.lexsort((self.lengths[rows], buckets))].reshape(num_batches, self.batch_size)
        return np.concatenate([generator.permutation(batches).ravel(), rest])


class SortedBatchSampler(BatchSampler):
    """Batches in order of length, longest first, the same in every epoch: for evaluation.

    Padding is minimal, and a batch that does not fit into memory comes first.
    """

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows by descending length, rows of equal length in their original order."""
        return np.argsort(-self.lengths.astype(np.int64), kind="stable")


def padding_share(lengths: Sequence[int] | np.ndarray, batches: Iterable[Sequence[int]]) -> float:
    """Return the share of padding among all positions in the batches, from 0 to 1.

    Args:
        lengths: Number of tokens of each row. Shape `(num_rows,)`.
        batches: Indices of the rows of each batch.

    Example:
        >>> padding_share([1, 3, 2], [[0, 1], [2]])
        0.25
    """
    lengths = np.asarray(lengths)
    num_tokens = num_positions = 0
    for batch in batches:
        of_batch = lengths[batch]
        num_tokens += int(of_batch.sum())
        num_positions += len(of_batch) * max(1, int(of_batch.max()))
    return 1 - num_tokens / num_positions
