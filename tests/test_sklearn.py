"""The estimator: it learns, and does what scikit-learn's tools ask of one."""

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from rnn_hf.sklearn import RNNTextClassifier
from tests.tiny_classifiers import unpickled

TEXTS = ["a good film", "a bad film", "a fine day", "an awful day"] * 15
LABELS = np.array([7, 3] * 30)
SETTINGS = {"use_cpu": True, "embedding_dropout": 0.0, "classifier_dropout": 0.0}


# scikit-learn's checks hand over tables of numbers, and stop at estimators that take none
class OnNumbers(RNNTextClassifier):
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, True
        return tags

    def fit(self, X: Any, y: Any) -> "OnNumbers":  # noqa: N803
        super().fit(as_texts(X), y)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        return super().predict_proba(as_texts(X))


def as_texts(rows: Any) -> list[str]:
    return [" ".join(f"c{column}v{float(value):.0f}" for column, value in enumerate(row)) for row in np.asarray(rows)]


EXPECTED_FAILURES = {
    **dict.fromkeys(
        ["check_n_features_in_after_fitting", "check_n_features_in"], "texts have no fixed number of features"
    ),
    **dict.fromkeys(
        ["check_estimator_sparse_tag", "check_estimator_sparse_array", "check_estimator_sparse_matrix"],
        "as_texts does not take sparse tables",
    ),
    **dict.fromkeys(
        ["check_estimators_nan_inf", "check_estimators_empty_data_messages", "check_fit2d_predict1d", "check_fit1d"],
        "as_texts takes any table",
    ),
    "check_classifiers_train": "two steps of training do not learn the data",
}


def make(**settings: Any) -> RNNTextClassifier:
    tiny: dict[str, Any] = {
        "hidden_size": 8,
        "embedding_size": 8,
        "word_dropout": 0.0,
        "learning_rate": 0.03,
        "per_device_train_batch_size": 16,
    }
    return RNNTextClassifier(
        **{**tiny, "num_train_epochs": 20, "validation_size": 0.0, "settings": SETTINGS, **settings}
    )


@pytest.mark.parametrize(
    "labels",
    [LABELS, np.where(LABELS == 7, "yes", "no"), LABELS == 7, LABELS * 1.0, np.where(LABELS == 7, "10", "9").tolist()],
    ids=["integers", "strings", "booleans", "floats", "digits"],
)
def test_it_learns_classes_of_any_type_in_the_order_of_classes_(labels: Any) -> None:
    model = make().fit(TEXTS, labels)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    np.testing.assert_array_equal(model.predict(TEXTS[:4]), np.asarray(labels)[:4])
    probabilities = model.predict_proba(TEXTS[:4])
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], np.asarray(labels)[:4])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert model.score(TEXTS, labels) == 1


def test_ten_and_more_classes_keep_their_columns() -> None:
    texts = [f"word{number}" for number in range(12)] * 10
    labels = [str(number) for number in range(12)] * 10
    model = make(num_train_epochs=30).fit(texts, labels)
    assert model.classes_.tolist() == sorted(labels[:12])
    assert model.score(texts, labels) == 1


def test_class_weights_are_in_the_order_of_classes_() -> None:
    labels = np.array(["10", "2"] * 30)
    model = make(class_weights=[1.0, 100.0]).fit(["same"] * 60, labels)
    assert model.classifier_.recipe["class_weights"] == ["100.0", "1.0"]
    assert model.predict_proba(["same"])[0, 1] > 0.9


def test_a_table_of_one_column_and_a_series_are_texts() -> None:
    series = pd.Series(TEXTS)
    expected = make().fit(TEXTS, LABELS).predict_proba(TEXTS[:3])
    np.testing.assert_allclose(make().fit(series, pd.Series(LABELS)).predict_proba(series[:3]), expected)
    np.testing.assert_allclose(make().fit(series.to_frame(), LABELS).predict_proba(np.array(TEXTS[:3])), expected)


def test_clone_and_pickle() -> None:
    model = make(random_state=3, cell_type="gru")
    assert clone(model).get_params() == model.get_params()
    model.fit(TEXTS, LABELS)
    assert model.classifier_.recipe["seed"] == 3 and model.classifier_.model.config.cell_type == "gru"
    again = unpickled(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), model.predict_proba(TEXTS))
    with pytest.raises(NotFittedError):
        clone(model).predict(TEXTS)


def test_model_selection_pipelines_and_calibration() -> None:
    assert cross_val_score(make(), TEXTS, LABELS, cv=2).tolist() == [1, 1]
    search = GridSearchCV(make(), {"hidden_size": [4, np.int64(8)], "settings": [SETTINGS]}, cv=2)
    assert search.fit(TEXTS, LABELS).best_score_ == 1
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, make()).fit([text.upper() for text in TEXTS], LABELS)
    assert pipeline.score(TEXTS, LABELS) == 1
    calibrated = CalibratedClassifierCV(make(), cv=2).fit(TEXTS, LABELS)
    assert calibrated.predict_proba(TEXTS[:2]).shape == (2, 2)
    assert calibrated.score(TEXTS, LABELS) == 1


@pytest.mark.parametrize(
    ("texts", "labels", "settings", "message"),
    [
        (TEXTS, np.eye(60), {}, "y should be a 1d array"),
        (TEXTS, LABELS + 0.5, {}, "Unknown label type: continuous"),
        (TEXTS, None, {}, "requires y to be passed"),
        (TEXTS, LABELS[:3], {}, "the same length, got 60 and 3"),
        (np.ones((60, 2)), LABELS, {}, "must be strings"),
        (TEXTS, np.ones(60, dtype=int), {}, "at least two classes"),
        (TEXTS, LABELS, {"settings": {"hiden_size": 3}}, "Did you mean `hidden_size`"),
        (TEXTS, LABELS, {"settings": {"hidden_size": 3}}, "`settings` must not have 'hidden_size'"),
        (TEXTS, np.array(["x", None] * 30, dtype=object), {}, "missing value, got None at position 1"),
        (TEXTS, LABELS, {"cell_type": "transformer"}, "`cell_type` must be one of rnn, lstm, gru"),
    ],
)
def test_a_mistake_is_one_error(texts: Any, labels: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make(**settings).fit(texts, labels)


def test_the_checks_of_scikit_learn() -> None:
    estimator = OnNumbers(hidden_size=4, embedding_size=4, max_steps=2, settings=SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, expected_failed_checks=EXPECTED_FAILURES)
    assert sum(result["status"] == "passed" for result in results) >= 30
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == EXPECTED_FAILURES.keys()
