"""Texts without labels, for which teachers have answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets import Dataset, Features, Value
from datasets.exceptions import DatasetGenerationError

from .columns import text_columns_of, unlabelled
from .sources import read_file, reason_of
from .table_files import open_text
from .text_files import undecodable


def load_unlabelled_texts(
    path: str | Path,
    features: Features,
    *,
    text_column_names: Sequence[str] | None = None,
    label_column_name: str = "label",
    clean_text: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> Dataset:
    """Return the texts of a file as rows without labels.

    Args:
        path: File in a format of `load_text_dataset`, or `.txt`, with a text on each line.
        features: Features of labelled rows, with the columns `text` and `label`.
        text_column_names: As in `load_text_dataset`.
        label_column_name: A column that cannot be part of the text; the file need not have it.
        clean_text: As in `load_text_dataset`.
        delimiter: As in `load_text_dataset`.
        encoding: As in `load_text_dataset`.

    Returns:
        Rows with these features, whose label is `NO_LABEL`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be read, or a column of texts is missing.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".txt" and path.is_file():
        rows, names = _read_lines(path, encoding), ["text"]
    else:
        rows = read_file("unlabelled", path, streaming=False, delimiter=delimiter, encoding=encoding)
        names = text_columns_of(rows, text_column_names, label_column_name)
    return unlabelled(rows, names, features, clean=clean_text)


def _read_lines(path: Path, encoding: str | None) -> Dataset:
    """Return the lines of `unlabelled_file`, in the column `text`."""
    changed = path.stat()
    if changed.st_size == 0:
        raise ValueError(f"`unlabelled_file` must have at least one line, got the empty {path}. Leave it out.")
    arguments = {
        "path": str(path.absolute()),
        "encoding": encoding,
        "state": f"{changed.st_mtime_ns} {changed.st_size}",
    }
    try:
        rows = Dataset.from_generator(_lines_of, features=Features(text=Value("string")), gen_kwargs=arguments)
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, UnicodeError):
            raise undecodable("`unlabelled_file`", path, encoding, error.__cause__) from error
        raise ValueError(f"`unlabelled_file` cannot be read ({reason_of(error)}).") from error
    return rows


def _lines_of(path: str, encoding: str | None, state: str) -> Iterator[dict[str, str]]:
    """Yield the lines of a file; its state is for the cache."""
    with open_text(path, encoding) as text:
        text.reconfigure(newline="\n")
        for line in text:
            yield {"text": line.rstrip("\r\n")}
