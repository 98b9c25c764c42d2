"""Tests of the models: equality with torch's own layers, independence of the batch, losses, saving and loading."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel, Trainer, TrainingArguments
from transformers.dynamic_module_utils import get_relative_imports

import rnn_hf
from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNModel
from rnn_hf.configuration_rnn import CellType, ClassifierPooling
from rnn_hf.layers_rnn import RNNDropout, RNNLayer
from rnn_hf.modeling_rnn import RNNPreTrainedModel
from rnn_hf.recurrences_rnn import ElmanRecurrence, GRURecurrence
from rnn_hf.safe_loading import HEADS

PACKAGE = Path(rnn_hf.__file__).parent
TINY_CHECKPOINT = Path(__file__).parent / "fixtures" / "tiny_checkpoint"
# in an order in which each imports only from those before it
HUB_FILES = [
    "configuration_rnn",
    "pooling_rnn",
    "recurrences_rnn",
    "layers_rnn",
    "ngrams_rnn",
    "outputs_rnn",
    "modeling_rnn",
    "causal_lm_rnn",
]
TORCH_LAYERS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
NO_DROPOUT: dict[str, Any] = {"word_dropout": 0, "embedding_dropout": 0, "classifier_dropout": 0}
TINY: dict[str, Any] = {"vocab_size": 20, "embedding_size": 5, "hidden_size": 4, "num_labels": 3, **NO_DROPOUT}
TEXTS = [[7, 8, 9, 3], [5], [6, 2, 11, 13, 4, 9, 9]]

# where the tokens of a text stand in a batch of width 14
LAYOUTS: dict[str, Callable[[int], list[int]]] = {
    "padded on the right": lambda length: list(range(length)),
    "padded on the left": lambda length: list(range(14 - length, 14)),
    "with holes": lambda length: list(range(1, 2 * length, 2)),
}

every_cell = pytest.mark.parametrize("cell_type", get_args(CellType))
every_pooling = pytest.mark.parametrize("pooling", get_args(ClassifierPooling))
both_directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
both_depths = pytest.mark.parametrize("num_hidden_layers", [1, 2], ids=["one_layer", "two_layers"])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors as small as these are faster on one thread, above all on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def make_model(model_class: type[RNNPreTrainedModel] = RNNForSequenceClassification, **arguments: Any) -> Any:
    """A tiny model in evaluation mode, by default a classifier, every weight of which is drawn anew.

    Zero biases and a zero padding row would hide a backward pass that starts on padding.
    """
    torch.manual_seed(0)
    model = model_class(RNNConfig(**{**TINY, **arguments})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


def make_batch(layout: str) -> tuple[Tensor, Tensor]:
    """Ids and mask of `TEXTS`. What the mask leaves out is a word, not padding: only the mask may tell."""
    input_ids = torch.full((len(TEXTS), 14), 17)
    attention_mask = torch.zeros(len(TEXTS), 14, dtype=torch.long)
    for row, text in enumerate(TEXTS):
        positions = LAYOUTS[layout](len(text))
        input_ids[row, positions] = torch.tensor(text)
        attention_mask[row, positions] = 1
    return input_ids, attention_mask


def torch_layers(model: RNNForSequenceClassification) -> nn.RNNBase:
    """torch's own module of several layers, with the weights of `model`."""
    config = model.config
    module = TORCH_LAYERS[config.cell_type](
        config.embedding_size,
        config.hidden_size,
        config.num_hidden_layers,
        batch_first=True,
        bidirectional=config.bidirectional,
    )
    weights = {
        name.replace("_l0", f"_l{index}"): parameter
        for index, layer in enumerate(model.model.layers)
        for name, parameter in layer.recurrent.named_parameters()
    }
    module.load_state_dict(weights)
    return module


def logits_alone(model: RNNForSequenceClassification) -> Tensor:
    """The logits of `TEXTS`, each read in a batch of its own."""
    return torch.cat([model(torch.tensor([text])).logits for text in TEXTS])


def run_python(code: str, *arguments: str | Path, cwd: Path, **environment: str) -> None:
    """Run code in a fresh process that cannot reach a network."""
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("concat_embedding_mean", [False, True], ids=["states", "states_and_embeddings"])
@every_pooling
@both_depths
@both_directions
@every_cell
@torch.no_grad()
def test_logits_do_not_depend_on_the_batch(
    cell_type: str, bidirectional: bool, num_hidden_layers: int, pooling: str, concat_embedding_mean: bool
) -> None:
    """A text gets the same logits alone, padded on either side, with holes, as word vectors and in any order."""
    model = make_model(
        cell_type=cell_type,
        bidirectional=bidirectional,
        num_hidden_layers=num_hidden_layers,
        classifier_pooling=pooling,
        concat_embedding_mean=concat_embedding_mean,
    )
    expected = logits_alone(model)
    for layout in LAYOUTS:
        input_ids, attention_mask = make_batch(layout)
        logits = model(input_ids, attention_mask=attention_mask).logits
        torch.testing.assert_close(logits, expected, msg=lambda text, layout=layout: f"{layout}: {text}")
        inputs_embeds = model.get_input_embeddings()(input_ids)
        logits = model(inputs_embeds=inputs_embeds, attention_mask=attention_mask).logits
        torch.testing.assert_close(logits, expected)
        logits = model(input_ids.flip(0), attention_mask=attention_mask.flip(0)).logits
        torch.testing.assert_close(logits, expected.flip(0))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int, torch.float])
@torch.no_grad()
def test_mask_may_have_any_type(dtype: torch.dtype) -> None:
    model = make_model(bidirectional=True, classifier_pooling="mean_max_last")
    input_ids, attention_mask = make_batch("with holes")
    logits = model(input_ids, attention_mask=attention_mask.to(dtype)).logits
    torch.testing.assert_close(logits, logits_alone(model))


