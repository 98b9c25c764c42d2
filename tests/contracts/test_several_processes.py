"""What several processes compute is what one does: the same batches, losses, counts, gradients and answers."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rnn_hf.commands import distill, evaluate, train_language_model
from rnn_hf.configuration_rnn import CellType
from rnn_hf.data.batching import LengthGroupedBatchSampler
from rnn_hf.data.demo_news import load_demo_news
from tests.commands.test_train_streaming import STREAMED, write_news
from tests.conftest import ROOT, TINY_RUN, TORCHRUN, free_port, run_script
from tests.data.test_batching import make_dataset
from tests.tiny_models import make_model

Train = Callable[..., tuple[dict[str, Any], Path]]

BATCH = 64
NO_DROPOUT = ["--word_dropout", "0", "--embedding_dropout", "0", "--classifier_dropout", "0"]
CLASSIFIER = [*TINY_RUN, *NO_DROPOUT, "--num_train_epochs", "2", "--logging_steps", "1", "--eval_strategy", "steps"]
CLASSIFIER += ["--eval_steps", "3"]
DENSE = [*CLASSIFIER, "--optim", "adamw_torch_fused"]
FROZEN = ["--freeze_embeddings_epochs", "-1", "--eval_strategy", "no"]
STREAM = [*TINY_RUN, *NO_DROPOUT, *STREAMED, "--optim", "adamw_torch_fused", "--learning_rate", "0.01"]
LANGUAGE_MODEL = [
    "--dataset_name", "demo", "--max_train_samples", "200", "--embedding_size", "8", "--hidden_size", "6",
    "--num_train_epochs", "1", "--bptt", "11", "--adaptive_softmax_cutoffs", "30", "90", "--embedding_dropout", "0",
    "--classifier_dropout", "0", "--optim", "sgd", "--learning_rate", "0.1", "--use_cpu",
]  # fmt: skip
TAUGHT = ["--num_noised_copies", "1", "--teacher_name_or_path"]
LENGTHS = [row % 9 for row in range(51)]

BATCHES = """
import json, sys
from pathlib import Path
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, gather_object
from datasets import Dataset
from torch.utils.data import DataLoader
from rnn_hf.data.batching import EncodedRows, LengthGroupedBatchSampler, PaddingCollator, SortedBatchSampler

accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=True))
rows = EncodedRows(Dataset.from_file(sys.argv[1]))

def prepare(sampler):
    return accelerator.prepare(DataLoader(rows, batch_sampler=sampler, collate_fn=PaddingCollator(0)))

sampler = LengthGroupedBatchSampler(rows.lengths, 8, 3)
sampler.fill_last_batch = True
loader = prepare(sampler)
result = {"epochs": [], "processes": accelerator.num_processes}
for epoch in (5, 6):
    loader.set_epoch(epoch)
    result["epochs"].append([gather_object(batch["row"].tolist()) for batch in loader])
sampler.start_batch = 2
loader.set_epoch(6)
result["resumed"] = [gather_object(batch["row"].tolist()) for batch in loader]
evaluation = prepare(SortedBatchSampler(rows.lengths, 8))
result["evaluated"] = [row for batch in evaluation for row in accelerator.gather_for_metrics(batch["row"]).tolist()]
if accelerator.is_main_process:
    Path(sys.argv[2]).write_text(json.dumps(result))
accelerator.end_training()
"""

GRADIENTS = """
import os, sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from rnn_hf import RNNForSequenceClassification

rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
torch.distributed.init_process_group("gloo")
for path in sorted(folder.glob("*/config.json")):
    model = RNNForSequenceClassification.from_pretrained(path.parent).train()
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    batch = {name: tensor[2 * rank : 2 * rank + 2] for name, tensor in load_file(folder / "batch.safetensors").items()}
    for _ in range(2):  # a step that waits for a gradient which never comes would hang the second time
        model.zero_grad()
        parallel(**batch).loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    save_file(gradients, path.parent / f"gradients_{rank}.safetensors")
