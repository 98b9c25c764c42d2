"""What a model computes on many texts: the words that drive its units, its gradients, and nearest neighbours."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_hf.data.tokenizing import fast_encoder, pad
from rnn_hf.onnx_classifier import rows_of
from rnn_hf.progress import progress_bar
from rnn_hf.text_classifier import TextClassifier

from .readings import gradients_by_distance

BATCH_SIZE = 64

# A word that occurs less often says little about a unit
MIN_OCCURRENCES = 5
NUM_DRIVING_WORDS = 5

# Words and texts over which gradients are measured
MOST_WORDS, NUM_LONG_TEXTS = 40, 100

NUM_NEIGHBOURS = 5


def words_that_drive_units(classifier: TextClassifier, texts: Sequence[str]) -> list[dict[str, list[list[Any]]]]:
    """Return the words after which each unit of the top layer is highest and lowest, on average over the texts.

    Args:
        classifier: The classifier.
        texts: The texts.

    Returns:
        For each unit, `highest` and `lowest`: words with their mean states, the most extreme one first.
    """
    model = classifier.model
    sums = np.zeros((model.config.vocab_size, model.config.output_size))
    counts = np.zeros(model.config.vocab_size, dtype=np.int64)
    for ids, mask in _batches(classifier, texts, "Units"):
        with torch.inference_mode():
            states = model.model.encode(ids, mask)[0][-1]
        ids_of_words = ids[mask].numpy()
        np.add.at(sums, ids_of_words, states[mask].numpy())
        np.add.at(counts, ids_of_words, 1)
    counts[[classifier.pad_token_id, model.config.unk_token_id or 0]] = 0
    frequent = np.flatnonzero(counts >= MIN_OCCURRENCES)
    means = sums[frequent] / counts[frequent, None]
    words = classifier.tokenizer.convert_ids_to_tokens(frequent.tolist())

    def named(unit: int, order: np.ndarray) -> list[list[Any]]:
        return [[words[index], float(means[index, unit])] for index in order[:NUM_DRIVING_WORDS]]

    orders = np.argsort(means, axis=0, kind="stable").T
    return [{"highest": named(unit, order[::-1]), "lowest": named(unit, order)} for unit, order in enumerate(orders)]


def mean_gradients_by_distance(classifier: TextClassifier, texts: Sequence[str]) -> dict[str, Any] | None:
    """Return `gradients_by_distance` over the first words of long texts, as geometric means.

    Args:
        classifier: The classifier.
        texts: The texts.

    Returns:
        `as_computed` and `last_state`, of shape `(num_words,)`, and `num_texts`; `None` if there are no texts.
    """
    encode, _ = fast_encoder(classifier.tokenizer, classifier.max_length)
    tokens, lengths = encode(list(texts))
    longest = np.sort(lengths)[::-1][: max(1, min(NUM_LONG_TEXTS, len(lengths) // 10))]
    num_words = min(MOST_WORDS, int(longest[-1])) if len(longest) else 0
    if num_words < 2:
        return None
    rows = np.flatnonzero(lengths >= num_words)[:NUM_LONG_TEXTS]
    starts = lengths.cumsum() - lengths
    ids = torch.from_numpy(tokens[starts[rows, None] + np.arange(num_words)].astype(np.int64))
    norms = gradients_by_distance(classifier.model, ids).clip(min=1e-30)
    as_computed, last_state = np.exp(np.log(norms).mean(axis=1))
    return {"as_computed": as_computed, "last_state": last_state, "num_texts": len(rows)}


def nearest_texts(
    classifier: TextClassifier, texts: Sequence[str], training_texts: Sequence[str], labels: Sequence[str]
) -> list[list[dict[str, Any]]]:
    """Return the training texts whose pooled vectors have the largest cosine with that of each text.

    Args:
        classifier: The classifier.
        texts: The texts.
        training_texts: The training texts.
        labels: Their labels.

    Returns:
        For each text, `text`, `label` and `cosine` of its neighbours, the nearest one first.
    """
    queries = classifier.encode(list(texts), normalize_embeddings=True, show_progress=False)
    vectors = classifier.encode(training_texts, normalize_embeddings=True)
    found = []
    for cosines in queries @ vectors.T:
        nearest = np.argsort(-cosines, kind="stable")[:NUM_NEIGHBOURS].tolist()
        found.append(
            [{"text": training_texts[row], "label": labels[row], "cosine": float(cosines[row])} for row in nearest]
        )
    return found


def _batches(classifier: TextClassifier, texts: Sequence[str], desc: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ids and masks of texts of similar length."""
    encode, _ = fast_encoder(classifier.tokenizer, classifier.max_length)
    tokens, lengths = encode(list(texts))
    order = np.argsort(-lengths, kind="stable")
    parts = np.split(order, range(BATCH_SIZE, len(order), BATCH_SIZE))
    for rows in progress_bar(parts, desc=desc, unit="batch", leave=False):
        yield pad(*rows_of(rows, tokens, lengths), classifier.pad_token_id)
