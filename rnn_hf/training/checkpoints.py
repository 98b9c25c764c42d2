"""The state of a run: written atomically, verified, resumed.

A checkpoint is a folder of safetensors and JSON files, without a pickle. It is written to a temporary folder, flushed
to disk and renamed, so a killed run leaves either a complete checkpoint or none. `sha256.json` holds the SHA-256 of
every other file, which a reader checks first.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from rnn_hf.files import atomic_folder, remove

from .recipes import NOT_PART_OF_THE_RUN

CHECKPOINTS = "checkpoints"
PREFIX = "step-"
DIGESTS = "sha256.json"
BATCH_SIZE = "per_device_train_batch_size"


@dataclass
class RunState:
    """The position of a run, in values for JSON.

    Args:
        step: Number of optimizer steps taken.
        epoch: Current epoch, from 0.
        batch: Number of batches of that epoch already read.
        best_metric: Best validation accuracy, or other main metric, so far; `None` before the first evaluation. Higher
            is better: for a language model, it is the negative loss.
        best_step: Step of that evaluation.
        evaluations_without_gain: Number of evaluations since then.
        seen: Number of texts of this epoch that were trained on; for a language model, tokens.
        correct: Number of those that were classified correctly at that time.
        loss_sum: Sum of their losses, in nats.
        num_texts: Number of texts of all epochs that were trained on; for a language model, tokens.
        train_runtime: Seconds of training so far.
        log: One entry for each evaluation and each logged loss.
        place: Position in a stream of rows; `None` for rows that can be read in any order.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_metric: float | None = None
    best_step: int = 0
    evaluations_without_gain: int = 0
    seen: int = 0
    correct: int = 0
    loss_sum: float = 0.0
    num_texts: int = 0
    train_runtime: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)
    place: dict[str, Any] | None = None

    def count_evaluation(self, metric: float) -> bool:
        """Count an evaluation at this step, and return whether it is the best so far.

        Args:
            metric: The metric; higher is better.
        """
        is_best = self.best_metric is None or metric > self.best_metric
        self.evaluations_without_gain += 1
        if is_best:
            self.best_metric, self.best_step, self.evaluations_without_gain = metric, self.step, 0
        return is_best

    def count_batch(self, loss_sum: float, num_items: int) -> None:
        """Add the losses of a batch, in nats, and its number of texts or tokens."""
        self.loss_sum += loss_sum
        self.seen, self.num_texts = self.seen + num_items, self.num_texts + num_items


def generator_states() -> dict[str, Tensor]:
    """Return the states of the random generators of dropout in this process."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_generators(states: Mapping[str, Tensor]) -> None:
    """Restore the generators of this process to the states from `generator_states`."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def by_rank(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of every process under names that start with its rank."""
    return {f"{rank}.{name}": value for rank, of_process in enumerate(states) for name, value in of_process.items()}


