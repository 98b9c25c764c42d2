"""The file of the lesson page; `tests/browser` opens it in a browser."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_hf.lesson_page import page as lesson_page
from rnn_hf.lesson_page.page import STRINGS_FILE, LabelledTexts, read_strings, write_lesson_page
from rnn_hf.lesson_page.readings import Reading
from tests.tiny_classifiers import make_classifier

HOSTILE = "the cat </script><script>alert(1)</script> $$strings$$ sat"


def embedded(path: Path, name: str) -> Any:
    found = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_a_page_holds_the_numbers_of_the_models(tmp_path: Path) -> None:
    classifier = make_classifier(embedding_size=5, hidden_size=4, cell_type="gru")
    test = LabelledTexts(["the cat", "a dog"], [str(label) for label in classifier.predict(["the cat", "a dog"])])
    size = write_lesson_page(
        tmp_path / "x.html", {"mine": classifier}, [HOSTILE, "a dog sat"], training=test, test=test
    )
    assert size == (tmp_path / "x.html").stat().st_size
    data = embedded(tmp_path / "x.html", "data")
    assert data["texts"] == [HOSTILE, "a dog sat"]
    (model,) = data["models"]
    assert (model["name"], model["cell"], model["accuracy"], model["num_test_texts"]) == ("mine", "gru", 1.0, 2)
    reading = Reading(classifier, HOSTILE)
    shown = model["readings"][0]
    assert shown["words"] == reading.words
    np.testing.assert_allclose(shown["states"], reading.states, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(shown["gates"]["update"], reading.gates()["update"], rtol=1e-3)
    assert [len(row) for row in shown["reliance"]] == list(range(1, len(reading.words) + 1))
    assert len(model["neighbours"]) == 2


def test_a_model_with_other_labels_than_the_dataset_does_without_it(tmp_path: Path) -> None:
    models = {
        "a": make_classifier(hidden_size=2),
        "b": make_classifier(hidden_size=2, id2label=dict(enumerate("xyz"))),
    }
    rows = LabelledTexts(["the cat", "a dog"], ["x", "y"])
    write_lesson_page(tmp_path / "x.html", models, ["the cat sat"], training=rows, test=rows)
    without, with_dataset = embedded(tmp_path / "x.html", "data")["models"]
    assert without["has_other_labels"] and without["neighbours"] is None and without["accuracy"] is None
    assert not with_dataset["has_other_labels"] and len(with_dataset["neighbours"][0]) == 2


def test_nothing_in_a_text_or_in_the_sentences_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    strings = json.loads(STRINGS_FILE.read_text()) | {"title": "</title><b>", "language": 'de"><b>'}
    (tmp_path / "de.json").write_text(json.dumps(strings))
    classifiers = {"</script><b>": make_classifier(hidden_size=2)}
    write_lesson_page(tmp_path / "x.html", classifiers, [HOSTILE], strings_file=tmp_path / "de.json")
    written = (tmp_path / "x.html").read_text()
    assert written.count("<script") == written.count("</script>") == 3
    assert "<b>" not in written and '<html lang="de&quot;&gt;&lt;b&gt;">' in written
    assert embedded(tmp_path / "x.html", "strings")["title"] == "</title><b>"
    assert not re.search(r"https?://(?!www\.w3\.org)", written)


def test_the_lessons_batch_is_packed_as_in_its_picture(tmp_path: Path) -> None:
    write_lesson_page(tmp_path / "x.html", {"m": make_classifier(hidden_size=2)}, ["the cat sat on a mat", "a dog"])
    example, texts = embedded(tmp_path / "x.html", "data")["packing"]
    assert example["data"] == list("169273845") and example["batch_sizes"] == [3, 2, 2, 1, 1]
    assert texts["data"] == ["the", "a", "cat", "dog", "sat", "on", "a", "mat"]
    assert texts["batch_sizes"] == [2, 2, 1, 1, 1, 1]


def test_a_translation_must_be_whole(tmp_path: Path) -> None:
    strings = json.loads(STRINGS_FILE.read_text())
    del strings["reasons"]["no_gates"]
    (tmp_path / "de.json").write_text(json.dumps(strings))
    with pytest.raises(ValueError, match=r"de.json' lacks 'reasons.no_gates'"):
        read_strings(tmp_path / "de.json")
    (tmp_path / "de.json").write_text(json.dumps(strings | {"views": strings["views"][1:]}))
    with pytest.raises(ValueError, match=r"lacks 'views'|lacks 'reasons"):
        read_strings(tmp_path / "de.json")
    (tmp_path / "de.json").write_text("[]")
    with pytest.raises(ValueError, match=r"must be a JSON file like .*\(got \[\]\)"):
        read_strings(tmp_path / "de.json")
    (tmp_path / "de.json").write_text("{")
    with pytest.raises(ValueError, match="must be a JSON file like"):
        read_strings(tmp_path / "de.json")


def test_every_sentence_is_used_by_the_page() -> None:
    script = (lesson_page.FOLDER / "page.js").read_text()
    strings = json.loads(STRINGS_FILE.read_text())
    of_the_file = {"language"}
    chosen = {"as_computed", "last_state", "highest_after", "lowest_after", "num_units", "num_units_each_way"}
    for name in strings.keys() - of_the_file - chosen:
        assert re.search(rf"strings\.{name}\b", script), name
    for name in strings["reasons"]:
        assert f"strings.reasons.{name}" in script or f'"{name}"' in script, name
    assert len(strings["views"]) == 10


def test_a_page_that_would_be_too_large_is_refused_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.html").write_text("old")
    monkeypatch.setattr(lesson_page, "MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"The page would have 0\.\d MB, more than 0. Pass fewer or shorter texts"):
        write_lesson_page(tmp_path / "x.html", {"m": make_classifier(hidden_size=2)}, ["the cat"])
    assert (tmp_path / "x.html").read_text() == "old"