del parallel  # if it were the last to hold the group, it would wait for a thread that waits for Python's lock
torch.distributed.destroy_process_group()
"""


def write_models(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Write models and a batch, and return the gradients that one process computes."""
    folder.mkdir()
    # padded differently in each process
    input_ids = torch.tensor([[7, 8, 9, 3, 0], [5, 0, 0, 0, 0], [6, 2, 11, 13, 4], [9, 9, 4, 0, 0]])
    batch = {"input_ids": input_ids, "attention_mask": input_ids != 0, "labels": torch.tensor([0, 1, 2, 1])}
    save_file(batch, folder / "batch.safetensors")
    gradients = {}
    for cell_type in get_args(CellType):
        model = make_model(cell_type=cell_type, bidirectional=True, num_hidden_layers=2).train()
        model.save_pretrained(folder / cell_type)
        model(**batch).loss.backward()
        gradients[cell_type] = {name: parameter.grad for name, parameter in model.named_parameters()}
    return gradients


def evaluation(folder: Path, name: str) -> list[str]:
    """Return the flags of an evaluation of 103 rows, a prime number: the last batch has to be filled up."""
    return [
        "--model_name_or_path", str(folder / "classifier"), "--test_file", str(folder / "rows.parquet"), "--use_cpu",
        "--per_device_eval_batch_size", "10", "--output_file", str(folder / f"{name}.json"),
        "--predictions_file", str(folder / f"{name}.jsonl"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes have written that `torchrun` started, job after job."""
    folder = tmp_path_factory.mktemp("two")
    write_news(folder / "news")
    write_models(folder / "gradients")
    load_demo_news(num_train=1, num_test=103)["test"].to_parquet(folder / "rows.parquet")
    make_dataset(LENGTHS).map(cache_file_name=str(folder / "lengths.arrow"))
    for name, code in (("batches", BATCHES), ("gradients", GRADIENTS)):
        (folder / f"{name}.py").write_text(code)
    runs = {
        "classifier": ("train", *TINY_RUN, "--optim", "lazy_adamw"),
        "frozen": ("train", *TINY_RUN, *FROZEN),
        "dense": ("train", *DENSE, "--per_device_train_batch_size", str(BATCH // 2)),
        "stream": ("train", *STREAM, "--dataset_name", str(folder / "news"), "--per_device_train_batch_size", "32"),
        "language_model": (
            "train_language_model", *LANGUAGE_MODEL, "--per_device_train_batch_size", "4",
            "--per_device_eval_batch_size", "16",
        ),
        "student": ("distill", *TINY_RUN, *TAUGHT, str(folder / "classifier")),
        "separate": ("train", *TINY_RUN, "--use_cpu", "false"),
    }  # fmt: skip
    scripts = ROOT / "scripts"
    jobs = [
        *((scripts / f"{script}.py", [*argv, "--output_dir", str(folder / n)]) for n, (script, *argv) in runs.items()),
        (scripts / "evaluate.py", evaluation(folder, "shared")),
        (folder / "batches.py", [str(folder / "lengths.arrow"), str(folder / "batches.json")]),
        (folder / "gradients.py", [str(folder / "gradients")]),
    ]
    (folder / "jobs.json").write_text(json.dumps([(str(script), argv, free_port()) for script, argv in jobs]))
    files = [str(folder / f"{name}.json") for name in ("jobs", "statuses")]
    done = subprocess.run(
        [sys.executable, "-m", *TORCHRUN, "-m", "tests.jobs_in_turn", *files], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    statuses = dict(
        zip([*runs, "shared", "batches", "gradients"], json.loads(Path(files[1]).read_text()), strict=True)
    )
    assert statuses.pop("separate") == (0 if torch.cuda.is_available() else 2)
    assert set(statuses.values()) == {0}, f"{statuses}: {done.stderr}"
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def results_of(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "all_results.json").read_text())
    return results


def weights_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def losses_of(results: dict[str, Any]) -> list[float]:
    """Return the mean loss of every batch of the first epoch, from the running means that the log holds."""
    sums = [0.0, *(entry["loss"] * index for index, entry in enumerate(first_epoch(results), start=1))]
    return [later - earlier for earlier, later in pairwise(sums)]


def first_epoch(results: dict[str, Any]) -> list[dict[str, float]]:
    return [entry for entry in results["log"] if "loss" in entry and entry["epoch"] == 0]


def check_same(results: dict[str, Any], alone: dict[str, Any]) -> None:
    """Check that several processes have the losses and counts of one."""
    num_full = 400 // BATCH
    expected = losses_of(alone)[:num_full]
    assert len(set(expected)) == num_full, "losses that are all the same would prove nothing"
    assert losses_of(results)[:num_full] == pytest.approx(expected, rel=1e-4)
    # evaluated before the batch that is filled
    ours, theirs = (next(entry for entry in one["log"] if "validation_loss" in entry) for one in (results, alone))
    assert ours["validation_accuracy"] == theirs["validation_accuracy"]
    assert ours["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=1e-5)
    for name in ("num_validation_examples", "num_test_examples"):
        assert results[name] == alone[name]
    table = results["test_confusion_matrix"]
    assert sum(map(sum, table)) == alone["num_test_examples"], "a row was lost or counted twice"


def check_every_row_was_counted_once(folder: Path) -> None:
    results = results_of(folder)
    assert (results["num_processes"], results["num_test_examples"], results["step"]) == (2, 1000, 4)
    metrics = evaluate.main(["--model_name_or_path", str(folder), "--dataset_name", "demo", "--use_cpu"])
    assert metrics["confusion_matrix"] == results["test_confusion_matrix"]


def test_two_processes_count_every_row_once(two: Path) -> None:
    check_every_row_was_counted_once(two / "classifier")


def test_two_processes_of_accelerate_count_every_row_once(tmp_path: Path) -> None:
    launcher = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--main_process_port", free_port(), "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
    ]  # fmt: skip
    folder = tmp_path / "run"
    argv = [*TINY_RUN, "--output_dir", str(folder), "--optim", "adamw_torch_fused"]
    done = run_script(*argv, launcher=tuple(launcher))
    assert done.returncode == 0, done.stderr
    check_every_row_was_counted_once(folder)


def test_frozen_word_vectors_stay_on_two_processes(two: Path, train: Train) -> None:
    _, untrained = train("untrained", "--learning_rate", "1e-30", "--max_steps", "1", "--eval_strategy", "no")
    before, after = weights_of(untrained), weights_of(two / "frozen")
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_two_processes_train_the_model_of_one(two: Path, train: Train) -> None:
    """Of the 400 rows, the last batch is short; two processes fill it, and from there on they may differ."""
    alone, _ = train("alone", *DENSE, "--per_device_train_batch_size", str(BATCH))
    results = results_of(two / "dense")
    assert results["num_processes"] == 2
    check_same(results, alone)


def test_two_processes_train_on_the_stream_of_one(two: Path, train: Train) -> None:
    alone, _ = train("alone", *STREAM, "--dataset_name", str(two / "news"), "--per_device_train_batch_size", "64")
    together = results_of(two / "stream")
    assert together["num_processes"] == 2
    assert len(losses_of(alone)) == 8
    # the last batch of the eight is short, and two processes fill it
    assert losses_of(together)[:7] == pytest.approx(losses_of(alone)[:7], rel=1e-4)
    assert together["num_train_examples"] == alone["num_train_examples"] == 500


def test_two_processes_read_every_token_once_and_train_the_language_model_of_one(two: Path, tmp_path: Path) -> None:
    alone = train_language_model.main(
        [*LANGUAGE_MODEL, "--per_device_train_batch_size", "8", "--output_dir", str(tmp_path / "alone")]
    )
    results = results_of(two / "language_model")
    assert (results["num_processes"], results["step"], results["epoch"]) == (2, alone["step"], 1)
    assert results["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-5)
    ours, theirs = weights_of(two / "language_model"), weights_of(tmp_path / "alone")
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, msg=lambda text, name=name: f"{name}: {text}")


def test_two_processes_ask_the_teacher_as_one_does(two: Path, tmp_path: Path) -> None:
    alone = distill.main([*TINY_RUN, *TAUGHT, str(two / "classifier"), "--output_dir", str(tmp_path / "alone")])
    together = results_of(two / "student")
    assert together["num_processes"] == 2
    assert together["teacher_accuracy"] == alone["teacher_accuracy"]


def check_evaluation(folder: Path, name: str) -> None:
    evaluate.main(evaluation(folder, "alone"))
    expected, metrics = (json.loads((folder / f"{one}.json").read_text()) for one in ("alone", name))
    rows, shared = (
        [json.loads(line) for line in (folder / f"{one}.jsonl").read_text().splitlines()] for one in ("alone", name)
    )
    assert len(rows) == 103
    assert len({row["probability"] for row in rows}) > 90  # or the order would not be seen
    assert [row["label"] for row in shared] == [row["label"] for row in rows]
    probabilities = [row["probability"] for row in rows]
    assert [row["probability"] for row in shared] == pytest.approx(probabilities, abs=2e-6)
    assert metrics["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert metrics["confusion_matrix"] == expected["confusion_matrix"]
    assert metrics["per_class"] == expected["per_class"]


def test_two_processes_evaluate_each_row_once_and_in_order(two: Path) -> None:
    assert (two / "stdout").read_text().count("103 rows") == 1
    check_evaluation(two, "shared")


def test_two_processes_share_every_batch_and_gather_every_row_once(two: Path) -> None:
    result = json.loads((two / "batches.json").read_text())
    assert result["processes"] == 2
    for epoch, batches in zip((5, 6), result["epochs"], strict=True):
        sampler = LengthGroupedBatchSampler(LENGTHS, 8, 3)
        sampler.set_epoch(epoch)
        *full, short = sampler
        assert batches == [*full, short + full[0][: 8 - len(short)]]
    assert result["resumed"] == result["epochs"][1][2:]
    assert sorted(result["evaluated"]) == list(range(51))


def test_two_processes_have_the_gradients_of_one_on_the_joint_batch(two: Path, tmp_path: Path) -> None:
    """`DistributedDataParallel` over gloo, with every cell in both directions."""
    for cell_type, expected in write_models(tmp_path / "models").items():
        for rank in range(2):
            actual = load_file(two / "gradients" / cell_type / f"gradients_{rank}.safetensors")
            torch.testing.assert_close(actual, expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs for both processes")
def test_processes_that_would_train_separately_are_stopped(two: Path) -> None:
    said = (two / "stderr").read_text()
    assert "The launcher started 2 processes, but Accelerate sees 1" in said
    assert "Pass `--use_cpu true`" in said
    assert not (two / "separate").exists()


def run_on(num_processes: int, folder: Path, name: str, *settings: str) -> Path:
    """Run a script on so many processes, and return its output folder."""
    launcher = (sys.executable, "-m", *TORCHRUN[:-1], str(num_processes), str(ROOT / "scripts" / name))
    output = folder / str(num_processes)
    done = subprocess.run([*launcher, *settings, "--output_dir", str(output)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.slow
def test_four_processes_train_the_model_of_one(tmp_path: Path) -> None:
    settings = [*CLASSIFIER, "--optim", "lazy_adamw", "--per_device_train_batch_size"]
    alone, *others = (run_on(number, tmp_path, "train.py", *settings, str(BATCH // number)) for number in (1, 2, 4))
    for folder in others:
        check_same(results_of(folder), results_of(alone))


@pytest.mark.slow
def test_four_processes_train_the_language_model_of_one(tmp_path: Path) -> None:
    settings = ["--dataset_name", "demo", "--max_train_samples", "400", "--embedding_size", "8", "--hidden_size", "8"]
    settings += ["--num_train_epochs", "1", "--bptt", "16", "--use_cpu", "--classifier_dropout", "0"]
    settings += ["--embedding_dropout", "0", "--num_generated_texts", "0", "--logging_steps", "1", "--optim", "sgd"]
    settings += ["--per_device_train_batch_size"]
    alone, four = (
        run_on(number, tmp_path, "train_language_model.py", *settings, str(BATCH // number)) for number in (1, 4)
    )
    ours, theirs = ([entry["loss"] for entry in first_epoch(results_of(one))] for one in (four, alone))
    assert len(ours) > 5
    assert ours == pytest.approx(theirs, rel=1e-5)
    for name, weight in weights_of(alone).items():
        assert (weight - weights_of(four)[name]).abs().max() < 1e-5, name


@pytest.mark.slow
def test_four_processes_evaluate_each_row_once_and_in_order(train: Train, tmp_path: Path) -> None:
    train("classifier")
    load_demo_news(num_train=1, num_test=103)["test"].to_parquet(tmp_path / "rows.parquet")
    launcher = [sys.executable, "-m", *TORCHRUN[:-1], "4", str(ROOT / "scripts" / "evaluate.py")]
    done = subprocess.run([*launcher, *evaluation(tmp_path, "shared")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("103 rows") == 1
    check_evaluation(tmp_path, "shared")
