import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from rnn_hf import RNNConfig, RNNForSequenceClassification
from rnn_hf.commands import predict, train
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import train_tokenizer
from scripts.benchmark import __main__ as benchmark
from scripts.benchmark import peers as benchmark_peers
from scripts.benchmark import processes as benchmark_processes
from scripts.benchmark import training as benchmark_training
from scripts.benchmark.report import Promise, Spread, take_turns

ROOT = Path(__file__).parents[2]
Train = Callable[..., tuple[dict[str, Any], Path]]

PROMISED_KEYS = {"benchmark", "arguments", "machine", "versions", "rows", "promises", "runtime"}
LESSON_RECIPES = list(benchmark_training.LESSON_SPEEDUPS)


def recipe(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "model_cards" / name / "recipe.yaml").read_text())
    return loaded


def run(*argv: str, output_file: Path) -> dict[str, dict[str, Any]]:
    """Run a benchmark; return the rows of the file it wrote by their names."""
    result = benchmark.main([*argv, "--output_file", str(output_file)])
    written = json.loads(output_file.read_text())
    assert written == json.loads(json.dumps(result))
    assert written.keys() >= PROMISED_KEYS
    assert written["benchmark"] == argv[0]
    assert written["machine"].keys() >= {"cpu", "num_threads"}
    assert written["versions"].keys() >= {"torch", "transformers", "rnn_hf"}
    assert all(promise.keys() >= {"promise", "measured", "is_kept"} for promise in written["promises"])
    return {row["name"]: row for row in written["rows"]}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make tiny models slow where the processors are shared."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "NUM_TEXTS_OF_TRANSFORMERS", 2)
    monkeypatch.setattr(benchmark, "NUM_SINGLE_TEXTS", 3)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_peers, "is_installed", lambda package: False)


