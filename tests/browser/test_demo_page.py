"""The demo page in a real Chromium: run with `pytest -m browser`, which needs Chromium, Node and npm."""

import functools
import json
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_hf import TextClassifier
from rnn_hf.commands import demo_page
from rnn_hf.data.demo_news import load_demo_news
from tests.conftest import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

MODEL = ROOT / "model_cards" / "ag-news"
ODD = [
    "", " ", "\n\t", "🏆⚽", "👩‍👩‍👧", "goal " * 5_000, "ΟΔΥΣΣΕΥΣ ΣΑΣ", "ΑΣ Σ", "[PAD]", "[UNK] goal [PAD] oil",
    "<b>oil</b> &amp; <br />gas", 'the "club"', "İstanbul", "naïve café", "東京 の ニュース", "a\u200bb", "\ufeffgoal",
    "U.S.' (oil)!?", "don't", "x" * 3_000,
]  # fmt: skip


@pytest.fixture(scope="module", params=["fp32", "q8"])
def page(
    request: pytest.FixtureRequest, node_modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[str], Any]:
    """The type of the weights, the texts, and what the browser says about them."""
    folder = tmp_path_factory.mktemp("page") / "page"
    texts = [*ODD, *load_demo_news()["test"]["text"][: 100 - len(ODD)]]
    demo_page.main(
        [str(MODEL), "--output_dir", str(folder), "--dtype", request.param, "--library_dir", str(node_modules),
         "--title", "News <b>&", "--examples", "Oil prices surge.", "The keeper saved a penalty."]
    )  # fmt: skip
    (folder.parent / "texts.json").write_text(json.dumps(texts))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        argv = [node_modules.parent, shutil.which("chromium"), address, folder.parent / "texts.json"]
        done = subprocess.run(
            ["node", Path(__file__).with_name("page.mjs"), *map(str, argv)], capture_output=True, text=True
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    return request.param, texts, json.loads(done.stdout)


def test_probabilities_are_those_of_python(page: Any) -> None:
    dtype, texts, said = page
    expected = TextClassifier.from_pretrained(MODEL).predict_proba(texts)
    np.testing.assert_allclose(said["probabilities"], expected, atol=1e-4 if dtype == "fp32" else 0.02)


def test_a_page_asks_nobody_else_and_raises_nothing(page: Any) -> None:
    assert page[2]["problems"] == [] and page[2]["elsewhere"] == []


def test_examples_are_chosen_by_keyboard_and_the_words_that_decide_are_shown(page: Any) -> None:
    shown = page[2]["shown"]
    assert shown["text"] == "The keeper saved a penalty."
    classifier = TextClassifier.from_pretrained(MODEL)
    assert shown["chosen"] == [classifier.predict(shown["text"])]
    assert len(shown["answers"]) == 4
    words = shown["text"].split()
    assert [word for word, _ in shown["words"]] == words
    without = [" ".join(words[:index] + words[index + 1 :]) for index in range(len(words))]
    proba = classifier.predict_proba([shown["text"], *without])
    first = proba[0].argmax()
    effects = [value for _, value in shown["words"]]
    np.testing.assert_allclose(effects, proba[0, first] - proba[1:, first], atol=0.02)


def test_an_empty_box_has_no_answer(page: Any) -> None:
    assert page[2]["emptied"] == ["The model is ready.", "", "", ""]


def test_a_page_fits_a_phone(page: Any) -> None:
    assert not page[2]["shown"]["isWiderThanThePhone"]
