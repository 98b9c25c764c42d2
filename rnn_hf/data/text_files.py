"""The text of files and streams of bytes: byte order marks, and encodings other than UTF-8."""

import codecs
import io
from typing import Any

_MARKS = (  # that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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
    return ValueError(
        f"{name} must be {encoding or 'UTF-8'} text, got {path} ({error}). Save it as UTF-8, or pass its encoding, "
        "such as `encoding=cp1252`."
    )
