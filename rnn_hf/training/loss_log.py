"""The losses of a run, read from the device from time to time, and the error of a run that has diverged."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator

from .arguments import TrainArguments
from .checkpoints import newest_checkpoint
from .signals import DivergedRunError

# Maximum number of steps skipped in a row
MOST_SKIPPED_STEPS = 100


class UnreadLoss(NamedTuple):
    """The loss of a batch, still on the device; reading it waits for the device."""

    loss: torch.Tensor  # the mean, in nats
    num_items: int | torch.Tensor  # texts or tokens in the mean
    step: int
    learning_rate: float


class LossLog:
    """Collects the losses of training batches, and raises an error if the run diverges.

    Args:
        args: The arguments of the run.
        accelerator: The accelerator of this process.
    """

    def __init__(self, args: TrainArguments, accelerator: Accelerator) -> None:
        self.args, self.accelerator = args, accelerator
        self.unread: list[UnreadLoss] = []
        self.num_skipped_in_a_row = 0

    def note(self, loss: torch.Tensor, num_items: int | torch.Tensor, step: int, learning_rate: float) -> None:
        """Keep the loss of a batch until `read`.

        Args:
            loss: The mean loss, in nats. A scalar.
            num_items: Number of texts or tokens in the mean.
            step: The optimizer step of the batch.
            learning_rate: The learning rate of that step.
        """
        self.unread.append(UnreadLoss(loss.detach(), num_items, step, learning_rate))

    def read(self) -> Iterator[tuple[float, int]]:
        """Yield the sum of the losses and the number of items of each batch since the last call, over all processes.

        Raises:
            DivergedRunError: If a loss is NaN or infinite, unless such steps are skipped.
        """
        unread, self.unread = self.unread, []
        if not unread:
            return
        losses = torch.stack([entry.loss for entry in unread])
        sizes = torch.tensor([int(entry.num_items) for entry in unread], device=losses.device)
        table = self.accelerator.reduce(torch.stack([losses * sizes, sizes.to(losses.dtype)]), reduction="sum")
        for entry, loss_sum, num_items in zip(unread, *table.tolist(), strict=True):
            if math.isfinite(loss_sum):
                yield loss_sum, round(num_items)
            elif not self.args.skip_nonfinite_steps:
                raise self.diverged(
                    f"The loss is {loss_sum} at step {entry.step}, at a learning rate of {entry.learning_rate:.3g}."
                )

    def count_skipped(self, is_skipped: bool, step: int) -> None:
        """Count the steps skipped in a row.

        Raises:
            DivergedRunError: If there are too many.
        """
        self.num_skipped_in_a_row = self.num_skipped_in_a_row + 1 if is_skipped else 0
        if self.num_skipped_in_a_row >= MOST_SKIPPED_STEPS:
            raise self.diverged(f"The gradients of the {MOST_SKIPPED_STEPS} steps up to {step} are NaN or infinite.")

    def diverged(self, what: str) -> DivergedRunError:
        """Return the error of a run that has diverged, with the last good checkpoint and a remedy."""
        last = None if self.args.output_dir is None else newest_checkpoint(Path(self.args.output_dir))
        remedy = "Lower `learning_rate` or `max_grad_norm`"
        if not self.args.skip_nonfinite_steps:
            remedy += ", or pass `skip_nonfinite_steps=true`"
        checkpoint = "There is no checkpoint" if last is None else f"The last good checkpoint is '{last}'"
        return DivergedRunError(f"{what} {checkpoint}. {remedy}.")
