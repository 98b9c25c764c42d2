"""The lesson page in a real Chromium: run with `pytest -m browser`, which needs Chromium, Node and npm."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_hf.lesson_page.page import STRINGS_FILE, LabelledTexts, write_lesson_page
from rnn_hf.lesson_page.readings import Reading
from rnn_hf.text_classifier import TextClassifier
from tests.tiny_classifiers import TEXTS, make_classifier

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

SHOWN = ["the cat and a dog sat on <b>a mat</b>", "a dog and a mat"]
STRINGS = json.loads(STRINGS_FILE.read_text())


@pytest.fixture(scope="module")
def classifiers() -> dict[str, TextClassifier]:
    sizes: dict[str, Any] = {"embedding_size": 5, "hidden_size": 4, "recurrent_initializer": "uniform"}
    return {
        "rnn": make_classifier(**sizes, cell_type="rnn", classifier_pooling="mean_max"),
        "lstm": make_classifier(**sizes, cell_type="lstm", classifier_pooling="last", bidirectional=True),
        "gru": make_classifier(**sizes, cell_type="gru", classifier_pooling="attention", num_hidden_layers=2),
    }


@pytest.fixture(scope="module")
def page(
    classifiers: dict[str, TextClassifier], node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("lesson") / "lesson.html"
    rows = LabelledTexts([text for text in TEXTS if text] * 5, ["LABEL_0"] * 20)
    write_lesson_page(path, classifiers, SHOWN, training=rows, test=rows)
    argv = [node_modules.parent, shutil.which("chromium"), path.as_uri()]
    done = subprocess.run(
        ["node", Path(__file__).with_name("lesson.mjs"), *map(str, argv)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def numbers(panel: dict[str, Any], start: str) -> list[float]:
    """The numbers at the end of the titles that start so."""
    return [float(re.split(r"; ", title)[0].split(": ")[-1]) for title in panel["titles"] if title.startswith(start)]


def liveliest(reading: Reading) -> int:
    """The unit that the page shows first."""
    return int(np.ptp(reading.states.numpy(), axis=0).argmax())


def test_every_view_of_every_model_is_there_without_an_error_or_a_request(page: dict[str, Any]) -> None:
    assert page["problems"] == [] and len(page["requests"]) == 1 and not page["isWiderThanThePhone"]
    assert [*page["first"]] == [view["id"] for view in STRINGS["views"]]
    for name, panels in page["first"].items():
        assert len(panels) == (2 if name == "packing" else 3)
        for panel in panels:
            assert panel["titles"] or panel["words"] or panel["cells"] or len(panel["text"]) > 20, name
    reasons = {(name, panel["reason"]) for name, panels in page["first"].items() for panel in panels}
    assert reasons - {(name, None) for name in page["first"]} == {("gates", STRINGS["reasons"]["no_gates"])}


@pytest.mark.parametrize("index", range(3))
def test_the_numbers_of_the_views_are_those_of_the_models(
    page: dict[str, Any], classifiers: dict[str, TextClassifier], index: int
) -> None:
    classifier = list(classifiers.values())[index]
    reading = Reading(classifier, SHOWN[0])
    of_view = {name: panels[index] for name, panels in page["first"].items() if name != "packing"}
    answers = reading.probabilities_after_every_word()
    for label, name in enumerate(classifier.label_names):
        np.testing.assert_allclose(numbers(of_view["words"], f"{name}, "), answers[:, label], atol=6e-4)
    states = numbers(of_view["states"], STRINGS["unit"])
    np.testing.assert_allclose(states, reading.states.numpy().T[reading.order_of_units()].ravel(), atol=6e-4)
    unit = liveliest(reading)
    of_gates = min(unit, reading.hidden_size - 1)
    for name, gate in reading.gates().items():
        start = f"{STRINGS['gates'][name]}, "
        np.testing.assert_allclose(numbers(of_view["gates"], start + STRINGS["average"]), gate.mean(axis=1), atol=6e-4)
        np.testing.assert_allclose(
            numbers(of_view["gates"], f"{start}{STRINGS['unit']} {of_gates}"), gate[:, of_gates], atol=6e-4
        )
    values = [float(title.split(";")[0]) for _, title in of_view["unit"]["words"]]
    np.testing.assert_allclose(values, reading.states[:, unit], atol=6e-4)
    for kind, gradient in zip(("as_computed", "last_state"), reading.gradient_by_distance(), strict=True):
        found = numbers(of_view["gradient"], f"{STRINGS[kind]}, {STRINGS['this_text']}")
        np.testing.assert_allclose(found, gradient, rtol=0.06, atol=6e-4)
    rests = [float(title) for _, title in of_view["reliance"]["words"]]
    np.testing.assert_allclose(rests, reading.reliance()[-1], rtol=0.06, atol=6e-4)
    for kind, padded in reading.padding().items():
        shown = numbers(of_view["padding"], f"{STRINGS['probability']}, {STRINGS[kind]},")
        np.testing.assert_allclose(shown, padded["probability"], atol=6e-4)
    contributions = np.concatenate(list(reading.contributions().values()))
    np.testing.assert_allclose(numbers(of_view["pooling"], "“"), contributions, rtol=0.06, atol=6e-4)
    nearest = re.findall(rf"{STRINGS['cosine']} ([\d.]+)", of_view["neighbours"]["text"])
    assert len(nearest) == 5 and sorted(map(float, nearest), reverse=True) == list(map(float, nearest))


def test_the_page_is_used_by_keyboard(page: dict[str, Any], classifiers: dict[str, TextClassifier]) -> None:
    reading = Reading(classifiers["rnn"], SHOWN[0])
    shown = page["byKeyboard"]
    values = [float(title.split(";")[0]) for _, title in shown["unit"][0]["words"]]
    np.testing.assert_allclose(values, reading.states[:, min(liveliest(reading) + 1, 3)], atol=6e-4)
    rests = [float(title) for _, title in shown["reliance"][0]["words"] if title]
    np.testing.assert_allclose(rests, reading.reliance()[-3][:-2], rtol=0.06, atol=6e-4)
    assert page["first"]["packing"][0]["now"] == ["1", "6", "9"] and shown["packing"][0]["now"] == ["3", "8"]


def test_the_page_is_used_by_pointer(page: dict[str, Any], classifiers: dict[str, TextClassifier]) -> None:
    shown = page["byPointer"]
    assert [word for word, _ in shown["unit"][2]["words"]] == SHOWN[1].split()
    reading = Reading(classifiers["gru"], SHOWN[1])
    np.testing.assert_allclose(
        [float(title) for _, title in shown["reliance"][2]["words"]], reading.reliance()[-1], rtol=0.06, atol=6e-4
    )
    assert shown["packing"][1]["now"] == ["cat", "dog"]
