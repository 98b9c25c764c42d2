"""Training rows read as a stream, one shuffle buffer at a time, for datasets that are larger than memory.

A shuffle buffer is filled with the next rows of the stream, which are tokenized, shuffled and grouped by length; once
they are used up, it is filled again. The order of the files is shuffled in each epoch. A buffer holds whole batches,
so a resumed run only needs the position in the stream at which the buffer starts.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, IterableDataset, Value
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import ProblemType
from rnn_hf.errors import ExitStatusError
from rnn_hf.progress import progress_bar, without_bars_of_datasets

from .batching import BatchSampler, EncodedRows, TokenBatch
from .columns import HEAD_ROWS, TextColumns, check_columns, text_columns_of
from .encoding import RowEncoder
from .labels import item_of, recognize_problem_type
from .sources import find_splits, reason_of
from .table_files import TableFileError
from .table_rows import is_untyped

# Number of rows in memory at a time when a whole stream is read
ROWS_AT_A_TIME = 10_000

# Maximum number of distinct labels to collect: more cannot be classes
MOST_LABELS = 1_000_000


class StreamError(ExitStatusError, ValueError):
    """Rows of a stream that cannot be read, which becomes known only when the stream reaches them."""


class TextStream:
    """The training rows of a dataset as texts and labels, read from the Hub or from files as they are needed.

    Args:
        rows: The rows as they are stored.
        text_column_names: As in `load_text_dataset`.
        label_column_name: As in `load_text_dataset`.
        label_names: Classes in the order of their ids. Defaults to those of the `ClassLabel`; other labels are
            collected by reading the stream once.
        problem_type: Problem type of the labels. Defaults to the one that fits their type.
        clean_text: Whether to pass the texts through `clean_text`.

    Attributes:
        columns: The columns of texts and labels, and how they are converted.
        features: Features of the columns `text` and `label`.

    Raises:
        ValueError: If a column is missing or has the wrong type, or the classes cannot be determined.
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
        self._rows = rows = rows.with_format("arrow")
        table = next(_tables(rows, HEAD_ROWS), None)
        if table is None or len(table) == 0:
            raise ValueError('The "train" split must have rows, got none.')
        self._features = rows.features or Features.from_arrow_schema(table.schema)
        head = self._as_dataset(table)
        check_columns(head, text_column_names, label_column_name)
        texts = text_columns_of(head, text_column_names, label_column_name)
        problem = problem_type or recognize_problem_type({"train": head}, label_column_name)
        names = [name for name in head.column_names if name in {*texts, label_column_name}]
        self._rows = rows.select_columns(names)
        self._features = Features({name: self._features[name] for name in names})
        labels = head
        is_open = problem_type is None and is_untyped(rows)
        is_declared = isinstance(item_of(head.features.get(label_column_name)), ClassLabel)
        if (problem != "regression" or is_open) and not is_declared:
            if problem == "multi_label_classification":
                raise ValueError(
                    f'The classes in "{label_column_name}" must be declared to stream rows. Give the dataset '
                    "a list of `ClassLabel`, or leave out `streaming`."
                )
            labels = self._distinct_labels(label_column_name)
            problem = problem_type or recognize_problem_type({"train": labels}, label_column_name)
        self.columns = TextColumns.of(
            {"train": labels}, texts, label_column_name, label_names, problem, clean_text,
            problem_is_given=problem_type is not None,
        )  # fmt: skip
        self.features = Features(text=Value("string"), label=self.columns.label)

    def _as_dataset(self, table: pa.Table) -> Dataset:
        # rows in memory are not cached, so any fingerprint will do
        info = DatasetInfo(features=self._features, builder_name=self._rows.info.builder_name)
        return Dataset(table, info=info, fingerprint="rows")

    def _distinct_labels(self, column: str) -> Dataset:
        """Return one row for each distinct label, or for the first ones if there are too many for classes."""
        found: pa.ChunkedArray | None = None
        for table in _tables(self._rows.select_columns([column]), ROWS_AT_A_TIME):
            labels = table[column] if found is None else pa.chunked_array([*found.chunks, *table[column].chunks])
            found = pa.chunked_array([pc.unique(labels)])
            if len(found) > MOST_LABELS:
                break
        info = DatasetInfo(builder_name=self._rows.info.builder_name)
        return Dataset(pa.table({column: found}), info=info)

    def buffers(
        self, num_rows: int, order: int = 0, place: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Dataset, dict[str, Any]]]:
        """Yield buffers of rows with the columns `text` and `label`, and the position in the stream after each.

        Args:
            num_rows: Number of rows in a buffer; the last one may have fewer.
            order: Seed of the order of the files; 0 keeps the order in which they are listed.
            place: Position to start at, as yielded with an earlier buffer. Defaults to the start of the stream.

        Raises:
            StreamError: If rows cannot be read, or differ in type from the first rows.
        """
        rows = self._rows.with_format("arrow")  # a copy, with a position of its own
        rows.set_epoch(order)
        num_read = 0 if place is None else int(place["num_read"])
        if place is not None:
            rows.load_state_dict(dict(place["state"]))
        for table in _tables(rows, num_rows):
            typed = table.select(list(self._features))
            try:
                with without_bars_of_datasets():
                    buffer = self.columns.read(self._as_dataset(typed.cast(self._features.arrow_schema)), "train")
            except (ValueError, pa.ArrowException) as error:
                last = num_read + len(table) - 1
                raise StreamError(
                    f"In rows {num_read:,} to {last:,} of the stream (row 0 is row {num_read:,}): {error}"
                ) from error
            num_read += len(table)
            yield buffer, {"num_read": num_read, "state": rows.state_dict()}

    def iterate_texts(self) -> Iterator[str]:
        """Yield all texts once; memory does not grow with their number."""
        progress = progress_bar(desc="Reading the stream once", unit=" texts")
        for buffer, _ in self.buffers(ROWS_AT_A_TIME):
            yield from buffer["text"][:]
            progress.update(len(buffer))
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
    delimiter: str | None = None,
    encoding: str | None = None,
) -> tuple[TextStream, DatasetDict]:
    """Open the training rows of a dataset as a stream, and read its other splits into memory.

    Arguments are those of `load_text_dataset`, but no validation split is cut: the number of rows in a stream is
    unknown until all were read.

    Args:
        dataset_name: As in `load_text_dataset`.
        dataset_config_name: As in `load_text_dataset`.
        train_file: As in `load_text_dataset`.
        validation_file: As in `load_text_dataset`.
        test_file: As in `load_text_dataset`.
        text_column_names: As in `load_text_dataset`.
        label_column_name: As in `load_text_dataset`.
        label_names: As in `load_text_dataset`.
        problem_type: As in `load_text_dataset`.
        clean_text: As in `load_text_dataset`.
        max_train_samples: Number of rows to read, from the start of the stream. Defaults to all.
        delimiter: As in `load_text_dataset`.
        encoding: As in `load_text_dataset`.

    Returns:
        The training rows, and the other splits.

    Raises:
        FileNotFoundError: If the dataset or a file does not exist.
        ConnectionError: If the Hub cannot be reached.
        ValueError: If an argument, a file, a column or a label is not as described in `load_text_dataset`.
    """
    files = {"train": train_file, "validation": validation_file, "test": test_file}
    found = find_splits(
        dataset_name, dataset_config_name, files, streaming=True, delimiter=delimiter, encoding=encoding
    )
    if "train" not in found:
        raise ValueError(f"The dataset has no training split (splits: {', '.join(found)}). Pass `train_file`.")
    rows = found.pop("train")
    if isinstance(rows, Dataset):  # the demo dataset
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
    """Read all rows of a stream into memory."""
    tables = list(_tables(rows.with_format("arrow"), ROWS_AT_A_TIME))
    if not tables:
        raise ValueError(f'The "{split}" split must have rows, got none.')
    features = rows.features or Features.from_arrow_schema(tables[0].schema)
    tables = [table.cast(features.arrow_schema) for table in tables]
    return Dataset(pa.concat_tables(tables), info=DatasetInfo(features=features), fingerprint=split)


