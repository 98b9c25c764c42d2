import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from sklearn.metrics import f1_score, r2_score

from scripts.research import panel as script
from scripts.research import panel_datasets, panel_peers, panel_results
from tests.conftest import ROOT, last_line

Run = dict[str, Any]
Measure = Callable[..., list[Run]]

WORDS = {"sport": "match team goal", "money": "bank share price", "world": "treaty border vote"}
SETTINGS = ["max_steps=5", "embedding_size=8", "hidden_size=4", "use_cpu=true"]


def made_up(num_rows: int, seed: int) -> dict[str, list[Any]]:
    """Return texts of random words of one subject, with one label, several, and a number."""
    generator = np.random.default_rng(seed)
    names = list(WORDS)
    ids = generator.integers(len(names), size=num_rows)
    texts = [" ".join([*generator.choice(WORDS[names[number]].split(), 4), f"row{seed}x{row}"])
             for row, number in enumerate(ids)]  # fmt: skip
    return {
        "text": texts,
        "label": [names[number] for number in ids],
        "coarse_label": [int(number) for number in ids],
        "labels": [[int(number)] if number else [0, 2] for number in ids],
        "easiness": [float(number) + 0.5 for number in ids],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small copies of four datasets; only two have a validation split."""
    root = tmp_path_factory.mktemp("datasets")
    columns = {"ag_news": "label", "trec": "coarse_label", "go_emotions": "labels", "clear": "easiness"}
    for name, column in columns.items():
        (root / name / "data").mkdir(parents=True)
        splits = {"train": (120, 1), "test": (40, 2), **({"validation": (30, 3)} if name == "go_emotions" else {})}
        for split, (num_rows, seed) in splits.items():
            rows = made_up(num_rows, seed)
            file = root / name / "data" / f"{split}-00000-of-00001.parquet"
            Dataset.from_dict({"text": rows["text"], column: rows[column]}).to_parquet(file)
    panel_datasets.load_splits.cache_clear()
    script.digest_of_run.cache_clear()
    return root


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "panel.json"


@pytest.fixture
def measure(folder: Path, file: Path) -> Measure:
    def run(*argv: str, models: str = "ours tfidf") -> list[Run]:
        words = ["--folder", str(folder), "--output_file", str(file), "--models", *models.split()]
        settings = [] if "--setting" in argv else ["--setting", *SETTINGS]
        return script.main([*words, *settings, *argv])

    return run


def test_ours_and_a_peer_are_measured_on_the_same_rows(
    measure: Measure, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = measure("--datasets", "trec_coarse", "go_emotions", "clear", "--seeds", "3", "4")
    assert [(run["dataset"], run["model"], run["seed"]) for run in runs] == [
        (dataset, model, seed)
        for dataset in ("trec_coarse", "go_emotions", "clear")
        for model in ("ours", "tfidf")
        for seed in (3, 4)
    ]
    # a fifth is held out where there is no validation split
    sizes = {run["dataset"]: (run["num_train_rows"], run["num_measured_rows"]) for run in runs}
    assert sizes == {"trec_coarse": (96, 24), "go_emotions": (120, 30), "clear": (96, 24)}
    ours, peer = runs[0], runs[2]
    assert (ours["num_steps"], ours["settings"]["hidden_size"], ours["settings"]["seed"]) == (5, 4, 3)
    assert 0 < ours["megabytes"] < 1
    assert peer["accuracy"] == 1  # every word belongs to one class
    content = json.loads(file.read_text())
    assert script.PanelFile(file).runs == runs
    # both seeds share the answers of the peer
    assert [run["seed"] for run in content["runs"] if run["model"] == "tfidf" and "answers" in run] == [3, 3, 3]
    # two runs on so few rows may be equally accurate
    assert max(found["standard_error"] for found in content["comparisons"]) > 0
    for dataset, metric in (("trec_coarse", "accuracy"), ("go_emotions", "macro_f1"), ("clear", "r2")):
        (found,) = [found for found in content["comparisons"] if found["dataset"] == dataset]
        first, second, *peers = [run[metric] for run in runs if run["dataset"] == dataset]
        assert found["difference"] == pytest.approx((first + second - sum(peers)) / 2)
        assert (found["peer"], found["seeds"]) == ("tfidf", [3, 4])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert table[0].startswith("| dataset | rows | classes | rnn\\_hf | TF-IDF |")
    assert [line.split(" | ")[0] for line in table[2:]] == [
        "| TREC, coarse", "| GoEmotions (macro F1)", "| CLEAR (R²)", "| mean difference",
    ]  # fmt: skip


def test_ours_is_not_compared_with_a_peer_on_other_rows(measure: Measure, file: Path) -> None:
    argv = ["--datasets", "trec_coarse", "--seeds", "1"]
    measure(*argv)
    content = json.loads(file.read_text())
    assert len(content["comparisons"]) == 1
    content["runs"][1]["key"] = "of other rows"
    file.write_text(json.dumps(content))
    measure(*argv, models="ours")
    assert json.loads(file.read_text())["comparisons"] == []


def test_results_that_the_file_holds_are_not_computed_again(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, int]] = []

    def answer(run: Run, args: Any) -> Run:
        trained.append((run["model"], run["seed"]))
        facts = {"num_train_rows": 96, "num_classes": 3, "accuracy": 0.5, "macro_f1": 0.5, "seconds": 1.0}
        bits = panel_results.packed(bytes(3))
        return {**run, **facts, "megabytes": 1.0, "answers": bits}

    monkeypatch.setattr(script, "measure_run", answer)
    argv = ["--datasets", "trec_coarse", "--seeds", "1", "2"]
    first = measure(*argv)
    # both seeds have the same rows, so the peer is trained once
    assert trained == [("ours", 1), ("tfidf", 1), ("ours", 2)]
    assert [run["seed"] for run in first if run["model"] == "tfidf"] == [1, 2]
    assert measure(*argv) == first
    assert len(trained) == 3
    measure(*argv, "--name", "wide", "--setting", "hidden_size=9")
    assert trained[3:] == [("ours", 1), ("ours", 2)]
    again = measure(*argv, "--setting", "hidden_size=9")
    assert trained[5:] == [("ours", 1), ("ours", 2)]
    assert [(run["model"], run["name"], run["seed"]) for run in again] == [
        ("ours", "rnn_hf", 1), ("ours", "rnn_hf", 2), ("ours", "wide", 1), ("ours", "wide", 2),
        ("tfidf", None, 1), ("tfidf", None, 2),
    ]  # fmt: skip
    measure(*argv, "--setting", "hidden_size=9", "--overwrite")
    assert trained[7:] == [("ours", 1), ("ours", 2)]


def test_a_sample_depends_on_the_seed_and_has_no_measured_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = panel_datasets.PanelDataset("small", "ag_news", None, num_rows=20, without_blanks=True)
    monkeypatch.setitem(panel_datasets.DATASETS, "small", small)
    first, second, again = (panel_datasets.rows_of_run("small", str(folder), seed, False) for seed in (1, 2, 1))
    assert first == again
    assert first.train != second.train
    assert first.measured == second.measured
    assert not set(first.train.texts) & set(first.measured.texts)
    assert (len(first.train.texts), len(first.measured.texts)) == (20, 24)
    tested = panel_datasets.rows_of_run("small", str(folder), 1, True)
    texts, labels = (made_up(120, 1)[name] for name in ("text", "label"))
    chosen = np.random.default_rng(1).permutation(120)[:20]
    assert tested.train == (["".join(texts[row].split()) for row in chosen], [labels[row] for row in chosen])
    assert tested.measured.labels == made_up(40, 2)["label"]


def test_a_validation_split_is_measured_or_given_to_training(folder: Path) -> None:
    measured, tested = (panel_datasets.rows_of_run("go_emotions", str(folder), 1, flag) for flag in (False, True))
    assert measured.validation is None
    assert tested.validation == measured.measured
    assert measured.measured.texts == made_up(30, 3)["text"]
    assert measured.measured.labels == [[str(label) for label in row] for row in made_up(30, 3)["labels"]]
    # without a validation split, the peers choose on training rows
    train, choosing = panel_peers.split_for_choosing(measured)
    assert sorted(train.texts + choosing.texts) == sorted(measured.train.texts)
    assert len(choosing.texts) == 12
    assert panel_peers.split_for_choosing(tested) == (tested.train, tested.validation)


def run_of(answers: str, seed: int = 1) -> Run:
    return {"answers": answers, "seed": seed}


def test_the_standard_error_is_that_of_the_mean_over_rows() -> None:
    """Rows count the difference in correctness, averaged over the seeds."""
    labels = ["a", "b", "a", "b", "a"]
    found = {
        ("ours", 1): ["a", "b", "a", "b", "b"],
        ("ours", 2): ["a", "b", "b", "b", "a"],
        ("peer", 1): ["a", "a", "a", "a", "a"],
        ("peer", 2): ["a", "b", "a", "a", "b"],
    }
    packed = {
        key: panel_results.measure("one label", labels, answers, [])["answers"] for key, answers in found.items()
    }
    pairs = [(run_of(packed["ours", seed]), run_of(packed["peer", seed])) for seed in (1, 2)]
    differences = [0, 0.5, -0.5, 1, 0]
    mean = sum(differences) / 5
    expected = math.sqrt(sum((value - mean) ** 2 for value in differences) / 4 / 5)
    assert panel_results.standard_error_of_difference("one label", pairs, labels, []) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["several labels", "regression"])
def test_a_bootstrap_sample_has_the_metric_of_its_rows(kind: panel_datasets.Kind) -> None:
    generator = np.random.default_rng(0)
    classes = ["a", "b", "c"]
    if kind == "regression":
        labels, answers = generator.normal(size=(2, 12)).tolist()
    else:
        chosen = generator.random((2, 12, 3)) < 0.5
        labels, answers = ([[name for name, has in zip(classes, row, strict=True) if has] for row in side]
                           for side in chosen)  # fmt: skip
    packed = panel_results.measure(kind, labels, answers, classes)["answers"]
    rows = generator.integers(12, size=12)
    counts = np.bincount(rows, minlength=12)[None]
    truth, found = ([side[row] for row in rows] for side in (labels, answers))
    if kind == "regression":
        expected = r2_score(truth, found)
    else:
        both = (panel_results.multi_hot(side, classes) for side in (truth, found))
        expected = f1_score(*both, average="macro", zero_division=0)
    assert panel_results.resampled(kind, counts, packed, labels, classes) == pytest.approx([expected], abs=1e-6)


def test_the_table_names_the_better_peer_and_the_mean_difference() -> None:
    def run(model: str, accuracy: float, seed: int, name: str | None = None) -> Run:
        return {
            "dataset": "trec_coarse", "split": "test", "model": model, "name": name, "seed": seed, "num_classes": 6,
            "key": f"{model}{name}{seed if model == 'ours' else ''}", "num_train_rows": 5452, "accuracy": accuracy,
            "macro_f1": 0.5, "seconds": 12.4, "megabytes": 1.23, "answers": panel_results.packed(b"\xf0"),
        }  # fmt: skip

    ours = [run("ours", 0.90, 1, "rnn_hf"), run("ours", 0.92, 2, "rnn_hf"), run("ours", 0.95, 1, "with vectors")]
    peers = [run("tfidf", 0.8, seed) for seed in (1, 2)] + [run("fasttext", 0.85, seed) for seed in (1, 2)]
    found = panel_results.comparison("trec_coarse", ours[:2], peers, ["a"] * 8, [])
    assert found == {
        "peer": "fasttext", "difference": pytest.approx(0.06), "standard_error": 0.0, "seeds": [1, 2],
    }  # fmt: skip
    of_run = {"dataset": "trec_coarse", "split": "test", "name": "rnn_hf"}
    content = {"runs": ours + peers, "comparisons": [{**of_run, **found}]}
    assert panel_results.panel_table(content, "test").splitlines() == [
        "| dataset | rows | classes | rnn\\_hf | with vectors | TF-IDF | fastText | difference to the better peer | "
        "macro F1, % | training, s | MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        "| TREC, coarse | 5,452 | 6 | 91.0 ± 1.4 | 95.0 | 80.0 | 85.0 | +6.0 ± 0.0 | 50.0 ± 0.0 | 12 | 1.2 |",
        "| mean difference |  |  | +6.0 |  |  |  | +6.0 |  |  |  |",
    ]


def test_the_mean_accuracy_is_of_rows_and_seeds_that_all_classifiers_have() -> None:
    def run(dataset: str, model: str, seed: int, accuracy: float, name: str | None = None) -> Run:
        return {
            "dataset": dataset, "split": "test", "model": model, "name": name, "seed": seed, "accuracy": accuracy,
        }  # fmt: skip

    runs = [
        run("trec_coarse", "ours", 1, 0.9, "rnn_hf"), run("trec_coarse", "ours", 1, 0.1, "other settings"),
        run("trec_coarse", "tfidf", 1, 0.8), run("trec_coarse", "tfidf", 2, 0.1),
        run("banking77", "ours", 1, 0.7, "rnn_hf"), run("banking77", "tfidf", 1, 0.4),
        run("clinc150", "ours", 1, 0.1, "rnn_hf"),
        run("ag_news_without_blanks", "ours", 1, 0.1, "rnn_hf"), run("ag_news_without_blanks", "tfidf", 1, 0.1),
    ]  # fmt: skip
    means, num_rows = panel_results.mean_accuracies({"runs": runs}, "test", ["ours", "tfidf"])
    assert (means, num_rows) == ({"ours": pytest.approx(0.8), "tfidf": pytest.approx(0.6)}, 2)
    assert panel_results.mean_accuracies({"runs": runs}, "validation", ["ours", "tfidf"]) == ({}, 0)


def test_fasttext_is_trained_on_all_rows_with_what_was_best_on_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[int, int, float]] = []

    class Answers:
        def __init__(self, texts: list[str], labels: list[str], learning_rate: float, num_epochs: int) -> None:
            trained.append((len(texts), num_epochs, learning_rate))
            self.is_right = (num_epochs, learning_rate) == (25, 0.5)

        def __call__(self, texts: list[str]) -> list[str]:
            return ["a" if self.is_right else "b"] * len(texts)

    monkeypatch.setattr(panel_peers, "FastText", Answers)
    rows = panel_datasets.Rows(["text"] * 50, ["a"] * 50)
    peer = panel_peers.train_fasttext(panel_datasets.PanelRows(rows, None, rows))
    assert peer.settings == {"num_epochs": 25, "learning_rate": 0.5}
    assert [num_rows for num_rows, *_ in trained] == [45] * 9 + [50]
    assert trained[-1] == (50, 25, 0.5)


def test_only_texts_without_blanks_have_a_peer_of_characters() -> None:
    def peers(name: str) -> list[str]:
        return panel_peers.peers_of(["ours", "tfidf", "fasttext"], panel_datasets.DATASETS[name])

    assert peers("ag_news_without_blanks") == ["tfidf", "tfidf_characters", "fasttext"]
    assert peers("banking77") == ["tfidf", "fasttext"]
    assert peers("go_emotions") == peers("clear") == ["tfidf"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--datasets", "imdb"], "`--datasets` must be of ag_news_500, "),
        (["--models", "bert"], "`--models` must be of ours, tfidf, fasttext, model2vec, got bert."),
        (["--seed", "1"], "Pass `--seeds`"),
        (["--seeds", "1", "1"], "`--seeds` must be different numbers"),
        (["--folder", "nowhere"], "`--folder` must be a folder, but there is none at 'nowhere'."),
        (["--setting", "hidden"], "`--setting` must be KEY=VALUE"),
        (["--setting", "colour=red"], "`--setting` must be KEY=VALUE"),
        (["--setting", "seed=1"], "`--setting` must be KEY=VALUE"),
        (["--setting", "hidden_size=many"], "invalid int value: 'many'"),
        (["--setting", "hidden_size=0"], "`hidden_size` must be at least 1"),
        (["--word_vectors", "nowhere.txt"], "nowhere.txt"),
        (["--output_file", "nowhere/x.json"], "The folder of `--output_file` does not exist: 'nowhere'"),
        (["--setting", "max_steps=5", "--setting", "hidden_size=4"], "`--setting` must be given once."),
        (["--datasets", "clear", "--folder", "FOLDER/clear"], "CLEAR is not on the Hub. Pass `--folder`"),
        (["--datasets", "trec_fine"], "TREC, fine must have the columns text and fine_label, got text, coarse_label."),
    ],
)
def test_a_mistake_of_the_user_is_one_line(
    folder: Path, measure: Measure, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        measure("--datasets", "trec_coarse", *(word.replace("FOLDER", str(folder)) for word in argv), models="ours")
    line = last_line(capsys.readouterr().err)
    assert line.startswith("panel: error: ")
    assert message in line


def test_a_file_of_another_kind_is_not_overwritten(
    measure: Measure, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text('{"points": []}')
    with pytest.raises(SystemExit, match="2"):
        measure("--datasets", "trec_coarse")
    assert "must be a file of results of the panel" in capsys.readouterr().err
    assert file.read_text() == '{"points": []}'


def test_the_place_of_a_file_of_word_vectors_is_not_recorded() -> None:
    runs = json.loads((ROOT / "model_cards" / "panel.json").read_text())["runs"]
    vectors = {run["settings"].get("word_vectors") for run in runs if run["model"] == "ours"} - {None}
    assert vectors and not any(Path(name).is_absolute() for name in vectors)
