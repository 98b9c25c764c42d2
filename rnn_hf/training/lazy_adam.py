"""Adam whose steps take time independent of the vocabulary size."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.utils.hooks import RemovableHandle

# Missed updates this much smaller than the first one are ignored
NEGLIGIBLE = 1e-9


class _Read(NamedTuple):
    """Copies of some rows of a table's moments.

    Args:
        rows: Indices of the rows. Shape `(num_rows,)`.
        exp_avg: First moments. Shape `(num_rows, size)`.
        exp_avg_sq: Second moments. Shape `(num_rows, size)`.
    """

    rows: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


class LazyAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba, 2015) in time that does not grow with the vocabulary.

    A batch contains a few hundred words of the vocabulary, but Adam updates every word vector in every step, because
    its momentum continues where the gradient is zero. Here, rows of a table without a gradient are not touched; when
    the word of a row occurs again, all missed updates are applied at once. With gradients of zero, their sum is known:
    `m / (sqrt(v) + eps) * tail`, where `tail` depends only on their number. (Optimizers that drop these updates, as
    `torch.optim.SparseAdam` does, move rare words about ten times less, and learn less.)

    The result is that of `torch.optim.Adam` or, with `decoupled_weight_decay`, `torch.optim.AdamW`, except for the
    position of `eps` in the missed updates. `weight_decay` without decoupling affects only rows with a gradient.

    A gradient is processed by rows if it is sparse, as in `nn.Embedding` with `sparse=True`. `follow` sets that and
    applies the missed updates of an embedding's rows before they are read; call `catch_up` before weights are saved,
    and `finish` after the last step.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay rates of the two moments; the first one must be below the square root of the second.
        eps: Added to the square root of the second moment.
        weight_decay: Weight decay.
        decoupled_weight_decay: Whether the weights themselves decay (Loshchilov and Hutter, 2019), instead of adding
            their share to the gradient.

    Raises:
        ValueError: If the momentum would last longer than the second moment.
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
            raise ValueError(
                f"The first of `betas` must be below the square root of the second, got {betas}. Lower it."
            )
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.decoupled_weight_decay = decoupled_weight_decay
        self._reads: dict[Tensor, _Read] = {}
        self._followed: dict[nn.Embedding | nn.EmbeddingBag, list[RemovableHandle]] = {}

    def follow(self, embedding: nn.Embedding | nn.EmbeddingBag) -> None:
        """Make an embedding produce sparse gradients, and apply the missed updates of its rows before they are read.

        These are the rows of the batch in training mode, and all rows in evaluation mode.
        """

        def before_reading(module: nn.Embedding | nn.EmbeddingBag, args: tuple[Any, ...]) -> None:
            if not module.training:
                self._catch_up(module.weight)
            elif module.weight in self.state:
                rows = torch.unique(args[0])
                # the padding row has no gradient
                self._read(module.weight, rows if module.padding_idx is None else rows[rows != module.padding_idx])

        embedding.sparse = True  # before the model is wrapped: torch's DDP reads it once
        self._followed[embedding] = [
            embedding.register_forward_pre_hook(before_reading),
            # gradients of repeated words are summed before they are sent to other processes
            embedding.weight.register_hook(lambda gradient: gradient.coalesce()),
        ]

    def catch_up(self) -> None:
        """Apply all missed updates of all rows."""
        for parameter in self.state:
            self._catch_up(parameter)

    def finish(self) -> None:
        """Apply all missed updates, and restore the embeddings to their state before `follow`."""
        self.catch_up()
        for embedding, handles in self._followed.items():
            embedding.sparse = False
            for handle in handles:
                handle.remove()
        self._followed.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as `torch.optim.Optimizer` does, including which updates rows have missed."""
        for table in list(self._reads):
            self._put_back(table)
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state; copies of rows that were read before are dropped."""
        self._reads.clear()
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return the result of `closure`, which recomputes the gradients."""
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
        """Record that all rows except `rows`, which are up to date, miss the next update."""
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
            # the decay until a row is updated is divided out here, and multiplied in there
            scale = scale / state["log_decays"][step].exp()
        powers = self._powers(beta1 / math.sqrt(beta2), table.device)[-step:]
        state["tails"][step - len(powers) : step].add_(powers, alpha=scale)

    def _catch_up(self, table: Tensor) -> None:
        """Apply the missed updates of all rows."""
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
        """Apply the missed updates of `rows` to the table's weights and to copies of the moments.

        The next step mostly changes the same rows, so the copies are kept for it, instead of being written and read
        again. `_put_back` writes them.
        """
        self._put_back(table)
        state = self.state[table]
        if "last_step" not in state:
            # step numbers, but not integers: torch casts a loaded state to the type of the weights
            state["last_step"] = torch.zeros(len(table), device=table.device)
            # for each step in which a row was last updated: the sum of the missed updates since then, and the weight
            # decay
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
            # Adam corrects the second moment, so a large epsilon counts less in early steps; here, as in the updates
            # that move a row most, which follow its last gradient for as long as the momentum lasts
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
        """Return the size of each missed update relative to the last one that was not missed, the latest first.

        Negligible updates are left out.
        """
        length = max(1, math.ceil(math.log(NEGLIGIBLE) / math.log(max(shrinkage, NEGLIGIBLE))))
        return shrinkage ** torch.arange(length, 0, -1, device=device)