def _tables(rows: IterableDataset, num_rows: int) -> Iterator[pa.Table]:
    """Yield the rows of a stream in the format "arrow" as tables of `num_rows` rows.

    Raises:
        StreamError: If they cannot be read.
    """
    tables = iter(rows.iter(num_rows))
    while True:
        try:
            table = next(tables, None)
        except TableFileError as error:
            raise StreamError(str(error)) from error
        except Exception as error:  # from the readers of file formats and from the network
            raise StreamError(f"The stream of rows could not be read ({reason_of(error)}). Fix its files.") from error
        if table is None:
            return
        yield table


class StreamedRows(TorchDataset[TokenBatch]):
    """The tokenized rows in the shuffle buffer, from which a `DataLoader` fetches a whole batch at once.

    Args:
        stream: The rows.
        tokenizer: The tokenizer; its special tokens are added.
        max_length: Number of tokens after which a text is truncated; `None` for no limit.
        pool_size: Number of rows in the shuffle buffer, which a sampler rounds up to whole batches.

    Attributes:
        num_rows: Number of rows in the stream, once it was read to its end; `None` before.
    """

    def __init__(
        self, stream: TextStream, tokenizer: PreTrainedTokenizerBase, max_length: int | None, pool_size: int
    ) -> None:
        self.stream, self.pool_size = stream, pool_size
        self.num_rows: int | None = None
        self._encoder = RowEncoder(tokenizer, max_length, stream.features["label"])
        self._buffer: EncodedRows | None = None

    def buffers(
        self, num_rows: int, order: int, place: Mapping[str, Any] | None
    ) -> Iterator[tuple[EncodedRows, dict[str, Any]]]:
        """Fill the buffer with the next rows repeatedly, and yield it with the position in the stream after it.

        Arguments and positions are those of `TextStream.buffers`.
        """
        for texts, after in self.stream.buffers(num_rows, order, place):
            with without_bars_of_datasets():
                self._buffer = EncodedRows(self._encoder(texts))
            yield self._buffer, after

    def __getitem__(self, index: int) -> TokenBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> TokenBatch:
        """Return the rows at `indices` of the buffer, in that order."""
        if self._buffer is None:
            raise IndexError("The buffer is empty. Ask the sampler for a batch first.")
        return self._buffer.__getitems__(indices)


