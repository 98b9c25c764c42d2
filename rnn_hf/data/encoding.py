"""From texts to rows of tokens, in Arrow files that are memory mapped."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import DatasetDict, Features, List, Value
from datasets.fingerprint import Hasher
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase


def encode_dataset(dataset: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> DatasetDict:
    """Tokenize every split into an Arrow file; the same rows, tokenizer and length are tokenized once only.

    A tokenizer's own hash changes when it is used, so the name of the cached file comes from its serialized content.
    A tokenizer without a fast backend works, too, though it may be run again in a new process. Rows held in memory
    stay in memory.

    Args:
        dataset: Splits with the columns `text` and `label`, as from `load_text_dataset`.
        tokenizer: The tokenizer; its special tokens are added.
        max_length: Number of tokens a text is cut to. `None`: texts stay whole.

    Returns:
        Splits with the columns `input_ids` (list of int32), `labels` (int64), `length` (int32, number of tokens) and
        `row` (int32, index of the row in its split).

    Raises:
        ValueError: If `max_length` is below 1.
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"`max_length` must be at least 1, got {max_length}.")
    encode, content = _encoder(tokenizer, max_length)

    def encode_rows(texts: list[str], labels: list[int], rows: list[int]) -> pa.Table:
        input_ids = pa.array(encode(texts), type=pa.list_(pa.int32()))
        columns = [input_ids, pa.array(labels), pc.list_value_length(input_ids), pa.array(rows, type=pa.int32())]
        return pa.Table.from_arrays(columns, names=list(features))

    features = Features(
        input_ids=List(Value("int32")), labels=Value("int64"), length=Value("int32"), row=Value("int32")
    )
    return DatasetDict(
        {
            split: rows.map(
                encode_rows,
                input_columns=["text", "label"],
                with_indices=True,
                batched=True,
                remove_columns=rows.column_names,
                features=features,
                new_fingerprint=Hasher.hash([rows._fingerprint, content, max_length]),
                desc=f"Tokenizing {split}",
            )
            for split, rows in dataset.items()
        }
    )


def _encoder(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> tuple[Callable[[list[str]], Any], str]:
    """Return the fastest function from texts to lists of ids, and what identifies it in another process."""
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        limit = {} if max_length is None else {"truncation": True, "max_length": max_length}
        return lambda texts: tokenizer(texts, padding=False, **limit)["input_ids"], Hasher.hash(tokenizer)
    # A copy, because the settings of truncation and padding belong to the backend.
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = tokenizer.split_special_tokens
    backend.no_padding()
    backend.no_truncation()
    if max_length is not None:
        backend.enable_truncation(max_length, direction=tokenizer.truncation_side)

    def encode(texts: list[str]) -> list[list[int]]:
        try:
            encodings = backend.encode_batch_fast(texts)
        except TypeError:
            # A lone surrogate, which has no UTF-8 form.
            encodings = backend.encode_batch_fast([text.encode("utf-8", "replace").decode() for text in texts])
        return [encoding.ids for encoding in encodings]

    return encode, f"{backend.to_str()} {backend.encode_special_tokens}"
