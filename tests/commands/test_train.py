import json
import subprocess
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
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.sources import DEFAULT_DATASET
from rnn_hf.reporting import results
from rnn_hf.training import classifier
from rnn_hf.training.metrics import compute_metrics
from tests import local_hub
from tests.conftest import TINY_RUN, TORCHRUN, free_port, last_line, run_script, weights

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


def test_a_fresh_process_computes_the_trained_models_logits(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[RNNForSequenceClassification] = []
    write_results = results.write_results
    monkeypatch.setattr(
        results, "write_results", lambda model, *rest: [trained.append(model), write_results(model, *rest)]
    )
    _, folder = train("run")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["A minister met voters.", "", "The club won!"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = trained[0].eval()(**batch).logits
    torch.save(dict(batch), folder / "batch.pt")
    code = (
        "import sys, torch, rnn_hf\n"
        "from transformers import AutoModelForSequenceClassification\n"
        "model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()\n"
        "with torch.no_grad():\n"
        "    torch.save(model(**torch.load(sys.argv[1] + '/batch.pt')).logits, sys.argv[1] + '/logits.pt')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, timeout=120)
    assert torch.equal(torch.load(folder / "logits.pt"), expected)


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


@pytest.mark.parametrize(("launcher", "optim"), [("torchrun", "lazy_adamw"), ("accelerate", "adamw_torch_fused")])
def test_two_processes_count_every_row_once(tmp_path: Path, launcher: str, optim: str) -> None:
    module = {
        "torchrun": TORCHRUN,
        "accelerate": (
            "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", free_port(),
            "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        ),
    }[launcher]  # fmt: skip
    folder = tmp_path / "run"
    argv = [*TINY_RUN, "--output_dir", str(folder), "--optim", optim]
    done = run_script(*argv, launcher=(sys.executable, "-m", *module), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "all_results.json").read_text())
    assert (results["num_processes"], results["num_test_examples"], results["step"]) == (2, 1000, 4)
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"])
    assert metrics["confusion_matrix"] == results["test_confusion_matrix"]


def test_frozen_word_vectors_stay_on_two_processes(train: Train, tmp_path: Path) -> None:
    _, untrained = train("untrained", "--learning_rate", "1e-30", "--max_steps", "1", "--eval_strategy", "no")
    folder = tmp_path / "run"
    argv = [*TINY_RUN, "--output_dir", str(folder), "--freeze_embeddings_epochs", "-1", "--eval_strategy", "no"]
    done = run_script(*argv, launcher=(sys.executable, "-m", *TORCHRUN), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    before, after = (load_file(path / "model.safetensors") for path in (untrained, folder))
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs for both processes")
def test_processes_that_would_train_separately_are_stopped(tmp_path: Path) -> None:
    argv = [word for word in TINY_RUN if word != "--use_cpu"]
    launcher = (sys.executable, "-m", *TORCHRUN)
    done = run_script(*argv, "--output_dir", str(tmp_path / "run"), launcher=launcher)
    assert done.returncode != 0
    assert "The launcher started 2 processes, but Accelerate sees 1" in done.stderr
    assert "Pass `--use_cpu true`" in done.stderr
    assert not (tmp_path / "run").exists()


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


def test_the_default_dataset_comes_from_the_hub(tmp_path: Path) -> None:
    demo = load_demo_news(num_train=200, num_test=40)
    for split, rows in demo.items():
        rows.to_parquet(tmp_path / "hub" / "datasets" / DEFAULT_DATASET / "data" / f"{split}-00000-of-00001.parquet")
    argv = [word for word in TINY_RUN if word not in ("--dataset_name", "demo")]
    with local_hub.serve(tmp_path / "hub") as address:
        done = run_script(*argv, "--output_dir", str(tmp_path / "run"), HF_ENDPOINT=address, **own_home(tmp_path))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert (results["num_train_examples"], results["num_test_examples"]) == (192, 40)
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["dataset_name"] == DEFAULT_DATASET


@pytest.mark.parametrize("env", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_out_of_reach_is_one_line_with_the_ways_out(tmp_path: Path, env: dict[str, str]) -> None:
    argv = [word for word in TINY_RUN if word not in ("--dataset_name", "demo")]
    done = run_script(*argv, "--output_dir", str(tmp_path / "run"), **env, **own_home(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert last_line(done.stderr).startswith("rnn-hf train: error: ")
    assert "`--dataset_name demo`" in last_line(done.stderr)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dataset_name", "./nowhere"], "./nowhere"),
        (["--text_column_names", "title"], "(columns: text, label)"),
        (["--label_column_name", "topic"], "(columns: text, label)"),
        (["--hiden_size", "3"], "Did you mean `--hidden_size`?"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--learning_rate", "0"], "`--learning_rate` must be above 0, got 0.0."),
        (["--hidden_size", "0"], "`--hidden_size` must be at least 1, got 0."),
        (["--word_dropout", "1"], "`--word_dropout` must be at least 0 and below 1, got 1.0."),
        (["--cell_type", "transformer"], "invalid choice: 'transformer'"),
        (["--word_vectors", "nowhere.txt"], "nowhere.txt"),
        (["--resume_from_checkpoint", "latest"], "No complete checkpoint is in"),
        (["--model_name_or_path", "./nowhere"], "./nowhere"),
        (["--report_to", "tracker-of-nobody"], "tracker-of-nobody"),
        (["--validation_size", "0", "--early_stopping_patience", "1"], "needs a validation split"),
        (["--save_strategy", "sometimes"], "invalid choice: 'sometimes'"),
        (["--tokenizer_type", "unigram", "--vocab_size", "5"], "`--vocab_size` must be larger"),
        (["--tokenizer_type", "bpe", "--tokenizer_name_or_path", "there"], "are mutually exclusive"),
        (["--validation_size", "0", "--temperature_scaling"], "`--temperature_scaling` needs a validation split"),
        (
            ["--problem_type", "regression", "--temperature_scaling"],
            "`--temperature_scaling` needs one class per text",
        ),
    ],
)
def test_a_mistake_of_the_user_is_one_line(
    train: Train, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        train("run", *argv)
    line = last_line(capsys.readouterr().err)
    assert line.startswith("rnn-hf train: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text,label\na,x\nb,y\n", "z"),
        ("text,label\n", "must have rows, got none"),
        ("words\na\n", "(columns: words)"),
    ],
)
def test_a_wrong_test_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, message: str
) -> None:
    """A label outside the classes, no rows, no label column."""
    train_rows, test_rows = tmp_path / "train.csv", tmp_path / "test.csv"
    train_rows.write_text("text,label\n" + "a,x\nb,y\n" * 30)
    test_rows.write_text(rows.replace("b,y", "b,z"))
    with pytest.raises(SystemExit, match="2"):
        script.main(
            ["--train_file", str(train_rows), "--test_file", str(test_rows), "--output_dir", str(tmp_path / "run")]
        )
    line = last_line(capsys.readouterr().err)
    assert line.startswith("rnn-hf train: error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_dataset_without_a_training_split_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\na,x\nb,y\n")
    with pytest.raises(SystemExit, match="2"):
        script.main(["--test_file", str(rows), "--output_dir", str(tmp_path / "run")])
    assert "The dataset has no training split (splits: test)." in last_line(capsys.readouterr().err)


def test_evaluation_by_steps_measures_the_last_one_once(train: Train) -> None:
    results, _ = train("run", "--eval_strategy", "steps", "--eval_steps", "3", "--logging_steps", "2")
    steps = [entry["step"] for entry in results["log"] if "validation_accuracy" in entry]
    assert steps == [3, 6, 7]
    logged = [entry for entry in results["log"] if "train_accuracy" in entry]
    assert [entry["step"] for entry in logged] == [2, 4, 6]
    again, _ = train("again", "--eval_strategy", "steps", "--eval_steps", "7")
    assert [entry["step"] for entry in again["log"]] == [7]


def test_a_run_in_bfloat16_learns_and_saves_float32(train: Train) -> None:
    results, folder = train("run", "--bf16", "--num_train_epochs", "10", "--max_train_samples", "2000")
    assert results["test_accuracy"] > 0.6
    assert {weight.dtype for weight in load_file(folder / "model.safetensors").values()} == {torch.float32}


def test_a_lazy_optimizer_trains_the_model_that_the_dense_one_trains(train: Train) -> None:
    settings = ["--num_train_epochs", "3", "--weight_decay", "0.1"]
    folders = [train(optim, *settings, "--optim", optim)[1] for optim in ("lazy_adamw", "adamw_torch")]
    ours, theirs = (load_file(folder / "model.safetensors") for folder in folders)
    for name, weight in theirs.items():
        torch.testing.assert_close(
            ours[name], weight, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("optim", ["lazy_adamw", "adamw_torch"])
def test_frozen_word_vectors_stay_and_thawed_ones_learn(train: Train, optim: str) -> None:
    """One epoch of two, with all that could move a matrix without a gradient: decay, clipping, accumulation."""
    settings = [
        "--optim",
        optim,
        "--weight_decay",
        "0.1",
        "--gradient_accumulation_steps",
        "2",
        "--eval_strategy",
        "no",
    ]
    name, common = "model.embed_tokens.weight", [*settings, "--num_train_epochs", "2"]
    _, untrained = train("untrained", *settings, "--learning_rate", "1e-30", "--max_steps", "1")
    _, frozen = train("frozen", *common, "--freeze_embeddings_epochs", "-1")
    _, thawed = train("thawed", *common, "--freeze_embeddings_epochs", "1", "--save_strategy", "epoch")
    before, kept = (load_file(folder / "model.safetensors") for folder in (untrained, frozen))
    assert torch.equal(kept[name], before[name])
    assert not torch.equal(kept["classifier.weight"], before["classifier.weight"])
    first, last = (load_file(folder / "model.safetensors") for folder in sorted((thawed / "checkpoints").iterdir()))
    assert torch.equal(first[name], before[name])
    assert (last[name] != before[name]).any(dim=1).sum() > 100

    checkpoint = min((thawed / "checkpoints").iterdir())
    _, resumed = train(
        "resumed", *common, "--freeze_embeddings_epochs", "1", "--resume_from_checkpoint", str(checkpoint)
    )
    assert weights(resumed) == weights(thawed)


def test_thawed_word_vectors_of_a_lazy_optimizer_are_those_of_the_dense_one(train: Train) -> None:
    settings = ["--num_train_epochs", "3", "--weight_decay", "0.1", "--freeze_embeddings_epochs", "1"]
    folders = [train(optim, *settings, "--optim", optim)[1] for optim in ("lazy_adamw", "adamw_torch")]
    ours, theirs = (load_file(folder / "model.safetensors") for folder in folders)
    for name, weight in theirs.items():
        torch.testing.assert_close(
            ours[name], weight, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


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
    sizes = {"small": (16, 300), "narrow": (64, 64), "large": (64, 65)}
    threads = {}
    for name, (batch_size, hidden_size) in sizes.items():
        argv = ["--per_device_train_batch_size", str(batch_size), "--hidden_size", str(hidden_size)]
        threads[name] = train(name, *argv, "--max_steps", "1")[0]["num_threads"]
    assert (threads, torch.get_num_threads()) == ({"small": 1, "narrow": 1, "large": 2}, 2)
    torch.set_num_threads(before)


def test_a_folder_that_holds_a_run_is_kept_unless_told_otherwise(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = train("run", "--save_strategy", "epoch")
    before = weights(folder)
    for argv in (["--seed", "1"], ["--seed", "1", "--overwrite_output_dir", "--dataset_name", "./nowhere"]):
        with pytest.raises(SystemExit, match="2"):
            train("run", *argv)
        assert "rnn-hf train: error: " in capsys.readouterr().err
        assert weights(folder) == before
        assert list(folder.glob("checkpoints/step-*"))
    train("run", "--seed", "1", "--overwrite_output_dir")
    assert weights(folder) != before
    assert not list(folder.glob("checkpoints/step-*"))


def test_a_run_is_not_resumed_with_other_arguments(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train("run", "--save_strategy", "epoch")
    with pytest.raises(SystemExit, match="2"):
        train("run", "--learning_rate", "0.5", "--resume_from_checkpoint", "latest")
    assert "The checkpoint was made with `--learning_rate 0.004`, this run has 0.5." in capsys.readouterr().err


@pytest.mark.parametrize("save_dtype", ["float32", "float16"])
def test_a_temperature_changes_probabilities_and_no_prediction(train: Train, save_dtype: str) -> None:
    argv = ["--num_train_epochs", "4", "--eval_strategy", "no", "--save_dtype", save_dtype]
    plain, plain_folder = train("plain", *argv)
    scaled, folder = train("scaled", *argv, "--temperature_scaling")
    temperature = scaled["temperature"]
    assert abs(temperature - 1) > 0.01
    assert json.loads((folder / "config.json").read_text())["calibration_temperature"] == temperature
    before, after = (load_file(path / "model.safetensors") for path in (plain_folder, folder))
    for name, weight in before.items():
        # divided first and rounded then, both to so many digits
        digits = {"rtol": 2e-3, "atol": 1e-6} if save_dtype == "float16" else {"rtol": 1e-5, "atol": 1e-8}
        expected = weight / temperature if name.startswith("classifier.") else weight
        torch.testing.assert_close(after[name].float(), expected.float(), **digits)
    assert scaled["test_accuracy"] == pytest.approx(plain["test_accuracy"], abs=0.002)
    if save_dtype == "float32":
        assert scaled["test_confusion_matrix"] == plain["test_confusion_matrix"]
    error = plain["test_calibration"]["expected_calibration_error"]
    assert scaled["test_ece_before_scaling"] == pytest.approx(error, abs=1e-3)
    assert scaled["test_ece"] == scaled["test_calibration"]["expected_calibration_error"]
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"])
    assert (metrics["confusion_matrix"], metrics["loss"]) == (scaled["test_confusion_matrix"], scaled["test_loss"])
    assert f"temperature of {temperature:.3g}" in (folder / "README.md").read_text()
    assert "temperature" not in (plain_folder / "README.md").read_text()


def test_the_temperature_is_that_of_the_best_weights_on_the_validation_split(train: Train) -> None:
    """No other temperature gives a lower loss there, nor does the split of the training rows."""
    _, folder = train("run", "--num_train_epochs", "15", "--temperature_scaling")
    argv = ["--model_name_or_path", str(folder), "--dataset_name", "demo", "--split", "validation", "--use_cpu"]
    losses = []
    for factor in (1.0, 0.98, 1.02):
        model = RNNForSequenceClassification.from_pretrained(folder)
        with torch.no_grad():
            for weight in model.classifier.parameters():
                weight.mul_(factor)
        model.save_pretrained(folder)
        losses.append(evaluate.main(argv)["loss"])
    assert losses[0] < min(losses[1:])


def test_training_that_goes_on_forgets_the_temperature(train: Train) -> None:
    _, first = train("first", "--temperature_scaling", "--num_train_epochs", "4")
    _, second = train("second", "--model_name_or_path", str(first), "--max_steps", "1")
    temperatures = [
        json.loads((path / "config.json").read_text())["calibration_temperature"] for path in (first, second)
    ]
    assert temperatures[0] != 1 == temperatures[1]
