from typing import get_args

import pytest
import torch
from torch import nn

from rnn_hf.training.arguments import OptimizerName, SchedulerName, TrainArguments
from rnn_hf.training.optimization import create_optimizer, create_schedule


def make(**settings: object) -> TrainArguments:
    return TrainArguments(output_dir="x", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("optim", get_args(OptimizerName))
def test_every_optimizer_lowers_a_loss(optim: OptimizerName) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    optimizer = create_optimizer(layer.parameters(), make(optim=optim, learning_rate=0.01))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(torch.eye(3)) - 5).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_adam_is_torchs_adam() -> None:
    """The lesson's optimizer, whatever kernel computes it."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        create_optimizer(ours.parameters(), make(optim="adam", learning_rate=1e-2)),
        torch.optim.Adam(theirs.parameters(), lr=1e-2, foreach=False, fused=False),
    ]
    for step in range(5):
        for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            layer(torch.full((4, 3), step + 1.0)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_only_matrices_decay_and_frozen_weights_are_left_out() -> None:
    layer, frozen = nn.Linear(3, 2), nn.Linear(2, 2)
    frozen.requires_grad_(False)
    groups = create_optimizer([*layer.parameters(), *frozen.parameters()], make(weight_decay=0.1)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (1, 0.0)]
    assert groups[0]["params"][0] is layer.weight


@pytest.mark.parametrize("name", get_args(SchedulerName))
def test_every_schedule_runs_to_its_end(name: SchedulerName) -> None:
    optimizer = create_optimizer(nn.Linear(1, 1).parameters(), make(learning_rate=1.0))
    schedule = create_schedule(optimizer, make(lr_scheduler_type=name, warmup_steps=0), 10)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == 1.0
    assert (schedule.get_last_lr()[0] < 1e-6) == (name in ("linear", "cosine", "polynomial"))


@pytest.mark.parametrize("warmup", [0.4, 4])
def test_a_warm_up_below_one_is_a_share_of_the_steps(warmup: float) -> None:
    optimizer = create_optimizer(nn.Linear(1, 1).parameters(), make(learning_rate=1.0))
    schedule = create_schedule(optimizer, make(warmup_steps=warmup), 10)
    for _ in range(4):
        assert schedule.get_last_lr()[0] < 1
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr()[0] == 1