@torch.no_grad()
def test_model_without_a_padding_token_still_uses_the_mask() -> None:
    model = make_model(pad_token_id=None, bidirectional=True)
    input_ids, attention_mask = make_batch("padded on the left")
    torch.testing.assert_close(model(input_ids, attention_mask=attention_mask).logits, logits_alone(model))


@pytest.mark.parametrize("row", [[0, 7, 8], [7, 8, 0]], ids=["left", "right"])
@torch.no_grad()
def test_padding_token_without_a_mask_is_read_as_a_word(row: list[int]) -> None:
    model = make_model()
    input_ids = torch.tensor([row])
    with_mask = model(input_ids, attention_mask=torch.ones_like(input_ids)).logits
    torch.testing.assert_close(model(input_ids).logits, with_mask)


@both_depths
@both_directions
@every_cell
@torch.no_grad()
def test_states_are_those_of_torch(cell_type: str, bidirectional: bool, num_hidden_layers: int) -> None:
    """The outputs and the final states, batch first, of torch's module of several layers on each text alone."""
    model = make_model(cell_type=cell_type, bidirectional=bidirectional, num_hidden_layers=num_hidden_layers)
    reference = torch_layers(model)
    input_ids, attention_mask = make_batch("with holes")
    outputs = model.model(input_ids, attention_mask=attention_mask)
    assert (outputs.final_cell_state is not None) == (cell_type == "lstm")
    for row, text in enumerate(TEXTS):
        expected, final = reference(model.get_input_embeddings()(torch.tensor(text)))
        torch.testing.assert_close(outputs.last_hidden_state[row][attention_mask[row].bool()], expected)
        if cell_type == "lstm":
            final, final_cell = final
            torch.testing.assert_close(outputs.final_cell_state[row], final_cell)
        torch.testing.assert_close(outputs.final_hidden_state[row], final)


@pytest.mark.parametrize("concat_embedding_mean", [False, True], ids=["states", "states_and_embeddings"])
@every_pooling
@both_directions
@every_cell
@torch.no_grad()
def test_logits_are_those_computed_by_hand(
    cell_type: str, bidirectional: bool, pooling: str, concat_embedding_mean: bool
) -> None:
    model = make_model(
        cell_type=cell_type,
        bidirectional=bidirectional,
        num_hidden_layers=2,
        classifier_pooling=pooling,
        concat_embedding_mean=concat_embedding_mean,
    )
    text = torch.tensor(TEXTS[2])
    embeddings = model.model.embed_tokens.weight[text]
    states, final = torch_layers(model)(embeddings)
    final_hidden = final[0] if cell_type == "lstm" else final
    last = final_hidden[-model.config.num_directions :].flatten()  # both directions of the top layer
    mean, maximum = states.mean(dim=0), states.amax(dim=0)
    pooled = {"last": [last], "mean": [mean], "max": [maximum], "mean_max": [mean, maximum]}
    pooled["mean_max_last"] = [mean, maximum, last]
    if pooling == "attention":
        scores = states.tanh() @ model.pooler.attention.score.weight[0]
        pooled["attention"] = [(scores.exp() / scores.exp().sum()) @ states]
    parts = pooled[pooling] + ([embeddings.mean(dim=0)] if concat_embedding_mean else [])
    expected = model.classifier.weight @ torch.cat(parts) + model.classifier.bias
    torch.testing.assert_close(model(text[None]).logits[0], expected)


@every_pooling
@torch.no_grad()
def test_pooler_returns_zeros_for_a_text_without_tokens(pooling: str) -> None:
    """Whatever the states hold there."""
    pooler = make_model(classifier_pooling=pooling, bidirectional=True).pooler
    pooled = pooler(torch.ones(2, 3, 8), torch.tensor([[False, False, False], [True, False, True]]))
    assert not pooled[0].any()
    torch.testing.assert_close(pooled[1], torch.ones(pooler.output_size))


@pytest.mark.parametrize("layout", LAYOUTS)
@both_directions
@every_cell
@torch.no_grad()
def test_states_are_zero_where_the_mask_is_zero(cell_type: str, bidirectional: bool, layout: str) -> None:
    """One entry for the embeddings and one for each layer; all but the embeddings are 0 outside the mask."""
    model = make_model(cell_type=cell_type, bidirectional=bidirectional, num_hidden_layers=3)
    input_ids, attention_mask = make_batch(layout)
    for output_final_states in (False, True):
        outputs = model.model(
            input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
            output_final_states=output_final_states,
        )
        embeddings, *layers = outputs.hidden_states
        torch.testing.assert_close(embeddings, model.get_input_embeddings()(input_ids))
        assert len(layers) == 3
        torch.testing.assert_close(layers[-1], outputs.last_hidden_state, rtol=0, atol=0)
        for states in layers:
            assert states.shape == (*input_ids.shape, model.config.output_size)
            assert not states[attention_mask == 0].any()
            assert states[attention_mask == 1].all()


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize(("recurrence", "num_gates"), [(ElmanRecurrence, 1), (GRURecurrence, 3)])
def test_own_backward_passes_are_those_of_the_forward_passes(
    recurrence: type[torch.autograd.Function], num_gates: int, length: int
) -> None:
    torch.manual_seed(0)
    shapes = [(length, 3, 4), (3, 2), (num_gates * 2, 4), (num_gates * 2, 2), (num_gates * 2,), (num_gates * 2,)]
    inputs, initial, *weights = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    assert torch.autograd.gradcheck(recurrence.apply, (inputs, None, *weights))
    assert torch.autograd.gradcheck(recurrence.apply, (inputs, initial, *weights))


