import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")

from PIL import Image

from rnn_hf.reporting.figures import (
    LONGEST_NAME,
    MOST_CELLS,
    draw_figures,
    plot_confusion_matrix,
    plot_learning_curves,
    plot_reliability,
)

pytestmark = pytest.mark.draws

LOG = [
    {"step": 5, "loss": 0.9, "train_accuracy": 0.6, "learning_rate": 0.1},
    {"step": 7, "validation_accuracy": 0.65, "validation_loss": 0.8},
    {"step": 10, "loss": 0.5, "train_accuracy": 0.75, "learning_rate": 0.1},
]
CALIBRATION = {
    "expected_calibration_error": 0.0512,
    "num_bins": 2,
    "bins": [
        {"above": 0.0, "up_to": 0.5, "count": 3, "mean_confidence": 0.4, "accuracy": 1 / 3},
        {"above": 0.5, "up_to": 1.0, "count": 5, "mean_confidence": 0.7, "accuracy": 0.8},
    ],
}
RESULTS: dict[str, Any] = {
    "log": LOG,
    "test_confusion_matrix": [[3, 1], [0, 4]],
    "test_per_class": {"no": {}, "yes": {}},
    "test_calibration": CALIBRATION,
    "temperature": 1.5,
}


def test_the_confusion_matrix_shows_its_counts_where_they_belong() -> None:
    figure = plot_confusion_matrix([[5, 1, 0], [0, 1200, 0], [0, 0, 0]], ["World", "a|b $x$", "never"])
    (axes,) = figure.axes
    shown = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert (shown[0, 0], shown[0, 1], shown[1, 1], shown[2, 2]) == ("5", "1", "1,200", "0")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["World", "a|b $x$", "never"]
    assert axes.get_ylabel() == "true class"


@pytest.mark.parametrize("num_classes", [40, MOST_CELLS + 1])
def test_the_confusion_matrix_of_many_classes_is_drawn_from_its_entries(num_classes: int) -> None:
    entries = {"true": [0, 0, num_classes - 1], "predicted": [0, num_classes - 1, 2], "count": [3, 1, 5]}
    (axes,) = plot_confusion_matrix(entries, [f"class {index}" for index in range(num_classes)]).axes
    (image,) = axes.images
    shares = image.get_array()
    assert image.get_extent()[1] + 0.5 >= num_classes and max(shares.shape) <= MOST_CELLS
    assert (shares[0, 0], shares[0, -1], shares.sum()) == (0.75, 0.25, 2)
    assert shares[-1, 2 if num_classes <= MOST_CELLS else 1] == 1


def test_a_picture_is_written(tmp_path: Path) -> None:
    plot_confusion_matrix([[1, 2], [3, 4]], ["no", "yes"]).savefig(tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_the_learning_curves_go_through_what_was_logged() -> None:
    loss, accuracy = plot_learning_curves(LOG).axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert curves == {"training": [[5, 0.9], [10, 0.5]], "validation": [[7, 0.8]]}
    curves = {line.get_label(): line.get_xydata().tolist() for line in accuracy.lines}
    assert curves == {"training": [[5, 0.6], [10, 0.75]], "validation": [[7, 0.65]]}
    assert (loss.get_title(), accuracy.get_title(), accuracy.get_xlabel()) == ("loss", "accuracy", "step")


def test_the_learning_curves_of_a_regression_show_its_own_score() -> None:
    log = [{"step": 1, "loss": 2.0, "train_accuracy": None}, {"step": 1, "validation_r2": 0.3, "validation_loss": 1.0}]
    _, score = plot_learning_curves(log).axes
    assert score.get_title() == "score"
    assert {line.get_label(): line.get_ydata().tolist() for line in score.lines} == {"validation r2": [0.3]}
    (loss,) = plot_learning_curves(log[:1]).axes
    assert loss.get_title() == "loss"


def test_the_reliability_diagram_shows_accuracy_and_rows_of_every_bin() -> None:
    upper, lower = plot_reliability(CALIBRATION).axes
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in upper.patches]
    assert bars == [(0, 0.5, 1 / 3), (0.5, 0.5, 0.8)]
    assert [bar.get_height() for bar in lower.patches] == [3, 5]
    assert [0.4, 1 / 3] in upper.lines[1].get_xydata().tolist()
    assert "5.1 %" in upper.get_title()


def test_figures_are_drawn_of_what_there_is_and_old_ones_are_removed(tmp_path: Path) -> None:
    draw_figures(RESULTS, tmp_path / "figures")
    names = {"learning_curves.png", "confusion_matrix.png", "reliability.png"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    for absent in ("test_calibration", "temperature"):
        draw_figures(RESULTS, tmp_path / "figures")
        draw_figures(RESULTS | {absent: None}, tmp_path / "figures")
        assert {path.name for path in (tmp_path / "figures").iterdir()} == names - {"reliability.png"}
    draw_figures({"log": []}, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("num_labels", [12, 30, 200])
def test_figures_are_small_and_white_and_wide_enough(num_labels: int, tmp_path: Path) -> None:
    matrix = [[(7 * row + 13 * column) % 90 for column in range(num_labels)] for row in range(num_labels)]
    labels = {f"the class with the number {index}": {} for index in range(num_labels)}
    draw_figures(RESULTS | {"test_confusion_matrix": matrix, "test_per_class": labels}, tmp_path)
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 60_000
        with Image.open(path) as image:
            assert image.width >= 500
            assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_a_run_that_diverged_has_figures(tmp_path: Path) -> None:
    nan = float("nan")
    entry = {"above": 0.5, "up_to": 1.0, "count": 8, "mean_confidence": nan, "accuracy": 0.5}
    calibration = {"expected_calibration_error": nan, "num_bins": 2, "bins": [entry]}
    log = [{"step": 1, "loss": nan}]
    draw_figures({"log": log, "test_calibration": calibration, "temperature": 1.0}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"learning_curves.png", "reliability.png"}


@pytest.mark.parametrize("label", ["two\nlines", "$x$ $", "\x00\ud800", "日本語 😀", "x" * 500, "", "%s\\n"])
def test_every_label_can_be_drawn_without_a_word(label: str, tmp_path: Path) -> None:
    results = {"test_confusion_matrix": [[3, 1], [0, 4]], "test_per_class": {label: {}, "yes": {}}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_figures(results, tmp_path)
    (axes,) = plot_confusion_matrix([[3, 1], [0, 4]], [label, "yes"]).axes
    assert len(axes.get_yticklabels()[0].get_text()) <= LONGEST_NAME
