"""The rows of files as a dataset: in Arrow files of the cache of `datasets`, or as a stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import (
    ArrowBasedBuilder,
    BuilderConfig,
    Dataset,
    DatasetBuilder,
    DatasetInfo,
    Features,
    IterableDataset,
    SplitGenerator,
)
from datasets.builder import Key
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.exceptions import DatasetGenerationError

from .table_files import TableFile, TableFileError, common_schema
from .text_files import format_of

# `DatasetInfo.builder_name` of rows whose columns are strings because their file has no types
UNTYPED = "csv"


@dataclass
class TableRowsConfig(BuilderConfig):  # type: ignore[misc]
    """Options for reading files, which are part of their key in the cache."""

    delimiter: str | None = None
    encoding: str | None = None


class TableRows(ArrowBasedBuilder):  # type: ignore[misc]
    """Reads files of one split with `TableFile`.

    Attributes:
        title: Name of the files in error messages.
    """

    BUILDER_CONFIG_CLASS = TableRowsConfig
    VERSION = "1.0.0"
    title = "The file"

    def _info(self) -> DatasetInfo:
        return DatasetInfo()

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        ((split, paths),) = self.config.data_files.items()
        files = [
            TableFile(path, delimiter=self.config.delimiter, encoding=self.config.encoding, name=self.title)
            for path in paths
        ]
        schema = common_schema(file.schema for file in files)
        if not schema.names:
            raise TableFileError(f"{self.title} must have rows, got none in {paths[0]}. Pass another file.")
        try:
            self.info.features = Features.from_arrow_schema(schema)
        except ValueError as error:
            raise TableFileError(
                f"{self.title} must have columns of known types, got {paths[0]} ({error})."
            ) from error
        return [SplitGenerator(split, gen_kwargs={"files": files, "schema": schema})]

    def _generate_tables(self, files: list[TableFile], schema: pa.Schema) -> Iterator[tuple[Key, pa.Table]]:
        for number, file in enumerate(files):
            for position, batch in enumerate(file.batches(schema=schema)):
                yield Key(number, position), pa.Table.from_batches([batch])


def rows_of_files(
    files: DataFilesList,
    split: str,
    *,
    streaming: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
    title: str = "The file",
) -> Dataset | IterableDataset:
    """Return the rows of files as a split. Rows that are not streamed are cached until a file changes.

    Args:
        files: The files, with data that change when the files do.
        split: Name of the split.
        streaming: Whether to stream the rows.
        delimiter: As in `TableFile`.
        encoding: As in `TableFile`.
        title: Name of the files in error messages.

    Raises:
        TableFileError: If a file cannot be read, or there are no rows.
    """
    data_files = DataFilesDict({split: files})
    builder = TableRows(data_files=data_files, delimiter=delimiter, encoding=encoding)
    builder.title = title
    try:
        if streaming:
            rows = builder.as_streaming_dataset(split)
        else:
            builder.download_and_prepare()
            rows = builder.as_dataset(split)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, TableFileError | OSError):  # of the file, or of a full disk
            raise error.__cause__ from error.__cause__.__cause__
        raise TableFileError(f"{title} could not be read, got {files[0]} ({error.__cause__ or error}).") from error
    except ValueError as error:
        if "corresponds to no data" in str(error):
            raise TableFileError(f"{title} must have rows, got none in {files[0]}. Pass another file.") from error
        raise
    has_no_types = all(TableFile(file).format in (".csv", ".tsv") for file in files)
    rows.info.builder_name = UNTYPED if has_no_types else "table"
    return rows


def has_untyped_files(builder: DatasetBuilder) -> bool:
    """Return whether a dataset consists of CSV or JSON files and declares no types for their columns.

    Datasets on the Hub are left to the cache of `datasets`, which works without a network.
    """
    files = builder.config.data_files or {}
    is_plain = builder.name in ("csv", "json") and builder.info.features is None and builder.repo_id is None
    return is_plain and bool(files) and all(format_of(file) for paths in files.values() for file in paths)


def is_untyped(rows: Dataset | IterableDataset) -> bool:
    """Return whether the columns of rows are strings because their file has no types."""
    return bool(rows.info.builder_name == UNTYPED)
