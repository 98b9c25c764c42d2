"""What `TextClassifier.explain` returns; `word_contributions` computes it."""

from dataclasses import dataclass
from typing import Any, Literal

ExplanationMethod = Literal["leave_one_out", "integrated_gradients"]
ExplanationUnit = Literal["probability", "logit", "target"]


@dataclass(frozen=True)
class Explanation:
    """How much each word of a text raises or lowers the score of a label.

    Args:
        text: The text.
        label: The label that is explained, as `predict` returns it; for a regression, the name of the target.
        method: `"leave_one_out"` or `"integrated_gradients"`.
        unit: Unit of all numbers: `"probability"`, `"logit"`, or `"target"`, that of a regression.
        score: Score of the label for the text.
        baseline: For integrated gradients, the score for zero vectors and no n-grams, so that `baseline` plus all
            contributions is `score`; `None` for leave-one-out, whose contributions have no meaningful sum.
        offsets: Start and end of each word in `text`, in characters.
        contributions: Contribution of each word, positive if the word raises the score.
    """

    text: str
    label: Any
    method: ExplanationMethod
    unit: ExplanationUnit
    score: float
    baseline: float | None
    offsets: list[tuple[int, int]]
    contributions: list[float]

    @property
    def words(self) -> list[str]:
        """The words."""
        return [self.text[start:end] for start, end in self.offsets]
