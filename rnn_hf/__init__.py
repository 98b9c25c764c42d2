"""Recurrent text classifiers, taggers and language models (RNN, LSTM, GRU) as first-class Hugging Face models."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# `rnn-hf --help` must answer without importing torch and transformers, which takes seconds. While Python looks for
# `rnn_hf.__main__`, the name of the program is `-m`.
_IS_COMMAND_LINE = Path(*sys.argv[:1]).name in ("-m", "rnn-hf", "rnn-hf.exe")

if TYPE_CHECKING or not _IS_COMMAND_LINE:
    from .public import *  # noqa: F403  # its names are those of the package
    from .public import __all__ as __all__
    from .version import __version__ as __version__
else:

    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import public

        return getattr(public, name)
