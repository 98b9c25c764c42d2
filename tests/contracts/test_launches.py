"""Settings of launchers that are rejected, and the results of several processes and machines."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from rnn_hf.training import launch
from tests.conftest import ROOT, TINY_RUN, TORCHRUN, free_port, run_script, weights
from tests.refusals import program_of

Train = Callable[..., tuple[dict[str, Any], Path]]


@pytest.mark.parametrize(
    ("variable", "value", "argv", "message"),
    [
        (
            "ACCELERATE_USE_FSDP",
            "true",
            [],
            "asks for FSDP (`ACCELERATE_USE_FSDP`), but training is data parallel",
        ),
        ("ACCELERATE_USE_DEEPSPEED", "true", [], "asks for DeepSpeed (`ACCELERATE_USE_DEEPSPEED`)"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", [], "asks for Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", [], "asks for a parallelism configuration"),
        ("ACCELERATE_MIXED_PRECISION", "fp16", ["--bf16"], "mixed precision in fp16, but the run computes in bf"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", [], "mixed precision in bf16, but the run computes in float32"),
        ("ACCELERATE_MIXED_PRECISION", "fp8", [], "mixed precision in fp8"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", [], "asks for 4 batches per step, but the run takes 1"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", [], "asks for torch.compile (inductor)"),
    ],
)
def test_what_a_launcher_asks_for_and_a_script_does_not_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    variable: str, value: str, argv: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, value)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit, match="2"):
        import_module("scripts.train").main([*TINY_RUN, "--output_dir", str(folder), *argv])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rnn-hf train: error: The launcher asks for ")
    assert message in line
    assert not folder.exists()


@pytest.mark.slow
def test_a_sharded_launch_ends_in_one_line_and_status_2(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--main_process_port", free_port()]
    done = run_script(*TINY_RUN, "--output_dir", str(tmp_path / "run"), launcher=tuple(launcher))
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("rnn-hf train: "))
    assert "asks for FSDP (`ACCELERATE_USE_FSDP`), but training is data parallel" in line
    assert "exitcode  : 2 " in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("script", ["train_language_model", "distill", "evaluate"])
def test_every_script_refuses_sharding(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    argv = ["--dataset_name", "demo", "--use_cpu"]
    argv += {
        "train_language_model": ["--output_dir", str(tmp_path / "run")],
        "distill": ["--output_dir", str(tmp_path / "run"), "--teacher_name_or_path", "teacher"],
        "evaluate": ["--model_name_or_path", "model"],
    }[script]
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(SystemExit, match="2"):
        import_module(f"scripts.{script}").main(argv)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{program_of(script)}: error: The launcher asks for FSDP")
    assert "Launch with `torchrun --nproc_per_node N`" in line


def test_xla_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "is_torch_xla_available", lambda: True)
    with pytest.raises(ValueError, match="Set `USE_TORCH_XLA=0`"):
        launch.check_launch()


def test_what_launcher_and_flags_share_is_done(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, alone = train("alone", "--bf16", "--gradient_accumulation_steps", "2")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    actual, launched = train("launched", "--bf16", "--gradient_accumulation_steps", "2")
    assert (actual["step"], weights(launched)) == (expected["step"], weights(alone))


def test_training_lets_onednn_keep_few_kernels_unless_the_user_sets_their_number(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "7")
    train("set")
    assert os.environ[name] == "7"
    monkeypatch.delenv(name)
    train("unset")
    assert os.environ[name] == str(launch.ONEDNN_PRIMITIVES)


def test_several_processes_of_prediction_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2"):
        import_module("scripts.predict").main(["--model_name_or_path", "model", "--text", "a"])
    assert "must run in one process" in capsys.readouterr().err


@pytest.mark.slow
def test_two_machines_train_as_two_processes_of_one(tmp_path: Path) -> None:
    """Each agent has an address of its own in the loopback range; the first one holds the rendezvous."""
    one = tmp_path / "one"
    done = run_script(
        *TINY_RUN, "--output_dir", str(one), launcher=(sys.executable, "-m", *TORCHRUN), OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    port, two = free_port(), tmp_path / "two"
    agents = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1",
             "--node_rank", str(rank), "--rdzv_backend", "c10d", "--rdzv_id", "demo",
             "--rdzv_endpoint", f"127.0.0.1:{port}", "--local_addr", f"127.0.0.{rank + 1}",
             str(ROOT / "scripts" / "train.py"), *TINY_RUN, "--output_dir", str(two)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        errors = [agent.communicate(timeout=300)[1] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0, 0], errors
    results = json.loads((two / "all_results.json").read_text())
    assert results["num_processes"] == 2
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (two, one))
    assert all(ours[name].equal(weight) for name, weight in theirs.items())