class PoolSampler(BatchSampler):
    """Batches of a stream, which another sampler makes from each shuffle buffer.

    The order is a function of `(seed, epoch)` and of the number of the buffer, so a resumed run repeats it.

    Args:
        rows: The rows.
        sampler_type: Sampler for the rows of a buffer.
        batch_size: Number of rows in a batch.
        seed: Seed of the order; 0 or more.
    """

    def __init__(self, rows: StreamedRows, sampler_type: type[BatchSampler], batch_size: int, seed: int = 0) -> None:
        super().__init__(np.empty(0), batch_size, seed)
        self.rows, self.sampler_type = rows, sampler_type
        self.batches_per_buffer = math.ceil(rows.pool_size / batch_size)
        self._places: dict[int, dict[str, Any]] = {}

    @property
    def num_batches(self) -> None:
        """`None`: the number of batches in an epoch is unknown."""
        return None

    def place_of(self, batch: int) -> dict[str, Any]:
        """Return the start of the buffer with a batch of this epoch, for `go_on`, as values for JSON."""
        number = batch // self.batches_per_buffer
        return {"buffer": number, "after": self._places.get(number), "num_rows": self.rows.num_rows}

    def go_on(self, place: dict[str, Any]) -> None:
        """Start the next iteration at the buffer that `place_of` returned."""
        self.rows.num_rows = place["num_rows"]
        self._places = {} if place["after"] is None else {place["buffer"]: place["after"]}

    def __iter__(self) -> Iterator[list[int]]:
        first, num_skipped = divmod(self.start_batch, self.batches_per_buffer)
        place = self._places.get(first)
        if place is None:
            first, num_skipped = 0, self.start_batch
        self._places = {} if place is None else {first: place}
        order_of_files = int(np.random.default_rng([self.seed, self.epoch]).integers(1, 2**31))
        num_read = 0 if place is None else place["num_read"]
        buffers = self.rows.buffers(self.batches_per_buffer * self.batch_size, order_of_files, place)
        for number, (buffer, after) in enumerate(buffers, start=first):
            # a loader fetches one batch ahead, so the batch in training may come from the previous buffer
            self._places = {key: value for key, value in self._places.items() if key >= number - 1}
            self._places[number + 1] = after
            sampler = self.sampler_type(buffer.lengths, self.batch_size)
            sampler.start_batch, sampler.fill_last_batch = num_skipped, self.fill_last_batch
            num_skipped = max(0, num_skipped - self.batches_per_buffer)
            yield from sampler.batches(np.random.default_rng([self.seed, self.epoch, number]))
            num_read = after["num_read"]
        self.rows.num_rows = num_read
