"""Facts to know about a dataset before training: rows, labels, texts, and likely mistakes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from rnn_hf.configuration_rnn import ProblemType

from .label_spellings import near_duplicates
from .labels import column_of, comma_list
from .tokenizing import fast_encoder

# Shares above which there is a warning
LARGEST_CLASS_SHARE = 0.95
ID_SHARE = 0.95
TRUNCATED_SHARE = 0.05
UNKNOWN_SHARE = 0.20
CONTRADICTORY_SHARE = 0.02

ROWS_AT_A_TIME = 1_000
# Number of texts at the token limit that are tokenized again without it, to count those that are longer
LONG_SAMPLE = 256

# A serial number, a hash, a UUID, or a key such as `row-17`: one word with a digit
_ID = re.compile(r"(?=\D*[0-9])[0-9A-Za-z_.:#-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """Facts about a dataset; `None` for a fact that a stream or a tokenizer does not have.

    Args:
        num_rows: Number of rows of each split; `None` for a stream.
        problem_type: Problem type of the labels.
        num_classes: Number of classes or targets.
        similar_names: Pairs of classes whose names differ only in spaces or in case.
        class_counts: Number of training rows of each class. `None` for a regression.
        labels_per_text: Mean number of classes of a training text, if it may have several.
        targets: Minimum, mean, maximum and standard deviation of the numbers in a regression, over all targets.
        num_duplicates: Number of training rows whose text occurs in an earlier row.
        num_contradictory: Number of distinct training texts that occur with different labels.
        num_distinct: Number of distinct training texts.
        num_empty: Number of rows of each split whose text is empty or whitespace.
        num_ids: Number of training texts that look like an identifier.
        num_in_training: Number of held-out rows of each split whose text is also a training text.
        max_length: Maximum number of tokens in a text; longer texts are truncated.
        num_truncated: Number of texts of all splits with more tokens.
        unknown_share: Share of unknown tokens in the held-out rows.
    """

    num_rows: dict[str, int | None]
    problem_type: ProblemType
    num_classes: int
    similar_names: list[list[str]] = field(default_factory=list)
    class_counts: dict[str, int] | None = None
    labels_per_text: float | None = None
    targets: dict[str, float] | None = None
    num_duplicates: int | None = None
    num_contradictory: int | None = None
    num_distinct: int | None = None
    num_empty: dict[str, int] = field(default_factory=dict)
    num_ids: int | None = None
    num_in_training: dict[str, int] = field(default_factory=dict)
    max_length: int | None = None
    num_truncated: int | None = None
    unknown_share: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as objects for JSON, with the warnings."""
        return asdict(self) | {"warnings": self.warnings()}

    def lines(self) -> list[str]:
        """Return the facts as at most five lines of text."""
        rows = ", ".join(
            f"{split} a stream" if number is None else f"{split} {number:,}" for split, number in self.num_rows.items()
        )
        lines = [f"Rows:     {rows}", f"Labels:   {self._labels()}"]
        texts = []
        if self.num_duplicates is not None:
            texts += [
                f"{self.num_duplicates:,} duplicates in training",
                f"{self.num_contradictory:,} with different labels",
            ]
        if self.max_length is not None:
            texts.append(f"{self.num_truncated:,} longer than {self.max_length:,} tokens (`max_length`)")
        held_out = [f"{number:,} of {split} also in training" for split, number in self.num_in_training.items()]
        if self.unknown_share is not None:
            held_out.append(f"{100 * self.unknown_share:.1f} % of the words unknown")
        for name, facts in (("Texts:", texts), ("Held out:", held_out)):
            if facts:
                lines.append(f"{name:10}{'; '.join(facts)}")
        return lines

    def _labels(self) -> str:
        if self.targets is not None:
            of_targets = f"{self.num_classes:,} targets, " if self.num_classes > 1 else ""
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.targets.items())
            return f"{of_targets}{numbers}"
        label = f"{self.num_classes:,} classes"
        if self.class_counts:
            rarest = min(self.class_counts, key=self.class_counts.__getitem__)
            number = self.class_counts[rarest]
            label += f", the rarest {rarest!r:.60} with {number:,} training row{'' if number == 1 else 's'}"
        if self.labels_per_text is not None:
            label += f", {self.labels_per_text:.2f} per text on average"
        return label

    def warnings(self) -> list[str]:
        """Return likely mistakes in the data, one line each, with a remedy."""
        return [*self._warnings_of_labels(), *self._warnings_of_texts(), *self._warnings_of_held_out()]

    def _warnings_of_labels(self) -> list[str]:
        lines, num_rows, counts = [], self.num_rows.get("train") or 0, self.class_counts or {}
        largest = max(counts, key=counts.__getitem__, default="")
        is_single = self.problem_type == "single_label_classification"
        if is_single and num_rows and counts and counts[largest] >= LARGEST_CLASS_SHARE * num_rows:
            share = 100 * counts[largest] / num_rows
            lines.append(
                f"{share:.1f} % of the training rows have the class {largest!r:.60}, so accuracy says little. Pass "
                "`class_weights=balanced`, or compare macro F1."
            )
        rare = [name for name, count in counts.items() if count < 2]
        if rare:
            noun, verb = ("class", "has") if len(rare) == 1 else ("classes", "have")
            lines.append(
                f"{len(rare):,} {noun} {verb} fewer than 2 training rows ({_few(rare)}). Add rows, or merge classes."
            )
        if self.similar_names:
            pairs = comma_list(f"{first!r:.40} and {second!r:.40}" for first, second in self.similar_names[:3])
            lines.append(f"Some classes are probably the same, spelled differently: {pairs}. Rename one of each pair.")
        if self.num_contradictory and self.num_distinct:
            share = self.num_contradictory / self.num_distinct
            if share > CONTRADICTORY_SHARE:
                lines.append(
                    f"{self.num_contradictory:,} training texts ({100 * share:.1f} %) occur with different labels, "
                    "which contradict each other. Choose one label for each text."
                )
        return lines

    def _warnings_of_texts(self) -> list[str]:
        lines, num_train = [], self.num_rows.get("train") or 0
        if self.num_ids is not None and num_train and self.num_ids >= ID_SHARE * num_train:
            lines.append(
                "The texts look like an id column: nearly all are single words with digits. Pass `text_column_names`."
            )
        empty = {split: number for split, number in self.num_empty.items() if number}
        if empty:
            numbers = ", ".join(f"{split} {number:,}" for split, number in empty.items())
            lines.append(f"Some texts are empty ({numbers} rows). Drop these rows, or pass other `text_column_names`.")
        num_rows = sum(number for number in self.num_rows.values() if number)
        if self.num_truncated and self.num_truncated > TRUNCATED_SHARE * num_rows:
            lines.append(
                f"{100 * self.num_truncated / num_rows:.1f} % of the texts are truncated after {self.max_length:,} "
                "tokens. Raise `max_length`."
            )
        return lines

    def _warnings_of_held_out(self) -> list[str]:
        lines = [
            f"{number:,} of the {self.num_rows[split]:,} {split} texts are also in the training rows, so the scores "
            "are too high. Drop them."
            for split, number in self.num_in_training.items()
            if number
        ]
        if self.unknown_share is not None and self.unknown_share > UNKNOWN_SHARE:
            lines.append(
                f"{100 * self.unknown_share:.1f} % of the words in the held-out rows are unknown. Check that their "
                "language and spelling are those of the training rows, or pass `tokenizer_type=bpe` or `word_vectors`."
            )
        return lines


