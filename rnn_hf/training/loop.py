"""The steps of a run, whatever it trains."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, tqdm
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from rnn_hf.errors import ExitStatusError
from rnn_hf.files import remove
from rnn_hf.safe_loading import is_finite

from .arguments import NOT_PART_OF_THE_RUN, TrainArguments
from .checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    RunState,
    checkpoint_folder,
    generator_states,
    newest_checkpoint,
    open_checkpoint,
    save_checkpoint,
)
from .optimization import LazyAdam, clip_grad_norm, drop_frozen_gradients
from .signals import DivergedRunError, InterruptedRunError, StopSignals

# Up to this batch, sharing out the work of a step among threads costs more time than it saves on a CPU
ONE_THREAD_BATCH = 32

BATCH_SIZE = "per_device_train_batch_size"

# Batches between two looks at what the device has counted
READ_EVERY = 50

# Steps left out one after the other until a run is given up
MOST_SKIPPED_STEPS = 100


class UnreadLoss(NamedTuple):
    """The loss of a batch that nobody has looked at yet; looking waits for the device."""

    loss: torch.Tensor  # the mean, in nats
    num_items: int | torch.Tensor  # the mean is of so many texts, or tokens
    step: int
    learning_rate: float


@dataclass(kw_only=True)
class Run:
    """A model in training, and everything that training it touches."""

    args: TrainArguments
    recipe: dict[str, Any]
    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    loaders: dict[str, DataLoader[Any]]
    sampler: Any  # of the training batches: a `BatchSampler`
    num_steps: int
    state: RunState = field(default_factory=RunState)
    best_weights: dict[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        self.bare_model, self.bare_optimizer = self.model, self.optimizer
        self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self.evaluates = "validation" in self.loaders and self.args.eval_strategy != "no"
        self.progress: Any = None
        self.signals = StopSignals(self.accelerator.num_processes)
        self.unread_losses: list[UnreadLoss] = []
        self.num_skipped_in_a_row = 0
        self.saved_at: tuple[int, int] | None = None

    def start(self) -> None:
        """Go on from a checkpoint if that was asked for, and remove those of a run that is replaced."""
        args, accelerator = self.args, self.accelerator
        if args.resume_from_checkpoint is not None:
            self.resume(open_checkpoint(Path(args.output_dir), args.resume_from_checkpoint, accelerator.print))
        elif args.overwrite_output_dir and accelerator.is_main_process:
            remove(Path(args.output_dir) / CHECKPOINTS)
        if args.report_to != "none":
            accelerator.init_trackers("rnn_hf", config={name: str(value) for name, value in self.recipe.items()})

    def train(self) -> None:
        """Take the steps of the run, from where `state` stands, on as many threads as are worth their while.

        Raises:
            InterruptedRunError: If SIGINT or SIGTERM asked the run to stop; a checkpoint is written before.
            DivergedRunError: If a loss or a weight is not a finite number.
            StreamError: If the training rows are a stream, and some of them cannot be read.
        """
        self.num_threads = threads = torch.get_num_threads()
        if self.accelerator.device.type == "cpu" and self.has_little_work:
            self.num_threads = 1
        torch.set_num_threads(self.num_threads)
        try:
            with self.signals:
                self.take_steps()
        except ExitStatusError:  # raised on all processes
            self.end()
            raise
        finally:
            self.progress.close()
            torch.set_num_threads(threads)

    @property
    def has_little_work(self) -> bool:
        """Whether sharing out a step among threads costs more time than it saves."""
        return self.args.per_device_train_batch_size <= ONE_THREAD_BATCH

    def take_steps(self) -> None:
        """Read the batches and step, evaluate and save in between, and end with the best weights."""
        args, state = self.args, self.state
        self.progress = tqdm(total=self.num_steps, initial=state.step, unit="step", desc="Training")
        started, runtime_before = time.perf_counter(), state.train_runtime
        self.model.train()
        while state.step < self.num_steps and not self.is_out_of_patience():
            if state.batch == 0:
                state.seen, state.correct, state.loss_sum = 0, 0, 0.0
            self.sampler.start_batch = state.batch
            # the loader's: it hands its own count on to the sampler
            self.loaders["train"].set_epoch(state.epoch)  # type: ignore[attr-defined]  # Accelerate added it
            for batch in self.loaders["train"]:
                took_step = self.train_on(batch)
                state.train_runtime = runtime_before + time.perf_counter() - started
                if state.batch % args.logging_steps == 0:
                    self.log_running_figures()
                if not took_step:
                    continue
                if args.eval_strategy == "steps" and state.step % args.eval_steps == 0:
                    self.evaluate()
                if state.step >= self.num_steps or self.is_out_of_patience():
                    break
                if args.save_strategy == "steps" and state.step % args.save_steps == 0:
                    self.save()
                self.stop_if_asked()
            else:
                state.epoch, state.batch = state.epoch + 1, 0
            self.read_counts()
            is_last_unmeasured = args.eval_strategy == "steps" and state.step % args.eval_steps != 0
            if args.eval_strategy == "epoch" or (is_last_unmeasured and state.step >= self.num_steps):
                self.evaluate()
            # a run of which nothing is left to do but this goes on from here without doing it again
            is_last_saved = args.save_strategy == "steps" and state.step % args.save_steps == 0
            if args.save_strategy == "epoch" or (is_last_saved and state.step >= self.num_steps):
                self.save()
            self.stop_if_asked()
        state.train_runtime = runtime_before + time.perf_counter() - started
        if isinstance(self.bare_optimizer, LazyAdam):
            self.bare_optimizer.catch_up()
        if self.best_weights is not None:
            self.bare_model.load_state_dict(self.best_weights)
        self.check_weights()

    def train_on(self, batch: dict[str, torch.Tensor]) -> bool:
        """Add the gradients of one batch; return whether the optimizer took a step."""
        args = self.args
        with self.accelerator.accumulate(self.model):
            self.accelerator.backward(self.loss_of(batch))
            took_step: bool = self.accelerator.sync_gradients
            if took_step and (args.gradual_unfreezing or args.freeze_embeddings_epochs):
                drop_frozen_gradients(self.bare_model, args, self.state.epoch)
            is_skipped = False
            if took_step and (args.max_grad_norm > 0 or args.skip_nonfinite_steps):
                norm = clip_grad_norm(self.model.parameters(), args.max_grad_norm or math.inf)
                # gradients are those of all processes by now, and so is the answer
                is_skipped = args.skip_nonfinite_steps and not math.isfinite(norm.item())
            if took_step:
                if not is_skipped:
                    # Accelerate's own search for a package, and look at signatures, in every step
                    self.bare_optimizer.step()
                self.bare_model.zero_grad()
        self.state.batch += 1
        if took_step:
            self.schedule.step()
            self.state.step += 1
            self.progress.update()
            self.count_skipped(is_skipped)
        if self.state.batch % READ_EVERY == 0:
            self.read_counts()
        return took_step

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of one batch of training, and note what `read_counts` will count."""
        raise NotImplementedError

    def note_loss(self, loss: torch.Tensor, num_items: int | torch.Tensor) -> None:
        """Keep the loss of a batch of training until `read_losses` looks at it.

        Args:
            loss: The mean, in nats.
            num_items: The mean is of so many texts, or tokens.
        """
        learning_rate = self.bare_optimizer.param_groups[-1]["lr"]
        self.unread_losses.append(UnreadLoss(loss.detach(), num_items, self.state.step + 1, learning_rate))

    def read_losses(self) -> None:
        """Add the losses of all processes since the last look to the state.

        They are added one by one, so that the sum does not depend on when it was looked at.

        Raises:
            DivergedRunError: If one of them is not finite, unless such steps are left out.
        """
        unread, self.unread_losses = self.unread_losses, []
        if not unread:
            return
        losses = torch.stack([entry.loss for entry in unread])
        sizes = torch.tensor([int(entry.num_items) for entry in unread], device=losses.device)
        table = self.accelerator.reduce(torch.stack([losses * sizes, sizes.to(losses.dtype)]), reduction="sum")
        state = self.state
        for entry, loss_sum, num_items in zip(unread, *table.tolist(), strict=True):
            if not math.isfinite(loss_sum):
                if self.args.skip_nonfinite_steps:
                    continue
                raise self.diverged(
                    f"The loss is {loss_sum} at step {entry.step}, at a learning rate of {entry.learning_rate:.3g}."
                )
            state.loss_sum += loss_sum
            state.seen, state.num_texts = state.seen + round(num_items), state.num_texts + round(num_items)

    def count_skipped(self, is_skipped: bool) -> None:
        """Say that a step was left out, and give up where nothing but such steps is left."""
        self.num_skipped_in_a_row = self.num_skipped_in_a_row + 1 if is_skipped else 0
        if not is_skipped:
            return
        self.forget_batches()
        self.progress.write(f"step {self.state.step} | left out: its gradient is not finite")
        if self.num_skipped_in_a_row >= MOST_SKIPPED_STEPS:
            raise self.diverged(f"The {MOST_SKIPPED_STEPS} steps up to {self.state.step} have no finite gradient.")

    def forget_batches(self) -> None:
        """Forget what the model remembers from batch to batch; a classifier remembers nothing."""

    def check_weights(self) -> None:
        """Refuse to go on with, or to save, weights that are no numbers.

        Raises:
            DivergedRunError: If one of them is not finite.
        """
        if not all(map(is_finite, self.bare_model.state_dict().values())):
            raise self.diverged(f"Weights are not finite after step {self.state.step}.")

    def diverged(self, what: str) -> DivergedRunError:
        """Return the error that a run ends with which has left the finite numbers."""
        last = newest_checkpoint(Path(self.args.output_dir))
        remedy = "Lower `--learning_rate` or `--max_grad_norm`"
        if not self.args.skip_nonfinite_steps:
            remedy += ", or pass `--skip_nonfinite_steps`"
        checkpoint = "There is no checkpoint" if last is None else f"The last good checkpoint is '{last}'"
        return DivergedRunError(f"{what} {checkpoint}. {remedy}.")

    def stop_if_asked(self) -> None:
        """Write a checkpoint and end the run, if a signal has asked for that.

        Raises:
            InterruptedRunError: If it has.
        """
        number = self.signals.asked_to_stop()
        if number is None:
            return
        state = self.state
        if (state.epoch, state.batch) != self.saved_at:
            self.save()
        folder = checkpoint_folder(Path(self.args.output_dir), state.step)
        raise InterruptedRunError(
            f"Stopped by {number.name} after step {state.step} of {self.num_steps}. '{folder}' holds the run; "
            "the same command with `--resume_from_checkpoint latest` goes on from there.",
            number,
        )

    def read_counts(self) -> None:
        """Add what was counted on all devices to the state, and show it."""
        raise NotImplementedError

    def log_running_figures(self) -> None:
        """Write a line with how the epoch goes so far."""
        raise NotImplementedError

    def evaluate(self) -> None:
        """Measure the validation split, and keep the weights if they are the best so far."""
        raise NotImplementedError

    def keep_if_best(self, metric: float, loss: float) -> None:
        """Keep the weights if no evaluation before had as great a metric.

        Args:
            metric: The greater, the better.
            loss: The loss on the validation split, in nats.

        Raises:
            DivergedRunError: If one of the two is not finite.
        """
        state = self.state
        if not (math.isfinite(metric) and math.isfinite(loss)):
            raise self.diverged(f"The validation loss is {loss} after step {state.step}.")
        state.evaluations_without_gain += 1
        if state.best_metric is None or metric > state.best_metric:
            state.best_metric, state.best_step, state.evaluations_without_gain = metric, state.step, 0
            weights = self.bare_model.state_dict()
            self.best_weights = {name: weight.detach().cpu().clone() for name, weight in weights.items()}

    def is_out_of_patience(self) -> bool:
        """Return whether the validation split has seen no gain for too long."""
        patience = self.args.early_stopping_patience
        return patience is not None and self.state.evaluations_without_gain >= patience

    def record(self, values: dict[str, float]) -> None:
        """Keep values for `all_results.json`, and hand them to the experiment tracker if there is one."""
        self.state.log.append({"step": self.state.step, "epoch": self.state.epoch, **values})
        self.accelerator.log(values, step=self.state.step)

    def save(self) -> None:
        """Write a checkpoint from which all processes can go on.

        Raises:
            DivergedRunError: If a loss or a weight is not finite.
        """
        self.read_counts()
        self.check_weights()
        self.state.place = self.sampler.place_of(self.state.batch)
        generators = gather_object([generator_states()])
        own = self.stream_state()
        stream_states = None if own is None else gather_object([own])
        if self.accelerator.is_main_process:
            save_checkpoint(
                Path(self.args.output_dir),
                self.state,
                model=self.bare_model,
                optimizer=self.optimizer,
                schedule=self.schedule,
                generators=generators,
                best_weights=self.best_weights,
                arguments=self.recipe,
                stream_states=stream_states,
                total_limit=self.args.save_total_limit,
            )
        self.saved_at = self.state.epoch, self.state.batch
        self.accelerator.wait_for_everyone()

    def stream_state(self) -> dict[str, torch.Tensor] | None:
        """Return what the model remembers from batch to batch; a classifier remembers nothing."""
        return None

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint as if nothing had happened."""
        num_processes = self.accelerator.num_processes
        for name, value in checkpoint.arguments.items():
            if name not in NOT_PART_OF_THE_RUN | {BATCH_SIZE} and self.recipe.get(name) != value:
                raise ValueError(
                    f"The checkpoint was made with `--{name} {value}`, this run has {self.recipe.get(name)}. "
                    "Pass the same arguments to resume."
                )
        # what all processes read together is a batch; how many share it makes no difference
        saved, own = checkpoint.arguments[BATCH_SIZE], self.recipe[BATCH_SIZE]
        if saved * checkpoint.num_processes != own * num_processes:
            raise ValueError(
                f"The checkpoint was made with `--{BATCH_SIZE} {saved}` on {checkpoint.num_processes} processes, this "
                f"run has {own} on {num_processes}. Pass "
                f"`--{BATCH_SIZE} {saved * checkpoint.num_processes / num_processes:g}`, or as many processes."
            )
        checkpoint.restore(self.bare_model, self.optimizer, self.schedule)
        checkpoint.restore_generators(self.accelerator.process_index)
        self.state, self.best_weights = checkpoint.state, checkpoint.best_weights
        if self.state.place is not None:
            self.sampler.go_on(self.state.place)
        self.accelerator.print(f"Going on from {checkpoint.folder}.")

    def end(self) -> None:
        """Let go of the other processes.

        The wrapped model goes first: if it were the last to hold the process group, torch would wait for a thread of
        the group while that thread waits for Python's lock.
        """
        self.model = self.bare_model
        self.accelerator.free_memory()
        self.accelerator.end_training()
