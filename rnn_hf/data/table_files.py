"""Files of rows (CSV, TSV, JSON, JSON Lines, Parquet) as Arrow record batches, in memory independent of their size.

Columns of CSV and TSV files are strings: `01`, `1` and `1.0` are three codes, and a text `007` stays `007`.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnn_hf.errors import plain
from rnn_hf.onnx_classifier import encodable

from .text_files import COMPRESSIONS, FORMATS, SHEETS, decoded, ending_of, format_of, undecodable

# Number of rows in a record batch
BATCH_ROWS = 10_000

# Characters read at a time from a JSON array, and the maximum of one row
_PIECE, _LONGEST_ROW = 2**20, 2**26

_JSON_SEPARATORS = re.compile(r"[\s,]*")


class TableFileError(ValueError):
    """A file of rows that cannot be read, with the remedy."""


def open_text(path: str | Path, encoding: str | None = None) -> io.TextIOWrapper:
    """Open a text file, compressed or not, for reading; line ends are kept.

    Args:
        path: The file. The extensions .gz, .bz2 and .zst mean that it is compressed.
        encoding: Its encoding if it has no byte order mark. Defaults to UTF-8.

    Raises:
        ValueError: If the encoding does not exist.
    """
    return decoded(_open_bytes(path), encoding)


class TableFile:
    r"""The rows of one file, each column of one type from the first row to the last.

    Args:
        path: The file, with an extension of `FORMATS`; unless it is Parquet, one of a compression may follow.
        delimiter: Character between the columns of a CSV or TSV file. Defaults to a comma or a tab.
        encoding: Encoding of a file that is not Parquet and has no byte order mark. Defaults to UTF-8.
        name: Name of the file in error messages.

    Attributes:
        format: The extension of its format.

    Raises:
        TableFileError: If the file cannot be read, by every method that reads it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "rows.csv"
        ...     _ = path.write_text("text,label\nOil rose,01\n")
        ...     rows = TableFile(path)
        ...     rows.schema.names, [batch.to_pylist() for batch in rows.batches()]
        (['text', 'label'], [[{'text': 'Oil rose', 'label': '01'}]])
    """

    def __init__(
        self, path: str | Path, *, delimiter: str | None = None, encoding: str | None = None, name: str = "The file"
    ) -> None:
        ending = format_of(path)
        if ending is None:
            is_sheet = ending_of(path) in SHEETS
            raise TableFileError(
                f"{name} must end in {', '.join(FORMATS)}, got {path}. "
                + ("Save the sheet as CSV." if is_sheet else "Convert the file or rename it; ")
                + ("" if is_sheet else f"{', '.join(COMPRESSIONS)} may follow all but .parquet.")
            )
        if delimiter == r"\t":  # as a shell passes it
            delimiter = "\t"
        if delimiter is not None and len(delimiter) != 1:
            raise ValueError(f"`delimiter` must be one character, got {delimiter!r}.")
        decoded(io.BytesIO(), encoding)  # rejects unknown encodings
        self.path, self.delimiter, self.encoding, self.name, self.format = path, delimiter, encoding, name, ending

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns. Strings and lists have Arrow's plain types; the types of a JSON file need all its rows."""
        return next(self._reading(self._read_schema))

    def batches(self, batch_rows: int = BATCH_ROWS, schema: pa.Schema | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order.

        Args:
            batch_rows: Maximum number of rows in a batch.
            schema: Common columns and types of this file and others. Defaults to those of this file.
        """
        wanted = schema or self.schema
        return self._reading(lambda: self._read_batches(wanted, batch_rows))

    def objects(self, batch_rows: int = BATCH_ROWS) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows in order as objects, which are unchanged if the file is JSON.

        Args:
            batch_rows: Maximum number of rows in a list.
        """
        if self.format in (".jsonl", ".json"):
            return self._reading(lambda: self._json_batches(batch_rows))
        return (batch.to_pylist() for batch in self.batches(batch_rows))

    def _read_schema(self) -> Iterator[pa.Schema]:
        if self.format == ".parquet":
            with _open_bytes(self.path) as stream, pq.ParquetFile(stream) as file:
                self._check_names(file.schema_arrow.names)
                yield plain_schema(file.schema_arrow)
        elif self.format in (".csv", ".tsv"):
            yield pa.schema([(name, pa.string()) for name in self._csv_names()])
        else:
            types: dict[str, pa.DataType] = {}
            for rows in self._json_batches(BATCH_ROWS):
                for column in dict.fromkeys(key for row in rows for key in row):
                    type_here = _type_of_all([row.get(column) for row in rows])
                    types[column] = _common_type(types.get(column, pa.null()), type_here)
            yield pa.schema(list(types.items()))

    def _read_batches(self, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
        if self.format == ".parquet":
            with _open_bytes(self.path) as stream, pq.ParquetFile(stream) as file:
                for batch in file.iter_batches(batch_rows):
                    yield plain_batch(batch, schema)
        elif self.format in (".csv", ".tsv"):
            with open_text(self.path, self.encoding) as text:
                # with one column, a blank line is a row
                for chunk in self._csv(text, chunksize=batch_rows, skip_blank_lines=len(self.schema) > 1):
                    self._check_csv_chunk(chunk)
                    batch = pa.RecordBatch.from_pandas(
                        chunk.reindex(columns=schema.names), schema, preserve_index=False
                    )
                    yield batch.replace_schema_metadata(None)
        else:
            for rows in self._json_batches(batch_rows):
                columns = [_array([row.get(field.name) for row in rows], field.type) for field in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _csv(self, text: io.TextIOWrapper, **options: Any) -> Any:
        """Read a CSV file with pandas, all columns as strings, an empty field as the only missing value."""
        dialect: dict[str, Any] = {"sep": self.delimiter or ","}
        if self.format == ".tsv":
            # there is no quoting (3 is `csv.QUOTE_NONE`): a stray quote must not swallow the lines after it
            dialect = {"sep": self.delimiter or "\t", "quoting": 3}
        return pd.read_csv(text, dtype=str, keep_default_na=False, na_values=[""], **dialect, **options)

    def _csv_names(self) -> list[str]:
        """Return the names of the columns of a CSV file."""
        with open_text(self.path, self.encoding) as text:
            # as a row, because pandas renames the second of two equal names in a header
            [header] = self._csv(text, header=None, nrows=1).values.tolist()
        names = [name if isinstance(name, str) else f"Unnamed: {index}" for index, name in enumerate(header)]
        if any("\0" in name for name in names):
            raise TableFileError(f"{self.name} must be text, but {self.path} has binary data. Convert it.")
        others = [mark for mark in (";", "\t", "|", ",") if len(names) == 1 and mark in names[0]]
        if others and self.delimiter is None:
            expected, given = (repr(mark) for mark in ("\t" if self.format == ".tsv" else ",", others[0]))
            raise TableFileError(
                f"{self.name} must have columns separated by {expected}, but the first line of {self.path} is "
                f"{plain(names[0])!r}. Pass `delimiter={given}`."
            )
        self._check_names(names)
        return names

    def _check_names(self, names: list[str]) -> None:
        """Reject two columns of the same name."""
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise TableFileError(
                f"{self.name} must have columns of different names, but {self.path} has {plain(twice)!r} more "
                "than once. Rename one."
            )

    def _check_csv_chunk(self, chunk: pd.DataFrame) -> None:
        # if rows have more fields than the header, pandas makes an index of the first ones
        if not isinstance(chunk.index, pd.RangeIndex):
            raise TableFileError(
                f"{self.name} must have {len(chunk.columns)} fields in each row, as in the first line of {self.path}, "
                "but rows have more. Put quotes around fields with a delimiter in them, or pass another `delimiter`."
            )

    def _json_batches(self, batch_rows: int) -> Iterator[list[dict[str, Any]]]:
        with open_text(self.path, self.encoding) as text:
            rows = []
            for row in _json_rows(text):
                rows.append(row)
                if len(rows) == batch_rows:
                    yield rows
                    rows = []
            if rows:
                yield rows

    def _reading(self, read: Any) -> Iterator[Any]:
        """Yield the items of `read`, and turn errors of the file into one error with a remedy."""
        try:
            yield from read()
        except (TableFileError, FileNotFoundError, PermissionError):
            raise
        except pd.errors.EmptyDataError as error:
            raise TableFileError(f"{self.name} must have rows, got none in {self.path}. Pass another file.") from error
        except UnicodeDecodeError as error:
            raise TableFileError(undecodable(self.name, self.path, self.encoding, error)) from error
        except (ValueError, OSError, EOFError, OverflowError, RecursionError, pa.ArrowException) as error:
            raise TableFileError(
                f"{self.name} must hold rows in the format {self.format}, got {self.path} ({plain(error)}). "
                "Fix the file."
            ) from error


def common_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return the columns of all schemas, each with a type for the values of all.

    Example:
        >>> common_schema([pa.schema({"a": pa.int64()}), pa.schema({"a": pa.string(), "b": pa.null()})]).types
        [DataType(string), DataType(null)]
    """
    first, *others = schemas
    types = dict(zip(first.names, first.types, strict=True))
    for field in (field for schema in others for field in schema):
        types[field.name] = _common_type(types.get(field.name, pa.null()), field.type)
    return pa.schema(list(types.items()), first.metadata)


def plain_type(stored: pa.DataType) -> pa.DataType:
    """Return the plain type of the same values: one type each for strings, lists and dictionaries.

    Example:
        >>> plain_type(pa.large_list(pa.large_string())), plain_type(pa.string_view())
        (ListType(list<item: string>), DataType(string))
    """
    if pa.types.is_large_string(stored) or pa.types.is_string_view(stored):
        return pa.string()
    if pa.types.is_large_binary(stored) or pa.types.is_binary_view(stored):
        return pa.binary()
    if pa.types.is_dictionary(stored):
        return plain_type(stored.value_type)
    if pa.types.is_fixed_size_list(stored):
        return pa.list_(plain_type(stored.value_type), stored.list_size)
    if pa.types.is_list(stored) or pa.types.is_large_list(stored):
        return pa.list_(plain_type(stored.value_type))
    if pa.types.is_struct(stored):
        return pa.struct([field.with_type(plain_type(field.type)) for field in stored])
    return stored


def plain_schema(stored: pa.Schema) -> pa.Schema:
    """Return a schema with `plain_type` of each column; the names of classes are kept."""
    fields = [pa.field(field.name, plain_type(field.type)) for field in stored]
    kept = {key: value for key, value in (stored.metadata or {}).items() if key == b"huggingface"}
    return pa.schema(fields, kept or None)


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows with the columns of a `plain_schema`."""
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)], schema=schema
    )


