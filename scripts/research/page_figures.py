"""Draw the figures of the pages, from the files in `model_cards/`.

    python -m scripts.research.page_figures [FOLDER]

Each is an SVG file for light pages and one for dark pages; its description has the numbers that it shows, as JSON. The
figures are written into `model_cards/figures/`, or into FOLDER. matplotlib is in the extra `plots`.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.commands.explained_words import MOST_OPAQUE, shares
from rnn_hf.explanations import ExplanationMethod
from rnn_hf.files import read_json
from rnn_hf.reporting.seeds import seed_statistics
from rnn_hf.text_classifier import TextClassifier
from scripts.research.panel_datasets import DATASETS
from scripts.research.panel_results import OURS, find_runs, metric_of
from scripts.research.render_model_cards import CARDS
from scripts.research.results_table import split_of, summary

FOLDER = CARDS / "figures"
# In inches; a page shows it 800 pixels wide
WIDTH, HEIGHT = 8.0, 3.9
TITLES = {OURS: "rnn_hf", "tfidf": "TF-IDF", "fasttext": "fastText"}
# Written for the figure
SENTENCE = "The bank that sponsors the club raised its profit forecast."
TITLES_OF_METHODS: dict[ExplanationMethod, str] = {
    "leave_one_out": "Leave one out",
    "integrated_gradients": "Integrated gradients",
}
# Text stays text, in the font of the reader's system
SETTINGS: dict[Any, Any] = {
    "font.size": 10.5,
    "font.sans-serif": ["Segoe UI", "Helvetica", "Arial", "DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "rnn_hf",
    "axes.facecolor": "none",
}


class Theme(NamedTuple):
    """Colors of a page: of text, secondary text, lines, our classifier, the others, and what opposes a label."""

    text: str
    muted: str
    line: str
    ours: str
    other: str
    opposed: str


THEMES = {
    "light": Theme("#1f2328", "#59636e", "#d1d9e0", "#0969da", "#818b98", "#e07a1a"),
    "dark": Theme("#f0f6fc", "#9198a1", "#3d444d", "#4493f8", "#818b98", "#f0963c"),
}


def new_figure(theme: Theme, title: str, x_label: str) -> tuple[Figure, Axes]:
    """Return an empty figure and its axes, with the title of the vertical axis above it."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.line)
    axes.set_xscale("log")
    axes.tick_params(which="both", length=0, labelcolor=theme.muted, pad=6)
    axes.set_xlabel(x_label, color=theme.muted, labelpad=8)
    axes.set_title(title, loc="left", color=theme.muted, fontsize=SETTINGS["font.size"], pad=10)
    return figure, axes


