"""From encoded rows to padded batches, with as little padding as the order of the batches allows."""

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

from .memory import MappedPages
from .tokenizing import pad

MAX_POOL_BATCHES = 200

# A row read at random maps up to 64 KiB around it: this many rows at most 64 MiB
ROWS_BETWEEN_RELEASES = 1024


class TokenBatch(NamedTuple):
    """Some rows, their tokens in one flat array."""

    tokens: np.ndarray
    """Tokens of all rows, one row after the other. Shape `(num_tokens,)`."""
    lengths: np.ndarray
    """Number of tokens of each row. Shape `(batch_size,)`."""
    labels: np.ndarray
    """Class ids, int64 of shape `(batch_size,)`; or numbers, float32 of that shape or `(batch_size, num_labels)`."""
    row: np.ndarray
    """Where in its split each row stands. Shape `(batch_size,)`."""


class EncodedRows(Dataset[TokenBatch]):
    """Rows of an encoded dataset, of which a `DataLoader` fetches a whole batch at once.

    Tokens stay in the (memory-mapped) Arrow buffers until a batch copies them: no Python object is made for a token,
    and memory does not grow with the texts.

    Args:
        dataset: Rows with the columns `input_ids`, `labels`, `length` and `row`, as `encode_dataset` makes them.

    Attributes:
        lengths: Number of tokens of each row. Shape `(num_rows,)`, int32.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        if dataset._indices is not None:
            dataset = dataset.flatten_indices()
        self._dataset = dataset
        table = dataset.with_format("arrow")[:]
        self.lengths: np.ndarray = table["length"].to_numpy().astype(np.int32)
        labels = table["labels"]
        is_table = pa.types.is_fixed_size_list(labels.type)
        flat = (pc.list_flatten(labels) if is_table else labels).to_numpy()
        self._labels: np.ndarray = flat.reshape(len(labels), -1) if is_table else flat
        self._row = table["row"].to_numpy()
        texts = [chunk for chunk in table["input_ids"].chunks if len(chunk)]
        self._tokens = [chunk.values.to_numpy() for chunk in texts]
        self._starts = np.concatenate([np.empty(0, np.int32), *(chunk.offsets.to_numpy()[:-1] for chunk in texts)])
        self._chunk_ends = np.cumsum([len(chunk) for chunk in texts])
        self._pages, self._fetched = MappedPages(dataset), 0
        self._pages.release()

    def __reduce__(self) -> tuple[Any, ...]:
        # another process maps the files anew rather than being sent what is in them
        return EncodedRows, (self._dataset,)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> TokenBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> TokenBatch:
        """Return the rows at `indices`, in that order; a `DataLoader` looks for this method."""
        rows = np.asarray(indices)
        lengths, starts = self.lengths[rows], self._starts[rows]
        chunks = np.searchsorted(self._chunk_ends, rows, side="right")
        places = zip(chunks.tolist(), starts.tolist(), (starts + lengths).tolist(), strict=True)
        tokens = np.concatenate([self._tokens[chunk][start:end] for chunk, start, end in places])
        self._fetched += len(rows)
        if self._fetched >= ROWS_BETWEEN_RELEASES:
            self._pages.release()
            self._fetched = 0
        return TokenBatch(tokens, lengths, self._labels[rows], self._row[rows])


class PaddingCollator:
    """Turns rows of `EncodedRows` into tensors, padded on the right as `pad` does.

    Args:
        pad_token_id: Id written where a text has ended.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: TokenBatch) -> dict[str, Tensor]:
        """Return the batch, all int64 but for labels that are numbers.

        Returns:
            `input_ids` and `attention_mask` (1 for tokens, 0 for padding), shape `(batch_size, longest)`, `labels` as
            in `TokenBatch`, and `row` (where in its split the text stands), shape `(batch_size,)`.
        """
        input_ids, mask = pad(rows.tokens, rows.lengths, self.pad_token_id)
        return {
            "input_ids": input_ids,
            "attention_mask": mask.long(),
            "labels": torch.from_numpy(rows.labels),
            "row": torch.from_numpy(rows.row.astype(np.int64)),
        }