@pytest.mark.parametrize("is_padded", [False, True], ids=["full", "padded"])
@both_directions
@every_cell
def test_states_and_gradients_of_training_are_those_of_torch_over_packed_texts(
    cell_type: str, bidirectional: bool, is_padded: bool
) -> None:
    """Whatever form the recurrence takes in training, on one thread and on two."""
    torch.manual_seed(0)
    layer = RNNLayer(RNNConfig(cell_type=cell_type, hidden_size=6, bidirectional=bidirectional), 5).train()
    lengths = torch.tensor([4, 9, 1, 7]) if is_padded else torch.tensor([9, 9, 9, 9])
    mask = torch.arange(9) < lengths.unsqueeze(1)
    inputs = torch.randn(4, 9, 5, requires_grad=True)
    weights = torch.randn(4, 9, layer.recurrent.hidden_size * (2 if bidirectional else 1))

    def states_and_gradients(states: Tensor) -> list[Tensor]:
        sources = [inputs, *layer.parameters()]
        return [states.detach(), *torch.autograd.grad((states * weights).sum(), sources)]

    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    expected = states_and_gradients(nn.utils.rnn.pad_packed_sequence(layer.recurrent(packed)[0], batch_first=True)[0])
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        actual = states_and_gradients(layer(inputs, mask if is_padded else None)[0])
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    torch.set_num_threads(1)


@pytest.mark.parametrize(("cell_type", "loop"), [("rnn", "ElmanRecurrenceBackward"), ("gru", "GRURecurrenceBackward")])
def test_cells_that_torch_does_not_fuse_run_as_loops_of_our_own(cell_type: str, loop: str) -> None:
    layer = RNNLayer(RNNConfig(cell_type=cell_type), 5)
    states, _ = layer(torch.randn(2, 3, 5))
    assert loop in str(states.grad_fn.next_functions)  # type: ignore[union-attr]
    states, _ = layer.bfloat16()(torch.randn(2, 3, 5, dtype=torch.bfloat16))
    assert loop not in str(states.grad_fn.next_functions)  # type: ignore[union-attr]


@pytest.mark.parametrize("layout", [None, *LAYOUTS])
@pytest.mark.parametrize("concat_embedding_mean", [False, True])
@torch.no_grad()
def test_scores_are_what_forward_returns_and_the_vectors_that_the_classifier_reads(
    concat_embedding_mean: bool, layout: str | None
) -> None:
    model = make_model(bidirectional=True, num_hidden_layers=2, concat_embedding_mean=concat_embedding_mean)
    batch = (torch.tensor([[7, 8, 9], [3, 5, 2]]), None) if layout is None else make_batch(layout)
    [logits], pooled, states = model.classify(*batch, output_hidden_states=True)
    outputs = model(*batch, output_hidden_states=True)
    assert torch.equal(logits, outputs.logits)
    assert all(torch.equal(*pair) for pair in zip(states, outputs.hidden_states, strict=True))
    assert torch.equal(model.classifier(pooled), logits)
    embeddings, top = model.classify(*batch)[2]
    assert torch.equal(embeddings, states[0]) and torch.equal(top, states[-1])


