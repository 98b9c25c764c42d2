from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")

from rnn_hf.reporting.figures import plot_confusion_matrix


def test_the_confusion_matrix_shows_its_counts_where_they_belong() -> None:
    figure = plot_confusion_matrix([[5, 1, 0], [0, 1200, 0], [0, 0, 0]], ["World", "a|b $x$", "never"])
    (axes,) = figure.axes
    shown = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert (shown[0, 0], shown[0, 1], shown[1, 1], shown[2, 2]) == ("5", "1", "1,200", "0")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["World", "a|b $x$", "never"]
    assert axes.get_ylabel() == "true class"


def test_a_picture_is_written(tmp_path: Path) -> None:
    plot_confusion_matrix([[1, 2], [3, 4]], ["no", "yes"]).savefig(tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
