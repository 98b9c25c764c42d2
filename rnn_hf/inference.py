"""Inference on any number of texts: batches of similar length, one per thread on a CPU."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .configuration_rnn import ProblemType, RNNConfig
from .data.tokenizing import pad, training_length
from .modeling_rnn import RNNForSequenceClassification
from .onnx_classifier import iter_chunks, lists_of_strings, rows_of
from .progress import progress_bar
from .threads import standing_workers

UNITS_IN_A_BATCH = 4
SECONDS_BEFORE_PROGRESS = 2

# Up to this number, texts spend most of their time in Python, which runs one thread at a time
TEXTS_FOR_ONE_WORKER = 8

# The results for some texts
Results = TypeVar("Results", bound=Sized)

# From logits to the result of `TextClassifier.predict_proba`
ACTIVATIONS: dict[ProblemType, Callable[[Tensor], Tensor]] = {
    "single_label_classification": partial(torch.softmax, dim=-1),
    "multi_label_classification": torch.sigmoid,
    "regression": torch.Tensor.clone,
}

# From ids and their mask to one result per text, of shape (batch, size)
BatchFunction = Callable[..., Any]

# From texts to all their tokens in one array, and the number of tokens of each
Encoder = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]


class BatchedInference:
    """Runs a model on texts in batches of similar length.

    Args:
        model: The model.
        encode: Its tokenizer, as returned by `fast_encoder`.
        pad_token_id: Id of padding, which the mask excludes.
    """

    def __init__(self, model: RNNForSequenceClassification, encode: Encoder, pad_token_id: int) -> None:
        self.model, self.encode, self.pad_token_id = model, encode, pad_token_id

    def rows(
        self, compute: BatchFunction, size: int, texts: str | Iterable[str], batch_size: int, show_progress: bool
    ) -> np.ndarray:
        """Return the result for a single string, or the results for all texts as one array.

        Args:
            compute: Function that computes the results of a batch.
            size: Size of a result.
            texts: One string, or any iterable of strings; a generator is read in chunks.
            batch_size: Number of texts per batch.
            show_progress: Whether to show a progress bar after two seconds.

        Returns:
            float32 of shape `(num_texts, size)`; `(size,)` for a single string.
        """
        if isinstance(texts, str):
            tokens, lengths = self.encode([texts])
            return np.asarray(self._run_alone(compute, tokens, lengths)[0])
        chunks = with_progress(self.chunks(compute, size, texts, batch_size), texts, show_progress)
        return np.concatenate([np.empty((0, size), dtype=np.float32), *chunks])

    def chunks(self, compute: BatchFunction, size: int, texts: Iterable[str], batch_size: int) -> Iterator[np.ndarray]:
        """Yield the results for a stream of texts, in order and in chunks; the arguments are those of `rows`.

        Yields:
            float32 of shape `(num_texts, size)`.

        Raises:
            TypeError: If a single string is given, or a text is not a string.
            ValueError: If `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        if self._is_on_cpu:

            def start(chunk: list[str]) -> list[tuple[np.ndarray, Future[np.ndarray]]]:
                tasks, pool = self._tasks(chunk, batch_size), workers(len(chunk), batch_size)
                return [(rows, pool.submit(self._run, compute, *arrays)) for rows, *arrays in tasks]

            yield from iter_chunks(texts, size, start)
            return
        for chunk in lists_of_strings(texts):
            answers = np.empty((len(chunk), size), dtype=np.float32)
            for rows, *arrays in self._tasks(chunk, batch_size):
                answers[rows] = self._run(compute, *arrays)[: len(rows)]
            yield answers

    @property
    def _is_on_cpu(self) -> bool:
        # `model.device` would list all weights
        return bool(self.model.model.embed_tokens.weight.device.type == "cpu")

    def _tasks(self, texts: list[str], batch_size: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return batches of texts of similar length, as rows, tokens and lengths.

        oneDNN compiles code for every new shape, which takes about a fifth of the time of a batch, and caches it. To
        keep the number of shapes small, batches have few sizes: some texts are computed twice, and the surplus results
        are dropped.
        """
        tokens, lengths = self.encode(texts)
        order = np.argsort(-lengths, kind="stable")
        unit = max(1, batch_size // UNITS_IN_A_BATCH)
        tasks = []
        for rows in batches_of_similar_length(order, lengths, batch_size):
            filled = np.resize(rows, -(-len(rows) // unit) * unit) if len(rows) > unit / 2 else rows
            tasks.append((rows, *rows_of(filled, tokens, lengths)))
        return tasks

    def _run_alone(self, compute: BatchFunction, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the result for one text."""
        if self._is_on_cpu:
            return workers(1).submit(self._run, compute, tokens, lengths).result()
        return self._run(compute, tokens, lengths)

    @torch.inference_mode()
    def _run(self, compute: BatchFunction, tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the results for one batch."""
        device, attention_mask = self.model.model.embed_tokens.weight.device, None
        longest = int(lengths.max())
        if longest > 0 and longest == lengths.min():
            input_ids = torch.from_numpy(tokens.reshape(len(lengths), longest)).to(device)
        else:
            input_ids, attention_mask = (tensor.to(device) for tensor in pad(tokens, lengths, self.pad_token_id))
        answers: np.ndarray = compute(input_ids, attention_mask).float().cpu().numpy()
        return answers


def with_progress(chunks: Iterator[Results], texts: Iterable[str], show_progress: bool) -> Iterator[Results]:
    """Yield chunks of results, and show a progress bar over their texts after two seconds."""
    total = len(texts) if isinstance(texts, Sequence) else None
    hidden = {} if show_progress else {"disable": True}
    with progress_bar(total=total, unit="text", delay=SECONDS_BEFORE_PROGRESS, **hidden) as bar:
        for chunk in chunks:
            bar.update(len(chunk))
            yield chunk


def batches_of_similar_length(order: np.ndarray, lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield texts in batches, most of which have no padding.

    Texts of one length form batches of their own, in whole quarters of `batch_size`. A remainder of less than half a
    quarter is batched with other lengths; a larger one counts as a quarter.

    Args:
        order: The texts sorted by length. Shape `(num_texts,)`.
        lengths: Number of tokens of each text. Shape `(num_texts,)`.
        batch_size: Maximum number of texts in a batch.

    Example:
        >>> lengths = np.array([5, 5, 5, 5, 5, 3, 2, 1])
        >>> [batch.tolist() for batch in batches_of_similar_length(np.arange(8), lengths, batch_size=16)]
        [[0, 1, 2, 3], [4, 5, 6, 7]]
    """
    unit = max(1, batch_size // UNITS_IN_A_BATCH)
    others = [order[:0]]
    for texts in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        rest = len(texts) % unit
        num_alone = len(texts) - (rest if rest < unit / 2 else 0)
        for start in range(0, num_alone, batch_size):
            yield texts[start : min(start + batch_size, num_alone)]
        others.append(texts[num_alone:])
    mixed = np.concatenate(others)
    for start in range(0, len(mixed), unit):
        yield mixed[start : start + unit]


def check_belong_together(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a model can classify texts with this tokenizer.

    Raises:
        TypeError: If the model is not a classifier of this package, or has PEFT adapters.
        ValueError: If the tokenizer has more tokens than the model.
    """
    has_adapters = hasattr(model, "merge_and_unload")
    if has_adapters or not hasattr(model, "classify"):
        remedy = "what its `merge_and_unload()` returns" if has_adapters else "a classifier"
        raise TypeError(
            f"`model` must be an `RNNForSequenceClassification`, got `{type(model).__name__}`. Pass {remedy}."
        )
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens but `config.vocab_size` is {model.config.vocab_size}. "
            "Load the tokenizer that was saved with the model."
        )


def fingerprint(model: RNNForSequenceClassification, tokenizer: str | None) -> str:
    """Return a hash of everything that determines the results of a classifier.

    Args:
        model: The model.
        tokenizer: Identifier of its tokenizer, as returned by `fast_encoder`.
    """
    content = blake2b(f"{model.config.to_json_string()} {tokenizer}".encode(), digest_size=16)
    for name, weight in model.state_dict().items():
        content.update(name.encode())
        content.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()


def export_facts(config: RNNConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what `OnnxTextClassifier` needs beside the graph and `tokenizer.json`, as in the metadata of the graph.

    Args:
        config: Configuration of the model.
        tokenizer: Its tokenizer.
    """
    return {
        "label_names": [str(name) for _, name in sorted((config.id2label or {}).items())],
        "problem_type": config.resolved_problem_type,
        "has_integer_labels": config.has_integer_labels,
        "label_thresholds": config.label_thresholds,
        "pad_token_id": config.pad_token_id or 0,
        "max_length": training_length(tokenizer),
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": tokenizer.split_special_tokens,
    }


def workers(num_texts: int, batch_size: int = 1) -> ThreadPoolExecutor:
    """Return a pool of as many threads as torch uses in the calling thread; each computes on one thread.

    All callers share the pools. A few texts do not wait for many.

    Args:
        num_texts: Number of texts, as far as it is known.
        batch_size: Number of texts per batch.
    """
    if num_texts <= TEXTS_FOR_ONE_WORKER:
        return standing_workers(1, "a few texts")
    return standing_workers(torch.get_num_threads(), "a batch" if num_texts <= batch_size else "batches")
