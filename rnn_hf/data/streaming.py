"""Training rows that are read as a stream, a pool of them at a time: of datasets that are larger than the memory.

A pool is what other libraries call a shuffle buffer: so many rows are read, encoded, shuffled and grouped by length;
when they are used up, the next pool is. The order of the files is drawn anew in each epoch. A pool holds whole
batches, so that the place where it begins is all that a resumed run has to know.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, IterableDataset, Value
from datasets.utils import tqdm
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.errors import ExitStatusError

from .batching import BatchSampler, EncodedRows, TokenBatch
from .encoding import RowEncoder
from .labels import item_of, recognize_problem_type
from .sources import TextColumns, find_splits, reason_of, text_columns_of

# Rows whose columns and types are looked at before training
HEAD_ROWS = 1000

# Rows that are in memory at a time where the whole stream is read once
ROWS_AT_A_TIME = 10_000


class StreamError(ExitStatusError, ValueError):
    """Rows of a stream that cannot be read, found when their turn comes."""


class TextStream:
    """The training rows of a dataset as texts and labels, read from the Hub or from files while they are needed.

    Args:
        rows: The rows as they lie in their files.
        text_column_names: Columns of the text, as `load_text_dataset` takes them.
        label_column_name: Column of the label.
        label_names: Classes in the order of their ids. Defaults to those of the `ClassLabel`; labels without one are
            read once from end to end.
        problem_type: What the labels ask for. Defaults to what their type says.
        clean_text: Whether to pass the texts through `clean_text`.

    Attributes:
        columns: Which columns texts and labels lie in, and what they become.
        features: Those of the columns `text` and `label`.

    Raises:
        ValueError: If a column is missing or has another type, or the classes cannot be known.
    """

    def __init__(
        self,
        rows: IterableDataset,
        text_column_names: Sequence[str] | None,
        label_column_name: str,
        label_names: Sequence[str] | None,
        problem_type: ProblemType | None,
        clean_text: bool,
    ) -> None:
        rows = rows.with_format("arrow")
        table = next(_tables(rows, HEAD_ROWS), None)
        if table is None or len(table) == 0:
            raise ValueError('The "train" split must have rows, got none.')
        self._features = rows.features or Features.from_arrow_schema(table.schema)
        head = self._as_dataset(table)
        texts = text_columns_of(head, text_column_names, label_column_name)
        problem = problem_type or recognize_problem_type({"train": head}, label_column_name)
        names = [name for name in head.column_names if name in {*texts, label_column_name}]
        self._rows = rows.select_columns(names)
        self._features = Features({name: self._features[name] for name in names})
        labels = head
        if problem != "regression" and not isinstance(item_of(head.features.get(label_column_name)), ClassLabel):
            if problem == "multi_label_classification":
                raise ValueError(
                    f'The classes in "{label_column_name}" must be declared where rows are streamed. Give the dataset '
                    "a list of `ClassLabel`, or leave out `--streaming`."
                )
            labels = self._distinct_labels(label_column_name)
        self.columns = TextColumns.of(
            {"train": labels}, texts, label_column_name, label_names, problem, clean_text=clean_text
        )
        self.features = Features(text=Value("string"), label=self.columns.label)

    def _as_dataset(self, table: pa.Table) -> Dataset:
        # what is held in memory is cached nowhere, so its fingerprint may be any
        return Dataset(table, info=DatasetInfo(features=self._features), fingerprint="rows")

    def _distinct_labels(self, column: str) -> Dataset:
        """Return a row for each label there is."""
        found: pa.ChunkedArray | None = None
        for table in _tables(self._rows.select_columns([column]), ROWS_AT_A_TIME):
            labels = table[column] if found is None else pa.chunked_array([*found.chunks, *table[column].chunks])
            found = pa.chunked_array([pc.unique(labels)])
        return Dataset(pa.table({column: found}))

    def pools(
        self, num_rows: int, order: int = 0, place: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Dataset, dict[str, Any]]]:
        """Yield the rows, `num_rows` at a time, with the columns `text` and `label`, and the place after them.

        Args:
            num_rows: Rows of a pool; the last one may have fewer.
            order: Seed of the order of the files; 0: as they are listed.
            place: What was yielded beside the pool after which to go on. Defaults to the beginning.

        Raises:
            StreamError: If rows cannot be read, or are not of the kind that the first ones are.
        """
        rows = self._rows.with_format("arrow")  # with a place of its own
        rows.set_epoch(order)
        num_read = 0 if place is None else int(place["num_read"])
        if place is not None:
            rows.load_state_dict(dict(place["state"]))
        for table in _tables(rows, num_rows):
            typed = table.select(list(self._features))
            try:
                with _without_progress_bars():
                    pool = self.columns.read(self._as_dataset(typed.cast(self._features.arrow_schema)), "train")
            except (ValueError, pa.ArrowException) as error:
                place_of_error = f"rows {num_read:,} to {num_read + len(table) - 1:,} of the stream"
                raise StreamError(f"In {place_of_error}, counted anew from 0: {error}") from error
            num_read += len(table)
            yield pool, {"num_read": num_read, "state": rows.state_dict()}

    def iterate_texts(self) -> Iterator[str]:
        """Yield all texts once, in memory that does not grow with their number."""
        progress = tqdm(desc="Reading the stream once", unit=" texts")
        for pool, _ in self.pools(ROWS_AT_A_TIME):
            yield from pool["text"][:]
            progress.update(len(pool))
        progress.close()


def load_text_stream(
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    *,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    text_column_names: Sequence[str] | None = None,
    label_column_name: str = "label",
    label_names: Sequence[str] | None = None,
    problem_type: ProblemType | None = None,
    clean_text: bool = False,
    max_train_samples: int | None = None,
) -> tuple[TextStream, DatasetDict]:
    """Open the training rows of a dataset as a stream, and read its other splits into memory.

    Arguments are those of `load_text_dataset`, but nothing is cut off for validation: how many rows a stream has is
    not known before it was read.

    Args:
        dataset_name: As there.
        dataset_config_name: As there.
        train_file: As there.
        validation_file: As there.
        test_file: As there.
        text_column_names: As there.
        label_column_name: As there.
        label_names: As there.
        problem_type: As there.
        clean_text: As there.
        max_train_samples: How many of the first rows are read. Defaults to all.

    Raises:
        FileNotFoundError: If the dataset or a file does not exist.
        ConnectionError: If the Hub does not answer.
        ValueError: If an argument, a file, a column or a label is not as described there.
    """
    files = {"train": train_file, "validation": validation_file, "test": test_file}
    found = find_splits(dataset_name, dataset_config_name, files, streaming=True)
    if "train" not in found:
        raise ValueError(f"The dataset has no training split (splits: {', '.join(found)}). Pass `--train_file`.")
    rows = found.pop("train")
    if isinstance(rows, Dataset):  # the demo is one
        rows = rows.to_iterable_dataset()
    if max_train_samples is not None:
        rows = rows.take(max_train_samples)
    stream = TextStream(rows, text_column_names, label_column_name, label_names, problem_type, clean_text)
    others = {
        split: stream.columns.read(held if isinstance(held, Dataset) else _read(held, split), split)
        for split, held in found.items()
    }
    return stream, DatasetDict(others)


def _read(rows: IterableDataset, split: str) -> Dataset:
    """Return all rows of a stream, in memory."""
    tables = list(_tables(rows.with_format("arrow"), ROWS_AT_A_TIME))
    if not tables:
        raise ValueError(f'The "{split}" split must have rows, got none.')
    features = rows.features or Features.from_arrow_schema(tables[0].schema)
    tables = [table.cast(features.arrow_schema) for table in tables]
    return Dataset(pa.concat_tables(tables), info=DatasetInfo(features=features), fingerprint=split)


def _tables(rows: IterableDataset, num_rows: int) -> Iterator[pa.Table]:
    """Yield rows of the format "arrow" as tables of so many of them.

    Raises:
        StreamError: If they cannot be read.
    """
    tables = iter(rows.iter(num_rows))
    while True:
        try:
            table = next(tables, None)
        except Exception as error:  # of the file formats, of the network
            raise StreamError(f"The stream of rows could not be read ({reason_of(error)}). Mend its files.") from error
        if table is None:
            return
        yield table


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Keep `datasets` from showing a bar for every pool."""
    were_shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            datasets.enable_progress_bars()


