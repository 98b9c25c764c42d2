"""What is told to the user, in a line or in a log, without the secrets that the Hub was asked with."""

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants, get_token

HIDDEN = "***"

_USER_IN_ADDRESS = re.compile(r"(?<=://)[^/\s]*@")


def scrubbed(text: str) -> str:
    """Return a text without the access token of the Hub, and without a user and password in an address.

    A server may send back what it was asked with, and its answer becomes part of an error.

    Example:
        >>> scrubbed("Client error for url 'https://user:password@example.org/api'")
        "Client error for url 'https://example.org/api'"
    """
    user = urlsplit(constants.ENDPOINT).netloc.rpartition("@")[0]
    # an HTTP client sends what stands in an address as a header of its own
    for secret in (get_token(), user and base64.b64encode(unquote(user).encode()).decode()):
        if secret:
            text = text.replace(secret, HIDDEN)
    return _USER_IN_ADDRESS.sub("", text)


@contextmanager
def scrubbed_logs() -> Iterator[None]:
    """Let every message that is logged, by whichever library, be a scrubbed one."""
    make = logging.getLogRecordFactory()

    def make_scrubbed(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        with suppress(Exception):  # a message that does not fit its arguments is told of by the handler
            record.msg, record.args = scrubbed(record.getMessage()), ()
        return record

    logging.setLogRecordFactory(make_scrubbed)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)
