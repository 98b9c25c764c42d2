"""The classifiers that the panel compares ours with, each trained as its users would."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.svm import LinearSVC

from scripts.research.baselines import FastText, tfidf_classifiers
from scripts.research.panel_datasets import PanelDataset, PanelRows, Rows

# Names of the peers, and their titles in the table
TITLES = {
    "tfidf": "TF-IDF",
    "tfidf_characters": "TF-IDF of characters",
    "fasttext": "fastText",
    "model2vec": "model2vec",
}

Predict = Callable[[list[str]], Any]

PENALTY, PENALTY_OF_SEVERAL = 1.0, 0.3
RIDGE_ALPHAS = [0.1, 0.3, 1.0, 3.0, 10.0]
FASTTEXT_EPOCHS, FASTTEXT_LEARNING_RATES = [5, 25, 50], [0.1, 0.5, 1.0]
# Share of the training rows that chooses hyperparameters and thresholds where there is no validation split
CHOOSING_SHARE, CHOOSING_SEED = 0.1, 0


class Peer(NamedTuple):
    """A trained peer.

    Args:
        predict: Returns the answers to texts.
        settings: The hyperparameters that were chosen.
    """

    predict: Predict
    settings: dict[str, Any]


def peers_of(models: Sequence[str], dataset: PanelDataset) -> list[str]:
    """Return the peers to train on a dataset.

    Args:
        models: Names of models.
        dataset: The dataset.
    """
    peers = ["tfidf"] if "tfidf" in models else []
    if peers and dataset.without_blanks:
        peers.append("tfidf_characters")
    if "fasttext" in models and dataset.kind == "one label":
        peers.append("fasttext")
    if "model2vec" in models and dataset.kind != "regression":
        peers.append("model2vec")
    return peers


def settings_of(peer: str, dataset: PanelDataset) -> dict[str, Any]:
    """Return what the results of a peer depend on apart from the rows.

    Args:
        peer: Its name.
        dataset: The dataset.
    """
    choosing = {"choosing_share": CHOOSING_SHARE, "choosing_seed": CHOOSING_SEED}
    if peer == "fasttext":
        return {"epochs": FASTTEXT_EPOCHS, "learning_rates": FASTTEXT_LEARNING_RATES, **choosing}
    if peer == "model2vec":
        return {}
    if dataset.kind == "several labels":
        return {"penalty": PENALTY_OF_SEVERAL, "class_weight": "balanced", "thresholds": "per class", **choosing}
    return {"alphas": RIDGE_ALPHAS} if dataset.kind == "regression" else {"penalty": PENALTY}


def train_peer(peer: str, dataset: PanelDataset, rows: PanelRows) -> Peer:
    """Train a peer; the result depends on the rows alone.

    Args:
        peer: Its name.
        dataset: The dataset.
        rows: The rows; those to measure on are not used.
    """
    if peer == "fasttext":
        return train_fasttext(rows)
    if peer == "model2vec":
        return train_model2vec(rows)
    if peer == "tfidf_characters":
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(2, 5), sublinear_tf=True)
        pipeline = make_pipeline(vectorizer, LinearSVC(C=PENALTY, random_state=0)).fit(*rows.train)
        return Peer(pipeline.predict, {"penalty": PENALTY})
    if dataset.kind == "several labels":
        return train_several(rows)
    if dataset.kind == "regression":
        return train_ridge(rows.train)
    return Peer(next(tfidf_classifiers(*rows.train, [PENALTY])), {"penalty": PENALTY})


def split_for_choosing(rows: PanelRows) -> tuple[Rows, Rows]:
    """Return the rows to train candidates on, and the rows that choose among them."""
    if rows.validation is not None:
        return rows.train, rows.validation
    num_rows = len(rows.train.texts)
    shuffled = np.random.default_rng(CHOOSING_SEED).permutation(num_rows)
    num_choosing = max(1, round(CHOOSING_SHARE * num_rows))
    return rows.train.take(np.sort(shuffled[num_choosing:])), rows.train.take(np.sort(shuffled[:num_choosing]))


def train_fasttext(rows: PanelRows) -> Peer:
    """Train fastText on all training rows with the first of the settings that are best on the rows that choose."""
    train, choosing = split_for_choosing(rows)
    accuracies = {}
    for num_epochs, learning_rate in product(FASTTEXT_EPOCHS, FASTTEXT_LEARNING_RATES):
        candidate = FastText(*train, learning_rate=learning_rate, num_epochs=num_epochs)
        accuracies[num_epochs, learning_rate] = accuracy_score(choosing.labels, candidate(choosing.texts))
    num_epochs, learning_rate = max(accuracies, key=lambda tried: accuracies[tried])
    chosen = FastText(*rows.train, learning_rate=learning_rate, num_epochs=num_epochs)
    return Peer(chosen, {"num_epochs": num_epochs, "learning_rate": learning_rate})


def train_ridge(train: Rows) -> Peer:
    """Train ridge regression on TF-IDF of words and word pairs; cross-validation chooses its penalty."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    search = GridSearchCV(Ridge(), {"alpha": RIDGE_ALPHAS}, scoring="r2", cv=5)
    search.fit(vectorizer.fit_transform(train.texts), train.labels)
    return Peer(make_pipeline(vectorizer, search.best_estimator_).predict, search.best_params_)


