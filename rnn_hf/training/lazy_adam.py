"""Adam whose steps do not grow with the vocabulary."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.utils.hooks import RemovableHandle

# A missed update this much smaller than the first one is left out
NEGLIGIBLE = 1e-9


class _Read(NamedTuple):
    """Copies of some rows of a table's moments.

    Args:
        rows: Which rows. Shape `(num_rows,)`.
        exp_avg: First moments. Shape `(num_rows, size)`.
        exp_avg_sq: Second moments. Shape `(num_rows, size)`.
    """

    rows: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba, 2015) in time that does not grow with the vocabulary.

    A batch holds a few hundred of a vocabulary's words, but Adam moves every word vector in every step, because its
    momentum goes on where the gradient is zero. Here the rows of a table that have no gradient are left alone, and the
    steps a row has missed are made up for in one when its word comes again: with gradients of zero their sum is known,
    `m / (sqrt(v) + eps) * tail`, where `tail` depends only on how many they are. (Optimizers that drop those steps, as
    `torch.optim.SparseAdam` does, move a rare word about ten times less far, and learn less.)

    So it computes what `torch.optim.Adam`, or with `decoupled_weight_decay` `torch.optim.AdamW`, computes, up to the
    place of `eps` in the missed steps. Only `weight_decay` without decoupling reaches rows with a gradient alone.

    A gradient is taken row by row if it is sparse, as `nn.Embedding` gives it with `sparse=True`. `follow` arranges
    that and has the embedding's rows made up for before they are read; call `catch_up` before weights are saved, and
    `finish` after the last step.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay rates of the two moments; the first one must lie below the root of the second.
        eps: Added to the root of the second moment.
        weight_decay: Weight decay.
        decoupled_weight_decay: Whether the weights themselves decay (Loshchilov and Hutter, 2019), rather than their
            share being added to the gradient.

    Raises:
        ValueError: If the momentum would outlast the second moment.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if betas[0] ** 2 >= betas[1]:
            raise ValueError(f"The first of `betas` must be below the root of the second, got {betas}. Lower it.")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.decoupled_weight_decay = decoupled_weight_decay
        self._reads: dict[Tensor, _Read] = {}
        self._followed: dict[nn.Embedding | nn.EmbeddingBag, list[RemovableHandle]] = {}

    def follow(self, embedding: nn.Embedding | nn.EmbeddingBag) -> None:
        """Let an embedding give sparse gradients, and make up for what its rows have missed before they are read.

        In training those of the batch, in evaluation all.
        """

        def before_reading(module: nn.Embedding | nn.EmbeddingBag, args: tuple[Any, ...]) -> None:
            if not module.training:
                self._catch_up(module.weight)
            elif module.weight in self.state:
                rows = torch.unique(args[0])
                # the padding's row has no gradient
                self._read(module.weight, rows if module.padding_idx is None else rows[rows != module.padding_idx])

        embedding.sparse = True  # before the model is wrapped: torch's DDP asks once
        self._followed[embedding] = [
            embedding.register_forward_pre_hook(before_reading),
            # a word that comes often is added up before the gradient is sent to other processes
            embedding.weight.register_hook(lambda gradient: gradient.coalesce()),
        ]

    def catch_up(self) -> None:
        """Make up for all missed steps of all rows."""
        for parameter in self.state:
            self._catch_up(parameter)

    def finish(self) -> None:
        """Make up for all missed steps, and leave the embeddings as they were before `follow`."""
        self.catch_up()
        for embedding, handles in self._followed.items():
            embedding.sparse = False
            for handle in handles:
                handle.remove()
        self._followed.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as `torch.optim.Optimizer` does; rows that have missed steps are noted in it."""
        for table in list(self._reads):
            self._put_back(table)
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; what was read before is forgotten."""
        self._reads.clear()
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return what `closure`, which computes the gradients anew, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        # weights, gradients, both moments, steps: whole tensors, or copies of some of their rows
        columns: tuple[list[Tensor], ...] = ([], [], [], [], [])
        changed: list[tuple[Tensor, Tensor, _Read]] = []
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            weights, first, second = parameter, state["exp_avg"], state["exp_avg_sq"]
            if gradient.is_sparse:
                gradient = gradient.coalesce()
                rows, gradient = gradient.indices()[0], gradient.values()
                read = self._reads.get(parameter)
                if read is None or not torch.equal(read.rows, rows):
                    read = self._read(parameter, rows)
                self._add_step(parameter, group, rows)
                weights, first, second = parameter.index_select(0, rows), read.exp_avg, read.exp_avg_sq
                changed.append((parameter, weights, read))
            for column, tensor in zip(columns, (weights, gradient, first, second, state["step"]), strict=True):
                column.append(tensor)
        all_weights, gradients, first_moments, second_moments, steps = columns
        beta1, beta2 = group["betas"]
        adam(
            all_weights,
            gradients,
            first_moments,
            second_moments,
            [],
            steps,
            fused=True,
            decoupled_weight_decay=self.decoupled_weight_decay,
            amsgrad=False,
            maximize=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
        )
        for table, weights, read in changed:
            table.index_copy_(0, read.rows, weights)
            self._put_back(table)

    def _add_step(self, table: Tensor, group: dict[str, Any], rows: Tensor) -> None:
        """Note that all rows but `rows`, which are made up for, miss the step that is about to be taken."""
        state, (beta1, beta2) = self.state[table], group["betas"]
        step = int(state["step"]) + 1
        state["last_step"].index_fill_(0, rows, step)
        if step >= len(state["tails"]):
            for name in ("tails", "log_decays"):
                state[name] = torch.cat([state[name], torch.zeros_like(state[name])])
        scale = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        if self._decays(group):
            decay = math.log1p(-group["lr"] * group["weight_decay"])
            state["log_decays"][step] = state["log_decays"][step - 1] + decay
            # the decay until a row is made up for is divided out here, and multiplied in there
            scale = scale / state["log_decays"][step].exp()
        powers = self._powers(beta1 / math.sqrt(beta2), table.device)[-step:]
        state["tails"][step - len(powers) : step].add_(powers, alpha=scale)

    def _catch_up(self, table: Tensor) -> None:
        """Make up for the steps that any row has missed."""
        if "last_step" not in self.state.get(table, {}):
            return
        self._put_back(table)
        state = self.state[table]
        rows = (state["last_step"] < state["step"]).nonzero().squeeze(1)
        if len(rows) > 0:
            self._read(table, rows)
            self._put_back(table)

    @torch.no_grad()
    def _read(self, table: Tensor, rows: Tensor) -> _Read:
        """Make up for the steps that `rows` have missed, in the table's weights and in copies of the moments.

        The step that follows mostly changes the same rows: the copies wait for it, rather than being written and read
        again. `_put_back` writes them.
        """
        self._put_back(table)
        state = self.state[table]
        if "last_step" not in state:
            # numbers of steps, but not integers: torch casts the state it loads to the type of the weights
            state["last_step"] = torch.zeros(len(table), device=table.device)
            # by the step a row was last moved in: what the missed steps since then add up to, and the weights' decay
            state["tails"] = torch.zeros(1024, device=table.device)
            state["log_decays"] = torch.zeros(1024, device=table.device)
        step = int(state["step"])
        first, second = state["exp_avg"].index_select(0, rows), state["exp_avg_sq"].index_select(0, rows)
        last_steps = state["last_step"].index_select(0, rows)
        missed = (step - last_steps).unsqueeze(1)
        if missed.any():
            group = next(group for group in self.param_groups if any(table is member for member in group["params"]))
            beta1, beta2 = group["betas"]
            weights = table.index_select(0, rows)
            last_steps = last_steps.long()
            tails = state["tails"].index_select(0, last_steps).unsqueeze(1)
            if self._decays(group):
                decays = state["log_decays"][step] - state["log_decays"].index_select(0, last_steps).unsqueeze(1)
                weights.mul_(decays.exp())
                tails.mul_(state["log_decays"][step].exp())
            # Adam corrects the second moment, and so a large epsilon counts less in early steps: here as in those that
            # move a row most, which follow its last gradient for as long as momentum lasts
            moved_at = (last_steps + 1 / (1 - beta1)).clamp(max=step).unsqueeze(1)
            denominators = second.sqrt() + group["eps"] * (1 - beta2**moved_at).sqrt()
            weights.addcdiv_(first * tails, denominators, value=-1)
            table.index_copy_(0, rows, weights)
            first.mul_(beta1**missed)
            second.mul_(beta2**missed)
            state["last_step"].index_fill_(0, rows, step)
        read = self._reads[table] = _Read(rows, first, second)
        return read

    @torch.no_grad()
    def _put_back(self, table: Tensor) -> None:
        """Write the moments of the rows that were read last."""
        read = self._reads.pop(table, None)
        if read is not None:
            self.state[table]["exp_avg"].index_copy_(0, read.rows, read.exp_avg)
            self.state[table]["exp_avg_sq"].index_copy_(0, read.rows, read.exp_avg_sq)

    def _decays(self, group: dict[str, Any]) -> bool:
        return self.decoupled_weight_decay and group["weight_decay"] > 0

    @staticmethod
    @lru_cache
    def _powers(shrinkage: float, device: torch.device) -> Tensor:
        """Return how far a row moves in each missed step against the last one it did not miss, the latest first.

        Only steps that are not negligible.
        """
        length = max(1, math.ceil(math.log(NEGLIGIBLE) / math.log(max(shrinkage, NEGLIGIBLE))))
        return shrinkage ** torch.arange(length, 0, -1, device=device)