class StreamedRows(TorchDataset[TokenBatch]):
    """The encoded rows of the pool that is being read, of which a `DataLoader` fetches a whole batch at once.

    Args:
        stream: The rows.
        tokenizer: What tokenizes them; its special tokens are added.
        max_length: Number of tokens a text is cut to. `None`: texts stay whole.
        pool_size: Rows of a pool, which a sampler rounds up to whole batches.

    Attributes:
        num_rows: Rows of the stream, once it was read to its end.
    """

    def __init__(
        self, stream: TextStream, tokenizer: PreTrainedTokenizerBase, max_length: int | None, pool_size: int
    ) -> None:
        self.stream, self.pool_size = stream, pool_size
        self.num_rows: int | None = None
        self._encoder = RowEncoder(tokenizer, max_length, stream.features["label"])
        self._pool: EncodedRows | None = None

    def pools(
        self, num_rows: int, order: int, place: Mapping[str, Any] | None
    ) -> Iterator[tuple[EncodedRows, dict[str, Any]]]:
        """Yield the encoded pools, each of which is the one that batches are fetched from until the next is asked for.

        Arguments and place are those of `TextStream.pools`.
        """
        for texts, after in self.stream.pools(num_rows, order, place):
            with _without_progress_bars():
                self._pool = EncodedRows(self._encoder(texts))
            yield self._pool, after

    def __getitem__(self, index: int) -> TokenBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> TokenBatch:
        """Return the rows at `indices` of the pool, in that order."""
        if self._pool is None:
            raise IndexError("No pool has been read yet. Ask the sampler for a batch first.")
        return self._pool.__getitems__(indices)


