import copy
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNPreTrainedModel
from rnn_hf.causal_lm_rnn import RNNForCausalLM
from rnn_hf.ngrams_rnn import NGramBranch
from rnn_hf.training.arguments import OptimizerName, SchedulerName, TrainArguments
from rnn_hf.training.lazy_adam import LazyAdam
from rnn_hf.training.optimization import (
    clip_grad_norm,
    create_optimizer,
    create_schedule,
    drop_frozen_gradients,
    layers_from_the_top,
)


def make(**settings: object) -> TrainArguments:
    return TrainArguments(output_dir="x", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("optim", get_args(OptimizerName))
def test_every_optimizer_lowers_a_loss(optim: OptimizerName) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    optimizer = create_optimizer(layer, make(optim=optim, learning_rate=0.01))
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
        create_optimizer(ours, make(optim="adam", learning_rate=1e-2)),
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
    groups = create_optimizer(nn.Sequential(layer, frozen), make(weight_decay=0.1)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.1), (1, 0.0)]
    assert groups[0]["params"][0] is layer.weight


LAYERS = ["head", "model.layers.1", "model.layers.0", "model.embed_tokens"]


def layer_of(name: str) -> str:
    return next((layer for layer in LAYERS if name.startswith(layer)), "head")


@pytest.mark.parametrize("model_class", [RNNForSequenceClassification, RNNForCausalLM])
def test_every_parameter_is_in_one_layer_from_the_top(model_class: type[RNNPreTrainedModel]) -> None:
    """The word vectors that a language model's output layer shares are still the lowest layer."""
    model = model_class(RNNConfig(vocab_size=9, num_hidden_layers=2, adaptive_softmax_cutoffs=[5]))
    names = {parameter: name for name, parameter in model.named_parameters()}
    layers = layers_from_the_top(model)
    found = [names[parameter] for layer in layers for parameter in layer]
    assert sorted(found) == sorted(names.values())
    for expected, layer in zip(LAYERS, layers, strict=True):
        assert {layer_of(names[parameter]) for parameter in layer} == {expected}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_each_layer_learns_more_slowly_than_the_one_above_it(weight_decay: float) -> None:
    model = RNNForSequenceClassification(RNNConfig(vocab_size=9, num_hidden_layers=2))
    args = make(layer_learning_rate_decay=0.5, learning_rate=8.0, weight_decay=weight_decay, optim="lazy_adamw")
    optimizer = create_optimizer(model, args)
    rates = {
        parameter: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        rate = {"head": 8.0, "model.layers.1": 4.0, "model.layers.0": 2.0, "model.embed_tokens": 1.0}[layer_of(name)]
        assert rates[parameter] == (rate, weight_decay if parameter.ndim > 1 else 0.0), name
    schedule = create_schedule(optimizer, make(warmup_steps=0), 10)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert [group["lr"] / group["initial_lr"] for group in optimizer.param_groups] == [0.5] * len(
        optimizer.param_groups
    )


@pytest.mark.parametrize("epoch", range(5))
@pytest.mark.parametrize("optim", ["lazy_adamw", "adamw_torch"])
def test_each_epoch_unfreezes_one_layer_more(optim: OptimizerName, epoch: int) -> None:
    """Not even momentum and weight decay change them, which update weights without a gradient."""
    torch.manual_seed(0)
    model = RNNForSequenceClassification(RNNConfig(vocab_size=9, num_hidden_layers=2, num_labels=2)).train()
    optimizer = create_optimizer(model, make(optim=optim, weight_decay=0.1, learning_rate=0.1))
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        model(torch.tensor([[3, 4], [5, 6]]), labels=torch.tensor([0, 1])).loss.backward()
        drop_frozen_gradients(model, make(gradual_unfreezing=True), epoch)
        optimizer.step()
        optimizer.zero_grad()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]) == (LAYERS.index(layer_of(name)) > epoch), name


@pytest.mark.parametrize("name", get_args(SchedulerName))
def test_every_schedule_runs_to_its_end(name: SchedulerName) -> None:
    optimizer = create_optimizer(nn.Linear(1, 1), make(learning_rate=1.0))
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
    optimizer = create_optimizer(nn.Linear(1, 1), make(learning_rate=1.0))
    schedule = create_schedule(optimizer, make(warmup_steps=warmup), 10)
    for _ in range(4):
        assert schedule.get_last_lr()[0] < 1
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr()[0] == 1


# lazy Adam


