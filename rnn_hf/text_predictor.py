"""Strings in; labels, probabilities or metrics out: what all backends of `TextClassifier` share."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

import numpy as np
from transformers import PreTrainedTokenizerBase

from .configuration_rnn import ProblemType, RNNConfig
from .data.tokenizing import training_length
from .errors import missing_extra
from .inference import BatchedInference, with_progress
from .onnx_classifier import to_answers


class TextPredictor:
    """Predicts and evaluates.

    Attributes:
        tokenizer: The tokenizer.
    """

    tokenizer: PreTrainedTokenizerBase
    _inference: BatchedInference
    # from the arguments of the backend to a row for each text of a batch
    _logits: Callable[..., Any]
    _probabilities: Callable[..., Any]

    @property
    def config(self) -> RNNConfig:
        """Configuration of the model."""
        raise NotImplementedError

    @property
    def num_labels(self) -> int:
        """Number of classes or targets."""
        return self.config.num_labels or 0  # a number in every configuration

    @property
    def problem_type(self) -> ProblemType:
        """Type of the problem: one class per text, several classes, or numbers."""
        return self.config.resolved_problem_type

    @property
    def label_names(self) -> list[str]:
        """Names of the classes or targets in the order of their ids."""
        return [str(name) for _, name in sorted((self.config.id2label or {}).items())]

    @property
    def labels(self) -> list[Any]:
        """The classes in the order of their ids, as `predict` returns them: names or integers."""
        return [int(name) if self.config.has_integer_labels else name for name in self.label_names]

    @property
    def max_length(self) -> int | None:
        """Maximum number of tokens in a text, as in training; longer texts are truncated. `None`: no limit."""
        return training_length(self.tokenizer)

    @property
    def pad_token_id(self) -> int:
        """Id of padding, which the mask excludes, so any id will do if there is none."""
        return self.config.pad_token_id or 0

    @overload
    def predict(
        self, texts: str, batch_size: int = ..., show_progress: bool = ..., threshold: float | None = ...
    ) -> Any: ...
    @overload
    def predict(
        self, texts: Iterable[str], batch_size: int = ..., show_progress: bool = ..., threshold: float | None = ...
    ) -> list[Any]: ...
    def predict(
        self,
        texts: str | Iterable[str],
        batch_size: int = 256,
        show_progress: bool = True,
        threshold: float | None = None,
    ) -> Any:
        """Return the answer to each text, in order, or the answer to a single string.

        An answer is a label; a list of labels if a text may have several; for a regression, a float, or a list of
        floats if there are several targets.

        Args:
            texts: One string, or any iterable of strings; a generator is read in chunks.
            batch_size: Number of texts per batch.
            show_progress: Whether to show a progress bar after two seconds.
            threshold: Minimum probability of each label, if a text may have several. Default: the thresholds chosen in
                training, or 0.5.
        """
        if isinstance(texts, str):
            return self.answers(self.predict_proba(texts)[None], threshold)[0]
        chunks = with_progress(self.iter_proba(texts, batch_size), texts, show_progress)
        return [answer for probabilities in chunks for answer in self.answers(probabilities, threshold)]

    def answers(self, probabilities: np.ndarray, threshold: float | None = None) -> list[Any]:
        """Return the answers of `predict` for rows of `predict_proba` or `iter_proba`.

        Args:
            probabilities: Shape `(num_texts, num_labels)`.
            threshold: As in `predict`.
        """
        return to_answers(probabilities, self.problem_type, self.labels, self.thresholds(threshold))

    def thresholds(self, threshold: float | None = None) -> float | list[float]:
        """Return the given threshold, or else those of the model's configuration, or 0.5."""
        return threshold if threshold is not None else self.config.label_thresholds or 0.5

    def predict_proba(
        self, texts: str | Iterable[str], batch_size: int = 256, show_progress: bool = True
    ) -> np.ndarray:
        """Return the probabilities of each text, in order; for a regression, the numbers themselves.

        The arguments are those of `predict`.

        Returns:
            float32 of shape `(num_texts, num_labels)`; `(num_labels,)` for a single string.
        """
        return self._inference.rows(self._probabilities, self.num_labels, texts, batch_size, show_progress)

    def iter_proba(self, texts: Iterable[str], batch_size: int = 256) -> Iterator[np.ndarray]:
        """Yield the probabilities of a stream of texts, in order, without keeping the texts or the answers.

        Memory stays constant once oneDNN has compiled code for as many batch shapes as it caches (1,024, about 50 MiB;
        set the number by the environment variable `ONEDNN_PRIMITIVE_CACHE_CAPACITY`).

        Args:
            texts: Any iterable of strings. It is read in chunks, two of them in advance.
            batch_size: Number of texts per batch.

        Yields:
            Probabilities of the next chunk, float32 of shape `(num_texts, num_labels)`.

        Raises:
            TypeError: If a single string is given.
            ValueError: If `batch_size` is below 1.
        """
        yield from self._inference.chunks(self._probabilities, self.num_labels, texts, batch_size)

    def evaluate(
        self,
        texts: Iterable[str],
        labels: Iterable[Any],
        batch_size: int = 256,
        threshold: float | None = None,
        show_progress: bool = True,
    ) -> dict[str, Any]:
        """Return the metrics on labelled texts. Needs `pip install "rnn-hf[train]"`.

        Texts and labels are as in `train`, with the classes of the classifier; the other arguments are as in
        `predict`.

        Returns:
            Result of `rnn_hf.training.metrics.compute_metrics`, with keys such as `"accuracy"` and `"per_class"`.

        Raises:
            TypeError: If a text is not a string.
            ValueError: If a label is missing, or not among those of the classifier.
        """
        try:
            from .training.from_lists import labelled_texts
            from .training.metrics import compute_metrics
        except ModuleNotFoundError as error:
            raise missing_extra("TextClassifier.evaluate", error) from error
        strings, truth = labelled_texts(texts, labels, self.config, self.problem_type)
        logits = self._inference.rows(self._logits, self.num_labels, strings, batch_size, show_progress)
        return compute_metrics(logits, truth, self.label_names, self.problem_type, self.thresholds(threshold))
