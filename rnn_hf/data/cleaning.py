"""Cleaning of texts with leftovers of HTML."""

import html
import re

# Without an ampersand, a name is an entity only if it is not an English word: a text may contain "the image;"
_ENTITY = re.compile(
    r"&(#?\w+;)|(#\d+;|\b(?:quot|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash|[a-z](?:acute|grave|uml|cedil|tilde));)"
)
_APOSTROPHE = re.compile(r" +(?:#39|#8217|rsquo);(?=(?:s|t|re|ve|ll|d|m)\b|(?!\w))", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")


def clean_text(text: str) -> str:
    r"""Return a text without leftovers of HTML and backslash escapes, such as those in AG News.

    AG News lost the ampersands of its HTML entities (replaced by spaces) and has backslashes instead of line breaks.
    Entities become the characters they stand for, tags are removed, and backslashes and runs of whitespace become
    single spaces.

    Example:
        >>> clean_text("Oil at  #36;46.75, up on yesterday #39;s close. &lt;b&gt;Reuters&lt;/b&gt;")
        "Oil at $46.75, up on yesterday's close. Reuters"
        >>> clean_text(r"A second\team grabs \$1B of AT amp;T")
        'A second team grabs $1B of AT&T'
    """
    text = re.sub(r"\\+(?=\$)", "", text).replace("\\", " ")
    text = re.sub(r"(?<=[A-Z]) amp;(?=[A-Z])", "&", _APOSTROPHE.sub("'", text))
    text = _ENTITY.sub(lambda match: html.unescape("&" + (match[1] or match[2])), text)
    return " ".join(_TAG.sub(" ", text).split())
