"""From texts to flat arrays of token ids, and from these to padded tensors.

Prediction uses this module, so it imports nothing beyond the core dependencies: neither `datasets` nor `pyarrow`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from rnn_hf.onnx_classifier import encode_flat, flatten, prepare_tokenizer

NO_MAX_LENGTH = 10**9  # `model_max_length` of a tokenizer without a limit is larger


def set_training_length(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> None:
    """Record in a tokenizer the number of tokens after which training truncates a text.

    The number is saved as `max_length`. `model_max_length` is set to no limit: for longer texts transformers warns
    that the model will fail, but a recurrent model reads texts of any length.

    Args:
        tokenizer: The tokenizer.
        max_length: Number of tokens; `None` for no limit.
    """
    tokenizer.model_max_length = VERY_LARGE_INTEGER
    tokenizer.init_kwargs["max_length"] = max_length


def training_length(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the number of tokens after which training truncated a text, or `None` if it did not.

    Defaults to `model_max_length` for a tokenizer in which `set_training_length` recorded no number.

    Raises:
        ValueError: If the length is not an integer of at least 1.
    """
    name, length = "max_length", tokenizer.init_kwargs.get("max_length")
    if length is None:
        name, length = "model_max_length", tokenizer.model_max_length
    is_number = isinstance(length, int | float) and not isinstance(length, bool)
    if is_number and length >= NO_MAX_LENGTH:
        return None
    if not is_number or length < 1 or length != int(length):
        raise ValueError(
            f"`{name}` of the tokenizer must be an integer of at least 1, got {length!r:.40}. Fix its "
            "tokenizer_config.json."
        )
    return int(length)


def fast_encoder(
    tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> tuple[Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]], str | None]:
    """Return the fastest function that tokenizes texts as the tokenizer itself does.

    Args:
        tokenizer: The tokenizer; its special tokens are added.
        max_length: Number of tokens after which a text is truncated; `None` for no limit.

    Returns:
        A function, and a string that identifies it in every process. The function takes texts and returns the token
        ids of all texts in one array (int32, shape `(num_tokens,)`) and the number of tokens of each text (int64,
        shape `(num_texts,)`). The string is the serialized tokenizer, because the hash of a tokenizer object changes
        when it is used; it is `None` for a tokenizer without a fast backend.
    """
    backend = prepared_backend(tokenizer, max_length)
    if backend is None:
        limit = {} if max_length is None else {"truncation": True, "max_length": max_length}
        return lambda texts: flatten(tokenizer(list(texts), padding=False, **limit)["input_ids"]), None
    return partial(encode_flat, backend), f"{backend.to_str()} {backend.encode_special_tokens}"


def prepared_backend(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> Tokenizer | None:
    """Return a copy of the fast backend of a tokenizer that truncates but does not pad; `None` if there is none.

    The arguments are those of `fast_encoder`.
    """
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        return None
    # a copy, because truncation and padding are settings of the backend
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    prepare_tokenizer(backend, max_length, tokenizer.truncation_side, tokenizer.split_special_tokens)
    return backend


def pad(tokens: np.ndarray, lengths: np.ndarray, pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Return the texts of a flat array as a batch, padded on the right to the length of the longest.

    A batch of empty texts is one position wide, because a recurrent layer needs at least one step.

    Args:
        tokens: Token ids of all texts, one text after the other. Shape `(num_tokens,)`.
        lengths: Number of tokens of each text. Shape `(batch_size,)`.
        pad_token_id: Id of the padding.

    Returns:
        The token ids, int64, and a mask that is true where there is a token. Both of shape `(batch_size, longest)`.

    Example:
        >>> pad(np.array([5, 6, 7, 8]), np.array([3, 1]), pad_token_id=0)[0]
        tensor([[5, 6, 7],
                [8, 0, 0]])
    """
    mask = np.arange(max(1, lengths.max())) < lengths[:, None]
    input_ids = np.full(mask.shape, pad_token_id, dtype=np.int64)
    input_ids[mask] = tokens
    return torch.from_numpy(input_ids), torch.from_numpy(mask)
