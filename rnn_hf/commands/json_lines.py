"""Answers of a classifier as JSON Lines."""

import json
from collections.abc import Iterator, Sequence

import numpy as np

from rnn_hf.text_classifier import TextClassifier


def by_name(names: Sequence[str], row: Sequence[float]) -> str:
    """Return a JSON object of numbers."""
    return f"{{{', '.join(f'{name}: {number:.6f}' for name, number in zip(names, row, strict=True))}}}"


def json_lines(
    classifier: TextClassifier,
    probabilities: np.ndarray,
    all_probabilities: bool = False,
    threshold: float | None = None,
) -> Iterator[str]:
    """Yield one line of JSON for each text.

    Args:
        classifier: What answered.
        probabilities: Its answers. Shape `(num_texts, num_labels)`.
        all_probabilities: Whether to write every class's probability.
        threshold: Probability from which a label is written, if a text may have several. Default: the model's own.
    """
    # escapes for a label with terminal control characters, or without a UTF-8 form
    names = [json.dumps(label, ensure_ascii=not label.isprintable()) for label in classifier.label_names]
    problem_type = classifier.problem_type
    best = probabilities.argmax(axis=1).tolist()
    thresholds = np.broadcast_to(classifier.thresholds(threshold), probabilities.shape[1]).tolist()
    for label, row in zip(best, probabilities.tolist(), strict=True):
        if problem_type == "regression":
            yield f'{{"value": {row[0]:.6f}}}\n' if len(row) == 1 else f'{{"values": {by_name(names, row)}}}\n'
            continue
        if problem_type == "multi_label_classification":
            labels = ", ".join(
                name for name, number, least in zip(names, row, thresholds, strict=True) if number >= least
            )
            line = f'{{"labels": [{labels}]'
        else:
            line = f'{{"label": {names[label]}, "probability": {row[label]:.6f}'
        if all_probabilities:
            line += f', "probabilities": {by_name(names, row)}'
        yield line + "}\n"
