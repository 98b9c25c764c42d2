import json
import random
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from scripts.research import count_near_duplicates as script

WORDS = ["one", "two", "three"]


def dataset(rows: list[tuple[str, Any]]) -> Dataset:
    return Dataset.from_dict({"text": [text for text, _ in rows], "label": [label for _, label in rows]})


def count(rows: list[tuple[str, Any]], train: list[tuple[str, Any]], *similarities: float) -> dict[str, Any]:
    return script.count_copies(dataset(rows), dataset(train), similarities or (0.8, 0.5), "Looking")


def test_the_counts_are_those_of_all_pairs_compared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "CHUNK_SIZE", 7)
    draw = random.Random(0)
    rows, train = (
        [(" ".join(draw.choices(WORDS, k=draw.randint(0, 8))), draw.randint(0, 1)) for _ in range(size)]
        for size in (40, 60)
    )

    def triples(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[start : start + 3]) for start in range(len(words) - 2)} or {tuple(words)}

    counts = count(rows, train, 0.5)
    for name, is_copy in {
        "exact": lambda one, other: one == other,
        "similarity_0.5": lambda one, other: (
            len(triples(one) & triples(other)) >= 0.5 * len(triples(one) | triples(other))
        ),
    }.items():
        labels = [{other for theirs, other in train if is_copy(text, theirs)} for text, _ in rows]
        assert counts[name]["num_rows"] == sum(map(bool, labels))
        with_another = sum(bool(found - {label}) for found, (_, label) in zip(labels, rows, strict=True))
        assert counts[name]["num_rows_with_another_label"] == with_another
        assert 0 < with_another < counts[name]["num_rows"] < 40


def test_case_and_punctuation_make_no_difference() -> None:
    counts = count([("The club won - the 'cup'!", 0)], [("the CLUB, won: the cup", 0)])
    exact = {"num_rows": 1, "share": 1.0, "num_rows_with_another_label": 0}
    assert counts == {"num_rows": 1, "exact": exact, "similarity_0.8": exact, "similarity_0.5": exact}


def test_the_order_of_the_words_makes_a_difference() -> None:
    counts = count([("the club won the cup", 0)], [("the cup won the club", 0)])
    assert (counts["exact"]["num_rows"], counts["similarity_0.5"]["num_rows"]) == (0, 0)


def test_a_near_copy_is_one_from_the_similarity_on() -> None:
    """The one has the triples abc, bcd, cde, the other abc, bcd, cdx: two of four."""
    counts = count([("a b c d e", 0)], [("a b c d x", 1)], 0.5, 0.51)
    assert counts["similarity_0.5"] == {"num_rows": 1, "share": 1.0, "num_rows_with_another_label": 1}
    assert counts["similarity_0.51"]["num_rows"] == counts["exact"]["num_rows"] == 0


def test_labels_that_are_lists_are_compared_whole() -> None:
    train = [("a b c", [1, 2]), ("d e f", [1])]
    counts = count([("a b c", [1, 2]), ("d e f", [2])], train)
    assert counts["exact"] == {"num_rows": 2, "share": 1.0, "num_rows_with_another_label": 1}


def write_rows(path: Path, rows: list[tuple[str, int]]) -> str:
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    return str(path)


def test_the_splits_asked_for_are_counted_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = [(f"row {number} of these", number % 2) for number in range(40)]
    test = [("Row 3 of THESE!", 0), ("row 3 of those", 1)]
    argv = ["--train_file", write_rows(tmp_path / "train.jsonl", train)]
    argv += ["--test_file", write_rows(tmp_path / "test.jsonl", test), "--validation_size", "0"]
    result = script.main([*argv, "--output_file", str(tmp_path / "copies.json")])
    assert json.loads((tmp_path / "copies.json").read_text()) == result
    assert result["splits"]["test"]["exact"] == {"num_rows": 1, "share": 0.5, "num_rows_with_another_label": 1}
    assert "exact                  1 (50.00 %), of which 1 have one with another label" in capsys.readouterr().out
    argv = ["--dataset_name", "demo", "--validation_size", "0.1", "--splits", "validation", "test"]
    result = script.main(argv)
    assert (result["num_train_examples"], result["splits"]["validation"]["num_rows"]) == (3600, 400)
    assert result["splits"]["test"]["num_rows"] == 1000
