"""The results of the panel: metrics, paired differences with their standard errors, the table."""

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, r2_score
from sklearn.preprocessing import MultiLabelBinarizer

from rnn_hf.reporting.markdown import escaped, table
from rnn_hf.reporting.seeds import percent
from scripts.research.panel_datasets import DATASETS, Kind
from scripts.research.panel_peers import TITLES

Run = dict[str, Any]

OURS = "ours"
# The metric that classifiers are compared by, and its title
METRICS: dict[Kind, tuple[str, str]] = {
    "one label": ("accuracy", "accuracy"),
    "several labels": ("macro_f1", "macro F1"),
    "regression": ("r2", "R²"),
}
NUM_RESAMPLES, BOOTSTRAP_SEED = 500, 0


def metric_of(run: Mapping[str, Any]) -> float:
    """Return the metric that a run is compared by."""
    return float(run[METRICS[DATASETS[run["dataset"]].kind][0]])


def measure(kind: Kind, labels: Sequence[Any], answers: Sequence[Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of answers, and what a paired comparison needs of them.

    Args:
        kind: What was predicted.
        labels: The true labels.
        answers: The predicted ones.
        classes: All classes, if a text may have several.
    """
    if kind == "regression":
        numbers = np.asarray(answers, dtype="<f4").reshape(-1)
        return {"r2": float(r2_score(labels, numbers)), "answers": packed(numbers.tobytes())}
    if kind == "one label":
        found = [str(answer) for answer in answers]
        is_right = np.array([label == answer for label, answer in zip(labels, found, strict=True)])
        return {**f1_and_accuracy(labels, found), "answers": packed(np.packbits(is_right).tobytes())}
    truths, founds = multi_hot(labels, classes), multi_hot(answers, classes)
    micro_f1 = float(f1_score(truths, founds, average="micro", zero_division=0))
    metrics = {**f1_and_accuracy(truths, founds), "micro_f1": micro_f1}
    return {**metrics, "answers": packed(np.packbits(founds).tobytes())}


def f1_and_accuracy(truth: Any, found: Any) -> dict[str, float]:
    """Return accuracy, which counts a text with several labels if all are right, and macro F1."""
    return {
        "accuracy": float(accuracy_score(truth, found)),
        "macro_f1": float(f1_score(truth, found, average="macro", zero_division=0)),
    }


def multi_hot(labels: Sequence[Sequence[Any]], classes: Sequence[str]) -> np.ndarray:
    """Return 1 for each class of a text and 0 for the others. Shape `(num_texts, num_classes)`."""
    names = [[str(name) for name in of_text] for of_text in labels]
    return np.asarray(MultiLabelBinarizer(classes=list(classes)).fit_transform(names), dtype=np.int64)


def packed(content: bytes) -> str:
    """Return bytes as compressed text for a JSON file."""
    return base64.b64encode(zlib.compress(content, 9)).decode()


def unpacked_bits(text: str, num_bits: int) -> np.ndarray:
    """Return bits that `measure` has packed, as numbers 0 and 1."""
    content = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(content, count=num_bits).astype(np.int64)


def standard_error_of_difference(
    kind: Kind, pairs: Sequence[tuple[Run, Run]], labels: Sequence[Any], classes: Sequence[str]
) -> float:
    """Return the standard error, over measured rows, of the mean difference between two classifiers.

    With one label a text it is that of the mean over rows, where a row counts the difference in correctness, averaged
    over the seeds. Otherwise it is the standard deviation over bootstrap samples of the rows (Efron, 1979), averaged
    over the seeds.

    Args:
        kind: What was predicted.
        pairs: The runs of both classifiers with each seed.
        labels: The true labels.
        classes: All classes, if a text may have several.
    """
    num_rows = len(labels)
    if kind == "one label":
        differences = [
            np.subtract(*(unpacked_bits(run["answers"], num_rows) for run in pair)).astype(float) for pair in pairs
        ]
        return float(np.mean(differences, axis=0).std(ddof=1) / math.sqrt(num_rows))
    counts = np.random.default_rng(BOOTSTRAP_SEED).multinomial(num_rows, [1 / num_rows] * num_rows, NUM_RESAMPLES)
    errors = []
    for pair in pairs:
        one, other = (resampled(kind, counts, run["answers"], labels, classes) for run in pair)
        errors.append(float((one - other).std(ddof=1)))
    return fmean(errors)


def resampled(
    kind: Kind, counts: np.ndarray, answers: str, labels: Sequence[Any], classes: Sequence[str]
) -> np.ndarray:
    """Return the metric of each bootstrap sample: macro F1 or R2.

    Args:
        kind: What was predicted.
        counts: How often a sample has each row. Shape `(num_samples, num_rows)`.
        answers: The packed answers.
        labels: The true labels.
        classes: All classes, if a text may have several.
    """
    if kind == "regression":
        truth = np.asarray(labels, dtype=np.float64)
        found = np.frombuffer(zlib.decompress(base64.b64decode(answers)), "<f4").astype(np.float64)
        num_rows = counts.sum(axis=1)
        variance = counts @ truth**2 - (counts @ truth) ** 2 / num_rows
        return np.asarray(1 - counts @ (truth - found) ** 2 / variance)
    truth = multi_hot(labels, classes)
    found = unpacked_bits(answers, truth.size).reshape(truth.shape)
    weights = counts.astype(np.float64)
    num_right, num_either = weights @ (truth * found), weights @ (truth + found)
    return np.asarray((2 * num_right / np.maximum(num_either, 1)).mean(axis=1))


def comparison(
    name: str, ours: Sequence[Run], peers: Sequence[Run], labels: Sequence[Any], classes: Sequence[str]
) -> dict[str, Any] | None:
    """Return the difference between our classifier and the better peer, over the seeds that both have.

    Args:
        name: Name of the dataset.
        ours: The runs of our classifier.
        peers: The runs of all peers on the same rows.
        labels: The true labels of the measured rows.
        classes: All classes, if a text may have several.

    Returns:
        The peer, the difference, its standard error and the seeds; `None` without a common seed.
    """
    of_ours = {run["seed"]: run for run in ours}
    of_peers: dict[str, list[tuple[Run, Run]]] = {}
    for run in peers:
        if run["seed"] in of_ours:
            of_peers.setdefault(run["model"], []).append((of_ours[run["seed"]], run))
    if not of_peers:
        return None
    best = max(of_peers, key=lambda peer: fmean(metric_of(run) for _, run in of_peers[peer]))
    pairs = of_peers[best]
    return {
        "peer": best,
        "difference": fmean(metric_of(one) - metric_of(other) for one, other in pairs),
        "standard_error": standard_error_of_difference(DATASETS[name].kind, pairs, labels, classes),
        "seeds": [one["seed"] for one, _ in pairs],
    }


def runs_of(content: Mapping[str, Any], split: str, dataset: str, model: str) -> list[Run]:
    """Return the runs of a classifier on a dataset, and if ours has several columns, those of the first one."""
    runs = [run for run in content["runs"] if (run["split"], run["model"]) == (split, model)]
    return [run for run in runs if (run["dataset"], run["name"]) == (dataset, runs[0]["name"])]


def mean_accuracies(content: Mapping[str, Any], split: str, models: Sequence[str]) -> tuple[dict[str, float], int]:
    """Return the mean accuracy of some classifiers over the rows of the panel on which all of them were measured.

    Only rows count that have one label a text, and blanks between the words, which all classifiers expect; of their
    runs, those with seeds that all classifiers have.

    Args:
        content: Content of the file of results.
        split: `"validation"` or `"test"`.
        models: Names of the classifiers.

    Returns:
        The mean of each classifier, and the number of rows; no means if there is no such row.
    """
    accuracies: dict[str, list[float]] = {model: [] for model in models}
    for name, dataset in DATASETS.items():
        if dataset.kind != "one label" or dataset.without_blanks:
            continue
        found = {model: {run["seed"]: run for run in runs_of(content, split, name, model)} for model in models}
        seeds = set.intersection(*map(set, found.values()))
        if seeds:
            for model, of_seeds in found.items():
                accuracies[model].append(fmean(metric_of(of_seeds[seed]) for seed in seeds))
    num_rows = len(accuracies[models[0]])
    return {model: fmean(of_rows) for model, of_rows in accuracies.items() if of_rows}, num_rows


def panel_table(content: Mapping[str, Any], split: str) -> str:
    """Return the panel as a table: a row for each dataset, a column for each classifier.

    Shares and R2 are in percent: mean ± standard deviation over the seeds, or a single number where a peer was trained
    once. The difference is between the first column of ours and the best of the peers, ± its standard error over the
    measured rows.

    Args:
        content: Content of the file of results.
        split: `"validation"` or `"test"`.
    """
    runs = [run for run in content["runs"] if run["split"] == split]
    names = list(dict.fromkeys(run["name"] for run in runs if run["model"] == OURS))
    peers = [peer for peer in TITLES if any(run["model"] == peer for run in runs)]
    compared = {
        found["dataset"]: found
        for found in content["comparisons"]
        if found["split"] == split and names and found["name"] == names[0]
    }
    rows = []
    for dataset in DATASETS:
        of_dataset = [run for run in runs if run["dataset"] == dataset]
        if not of_dataset:
            continue
        columns = [[run for run in of_dataset if run["model"] == OURS and run["name"] == name] for name in names]
        columns += [[run for run in of_dataset if run["model"] == peer] for peer in peers]
        scores = [shown_scores(column) for column in columns]
        title, kind = DATASETS[dataset].title, DATASETS[dataset].kind
        title += "" if kind == "one label" else f" ({METRICS[kind][1]})"
        first = of_dataset[0]
        facts = [title, f"{first['num_train_rows']:,}", "" if kind == "regression" else f"{first['num_classes']:,}"]
        rows.append(
            [*facts, *scores, _shown_difference(compared.get(dataset)), *_of_ours(columns[0] if names else [])]
        )
    if compared:
        mean_difference = f"{100 * fmean(found['difference'] for found in compared.values()):+.1f}"
        rows.append(["mean", "", "", *[""] * (len(names) + len(peers)), mean_difference, "", "", ""])
    titles = [
        "dataset", "rows", "classes", *map(escaped, names), *(TITLES[peer] for peer in peers),
        "difference to the better peer", "macro F1, %", "training, s", "MB",
    ]  # fmt: skip
    return table(titles, rows)


def shown_scores(runs: Sequence[Run]) -> str:
    """Return the metric of runs in percent, with its spread over different runs.

    Seeds with the same rows share the result of a peer, which is then shown without a spread.
    """
    different = {run["key"]: metric_of(run) for run in runs}
    return percent(list(different.values())) if runs else ""


def _shown_difference(found: Mapping[str, Any] | None) -> str:
    return f"{100 * found['difference']:+.1f} ± {100 * found['standard_error']:.1f}" if found else ""


def _of_ours(runs: Sequence[Run]) -> list[str]:
    """Return the cells of macro F1, seconds and megabytes."""
    if not runs:
        return ["", "", ""]
    macro_f1 = percent([run["macro_f1"] for run in runs]) if "macro_f1" in runs[0] else ""
    return [macro_f1, *(f"{fmean(run[key] for run in runs):.{digits}f}" for key, digits in TIMES_AND_SIZES)]


TIMES_AND_SIZES = (("seconds", 0), ("megabytes", 1))
