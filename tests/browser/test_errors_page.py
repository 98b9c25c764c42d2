"""The page of errors in a real Chromium: run with `pytest -m browser`, which needs Chromium, Node and npm."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rnn_hf.commands.errors_page import write_errors_page
from tests.tiny_classifiers import make_classifier

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

TEXTS = ["the cat <script>document.title = 1</script> sat & <b>", "🏆 " + "x" * 3_000, "a dog " * 500, ""]


def test_a_page_fits_a_phone_in_both_themes_and_raises_nothing(node_modules: Path, tmp_path: Path) -> None:
    file = tmp_path / "errors.html"
    probabilities = np.tile(np.array([[0.1, 0.2, 0.7]], dtype=np.float32), (len(TEXTS), 1))
    classifier = make_classifier(id2label={0: "<i>", 1: "y" * 200, 2: "z"})
    write_errors_page(file, classifier, TEXTS, np.array([0, 1, 0, 1]), probabilities)
    argv = [node_modules, shutil.which("chromium"), file.as_uri()]
    script = Path(__file__).with_name("open.mjs")
    done = subprocess.run(["node", script, *map(str, argv)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["problems"] == [] and said["elsewhere"] == []
    for shown in said["themes"].values():
        assert shown["texts"] == TEXTS and not shown["isWiderThanThePhone"]
        assert len(set(shown["colors"])) > 2
    light, dark = said["themes"]["light"], said["themes"]["dark"]
    assert light["background"] != dark["background"] and light["colors"] != dark["colors"]
