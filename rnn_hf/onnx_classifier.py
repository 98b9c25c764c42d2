# Copyright 2026 The rnn_hf authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Classify texts with onnxruntime, without torch and transformers.

    python onnx/onnx_classifier.py "The keeper saved a penalty."

This file runs alone beside an exported model. It needs `pip install onnxruntime tokenizers`.
"""

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

# Files in `onnx/`; in the smaller one, word vectors and n-gram tables have 8 bits
GRAPH, QUANTIZED_GRAPH = "model.onnx", "model_quantized.onnx"

# Name of the entry in the metadata of a graph that `rnn-hf export-onnx` writes
METADATA = "rnn_hf"

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")

CHUNK_SIZE = 8192


class OnnxTextClassifier:
    """A classifier in a folder that `rnn-hf export-onnx` wrote: strings in; labels or probabilities out.

    Threads may share one, and a process may fork after use, but not while another thread computes: the locks of
    onnxruntime would stay closed in the new process.

    Args:
        folder: Folder of the model, with `tokenizer.json` and `onnx/`. Default: the one above this file.
        file_name: File in `onnx/`: `model.onnx`, or the smaller `model_quantized.onnx`.

    Attributes:
        label_names: Names of the classes or targets in the order of their ids.
        problem_type: Type of the problem: one class per text, several classes, or numbers.
        max_length: Maximum number of tokens in a text; longer texts are truncated. `None`: no limit.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the graph is not one that `rnn-hf export-onnx` wrote.
    """

    def __init__(self, folder: str | Path | None = None, file_name: str = GRAPH) -> None:
        self.folder = Path(__file__).absolute().parents[1] if folder is None else Path(folder).expanduser()
        self.file_name = file_name
        graph, tokenizer = self.folder / "onnx" / file_name, self.folder / "tokenizer.json"
        for path in (graph, tokenizer):
            if not path.is_file():
                raise FileNotFoundError(f"'{path}' does not exist. Run `rnn-hf export-onnx {self.folder}`.")
        import onnxruntime  # here, because the package shares the functions below

        options = onnxruntime.SessionOptions()
        # a batch is computed by one thread, and several batches at once; a forked process would miss further threads
        options.intra_op_num_threads = 1
        # the sizes of batches differ, and a pattern would be kept for each
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
            self.facts = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA])
            self._read_facts(**self.facts)
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
            sides = self.facts["truncation_side"], self.facts["split_special_tokens"]
            prepare_tokenizer(self._tokenizer, self.max_length, *sides)
        except Exception as error:  # onnxruntime has many of its own
            raise ValueError(
                f"'{graph}' is not a classifier that `rnn-hf export-onnx` wrote ({error!r:.200}). Export it again."
            ) from error

    def _read_facts(
        self,
        label_names: list[str],
        problem_type: str,
        has_integer_labels: bool,
        label_thresholds: list[float] | None,
        pad_token_id: int,
        max_length: int | None,
        **others: Any,
    ) -> None:
        (output,) = self._session.get_outputs()
        is_list = isinstance(label_names, list) and all(isinstance(name, str) for name in label_names)
        if output.name != "logits" or not is_list or output.shape[1:] != [len(label_names)]:
            raise ValueError("the labels are not those of the graph")
        if problem_type not in PROBLEM_TYPES:
            raise ValueError(f"unknown problem type {problem_type!r:.40}")
        if type(pad_token_id) is not int or pad_token_id < 0:
            raise ValueError(f"id of padding {pad_token_id!r:.40}")
        if max_length is not None and (type(max_length) is not int or not 1 <= max_length < 2**31):
            raise ValueError(f"maximum length {max_length!r:.40}")
        if label_thresholds is not None and (
            np.shape(label_thresholds) != (len(label_names),) or not np.isfinite(label_thresholds).all()
        ):
            raise ValueError("there is not one finite threshold for each label")
        self.label_names, self.problem_type, self.max_length = label_names, problem_type, max_length
        self._has_integer_labels, self._thresholds = has_integer_labels, label_thresholds
        self._pad_token_id = pad_token_id

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder.absolute(), self.file_name)

    @property
    def labels(self) -> list[Any]:
        """The classes in the order of their ids, as `predict` returns them: names or integers."""
        return [int(name) if self._has_integer_labels else name for name in self.label_names]

    def predict(self, texts: str | Iterable[str], batch_size: int = 64, threshold: float | None = None) -> Any:
        """Return the answer to each text, in order, or the answer to a single string.

        An answer is a label; a list of labels if a text may have several; for a regression, a float, or a list of
        floats if there are several targets.

        Args:
            texts: One string, or any iterable of strings; a generator is read in chunks.
            batch_size: Number of texts per batch.
            threshold: Minimum probability of each label, if a text may have several. Default: the thresholds chosen in
                training, or 0.5.
        """
        if isinstance(texts, str):
            return self.answers(self.predict_proba(texts)[None], threshold)[0]
        return [answer for chunk in self.iter_proba(texts, batch_size) for answer in self.answers(chunk, threshold)]

    def predict_proba(self, texts: str | Iterable[str], batch_size: int = 64) -> np.ndarray:
        """Return the probabilities of each text, in order; for a regression, the numbers themselves.

        The arguments are those of `predict`.

        Returns:
            float32 of shape `(num_texts, num_labels)`; `(num_labels,)` for a single string.
        """
        if isinstance(texts, str):
            return np.asarray(self.activate(self.run(*self.tokenize([texts])))[0])
        return np.concatenate([np.empty((0, len(self.label_names)), np.float32), *self.iter_proba(texts, batch_size)])

    def iter_proba(self, texts: Iterable[str], batch_size: int = 64) -> Iterator[np.ndarray]:
        """Yield the probabilities of a stream of texts, in order, without keeping the texts or the answers.

        Args:
            texts: Any iterable of strings. It is read in chunks, two of them in advance.
            batch_size: Number of texts per batch.

        Yields:
            Probabilities of the next chunk, float32 of shape `(num_texts, num_labels)`.

        Raises:
            TypeError: If a single string is given, or a text is not a string.
            ValueError: If `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")

        def start(chunk: list[str]) -> list[tuple[np.ndarray, Future[np.ndarray]]]:
            tokens, lengths = self.tokenize(chunk)
            pool, order = _threads(os.getpid()), np.argsort(-lengths, kind="stable")
            parts = np.split(order, range(batch_size, len(order), batch_size))
            return [(rows, pool.submit(self.run, *rows_of(rows, tokens, lengths))) for rows in parts]

        for logits in iter_chunks(texts, len(self.label_names), start):
            yield self.activate(logits)

    def answers(self, probabilities: np.ndarray, threshold: float | None = None) -> list[Any]:
        """Return the answers of `predict` for rows of `predict_proba` or `iter_proba`.

        Args:
            probabilities: Shape `(num_texts, num_labels)`.
            threshold: As in `predict`.
        """
        thresholds = threshold if threshold is not None else self._thresholds or 0.5
        return to_answers(probabilities, self.problem_type, self.labels, thresholds)

    def activate(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities, or the numbers of a regression, float32 in the shape of the logits."""
        if self.problem_type == "single_label_classification":
            powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
            logits = powers / powers.sum(axis=-1, keepdims=True)
        elif self.problem_type == "multi_label_classification":
            with np.errstate(over="ignore"):
                logits = 1 / (1 + np.exp(-logits))
        return logits

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the token ids of all texts in one array, and the number of tokens of each text."""
        return encode_flat(self._tokenizer, texts)

    def run(self, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the logits of a batch of at least one text.

        Args:
            tokens: Token ids of all texts, one text after the other. Shape `(num_tokens,)`.
            lengths: Number of tokens of each text. Shape `(batch_size,)`.

        Returns:
            float32 of shape `(batch_size, num_labels)`.
        """
        mask = np.arange(max(1, lengths.max())) < lengths[:, None]
        ids = np.full(mask.shape, self._pad_token_id, dtype=np.int64)
        ids[mask] = tokens
        inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        logits: np.ndarray = self._session.run(["logits"], inputs)[0]
        return logits


@cache
def _threads(process_id: int) -> ThreadPoolExecutor:
    """Return the threads of a process, one for each core that it may use; a forked process lacks its parent's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(cores, "rnn_hf")


def prepare_tokenizer(
    tokenizer: Tokenizer, max_length: int | None, truncation_side: str, split_special_tokens: bool
) -> None:
    """Let a tokenizer truncate but not pad.

    Args:
        tokenizer: The tokenizer.
        max_length: Number of tokens after which a text is truncated; `None` for no limit.
        truncation_side: `"right"` or `"left"`.
        split_special_tokens: Whether special tokens that are typed in a text are ordinary words.
    """
    tokenizer.encode_special_tokens = split_special_tokens
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max_length is not None:
        tokenizer.enable_truncation(max_length, direction=truncation_side)


def encode_flat(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the token ids of all texts in one array, and the number of tokens of each text.

    Args:
        tokenizer: The tokenizer.
        texts: The texts.

    Returns:
        int32 of shape `(num_tokens,)`; int64 of shape `(num_texts,)`.
    """
    try:
        encodings = tokenizer.encode_batch_fast(texts)
    except TypeError:
        encodings = tokenizer.encode_batch_fast(list(map(encodable, texts)))
    return flatten([encoding.ids for encoding in encodings])


def flatten(texts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the token ids of all texts in one array, and the number of tokens of each text.

    Example:
        >>> flatten([[5, 6], [], [7]])
        (array([5, 6, 7], dtype=int32), array([2, 0, 1]))
    """
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return np.fromiter(chain.from_iterable(texts), dtype=np.int32, count=int(lengths.sum())), lengths


def encodable(text: str) -> str:
    r"""Return a text with each lone surrogate, which UTF-8 cannot represent, replaced by a question mark.

    Example:
        >>> encodable("a\ud800b")
        'a?b'
    """
    return text.encode("utf-8", "replace").decode()


def check_column(values: Any, name: str) -> None:
    """Check that values are a sequence, with one value per text.

    Args:
        values: A list, an array, or a column of a data frame or a dataset.
        name: Name of the argument.

    Raises:
        TypeError: If they are a single string, a mapping, a set or a table, or not a sequence.
    """
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise TypeError(f"`{name}` must be a list, got {type(values).__name__}. Pass one value for each text.")
    if getattr(values, "ndim", 1) == 2 and not hasattr(values, "tolist"):
        raise TypeError(f"`{name}` must be one column, got a table. Select the column.")


def check_strings(texts: Iterable[Any], name: str = "texts", start: int = 0) -> None:
    """Check that texts are strings; `tokenizers` would take a pair of strings for one text.

    Args:
        texts: The texts.
        name: Name of the argument.
        start: Position of the first text.

    Raises:
        TypeError: If a text is not a string, such as a missing value.
    """
    for position, text in enumerate(texts, start):
        if not isinstance(text, str):
            raise TypeError(
                f"`{name}` must be strings, got {text!r:.80} at position {position}. Pass one for each text."
            )


def lists_of_strings(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield a stream of texts in lists that fit into memory.

    Raises:
        TypeError: If a single string is given, or a text is not a string.
    """
    if isinstance(texts, str):
        raise TypeError("`texts` must be an iterable of strings, got one string. Pass `[text]`.")
    check_column(texts, "texts")
    stream, position = iter(texts), 0
    while chunk := list(islice(stream, CHUNK_SIZE)):
        check_strings(chunk, start=position)
        yield chunk
        position += len(chunk)


def rows_of(rows: np.ndarray, tokens: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of some texts in one array, and their numbers.

    Args:
        rows: Indices of the texts.
        tokens: Token ids of all texts, one text after the other. Shape `(num_tokens,)`.
        lengths: Number of tokens of each text. Shape `(num_texts,)`.
    """
    ends = lengths.cumsum()
    places = zip((ends - lengths)[rows].tolist(), ends[rows].tolist(), strict=True)
    return np.concatenate([tokens[start:end] for start, end in places]), lengths[rows]


def iter_chunks(
    texts: Iterable[str], size: int, start: Callable[[list[str]], list[tuple[np.ndarray, Future[np.ndarray]]]]
) -> Iterator[np.ndarray]:
    """Yield the results for a stream of texts, in order and in chunks.

    Args:
        texts: Any iterable of strings. It is read in chunks, two of them in advance.
        size: Size of a result.
        start: Function that takes a chunk and starts to compute it; it returns rows of the chunk and their results,
            which may be followed by others. While it tokenizes a chunk, threads compute the one before.

    Yields:
        float32 of shape `(num_texts, size)`.
    """
    waiting: deque[tuple[np.ndarray, list[tuple[np.ndarray, Future[np.ndarray]]]]] = deque()
    try:
        for chunk in chain(lists_of_strings(texts), [None]):
            if chunk is not None:
                waiting.append((np.empty((len(chunk), size), dtype=np.float32), start(chunk)))
            while len(waiting) > (chunk is not None):
                results, futures = waiting[0]
                for rows, future in futures:
                    results[rows] = future.result()[: len(rows)]
                waiting.popleft()
                yield results
    finally:
        # results that nobody waits for any more
        for future in [future for _, futures in waiting for _, future in futures]:
            future.cancel()


def to_answers(
    probabilities: np.ndarray, problem_type: str, labels: list[Any], thresholds: float | list[float]
) -> list[Any]:
    """Return labels, lists of labels, or numbers for rows of probabilities.

    Args:
        probabilities: Shape `(num_texts, num_labels)`.
        problem_type: Type of the problem.
        labels: The labels in the order of their ids.
        thresholds: Minimum probability of each label, if a text may have several.
    """
    if problem_type == "regression":
        return list((probabilities[:, 0] if probabilities.shape[1] == 1 else probabilities).tolist())
    names = np.array(labels, dtype=object)
    if problem_type == "multi_label_classification":
        return [names[row].tolist() for row in probabilities >= np.asarray(thresholds)]
    return list(names[probabilities.argmax(axis=1)])


def main() -> None:
    """Print the label of each text on the command line, and its probability."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(f"usage: python {sys.argv[0]} TEXT ...", file=sys.stderr)
        sys.exit(2)
    try:
        classifier = OnnxTextClassifier()
    except (OSError, ValueError) as error:
        print(f"{sys.argv[0]}: error: {error}", file=sys.stderr)
        sys.exit(2)
    probabilities = classifier.predict_proba(sys.argv[1:])
    for answer, row in zip(classifier.answers(probabilities), probabilities, strict=True):
        scores = {name: round(score, 4) for name, score in zip(classifier.label_names, row.tolist(), strict=True)}
        print(json.dumps({"answer": answer, "probabilities": scores}))


if __name__ == "__main__":
    main()
