"""What the models compute: equality with torch's own layers, independence of the batch, refusals."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNModel
from rnn_hf.modeling_rnn import RNNPreTrainedModel
from rnn_hf.safe_loading import HEADS
from tests.tiny_models import (
    LAYOUTS,
    TEXTS,
    TINY,
    both_depths,
    both_directions,
    every_cell,
    every_pooling,
    logits_alone,
    make_batch,
    make_model,
    torch_layers,
)


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
    outputs = model.model(text)
    assert model.classifier(model.pooler(outputs.last_hidden_state, None)).isfinite().all()
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
