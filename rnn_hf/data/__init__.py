"""From a dataset to batches: loading, labels, tokenizers, batches, word vectors."""

from typing import TYPE_CHECKING, Any

from ..errors import missing_extra
from .tokenizer_training import train_tokenizer

if TYPE_CHECKING:
    from .sources import load_text_dataset

__all__ = ["load_text_dataset", "train_tokenizer"]


def __getattr__(name: str) -> Any:
    """Import `load_text_dataset` on first use: it needs packages that loading and predicting do not need."""
    if name != "load_text_dataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .sources import load_text_dataset
    except ModuleNotFoundError as error:
        raise missing_extra(name, error) from error
    return load_text_dataset