class PoolSampler(BatchSampler):
    """Batches of a stream, which it reads pool by pool; within a pool, the batches of another sampler.

    The order is a function of `(seed, epoch)` and of the number of a pool, so that a resumed run sees it again.

    Args:
        rows: The rows.
        sampler_type: How the rows of a pool become batches.
        batch_size: Rows in a batch.
        seed: Seed of the order; 0 or more.
    """

    def __init__(self, rows: StreamedRows, sampler_type: type[BatchSampler], batch_size: int, seed: int = 0) -> None:
        super().__init__(np.empty(0), batch_size, seed)
        self.rows, self.sampler_type = rows, sampler_type
        self.batches_per_pool = math.ceil(rows.pool_size / batch_size)
        self._places: dict[int, dict[str, Any]] = {}

    @property
    def num_batches(self) -> None:
        """How many batches an epoch has is not known."""
        return None

    def place_of(self, batch: int) -> dict[str, Any]:
        """Return where the pool of a batch of this epoch begins, for `go_on`; it fits in JSON."""
        pool = batch // self.batches_per_pool
        return {"pool": pool, "after": self._places.get(pool), "num_rows": self.rows.num_rows}

    def go_on(self, place: dict[str, Any]) -> None:
        """Begin the next iteration at the pool that `place_of` was asked for."""
        self.rows.num_rows = place["num_rows"]
        self._places = {} if place["after"] is None else {place["pool"]: place["after"]}

    def __iter__(self) -> Iterator[list[int]]:
        first, left_out = divmod(self.start_batch, self.batches_per_pool)
        place = self._places.get(first)
        if place is None:
            first, left_out = 0, self.start_batch
        self._places = {} if place is None else {first: place}
        order_of_files = int(np.random.default_rng([self.seed, self.epoch]).integers(1, 2**31))
        num_read = 0 if place is None else place["num_read"]
        pools = self.rows.pools(self.batches_per_pool * self.batch_size, order_of_files, place)
        for number, (pool, after) in enumerate(pools, start=first):
            # a batch is fetched while the one before is trained on, which may be of the pool before
            self._places = {key: value for key, value in self._places.items() if key >= number - 1}
            self._places[number + 1] = after
            sampler = self.sampler_type(pool.lengths, self.batch_size)
            sampler.start_batch, sampler.fill_last_batch = left_out, self.fill_last_batch
            left_out = max(0, left_out - self.batches_per_pool)
            yield from sampler.batches(np.random.default_rng([self.seed, self.epoch, number]))
            num_read = after["num_read"]
        self.rows.num_rows = num_read
