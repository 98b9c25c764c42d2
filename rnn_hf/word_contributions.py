"""The contribution of each word of a text to the score of a label: leave-one-out and integrated gradients."""

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain, pairwise
from threading import Lock
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from .data.tokenizing import prepared_backend
from .data.writing_systems import UNSEGMENTED_SCRIPTS
from .explanations import Explanation, ExplanationMethod, ExplanationUnit
from .inference import with_progress, workers
from .modeling_rnn import RNNForSequenceClassification
from .ngrams_rnn import NGramBranch
from .onnx_classifier import encodable, lists_of_strings
from .text_classifier import TextClassifier

# Integrated gradients: the intervals that the path is divided into at first, and the share of the change of the logit
# that the errors of all intervals together may have
NUM_INTERVALS, TOLERANCE = 8, 0.01

_UNITS: dict[ExplanationMethod, ExplanationUnit] = {"leave_one_out": "probability", "integrated_gradients": "logit"}
_WORD = re.compile(r"\S+")
_UNSEGMENTED = re.compile(f"[{''.join(UNSEGMENTED_SCRIPTS.values())}]")


class _Words(NamedTuple):
    """The words of a text, and the word of each token.

    Args:
        offsets: Start and end of each word, in characters.
        token_ids: Ids of the tokens that the model reads.
        owners: Index of the word of each token, -1 for tokens that the tokenizer adds. Shape `(num_tokens,)`.
    """

    offsets: list[tuple[int, int]]
    token_ids: list[int]
    owners: np.ndarray

    def read(self) -> list[int]:
        """Return the indices of the words that have a token."""
        return sorted({int(owner) for owner in self.owners if owner >= 0})


def explain(
    classifier: TextClassifier,
    texts: str | Iterable[str],
    label: Any,
    method: ExplanationMethod,
    num_steps: int,
    batch_size: int,
    show_progress: bool,
) -> Explanation | list[Explanation]:
    """Return the result of `TextClassifier.explain`, whose arguments these are."""
    if method not in get_args(ExplanationMethod):
        raise ValueError(f"`method` must be one of {', '.join(get_args(ExplanationMethod))}, got {method!r:.40}.")
    if num_steps < 3:
        raise ValueError(f"`num_steps` must be at least 3, got {num_steps}.")
    index = _index_of(classifier, label)

    def explained(chunk: list[str]) -> Iterator[Explanation]:
        all_words = _words_of(classifier, chunk)
        if method == "leave_one_out":
            scored = _leave_one_out(classifier, chunk, all_words, index, batch_size)
        else:
            scored = _integrated_gradients(classifier, all_words, index, num_steps)
        is_regression = classifier.problem_type == "regression"
        for text, words, (chosen, score, baseline, contributions) in zip(chunk, all_words, scored, strict=True):
            yield Explanation(
                text=text,
                label=(classifier.label_names if is_regression else classifier.labels)[chosen],
                method=method,
                unit="target" if is_regression else _UNITS[method],
                score=score,
                baseline=baseline,
                offsets=words.offsets,
                contributions=contributions,
            )

    if isinstance(texts, str):
        return next(explained([texts]))
    one_by_one = ([explanation] for chunk in lists_of_strings(texts) for explanation in explained(chunk))
    return [explanation for (explanation,) in with_progress(one_by_one, texts, show_progress)]


# The index of the label, its score, the baseline, and the contribution of each word
_Scored = tuple[int, float, float | None, list[float]]


def _index_of(classifier: TextClassifier, label: Any) -> int | None:
    """Return the index of a label; `None` for that of each text's answer."""
    names = classifier.label_names
    if label is None and (classifier.problem_type != "regression" or len(names) == 1):
        return None
    for known in (classifier.labels, names):
        if label in known:
            return known.index(label)
    shown = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
    raise ValueError(f"`label` must be one of {shown}, got {label!r:.40}. Pass one of them.")


