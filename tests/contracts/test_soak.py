"""Hours in minutes: many kills, many texts, a long training. Run with `pytest -m soak -s`."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT, TINY_RUN, in_new_process, weights

pytestmark = [pytest.mark.soak, pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")]

NUM_KILLS = int(os.environ.get("SOAK_KILLS", "50"))
NUM_TEXTS = int(os.environ.get("SOAK_TEXTS", "10_000_000"))
TRAINING_SECONDS = 60 * float(os.environ.get("SOAK_MINUTES", "60"))
MEGABYTE = 2**20

Train = Callable[..., tuple[dict[str, Any], Path]]


def test_killed_at_any_moment_a_run_ends_like_an_undisturbed_one(train: Train, tmp_path: Path) -> None:
    """Also while it imports, prepares, evaluates, or writes: the moment is drawn from the length of the run."""
    # nearly half of such a run is training
    settings = ["--num_train_epochs", "100", "--save_strategy", "steps", "--save_steps", "3"]
    _, whole = train("whole", *settings)
    script = [sys.executable, str(ROOT / "scripts" / "train.py"), *TINY_RUN, *settings]
    started = time.monotonic()
    subprocess.run([*script, "--output_dir", str(tmp_path / "timed")], check=True, capture_output=True)
    duration = time.monotonic() - started
    draw = random.Random(0)
    num_killed = num_from_checkpoint = 0
    while num_killed < NUM_KILLS:
        folder = tmp_path / f"killed {num_killed}"
        command = [*script, "--output_dir", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(duration * draw.uniform(0.1, 1.0))
            continue  # it was faster than its kill
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        num_killed += 1
        has_checkpoint = any(folder.glob("checkpoints/step-*"))
        num_from_checkpoint += has_checkpoint
        command += ["--resume_from_checkpoint", "latest"] if has_checkpoint else ["--overwrite_output_dir"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert weights(folder) == weights(whole), f"kill {num_killed}"
    print(
        f"\n{num_killed} kills survived, {num_from_checkpoint} of them from a checkpoint; a run takes {duration:.1f} s"
    )
    assert num_from_checkpoint > NUM_KILLS // 5, "too few kills fell into the training"


READER = """
import json, random, sys, time
import psutil
from rnn_hf import TextClassifier
from rnn_hf.data.demo_news import load_demo_news

classifier, number = TextClassifier.from_pretrained(sys.argv[1]), int(sys.argv[2])
demo, draw = load_demo_news()["train"]["text"][:2000], random.Random(0)
# of all lengths, from nothing to several texts
texts = (" ".join(draw.choices(demo, k=draw.choice((0, 1, 1, 1, 1, 2)))) for _ in range(number))
seen, resident = 0, []
for probabilities in classifier.iter_proba(texts):
    seen += len(probabilities)
    if seen // (number // 100) > len(resident):
        resident.append(psutil.Process().memory_info().rss)
print(json.dumps([seen, resident]))
"""


def test_memory_stays_flat_over_millions_of_texts(train: Train) -> None:
    """oneDNN keeps code for 1,024 shapes of batches, which takes millions of texts to fill; here, for as few as 16."""
    _, folder = train("run")
    started = time.monotonic()
    settings = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "PYTHONPATH": str(ROOT)}
    done = in_new_process(READER, str(folder), str(NUM_TEXTS), **settings)
    assert done.returncode == 0, done.stderr
    seen, resident = json.loads(done.stdout)
    warm, end = max(resident[:10]), max(resident[-10:])
    print(f"\n{seen:,} texts in {time.monotonic() - started:.0f} s; {warm / MEGABYTE:.0f} MiB at 10 %, ", end="")
    print(f"{end / MEGABYTE:.0f} MiB at the end")
    assert seen == NUM_TEXTS
    assert end < warm + 16 * MEGABYTE


def test_memory_and_open_files_stay_flat_over_a_long_training(tmp_path: Path) -> None:
    command = [
        sys.executable, str(ROOT / "scripts" / "train.py"), *TINY_RUN, "--output_dir", str(tmp_path / "run"),
        "--num_train_epochs", "1000000", "--lr_scheduler_type", "constant", "--save_strategy", "steps",
        "--save_steps", "1000", "--logging_steps", "100000",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    looks: list[tuple[int, int]] = []
    started = time.monotonic()
    while time.monotonic() - started < TRAINING_SECONDS:
        time.sleep(TRAINING_SECONDS / 100)
        assert process.poll() is None, "the run ended by itself"
        watched = psutil.Process(process.pid)
        looks.append((watched.memory_info().rss, watched.num_fds()))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    (warm, warm_files), (end, end_files) = (
        tuple(max(values) for values in zip(*part, strict=True)) for part in (looks[10:20], looks[-10:])
    )
    print(
        f"\n{TRAINING_SECONDS / 60:g} minutes of training: {warm / MEGABYTE:.0f} MiB and {warm_files} open files ",
        end="",
    )
    print(f"after 20 %, {end / MEGABYTE:.0f} MiB and {end_files} at the end")
    assert end < warm + 32 * MEGABYTE
    assert end_files <= warm_files