class NumValuesRead(TorchDispatchMode):
    """Counts how often a value is read from a tensor, for which a GPU would have to be waited for."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model_class", [RNNModel, RNNForSequenceClassification])
@both_depths
@torch.no_grad()
def test_a_mask_is_examined_once_for_padding_and_once_for_gaps(
    num_hidden_layers: int, model_class: type[RNNPreTrainedModel]
) -> None:
    model = make_model(model_class, cell_type="gru", num_hidden_layers=num_hidden_layers)
    for attention_mask, number in ((torch.ones(2, 3), 1), (torch.tensor([[1, 1, 0], [0, 1, 1]]), 2)):
        with NumValuesRead() as values:
            model(torch.tensor([[7, 8, 9], [3, 5, 2]]), attention_mask=attention_mask)
        assert values.number == number


@torch.no_grad()
def test_each_entry_of_hidden_states_is_one_layer_of_torch() -> None:
    model = make_model(bidirectional=True, num_hidden_layers=2)
    text = torch.tensor([TEXTS[2]])
    embeddings, first, second = model(text, output_hidden_states=True).hidden_states
    torch.testing.assert_close(model.model.layers[0].recurrent(embeddings)[0], first)
    torch.testing.assert_close(model.model.layers[1].recurrent(first)[0], second)


def test_final_states_are_those_of_the_encoder_and_not_joined_in_predictions() -> None:
    """They are batch first, but as many as the layers: what a prediction loop joins must not hold them."""
    model = make_model(num_hidden_layers=2, bidirectional=True, concat_embedding_mean=True)
    input_ids, attention_mask = make_batch("padded on the right")
    assert set(model(input_ids, attention_mask=attention_mask).keys()) == {"logits"}
    outputs = model.model(input_ids, attention_mask=attention_mask)
    assert outputs.final_hidden_state.shape == (3, 4, 4)
    assert outputs.final_cell_state.shape == (3, 4, 4)
    assert set(outputs.keys()) - {"last_hidden_state"} <= set(model.config.keys_to_ignore_at_inference)


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("model_class", [head for head in HEADS if head is not RNNModel])
def test_a_head_refuses_an_argument_of_the_encoder(model_class: type[RNNPreTrainedModel], value: bool) -> None:
    model = make_model(model_class)
    with pytest.raises(TypeError, match=r"`output_final_states` is an argument of the encoder, .* `model.model`"):
        model(torch.tensor([[7, 8, 9]]), output_final_states=value)


@pytest.mark.parametrize("output_final_states", [False, True])
@pytest.mark.parametrize("is_padded", [False, True])
@every_cell
@torch.no_grad()
def test_states_are_the_same_whether_final_states_are_asked_for_or_not(
    cell_type: str, is_padded: bool, output_final_states: bool
) -> None:
    """How the recurrence is run is free, what it computes is not."""
    model = make_model(cell_type=cell_type)
    input_ids, attention_mask = make_batch("padded on the right")
    if not is_padded:
        input_ids, attention_mask = input_ids[:, :5], torch.ones(3, 5)
    expected, _ = torch_layers(model)(model.get_input_embeddings()(input_ids))
    outputs = model.model(input_ids, attention_mask=attention_mask, output_final_states=output_final_states)
    torch.testing.assert_close(outputs.last_hidden_state, expected * attention_mask.unsqueeze(-1))
    assert (outputs.final_hidden_state is not None) == output_final_states


@pytest.mark.parametrize("dtype", [torch.long, torch.float], ids=["ids", "floats_of_a_tokenizer"])
@every_pooling
@both_directions
@every_cell
def test_empty_text_pools_to_zeros(cell_type: str, bidirectional: bool, pooling: str, dtype: torch.dtype) -> None:
    """Also as the float tensor that a tokenizer returns for an empty string."""
    model = make_model(
        cell_type=cell_type,
        bidirectional=bidirectional,
        num_hidden_layers=2,
        classifier_pooling=pooling,
        concat_embedding_mean=True,
    )
    empty = torch.empty(1, 0, dtype=dtype)
    outputs = model(empty, attention_mask=empty, output_hidden_states=True)
    torch.testing.assert_close(outputs.logits, model.classifier.bias[None])
    assert [states.shape[:2] for states in outputs.hidden_states] == [(1, 0)] * 3
    assert not model.model(empty, attention_mask=empty).final_hidden_state.any()
    model.train()(empty, labels=torch.tensor([1])).loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("has_neighbours", [False, True], ids=["alone", "beside_normal_rows"])
@every_pooling
@both_directions
@every_cell
def test_row_of_padding_pools_to_zeros(
    cell_type: str, bidirectional: bool, pooling: str, has_neighbours: bool
) -> None:
    """It neither changes its neighbours nor breaks training."""
    model = make_model(
        cell_type=cell_type,
        bidirectional=bidirectional,
        num_hidden_layers=2,
        classifier_pooling=pooling,
        concat_embedding_mean=True,
    ).train()
    input_ids, attention_mask = make_batch("with holes")
    if not has_neighbours:
        input_ids, attention_mask = input_ids[:1], attention_mask[:1]
    attention_mask[0] = 0
    outputs = model(
        input_ids,
        attention_mask=attention_mask,
        labels=torch.zeros(len(input_ids), dtype=torch.long),
        output_hidden_states=True,
    )
    torch.testing.assert_close(outputs.logits[0], model.classifier.bias)
    assert not any(states[0].any() for states in outputs.hidden_states[1:])
    encoded = model.model(input_ids, attention_mask=attention_mask)
    assert not encoded.final_hidden_state[0].any()
    if cell_type == "lstm":
        assert not encoded.final_cell_state[0].any()
    torch.testing.assert_close(outputs.logits[1:], logits_alone(model)[1 : len(input_ids)])
    outputs.loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


@every_cell
@torch.no_grad()
def test_text_of_100_000_words_is_read(cell_type: str) -> None:
    model = make_model(cell_type=cell_type, bidirectional=True, classifier_pooling="mean_max_last")
    text = torch.randint(2, 20, (1, 100_000))
    assert model(text).logits.isfinite().all()
    outputs = model.model(text)
    # a state forgets: the end of a long text reads as the text
    end = model.model(text[:, -1000:])
    torch.testing.assert_close(outputs.final_hidden_state[:, 0], end.final_hidden_state[:, 0])


@pytest.mark.parametrize("pooling", ["mean", "last"])
@both_directions
@every_cell
@torch.no_grad()
def test_without_packing_the_padding_is_read_and_pooled(cell_type: str, bidirectional: bool, pooling: str) -> None:
    """Equal to torch on the padded batch, with or without a mask, so that logits depend on the batch."""
    model = make_model(
        cell_type=cell_type,
        bidirectional=bidirectional,
        num_hidden_layers=2,
        classifier_pooling=pooling,
        pack_padded_sequences=False,
    )
    input_ids = torch.tensor([[7, 8, 9, 0, 0], [5, 6, 7, 8, 9]])
    attention_mask = (input_ids != 0).long()
    states, final = torch_layers(model)(model.model.embed_tokens.weight[input_ids])
    outputs = model.model(input_ids, attention_mask=attention_mask)
    torch.testing.assert_close(outputs.last_hidden_state, states)
    final_hidden = final[0] if cell_type == "lstm" else final
    last = final_hidden[-model.config.num_directions :].transpose(0, 1).flatten(1)
    expected = model.classifier(states.mean(dim=1) if pooling == "mean" else last)
    logits = model(input_ids, attention_mask=attention_mask).logits
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(model(input_ids).logits, expected)
    assert (logits[0] - model(input_ids[:1, :3]).logits[0]).abs().max() > 0.01


@pytest.mark.parametrize("pack_padded_sequences", [True, False])
def test_padding_row_is_drawn_and_trained_only_without_packing(pack_padded_sequences: bool) -> None:
    config = RNNConfig(**TINY, pack_padded_sequences=pack_padded_sequences, embedding_initializer_mean=5)
    model = RNNForSequenceClassification(config)
    input_ids = torch.tensor([[7, 8, 0]])
    model(input_ids, attention_mask=(input_ids != 0).long(), labels=torch.tensor([1])).loss.backward()
    weight = model.model.embed_tokens.weight
    assert weight.grad is not None
    if pack_padded_sequences:
        assert not weight[0].any()
        assert not weight.grad[0].any()
    else:
        assert (weight[0] > 4).all()
        assert weight.grad[0].any()


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem_type", "expected_loss"),
    [
        (3, torch.tensor([2, 0, 1]), "single_label_classification", F.cross_entropy),
        (3, torch.eye(3), "multi_label_classification", F.binary_cross_entropy_with_logits),
        (1, torch.tensor([0.5, -2.0, 1.0]), "regression", lambda logits, labels: F.mse_loss(logits[:, 0], labels)),
    ],
    ids=["single_label", "multi_label", "regression"],
)
@pytest.mark.parametrize("is_set", [True, False], ids=["problem_type_set", "problem_type_found"])
def test_loss_is_that_of_the_problem_type(
    num_labels: int, labels: Tensor, problem_type: str, expected_loss: Callable[..., Tensor], is_set: bool
) -> None:
    """The first batch with labels writes the problem type into the configuration."""
    model = make_model(num_labels=num_labels, problem_type=problem_type if is_set else None)
    input_ids, attention_mask = make_batch("padded on the right")
    outputs = model(input_ids, attention_mask=attention_mask, labels=labels)
    torch.testing.assert_close(outputs.loss, expected_loss(outputs.logits, labels))
    assert outputs.logits.shape == (3, num_labels)
    assert model.config.problem_type == problem_type


def test_regression_of_several_numbers_has_the_mean_squared_error() -> None:
    model = make_model(problem_type="regression")
    labels = torch.randn(3, 3)
    outputs = model(*make_batch("padded on the right"), labels=labels)
    torch.testing.assert_close(outputs.loss, F.mse_loss(outputs.logits, labels))


@pytest.mark.parametrize("is_embedded", [False, True], ids=["input_ids", "inputs_embeds"])
def test_word_dropout_replaces_a_share_of_the_tokens_in_training_only(is_embedded: bool) -> None:
    model = make_model(word_dropout=0.3)
    input_ids = torch.randint(2, 20, (100, 100))
    words = model.get_input_embeddings()(input_ids)
    inputs = {"inputs_embeds": words} if is_embedded else {"input_ids": input_ids}
    torch.testing.assert_close(model(**inputs, output_hidden_states=True).hidden_states[0], words)
    read = model.train()(**inputs, output_hidden_states=True).hidden_states[0]
    is_replaced = (read != words).any(dim=-1)
    assert 0.28 < is_replaced.float().mean() < 0.32
    unknown_word = model.get_input_embeddings().weight[model.config.unk_token_id]
    torch.testing.assert_close(read[is_replaced], unknown_word.expand(int(is_replaced.sum()), -1))


def test_embedding_dropout_acts_on_word_vectors_in_training_only() -> None:
    model = make_model(embedding_dropout=0.5)
    input_ids = torch.randint(2, 20, (100, 100))
    words = model.get_input_embeddings()(input_ids)
    torch.testing.assert_close(model(input_ids, output_hidden_states=True).hidden_states[0], words)
    read = model.train()(input_ids, output_hidden_states=True).hidden_states[0]
    is_dropped = read == 0
    assert 0.48 < is_dropped.float().mean() < 0.52
    torch.testing.assert_close(read[~is_dropped], 2 * words[~is_dropped])


@pytest.mark.parametrize("probability", [0.3, 0.5, 0.999999])
def test_dropout_sets_its_share_to_zero_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(0)
    dropout = RNNDropout(probability)
    inputs = torch.ones(999, 1001, requires_grad=True)
    outputs = dropout(inputs)
    assert (outputs == 0).float().mean().item() == pytest.approx(probability, abs=2e-3)
    (kept,) = outputs[outputs != 0].unique().tolist()
    assert kept == pytest.approx(1 / (1 - probability), rel=1e-4) or probability > 0.9999
    outputs.sum().backward()
    assert torch.equal(inputs.grad, outputs.detach())  # type: ignore[arg-type]
    # neighbours share a number drawn, but not what becomes of them
    is_zero = (outputs.flatten()[: 4 * 249_000].view(-1, 4) == 0).float()
    if probability < 0.9:
        assert is_zero.T.corrcoef().fill_diagonal_(0).abs().max() < 0.01
    assert torch.equal(dropout.eval()(inputs), inputs)


def test_hidden_dropout_acts_between_layers_in_training_only() -> None:
    model = make_model(hidden_dropout_prob=0.5, num_hidden_layers=2)
    input_ids = torch.tensor([TEXTS[2]])
    expected = model(input_ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(torch_layers(model)(expected[0])[0], expected[2])
    read: list[Tensor] = []
    model.model.layers[1].register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    states = model.train()(input_ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[0], expected[0])
    torch.testing.assert_close(states[1], expected[1])
    is_dropped = read[0] == 0
    assert is_dropped.any()
    torch.testing.assert_close(read[0][~is_dropped], 2 * expected[1][~is_dropped])
    assert states[2].all()


def test_classifier_dropout_acts_on_the_pooled_vector_in_training_only() -> None:
    model = make_model(classifier_dropout=0.5, hidden_size=50)
    read: list[Tensor] = []
    model.classifier.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    model(torch.tensor([TEXTS[2]]))
    model.train()(torch.tensor([TEXTS[2]]))
    pooled, dropped = read
    assert pooled.all()
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    torch.testing.assert_close(dropped[dropped != 0], 2 * pooled[dropped != 0])


@every_cell
def test_gradient_checkpointing_leaves_the_gradients_as_they_are(cell_type: str) -> None:
    gradients = []
    for is_checkpointed in (False, True):
        model = make_model(cell_type=cell_type, num_hidden_layers=2, bidirectional=True).train()
        if is_checkpointed:
            model.activation_checkpointing_enable()
            assert model.is_activation_checkpointing
        model(*make_batch("with holes"), labels=torch.tensor([0, 1, 2])).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("num_steps", [1, 2])
def test_trainer_reports_the_mean_loss_of_the_texts(num_steps: int, tmp_path: Path) -> None:
    """Not multiplied by the number of batches whose gradients are accumulated."""
    model = make_model()
    dataset = [{"input_ids": [3, 4, 5, 6 + label], "labels": label} for label in (0, 1, 2, 1)]
    expected = model(
        torch.tensor([row["input_ids"] for row in dataset]), labels=torch.tensor([row["labels"] for row in dataset])
    ).loss
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        learning_rate=0.0,
        per_device_train_batch_size=4 // num_steps,
        gradient_accumulation_steps=num_steps,
        max_steps=1,
        save_strategy="no",
        disable_tqdm=True,
    )
    result = Trainer(model=model, args=arguments, train_dataset=cast(Any, dataset)).train()
    assert result.training_loss == pytest.approx(expected.item(), abs=1e-5)


def test_trainer_predicts_the_logits(tmp_path: Path) -> None:
    """Batches of different lengths and a short last batch are joined row by row."""
    model = make_model(num_hidden_layers=2, bidirectional=True)
    dataset = [{"input_ids": text, "attention_mask": [1] * len(text), "labels": 1} for text in TEXTS]

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        padded = {
            name: torch.tensor([row[name] + [0] * (width - len(row[name])) for row in rows])
            for name in ("input_ids", "attention_mask")
        }
        return {**padded, "labels": torch.tensor([row["labels"] for row in rows])}

    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, per_device_eval_batch_size=2, disable_tqdm=True
    )
    trainer = Trainer(model=model, args=arguments, data_collator=collate)
    predictions = trainer.predict(cast(Any, dataset))
    torch.testing.assert_close(torch.from_numpy(predictions.predictions), logits_alone(model).detach())


@every_cell
@both_directions
def test_orthogonal_initializer_treats_the_cells_alike(cell_type: str, bidirectional: bool) -> None:
    """Each gate apart: orthogonal from state to state, Glorot's bound from input to state, biases zero."""
    torch.manual_seed(0)
    model = RNNModel(RNNConfig(vocab_size=9, cell_type=cell_type, num_hidden_layers=2, bidirectional=bidirectional))
    for name, parameter in model.layers.named_parameters():
        kind = name.rpartition(".")[2]
        gates = parameter.chunk(GATES[cell_type])
        if kind.startswith("weight_hh"):
            for gate in gates:
                torch.testing.assert_close(gate @ gate.T, torch.eye(64), rtol=0, atol=1e-5)
        elif kind.startswith("weight_ih"):
            bound = (6 / (parameter.shape[1] + 64)) ** 0.5
            for gate in gates:
                assert 0.98 * bound < gate.abs().max() <= bound
        else:
            is_forget_gate = [cell_type == "lstm" and kind.startswith("bias_ih") and i == 1 for i in range(len(gates))]
            assert [gate.unique().tolist() for gate in gates] == [[float(is_one)] for is_one in is_forget_gate]