def describe_data(
    splits: Mapping[str, Dataset],
    encoded: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int | None,
    label_names: Sequence[str],
    problem_type: ProblemType,
) -> DataSummary:
    r"""Return the facts about the rows of a run; 120,000 of them take about half a second.

    Texts are compared by 64-bit hashes, to keep none in memory.

    Args:
        splits: Splits with the columns `text` and `label`. Without `"train"`, the training rows are a stream.
        encoded: The same splits, as returned by `encode_dataset`.
        tokenizer: The tokenizer that encoded them.
        max_length: Number of tokens to which texts were truncated; `None` for no limit.
        label_names: Names of the classes or targets in the order of their ids.
        problem_type: Problem type of the labels.

    Example:
        >>> from datasets import ClassLabel, DatasetDict
        >>> from rnn_hf.data import train_tokenizer
        >>> from rnn_hf.data.encoding import encode_dataset
        >>> rows = Dataset.from_dict({"text": ["a dog", "a cat", "a dog"], "label": [0, 1, 0]})
        >>> splits = DatasetDict(train=rows.cast_column("label", ClassLabel(names=["dog", "cat"])))
        >>> tokenizer = train_tokenizer(rows["text"])
        >>> summary = describe_data(
        ...     splits, encode_dataset(splits, tokenizer, None), tokenizer,
        ...     max_length=None, label_names=["dog", "cat"], problem_type="single_label_classification",
        ... )
        >>> print("\n".join(summary.lines()))
        Rows:     train 3
        Labels:   2 classes, the rarest 'cat' with 1 training row
        Texts:    1 duplicates in training; 0 with different labels
    """
    found = {split: _hashed_texts(rows) for split, rows in splits.items()}
    facts: dict[str, Any] = {}
    if "train" in splits:
        train, (hashes, is_empty, num_ids) = encoded["train"], found["train"]
        distinct, group = np.unique(hashes[~is_empty], return_inverse=True)
        labels = _label_hashes(train)[~is_empty]
        facts = _label_facts(train, label_names, problem_type) | {
            "num_distinct": len(distinct),
            "num_duplicates": len(group) - len(distinct),
            "num_contradictory": _num_mixed_groups(group, labels, len(distinct)),
            "num_ids": num_ids,
            "num_in_training": {
                split: int(np.isin(each.hashes[~each.is_empty], distinct).sum())
                for split, each in found.items()
                if split != "train"
            },
        }
    num_rows: dict[str, int | None] = {} if "train" in splits else {"train": None}
    num_rows |= {split: len(rows) for split, rows in splits.items()}
    return DataSummary(
        num_rows=num_rows,
        problem_type=problem_type,
        num_classes=len(label_names),
        similar_names=near_duplicates(label_names) if problem_type != "regression" else [],
        num_empty={split: int(each.is_empty.sum()) for split, each in found.items()},
        max_length=max_length,
        num_truncated=None if max_length is None else _num_truncated(splits, encoded, tokenizer, max_length),
        unknown_share=_unknown_share(
            [encoded[split] for split in splits if split != "train"], getattr(tokenizer, "unk_token_id", None)
        ),
        **facts,
    )


