"""The steps of a run, whatever it trains."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, tqdm
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from .arguments import NOT_PART_OF_THE_RUN, TrainArguments
from .checkpoints import CHECKPOINTS, Checkpoint, RunState, generator_states, open_checkpoint, remove, save_checkpoint
from .optimization import LazyAdam, clip_grad_norm, drop_frozen_gradients

# Up to this batch, sharing out the work of a step among threads costs more time than it saves on a CPU
ONE_THREAD_BATCH = 32

# Batches between two looks at what the device has counted
READ_EVERY = 50


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
    sampler: Any  # of the training batches, with `start_batch` and `set_epoch`
    num_steps: int
    state: RunState = field(default_factory=RunState)
    best_weights: dict[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        self.bare_model, self.bare_optimizer = self.model, self.optimizer
        self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self.evaluates = "validation" in self.loaders and self.args.eval_strategy != "no"
        self.progress: Any = None

    def start(self) -> None:
        """Go on from a checkpoint if that was asked for, and remove those of a run that is replaced."""
        args, accelerator = self.args, self.accelerator
        if args.resume_from_checkpoint is not None:
            self.resume(open_checkpoint(Path(args.output_dir), args.resume_from_checkpoint, accelerator.print))
        if args.report_to != "none":
            accelerator.init_trackers("rnn_hf", config={name: str(value) for name, value in self.recipe.items()})
        if args.overwrite_output_dir and accelerator.is_main_process:
            remove(Path(args.output_dir) / CHECKPOINTS)

    def train(self) -> None:
        """Take the steps of the run, from where `state` stands, on as many threads as are worth their while."""
        self.num_threads = threads = torch.get_num_threads()
        if self.accelerator.device.type == "cpu" and self.has_little_work:
            self.num_threads = 1
        torch.set_num_threads(self.num_threads)
        try:
            self.take_steps()
        finally:
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
                if args.save_strategy == "steps" and state.step % args.save_steps == 0:
                    self.save()
                if state.step >= self.num_steps or self.is_out_of_patience():
                    break
            else:
                state.epoch, state.batch = state.epoch + 1, 0
            self.read_counts()
            is_last_unmeasured = args.eval_strategy == "steps" and state.step % args.eval_steps != 0
            if args.eval_strategy == "epoch" or (is_last_unmeasured and state.step >= self.num_steps):
                self.evaluate()
            if args.save_strategy == "epoch":
                self.save()
            if state.batch == 0 and state.step < self.num_steps and not self.is_out_of_patience():
                state.seen, state.correct, state.loss_sum = 0, 0, 0.0
        state.train_runtime = runtime_before + time.perf_counter() - started
        self.progress.close()
        if isinstance(self.bare_optimizer, LazyAdam):
            self.bare_optimizer.catch_up()
        if self.best_weights is not None:
            self.bare_model.load_state_dict(self.best_weights)

    def train_on(self, batch: dict[str, torch.Tensor]) -> bool:
        """Add the gradients of one batch; return whether the optimizer took a step."""
        args = self.args
        with self.accelerator.accumulate(self.model):
            self.accelerator.backward(self.loss_of(batch))
            took_step: bool = self.accelerator.sync_gradients
            if took_step and (args.gradual_unfreezing or args.freeze_embeddings_epochs):
                drop_frozen_gradients(self.bare_model, args, self.state.epoch)
            if took_step and args.max_grad_norm > 0:
                clip_grad_norm(self.model.parameters(), args.max_grad_norm)
            if took_step:
                # Accelerate's own search for a package, and look at signatures, in every step
                self.bare_optimizer.step()
                self.bare_model.zero_grad()
        self.state.batch += 1
        if took_step:
            self.schedule.step()
            self.state.step += 1
            self.progress.update()
        if self.state.batch % READ_EVERY == 0:
            self.read_counts()
        return took_step

    def loss_of(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss of one batch of training, and note what `read_counts` will count."""
        raise NotImplementedError

    def read_counts(self) -> None:
        """Add what was counted on all devices to the state, and show it."""
        raise NotImplementedError

    def log_running_figures(self) -> None:
        """Write a line with how the epoch goes so far."""
        raise NotImplementedError

    def evaluate(self) -> None:
        """Measure the validation split, and keep the weights if they are the best so far."""
        raise NotImplementedError

    def keep_if_best(self, metric: float) -> None:
        """Keep the weights if no evaluation before had as great a metric."""
        state = self.state
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
        """Write a checkpoint from which all processes can go on."""
        self.read_counts()
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
        self.accelerator.wait_for_everyone()

    def stream_state(self) -> dict[str, torch.Tensor] | None:
        """Return what the model remembers from batch to batch; a classifier remembers nothing."""
        return None

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint as if nothing had happened."""
        for name, value in checkpoint.arguments.items():
            if name not in NOT_PART_OF_THE_RUN and self.recipe.get(name) != value:
                raise ValueError(
                    f"The checkpoint was made with `--{name} {value}`, this run has {self.recipe.get(name)}. "
                    "Pass the same arguments to resume."
                )
        checkpoint.restore(self.bare_model, self.optimizer, self.schedule)
        checkpoint.restore_generators(self.accelerator.process_index)
        self.state, self.best_weights = checkpoint.state, checkpoint.best_weights
        self.accelerator.print(f"Going on from {checkpoint.folder}.")

    def end(self) -> None:
        """Let go of the other processes.

        The wrapped model goes first: if it were the last to hold the process group, torch would wait for a thread of
        the group while that thread waits for Python's lock.
        """
        self.model = self.bare_model
        self.accelerator.free_memory()
        self.accelerator.end_training()
