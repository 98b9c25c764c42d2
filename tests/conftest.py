import os

# The workers of the tests share the cores, as do the processes that they start
os.environ.setdefault("OMP_NUM_THREADS", "1")

# ruff: isort: split
import gc
import logging
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import hypothesis
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from huggingface_hub import constants, hf_api
from transformers.utils import hub as transformers_hub
from transformers.utils.logging import warning_once

from rnn_hf.data import sources
from rnn_hf.reporting import figures
from tests import local_hub

ROOT = Path(__file__).parents[1]
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
# The same examples in every run, so that a change alone can make a test fail
# whatever else the machine is busy with
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("repeatable")

TINY_RUN = [
    "--dataset_name", "demo", "--max_train_samples", "400", "--embedding_size", "16", "--hidden_size", "8",
    "--num_train_epochs", "1", "--per_device_train_batch_size", "64", "--settings_from_data", "false", "--use_cpu",
]  # fmt: skip

DRAWING = {
    name: getattr(figures, name)
    for name in ("plot_learning_curves", "plot_confusion_matrix", "plot_reliability", "save_small")
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what is known to be slow take its time."""
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(0))


def pytest_collection_finish() -> None:
    """Let no garbage collection look at what was imported, for which every run would take twice as long."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def drawn_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures in a test that is marked so."""
    if request.node.get_closest_marker("draws"):
        for name, function in DRAWING.items():
            monkeypatch.setattr(figures, name, function)


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps its settings for the whole process; every test starts without them.

    Here and in other tests `_reset_state` is private: it is what Accelerate's own tests use.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    # what a script sets for its process: with the second, a forked process would wait for threads of tokenizers
    for name in ("ACCELERATE_USE_CPU", "TOKENIZERS_PARALLELISM"):
        os.environ.pop(name, None)


def in_new_process(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh process."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def run_script(
    *argv: str, launcher: tuple[str, ...] = (sys.executable,), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the training script in a process of its own."""
    return subprocess.run(
        [*launcher, str(ROOT / "scripts" / "train.py"), *argv],
        env=os.environ | env,
        capture_output=True,
        text=True,
    )


def last_line(text: str) -> str:
    """Return the last line a person sees; a progress bar rewrites its own."""
    return text.strip().splitlines()[-1].split("\r")[-1]


@contextmanager
def no_warnings() -> Iterator[None]:
    """Let every warning fail, whether Python or a logger of transformers gives it."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    # these loggers do not pass their records on to the root, where pytest looks
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    warning_once.cache_clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        logger.removeHandler(handler)
    assert not records, [record.getMessage() for record in records]


@pytest.fixture(autouse=True, scope="session")
def own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is cached in the user's folders, and what asks for the Hub asks a closed port."""
    folder = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder))
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        # drawing takes longer than the runs of most tests
        for name in DRAWING:
            patch.setattr(figures, name, lambda *results: None)
        patch.setattr(figures, "save_small", lambda figure, path: path.touch())
        # the demo is made once
        demo = cache(sources.load_demo_news)
        patch.setattr(sources, "load_demo_news", lambda: datasets.DatasetDict(demo()))
        yield


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@contextmanager
def hub_served(folder: Path) -> Iterator[str]:
    """Serve an empty Hub to this process and those it starts, which may write there; give its address."""
    with local_hub.serve(folder / "hub") as address, pytest.MonkeyPatch.context() as patch:
        home = folder / "home"
        settings = {
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in settings.items():
            patch.setattr(constants, name, value)
        patch.setattr(datasets.config, "HF_ENDPOINT", address)
        # two instances that know the address of before
        patch.setattr(hf_api.api, "endpoint", address)
        patch.setattr(transformers_hub, "_hf_api", None, raising=False)
        patch.setenv("HF_ENDPOINT", address)
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_TOKEN", local_hub.WRITE_TOKEN)
        patch.setenv("HF_HUB_DISABLE_XET", "1")
        yield address


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    with hub_served(tmp_path) as address:
        yield address


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Path]]:
    """Run the training script on a few demo rows; `train("name", "--flag", "value")` returns results and folder."""
    from rnn_hf.commands.train import main

    def run(name: str, *argv: str) -> tuple[dict[str, Any], Path]:
        AcceleratorState._reset_state(reset_partial_state=True)
        folder = tmp_path / name
        return main([*TINY_RUN, "--output_dir", str(folder), *argv]), folder

    return run
