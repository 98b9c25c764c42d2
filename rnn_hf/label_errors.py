"""Wrong labels in data: rows whose label is contradicted by models that were trained on the other rows."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import missing_extra
from .progress import progress_bar, say, silenced
from .random_states import kept_random_states
from .text_classifier import TextClassifier

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

CALLER = "find_label_errors"

# Arguments of training that decide how the rows are read, before they are divided into folds
OF_READING = ("problem_type", "clean_text")


def find_label_errors(
    texts: Iterable[str],
    labels: Iterable[Any],
    *,
    num_folds: int = 5,
    show_progress: bool = True,
    **settings: Any,
) -> "pd.DataFrame":
    """Return all rows, those whose label is most likely wrong first.

    The rows are divided into folds with equal shares of the classes, and each fold is classified by a model that
    `TextClassifier.train` trained on the others. Copies of a text, apart from case and spaces, are in one fold. Rows
    are ordered by the probability of the given label, and confident learning decides which are errors (Northcutt et
    al., 2021; see `are_errors`).

    Needs `pip install "rnn-hf[train]"`. The time is about that of `num_folds` trainings.

    Args:
        texts: As in `TextClassifier.train`.
        labels: One class per text: strings, integers or booleans.
        num_folds: Number of folds.
        show_progress: Whether to print lines and show progress bars: those of the first training, then one of folds.
        settings: Settings of `TextClassifier.train`, such as `hidden_size=64`; `seed` also divides the rows.

    Returns:
        A data frame with the columns `row` (position in `texts`, from 0), `text`, `given_label`, `predicted_label`,
        `predicted_probability`, `given_probability` (of the given label) and `is_error`. If the other folds have no
        row of the given class, because it has too few different texts, the label cannot be judged:
        `given_probability` is NaN, `is_error` is False, and the row is among the last.

    Raises:
        ImportError: If a package that training needs is missing.
        TypeError: If an argument is unknown, or a value has the wrong type.
        ValueError: If a text may have several labels, labels are numbers of a regression, a value is missing or out of
            its domain, or there are too few rows.

    Example:
        >>> texts, labels = ["a good film", "a bad film", "a good day", "a bad day"] * 10, ["good", "bad"] * 20
        >>> texts.append("a good idea")
        >>> labels.append("bad")
        >>> settings = {"max_steps": 40, "word_dropout": 0.0, "train_on_all_rows": False}
        >>> found = find_label_errors(texts, labels, num_folds=2, show_progress=False, **settings)
        >>> found.loc[found.is_error, ["row", "given_label", "predicted_label"]].values.tolist()
        [[40, 'bad', 'good']]
    """
    with kept_random_states():  # some packages draw random numbers on import
        try:
            import cleanlab  # noqa: F401  # before the folds are trained

            from .data.in_memory import dataset_of_lists
            from .data.sources import split_texts
        except ModuleNotFoundError as error:
            raise missing_extra(CALLER, error) from error
    if "output_dir" in settings:
        raise TypeError(f"{CALLER} has no argument 'output_dir': no model is kept.")
    reading = {name: settings.pop(name) for name in OF_READING if name in settings}
    given = dataset_of_lists(texts, labels)
    with silenced(not show_progress):
        rows = split_texts({"train": given}, validation_size=0, **reading)["train"]
        found = label_errors_in(rows, num_folds, settings)
    if str(given.features["label"].dtype).startswith("int"):
        found = found.astype({"given_label": int, "predicted_label": int})
    return found


def label_errors_in(rows: "Dataset", num_folds: int, settings: Mapping[str, Any]) -> "pd.DataFrame":
    """Return all rows of a loaded dataset, those whose label is most likely wrong first.

    Args:
        rows: Rows with the columns `text` and `label`.
        num_folds: Number of folds.
        settings: As in `find_label_errors`, except for those of reading the rows.

    Returns:
        As in `find_label_errors`, with labels as strings.

    Raises:
        TypeError: As in `find_label_errors`, like the others.
        ValueError: As there.
    """
    import pandas as pd

    from .data.labels import column_of, label_names_of, problem_type_of

    if problem_type_of(rows) != "single_label_classification":
        raise ValueError(
            f"Finding wrong labels needs one class per text, got a problem of type {problem_type_of(rows)}. Pass "
            "labels with one class for each text."
        )
    labels, names = column_of(rows, "label").to_numpy(), np.array(label_names_of(rows), dtype=object)
    probabilities, is_judged = out_of_fold_probabilities(rows, labels, len(names), num_folds, settings)
    of_given = np.where(is_judged, probabilities[np.arange(len(labels)), labels], np.nan)
    found = pd.DataFrame(
        {
            "row": np.arange(len(labels)),
            "text": rows["text"][:],
            "given_label": names[labels],
            "predicted_label": names[probabilities.argmax(axis=1)],
            "predicted_probability": probabilities.max(axis=1).astype(float),
            "given_probability": of_given.astype(float),
            "is_error": False,
        }
    )
    found.loc[is_judged, "is_error"] = are_errors(labels[is_judged], probabilities[is_judged])
    # missing values come last
    return found.sort_values("given_probability", kind="stable", ignore_index=True)


def out_of_fold_probabilities(
    rows: "Dataset", labels: np.ndarray, num_classes: int, num_folds: int, settings: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of each row by the model that was not trained on it, and whether it knows the class.

    Args:
        rows: Rows with the columns `text` and `label`.
        labels: The class id of each row. Shape `(num_rows,)`.
        num_classes: Number of classes.
        num_folds: Number of folds.
        settings: As in `label_errors_in`.

    Returns:
        Probabilities, float32 of shape `(num_rows, num_classes)`, and, of shape `(num_rows,)`, whether the other folds
        have a row of the class.

    Raises:
        TypeError: As in `find_label_errors`, like the others.
        ValueError: As there.
    """
    from .training.from_lists import checked_arguments, train_on_rows

    seed = checked_arguments(settings, CALLER).seed
    folds = folds_of(rows, labels, num_folds, seed)
    is_known = np.empty(len(labels), dtype=bool)
    for fold in range(num_folds):
        known = np.unique(labels[folds != fold])
        if len(known) < 2:
            raise ValueError(
                "At least two classes must have two different texts each, so that the models of all folds know them. "
                "Add rows."
            )
        is_known[folds == fold] = np.isin(labels[folds == fold], known)
    if not is_known.all():
        say(
            f"Warning:  {np.count_nonzero(~is_known):,} rows cannot be judged, because their class has too few "
            "different texts. They come last."
        )
    probabilities = np.empty((len(labels), num_classes), dtype=np.float32)
    with (
        rows_not_cached(),
        warnings.catch_warnings(),
        progress_bar(range(num_folds), desc="Folds", unit="fold") as bar,
    ):
        warnings.simplefilter("ignore", UserWarning)  # of classes with few rows, which was said
        for fold in bar:
            held_out = np.flatnonzero(folds == fold)
            with silenced(fold > 0):
                model, tokenizer, *_ = train_on_rows({"train": rows.select(np.flatnonzero(folds != fold))}, settings)
                texts = rows.select(held_out)["text"][:]
                probabilities[held_out] = TextClassifier(model, tokenizer).predict_proba(texts)
    return probabilities, is_known


