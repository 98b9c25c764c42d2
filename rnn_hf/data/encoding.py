"""From texts to rows of tokens, in Arrow files that are memory mapped."""

from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, DatasetDict, Features, List, Value
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase

from .memory import MappedPages
from .tokens import fast_encoder


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
        Splits with the columns `input_ids` (list of int32), `labels`, `length` (int32, number of tokens) and `row`
        (int32, index of the row in its split). Labels are what the loss asks for: int64 for one class a text, a list
        of float32, 0 or 1 for each class, for several, and float32, or a list of them, for a regression.

    Raises:
        ValueError: If `max_length` is below 1.
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"`max_length` must be at least 1, got {max_length}.")
    encode, content = fast_encoder(tokenizer, max_length)
    content = content or Hasher.hash(tokenizer)

    # every split has the features of the first
    feature = next(iter(dataset.values())).features["label"] if dataset else Value("int64")
    is_multi_hot = isinstance(feature, List) and isinstance(feature.feature, ClassLabel)
    label = Value("int64") if isinstance(feature, ClassLabel) else feature
    if is_multi_hot:
        label = List(Value("float32"), length=feature.feature.num_classes)
    features = Features(input_ids=List(Value("int32")), labels=label, length=Value("int32"), row=Value("int32"))

    def label_array(labels: list[Any]) -> pa.Array:
        if is_multi_hot:
            labels = list(multi_hot(labels, feature.feature.num_classes))
        return pa.array(labels, type=features.arrow_schema.field("labels").type)

    def encode_rows(texts: list[str], labels: list[Any], rows: list[int], pages: MappedPages) -> pa.Table:
        tokens, lengths = encode(texts)
        pages.release()
        offsets = pa.array(np.append(0, lengths.cumsum()), type=pa.int32())
        columns = [
            pa.ListArray.from_arrays(offsets, pa.array(tokens)),
            label_array(labels),
            pa.array(lengths, type=pa.int32()),
            pa.array(rows, type=pa.int32()),
        ]
        return pa.Table.from_arrays(columns, names=list(features))

    return DatasetDict(
        {
            split: rows.map(
                encode_rows,
                input_columns=["text", "label"],
                with_indices=True,
                fn_kwargs={"pages": MappedPages(rows)},
                batched=True,
                remove_columns=rows.column_names,
                features=features,
                new_fingerprint=Hasher.hash([rows._fingerprint, content, max_length]),
                desc=f"Tokenizing {split}",
            )
            for split, rows in dataset.items()
        }
    )


def multi_hot(labels: list[list[int]], num_classes: int) -> np.ndarray:
    """Return 1 for the classes of each text and 0 for the others. Shape `(num_texts, num_classes)`, float32.

    Example:
        >>> multi_hot([[2, 0], []], num_classes=3)
        array([[1., 0., 1.],
               [0., 0., 0.]], dtype=float32)
    """
    flags = np.zeros((len(labels), num_classes), dtype=np.float32)
    for row, classes in zip(flags, labels, strict=True):
        row[classes] = 1
    return flags
