"""Tokenized datasets, in memory-mapped Arrow files."""

from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase

from .tokenizing import fast_encoder


def encode_dataset(dataset: DatasetDict, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> DatasetDict:
    """Tokenize every split, and cache the result: the same rows, tokenizer and length are tokenized only once.

    Args:
        dataset: Splits with the columns `text` and `label`, as returned by `load_text_dataset`.
        tokenizer: The tokenizer; its special tokens are added.
        max_length: Number of tokens after which a text is truncated; `None` for no limit.

    Returns:
        Splits with the columns that `RowEncoder` returns.

    Raises:
        ValueError: If `max_length` is below 1.
    """
    # every split has the features of the first
    label = next(iter(dataset.values())).features["label"] if dataset else Value("int64")
    encoder = RowEncoder(tokenizer, max_length, label)
    return DatasetDict({split: encoder(rows, f"Tokenizing {split}") for split, rows in dataset.items()})


class RowEncoder:
    """Tokenizes rows with the columns `text` and `label`.

    The cache is keyed by the serialized content of the tokenizer, because the hash of a tokenizer object changes when
    it is used. A tokenizer without a fast backend also works, but may run again in a new process. Rows held in memory
    stay in memory.

    Args:
        tokenizer: The tokenizer; its special tokens are added.
        max_length: Number of tokens after which a text is truncated; `None` for no limit.
        label: Feature of the column `label`.

    Raises:
        ValueError: If `max_length` is below 1.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int | None, label: Any) -> None:
        if max_length is not None and max_length < 1:
            raise ValueError(f"`max_length` must be at least 1, got {max_length}.")
        self._max_length = max_length
        self._encode, content = fast_encoder(tokenizer, max_length)
        self._content = content or Hasher.hash(tokenizer)
        is_multi_hot = isinstance(label, List) and isinstance(label.feature, ClassLabel)
        self._num_flags = label.feature.num_classes if is_multi_hot else None
        if is_multi_hot:
            label = List(Value("float32"), length=self._num_flags)
        elif isinstance(label, ClassLabel):
            label = Value("int64")
        self._features = Features(
            input_ids=List(Value("int32")), labels=label, length=Value("int32"), row=Value("int32")
        )

    def __call__(self, rows: Dataset, description: str = "Tokenizing") -> Dataset:
        """Return the tokenized rows.

        Args:
            rows: Rows with the columns `text` and `label`.
            description: Label of the progress bar.

        Returns:
            Rows with the columns `input_ids` (list of int32), `labels`, `length` (int32, number of tokens) and `row`
            (int32, index of the row in `rows`). Labels have the type that the loss expects: int64 for one class per
            text; a list of float32, 0 or 1 for each class, for several classes; float32, or a list of float32, for a
            regression.
        """
        # `_fingerprint` is private, but the only digest of the rows
        return rows.map(
            self._encode_rows,
            input_columns=["text", "label"],
            with_indices=True,
            batched=True,
            remove_columns=rows.column_names,
            features=self._features,
            new_fingerprint=Hasher.hash([rows._fingerprint, self._content, self._max_length]),
            desc=description,
        )

    def _encode_rows(self, texts: list[str], labels: list[Any], rows: list[int]) -> pa.Table:
        tokens, lengths = self._encode(texts)
        if self._num_flags is not None:
            labels = list(multi_hot(labels, self._num_flags))
        offsets = pa.array(np.append(0, lengths.cumsum()), type=pa.int32())
        columns = [
            pa.ListArray.from_arrays(offsets, pa.array(tokens)),
            pa.array(labels, type=self._features.arrow_schema.field("labels").type),
            pa.array(lengths, type=pa.int32()),
            pa.array(rows, type=pa.int32()),
        ]
        return pa.Table.from_arrays(columns, names=list(self._features))


def multi_hot(labels: list[list[int]], num_classes: int) -> np.ndarray:
    """Return 1 for the classes of each text and 0 for the others, float32 of shape `(num_texts, num_classes)`.

    Example:
        >>> multi_hot([[2, 0], []], num_classes=3)
        array([[1., 0., 1.],
               [0., 0., 0.]], dtype=float32)
    """
    flags = np.zeros((len(labels), num_classes), dtype=np.float32)
    for row, classes in zip(flags, labels, strict=True):
        row[classes] = 1
    return flags
