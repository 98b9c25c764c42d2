import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer

from rnn_hf import RNNForSequenceClassification
from rnn_hf.commands import evaluate, predict
from rnn_hf.commands import train as script
from rnn_hf.training import classifier
from rnn_hf.training.metrics import compute_metrics
from tests.conftest import ROOT, in_new_process, weights

Train = Callable[..., tuple[dict[str, Any], Path]]
PROMISED_FILES = {
    "README.md", "all_results.json", "config.json", "configuration_rnn.py", "figures", "layers_rnn.py",
    "model.safetensors", "modeling_rnn.py", "ngrams_rnn.py", "outputs_rnn.py", "pooling_rnn.py", "recipe.yaml",
    "recurrences_rnn.py", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip
PROMISED_RESULTS = {
    "test_accuracy", "test_macro_f1", "validation_accuracy", "epoch", "train_runtime", "train_samples_per_second",
    "num_train_examples", "num_test_examples", "num_processes", "seed", "torch_version", "transformers_version",
    "num_validation_examples", "python_version", "model_bytes", "test_calibration",
}  # fmt: skip


def own_home(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has downloaded nothing yet."""
    return {"HF_HOME": str(folder / "home"), "HF_DATASETS_CACHE": str(folder / "datasets")}


@pytest.mark.draws
def test_a_run_writes_what_is_promised(train: Train) -> None:
    results, folder = train("run")
    assert {path.name for path in folder.iterdir()} == PROMISED_FILES
    assert json.loads((folder / "all_results.json").read_text()) == results
    assert results.keys() >= PROMISED_RESULTS
    assert (results["num_train_examples"], results["num_test_examples"], results["num_processes"]) == (400, 1000, 1)
    assert (results["epoch"], results["step"]) == (1, 7)
    assert results["train_samples_per_second"] == pytest.approx(400 / results["train_runtime"])
    assert results["data"]["num_rows"]["train"] == 400 and "num_duplicates" in results["data"]


def test_a_run_replaces_the_links_in_its_folder_and_writes_through_none(train: Train, tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "run"
    for path in (elsewhere, folder):
        path.mkdir()
    (elsewhere / "file").write_text("mine")
    for name in ("model.safetensors", "README.md", "recipe.yaml", "config.json", ".all_results.tmp.json"):
        (folder / name).symlink_to(elsewhere / "file")
    for name in ("checkpoints", "figures", "finished", ".finished.tmp"):
        (folder / name).symlink_to(elsewhere)
    train("run", "--overwrite_output_dir", "--save_strategy", "epoch")
    assert [path.name for path in elsewhere.iterdir()] == ["file"] and (elsewhere / "file").read_text() == "mine"
    assert {path.name for path in folder.iterdir() if not path.is_symlink()} == {*PROMISED_FILES, "checkpoints"}
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000007"]


def test_a_run_without_matplotlib_says_that_it_draws_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _, folder = train("run")
    assert {path.name for path in folder.iterdir()} == PROMISED_FILES - {"figures"}
    assert "No figures were drawn" in capsys.readouterr().out
    assert "](figures/" not in (folder / "README.md").read_text()


def test_the_same_seed_and_the_written_recipe_give_the_same_weights(train: Train) -> None:
    _, first = train("first", "--classifier_dropout", "0.5", "--word_dropout", "0.2")
    _, other_seed = train("other", "--classifier_dropout", "0.5", "--word_dropout", "0.2", "--seed", "1")
    again = first.parent / "again"
    script.main([str(first / "recipe.yaml"), "--output_dir", str(again)])
    assert weights(first) == weights(again)
    assert weights(first) != weights(other_seed)


def test_evaluating_the_written_model_gives_the_results_of_the_run(train: Train) -> None:
    results, folder = train("run", "--num_train_epochs", "2")
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"])
    assert metrics["accuracy"] == results["test_accuracy"]
    assert metrics["confusion_matrix"] == results["test_confusion_matrix"]
    on_validation = evaluate.main(
        ["--model_name_or_path", str(folder), "--dataset_name", "demo", "--split", "validation", "--use_cpu"]
    )
    assert on_validation["accuracy"] == results["validation_accuracy"]


def test_the_best_weights_are_kept(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three evaluations is declared the best."""
    measured = []

    def declare(*args: Any) -> dict[str, Any]:
        measured.append(compute_metrics(*args))
        return measured[-1] | {"accuracy": [0.3, 0.9, 0.5, 0.1][len(measured) - 1]}

    monkeypatch.setattr(classifier, "compute_metrics", declare)
    results, folder = train("run", "--num_train_epochs", "3", "--learning_rate", "0.03")
    assert (results["validation_accuracy"], results["best_step"], results["step"]) == (0.9, 14, 21)
    argv = ["--model_name_or_path", str(folder), "--dataset_name", "demo", "--split", "validation", "--use_cpu"]
    kept = evaluate.main(argv)["loss"]
    assert kept == pytest.approx(measured[1]["loss"])
    assert kept != pytest.approx(measured[2]["loss"])


def test_training_stops_where_nothing_is_gained(train: Train) -> None:
    results, _ = train("run", "--num_train_epochs", "9", "--learning_rate", "1e-12", "--early_stopping_patience", "2")
    assert (results["epoch"], results["best_step"]) == (3, 7)


def test_a_finished_run_resumes_to_its_own_end(train: Train) -> None:
    results, folder = train("run", "--save_strategy", "epoch", "--num_train_epochs", "2")
    before = weights(folder)
    again, _ = train(
        "run", "--save_strategy", "epoch", "--num_train_epochs", "2", "--resume_from_checkpoint", "latest"
    )
    assert weights(folder) == before
    assert again["test_confusion_matrix"] == results["test_confusion_matrix"]


def test_accumulated_batches_are_one_batch(train: Train) -> None:
    no_dropout = ["--word_dropout", "0", "--embedding_dropout", "0", "--classifier_dropout", "0"]
    common = [*no_dropout, "--max_steps", "3", "--optim", "sgd", "--train_sampling_strategy", "random"]
    _, large = train("large", *common, "--per_device_train_batch_size", "32")
    _, small = train("small", *common, "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "4")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (small, large))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, msg=lambda text, name=name: f"{name}: {text}")


def test_training_goes_on_from_a_checkpoint_with_other_labels(train: Train, tmp_path: Path) -> None:
    _, first = train("first", "--hidden_dropout_prob", "0.1")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "\n".join(f"a {word} film,{word}" for word in ("good", "bad") * 40))
    settings = ["--train_file", str(rows), "--model_name_or_path", str(first), "--use_cpu", "--max_steps", "1"]
    settings += ["--settings_from_data", "false"]
    folder = tmp_path / "second"
    script.main([*settings, "--output_dir", str(folder), "--learning_rate", "1e-30", "--classifier_dropout", "0.5"])
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert (config["hidden_size"], config["hidden_dropout_prob"], config["classifier_dropout"]) == (8, 0.1, 0.5)
    before, after = (load_file(path / "model.safetensors") for path in (first, folder))
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert after["classifier.weight"].shape[0] == 2
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert (recipe["hidden_size"], recipe["vocab_size"]) == (8, config["vocab_size"])
    with pytest.raises(SystemExit, match="2"):
        script.main([*settings, "--output_dir", str(tmp_path / "third"), "--hidden_size", "99"])


def test_classes_keep_their_ids_when_training_goes_on(train: Train, tmp_path: Path) -> None:
    """Labels that are strings are sorted; a checkpoint may have them in another order."""
    _, first = train("first")
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "text,label\n" + "\n".join(f"some news,{name}" for name in ("Sci/Tech", "Sports", "World", "Business") * 30)
    )
    folder = tmp_path / "second"
    script.main(
        ["--train_file", str(rows), "--model_name_or_path", str(first), "--use_cpu", "--max_steps", "1",
         "--learning_rate", "1e-30", "--settings_from_data", "false", "--output_dir", str(folder)]
    )  # fmt: skip
    assert json.loads((folder / "config.json").read_text())["id2label"]["0"] == "World"
    assert weights(first) == weights(folder)


def test_pretrained_vectors_are_read_and_saved(train: Train, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the " + " ".join(["0.25"] * 16) + "\nzzz " + " ".join(["9"] * 16) + "\n")
    _, folder = train("run", "--word_vectors", str(vectors), "--max_steps", "1", "--learning_rate", "1e-30")
    row = AutoTokenizer.from_pretrained(folder).get_vocab()["the"]
    model = RNNForSequenceClassification.from_pretrained(folder)
    assert torch.equal(model.get_input_embeddings().weight[row], torch.full((16,), 0.25))


@pytest.mark.parametrize("tokenizer_type", ["bpe", "wordpiece", "unigram"])
def test_a_model_of_pieces_of_words_is_trained_and_evaluated(train: Train, tokenizer_type: str) -> None:
    results, folder = train("run", "--tokenizer_type", tokenizer_type, "--vocab_size", "150")
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    assert len(vocabulary) == json.loads((folder / "config.json").read_text())["vocab_size"] == 150
    assert "ing" in {token.removeprefix("##") for token in vocabulary}
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"])
    assert metrics["confusion_matrix"] == results["test_confusion_matrix"]


def test_texts_of_every_length_go_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, folder = tmp_path / "rows.jsonl", tmp_path / "run"
    texts = ["", " ", "word", "two words", "word " * 100_000]
    rows.write_text("\n".join(json.dumps({"text": text, "label": row % 2}) for row, text in enumerate(texts * 12)))
    argv = ["--train_file", str(rows), "--test_file", str(rows), "--output_dir", str(folder), "--use_cpu"]
    results = script.main([*argv, "--embedding_size", "4", "--hidden_size", "4", "--num_train_epochs", "1"])
    assert (results["num_train_examples"], results["num_test_examples"]) == (60, 60)
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--test_file", str(rows), "--use_cpu"])
    assert metrics["confusion_matrix"] == results["test_confusion_matrix"]
    capsys.readouterr()
    predict.main(["--model_name_or_path", str(folder), "--text", *texts])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 5
    assert all(0.5 <= answer["probability"] <= 1 for answer in answers)


def test_evaluation_by_steps_measures_the_last_one_once(train: Train) -> None:
    results, _ = train("run", "--eval_strategy", "steps", "--eval_steps", "3", "--logging_steps", "2")
    steps = [entry["step"] for entry in results["log"] if "validation_accuracy" in entry]
    assert steps == [3, 6, 7]
    logged = [entry for entry in results["log"] if "train_accuracy" in entry]
    assert [entry["step"] for entry in logged] == [2, 4, 6]
    again, _ = train("again", "--eval_strategy", "steps", "--eval_steps", "7")
    assert [entry["step"] for entry in again["log"]] == [7]


def test_the_last_weights_may_be_kept_instead_of_the_best(train: Train) -> None:
    # the lazy optimizer rounds differently if evaluations come between its steps
    argv = ["--eval_strategy", "steps", "--eval_steps", "1", "--learning_rate", "3", "--optim", "adamw_torch"]
    best, _ = train("best", *argv)
    last, folder = train("last", *argv, "--load_best_model_at_end", "false")
    _, unmeasured = train("unmeasured", *argv, "--eval_strategy", "no")
    validated = [entry["validation_accuracy"] for entry in last["log"] if "validation_accuracy" in entry]
    assert best["best_step"] < best["step"] and best["validation_accuracy"] == max(validated)
    assert last["best_step"] == last["step"] and last["validation_accuracy"] == validated[-1] < max(validated)
    assert (folder / "model.safetensors").read_bytes() == (unmeasured / "model.safetensors").read_bytes()


def test_a_run_in_bfloat16_learns_and_saves_float32(train: Train) -> None:
    results, folder = train("run", "--bf16", "--num_train_epochs", "10", "--max_train_samples", "2000")
    assert results["test_accuracy"] > 0.6
    assert {weight.dtype for weight in load_file(folder / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_the_bytes_are_saved_and_tested_and_loaded_as_float32(train: Train, dtype: torch.dtype) -> None:
    results, folder = train("run", "--save_dtype", str(dtype).removeprefix("torch."), "--num_train_epochs", "2")
    assert {weight.dtype for weight in load_file(folder / "model.safetensors").values()} == {dtype}
    assert RNNForSequenceClassification.from_pretrained(folder).dtype == torch.float32
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"])
    assert (metrics["confusion_matrix"], metrics["loss"]) == (results["test_confusion_matrix"], results["test_loss"])


def test_small_batches_and_networks_are_trained_on_one_thread_and_the_setting_is_put_back(train: Train) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    sizes = {"small": (16, 100), "narrow": (64, 64), "large": (64, 65)}
    threads = {}
    for name, (batch_size, hidden_size) in sizes.items():
        argv = ["--per_device_train_batch_size", str(batch_size), "--hidden_size", str(hidden_size)]
        threads[name] = train(name, *argv, "--max_steps", "1")[0]["num_threads"]
    assert (threads, torch.get_num_threads()) == ({"small": 1, "narrow": 1, "large": 2}, 2)
    torch.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is only known on Linux")
@pytest.mark.slow
def test_texts_of_many_lengths_do_not_fill_memory_with_kernels(tmp_path: Path) -> None:
    """oneDNN compiles kernels for every length of a batch; unless told otherwise, training lets it keep few."""
    code = """
import sys
from rnn_hf.commands.train import main
from scripts.benchmark.peak_memory import PeakMemory
with PeakMemory() as peak:
    main(sys.argv[1:])
print(peak.anonymous)
"""
    rows, peaks = tmp_path / "rows.csv", []
    with rows.open("w") as file:
        file.write("text,label\n")
        file.writelines(f"{'word ' * length}{row},{row % 2}\n" for length in range(100, 250) for row in range(128))
    flags = ["--train_file", str(rows), "--num_train_epochs", "1", "--per_device_train_batch_size", "128", "--use_cpu"]
    flags += ["--embedding_size", "8", "--hidden_size", "8", "--ngram_buckets", "0", "--validation_size", "0"]
    for name, settings in {"few": {}, "many": {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}}.items():
        done = in_new_process(code, *flags, "--output_dir", str(tmp_path / name), PYTHONPATH=str(ROOT), **settings)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) / 2**20)
    print(f"\npeaks of {peaks[0]:.0f} and {peaks[1]:.0f} MiB")
    assert peaks[0] < peaks[1] - 50
