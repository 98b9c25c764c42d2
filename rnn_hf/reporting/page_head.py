"""The head that all HTML pages share."""

import html
from pathlib import Path

STYLE = Path(__file__).with_name("page_style.css")


def page_head(title: str, language: str = "en") -> str:
    """Return the start of a page, up to where its own style or body begins.

    The shared style has the colors, for light and dark, and the parts that pages have in common.

    Args:
        title: Title of the page, which is escaped.
        language: Language of the page, such as `"en"`.
    """
    return f"""<!doctype html>
<html lang="{html.escape(language)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>"""