@every_cell
def test_uniform_initializer_draws_as_torch_does(cell_type: str) -> None:
    """Everything within one over the square root of the hidden size."""
    config = RNNConfig(vocab_size=9, cell_type=cell_type, num_hidden_layers=2, recurrent_initializer="uniform")
    for parameter in RNNModel(config).layers.parameters():
        assert 0.9 / 8 < parameter.abs().max() <= 1 / 8
        assert parameter.mean().abs() < 0.05


def test_word_vectors_have_the_mean_and_spread_that_are_asked_for() -> None:
    torch.manual_seed(0)
    config = RNNConfig(vocab_size=2000, embedding_initializer_mean=-0.5, embedding_initializer_range=1)
    words = RNNModel(config).embed_tokens.weight[1:]
    assert words.mean().item() == pytest.approx(-0.5, abs=0.01)
    assert words.std().item() == pytest.approx(1, abs=0.01)


def test_pooler_and_classifier_are_drawn_within_the_bounds_of_torch() -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"vocab_size": 9, "num_labels": 50, "classifier_pooling": "attention"}
    model = RNNForSequenceClassification(RNNConfig(**shape, recurrent_initializer="uniform"))
    for parameter in (model.pooler.attention.score.weight, model.classifier.weight, model.classifier.bias):
        assert 0.9 / 8 < parameter.abs().max() <= 1 / 8


