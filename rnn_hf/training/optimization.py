"""Optimizers and learning rate schedules by name."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from .arguments import TrainArguments


def create_optimizer(parameters: Iterable[nn.Parameter], args: TrainArguments) -> torch.optim.Optimizer:
    """Return the optimizer that `--optim` names.

    `"adam"` is Kingma and Ba's (2015), with weight decay added to the gradient; the `"adamw"` ones decay the weights
    themselves (Loshchilov and Hutter, 2019). Only matrices decay.

    Args:
        parameters: The model's parameters.
        args: Learning rate, weight decay, and Adam's numbers.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": args.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    adam_numbers: dict[str, Any] = {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    optimizers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": partial(torch.optim.Adam, fused=True, **adam_numbers),
        "adamw_torch": partial(torch.optim.AdamW, **adam_numbers),
        "adamw_torch_fused": partial(torch.optim.AdamW, fused=True, **adam_numbers),
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "sgd": torch.optim.SGD,
    }
    return optimizers[args.optim](groups, lr=args.learning_rate)


def create_schedule(optimizer: torch.optim.Optimizer, args: TrainArguments, num_training_steps: int) -> LRScheduler:
    """Return the schedule that `--lr_scheduler_type` names, one step of it for each step of the optimizer.

    Args:
        optimizer: The optimizer whose learning rate changes.
        args: Type and warm-up; a warm-up below 1 is a share of all steps, as in `TrainingArguments`.
        num_training_steps: Optimizer steps of the whole run.
    """
    warmup = args.warmup_steps if args.warmup_steps >= 1 else args.warmup_steps * num_training_steps
    schedule: LRScheduler = get_scheduler(args.lr_scheduler_type, optimizer, round(warmup), num_training_steps)
    return schedule