def train_several(rows: PanelRows) -> Peer:
    """Train a linear support vector machine for each class, with the threshold that is best for its F1."""
    binarizer = MultiLabelBinarizer().fit(rows.train.labels)

    def fit(train: Rows) -> Any:
        machine = OneVsRestClassifier(LinearSVC(C=PENALTY_OF_SEVERAL, class_weight="balanced", random_state=0))
        vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
        return make_pipeline(vectorizer, machine).fit(train.texts, binarizer.transform(train.labels))

    train, choosing = split_for_choosing(rows)
    model = fit(train)
    scores, truth = model.decision_function(choosing.texts), binarizer.transform(choosing.labels)
    thresholds = np.array([best_threshold(*columns) for columns in zip(scores.T, truth.T, strict=True)])
    model = model if train is rows.train else fit(rows.train)

    def predict(texts: list[str]) -> list[list[str]]:
        return [list(binarizer.classes_[row]) for row in model.decision_function(texts) >= thresholds]

    return Peer(predict, {"penalty": PENALTY_OF_SEVERAL})


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the score from which on a class is predicted, so that its F1 is the highest; 0 if no text has it.

    Args:
        scores: Score of each text. Shape `(num_texts,)`.
        truth: 1 for the texts of the class. Shape `(num_texts,)`.

    Example:
        >>> best_threshold(np.array([0.1, -0.5, 0.9, -0.2]), np.array([0, 0, 1, 1]))
        -0.2
    """
    if not truth.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    num_right = np.cumsum(truth[order])
    f1 = 2 * num_right / (np.arange(1, len(order) + 1) + truth.sum())
    # a threshold cannot separate equal scores
    f1[:-1][scores[order][:-1] == scores[order][1:]] = 0
    return float(scores[order][f1.argmax()])


def check_model2vec() -> None:
    """Check that model2vec's own trainer is installed."""
    try:
        found = find_spec("model2vec.train")
        if found is not None:
            import model2vec.train  # noqa: F401  # it needs further packages, which only importing tells
    except ImportError:
        found = None
    if found is None:
        raise ValueError(
            "model2vec's trainer is not installed. Install it with `pip install model2vec[train]`, or name other "
            "`models`."
        )


def train_model2vec(rows: PanelRows) -> Peer:
    """Train model2vec's classifier with its defaults, on its default embeddings from the Hub."""
    from model2vec.train import StaticModelForClassification  # an extra

    model = StaticModelForClassification.from_pretrained()
    texts, labels = rows.validation or (None, None)
    model.fit(*rows.train, X_val=texts, y_val=labels)
    return Peer(model.predict, {})
