"""Pieces of a Markdown page that show a text as it is, whatever the text holds."""

import html
import re
from collections.abc import Iterable, Sequence

from rnn_hf.errors import plain

MARKUP = re.compile(r"([\\`*_\[\]|~$#])")


def escaped(text: object) -> str:
    r"""Return a text for the middle of a line or for a table's cell, where none of its marks is markup.

    Example:
        >>> escaped("a|b <script>")
        'a\\|b &lt;script&gt;'
    """
    return MARKUP.sub(r"\\\1", html.escape(plain(text), quote=False))


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, align_right: bool = True) -> str:
    """Return a table.

    Args:
        titles: Titles of the columns, as Markdown.
        rows: As many cells in each as there are titles, as Markdown.
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
    """Return lines of code, none of which may begin with a fence, as a block."""
    return "\n".join([f"```{language}", *lines, "```"])
