"""The lesson page: one HTML file that holds the numbers of some models on some texts, and draws them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from rnn_hf.files import atomic_file
from rnn_hf.progress import progress_bar
from rnn_hf.reporting.page_head import page_head
from rnn_hf.text_classifier import TextClassifier

from .corpus import mean_gradients_by_distance, nearest_texts, words_that_drive_units
from .readings import Reading

FOLDER = Path(__file__).parent
STRINGS_FILE = FOLDER / "strings.json"

# Larger pages open slowly
MOST_BYTES = 2_000_000

# Texts in the picture of a packed batch, and the words of the longest one
PACKED_TEXTS, PACKED_WORDS = 5, 10

# The lesson's example: what it packs, by text
LESSON_BATCH = ([1, 2, 3, 4, 5], [6, 7, 8], [9])


@dataclass
class LabelledTexts:
    """Texts of a dataset and their labels, as names."""

    texts: Sequence[str]
    labels: Sequence[str]


def write_lesson_page(
    path: Path,
    classifiers: dict[str, TextClassifier],
    texts: Sequence[str],
    *,
    training: LabelledTexts | None = None,
    test: LabelledTexts | None = None,
    strings_file: Path = STRINGS_FILE,
) -> int:
    """Write a page of one file that shows what models compute while they read texts.

    Args:
        path: HTML file.
        classifiers: The models by name.
        texts: The texts that can be chosen on the page; the first tokens of each are shown.
        training: Training texts, for the nearest ones.
        test: Test texts, for the words that drive a unit and the mean gradient.
        strings_file: JSON file with all sentences of the page, such as a translation of `strings.json`.

    Returns:
        Number of bytes of the page.

    Raises:
        ValueError: If a text has no words, the file of sentences lacks one, or the page would become too large.
    """
    strings = read_strings(strings_file)
    models = []
    for name, classifier in progress_bar(classifiers.items(), desc="Models", unit="model"):
        readings = [Reading(classifier, text) for text in texts]
        models.append(
            {
                "name": name,
                "cell": classifier.config.cell_type,
                "hidden_size": classifier.config.hidden_size,
                "bidirectional": classifier.config.bidirectional,
                "labels": classifier.label_names,
                "poolings": _poolings(classifier),
                "is_classifier": classifier.problem_type == "single_label_classification",
                **_of_many_texts(classifier, texts, training, test),
                "readings": [_views_of(reading) for reading in progress_bar(readings, desc=name, leave=False)],
            }
        )
    data = {"texts": list(texts), "models": models, "packing": _packing(models[0]["readings"])}
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    contents = {
        "data": _embedded(_rounded(data)),
        "strings": _embedded(strings),
        "head": page_head(strings["title"], strings["language"]),
        "script": (FOLDER / "page.js").read_text(encoding="utf-8"),
    }
    written = re.sub(r"\$\$(\w+)\$\$", lambda found: contents[found[1]], page).encode("utf-8", "replace")
    if len(written) > MOST_BYTES:
        raise ValueError(
            f"The page would have {len(written) / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f}. Pass fewer or "
            "shorter texts, fewer models, or smaller ones."
        )
    with atomic_file(path) as beside:
        beside.write_bytes(written)
    return len(written)


def read_strings(path: Path) -> dict[str, Any]:
    """Return the sentences of the page.

    Raises:
        ValueError: If the file is not JSON, or lacks a sentence.
    """
    try:
        strings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(strings, dict):
            raise ValueError(f"got {strings!r:.40}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' must be a JSON file like rnn_hf/lesson_page/strings.json ({error}).") from error
    missing = _missing(json.loads(STRINGS_FILE.read_text(encoding="utf-8")), strings)
    if missing:
        raise ValueError(f"'{path}' lacks {missing[0]!r}, a sentence of rnn_hf/lesson_page/strings.json. Add it.")
    return strings


def _missing(expected: Any, found: Any, place: str = "") -> list[str]:
    """Return where one tree of strings has an entry that the other lacks."""
    if type(expected) is not type(found) or (isinstance(expected, list) and len(expected) != len(found)):
        return [place]
    if isinstance(expected, str):
        return []
    places = []
    for key, value in expected.items() if isinstance(expected, dict) else enumerate(expected):
        inside = f"{place}.{key}".lstrip(".")
        is_there = isinstance(found, list) or key in found
        places += _missing(value, found[key], inside) if is_there else [inside]
    return places


def _of_many_texts(
    classifier: TextClassifier, texts: Sequence[str], training: LabelledTexts | None, test: LabelledTexts | None
) -> dict[str, Any]:
    """Return the parts of the views that need a dataset."""
    found: dict[str, Any] = {"driving_words": None, "gradient": None, "neighbours": None, "accuracy": None}
    known = set(classifier.label_names)
    found["has_other_labels"] = classifier.problem_type == "single_label_classification" and any(
        not known.issuperset(part.labels) for part in (training, test) if part is not None
    )
    if found["has_other_labels"]:
        return found
    if test is not None:
        found["driving_words"] = words_that_drive_units(classifier, test.texts)
        found["gradient"] = mean_gradients_by_distance(classifier, test.texts)
        found["num_test_texts"] = len(test.texts)
        if classifier.problem_type == "single_label_classification":
            answers = list(map(str, classifier.predict(test.texts, show_progress=False)))
            found["accuracy"] = float(np.mean(np.array(answers) == np.array(test.labels)))
    if training is not None:
        found["neighbours"] = nearest_texts(classifier, texts, training.texts, training.labels)
    return found


def _poolings(classifier: TextClassifier) -> list[str]:
    """Return the names of what the classifier reads."""
    model = classifier.model
    return [*model.pooler.parts, *(["word_vectors"] if model.concat_embedding_mean else [])]


def _views_of(reading: Reading) -> dict[str, Any]:
    """Return the numbers of one text."""
    return {
        "words": reading.words,
        "label": reading.label,
        "is_unknown": [token == reading.model.config.unk_token_id for token in reading.ids[0].tolist()],
        "probabilities": reading.probabilities_after_every_word(),
        "states": reading.states.numpy(),
        "order": reading.order_of_units(),
        "gates": reading.gates(),
        "gradient": reading.gradient_by_distance(),
        "reliance": [row[: index + 1] for index, row in enumerate(reading.reliance())],
        "padding": reading.padding(),
        "contributions": reading.contributions(),
        "bias": reading.model.classifier.bias[reading.label].item(),
        "maxima": reading.maxima(),
    }


def _packing(readings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lesson's batch and one of the texts' first words, as torch packs them."""
    words = [reading["words"] for reading in readings[:PACKED_TEXTS]]
    share = min(1, PACKED_WORDS / max(map(len, words)))
    of_texts = [text[: max(1, round(share * len(text)))] for text in words]
    batches: list[Sequence[Sequence[Any]]] = [LESSON_BATCH, of_texts]
    packings = []
    for batch in batches:
        # places stand for the entries
        numbers = torch.arange(sum(map(len, batch))).split([len(text) for text in batch])
        packed = pack_padded_sequence(
            pad_sequence(list(numbers), batch_first=True), torch.tensor([len(text) for text in batch]),
            batch_first=True, enforce_sorted=False,
        )  # fmt: skip
        entries = [str(entry) for text in batch for entry in text]
        assert packed.sorted_indices is not None  # of a batch that was sorted
        packings.append(
            {
                "rows": [[str(entry) for entry in batch[row]] for row in packed.sorted_indices.tolist()],
                "data": [entries[place] for place in packed.data.tolist()],
                "batch_sizes": packed.batch_sizes.tolist(),
            }
        )
    return packings


def _rounded(value: Any) -> Any:
    """Return a tree of arrays and numbers as lists of short numbers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _embedded(value: Any) -> str:
    """Return JSON that can stand in a page."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
