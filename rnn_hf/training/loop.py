"""The training loop: batches, gradients, steps, and what happens between steps, for any model."""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from rnn_hf.data.batching import BatchSampler
from rnn_hf.errors import ExitStatusError
from rnn_hf.files import remove
from rnn_hf.modeling_rnn import RNNPreTrainedModel
from rnn_hf.progress import progress_bar, say
from rnn_hf.safe_loading import is_finite
from rnn_hf.threads import num_threads_here

from .arguments import RunArguments, TrainArguments
from .checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    RunState,
    checkpoint_folder,
    generator_states,
    open_checkpoint,
    save_checkpoint,
)
from .lazy_adam import LazyAdam
from .loss_log import LossLog
from .optimization import clip_grad_norm, create_optimizer, create_schedule, drop_frozen_gradients, num_training_steps
from .output_folder import run_facts
from .recipes import as_recipe
from .signals import InterruptedRunError, StopSignals

# Up to this batch size, or this product with the hidden size, sharing a step among threads saves no time on a CPU; if
# other programs use the cores, threads wait for each other, and a step takes seconds
ONE_THREAD_BATCH, ONE_THREAD_UNITS = 32, 4096

# Number of batches between two reads of the counts on the device
READ_EVERY = 50


@dataclass(kw_only=True)
class Run:
    """Training of a model; a subclass defines its loss and its evaluation.

    Args:
        args: Arguments of training.
        recipe: All arguments of the run, which a resumed run must share.
        accelerator: The accelerator of this process.
        model: The model, prepared by the accelerator.
        optimizer: Its optimizer, prepared, too.
        schedule: Schedule of the learning rate, with one step per step of the optimizer.
        loaders: The prepared batches of each split.
        sampler: The sampler of the training batches.
        num_steps: Number of optimizer steps of the whole run.
        signals: Stops the run at SIGINT and SIGTERM, after a checkpoint. `None`: signals have their usual effect.
        state: Position of the run.
        best_weights: Weights of the best evaluation so far.
    """

    args: TrainArguments
    recipe: dict[str, Any]
    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    loaders: dict[str, DataLoader[Any]]
    sampler: BatchSampler
    num_steps: int
    signals: StopSignals | None = None
    state: RunState = field(default_factory=RunState)
    best_weights: dict[str, torch.Tensor] | None = None

    @classmethod
    def prepare(
        cls,
        model: RNNPreTrainedModel,
        args: RunArguments,
        accelerator: Accelerator,
        loaders: dict[str, DataLoader[Any]],
        sampler: BatchSampler,
        **parts: Any,
    ) -> Self:
        """Create the optimizer and its schedule, prepare them with the model, and return the run at its start.

        Args:
            model: The bare model.
            args: All arguments of the run.
            accelerator: The accelerator of this process, which has prepared the loaders.
            loaders: The prepared batches of each split.
            sampler: The sampler of the training batches.
            parts: Further attributes of the class, by name.
        """
        num_steps = num_training_steps(args, sampler.num_batches or 0)
        optimizer = create_optimizer(model, args, accelerator.device)
        schedule = create_schedule(optimizer, args, num_steps)
        recipe = as_recipe(args, model.config)
        prepared, optimizer = accelerator.prepare(model, optimizer)
        return cls(
            args=args,
            recipe=recipe,
            accelerator=accelerator,
            model=prepared,
            optimizer=optimizer,
            schedule=schedule,
            loaders=loaders,
            sampler=sampler,
            num_steps=num_steps,
            **parts,
        )

    def __post_init__(self) -> None:
        self.bare_model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        self.bare_optimizer: torch.optim.Optimizer = self.optimizer.optimizer  # type: ignore[attr-defined]  # Accelerate's
        self.folder = None if self.args.output_dir is None else Path(self.args.output_dir)
        self.evaluates = "validation" in self.loaders and self.args.eval_strategy != "no"
        self.loss_log = LossLog(self.args, self.accelerator)
        self.title, self.progress = "Training", progress_bar(disable=True)
        self.saved_at: tuple[int, int] | None = None

    def train(self) -> None:
        """Take the remaining steps of the run, with the number of threads that is fastest.

        Raises:
            InterruptedRunError: If SIGINT or SIGTERM stopped the run, after a checkpoint was written.
            DivergedRunError: If a loss or a weight became NaN or infinite.
            StreamError: If the training rows are a stream that cannot be read any further.
        """
        is_alone = self.accelerator.device.type == "cpu" and self.is_faster_on_one_thread
        self.num_threads = 1 if is_alone else torch.get_num_threads()
        self.progress = progress_bar(total=self.num_steps, initial=self.state.step, unit="step", desc=self.title)
        try:
            with num_threads_here(self.num_threads), self.signals or nullcontext():
                self.take_steps()
        except ExitStatusError:  # raised on all processes
            self.end()
            raise
        finally:
            self.progress.close()

    def take_steps(self) -> None:
        """Train on the batches, evaluate and save in between, and restore the best weights at the end."""
        args, state = self.args, self.state
        started, runtime_before = time.perf_counter(), state.train_runtime
        self.model.train()
        while state.step < self.num_steps and not self.is_out_of_patience():
            if state.batch == 0:
                state.seen, state.correct, state.loss_sum = 0, 0, 0.0
            self.sampler.start_batch = state.batch
            # the loader's `set_epoch`, not the sampler's: the loader passes on a count of its own
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
            # a resumed run that has taken all its steps must not repeat any
            is_last_saved = args.save_strategy == "steps" and state.step % args.save_steps == 0
            if args.save_strategy == "epoch" or (is_last_saved and state.step >= self.num_steps):
                self.save()
            self.stop_if_asked()
        state.train_runtime = runtime_before + time.perf_counter() - started
        if isinstance(self.bare_optimizer, LazyAdam):
            self.bare_optimizer.finish()
        if self.best_weights is not None:
            self.bare_model.load_state_dict(self.best_weights)
        self.check_weights()

    def train_on(self, batch: dict[str, torch.Tensor]) -> bool:
        """Add the gradients of one batch; return whether the optimizer took a step."""
        args, state = self.args, self.state
        with self.accelerator.accumulate(self.model):
            self.accelerator.backward(self.loss_of(batch))
            took_step: bool = self.accelerator.sync_gradients
            if took_step and (args.gradual_unfreezing or args.freeze_embeddings_epochs):
                drop_frozen_gradients(self.bare_model, args, state.epoch)
            is_skipped = False
            if took_step and (args.max_grad_norm > 0 or args.skip_nonfinite_steps):
                norm = clip_grad_norm(self.model.parameters(), args.max_grad_norm or math.inf)
                # the gradients are now those of all processes, and so is the result of the check
                is_skipped = args.skip_nonfinite_steps and not math.isfinite(norm.item())
            if took_step:
                if not is_skipped:
                    # Accelerate's wrapper inspects signatures and packages in every step
                    self.bare_optimizer.step()
                self.bare_model.zero_grad()
        state.batch += 1
        if took_step:
            self.schedule.step()
            state.step += 1
            self.progress.update()
            if is_skipped:
                self.forget_batches()
                say(f"step {state.step} | skipped: its gradient is NaN or infinite")
            self.loss_log.count_skipped(is_skipped, state.step)
        if state.batch % READ_EVERY == 0:
            self.read_counts()
        return took_step

    @property
    def saves(self) -> bool:
        """Whether it writes checkpoints; further trainings of a classifier do not."""
        return True

    @property
    def is_faster_on_one_thread(self) -> bool:
        """Whether sharing a step among threads costs more time than it saves."""
        config: Any = self.bare_model.config
        batch_size = self.args.per_device_train_batch_size
        return batch_size <= ONE_THREAD_BATCH or bool(batch_size * config.hidden_size <= ONE_THREAD_UNITS)

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of a training batch, and record what `read_counts` will count."""
        raise NotImplementedError

    def note_loss(self, loss: torch.Tensor, num_items: int | torch.Tensor) -> None:
        """Keep the loss of a training batch for `read_losses`.

        Args:
            loss: The mean loss, in nats. A scalar.
            num_items: Number of texts or tokens in the mean.
        """
        self.loss_log.note(loss, num_items, self.state.step + 1, self.bare_optimizer.param_groups[0]["lr"])

    def read_losses(self) -> None:
        """Add the recorded losses of all processes to the state, one by one: the sum does not depend on the time."""
        for loss_sum, num_items in self.loss_log.read():
            self.state.count_batch(loss_sum, num_items)

    def read_counts(self) -> None:
        """Add the counts of all devices to the state, and show it."""
        raise NotImplementedError

    def log_running_figures(self) -> None:
        """Print and record the metrics of the epoch so far."""
        raise NotImplementedError

    def evaluate(self) -> None:
        """Evaluate on the validation split, and keep the weights if they are the best so far."""
        raise NotImplementedError

    def forget_batches(self) -> None:
        """Reset the state that the model carries from batch to batch; a classifier has none."""

    def carried_state(self) -> dict[str, torch.Tensor] | None:
        """Return the state that the model carries from batch to batch; a classifier has none."""
        return None

    def keep_if_best(self, metric: float, loss: float) -> None:
        """Keep the weights if no earlier evaluation had as good a metric, unless the last ones are to be kept.

        Args:
            metric: The main metric; higher is better.
            loss: The loss on the validation split, in nats.

        Raises:
            DivergedRunError: If either is NaN or infinite.
        """
        if not (math.isfinite(metric) and math.isfinite(loss)):
            raise self.loss_log.diverged(f"The validation loss is {loss} after step {self.state.step}.")
        if not self.args.load_best_model_at_end:
            self.state.best_metric, self.state.best_step = metric, self.state.step
        elif self.state.count_evaluation(metric):
            weights = self.bare_model.state_dict()
            self.best_weights = {name: weight.detach().cpu().clone() for name, weight in weights.items()}

    def is_out_of_patience(self) -> bool:
        """Return whether the validation metric has not improved for `early_stopping_patience` evaluations."""
        patience = self.args.early_stopping_patience
        return patience is not None and self.state.evaluations_without_gain >= patience

    def check_weights(self) -> None:
        """Check that every weight is finite.

        Raises:
            DivergedRunError: If a weight is NaN or infinite.
        """
        if not all(map(is_finite, self.bare_model.state_dict().values())):
            raise self.loss_log.diverged(f"Weights are NaN or infinite after step {self.state.step}.")

    def record(self, values: dict[str, float]) -> None:
        """Keep values for `all_results.json`, and pass them to the experiment tracker, if any."""
        self.state.log.append({"step": self.state.step, "epoch": self.state.epoch, **values})
        self.accelerator.log(values, step=self.state.step)

    def stop_if_asked(self) -> None:
        """Write a checkpoint and stop the run if a signal has asked for it.

        Raises:
            InterruptedRunError: If it has.
        """
        number = None if self.signals is None else self.signals.asked_to_stop()
        if number is None or self.folder is None:
            return
        state = self.state
        if not self.saves:
            raise InterruptedRunError(
                f"Stopped by {number.name} after step {state.step} of {self.num_steps} of a further training, which "
                "has no checkpoints. Run the same command again.",
                number,
            )
        if (state.epoch, state.batch) != self.saved_at:
            self.save()
        raise InterruptedRunError(
            f"Stopped by {number.name} after step {state.step} of {self.num_steps}, with a checkpoint in "
            f"'{checkpoint_folder(self.folder, state.step)}'. Run the same command with "
            "`resume_from_checkpoint=latest` to resume.",
            number,
        )

    def save(self) -> None:
        """Write a checkpoint from which all processes can resume.

        Raises:
            DivergedRunError: If a loss or a weight is NaN or infinite.
        """
        if not self.saves:
            return
        self.read_counts()
        self.check_weights()
        self.state.place = self.sampler.place_of(self.state.batch)
        generators = gather_object([generator_states()])
        own = self.carried_state()
        carried_states = None if own is None else gather_object([own])
        if self.accelerator.is_main_process and self.folder is not None:
            save_checkpoint(
                self.folder,
                self.state,
                model=self.bare_model,
                optimizer=self.optimizer,
                schedule=self.schedule,
                generators=generators,
                best_weights=self.best_weights,
                arguments=self.recipe,
                stream_states=carried_states,
                total_limit=self.args.save_total_limit,
            )
        self.saved_at = self.state.epoch, self.state.batch
        self.accelerator.wait_for_everyone()

    def facts(self) -> dict[str, Any]:
        """Return the entries of `all_results.json` on the size of the model and how it was trained."""
        accelerator = self.accelerator
        return run_facts(self.bare_model, self.args, accelerator.device, accelerator.num_processes, self.num_threads)

    def start(self) -> None:
        """Restore the checkpoint to resume from, or remove those of an overwritten run; start the tracker."""
        args, accelerator = self.args, self.accelerator
        if self.folder is not None and args.resume_from_checkpoint is not None:
            self.restore(open_checkpoint(self.folder, args.resume_from_checkpoint, say))
        elif self.folder is not None and args.overwrite_output_dir and accelerator.is_main_process:
            remove(self.folder / CHECKPOINTS)
        if args.report_to != "none":
            accelerator.init_trackers("rnn_hf", config={name: str(value) for name, value in self.recipe.items()})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where the run of a checkpoint would have continued.

        Raises:
            ValueError: If that run had other arguments, or another total batch size.
        """
        checkpoint.check_same_run(self.recipe, self.accelerator.num_processes)
        checkpoint.restore(self.bare_model, self.optimizer, self.schedule)
        checkpoint.restore_generators(self.accelerator.process_index)
        self.state, self.best_weights = checkpoint.state, checkpoint.best_weights
        if self.state.place is not None:
            self.sampler.go_on(self.state.place)
        say(f"Resuming from {checkpoint.folder}.")

    def end(self) -> None:
        """Release the other processes, and unwrap the model.

        The wrapped model goes first: if it held the last reference to the process group, torch would wait for a thread
        of the group, which would wait for Python's lock.
        """
        self.model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()
        self.accelerator.end_training()