class _Texts(NamedTuple):
    """Of the texts of a split: a number that equal texts share, whether they are empty, how many look like ids."""

    hashes: np.ndarray
    is_empty: np.ndarray
    num_ids: int


def _hashed_texts(rows: Dataset) -> _Texts:
    hashes, is_empty = np.empty(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool)
    start, num_ids = 0, 0
    for batch in rows.select_columns("text").with_format("arrow").iter(ROWS_AT_A_TIME):
        texts = batch["text"].to_pylist()
        end = start + len(texts)
        hashes[start:end] = np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))
        is_empty[start:end] = [not text or text.isspace() for text in texts]
        num_ids += sum(_ID.fullmatch(text) is not None for text in texts if len(text) <= 64)
        start = end
    return _Texts(hashes, is_empty, num_ids)


def _label_chunks(encoded: Dataset) -> Iterator[np.ndarray]:
    """Yield the encoded labels; with one label per text, as a table of one column."""
    for chunk in column_of(encoded, "labels").chunks:
        is_table = pa.types.is_fixed_size_list(chunk.type)
        yield (chunk.flatten() if is_table else chunk).to_numpy().reshape(len(chunk), -1)


def _label_hashes(encoded: Dataset) -> np.ndarray:
    """Return a number for each row that rows with equal labels share."""
    generator, hashes = np.random.default_rng(0), [np.empty(0, dtype=np.int64)]
    factors = None
    for labels in _label_chunks(encoded):
        bits = np.ascontiguousarray(labels + 0).view(np.int64 if labels.itemsize == 8 else np.int32)
        if factors is None:
            factors = generator.integers(1, 2**62, bits.shape[1])
        hashes.append(bits.astype(np.int64) @ factors)
    return np.concatenate(hashes)


def _num_mixed_groups(group: np.ndarray, values: np.ndarray, num_groups: int) -> int:
    """Return the number of groups with more than one value."""
    of_group = np.empty(num_groups, dtype=np.int64)
    of_group[group] = values  # any of the values
    return len(np.unique(group[of_group[group] != values]))


def _label_facts(encoded: Dataset, label_names: Sequence[str], problem_type: ProblemType) -> dict[str, Any]:
    if problem_type == "regression":
        numbers = np.concatenate([labels.ravel() for labels in _label_chunks(encoded)]).astype(np.float64)
        least, mean, largest, spread = numbers.min(), numbers.mean(), numbers.max(), numbers.std()
        targets = {"minimum": least, "mean": mean, "maximum": largest, "standard deviation": spread}
        return {"targets": {name: float(value) for name, value in targets.items()}}
    counts = np.zeros(len(label_names), dtype=np.int64)
    is_single = problem_type == "single_label_classification"
    for labels in _label_chunks(encoded):
        counts += np.bincount(labels[:, 0], minlength=len(counts)) if is_single else labels.sum(0, dtype=np.int64)
    return {
        "class_counts": dict(zip(label_names, counts.tolist(), strict=True)),
        "labels_per_text": None if is_single else float(counts.sum() / max(len(encoded), 1)),
    }


def _num_truncated(
    splits: Mapping[str, Dataset],
    encoded: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> int:
    """Return the number of texts that exceed the limit; an estimate if more than 256 of a split reach it."""
    encode, _ = fast_encoder(tokenizer, max_length + 1)
    number = 0
    for split, rows in splits.items():
        reach = np.flatnonzero(column_of(encoded[split], "length").to_numpy() >= max_length)
        if len(reach):
            sample = reach[np.linspace(0, len(reach) - 1, min(len(reach), LONG_SAMPLE)).astype(np.int64)]
            _, lengths = encode(rows.select(sample)["text"][:])
            number += round(len(reach) * float(np.mean(lengths > max_length)))
    return number


def _unknown_share(splits: Sequence[Dataset], unk_token_id: int | None) -> float | None:
    """Return the share of unknown tokens, or `None` without tokens or without an unknown token."""
    num_tokens, num_unknown = 0, 0
    for rows in splits if unk_token_id is not None else ():
        for chunk in column_of(rows, "input_ids").chunks:
            tokens = chunk.flatten().to_numpy()
            num_tokens, num_unknown = num_tokens + len(tokens), num_unknown + int((tokens == unk_token_id).sum())
    return num_unknown / num_tokens if num_tokens else None


def _few(names: Sequence[str]) -> str:
    """Return a few shortened names for one line."""
    shown = [f"{name!r:.40}" for name in names[:5]]
    return comma_list(shown) + (", ..." if len(names) > 5 else "")
