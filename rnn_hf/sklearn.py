"""`TextClassifier` as an estimator of scikit-learn."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from .data.in_memory import as_list, checked_labels
from .text_classifier import TextClassifier


class RNNTextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A recurrent text classifier for `Pipeline`, `cross_val_score`, `GridSearchCV` and similar tools.

    `fit` takes raw texts with one class each and calls `TextClassifier.train`, whose arguments those below are; `None`
    stands for its default.

    Args:
        hidden_size: Size of the hidden state in one direction.
        embedding_size: Size of the word vectors.
        num_hidden_layers: Number of recurrent layers.
        cell_type: `"rnn"`, `"lstm"` or `"gru"`.
        bidirectional: Whether each layer also reads the text from end to start.
        classifier_pooling: How the hidden states of a text become one vector.
        vocab_size: Maximum size of the vocabulary.
        max_length: Maximum number of tokens in a text; longer texts are truncated.
        word_dropout: Share of tokens that training replaces with the unknown word.
        word_vectors: Pretrained word vectors: a file, or the folder or Hub repository of a model.
        num_train_epochs: Number of passes over the training rows.
        max_steps: Number of optimizer steps.
        learning_rate: Peak learning rate.
        per_device_train_batch_size: Batch size.
        class_weights: `"balanced"`, a number for each class in the order of `classes_`, or a dictionary.
        validation_size: Share of rows held out to choose the best weights.
        random_state: Random seed.
        settings: Further arguments of `TextClassifier.train`, by name.
        show_progress: Whether to print lines and show progress bars.

    Attributes:
        classes_: The classes. Shape `(num_classes,)`.
        classifier_: The trained `TextClassifier`.

    Example:
        >>> texts, labels = ["good", "bad"] * 20, [1, 0] * 20
        >>> model = RNNTextClassifier(hidden_size=8, num_train_epochs=20, word_dropout=0.0).fit(texts, labels)
        >>> model.predict(["bad", "good"]).tolist(), model.predict_proba(["bad"]).shape
        ([0, 1], (1, 2))
    """

    # Arguments that have another name in `TextClassifier.train`, or are not among its settings
    _OTHER_NAMES: ClassVar[Mapping[str, str]] = {"random_state": "seed"}
    _OF_THE_CALL = ("settings", "show_progress")

    def __init__(
        self,
        *,
        hidden_size: int | None = None,
        embedding_size: int | None = None,
        num_hidden_layers: int | None = None,
        cell_type: str | None = None,
        bidirectional: bool | None = None,
        classifier_pooling: str | None = None,
        vocab_size: int | None = None,
        max_length: int | None = None,
        word_dropout: float | None = None,
        word_vectors: str | None = None,
        num_train_epochs: float | None = None,
        max_steps: int | None = None,
        learning_rate: float | None = None,
        per_device_train_batch_size: int | None = None,
        class_weights: str | list[float] | dict[Any, float] | None = None,
        validation_size: float | None = None,
        random_state: int | None = None,
        settings: Mapping[str, Any] | None = None,
        show_progress: bool = False,
    ) -> None:
        self.hidden_size = hidden_size
        self.embedding_size = embedding_size
        self.num_hidden_layers = num_hidden_layers
        self.cell_type = cell_type
        self.bidirectional = bidirectional
        self.classifier_pooling = classifier_pooling
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.word_dropout = word_dropout
        self.word_vectors = word_vectors
        self.num_train_epochs = num_train_epochs
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.per_device_train_batch_size = per_device_train_batch_size
        self.class_weights = class_weights
        self.validation_size = validation_size
        self.random_state = random_state
        self.settings = settings
        self.show_progress = show_progress

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, True, False
        tags.non_deterministic = False
        return tags

    def fit(self, X: Iterable[str], y: Iterable[Any]) -> "RNNTextClassifier":  # noqa: N803  # scikit-learn's names
        """Train on texts and their classes; return the estimator.

        Args:
            X: Texts; a table with a single column is used as that column.
            y: Class of each text: strings, booleans or integers.

        Raises:
            TypeError: If a text is not a string.
            ValueError: If `y` has fewer than two classes, several columns, or numbers that are not integers, or an
                argument is out of its domain.
        """
        if y is None:
            raise ValueError("`fit` requires y to be passed, but the target y is None.")
        classes = column_or_1d(y, warn=True)
        checked_labels(classes.tolist(), "y")
        check_classification_targets(classes)
        arguments = {
            self._OTHER_NAMES.get(name, name): value
            for name, value in self.get_params(deep=False).items()
            if name not in self._OF_THE_CALL and value is not None
        }
        settings = dict(self.settings or {})
        for name in settings:
            if name in arguments or name in ("problem_type", "show_progress"):
                raise ValueError(f"`settings` must not have {name!r}, which is given elsewhere or cannot be chosen.")
        if isinstance(self.class_weights, list | tuple | np.ndarray):
            weights = dict(zip(map(str, np.unique(classes)), self.class_weights, strict=False))
            arguments["class_weights"] = weights if len(weights) == len(self.class_weights) else self.class_weights
        self.classifier_ = TextClassifier.train(
            _one_column(X),
            # strings and integers are labels as they are; floats would mean a regression
            (classes if classes.dtype.kind in "UOiu" else classes.astype(str)).tolist(),
            show_progress=self.show_progress,
            **arguments,
            **settings,
        )
        self.classes_ = np.unique(classes)
        return self

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:  # noqa: N803
        """Return the probability of each class, in the order of `classes_`.

        Args:
            X: Texts.

        Returns:
            float32 of shape `(num_texts, num_classes)`.
        """
        check_is_fitted(self)
        names = self.classifier_.label_names
        order = [names.index(str(name)) for name in self.classes_]
        return self.classifier_.predict_proba(_one_column(X), show_progress=self.show_progress)[:, order]

    def predict(self, X: Iterable[str]) -> np.ndarray:  # noqa: N803
        """Return the class of each text. Shape `(num_texts,)`."""
        best = self.predict_proba(X).argmax(axis=1)
        classes: np.ndarray = self.classes_[best]
        return classes


def _one_column(texts: Any) -> list[str]:
    """Return texts as a list; a table with a single column is used as that column."""
    if getattr(texts, "ndim", 1) == 2 and texts.shape[1] == 1:
        texts = np.asarray(texts)[:, 0]
    return as_list(texts, "X")


__all__ = ["RNNTextClassifier"]
