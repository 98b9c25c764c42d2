"""Runs whose optimizer spares word vectors, and runs whose word vectors are frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import weights

Train = Callable[..., tuple[dict[str, Any], Path]]


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
