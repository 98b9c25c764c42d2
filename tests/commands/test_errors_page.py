"""The page of errors as a file; `tests/browser` opens it in a browser."""

import html
import re
from pathlib import Path

import numpy as np
import pytest

from rnn_hf.commands import errors_page, evaluate, explained_words
from rnn_hf.commands.errors_page import write_errors_page
from rnn_hf.commands.explained_words import html_words
from rnn_hf.reporting.page_head import page_head
from rnn_hf.text_classifier import TextClassifier
from tests.conftest import last_line
from tests.tiny_classifiers import make_classifier

TEXTS = ["the cat <script>alert(1)</script> sat", "a \ud800 dog\x00 & the cat", "the dog sat", "the cat sat on a mat"]
SECTION = re.compile(r'<section class="card">\s*<p class="words">(.*?)</p>(.*?)</section>', re.DOTALL)


def classifier_of(names: list[str]) -> TextClassifier:
    return make_classifier(id2label=dict(enumerate(names)))


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def sections(page: str) -> list[tuple[str, list[str]]]:
    """The text of each error, and the facts below it."""
    found = SECTION.findall(page)
    return [(text_of(words), [text_of(fact) for fact in re.findall(r"<dd>(.*?)</dd>", rest)]) for words, rest in found]


def test_errors_are_sorted_by_confidence_and_nothing_in_them_is_markup(tmp_path: Path) -> None:
    classifier, file = classifier_of(["<b>", "$y", "plain"]), tmp_path / "errors.html"
    probabilities = np.array([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.9, 0.1, 0], [0.2, 0.1, 0.7]], dtype=np.float32)
    write_errors_page(file, classifier, TEXTS, np.array([1, 2, 0, 0]), probabilities)
    page = file.read_text(encoding="utf-8")
    assert sections(page) == [
        ("a \ufffd dog\ufffd & the cat", ["plain", "$y, 80.0\xa0%", "1"]),
        (TEXTS[3], ["<b>", "plain, 70.0\xa0%", "3"]),
        (TEXTS[0], ["$y", "<b>, 60.0\xa0%", "0"]),
    ]
    assert "<script" not in page and "http" not in page and "$" not in page.replace("$y", "")
    assert "Errors shown: 3 of 3, in 4 rows" in page


def test_only_the_most_confident_errors_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors_page, "NUM_ERRORS", 1)
    classifier, file = classifier_of(["x", "y", "z"]), tmp_path / "errors.html"
    probabilities = np.array([[0.6, 0.4, 0], [0.7, 0.3, 0]])
    write_errors_page(file, classifier, TEXTS[2:], np.array([1, 1]), probabilities)
    ((text, _),) = sections(file.read_text())
    assert text == TEXTS[3] and "of 2, in" in file.read_text()
    write_errors_page(file, classifier, TEXTS[2:], np.array([0, 0]), probabilities)
    assert sections(file.read_text()) == [] and "Errors shown: 0 of 0" in file.read_text()


def test_words_have_the_colors_of_the_demo_page_and_spaces_none() -> None:
    explanation = make_classifier().explain(" the cat\n sat")
    markup = html_words(explanation)
    spans = re.findall(r'<span style="background: rgba\(var\(--(for|against)\), ([\d.]+)\)" title="([^"]*)">', markup)
    assert text_of(markup) == explanation.text and len(spans) == 3
    largest = max(map(abs, explanation.contributions))
    for (side, opacity, title), number in zip(spans, explanation.contributions, strict=True):
        assert (side, title) == ("for" if number >= 0 else "against", f"{number:+.3f}")
        assert float(opacity) == pytest.approx(0.65 * abs(number) / largest, abs=0.006)
    # the terminal has those of light pages
    style = page_head("")
    for name, color in (("for", explained_words.RAISES), ("against", explained_words.LOWERS)):
        assert f"--{name}: {', '.join(map(str, color))};" in style


def test_evaluate_writes_the_errors_that_it_counts(tmp_path: Path) -> None:
    classifier = classifier_of(["x", "y", "z"])
    classifier.save_pretrained(tmp_path / "model")
    rows, file = tmp_path / "rows.csv", tmp_path / "errors.html"
    texts = ["the cat", "the dog", "a mat"] * 4
    rows.write_text("text,label\n" + "".join(f"{text},{name}\n" for text, name in zip(texts, "xyzz" * 3, strict=True)))
    argv = ["--model_name_or_path", str(tmp_path / "model"), "--test_file", str(rows), "--use_cpu"]
    metrics = evaluate.main([*argv, "--errors_file", str(file)])
    shown = sections(file.read_text())
    assert len(shown) == round((1 - metrics["accuracy"]) * 12) > 0
    for text, (true, predicted, row) in shown:
        assert text == texts[int(row)] and true == "xyzz"[int(row) % 4]
        assert predicted.startswith(classifier.predict(text))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("errors.txt", {}, "`--errors_file` must end in .html, got"),
        ("no/errors.html", {}, "errors_file"),
        (
            "errors.html",
            {"problem_type": "multi_label_classification"},
            "`--errors_file` needs a model",
        ),
    ],
)
def test_a_page_that_cannot_be_written_is_one_line(
    name: str, settings: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_classifier(**settings).save_pretrained(tmp_path / "model")
    argv = ["--model_name_or_path", str(tmp_path / "model"), "--dataset_name", "demo", "--use_cpu"]
    with pytest.raises(SystemExit, match="2"):
        evaluate.main([*argv, "--errors_file", str(tmp_path / name)])
    assert message in last_line(capsys.readouterr().err)