def _words_of(classifier: TextClassifier, texts: list[str]) -> list[_Words]:
    """Return the words of each text, whose tokens are those that the classifier reads."""
    encodings = classifier.offset_tokenizer.encode_batch(list(map(encodable, texts)))
    return [_words_in(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]


def _words_in(text: str, encoding: Encoding) -> _Words:
    # in scripts without spaces between words, tokens are words
    cuts = {start for start, _ in encoding.offsets if _UNSEGMENTED.match(text, start)}
    offsets: list[tuple[int, int]] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        offsets += pairwise([start, *sorted(cut for cut in cuts if start < cut < end), end])
    # a token may start with the space before its word
    places = [max(start, end - 1) for start, end in encoding.offsets]
    owners = np.searchsorted([start for start, _ in offsets], places, side="right") - 1
    owners[np.array(encoding.special_tokens_mask, dtype=bool)] = -1
    return _Words(offsets, encoding.ids, owners)


def _leave_one_out(
    classifier: TextClassifier, texts: list[str], all_words: list[_Words], index: int | None, batch_size: int
) -> Iterator[_Scored]:
    """Yield the change of the score without each word. Words that the model does not read are not tried."""
    if not classifier.config.pack_padded_sequences:
        batch_size = 1  # padding would change the answers

    @cache
    def tokenizer() -> Tokenizer:
        backend = prepared_backend(classifier.tokenizer, None)
        assert backend is not None  # or `offset_tokenizer` would have refused it
        return backend

    def variants() -> Iterator[str]:
        for text, words in zip(texts, all_words, strict=True):
            text = _as_far_as_read(classifier, text, words, tokenizer)
            yield text
            for start, end in (words.offsets[word] for word in words.read()):
                yield text[:start] + text[end:]

    rows = chain.from_iterable(classifier.iter_proba(variants(), batch_size))
    for words in all_words:
        scores = next(rows)
        chosen = int(scores.argmax()) if index is None else index
        contributions = [0.0] * len(words.offsets)
        for word in words.read():
            contributions[word] = float(scores[chosen] - next(rows)[chosen])
        yield chosen, float(scores[chosen]), None, contributions


def _as_far_as_read(classifier: TextClassifier, text: str, words: _Words, tokenizer: Callable[[], Tokenizer]) -> str:
    """Return the start of a text, in which the model reads the same without any one of its words.

    Args:
        classifier: The classifier.
        text: The text.
        words: Its words.
        tokenizer: Returns the tokenizer, which does not truncate here.
    """
    is_cut = classifier.max_length is not None and len(words.token_ids) >= classifier.max_length
    if not is_cut or classifier.tokenizer.truncation_side != "right":
        return text
    # without a word, as many tokens after the last one are read
    owners = words.owners[words.owners >= 0]
    num_tokens = len(words.token_ids) + (int(np.bincount(owners).max()) if owners.size else 0)
    spans = tokenizer().encode(encodable(text)).offsets
    if num_tokens >= len(spans):
        return text
    end = max(end for _, end in spans[:num_tokens])
    return text[: next((start for start, _ in words.offsets if start >= end), None)]


def _integrated_gradients(
    classifier: TextClassifier, all_words: list[_Words], index: int | None, num_steps: int
) -> Iterator[_Scored]:
    """Yield the integrated gradients of the network and the exact contributions of the n-gram branch."""
    model = classifier.model

    def explained(words: _Words) -> _Scored:
        # each text is a batch of its own, so that it gets the same numbers with any other texts
        chosen, score, baseline, of_tokens = _integrate(model, words.token_ids, index, num_steps)
        contributions = np.bincount(words.owners + 1, of_tokens, minlength=len(words.offsets) + 1).tolist()
        # what the tokenizer adds to every text is no word
        return chosen, score, baseline + contributions[0], contributions[1:]

    yield from (workers(len(all_words)).map if model.device.type == "cpu" else map)(explained, all_words)


@torch.inference_mode(False)
@torch.no_grad()
def _integrate(
    model: RNNForSequenceClassification, token_ids: list[int], index: int | None, num_steps: int
) -> tuple[int, float, float, np.ndarray]:
    """Return the integrated gradients of one text.

    Args:
        model: The model.
        token_ids: Ids of its tokens.
        index: Index of the label; `None` for the one with the largest logit.
        num_steps: Maximum number of gradients.

    Returns:
        The index of the label, its logit, that of zero vectors without n-grams, and the contributions of the tokens,
        of shape `(num_tokens,)`.
    """
    embed = model.model.embed_tokens
    input_ids = torch.tensor([token_ids], dtype=torch.long, device=embed.weight.device)
    vectors = embed(input_ids)
    network = copy.copy(model)
    network._modules = {**model._modules, "ngrams": None}  # the branch reads ids
    first, last = network.classify(inputs_embeds=torch.cat([torch.zeros_like(vectors), vectors]))[0][0].float()
    if model.ngrams is not None:
        first, last = first + model.ngrams.bias, last + model.ngrams(input_ids, None)[0]
    label = int(last.argmax()) if index is None else index

    def gradients(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scales = torch.tensor(positions, dtype=vectors.dtype, device=vectors.device)
        path = (scales.view(-1, 1, 1) * vectors).requires_grad_()
        with torch.enable_grad(), _differentiable(path.device):
            logits = network.classify(inputs_embeds=path)[0][0][:, label].float()
            (by_vectors,) = torch.autograd.grad(logits.sum(), path)
        slopes = (by_vectors * vectors).sum(dim=-1)
        return logits.detach().cpu().double().numpy(), slopes.cpu().double().numpy()

    of_tokens = np.zeros(len(token_ids))
    if token_ids:
        of_tokens += _adaptive_simpson(gradients, TOLERANCE * abs(float(last[label] - first[label])), num_steps)
    if model.ngrams is not None:
        of_tokens += _ngram_contributions(model.ngrams, input_ids, label)
    return label, float(last[label]), float(first[label]), of_tokens


def _adaptive_simpson(
    derivative: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], tolerance: float, max_points: int
) -> np.ndarray:
    """Return the integral of the partial derivatives of a function along a path, by adaptive Simpson quadrature.

    A recurrent network saturates: its logit changes within a small part of the path, at a place that depends on the
    text. The sum of the partial derivatives has a known integral, the change of the function, so the error of each
    interval is known, and the intervals with large errors are divided (Kuncir, 1962, estimates the error).

    Args:
        derivative: Function that takes positions between 0 and 1, of shape `(num_points,)`, and returns its values, of
            the same shape, and its partial derivatives, of shape `(num_points, size)`.
        tolerance: Maximum of the summed absolute errors of the intervals.
        max_points: Maximum number of points.

    Returns:
        Integrals of shape `(size,)`.
    """
    num_intervals = min(NUM_INTERVALS, (max_points - 1) // 2)
    points = np.linspace(0, 1, 2 * num_intervals + 1)
    # the start, the middle and the end of each interval
    places, values, slopes = (
        np.stack([array[:-1:2], array[1::2], array[2::2]], axis=1) for array in (points, *derivative(points))
    )
    num_points = len(points)
    while True:
        widths = places[:, 2] - places[:, 0]
        integrals = np.einsum("i,ijk,j->ik", widths, slopes, [1 / 6, 4 / 6, 1 / 6])
        errors = np.abs(integrals.sum(axis=1) - (values[:, 2] - values[:, 0]))
        worst = np.argsort(-errors, kind="stable")[: (max_points - num_points) // 2]
        worst = worst[errors[worst] > tolerance / len(errors)]
        if errors.sum() <= tolerance or not worst.size:
            return np.asarray(integrals.sum(axis=0))
        middles = (places[worst, :2] + places[worst, 1:]) / 2
        new = (middles, *(array.reshape(-1, 2, *array.shape[1:]) for array in derivative(middles.flatten())))
        places, values, slopes = (
            _halved(nodes, worst, of_middles) for nodes, of_middles in zip((places, values, slopes), new, strict=True)
        )
        num_points += middles.size


def _halved(nodes: np.ndarray, intervals: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Return the nodes of all intervals, some of which are divided in two.

    Args:
        nodes: What is known at the start, the middle and the end of each interval. Shape `(num_intervals, 3, ...)`.
        intervals: Indices of the intervals to divide. Shape `(num_divided,)`.
        middles: What is known in the middle of their halves. Shape `(num_divided, 2, ...)`.
    """
    halves = np.stack([nodes[intervals, :2], middles, nodes[intervals, 1:]], axis=2)
    return np.concatenate([np.delete(nodes, intervals, axis=0), halves.reshape(-1, *nodes.shape[1:])])


def _ngram_contributions(branch: NGramBranch, input_ids: Tensor, label: int) -> np.ndarray:
    """Return the exact contribution of each token of a text to a logit of the n-gram branch.

    The logit is a sum over n-grams, and the summand of an n-gram is divided equally among its tokens.

    Args:
        branch: The branch.
        input_ids: Ids of the tokens. Shape `(1, num_tokens)`.
        label: Index of the logit.

    Returns:
        Contributions of shape `(num_tokens,)`.
    """
    buckets, weights, scale = branch.weighted_buckets(input_ids)
    summands = (branch.table.weight[buckets, label].double() * weights * scale)[0].cpu().numpy()
    of_tokens = np.zeros(input_ids.shape[1])
    for n in range(1, branch.order + 1):
        num_ngrams = max(0, len(of_tokens) - n + 1)
        of_order, summands = summands[:num_ngrams], summands[num_ngrams:]
        for position in range(n):
            of_tokens[position : position + num_ngrams] += of_order / n
    return of_tokens


_cudnn = Lock()


@contextmanager
def _differentiable(device: torch.device) -> Iterator[None]:
    """Let recurrent layers be differentiated inside the block: those of cuDNN are so in training mode only."""
    if device.type != "cuda":
        yield
        return
    with _cudnn, torch.backends.cudnn.flags(enabled=False):
        yield
