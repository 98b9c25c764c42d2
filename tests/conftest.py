import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, GradientState

TINY_RUN = [
    "--dataset_name", "demo", "--max_train_samples", "400", "--embedding_size", "16", "--hidden_size", "8",
    "--num_train_epochs", "1", "--per_device_train_batch_size", "64", "--use_cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps its settings for the whole process; every test starts without them."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    os.environ.pop("ACCELERATE_USE_CPU", None)


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """What asks for the Hub in a test asks a closed port, unless the test starts a Hub of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Path]]:
    """Run the training script on a few demo rows; `train("name", "--flag", "value")` returns results and folder."""
    from scripts.train import main

    def run(name: str, *argv: str) -> tuple[dict[str, Any], Path]:
        AcceleratorState._reset_state(reset_partial_state=True)
        folder = tmp_path / name
        return main([*TINY_RUN, "--output_dir", str(folder), *argv]), folder

    return run