class WordModel(nn.Module):
    """Word vectors and a layer over their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 4)
        self.layer = nn.Linear(4, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.words(input_ids)).mean(dim=1))  # type: ignore[no-any-return]


def word_batches(num_batches: int) -> list[Tensor]:
    """Batches in which words come often, rarely, once (49) and never (48); some twice in a batch."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(0, 48 if step % 3 else 4, (3, 4), generator=generator) for step in range(num_batches)]
    batches[10][0, :2] = 49
    return batches


def take_step(model: WordModel, optimizer: torch.optim.Optimizer, batch: Tensor, step: int) -> None:
    optimizer.zero_grad()
    # gradients that change their sign and their size
    (model(batch).square().mean() * (step % 7 - 2.5)).backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("lazy", "dense", "weight_decay"), [("lazy_adam", "adam", 0.0), ("lazy_adamw", "adamw_torch", 0.3)]
)
def test_lazy_optimizers_end_where_the_dense_ones_do(
    lazy: OptimizerName, dense: OptimizerName, weight_decay: float
) -> None:
    """With a falling learning rate, and more steps than the momentum lasts and the first tables of steps hold."""
    models, optimizers, schedules = [], [], []
    for optim in (lazy, dense):
        torch.manual_seed(0)
        args = make(optim=optim, learning_rate=0.01, weight_decay=weight_decay, lr_scheduler_type="linear")
        models.append(WordModel())
        optimizers.append(create_optimizer(models[-1], args))
        schedules.append(create_schedule(optimizers[-1], args, 1100))
    for step, batch in enumerate(word_batches(1050)):
        for model, optimizer, schedule in zip(models, optimizers, schedules, strict=True):
            take_step(model, optimizer, batch, step)
            schedule.step()
    assert isinstance(optimizers[0], LazyAdam)
    assert (models[0].words.weight[49] - models[1].words.weight[49]).abs().max() > 1e-3  # still behind
    optimizers[0].catch_up()
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_word_is_up_to_date_whenever_it_is_read() -> None:
    """In training the words of the batch, in evaluation all."""
    models, optimizers = [], []
    for optim in ("lazy_adam", "adam"):
        torch.manual_seed(0)
        models.append(WordModel())
        optimizers.append(create_optimizer(models[-1], make(optim=optim, learning_rate=0.01)))  # type: ignore[arg-type]
    for step, batch in enumerate(word_batches(30)):
        for model, optimizer in zip(models, optimizers, strict=True):
            take_step(model, optimizer, batch, step)
    batch = torch.tensor([[49, 7, 48]])
    torch.testing.assert_close(models[0](batch), models[1](batch), rtol=1e-4, atol=1e-5)
    for model in models:
        model.eval()
    models[0](torch.tensor([[0]]))
    torch.testing.assert_close(models[0].words.weight, models[1].words.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("is_other_process", [False, True])
def test_a_step_may_change_other_rows_than_those_read_last(is_other_process: bool) -> None:
    """Those of several batches whose gradients are added up, or of a batch that another process has read."""
    models, optimizers = [], []
    for optim in ("lazy_adam", "adam"):
        torch.manual_seed(0)
        models.append(WordModel())
        optimizers.append(create_optimizer(models[-1], make(optim=optim, learning_rate=0.01)))  # type: ignore[arg-type]
    batches = word_batches(60)
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        for model, optimizer in zip(models, optimizers, strict=True):
            if is_other_process:
                optimizer.zero_grad()
                model(first).square().mean().backward()
                # the sum over the processes, which replaces this process's gradient
                other = copy.deepcopy(model)
                other.zero_grad()
                if model is models[0]:
                    other.words.weight.data.copy_(models[1].words.weight)  # up to date in the other process
                other(second).square().mean().backward()
                for parameter, theirs in zip(model.parameters(), other.parameters(), strict=True):
                    assert parameter.grad is not None and theirs.grad is not None
                    parameter.grad = parameter.grad + theirs.grad
            else:
                optimizer.zero_grad()
                for batch in (first, second):
                    model(batch).square().mean().backward()
            optimizer.step()
    assert isinstance(optimizers[0], LazyAdam)
    optimizers[0].catch_up()
    for ours, dense in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optim", ["lazy_adam", "lazy_adamw"])
def test_a_lazy_step_touches_only_the_rows_of_the_batch(optim: OptimizerName) -> None:
    torch.manual_seed(0)
    model = WordModel()
    optimizer = create_optimizer(model, make(optim=optim, learning_rate=0.01, weight_decay=0.1))
    take_step(model, optimizer, torch.tensor([[1, 2]]), 0)
    before = model.words.weight.detach().clone()
    take_step(model, optimizer, torch.tensor([[3, 3, 4]]), 1)
    is_changed = (model.words.weight != before).any(dim=1)
    assert is_changed.nonzero().flatten().tolist() == [3, 4]


def test_a_lazy_optimizer_goes_on_from_its_saved_state() -> None:
    batches = word_batches(40)
    torch.manual_seed(0)
    undisturbed = WordModel()
    optimizer = create_optimizer(undisturbed, make(optim="lazy_adamw", weight_decay=0.1))
    for step, batch in enumerate(batches):
        if step == 25:
            weights = {name: weight.clone() for name, weight in undisturbed.state_dict().items()}
            state = copy.deepcopy(optimizer.state_dict())
        take_step(undisturbed, optimizer, batch, step)
    resumed = WordModel()
    resumed.load_state_dict(weights)
    again = create_optimizer(resumed, make(optim="lazy_adamw", weight_decay=0.1))
    again.load_state_dict(state)
    for step, batch in enumerate(batches[25:], start=25):
        take_step(resumed, again, batch, step)
    assert torch.equal(resumed.words.weight, undisturbed.words.weight)


@pytest.mark.parametrize(("optim", "dense"), [("lazy_adam", torch.optim.Adam), ("lazy_adamw", torch.optim.AdamW)])
def test_a_device_that_moves_all_rows_sooner_gets_the_dense_optimizer(
    optim: OptimizerName, dense: type[torch.optim.Optimizer]
) -> None:
    model = WordModel()
    assert type(create_optimizer(model, make(optim=optim), torch.device("cuda"))) is dense
    assert not model.words.sparse


def test_momentum_that_outlasts_the_second_moment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be below the square root of the second, got \(0.99, 0.9\)"):
        LazyAdam(nn.Linear(1, 1).parameters(), betas=(0.99, 0.9))


@pytest.mark.parametrize("max_norm", [1e-3, 1e3])
def test_clipping_counts_the_entries_of_a_row_together(max_norm: float) -> None:
    torch.manual_seed(0)
    sparse, dense = WordModel(), WordModel()
    dense.load_state_dict(sparse.state_dict())
    sparse.words.sparse = True
    batch = torch.tensor([[1, 1, 2], [2, 1, 3]])
    for model in (sparse, dense):
        model(batch).sum().backward()
    norm = clip_grad_norm(sparse.parameters(), max_norm)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(dense.parameters(), max_norm))
    for ours, theirs in zip(sparse.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.to_dense(), theirs.grad)  # type: ignore[union-attr]


