"""Extensions of files of rows, and decoding of files and streams: byte order marks, encodings other than UTF-8."""

import codecs
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Extensions of the formats of rows; all but Parquet may be compressed
FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
COMPRESSIONS: Mapping[str, str] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}

# Extensions of spreadsheets, which are not supported
SHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")

_MARKS = (  # that of UTF-32 starts with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# First bytes of files that are not text, their kind, and the remedy
_PACKED = {
    b"PK\x03\x04": "a ZIP archive or an Excel sheet. Save the sheet as CSV.",
    b"\xd0\xcf\x11\xe0": "an Excel sheet. Save it as CSV.",
    b"\x1f\x8b": "compressed. Rename it to end in .gz.",
    b"BZh": "compressed. Rename it to end in .bz2.",
    b"\x28\xb5\x2f\xfd": "compressed. Rename it to end in .zst.",
    b"PAR1": "a Parquet file. Rename it to end in .parquet.",
}


def ending_of(path: str | Path) -> str:
    """Return the extension of a file in lower case, without that of its compression."""
    file = Path(str(path).lower())
    return (file.with_suffix("") if file.suffix in COMPRESSIONS else file).suffix


def format_of(path: str | Path) -> str | None:
    """Return the extension that names the format of a file of rows; `None` for another file.

    Example:
        >>> format_of("rows.CSV"), format_of("rows.jsonl.gz"), format_of("rows.parquet.gz"), format_of("rows.txt")
        ('.csv', '.jsonl', None, None)
    """
    ending = ending_of(path)
    is_readable = ending != ".parquet" or str(path).lower().endswith(ending)
    return ending if ending in FORMATS and is_readable else None


def decoded(stream: Any, encoding: str | None = None) -> io.TextIOWrapper:
    r"""Decode a stream of bytes; a byte order mark determines the encoding, and is removed.

    Args:
        stream: The bytes, from their start: an open binary file, buffered or not.
        encoding: Encoding of bytes without a mark. Defaults to UTF-8.

    Returns:
        The text, with its line ends unchanged; closing it closes the stream.

    Raises:
        ValueError: If the encoding does not exist.

    Example:
        >>> decoded(io.BytesIO("\ufeffOil rose".encode("utf-16-le")), "cp1252").read()
        'Oil rose'
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)
    start = buffered.peek(4)
    marked = [name for mark, name in _MARKS if start.startswith(mark)]
    try:
        return io.TextIOWrapper(buffered, encoding=marked[0] if marked else encoding or "utf-8", newline="")
    except LookupError as error:
        raise ValueError(f"`encoding` must be a text encoding such as utf-8 or cp1252, got {encoding!r}.") from error


def undecodable(name: str, path: object, encoding: str | None, error: UnicodeError) -> ValueError:
    """Return the error for a file or stream that is not text in the expected encoding.

    Args:
        name: Its name in error messages.
        path: Its path.
        encoding: As in `decoded`.
        error: The error of decoding.
    """
    if isinstance(path, str | Path) and Path(path).is_file() and Path(path).suffix.lower() not in COMPRESSIONS:
        with Path(path).open("rb") as file:
            start = file.read(4)
        for magic, kind in _PACKED.items():
            if start.startswith(magic):
                return ValueError(f"{name} must be text, but {path} is {kind}")
    return ValueError(
        f"{name} must be {encoding or 'UTF-8'} text, got {path} ({error}). Save it as UTF-8, or pass its encoding, "
        "such as `encoding=cp1252`."
    )