@pytest.mark.parametrize(
    "missing", ["embed_tokens", "weight_ih_l0", "weight_hh_l0_reverse", "bias_ih_l0", "score", "classifier"]
)
@every_cell
def test_weights_missing_in_a_checkpoint_are_drawn_and_the_others_left_alone(
    cell_type: str, missing: str, tmp_path: Path
) -> None:
    model = make_model(
        cell_type=cell_type,
        hidden_size=8,
        bidirectional=True,
        classifier_pooling="attention",
        embedding_initializer_mean=3,
    )
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    saved = load_file(file)
    kept = {name: tensor for name, tensor in saved.items() if missing not in name}
    save_file(kept, file, metadata={"format": "pt"})
    loaded = RNNForSequenceClassification.from_pretrained(tmp_path).state_dict()
    assert set(loaded) == set(saved)
    assert len(kept) < len(saved)
    for name, tensor in loaded.items():
        if name in kept:
            torch.testing.assert_close(tensor, saved[name], rtol=0, atol=0)
        elif "embed_tokens" in name:
            assert not tensor[0].any()
            assert tensor[1:].mean().item() == pytest.approx(3, abs=0.1)
        elif "weight_hh" in name:
            for gate in tensor.chunk(GATES[cell_type]):
                torch.testing.assert_close(gate @ gate.T, torch.eye(8), rtol=0, atol=1e-5)
        elif "bias_ih" in name:
            ones = 8 if cell_type == "lstm" else 0
            assert (tensor == 1).sum() == ones
            assert (tensor == 0).sum() == len(tensor) - ones
        elif name == "classifier.bias":
            assert not tensor.any()
        else:
            assert tensor.any()
            assert tensor.abs().max() < 1


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a saved classifier of each cell, and a batch with the logits and the states it must give."""
    folder = tmp_path_factory.mktemp("checkpoints")
    input_ids, attention_mask = make_batch("with holes")
    for cell_type in get_args(CellType):
        model = make_model(
            cell_type=cell_type, bidirectional=True, num_hidden_layers=2, classifier_pooling="attention"
        )
        model.save_pretrained(folder / cell_type)
        with torch.no_grad():
            logits = model(input_ids, attention_mask=attention_mask).logits
            states = model.model(input_ids, attention_mask=attention_mask).last_hidden_state
        tensors = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "logits": logits,
            "last_hidden_state": states,
        }
        save_file(tensors, folder / f"{cell_type}.safetensors")
    return folder


WITHOUT_PACKAGE = """
import sys

