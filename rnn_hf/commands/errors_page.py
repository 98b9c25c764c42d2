"""A web page of the most confident errors, with the words that decided: one file, without a network."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np

from rnn_hf.errors import plain
from rnn_hf.files import atomic_file
from rnn_hf.reporting.page_head import page_head
from rnn_hf.text_classifier import TextClassifier

from .explained_words import html_text, html_words

TEMPLATE = Path(__file__).with_name("errors_page.html")

NUM_ERRORS = 50

SECTION = Template("""\
  <section class="card">
    <p class="words">$words</p>
    <dl class="facts">
      <div><dt>true</dt><dd>$true</dd></div>
      <div><dt>predicted</dt><dd>$predicted, $probability&nbsp;%</dd></div>
      <div><dt>row</dt><dd>$row</dd></div>
    </dl>
  </section>""")

SUMMARY = (
    "Errors shown: {shown} of {total:,}, in {rows:,} rows, those with the highest probability of the predicted class "
    "first. Rows are counted from 0. Blue words raise that probability, orange words lower it: the difference without "
    "the word."
)


def write_errors_page(
    path: Path, classifier: TextClassifier, texts: Sequence[str], labels: np.ndarray, probabilities: np.ndarray
) -> None:
    """Write the errors with the highest probabilities, most confident first, and the words that decided.

    Args:
        path: The file.
        classifier: A classifier with one class per text.
        texts: The texts.
        labels: Index of the class of each text. Shape `(num_texts,)`.
        probabilities: Probabilities of the classes. Shape `(num_texts, num_labels)`.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    errors = np.flatnonzero(predicted != labels)
    rows = errors[np.argsort(-confidence[errors], kind="stable")][:NUM_ERRORS].tolist()
    names = [html_text(plain(name)) for name in classifier.label_names]
    sections = [
        SECTION.substitute(
            words=html_words(explanation),
            true=names[labels[row]],
            predicted=names[predicted[row]],
            probability=f"{100 * confidence[row]:.1f}",
            row=f"{row:,}",
        )
        for row, explanation in zip(rows, classifier.explain([texts[row] for row in rows]), strict=True)
    ]
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        head=page_head("Most confident errors"),
        summary=SUMMARY.format(shown=len(rows), total=len(errors), rows=len(texts)),
        sections="\n".join(sections),
    )
    with atomic_file(path) as beside:
        beside.write_text(page, encoding="utf-8")
