"""Optimizers and learning rate schedules by name."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from .arguments import TrainArguments
from .lazy_adam import LazyAdam

CPU = torch.device("cpu")

DENSE_COUNTERPARTS = {"lazy_adam": "adam", "lazy_adamw": "adamw_torch_fused"}


def layers_from_the_top(model: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters by layer: everything above the encoder, the recurrent layers, and the word vectors.

    Args:
        model: A model with a head; its encoder is `model.model`.
    """
    encoder: Any = model.model
    parts = [*reversed(encoder.layers), encoder.embed_tokens]
    layers = [list(part.parameters()) for part in parts]
    below = {parameter for layer in layers for parameter in layer}
    return [[parameter for parameter in model.parameters() if parameter not in below], *layers]


def embeddings_are_frozen(args: TrainArguments, epoch: int) -> bool:
    """Return whether `freeze_embeddings_epochs` freezes the word vectors in an epoch, counted from 0."""
    return args.freeze_embeddings_epochs < 0 or epoch < args.freeze_embeddings_epochs


def drop_frozen_gradients(model: nn.Module, args: TrainArguments, epoch: int) -> None:
    """Keep the optimizer from updating frozen parameters and their moments.

    With `gradual_unfreezing`, epoch 0 trains what is above the encoder, and each further epoch one more layer, from
    the top down to the word vectors (Howard and Ruder, 2018). The gradients are computed and dropped, because several
    processes agree on what they exchange only once, before the first step.

    Args:
        model: The bare model, after the backward pass.
        args: What is frozen, and for how long.
        epoch: The epoch, from 0.
    """
    layers = layers_from_the_top(model)
    frozen = layers[1 + epoch :] if args.gradual_unfreezing else []
    if embeddings_are_frozen(args, epoch):
        frozen = [*frozen, layers[-1]]
    for layer in frozen:
        for parameter in layer:
            parameter.grad = None


def create_optimizer(model: nn.Module, args: TrainArguments, device: torch.device = CPU) -> torch.optim.Optimizer:
    """Return the optimizer that `optim` names.

    `"adam"` is that of Kingma and Ba (2015), with weight decay added to the gradient; with the `"adamw"` ones, the
    weights themselves decay (Loshchilov and Hutter, 2019). The `"lazy"` ones compute the same in time that does not
    grow with the vocabulary, see `LazyAdam`; on devices other than a CPU, where updating all rows is faster than
    finding those of a batch, they are the dense ones. Only matrices decay.

    With `layer_learning_rate_decay`, each layer learns more slowly than the one above it, because lower layers of an
    encoder are more general (Howard and Ruder, 2018, divide by 2.6).

    Args:
        model: The model to train.
        args: Learning rates, weight decay, and the parameters of Adam.
        device: Device of the model.
    """
    decay = args.layer_learning_rate_decay
    groups: list[dict[str, Any]] = []
    for depth, layer in enumerate([list(model.parameters())] if decay == 1 else layers_from_the_top(model)):
        trained = [parameter for parameter in layer if parameter.requires_grad]
        parts = [(trained, 0.0)]
        if args.weight_decay:
            parts = [
                ([parameter for parameter in trained if parameter.ndim >= 2], args.weight_decay),
                ([parameter for parameter in trained if parameter.ndim < 2], 0.0),
            ]
        groups += [
            {"params": part, "weight_decay": weight_decay, "lr": args.learning_rate * decay**depth}
            for part, weight_decay in parts
            if part or decay == 1
        ]
    adam_numbers: dict[str, Any] = {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    optimizers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": partial(torch.optim.Adam, fused=True, **adam_numbers),
        "adamw_torch": partial(torch.optim.AdamW, **adam_numbers),
        "adamw_torch_fused": partial(torch.optim.AdamW, fused=True, **adam_numbers),
        "lazy_adam": partial(LazyAdam, **adam_numbers),
        "lazy_adamw": partial(LazyAdam, decoupled_weight_decay=True, **adam_numbers),
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "sgd": torch.optim.SGD,
    }
    name = args.optim if device.type == "cpu" else DENSE_COUNTERPARTS.get(args.optim, args.optim)
    optimizer = optimizers[name](groups, lr=args.learning_rate)
    if isinstance(optimizer, LazyAdam):
        for module in model.modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.weight.requires_grad:
                optimizer.follow(module)
    return optimizer


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale gradients down so that their joint norm is at most `max_norm`; return the norm before.

    It does the same as `torch.nn.utils.clip_grad_norm_`, which rejects sparse gradients. Entries of a sparse gradient
    for the same row are summed first, because they are one gradient.

    Args:
        parameters: Parameters whose gradients are scaled together.
        max_norm: Maximum norm, above 0.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        else:
            gradients.append(parameter.grad)
    total_norm = nn.utils.get_total_norm(gradients)
    scale = (max_norm / (total_norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)
    return total_norm


def num_training_steps(args: TrainArguments, num_batches: int) -> int:
    """Return the number of optimizer steps.

    Args:
        args: Steps or epochs, and batches per step.
        num_batches: Number of batches in an epoch.
    """
    steps_per_epoch = math.ceil(num_batches / args.gradient_accumulation_steps)
    return args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * steps_per_epoch)


def create_schedule(optimizer: torch.optim.Optimizer, args: TrainArguments, num_training_steps: int) -> LRScheduler:
    """Return the schedule `lr_scheduler_type`, with one step per step of the optimizer.

    Args:
        optimizer: The optimizer whose learning rate changes.
        args: Type and warmup; a warmup below 1 is a share of all steps, as in `TrainingArguments`.
        num_training_steps: Number of optimizer steps of the whole run.
    """
    warmup = args.warmup_steps if args.warmup_steps >= 1 else args.warmup_steps * num_training_steps
    schedule: LRScheduler = get_scheduler(args.lr_scheduler_type, optimizer, round(warmup), num_training_steps)
    return schedule