class BatchSampler(Sampler[list[int]]):
    """Batches of one size, drawn anew in each epoch; only the last one may be short.

    The order is a function of `(seed, epoch)` alone: no generator has a state that a resumed run would have to
    restore. Accelerate's prepared loader calls `set_epoch` with a count of its own before each epoch, so call the
    *loader's* `set_epoch(epoch)`, which moves that count, and not the sampler's.

    Args:
        lengths: Number of tokens of each row. Shape `(num_rows,)`.
        batch_size: Rows in a batch.
        seed: Seed of the order; 0 or more.

    Attributes:
        epoch: Epoch whose order is drawn next.
        start_batch: Batches of the epoch to leave out at its beginning: those a resumed run has seen. The others are
            the same as without it. Set it back to 0 for the next epoch.
        fill_last_batch: Whether the last batch is made as long as the others with the first rows of the epoch. On
            several processes Accelerate does so in any case, but with the first rows it is given: without this, the
            last batch of a resumed epoch is another one.
    """

    drop_last = False  # Accelerate asks for it

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
        """Itself: where Accelerate's loader looks for `set_epoch` when it runs on several processes."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self.epoch = epoch

    @property
    def num_batches(self) -> int | None:
        """Batches of a whole epoch; `None` where that is not known."""
        return math.ceil(len(self.lengths) / self.batch_size)

    def __len__(self) -> int:
        if self.num_batches is None:
            raise TypeError("How many batches there are is not known before they were read.")
        return max(0, self.num_batches - self.start_batch)

    def place_of(self, batch: int) -> dict[str, Any] | None:
        """Return what a resumed run has to know to find a batch of this epoch again; here, its number is enough."""
        return None

    def go_on(self, place: dict[str, Any]) -> None:
        """Find the place again that `place_of` returned in the run before."""

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches(np.random.default_rng([self.seed, self.epoch]))

    def batches(self, generator: np.random.Generator) -> Iterator[list[int]]:
        """Yield the batches of one epoch, in an order of this generator."""
        order = self.draw_order(generator)
        if self.fill_last_batch:
            order = np.resize(order, math.ceil(len(order) / self.batch_size) * self.batch_size)
        for start in range(self.start_batch * self.batch_size, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows in the order of the batches, the short one last. Shape `(num_rows,)`."""
        raise NotImplementedError


class RandomBatchSampler(BatchSampler):
    """Batches of rows drawn at random, whatever their lengths."""

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows shuffled."""
        return generator.permutation(len(self.lengths))


class LengthGroupedBatchSampler(BatchSampler):
    """Batches of texts of like length in random order: little padding, and other batches in every epoch.

    Rows are dealt at random into two pools or more, of up to `MAX_POOL_BATCHES` batches; each pool is sorted by length
    and cut into batches, and the batches are shuffled. The rows of a short last batch are drawn from all, so that no
    length is favoured there.
    """

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows grouped by length, the batches shuffled."""
        num_batches = len(self.lengths) // self.batch_size
        num_pools = max(2, math.ceil(num_batches / MAX_POOL_BATCHES))
        rows, rest = np.split(generator.permutation(len(self.lengths)), [num_batches * self.batch_size])
        pools = np.arange(num_batches).repeat(self.batch_size) * num_pools // max(1, num_batches)
        batches = rows[np.lexsort((self.lengths[rows], pools))].reshape(num_batches, self.batch_size)
        return np.concatenate([generator.permutation(batches).ravel(), rest])


class SortedBatchSampler(BatchSampler):
    """Batches in the order of the lengths, longest first, the same in every epoch: for evaluation.

    A batch that does not fit into memory shows at once, and padding is at its least.
    """

    def draw_order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the rows by falling length, equally long ones in their own order."""
        return np.argsort(-self.lengths.astype(np.int64), kind="stable")


def padding_share(lengths: Sequence[int] | np.ndarray, batches: Iterable[Sequence[int]]) -> float:
    """Return which part of all positions in the batches is padding, from 0 to 1.

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
