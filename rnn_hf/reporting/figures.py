"""Figures of a classifier's results, drawn with matplotlib (`pip install "rnn-hf[plots]"`).

Every function returns a new figure that is not registered with pyplot; save it with `figure.savefig(path)`. The
background is white, so that text stays readable on a dark page.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from rnn_hf.errors import plain
from rnn_hf.training.metrics import ConfusionMatrix, confusion_entries

# Sizes in inches; a page shows a figure about 600 pixels wide
WIDTH = 6.0
DOTS_PER_INCH = 150
NUM_COLORS = 64
# With more classes, counts or names would overlap
MOST_COUNTS, MOST_NAMES = 12, 30
# Cells along one side of a confusion matrix
MOST_CELLS = 250
LONGEST_NAME = 20


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def plot_confusion_matrix(confusion_matrix: ConfusionMatrix, label_names: Sequence[str]) -> Figure:
    """Return a figure of a confusion matrix, colored by the share of each cell in its row.

    Args:
        confusion_matrix: The `"confusion_matrix"` of `classification_metrics`, in either form.
        label_names: Names of the classes in the order of their ids.
    """
    true, predicted, count = confusion_entries(confusion_matrix)
    # thousands of classes have more cells than the figure has pixels, so neighbors share a cell
    per_cell = math.ceil(len(label_names) / MOST_CELLS)
    num_cells = math.ceil(len(label_names) / per_cell)
    counts = np.zeros((num_cells, num_cells), dtype=int)
    np.add.at(counts, (true // per_cell, predicted // per_cell), count)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(3.6, 0.9 * len(label_names) + 1.2), 1.25 * WIDTH)
    figure = new_figure(side, side)
    axes = figure.add_subplot()
    end = per_cell * num_cells - 0.5
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, extent=(-0.5, end, end, -0.5))
    if len(label_names) <= MOST_NAMES:
        size = 10 if len(label_names) <= MOST_COUNTS else 7
        names = [shortened(name) for name in label_names]
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=size, parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(label_names) <= MOST_COUNTS:
        for row, column in np.ndindex(counts.shape):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color)
    return figure


def plot_learning_curves(log: Sequence[Mapping[str, Any]]) -> Figure:
    """Return a figure of loss and score by step; those of training are running means over the epoch.

    Args:
        log: Entries in the order of their steps, with `"step"` and any of `"loss"`, `"validation_loss"`,
            `"train_accuracy"` and another `"validation_..."`, the metric that selects the weights.
    """
    scores = [name for name in {name: None for entry in log for name in entry} if name.startswith("validation_")]
    scores = [name for name in scores if name != "validation_loss"]
    title = "accuracy" if scores in ([], ["validation_accuracy"]) else "score"
    panels = {"loss": ["loss", "validation_loss"], title: ["train_accuracy", *scores]}
    points = {
        name: [(entry["step"], entry[name]) for entry in log if entry.get(name) is not None]
        for names in panels.values()
        for name in names
    }
    panels = {title: [name for name in names if points[name]] for title, names in panels.items()}
    panels = {title: names for title, names in panels.items() if names}
    figure = new_figure(WIDTH / 2 * len(panels), 2.8)
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name in names:
            is_validation = name.startswith("validation_")
            label = "validation" if is_validation else "training"
            if title == "score":
                label = name.replace("_", " ")
            axes.plot(
                *zip(*points[name], strict=True), "s--C1" if is_validation else "o-C0", markersize=4, label=label
            )
        axes.set(xlabel="step", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def plot_reliability(calibration: Mapping[str, Any]) -> Figure:
    """Return a reliability diagram: the accuracy by confidence, and below it the number of rows by confidence.

    A classifier whose bars end on the diagonal is well calibrated; bars below it mean overconfidence (Guo et al.,
    2017).

    Args:
        calibration: `"expected_calibration_error"`, and `"bins"` with `"above"`, `"up_to"`, `"count"`,
            `"mean_confidence"` and `"accuracy"`.
    """
    bins = calibration["bins"]
    left = [entry["above"] for entry in bins]
    widths = [entry["up_to"] - entry["above"] for entry in bins]
    figure = new_figure(0.75 * WIDTH, 0.8 * WIDTH)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.bar(
        left,
        [entry["accuracy"] for entry in bins],
        widths,
        align="edge",
        color="#9ec5e8",
        edgecolor="white",
        label="accuracy",
    )
    upper.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="perfect calibration")
    upper.plot(
        [entry["mean_confidence"] for entry in bins],
        [entry["accuracy"] for entry in bins],
        "o", color="C0", markersize=4, label="mean confidence of the bin",
    )  # fmt: skip
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    upper.set_title(f"expected calibration error {100 * calibration['expected_calibration_error']:.1f} %")
    upper.legend(frameon=False, loc="upper left", fontsize=9)
    lower.bar(left, [entry["count"] for entry in bins], widths, align="edge", color="0.6", edgecolor="white")
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="rows")
    return figure


def draw_figures(results: Mapping[str, Any], folder: Path) -> None:
    """Draw the figures that the results of a run have data for, and remove other figures of an earlier run.

    Args:
        results: Content of `all_results.json`.
        folder: Folder for the figures; it is created if there is one to draw.
    """
    figures = {}
    if any(entry.keys() & {"loss", "validation_loss"} for entry in results.get("log") or ()):
        figures["learning_curves"] = plot_learning_curves(results["log"])
    if results.get("test_confusion_matrix") is not None and results.get("test_per_class") is not None:
        labels = list(results["test_per_class"])
        figures["confusion_matrix"] = plot_confusion_matrix(results["test_confusion_matrix"], labels)
    # the card discusses the calibration of a model that was calibrated
    if results.get("temperature") is not None and results.get("test_calibration") is not None:
        figures["reliability"] = plot_reliability(results["test_calibration"])
    for name in ("learning_curves", "confusion_matrix", "reliability"):
        path = folder / f"{name}.png"
        path.unlink(missing_ok=True)
        if name in figures:
            folder.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings():
                # characters that the font lacks are drawn as boxes
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
                save_small(figures[name], path)


def save_small(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file with few colors, which is much smaller and looks the same."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DOTS_PER_INCH)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(NUM_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


def shortened(name: str) -> str:
    """Return a name on one line, truncated so that it leaves room for the figure."""
    name = plain(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
