"""Columns that probably hold texts and labels, for the error that asks for their names."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from .label_spellings import NUMBER

_TEXT_WORDS = {
    "text", "texts", "sentence", "content", "body", "message", "description", "subject", "title", "headline", "review",
    "comment", "summary", "question", "tweet", "utterance", "abstract", "query", "document", "post", "email", "news",
}  # fmt: skip
_LABEL_WORDS = {
    "label", "labels", "category", "categories", "class", "target", "topic", "sentiment", "intent", "tag", "tags",
    "rating", "stars", "score", "genre", "emotion", "department", "queue", "priority", "type", "group", "y",
}  # fmt: skip


class ColumnsError(ValueError):
    """A dataset has no columns of texts or labels under the expected names.

    Args:
        message: What is missing.
        columns: Columns that probably hold it, by the argument that names them.

    Attributes:
        columns: The argument `columns`.
    """

    def __init__(self, message: str, columns: dict[str, list[str]]) -> None:
        super().__init__(message)
        self.columns = columns


def holds_words(column: pa.ChunkedArray) -> bool:
    """Return whether a column of strings has values other than numbers, or no values at all."""
    is_number = pc.match_substring_regex(column, NUMBER)
    return not pc.all(is_number, min_count=1).as_py()


def likely_label_column(head: pa.Table, texts: Sequence[str]) -> str | None:
    """Return the column that probably holds the labels, by its name or else because its values repeat.

    Args:
        head: The first rows.
        texts: Columns of the text, where these are known.

    Example:
        >>> likely_label_column(pa.table({"Body": ["a", "b", "c"], "Kind": ["x", "y", "x"]}), [])
        'Kind'
    """
    others = [name for name in head.column_names if name not in texts]
    named: list[str] = [name for name in others if _words(name) & _LABEL_WORDS]
    if named:
        return named[0]
    counts: dict[str, int] = {
        name: len(pc.unique(head[name])) for name in others if not pa.types.is_nested(head[name].type)
    }
    repeated = [name for name, count in counts.items() if 2 <= count < len(head)]
    return min(repeated, key=lambda name: counts[name], default=None)


def likely_text_columns(head: pa.Table, label: str | None) -> list[str]:
    """Return the columns that probably make up the text, by their names or else by the longest strings.

    Args:
        head: The first rows.
        label: Column of the labels.

    Example:
        >>> likely_text_columns(pa.table({"Id": ["a"], "Subject": ["b"], "Body": ["c"]}), None)
        ['Subject', 'Body']
    """
    types = dict(zip(head.schema.names, head.schema.types, strict=True))
    strings = [
        name
        for name, stored in types.items()
        if name != label
        and (pa.types.is_string(stored) or pa.types.is_large_string(stored))
        and holds_words(head[name])
    ]
    named = [name for name in strings if _words(name) & _TEXT_WORDS]
    lengths = {name: pc.sum(pc.utf8_length(head[name])).as_py() or 0 for name in strings}
    return named or sorted(strings, key=lengths.__getitem__)[-1:]


def _words(name: str) -> set[str]:
    """Return the words of a column's name: those of `ticketBody` and `Ticket body` are `ticket` and `body`."""
    return set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))
