"""The numbers of the lesson page, against independent computations."""

from typing import Any, get_args

import numpy as np
import pytest
import torch

from rnn_hf.configuration_rnn import CellType, ClassifierPooling
from rnn_hf.lesson_page.readings import MAX_TOKENS, Reading
from rnn_hf.text_classifier import TextClassifier
from tests.tiny_classifiers import make_classifier

TEXT = "the cat and a dog sat on the mat"
CELLS = get_args(CellType)
SIZES = {"embedding_size": 5, "hidden_size": 4, "recurrent_initializer": "uniform"}


def make_reading(text: str = TEXT, **settings: Any) -> Reading:
    classifier = make_classifier(**(SIZES | settings))
    with torch.no_grad():
        # states that differ from word to word
        for parameter in classifier.model.parameters():
            parameter.mul_(2)
    return Reading(classifier, text)


def state_after(reading: Reading, vectors: torch.Tensor, step: int) -> torch.Tensor:
    """The state of the forward direction after a word, computed from word vectors by torch's own layer."""
    layer: Any = reading.model.model.layers[0]
    states, _ = layer.recurrent(vectors)
    state: torch.Tensor = states[0, step, : reading.hidden_size]
    return state


@pytest.mark.parametrize("settings", [{}, {"ngram_buckets": 8}, {"pack_padded_sequences": False}], ids=str)
def test_the_answer_after_a_word_is_that_to_the_text_up_to_it(settings: dict[str, Any]) -> None:
    reading = make_reading(**settings)
    words = TEXT.split()
    expected = [reading.classifier.predict_proba(" ".join(words[:end])) for end in range(1, len(words) + 1)]
    np.testing.assert_allclose(reading.probabilities_after_every_word(), expected, atol=1e-6)
    assert reading.words == words and reading.label == int(np.argmax(expected[-1]))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_states_follow_from_the_gates_of_an_lstm(bidirectional: bool, layers: int) -> None:
    reading = make_reading(cell_type="lstm", bidirectional=bidirectional, num_hidden_layers=layers)
    gates = reading.gates()
    recurrent: Any = reading.model.model.layers[-1].recurrent
    hidden = cell = np.zeros(4)
    for step, inputs in enumerate(reading.inputs.numpy()):
        sums = recurrent.weight_ih_l0.detach().numpy() @ inputs + recurrent.weight_hh_l0.detach().numpy() @ hidden
        candidate = np.tanh((sums + (recurrent.bias_ih_l0 + recurrent.bias_hh_l0).detach().numpy())[8:12])
        cell = gates["forget"][step] * cell + gates["input"][step] * candidate
        hidden = gates["output"][step] * np.tanh(cell)
        np.testing.assert_allclose(reading.states[step, :4], hidden, atol=1e-5)


def test_the_states_follow_from_the_gates_of_a_gru() -> None:
    reading = make_reading(cell_type="gru")
    gates = reading.gates()
    layer: Any = reading.model.model.layers[0]
    weight_ih, weight_hh, bias_ih, bias_hh = (weight.detach().numpy() for weight in layer.recurrent.all_weights[0])
    hidden = np.zeros(4)
    for step, inputs in enumerate(reading.inputs.numpy()):
        from_state = weight_hh[8:] @ hidden + bias_hh[8:]
        candidate = np.tanh(weight_ih[8:] @ inputs + bias_ih[8:] + gates["reset"][step] * from_state)
        hidden = (1 - gates["update"][step]) * candidate + gates["update"][step] * hidden
        np.testing.assert_allclose(reading.states[step], hidden, atol=1e-5)


def test_a_plain_rnn_has_no_gates() -> None:
    assert make_reading(cell_type="rnn").gates() == {}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell_type", CELLS)