@pytest.mark.parametrize("steps", [50, 400])
def test_lazy_adamw_moves_an_ngram_branch_as_adamw_does(steps: int) -> None:
    """With an epsilon as large as the gradients, so that its position in the missed updates matters."""
    tables = []
    for optim in ("lazy_adamw", "adamw_torch"):
        torch.manual_seed(0)
        branch = NGramBranch(RNNConfig(ngram_buckets=300, num_labels=3))
        nn.init.zeros_(branch.table.weight)
        model = nn.ModuleDict({"ngrams": branch})
        model.config = RNNConfig(num_labels=3, problem_type="single_label_classification")  # type: ignore[assignment]
        args = make(optim=optim, learning_rate=4e-2, adam_epsilon=0.01)
        optimizer = create_optimizer(model, args)
        schedule = create_schedule(optimizer, args, steps)
        for _ in range(steps):
            input_ids = (torch.rand(16, 8) ** 4 * 298).long() + 2  # some are common, most are rare
            nn.functional.cross_entropy(branch(input_ids, None), input_ids[:, 0] % 3).backward()
            assert branch.table.weight.grad is not None
            assert branch.table.weight.grad.is_sparse == (optim == "lazy_adamw")
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        if isinstance(optimizer, LazyAdam):
            optimizer.finish()
        tables.append(branch.table.weight.detach())
    ours, theirs = tables
    assert theirs.any(dim=1).float().mean() > 0.9
    share = (ours - theirs).abs().mean() / theirs.abs().mean()
    assert share < (0.04 if steps == 50 else 0.005)


def test_a_fitted_ngram_branch_is_not_trained() -> None:
    model = RNNForSequenceClassification(RNNConfig(vocab_size=9, num_labels=3, ngram_buckets=8))
    assert model.ngrams is not None
    model.ngrams.requires_grad_(False)
    for optim in get_args(OptimizerName):
        for decay in (1.0, 0.5):
            optimizer = create_optimizer(model, make(optim=optim, learning_rate=2.0, layer_learning_rate_decay=decay))
            parameters = {parameter for group in optimizer.param_groups for parameter in group["params"]}
            assert parameters == set(model.parameters()) - set(model.ngrams.parameters())
