"""Markdown that shows any text literally."""

import html
import re
from collections.abc import Iterable, Sequence

from rnn_hf.errors import plain

MARKUP = re.compile(r"([\\`*_\[\]|~$#])")


def escaped(text: object) -> str:
    r"""Return a text escaped for the middle of a line or the cell of a table.

    Example:
        >>> escaped("a|b <script>")
        'a\\|b &lt;script&gt;'
    """
    return MARKUP.sub(r"\\\1", html.escape(plain(text), quote=False))


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, align_right: bool = True) -> str:
    """Return a table.

    Args:
        titles: Titles of the columns, as Markdown.
        rows: The cells of each row, as Markdown, one for each title.
        align_right: Whether all columns but the first are aligned on the right.

    Example:
        >>> print(table(["fact", "value"], [["seed", 42]]))
        | fact | value |
        |---|---:|
        | seed | 42 |
    """
    lines = [titles, *rows]
    shown = [f"| {' | '.join(map(str, cells))} |" for cells in lines]
    shown.insert(1, f"|---|{('---:|' if align_right else '---|') * (len(titles) - 1)}")
    return "\n".join(shown)


def fenced(language: str, *lines: str) -> str:
    """Return a block of code; no line may start with a fence."""
    return "\n".join([f"```{language}", *lines, "```"])