def folds_of(rows: "Dataset", labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row: a shuffled deal, class by class. Copies of a text are in the fold of the first one.

    Texts that differ only in case and spaces are copies.

    Args:
        rows: Rows with the column `text`.
        labels: The class id of each row. Shape `(num_rows,)`.
        num_folds: Number of folds.
        seed: Seed of the deal.

    Returns:
        Numbers from 0 to `num_folds - 1`. Shape `(num_rows,)`.

    Raises:
        ValueError: If there are fewer than two folds, or fewer different texts than folds.
    """
    import pyarrow.compute as pc

    from .data.labels import column_of

    if not isinstance(num_folds, int):
        raise TypeError(f"`num_folds` must be an integer, got {num_folds!r:.40}.")
    if num_folds < 2:
        raise ValueError(f"`num_folds` must be at least 2, got {num_folds}.")
    texts = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(column_of(rows, "text")), r"\s+", " "))
    chunks = texts.dictionary_encode().unify_dictionaries().chunks
    text_ids = np.concatenate([chunk.indices.to_numpy() for chunk in chunks])
    _, first = np.unique(text_ids, return_index=True)
    if len(first) < num_folds:
        raise ValueError(
            f"`num_folds` must be at most the number of different texts, {len(first)}, got {num_folds}. Lower it."
        )
    shuffled = np.random.default_rng(seed).permutation(len(first))
    dealt = shuffled[np.argsort(labels[first][shuffled], kind="stable")]
    folds = np.empty(len(first), dtype=np.int64)
    folds[dealt] = np.arange(len(first)) % num_folds
    of_rows: np.ndarray = folds[text_ids]
    return of_rows


def are_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return which labels are wrong according to confident learning (Northcutt et al., 2021), as cleanlab computes it.

    The threshold of a class is the mean probability of the class over the rows labelled with it. A row belongs to the
    class whose threshold its probability reaches or, if there are several, to its most probable class. Its label is an
    error if that is another class, and the given one is not the most probable.

    Args:
        labels: The given class ids. Shape `(num_rows,)`.
        probabilities: Out-of-fold probabilities. Shape `(num_rows, num_classes)`.

    Example:
        >>> are_errors(np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]))
        array([False,  True, False])
    """
    if len(labels) == 0:
        return np.zeros(0, dtype=bool)
    from cleanlab.filter import find_label_issues  # takes seconds

    # its other processes would take longer than the computation
    errors: np.ndarray = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    return errors


@contextmanager
def rows_not_cached() -> Iterator[None]:
    """Keep tokenized rows of files in temporary files: no later run would have the same folds and vocabulary."""
    import datasets

    was_enabled = datasets.is_caching_enabled()
    datasets.disable_caching()
    try:
        yield
    finally:
        if was_enabled:
            datasets.enable_caching()
