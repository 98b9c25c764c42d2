"""The endings of files of rows, and the text of files and streams: byte order marks, encodings other than UTF-8."""

import codecs
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Endings of the formats of rows; those that are not Parquet may be compressed
FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
COMPRESSIONS: Mapping[str, str] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}

# Sheets of cells, which are not read
SHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")

_MARKS = (  # that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# What a file without text begins with, what it is then, and the remedy
_PACKED = {
    b"PK\x03\x04": "a ZIP archive or an Excel sheet. Save the sheet as CSV.",
    b"\xd0\xcf\x11\xe0": "an Excel sheet. Save it as CSV.",
    b"\x1f\x8b": "compressed. Let its name end in .gz.",
    b"BZh": "compressed. Let its name end in .bz2.",
    b"\x28\xb5\x2f\xfd": "compressed. Let its name end in .zst.",
    b"PAR1": "a Parquet file. Let its name end in .parquet.",
}


def ending_of(path: str | Path) -> str:
    """Return the ending of a file in small letters, that before the one of its compression."""
    file = Path(str(path).lower())
    return (file.with_suffix("") if file.suffix in COMPRESSIONS else file).suffix


def format_of(path: str | Path) -> str | None:
    """Return the ending that names the format of a file of rows; `None` for another file.

    Example:
        >>> format_of("rows.CSV"), format_of("rows.jsonl.gz"), format_of("rows.parquet.gz"), format_of("rows.txt")
        ('.csv', '.jsonl', None, None)
    """
    ending = ending_of(path)
    is_readable = ending != ".parquet" or str(path).lower().endswith(ending)
    return ending if ending in FORMATS and is_readable else None


def decoded(stream: Any, encoding: str | None = None) -> io.TextIOWrapper:
    r"""Return the text of a stream of bytes. A byte order mark says its encoding, and is no part of it.

    Args:
        stream: The bytes, from their start: an open binary file, buffered or not.
        encoding: Encoding of bytes without a mark. Defaults to UTF-8.

    Returns:
        The text, with its line ends as they are; closing it closes the stream.

    Raises:
        ValueError: If there is no such encoding.

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
    """Return the error of a file or stream that is not text in the encoding it should have.

    Args:
        name: What it is called in errors.
        path: Where it lies.
        encoding: As in `decoded`.
        error: What decoding raised.
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