@pytest.mark.usefixtures("few_texts")
def test_prediction_is_compared_and_written(train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = train("model")
    capsys.readouterr()
    argv = ["--model_name_or_path", str(folder), "--dataset_name", "demo", "--max_samples", "40", "--rounds", "2"]
    rows = run("predict", *argv, output_file=tmp_path / "predict.json")
    for name in (benchmark.OURS, benchmark.PIPELINE, benchmark.TFIDF):
        assert rows[name]["num_texts"] == 40
        for measured in (rows[name]["texts_per_second"], rows[name]["milliseconds_for_one_text"]):
            assert 0 < measured["percentile_10"] <= measured["median"] <= measured["percentile_90"]
    assert rows[benchmark.MINILM_SHAPE]["num_texts"] == 2
    on_disk = sum((folder / name).stat().st_size for name in ("model.safetensors", "tokenizer.json", "config.json"))
    assert rows[benchmark.OURS]["megabytes"] == on_disk / 1e6
    # 6 layers of size 384 and a vocabulary of few word pieces, in float32
    assert 42 < rows[benchmark.MINILM_SHAPE]["megabytes"] < 50
    assert rows[benchmark.OURS]["ours_is_times_as_fast"]["median"] == 1
    assert rows[benchmark.TFIDF]["accuracy"] > 0.9
    assert {benchmark.FASTTEXT, benchmark.MODEL2VEC, benchmark.TOKENIZER_ALONE, benchmark.RECURRENT_ALONE} <= set(rows)
    table = capsys.readouterr().out
    assert all(name in table for name in rows)
    assert f"Written: {tmp_path / 'predict.json'}" in table


@pytest.mark.usefixtures("few_texts")
def test_a_fine_tuned_transformer_has_an_accuracy(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_peers, "is_installed", lambda package: package == "transformers")
    _, folder = train("model")
    argv = ["--model_name_or_path", str(folder), "--encoder_name_or_path", str(folder), "--dataset_name", "demo"]
    rows = run("predict", *argv, "--max_samples", "8", "--rounds", "1", output_file=tmp_path / "predict.json")
    encoder = rows[benchmark.FINE_TUNED]
    assert benchmark.MINILM_SHAPE not in rows
    assert encoder["accuracy"] == rows[benchmark.OURS]["accuracy"]
    assert encoder["megabytes"] == (folder / "model.safetensors").stat().st_size / 1e6


def test_model2vec_gives_a_vector_for_each_text() -> None:
    pytest.importorskip("model2vec", reason="the extra [benchmark] is not installed")
    encode = benchmark_peers.model2vec_peer(benchmark_peers.train_wordpiece(["The club won the cup."]))
    assert encode(["The club", "", "won"]).shape == (3, 256)


@pytest.mark.usefixtures("few_texts", "nothing_installed")
def test_what_is_not_installed_is_said_to_be_so(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = train("model")
    capsys.readouterr()
    argv = ["--model_name_or_path", str(folder), "--dataset_name", "demo", "--max_samples", "8", "--rounds", "1"]
    rows = run("predict", *argv, output_file=tmp_path / "predict.json")
    assert rows[benchmark.FASTTEXT] == {"name": benchmark.FASTTEXT, "texts_per_second": "not installed"}
    lines = capsys.readouterr().out.splitlines()
    assert sum("not installed" in line for line in lines) == 5
    assert any(line.startswith("not measured at least as fast as model2vec") for line in lines)


@pytest.mark.usefixtures("nothing_installed")
def test_training_is_compared_at_equal_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--dataset_name", "demo", "--max_samples", "64", "--rounds", "1", "--optim", "adam"]
    rows = run("train", *argv, "--recipes", "lesson-lstm-packed", output_file=tmp_path / "train.json")
    lesson, ours = rows["lesson-lstm-packed: the lesson"], rows["lesson-lstm-packed: rnn_hf"]
    assert lesson["num_parameters"] == ours["num_parameters"]
    assert lesson["num_steps"] == ours["num_steps"] == rows["ag-news: rnn_hf"]["num_steps"] == 4
    of_default = yaml.safe_load(benchmark_training.recipe_file("ag-news").read_text())["max_steps"]
    for row, steps in ((lesson, 250), (ours, 250), (rows["ag-news: rnn_hf"], of_default)):
        assert row["extrapolated_seconds"]["median"] == pytest.approx(
            steps * row["milliseconds_per_step"]["median"] / 1000
        )
    assert rows["fastText, measured whole"]["extrapolated_seconds"] == "not installed"
    table = capsys.readouterr().out
    assert "EXTRAPOLATED" in table
    assert "at least 10 times as fast as the lesson's loop (aim: 20)" in table


def test_training_is_compared_with_its_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "device.json"
    argv = ["device", "--dataset_name", "demo", "--use_cpu", "--num_steps", "2", "--rounds", "1"]
    result = benchmark.main([*argv, "--output_file", str(file)])
    assert json.loads(file.read_text()) == result
    script, layers = (row["texts_per_second"]["median"] for row in result["rows"])
    assert result["percent_of_the_layers"] == pytest.approx(100 * script / layers)
    assert result["device"] == "cpu"
    assert "the recurrent layers alone" in capsys.readouterr().out


def test_loading_takes_each_figure_from_its_statement(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = train("model")
    monkeypatch.setattr(
        benchmark_processes.LoadBenchmark,
        "seconds_of_statements",
        staticmethod(lambda statements: [1.0, 2.0, 4.0, 8.0, 16.0][: len(statements)]),
    )
    rows = run("load", "--model_name_or_path", str(folder), "--rounds", "1", output_file=tmp_path / "load.json")
    assert [row["seconds"]["median"] for row in rows.values()] == [1, 3, 7, 8, 16, 8, 16]
    written = json.loads((tmp_path / "load.json").read_text())
    assert written["model_bytes"] == (folder / "model.safetensors").stat().st_size
    assert [promise["is_kept"] for promise in written["promises"]] == [False, True]


def test_a_fresh_process_times_its_statements() -> None:
    statements = ["import time", "time.sleep(0.2)", "assert 'torch' not in __import__('sys').modules"]
    seconds = benchmark_processes.LoadBenchmark.seconds_of_statements(statements)
    assert len(seconds) == 3
    assert seconds[1] >= 0.2 > seconds[2]


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        benchmark_processes.run_child([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_memory_is_compared_on_copies_of_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts: dict[str, Callable[[list[str]], Any]] = {"train.py": train.main, "predict.py": predict.main}
    labels = []

    def in_this_process(script: str, argv: list[str], folder: Path) -> dict[str, Any]:
        found = scripts[script](argv)
        if script == "train.py":
            labels.append(found["num_train_examples"])
            return {"seconds": 1, "peak_resident_bytes": 100, "peak_anonymous_bytes": 50 * len(labels)}
        lines = (folder / "labels.jsonl").read_text().splitlines()
        labels.append(len(lines))
        return {"seconds": 1, "peak_resident_bytes": 100 * len(labels), "peak_anonymous_bytes": 50}

    monkeypatch.setattr(benchmark_processes, "peak_of", in_this_process)
    argv = ["--dataset_name", "demo", "--max_samples", "50", "--copies", "3"]
    rows = run("memory", *argv, output_file=tmp_path / "memory.json")
    assert labels == [50, 50, 150, 150]
    assert [row["num_rows"] for row in rows.values()] == [50, 50, 150, 150]
    promises = json.loads((tmp_path / "memory.json").read_text())["promises"]
    assert [promise["is_kept"] for promise in promises] == [False, True]
    assert "MISSED" in capsys.readouterr().out


def test_the_peak_of_memory_outlives_what_needed_it(tmp_path: Path) -> None:
    script, output = tmp_path / "script.py", tmp_path / "peak.json"
    script.write_text("import sys, time\nblock = b'x' * int(sys.argv[1])\ntime.sleep(0.3)\ndel block\n")
    peaks = []
    for size in (0, 100_000_000):
        command = [
            sys.executable,
            str(ROOT / "scripts" / "benchmark" / "peak_memory.py"),
            str(output),
            str(script),
            str(size),
        ]
        subprocess.run(command, check=True, timeout=60)
        peaks.append(json.loads(output.read_text()))
    for kind in ("peak_resident_bytes", "peak_anonymous_bytes"):
        if peaks[0][kind] is not None:
            assert 95e6 < peaks[1][kind] - peaks[0][kind] < 105e6


@pytest.mark.slow
def test_fresh_processes_load_and_train(train: Train, tmp_path: Path) -> None:
    _, folder = train("model")
    rows = run("load", "--model_name_or_path", str(folder), "--rounds", "1", output_file=tmp_path / "load.json")
    assert all(row["seconds"]["median"] > 0 for row in rows.values())
    argv = ["--dataset_name", "demo", "--max_samples", "300", "--copies", "2"]
    rows = run("memory", *argv, output_file=tmp_path / "memory.json")
    assert all(row["peak_resident_megabytes"]["median"] > 50 for row in rows.values())


@pytest.mark.usefixtures("few_texts")
def test_a_profile_shows_shares_and_writes_nothing(
    train: Train, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = train("model")
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    argv = ["--dataset_name", "demo", "--profile"]
    assert benchmark.main(["predict", "--model_name_or_path", str(folder), "--max_samples", "40", *argv]) == {}
    assert "aten::" in capsys.readouterr().out
    benchmark.main(["train", "--max_samples", "64", "--recipes", "lesson-rnn", "--optim", "adam", *argv])
    table = capsys.readouterr().out
    sections = table.split("% of the time\n")[1].split("\n\n")[0].splitlines()
    shares = {line[:20].strip(): float(line.split()[-1]) for line in sections}
    assert list(shares) == ["forward", "backward", "optimizer", "making batches", "the rest"]
    assert sum(shares.values()) == pytest.approx(100, abs=0.5)
    assert all(share >= 0 for share in shares.values())
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", LESSON_RECIPES)
def test_the_lessons_model_is_the_recipes_model(name: str) -> None:
    """With the same weights both compute the same logits, padding and all."""
    torch.manual_seed(0)
    texts = ["Rebels sign a truce, again.", "Goal!", "Shares fell"]
    vocabulary = benchmark_peers.LessonVocabulary(texts)
    lesson = benchmark_peers.LessonClassifier(
        benchmark_peers.LessonSettings.from_recipe(recipe(name)), len(vocabulary), num_labels=4
    )
    tokenizer = train_tokenizer(texts)
    fields = {key: value for key, value in recipe(name).items() if key in RNNConfig.__dataclass_fields__}
    ours = RNNForSequenceClassification(
        RNNConfig(**fields | {"vocab_size": len(tokenizer)}, num_labels=4, pad_token_id=0)
    ).eval()
    assert sum(weight.numel() for weight in lesson.parameters()) == ours.num_parameters()

    def key(weight: str) -> str:
        return weight.replace("embedding.", "model.embed_tokens.").replace("recurrent.", "model.layers.0.recurrent.")

    ours.load_state_dict({key(weight): values for weight, values in lesson.state_dict().items()})
    input_ids, lengths, _ = vocabulary.collate([(text, 0) for text in texts])
    mask = torch.arange(input_ids.shape[1]) < lengths[:, None]
    with torch.no_grad():
        torch.testing.assert_close(lesson(input_ids, lengths), ours(input_ids, attention_mask=mask).logits)


@pytest.mark.parametrize("name", LESSON_RECIPES)
def test_the_lessons_loop_learns(name: str) -> None:
    torch.manual_seed(0)
    news = load_demo_news(num_train=320, num_test=4)["train"]
    # the state after much padding, which one of them reads, learns nothing so soon
    texts = [" ".join(text.split()[:8]) for text in news["text"]]
    rows = list(zip(texts, news["label"], strict=True))
    vocabulary = benchmark_peers.LessonVocabulary(texts)
    settings = benchmark_peers.LessonSettings.from_recipe(recipe(name) | {"learning_rate": 0.01})
    model = benchmark_peers.LessonClassifier(settings, len(vocabulary), num_labels=4)
    runs = [benchmark_peers.train_lesson(model, vocabulary, rows) for _ in range(8)]
    assert [len(run.losses) for run in runs] == [20] * 8
    assert sum(runs[-1].losses) < 0.8 * sum(runs[0].losses)
    assert runs[-1].accuracy > runs[0].accuracy
    assert runs[0].step_ends == sorted(runs[0].step_ends)


TRICKY_TEXTS = [
    'It\'s a "start-up": really!',
    "a<br />b;c:d (e) f?g.h,i!",
    '<br "/>x  \t\n y\u2028z\x1c\x85w',
    "ΣΑΣ İstanbul Straße ﬁ",
    "...''!!\"\"",
    "[PAD] [UNK] <unk>",
    "U.S. #36;46.75 AT&amp;T \\team",
    "😀 naïve—dash “quotes”",
    "",
]


@pytest.mark.parametrize("text", TRICKY_TEXTS)
def test_the_lessons_words_are_the_tokenizers(text: str) -> None:
    tokenizer = train_tokenizer([*TRICKY_TEXTS, "word"])
    assert benchmark_peers.basic_english(text) == tokenizer.tokenize(text)


def test_the_lessons_vocabulary_is_as_large_as_the_tokenizers() -> None:
    texts = [*load_demo_news(num_train=400, num_test=4)["train"]["text"], *TRICKY_TEXTS]
    assert len(benchmark_peers.LessonVocabulary(texts)) == len(train_tokenizer(texts))


def test_a_text_without_words_can_be_packed() -> None:
    input_ids, lengths, labels = benchmark_peers.LessonVocabulary(["a b"]).collate([("", 1), ("b c", 0)])
    assert (input_ids.tolist(), lengths.tolist(), labels.tolist()) == ([[1, 0], [3, 1]], [1, 2], [1, 0])


def test_contestants_take_turns() -> None:
    calls = []
    spreads = take_turns(
        {name: lambda name=name: calls.append(name) or float(len(calls)) for name in "AB"},  # type: ignore[misc]
        rounds=3,
        desc="Testing",
    )
    assert calls == ["A", "B"] * 3
    assert spreads["A"].rounds == [1, 3, 5]
    assert spreads["B"].over(spreads["A"]).rounds == [2, 4 / 3, 6 / 5]


def test_the_first_steps_do_not_count() -> None:
    slow_start = [100.0 * step for step in range(1, 21)]
    ends = slow_start + [slow_start[-1] + step for step in range(1, 31)]
    assert benchmark_training.per_step(ends) == pytest.approx(1)
    assert benchmark_training.per_step([50.0, 51.0, 53.0, 55.0]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("promise", "verdict"),
    [
        (Promise("x", 5.0, at_least=5), "ok"),
        (Promise("x", 4.9, at_least=5), "MISSED"),
        (Promise("x", 0.5, at_most=0.5), "ok"),
        (Promise("x", 0.6, at_most=0.5), "MISSED"),
        (Promise("x", None, at_most=0.5), "not measured"),
    ],
)
def test_a_promise_is_kept_up_to_its_bound(promise: Promise, verdict: str) -> None:
    assert str(promise).startswith(verdict)


def test_the_median_shrugs_off_a_disturbed_round() -> None:
    rounds = [*range(1, 11), 900.0]
    assert Spread(rounds).as_dict() == {"median": 6, "percentile_10": 2, "percentile_90": 10}


def test_the_benchmark_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts.benchmark", "train", "--rounds", "0"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_module("scripts.benchmark", run_name="__main__")
    assert capsys.readouterr().err.strip() == "benchmark: error: `--rounds` must be at least 1, got 0."