def test_reliance_is_the_norm_of_the_derivative(cell_type: str, bidirectional: bool) -> None:
    reading = make_reading("the cat sat on a mat", cell_type=cell_type, bidirectional=bidirectional)
    vectors = reading.model.model.embed_tokens(reading.ids).detach()
    expected = np.zeros((6, 6))
    for step in range(6):
        derivative = torch.autograd.functional.jacobian(lambda v, step=step: state_after(reading, v, step), vectors)
        expected[step] = derivative[:, 0].square().sum(dim=(0, 2)).sqrt().numpy()
    np.testing.assert_allclose(reading.reliance(), np.tril(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [{"classifier_pooling": "mean"}, {"concat_embedding_mean": True}], ids=str)
def test_gradients_are_those_of_finite_differences(settings: dict[str, Any]) -> None:
    reading = make_reading("the cat sat", cell_type="rnn", **settings)
    model = reading.model.double()
    vectors = model.model.embed_tokens(reading.ids).detach()
    weights = model.classifier.weight[reading.label]

    def as_computed(vectors: torch.Tensor) -> torch.Tensor:
        logit: torch.Tensor = model(inputs_embeds=vectors).logits[0, reading.label]
        return logit

    def last_state(vectors: torch.Tensor) -> torch.Tensor:
        return state_after(reading, vectors, -1) @ weights[:4]

    for found, logit in zip(reading.gradient_by_distance(), (as_computed, last_state), strict=True):
        norms = []
        for step in (2, 1, 0):
            slopes = []
            for entry in range(5):
                nudge = torch.zeros_like(vectors)
                nudge[0, step, entry] = 1e-4
                slopes.append(float((logit(vectors + nudge) - logit(vectors - nudge)).detach()) / 2e-4)
            norms.append(np.linalg.norm(slopes))
        np.testing.assert_allclose(found, norms, rtol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", get_args(ClassifierPooling))
def test_contributions_and_the_bias_add_up_to_the_logit(pooling: str, bidirectional: bool) -> None:
    reading = make_reading(classifier_pooling=pooling, bidirectional=bidirectional, concat_embedding_mean=True)
    contributions = reading.contributions()
    assert [*contributions] == [*pooling.split("_"), "word_vectors"]
    logit = reading.model(reading.ids).logits[0, reading.label].item()
    total = (
        sum(values.sum() for values in contributions.values()) + reading.model.classifier.bias[reading.label].item()
    )
    assert total == pytest.approx(logit, rel=1e-4)


def test_maxima_are_counted_where_they_are() -> None:
    reading = make_reading(classifier_pooling="mean_max", bidirectional=True)
    maxima = reading.maxima()
    assert maxima is not None and maxima.sum() == 8
    assert all(
        count == sum(column.argmax() == step for column in reading.states.T) for step, count in enumerate(maxima)
    )
    assert make_reading(classifier_pooling="mean").maxima() is None


def test_padding_changes_only_what_is_not_packed() -> None:
    reading = make_reading(cell_type="lstm", classifier_pooling="last")
    found = reading.padding()
    np.testing.assert_allclose(found["packed"]["drift"], 0, atol=1e-6)
    assert len(set(found["packed"]["label"].tolist())) == 1
    unpacked: Any = make_reading(cell_type="lstm", classifier_pooling="last", pack_padded_sequences=False)
    unpacked.model.load_state_dict(reading.model.state_dict())
    ids = torch.nn.functional.pad(reading.ids, (0, 7))
    with torch.no_grad():
        probabilities = unpacked.model(ids, attention_mask=(ids != 0).long()).logits.softmax(dim=-1)[0]
    assert found["not_packed"]["probability"][7] == pytest.approx(probabilities[reading.label].item(), abs=1e-6)
    assert found["not_packed"]["drift"][7] > 0.01
    assert reading.model.model.uses_mask


def test_units_that_are_alike_are_neighbours() -> None:
    reading = make_reading()
    reading.states = torch.tensor([[0.9, -0.9, 0.8, -0.8], [0.1, 0.5, 0.1, 0.6]])
    order = reading.order_of_units()
    assert sorted(order) == [0, 1, 2, 3] and abs(order.index(0) - order.index(2)) == 1
    assert make_reading(hidden_size=1).order_of_units() == [0]


def test_a_long_text_is_cut_and_an_empty_one_refused(classifier: TextClassifier) -> None:
    classifier.tokenizer.init_kwargs["max_length"] = classifier.tokenizer.model_max_length = 10**6
    assert len(Reading(classifier, "cat " * 500).words) == MAX_TOKENS
    with pytest.raises(ValueError, match="must have at least one word, got '  '"):
        Reading(classifier, "  ")


def test_a_text_is_read_as_far_as_the_model_reads_it() -> None:
    """And a lone surrogate, which UTF-8 cannot represent, as everywhere."""
    reading = make_reading("the cat \ud800 a dog sat on the mat all day long")
    assert len(reading.words) == reading.classifier.max_length == 9 and reading.words[2] == "?"


@pytest.fixture
def classifier() -> TextClassifier:
    return make_classifier(**SIZES)
