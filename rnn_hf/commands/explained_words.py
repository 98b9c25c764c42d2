"""Explanations as people read them: colored words in a terminal and on a page, signed numbers elsewhere."""

import html
import json
import os
from collections.abc import Sequence
from typing import Any, TextIO

from rnn_hf.errors import plain
from rnn_hf.explanations import Explanation

from .answer_files import Write

# What all pages look like
# Red, green and blue: those of light pages in `page_style.css`, which are legible on dark backgrounds as well
RAISES, LOWERS, NEUTRAL = (47, 111, 222), (224, 122, 26), (128, 128, 128)

# Opacity of the most important word on a page
MOST_OPAQUE = 0.65


def shares(contributions: Sequence[float]) -> list[float]:
    """Return contributions between -1 and 1, divided by the largest one.

    Example:
        >>> shares([0.1, -0.2, 0.0])
        [0.5, -1.0, 0.0]
    """
    largest = max(map(abs, contributions), default=0)
    return [number / largest if largest > 0 else 0.0 for number in contributions]


def colored(words: Sequence[str], contributions: Sequence[float]) -> str:
    """Return words in the colors of a terminal: blue if they raise the score, orange if they lower it, else gray."""
    return " ".join(_colored(plain(word), share) for word, share in zip(words, shares(contributions), strict=True))


def _colored(word: str, share: float) -> str:
    color = RAISES if share > 0 else LOWERS
    mixed = (round(gray + abs(share) * (value - gray)) for gray, value in zip(NEUTRAL, color, strict=True))
    return f"\x1b[{'1;' if abs(share) > 0.5 else ''}38;2;{';'.join(map(str, mixed))}m{word}\x1b[0m"


def signed(words: Sequence[str], contributions: Sequence[float]) -> str:
    """Return words, each followed by its contribution.

    Example:
        >>> signed(["not", "bad"], [0.41, -0.2])
        'not(+0.410) bad(-0.200)'
    """
    numbers = (round(number, 3) + 0.0 for number in contributions)  # without a negative zero
    return " ".join(f"{plain(word)}({number:+.3f})" for word, number in zip(words, numbers, strict=True))


def html_words(explanation: Explanation) -> str:
    """Return the text as HTML that colors its words as the demo page does; `page_style.css` has the colors."""
    text, end, parts = explanation.text, 0, []
    numbers = zip(explanation.contributions, shares(explanation.contributions), strict=True)
    for (start, stop), (number, share) in zip(explanation.offsets, numbers, strict=True):
        color = f"rgba(var({'--against' if share < 0 else '--for'}), {MOST_OPAQUE * abs(share):.2f})"
        word = html_text(text[start:stop])
        parts += [html_text(text[end:start]), f'<span style="background: {color}" title="{number:+.3f}">{word}</span>']
        end = stop
    return "".join([*parts, html_text(text[end:])])


def html_text(text: object) -> str:
    """Return a text as HTML, with each unprintable character replaced."""
    characters = (character if character.isprintable() or character.isspace() else "\ufffd" for character in str(text))
    return html.escape("".join(characters))


def words_writer(stream: TextIO, prefix: str) -> Write:
    """Return a function that prints the explanations in answers: a line for each, colored if people read it.

    Colors need a terminal, and the environment variable NO_COLOR to be unset (no-color.org).

    Args:
        stream: The stream.
        prefix: Prefix of the names in the answers, as in `AnswerFormat`.
    """
    spell = colored if stream.isatty() and not os.environ.get("NO_COLOR") else signed

    def write(rows: Any, answers: list[str]) -> None:
        for answer in answers:
            it = json.loads(answer)[f"{prefix}explanation"]
            words = spell(it["words"], it["contributions"])
            stream.write(f"{plain(it['label'])} ({it['unit']} {it['score']:.3f}): {words}\n")
        stream.flush()

    return write