class PackageIsMissing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "rnn_hf":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, PackageIsMissing())
"""

LOAD_AND_COMPARE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

def check(path, batch, module, **arguments):
    batch = load_file(batch)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert AutoConfig.from_pretrained(path, **arguments).__class__.__name__ == "RNNConfig"
    classifier = AutoModelForSequenceClassification.from_pretrained(path, **arguments)
    encoder = AutoModel.from_pretrained(path, **arguments)
    for model in (classifier, encoder):
        assert model.__class__.__module__.startswith(module), model.__class__.__module__
        assert not model.training
    with torch.no_grad():
        assert torch.equal(classifier(**inputs).logits, batch["logits"])
        assert torch.equal(encoder(**inputs).last_hidden_state, batch["last_hidden_state"])
    return classifier
"""


@every_cell
@torch.no_grad()
def test_loaded_models_compute_the_same_bit_for_bit(cell_type: str, checkpoints: Path) -> None:
    batch = load_file(checkpoints / f"{cell_type}.safetensors")
    classifier = AutoModelForSequenceClassification.from_pretrained(checkpoints / cell_type)
    encoder = AutoModel.from_pretrained(checkpoints / cell_type)
    assert type(classifier) is RNNForSequenceClassification
    assert type(encoder) is RNNModel
    with torch.no_grad():
        assert torch.equal(classifier(batch["input_ids"], batch["attention_mask"]).logits, batch["logits"])
        states = encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        assert torch.equal(states, batch["last_hidden_state"])


def test_fresh_process_with_the_package_computes_the_same(checkpoints: Path, tmp_path: Path) -> None:
    code = """
import rnn_hf
folder = Path(sys.argv[1])
for batch in sorted(folder.glob("*.safetensors")):
    check(folder / batch.stem, batch, "rnn_hf.")
"""
    run_python(LOAD_AND_COMPARE + code, checkpoints, cwd=tmp_path, PYTHONPATH=str(PACKAGE.parent))


def test_fresh_process_without_the_package_computes_the_same(checkpoints: Path, tmp_path: Path) -> None:
    """By `trust_remote_code=True` alone, and once more after saving what was loaded so."""
    code = """
folder, saved_again = map(Path, sys.argv[1:])
for batch in sorted(folder.glob("*.safetensors")):
    model = check(folder / batch.stem, batch, "transformers_modules.", trust_remote_code=True)
    model.save_pretrained(saved_again / batch.stem)
    check(saved_again / batch.stem, batch, "transformers_modules.", trust_remote_code=True)
"""
    modules = tmp_path / "modules"
    code = WITHOUT_PACKAGE + LOAD_AND_COMPARE + code
    run_python(code, checkpoints, tmp_path / "saved", cwd=tmp_path, HF_MODULES_CACHE=str(modules))
    assert list(modules.rglob("modeling_rnn.py"))


