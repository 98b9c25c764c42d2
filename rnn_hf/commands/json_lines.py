"""Answers of a classifier as JSON Lines."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_hf.explanations import Explanation
from rnn_hf.onnx_classifier import encodable
from rnn_hf.text_classifier import TextClassifier

# Help text of `threshold`
THRESHOLD_HELP = (
    "Minimum probability of each label where a text may have several. Default: the model's own thresholds."
)


@dataclass(frozen=True)
class AnswerFormat:
    """Contents of an answer.

    Args:
        all_probabilities: Whether to write the probability of every class.
        threshold: Minimum probability of each label, if a text may have several. Default: the model's own thresholds.
        top_k: Number of most probable labels to write, each with its probability.
        min_probability: Minimum probability of a label; below it, the label is `null`.
        prefix: Prefix of the names.
        is_explained: Whether to write the contribution of each word.
    """

    all_probabilities: bool = False
    threshold: float | None = None
    top_k: int | None = None
    min_probability: float | None = None
    prefix: str = ""
    is_explained: bool = False

    def check(self, problem_type: str) -> None:
        """Reject contents that the answers of a model do not have.

        Raises:
            ValueError: If a text has no single label, or no label at all.
        """
        if self.min_probability is not None and problem_type != "single_label_classification":
            raise ValueError("`min_probability` needs a model with one class per text. Leave it out.")
        if self.top_k is not None and problem_type == "regression":
            raise ValueError("`top_k` needs a model with classes. Leave it out.")


# Six decimals of a probability, and all digits of the float32 of a target, which may be of any size
PROBABILITY, TARGET = ".6f", ".9g"


def by_name(names: Sequence[str], row: Sequence[float], form: str) -> str:
    """Return a JSON object of formatted numbers."""
    return f"{{{', '.join(f'{name}: {number:{form}}' for name, number in zip(names, row, strict=True))}}}"


def json_lines(
    classifier: TextClassifier, probabilities: np.ndarray, form: AnswerFormat | None = None
) -> Iterator[str]:
    """Yield one line of JSON per text.

    Args:
        classifier: The classifier.
        probabilities: Its result of `predict_proba`. Shape `(num_texts, num_labels)`.
        form: Contents of an answer.
    """
    form = form or AnswerFormat()
    # escape labels with terminal control characters, or without a UTF-8 form
    names = [json.dumps(label, ensure_ascii=not label.isprintable()) for label in classifier.label_names]
    problem_type, of = classifier.problem_type, form.prefix
    best = probabilities.argmax(axis=1).tolist()
    thresholds = np.broadcast_to(classifier.thresholds(form.threshold), probabilities.shape[1]).tolist()
    for label, row in zip(best, probabilities.tolist(), strict=True):
        if problem_type == "regression":
            is_single = len(row) == 1
            answer = f'value": {row[0]:{TARGET}}' if is_single else f'values": {by_name(names, row, TARGET)}'
            yield f'{{"{of}{answer}}}\n'
            continue
        if problem_type == "multi_label_classification":
            labels = ", ".join(
                name for name, number, least in zip(names, row, thresholds, strict=True) if number >= least
            )
            line = f'{{"{of}labels": [{labels}]'
        else:
            is_sure = form.min_probability is None or row[label] >= form.min_probability
            line = f'{{"{of}label": {names[label] if is_sure else "null"}, "{of}probability": {row[label]:.6f}'
        if form.top_k is not None:
            ranked = sorted(range(len(row)), key=row.__getitem__, reverse=True)[: form.top_k]
            items = ", ".join(f'{{"label": {names[index]}, "probability": {row[index]:.6f}}}' for index in ranked)
            line += f', "{of}top_k": [{items}]'
        if form.all_probabilities:
            line += f', "{of}probabilities": {by_name(names, row, PROBABILITY)}'
        yield line + "}\n"


def json_line(row: Any) -> str:
    """Return a row or a value as JSON on one line, with escapes for unprintable characters.

    Example:
        >>> json_line({"id": 7, "score": float("nan")})
        '{"id": 7, "score": null}'
    """
    try:
        line = json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # JSON has neither NaN nor infinity
        row = json.loads(json.dumps(row, default=str), parse_constant=lambda name: None)
        line = json.dumps(row, ensure_ascii=False)
    return line if line.isprintable() else json.dumps(row, default=str)


def explained_line(line: str, explanation: Explanation, prefix: str = "") -> str:
    """Return a line of JSON with an explanation as its last entry.

    Args:
        line: A line of `json_lines`.
        explanation: The explanation of the answer.
        prefix: Prefix of the name, as in `AnswerFormat`.
    """
    content = {
        "label": str(explanation.label),
        "method": explanation.method,
        "unit": explanation.unit,
        "score": round(explanation.score, 6),
        "baseline": explanation.baseline and round(explanation.baseline, 6),
        "words": [encodable(word) for word in explanation.words],
        "offsets": explanation.offsets,
        "contributions": [round(number, 6) for number in explanation.contributions],
    }
    return f'{line[:-2]}, "{prefix}explanation": {json_line(content)}}}\n'