def write(axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write a text beside a point, at a distance in points."""
    axes.annotate(text, place, offset, textcoords="offset points", **({"fontsize": 10.5} | style))


def plot_speed(theme: Theme, numbers: Mapping[str, Any]) -> Figure:
    """Return a figure of the accuracy by the texts a second; a classifier without accuracy is a mark at the bottom.

    Args:
        theme: The colors.
        numbers: `num_rows` of the mean, and `classifiers`, a mapping from names to `summary` rows.
    """
    figure, axes = new_figure(
        theme,
        f"test accuracy, %, mean of {numbers['num_rows']} training sets",
        "texts classified a second on two CPU cores",
    )
    accuracies = {
        name: 100 * row["mean_accuracy"]
        for name, row in numbers["classifiers"].items()
        if row["mean_accuracy"] is not None
    }
    low, high = min(accuracies.values()), max(accuracies.values())
    bottom = math.floor(low - 0.3 * (high - low))
    rates = [row["texts_per_second"] for row in numbers["classifiers"].values()]
    slowest = 10 ** math.floor(math.log10(min(rates)))
    axes.set(xlim=(slowest, 2.5 * max(rates)), ylim=(bottom, high + 0.2 * (high - low)))
    axes.yaxis.set_major_locator(MultipleLocator(2))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for name, row in numbers["classifiers"].items():
        rate, is_ours = row["texts_per_second"], name == TITLES[OURS]
        color = theme.ours if is_ours else theme.other
        if name not in accuracies:
            axes.plot([rate], [bottom], marker="^", markersize=9, color=color, clip_on=False, zorder=3)
            write(axes, name, (rate, bottom), (9, 18), color=theme.text)
            write(axes, f"{rate:,.0f} a second, accuracy not measured", (rate, bottom), (9, 6), color=theme.muted)
            continue
        place = rate, accuracies[name]
        axes.plot(*place, marker="o", markersize=14 if is_ours else 11, color=color, zorder=3)
        style = {"color": theme.ours, "fontsize": 14, "fontweight": "bold"} if is_ours else {"color": theme.text}
        write(axes, f"{name}  {accuracies[name]:.1f} %", place, (-14, 1), ha="right", **style)
        write(axes, f"{rate:,.0f} a second", place, (-14, -11), ha="right", color=theme.muted)
    return figure


def plot_learning_curve(theme: Theme, numbers: Mapping[str, Mapping[int, Sequence[float]]]) -> Figure:
    """Return a figure of the test accuracy by the number of training rows, mean ± standard deviation over seeds.

    Args:
        theme: The colors.
        numbers: For each classifier, the accuracies of its runs by the number of training rows.
    """
    figure, axes = new_figure(theme, "test accuracy on AG News, %", "training rows")
    axes.grid(axis="y", color=theme.line, linewidth=0.8)
    heights = count(6, -14)
    for name, by_rows in numbers.items():
        over_seeds = {num_rows: seed_statistics(accuracies) for num_rows, accuracies in by_rows.items()}
        is_ours = name == TITLES[OURS]
        color = theme.ours if is_ours else theme.other
        means = [100 * figures.mean for figures in over_seeds.values()]
        spreads = [100 * (figures.standard_deviation or 0) for figures in over_seeds.values()]
        axes.errorbar(
            list(over_seeds), means, spreads,
            color=color, marker="o", markersize=6, linewidth=2.2 if is_ours else 1.6, capsize=3, zorder=3,
        )  # fmt: skip
        # the curves end close to each other
        style = {"color": theme.ours, "fontsize": 13, "fontweight": "bold"} if is_ours else {"color": theme.text}
        write(axes, name, (list(over_seeds)[-1], means[-1]), (9, next(heights)), **style)
    all_rows = sorted({num_rows for by_rows in numbers.values() for num_rows in by_rows})
    axes.set_xticks(all_rows, [f"{num_rows:,}" for num_rows in all_rows])
    axes.set_xticks([], minor=True)
    axes.set_xlim(all_rows[0] / 1.15, all_rows[-1] * 1.7)
    return figure


def plot_explanation(theme: Theme, numbers: Mapping[str, Any]) -> Figure:
    """Return a figure of a sentence, colored by the contributions of its words, once for each method.

    Args:
        theme: The colors.
        numbers: `words`, the `label`, and `methods`, each with its name, the score and its unit, and `contributions`.
    """
    figure = Figure(figsize=(WIDTH, 2.4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 72 * WIDTH), ylim=(0, 72 * 2.4))  # in points
    axes.set_axis_off()
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]  # matplotlib does not type it
    for row, method in enumerate(numbers["methods"]):
        top = 72 * 2.4 - 16 - 84 * row
        name, label = TITLES_OF_METHODS[method["method"]], numbers["label"]
        title = f"{name}: {method['unit']} of “{label}”, {method['score']:.2f}"
        axes.text(10, top, title, color=theme.muted, va="center")
        x = 14.0
        contributions = method["contributions"]
        for word, number, share in zip(numbers["words"], contributions, shares(contributions), strict=True):
            color = theme.ours if share > 0 else theme.opposed
            style = {
                "boxstyle": "round,pad=0.3",
                "edgecolor": "none",
                "facecolor": to_rgba(color, MOST_OPAQUE * abs(share)),
            }
            shown = axes.text(x, top - 26, word, color=theme.text, ha="center", va="center", fontsize=12, bbox=style)
            value = f"{number:+.2f}"
            width = max(shown.get_window_extent(renderer).width * 72 / figure.dpi, 30)
            shown.set_x(x + width / 2)  # centered, because the reader's font may be narrower
            axes.text(x + width / 2, top - 48, value, color=theme.muted, ha="center", va="center", fontsize=9)
            x += width + 11
    return figure


def speed_numbers() -> dict[str, Any]:
    """Return what `plot_speed` shows."""
    compared, num_rows = summary()
    kept = ("mean_accuracy", "texts_per_second")
    return {
        "num_rows": num_rows,
        "classifiers": {name: {key: row[key] for key in kept} for name, row in compared.items()},
    }


def learning_curve_numbers() -> dict[str, dict[int, list[float]]]:
    """Return what `plot_learning_curve` shows: the rows of the panel that are samples of AG News."""
    panel = read_json(CARDS / "panel.json")
    split, title = split_of(panel), DATASETS["ag_news"].title
    curves: dict[str, dict[int, list[float]]] = {name: {} for name in TITLES.values()}
    for model, name in TITLES.items():
        for dataset in (dataset for dataset in DATASETS if DATASETS[dataset].title == title):
            # seeds that train on the same rows share the result of a peer
            found = {run["key"]: run for run in find_runs(panel, dataset=dataset, split=split, model=model)}
            if found:
                num_rows = next(iter(found.values()))["num_train_rows"]
                curves[name][num_rows] = [metric_of(run) for run in found.values()]
    return curves


def explanation_numbers() -> dict[str, Any]:
    """Return what `plot_explanation` shows: both explanations of a sentence by the model of AG News."""
    classifier = TextClassifier.from_pretrained(CARDS / "ag-news")
    explanations = [classifier.explain(SENTENCE, method=method) for method in TITLES_OF_METHODS]
    return {
        "words": explanations[0].words,
        "label": explanations[0].label,
        "methods": [
            {
                "method": explanation.method,
                "unit": explanation.unit,
                "score": round(explanation.score, 2),
                "contributions": [round(number, 2) + 0.0 for number in explanation.contributions],
            }
            for explanation in explanations
        ],
    }


FIGURES: dict[str, tuple[Callable[[Theme, Any], Figure], Callable[[], Any]]] = {
    "speed": (plot_speed, speed_numbers),
    "learning_curve": (plot_learning_curve, learning_curve_numbers),
    "explanation": (plot_explanation, explanation_numbers),
}


@exit_statuses("page_figures")
def main(argv: Sequence[str] | None = None) -> None:
    """Draw all figures."""
    words = sys.argv[1:] if argv is None else list(argv)
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return
    with user_errors():
        folder = Path(words[0]) if words else FOLDER
        for name, (plot, numbers_of) in FIGURES.items():
            numbers = numbers_of()
            for theme, colors in THEMES.items():
                path = folder / f"{name}-{theme}.svg"
                with rc_context(SETTINGS):
                    metadata = {"Date": None, "Description": json.dumps(numbers)}
                    plot(colors, numbers).savefig(path, transparent=True, metadata=metadata)
                print(f"Written: {path}")


if __name__ == "__main__":
    main()