@torch.no_grad()
def test_checkpoint_of_the_first_version_gives_the_logits_it_gave_then() -> None:
    """Names of weights, defaults of fields and the arithmetic stay as checkpoints rely on them.

    Made in the folder `tests`, after which the copied `*.py` files were deleted, by:

        import json, torch
        from test_modeling_rnn import TINY_CHECKPOINT, make_batch, make_model
        model = make_model(
            vocab_size=50, embedding_size=8, hidden_size=8, num_hidden_layers=2, bidirectional=True,
            classifier_pooling="attention", concat_embedding_mean=True,
        )
        model.save_pretrained(TINY_CHECKPOINT)
        input_ids, attention_mask = make_batch("with holes")
        expected = {"input_ids": input_ids, "attention_mask": attention_mask}
        expected["logits"] = model(**expected).logits
        text = json.dumps({name: tensor.tolist() for name, tensor in expected.items()})
        (TINY_CHECKPOINT / "expected_logits.json").write_text(text + "\\n")
    """
    expected = json.loads((TINY_CHECKPOINT / "expected_logits.json").read_text())
    model = AutoModelForSequenceClassification.from_pretrained(TINY_CHECKPOINT)
    outputs = model(torch.tensor(expected["input_ids"]), attention_mask=torch.tensor(expected["attention_mask"]))
    torch.testing.assert_close(outputs.logits, torch.tensor(expected["logits"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("model_class", HEADS)
def test_saved_folder_holds_all_that_the_auto_classes_need(model_class: type[PreTrainedModel], tmp_path: Path) -> None:
    """Weights as safetensors, never a pickle; the code that `trust_remote_code` runs, for generation where it is."""
    config = RNNConfig(**TINY)
    # as left by a model of the other kind
    config.auto_map = {"AutoModelForCausalLM": "causal_lm_rnn.RNNForCausalLM", "AutoModelForOther": "other.Other"}
    model_class(config).save_pretrained(tmp_path)
    generates = model_class.can_generate()
    code = {f"{name}.py" for name in HUB_FILES if generates or name != "causal_lm_rnn"}
    others = {"config.json", "model.safetensors"} | ({"generation_config.json"} if generates else set())
    assert {path.name for path in tmp_path.iterdir()} == code | others
    for name in code:
        assert (tmp_path / name).read_text() == (PACKAGE / name).read_text()
    file = "causal_lm_rnn" if generates else "modeling_rnn"
    expected = {
        "AutoConfig": "configuration_rnn.RNNConfig",
        "AutoModel": f"{file}.RNNModel",
        "AutoModelForSequenceClassification": f"{file}.RNNForSequenceClassification",
        "AutoModelForTokenClassification": f"{file}.RNNForTokenClassification",
    } | ({"AutoModelForCausalLM": "causal_lm_rnn.RNNForCausalLM"} if generates else {})
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == expected


def test_files_that_travel_with_a_checkpoint_are_all_known_and_can_be_read_at_a_sitting() -> None:
    lengths = {path.stem: len(path.read_text().splitlines()) for path in PACKAGE.glob("*_rnn.py")}
    assert lengths.keys() == set(HUB_FILES)
    assert max(lengths.values()) <= 450, lengths


@pytest.mark.parametrize("file", HUB_FILES)
def test_file_that_travels_with_a_checkpoint_imports_nothing_but_files_before_it(file: str) -> None:
    """Only torch, transformers, huggingface_hub and the standard library; the others by name, without a cycle.

    transformers finds the files to copy by a regular expression, which must find neither less nor more.
    """
    absolute, relative = set(), []
    for node in ast.walk(ast.parse((PACKAGE / f"{file}.py").read_text())):
        if isinstance(node, ast.Import):
            absolute.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1
            relative.append(str(node.module))
        elif isinstance(node, ast.ImportFrom):
            absolute.add(str(node.module).partition(".")[0])
    assert absolute - set(sys.stdlib_module_names) <= {"torch", "transformers", "huggingface_hub"}
    before = set(HUB_FILES[: HUB_FILES.index(file)])
    assert set(relative) <= before
    if file in ("modeling_rnn", "causal_lm_rnn"):
        # older versions of transformers copy from a folder only what the file in `auto_map` itself imports
        assert set(relative) == before
    assert sorted(relative) == sorted(get_relative_imports(PACKAGE / f"{file}.py"))


@pytest.mark.parametrize("new_size", [12, 30])
def test_resizing_the_vocabulary_keeps_the_vectors_of_old_words(new_size: int) -> None:
    model = make_model()
    old = model.get_input_embeddings().weight.detach().clone()
    logits = model(torch.tensor([[3, 4, 5]])).logits
    model.resize_token_embeddings(new_size)
    new = model.get_input_embeddings().weight
    assert new.shape == (new_size, 5)
    assert model.config.vocab_size == new_size
    shared = min(new_size, 20)
    torch.testing.assert_close(new[:shared], old[:shared], rtol=0, atol=0)
    torch.testing.assert_close(model(torch.tensor([[3, 4, 5]])).logits, logits)


@pytest.mark.parametrize("model_class", HEADS)
def test_ids_and_word_vectors_exclude_each_other(model_class: Callable[[RNNConfig], PreTrainedModel]) -> None:
    model = model_class(RNNConfig(**TINY))
    with pytest.raises(ValueError, match="Exactly one of `input_ids` and `inputs_embeds` must be given"):
        model()
    with pytest.raises(ValueError, match="Exactly one of `input_ids` and `inputs_embeds` must be given"):
        model(torch.tensor([[1]]), inputs_embeds=torch.zeros(1, 1, 5))


@pytest.mark.parametrize("pack_padded_sequences", [True, False])
@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (3,)])
def test_mask_of_another_shape_is_refused(shape: tuple[int, ...], pack_padded_sequences: bool) -> None:
    model = make_model(pack_padded_sequences=pack_padded_sequences)
    with pytest.raises(ValueError, match=r"`attention_mask` must have the shape \(2, 3\) of the tokens, got \("):
        model(torch.ones(2, 3, dtype=torch.long), attention_mask=torch.ones(shape))


@every_pooling
@both_directions
@every_cell
@torch.no_grad()
def test_bfloat16_model_agrees_with_the_float32_model(cell_type: str, bidirectional: bool, pooling: str) -> None:
    model = make_model(
        cell_type=cell_type, bidirectional=bidirectional, classifier_pooling=pooling, concat_embedding_mean=True
    )
    expected = logits_alone(model)
    logits = model.to(torch.bfloat16)(*make_batch("with holes")).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.05)


@pytest.mark.slow
@every_cell
@torch.no_grad()
def test_compiled_model_agrees(cell_type: str) -> None:
    model = make_model(cell_type=cell_type, bidirectional=True, classifier_pooling="mean_max_last")
    expected = logits_alone(model)
    torch.testing.assert_close(torch.compile(model)(*make_batch("with holes")).logits, expected)