def of_rank(states: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return the tensors of one process from `by_rank`."""
    return {key.split(".", 1)[1]: value for key, value in states.items() if key.startswith(f"{rank}.")}


def save_checkpoint(
    run_folder: Path,
    state: RunState,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    generators: list[dict[str, Tensor]],
    best_weights: Mapping[str, Tensor] | None,
    arguments: Mapping[str, Any],
    stream_states: list[dict[str, Tensor]] | None = None,
    total_limit: int | None = None,
) -> Path:
    """Write a checkpoint into `run_folder`, and remove those beyond the limit and those of later steps.

    Checkpoints of later steps remain from a run that was resumed at an earlier step; they are damaged, or no longer
    wanted.

    Args:
        run_folder: The run's `output_dir`.
        state: Position of the run.
        model: The bare model, not wrapped for several processes.
        optimizer: Its optimizer.
        schedule: Its schedule.
        generators: Generator states of every process, in the order of their ranks.
        best_weights: Weights of the best evaluation so far.
        arguments: Arguments of the run, which a resumed run must share.
        stream_states: States of a language model in the streams of every process, in the order of their ranks.
        total_limit: Maximum number of checkpoints to keep.

    Returns:
        The folder of the checkpoint.
    """
    optimizer_state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value
        for index, entries in optimizer_state["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }
    files: dict[str, dict[str, Tensor]] = {
        "optimizer.safetensors": tensors,
        "generators.safetensors": by_rank(generators),
    }
    if best_weights is not None:
        files["best_model.safetensors"] = dict(best_weights)
    if stream_states is not None:
        files["streams.safetensors"] = by_rank(stream_states)
    folder = checkpoint_folder(run_folder, state.step)
    if folder.parent.is_symlink():
        remove(folder.parent)
    with atomic_folder(folder) as beside:
        save_model(model, str(beside / "model.safetensors"))  # shared weights only once
        for name, content in files.items():
            save_file({key: value.contiguous() for key, value in content.items()}, beside / name)
        (beside / "state.json").write_text(
            json.dumps(
                {
                    "run": asdict(state),
                    "arguments": dict(arguments),
                    "param_groups": optimizer_state["param_groups"],
                    "schedule": schedule.state_dict(),
                    "num_processes": len(generators),
                },
                indent=1,
            )
        )
        digests = {file.name: _sha256(file) for file in sorted(beside.iterdir())}
        (beside / DIGESTS).write_text(json.dumps(digests, indent=1))
    steps = _steps(run_folder)
    place = steps.index(folder)
    first_kept = 0 if total_limit is None else max(0, place + 1 - total_limit)
    for other in (*steps[:first_kept], *steps[place + 1 :]):
        remove(other)
    return folder


def checkpoint_folder(run_folder: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return run_folder / CHECKPOINTS / f"{PREFIX}{step:08d}"


@dataclass
class Checkpoint:
    """A verified checkpoint, from `open_checkpoint`."""

    folder: Path
    state: RunState
    arguments: dict[str, Any]
    _content: dict[str, Any]

    @property
    def best_weights(self) -> dict[str, Tensor] | None:
        """Weights of the best evaluation up to the checkpoint, or `None`."""
        path = self.folder / "best_model.safetensors"
        return load_file(path) if path.exists() else None

    def check_same_run(self, recipe: Mapping[str, Any], num_processes: int) -> None:
        """Check that a run may continue from here.

        Args:
            recipe: All arguments of that run.
            num_processes: Number of its processes.

        Raises:
            ValueError: If the checkpoint was written with other arguments, or another total batch size.
        """
        for name, value in self.arguments.items():
            if name not in NOT_PART_OF_THE_RUN | {BATCH_SIZE} and recipe.get(name) != value:
                raise ValueError(
                    f"The checkpoint was made with `{name}={value}`, this run has {recipe.get(name)}. "
                    "Pass the same arguments to resume."
                )
        # what counts is the batch of all processes together
        saved, own = self.arguments[BATCH_SIZE], recipe[BATCH_SIZE]
        if saved * self.num_processes != own * num_processes:
            raise ValueError(
                f"The checkpoint was made with `{BATCH_SIZE}={saved}` on {self.num_processes} processes, this "
                f"run has {own} on {num_processes}. Pass "
                f"`{BATCH_SIZE}={saved * self.num_processes / num_processes:g}`, or use as many processes."
            )

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler) -> None:
        """Restore weights, optimizer and schedule."""
        load_model(model, self.folder / "model.safetensors")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in load_file(self.folder / "optimizer.safetensors").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": self._content["param_groups"]})
        schedule.load_state_dict(self._content["schedule"])

    def restore_generators(self, rank: int) -> None:
        """Restore the random generators of one process; a process that the saved run did not have keeps its own."""
        own = of_rank(load_file(self.folder / "generators.safetensors"), rank)
        if own:
            restore_generators(own)

    @property
    def num_processes(self) -> int:
        """Number of processes of the saved run."""
        return int(self._content["num_processes"])

    def stream_states(self, rank: int, num_processes: int) -> dict[str, Tensor]:
        """Return the state of a language model in the streams of one process; nothing at the start of an epoch.

        The streams of all saved processes, in the order of their ranks, are divided among the current ones.

        Args:
            rank: The process.
            num_processes: Number of processes; it divides the number of streams.
        """
        path = self.folder / "streams.safetensors"
        if not path.exists():
            return {}
        saved = load_file(path)
        states = [of_rank(saved, rank) for rank in range(self.num_processes)]
        streams = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        return {name: value.chunk(num_processes)[rank] for name, value in streams.items()}


def open_checkpoint(run_folder: Path, name: str, warn: Callable[[str], None]) -> Checkpoint:
    """Return a checkpoint, after a check that its files are complete and unchanged.

    Args:
        run_folder: The run's `output_dir`.
        name: Path of a checkpoint, or `"latest"`: the newest complete one of the run.
        warn: Called with one line for each damaged checkpoint that is skipped.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the named checkpoint is damaged.
    """
    if name != "latest":
        return _read(Path(name))
    checkpoint = _newest(run_folder, warn)
    if checkpoint is None:
        raise FileNotFoundError(
            f"No complete checkpoint is in '{run_folder / CHECKPOINTS}'. Start again without `resume_from_checkpoint`."
        )
    return checkpoint


def newest_checkpoint(run_folder: Path) -> Path | None:
    """Return the folder of the newest complete checkpoint of a run, or `None`."""
    checkpoint = _newest(run_folder, lambda line: None)
    return None if checkpoint is None else checkpoint.folder


def _newest(run_folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    for folder in reversed(_steps(run_folder)):
        try:
            return _read(folder)
        except ValueError as error:
            warn(f"{str(error).removesuffix('Pass another one.')}It is skipped.")
    return None


def _read(folder: Path) -> Checkpoint:
    if not folder.is_dir():
        raise FileNotFoundError(f"The checkpoint '{folder}' does not exist. Pass the path of one, or `latest`.")
    try:
        digests = json.loads((folder / DIGESTS).read_text())
        names = {file.name for file in folder.iterdir()} - {DIGESTS}
        changed = sorted(names ^ digests.keys()) or [name for name in names if _sha256(folder / name) != digests[name]]
        if changed:
            raise ValueError(f"not as they were written: {', '.join(changed)}")
        content = json.loads((folder / "state.json").read_text())
        return Checkpoint(folder, RunState(**content["run"]), content["arguments"], content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The checkpoint '{folder}' is damaged ({error}). Pass another one.") from error


def _steps(run_folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted((run_folder / CHECKPOINTS).glob(f"{PREFIX}*"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
