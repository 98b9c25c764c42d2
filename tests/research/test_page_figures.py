import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")

from scripts.research import page_figures as script

SVG, DUBLIN_CORE = "{http://www.w3.org/2000/svg}", "{http://purl.org/dc/elements/1.1/}"
SPEED = {
    "num_rows": 9,
    "classifiers": {
        "rnn_hf": {"mean_accuracy": 0.9, "texts_per_second": 12_345.6},
        "TF-IDF": {"mean_accuracy": 0.85, "texts_per_second": 9_000.0},
        "MiniLM": {"mean_accuracy": None, "texts_per_second": 20.4},
    },
}


def numbers_in(file: Path) -> Any:
    """Return the numbers that a figure was drawn from."""
    return json.loads(next(ElementTree.parse(file).iter(f"{DUBLIN_CORE}description")).text or "")


def words_in(file: Path) -> list[str]:
    return [text.text or "" for text in ElementTree.parse(file).iter(f"{SVG}text")]


@pytest.mark.parametrize("theme", script.THEMES)
@pytest.mark.parametrize("name", script.FIGURES)
def test_a_stored_figure_shows_what_the_files_say(name: str, theme: str) -> None:
    """Draw it again with `python -m scripts.research.page_figures`."""
    _, numbers_of = script.FIGURES[name]
    file = script.FOLDER / f"{name}-{theme}.svg"
    assert numbers_in(file) == json.loads(json.dumps(numbers_of()))
    assert script.THEMES[theme].ours in file.read_text()
    assert file.stat().st_size < 25_000


def test_every_figure_is_on_a_page() -> None:
    """In its light and its dark version."""
    root = script.CARDS.parent
    pages = "".join((root / name).read_text() for name in ("README.md", "model_cards/README.md", "scripts/README.md"))
    for file in script.FOLDER.iterdir():
        assert f"figures/{file.name}" in pages


@pytest.mark.parametrize("theme", script.THEMES.values(), ids=script.THEMES)
def test_the_figure_of_speed_names_every_number(theme: script.Theme, tmp_path: Path) -> None:
    with script.rc_context(script.SETTINGS):
        script.plot_speed(theme, SPEED).savefig(tmp_path / "speed.svg")
    words = words_in(tmp_path / "speed.svg")
    assert {"rnn_hf  90.0 %", "12,346 a second", "TF-IDF  85.0 %", "9,000 a second"} <= set(words)
    assert "20 a second, accuracy not measured" in words
    assert "test accuracy, %, mean of 9 training sets" in words


def test_a_classifier_without_accuracy_is_at_the_bottom_and_no_point() -> None:
    (axes,) = script.plot_speed(script.THEMES["light"], SPEED).axes
    points = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines}
    assert points["^"] == [[20.4, axes.get_ylim()[0]]]
    circles = [line.get_xydata().tolist()[0] for line in axes.lines if line.get_marker() == "o"]
    assert circles == [[12_345.6, pytest.approx(90)], [9_000.0, pytest.approx(85)]]


def test_the_learning_curve_shows_the_mean_and_the_spread_of_the_seeds() -> None:
    numbers = {"rnn_hf": {1000: [0.5, 0.7], 2000: [0.8]}, "TF-IDF": {1000: [0.6]}}
    (axes,) = script.plot_learning_curve(script.THEMES["dark"], numbers).axes
    ours, other = axes.containers
    assert ours[0].get_xydata().tolist() == [[1000, pytest.approx(60)], [2000, 80]]
    ((low, high), *_) = [segment[:, 1] for segment in ours[2][0].get_segments()]
    assert high - low == pytest.approx(2 * 100 * 0.1414, rel=1e-3)
    assert other[0].get_xydata().tolist() == [[1000, 60]]
    assert [text.get_text() for text in axes.texts] == ["rnn_hf", "TF-IDF"]


@pytest.mark.parametrize("theme", script.THEMES.values(), ids=script.THEMES)
def test_the_figure_of_an_explanation_colors_the_words_by_their_shares(theme: script.Theme) -> None:
    method = {"method": "leave_one_out", "unit": "probability", "score": 0.9, "contributions": [0.5, -0.25, 0.0]}
    numbers = {"words": ["good", "not", "the"], "label": "praise", "methods": [method]}
    (axes,) = script.plot_explanation(theme, numbers).axes
    texts = {text.get_text(): text for text in axes.texts}
    assert {"good", "+0.50", "not", "-0.25", "the", "+0.00"} < set(texts)
    assert "Leave one out: probability of “praise”, 0.90" in texts
    boxes = {name: texts[name].get_bbox_patch().get_facecolor() for name in ("good", "not", "the")}
    assert boxes["good"] == script.to_rgba(theme.ours, 0.65) and boxes["not"] == script.to_rgba(theme.opposed, 0.325)
    assert boxes["the"][3] == 0
    places = [texts[name].get_window_extent() for name in ("good", "not", "the")]
    assert places[0].x1 < places[1].x0 and places[1].x1 < places[2].x0


def test_the_figures_are_written_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.main([str(tmp_path)])
    files = {f"{name}-{theme}.svg" for name in script.FIGURES for theme in script.THEMES}
    assert {file.name for file in tmp_path.iterdir()} == files
    assert capsys.readouterr().out.count("Written: ") == len(files)
