"""The style that all HTML pages share."""

from pathlib import Path


def page_style() -> str:
    """Return rules of CSS: colors for light and dark, and the parts that pages have in common."""
    return Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