def _open_bytes(path: str | Path) -> Any:
    """Open a file for reading its uncompressed content; the caller closes it."""
    stream = Path(path).open("rb", buffering=0)  # noqa: SIM115
    compression = COMPRESSIONS.get(Path(path).suffix.lower())
    return pa.CompressedInputStream(stream, compression) if compression else stream


def _json_rows(text: io.TextIOWrapper) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON Lines, or of an array."""
    head = next((line for line in text if line.strip()), "")
    try:
        is_lines = isinstance(json.loads(head), dict)
    except ValueError:
        is_lines = False
    if not is_lines:
        yield from _json_array(text, head)
        return
    yield json.loads(head)
    for number, line in enumerate(text, start=1):
        if line.strip():
            try:
                yield _checked_row(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{error}, {number} lines after the first row") from error


def _json_array(text: io.TextIOWrapper, buffer: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of an array whose start is in `buffer`, or objects that span several lines."""
    decoder = json.JSONDecoder()
    is_array = buffer.lstrip().startswith("[")
    position = buffer.index("[") + 1 if is_array else 0
    while True:
        position = _JSON_SEPARATORS.match(buffer, position).end()  # type: ignore[union-attr] # it matches anything
        if is_array and buffer[position : position + 1] == "]":
            rest = (buffer[position + 1 :] + text.read(_PIECE)).strip()
            if rest:
                raise ValueError(f"nothing may follow the array, got {rest[:20]!r}")
            return
        try:
            row, position = decoder.raw_decode(buffer, position)
        except ValueError:
            more = text.read(_PIECE) if len(buffer) - position < _LONGEST_ROW else ""
            if not more and not is_array and position == len(buffer):
                return
            if not more:
                raise
            buffer, position = buffer[position:] + more, 0
        else:
            yield _checked_row(row)


