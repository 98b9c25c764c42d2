"""Pictures of a classifier's results, drawn with matplotlib (`pip install "rnn-hf[plots]"`)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def plot_confusion_matrix(confusion_matrix: Sequence[Sequence[int]], label_names: Sequence[str]) -> Figure:
    """Return a picture of a confusion matrix, each row shaded by its shares so that small classes can be read, too.

    Args:
        confusion_matrix: Counts, true classes as rows, predicted ones as columns. Shape `(num_labels, num_labels)`.
        label_names: Names of the classes in the order of their ids.

    Returns:
        A figure of its own, which no global state of matplotlib knows; save it with `figure.savefig(path)`.
    """
    counts = np.asarray(confusion_matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.6, 0.9 * len(label_names) + 1.2)
    # a background of its own: a page in dark mode must not swallow the letters
    figure = Figure(figsize=(side, side), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(label_names))
    axes.set_xticks(ticks, label_names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(ticks, label_names, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    for row, column in np.ndindex(counts.shape):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color)
    return figure