def _checked_row(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"each row must be an object, got {json.dumps(row)[:50]}")
    return row


def _type_of_all(values: list[Any]) -> pa.DataType:
    """Return the type that holds all values of a JSON column."""
    try:
        return plain_type(pa.array(values).type)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return reduce(_common_type, map(_type_of, values))


def _type_of(value: Any) -> pa.DataType:
    """Return the type of one value of a JSON file."""
    if isinstance(value, list):
        return pa.list_(reduce(_common_type, map(_type_of, value), pa.null()))
    if isinstance(value, dict):
        return pa.struct([(key, _type_of(item)) for key, item in value.items()])
    if isinstance(value, str):
        return pa.string()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return pa.string()
    return pa.scalar(value).type


def _common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the type for values of both types: numbers and strings are strings, everything else is bytes."""
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(_common_type(first.value_type, second.value_type))
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        types = {field.name: field.type for field in first}
        for field in second:
            types[field.name] = _common_type(types.get(field.name, pa.null()), field.type)
        return pa.struct(list(types.items()))
    if {first, second} == {pa.int64(), pa.float64()}:
        return pa.float64()
    return pa.binary() if any(map(_is_nested, (first, second))) else pa.string()


def _is_nested(stored: pa.DataType) -> bool:
    return bool(pa.types.is_nested(stored) or pa.types.is_binary(stored))


def _array(values: list[Any], wanted: pa.DataType) -> pa.Array:
    """Return values of a JSON column as an array of a type from `_common_type`."""
    try:
        return pa.array(values, wanted)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return pa.array([_fitted(value, wanted) for value in values], wanted)


def _fitted(value: Any, wanted: pa.DataType) -> Any:
    """Convert a value of a JSON file to a type; strings and bytes hold its JSON."""
    if value is None:
        return None
    if pa.types.is_string(wanted):
        return encodable(value) if isinstance(value, str) else json.dumps(value)
    if pa.types.is_binary(wanted):
        return json.dumps(value).encode()
    if pa.types.is_list(wanted):
        return [_fitted(item, wanted.value_type) for item in value]
    if pa.types.is_struct(wanted):
        return {field.name: _fitted(value.get(field.name), field.type) for field in wanted}
    return float(value) if pa.types.is_floating(wanted) else value
