"""The language model: the distribution, the loss, the state, saving and loading."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from rnn_hf import RNNConfig, RNNModel
from rnn_hf.causal_lm_rnn import CACHE_NAME, RNNCache, RNNForCausalLM
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.tiny_models import (
    LAYOUTS,
    TEXTS,
    both_depths,
    every_cell,
    make_batch,
    make_model,
)

CUTOFFS = [6, 11]
SPECIAL = {"bos_token_id": 2, "eos_token_id": 2}
every_softmax = pytest.mark.parametrize("cutoffs", [None, CUTOFFS], ids=["full", "adaptive"])


def make_language_model(**arguments: Any) -> RNNForCausalLM:
    model: RNNForCausalLM = make_model(RNNForCausalLM, **SPECIAL, **arguments)
    return model


def reference_log_probabilities(model: RNNForCausalLM, states: Tensor) -> Tensor:
    """The logarithm of the probability of each word, one by one: that of its cluster times its own in the cluster."""
    vectors = model.projection(states)
    scores = vectors @ model.model.embed_tokens.weight.t() + model.lm_head.bias
    if not model.cutoffs:
        return scores.softmax(dim=-1).log()
    cluster_scores = vectors @ model.clusters.weight.t() + model.clusters.bias
    bounds = [*CUTOFFS, 20]
    head = torch.cat([scores[..., : bounds[0]], cluster_scores], dim=-1).softmax(dim=-1)
    columns = [head[..., word] for word in range(bounds[0])]
    for cluster, (start, end) in enumerate(pairwise(bounds)):
        within = scores[..., start:end].softmax(dim=-1)
        columns += [head[..., bounds[0] + cluster] * within[..., word] for word in range(end - start)]
    return torch.stack(columns, dim=-1).log()


@every_softmax
@pytest.mark.parametrize("embedding_size", [4, 5], ids=["same_width", "projected"])
@torch.no_grad()
def test_logits_are_the_distribution_computed_word_by_word(embedding_size: int, cutoffs: list[int] | None) -> None:
    model = make_language_model(embedding_size=embedding_size, adaptive_softmax_cutoffs=cutoffs)
    input_ids = torch.tensor([TEXTS[2]])
    logits = model(input_ids).logits
    expected = reference_log_probabilities(model, model.model(input_ids).last_hidden_state)
    torch.testing.assert_close(logits.log_softmax(dim=-1), expected)
    if cutoffs is not None:  # they are the logarithms as they stand
        torch.testing.assert_close(logits, expected)


@every_softmax
@pytest.mark.parametrize("num_items", [None, 5, torch.tensor(5)])
def test_loss_is_the_cross_entropy_of_the_next_tokens(num_items: Any, cutoffs: list[int] | None) -> None:
    """Labels are shifted, -100 is passed over, and the sum is divided as Trainer says."""
    model = make_language_model(adaptive_softmax_cutoffs=cutoffs)
    input_ids, attention_mask = make_batch("padded on the left")
    labels = input_ids.masked_fill(attention_mask == 0, -100)
    outputs = model(input_ids, attention_mask=attention_mask, labels=labels, num_items_in_batch=num_items)
    arguments = (outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    expected = F.cross_entropy(*arguments) if num_items is None else F.cross_entropy(*arguments, reduction="sum") / 5
    torch.testing.assert_close(outputs.loss, expected)
    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    same = model(input_ids, attention_mask=attention_mask, shift_labels=shifted, num_items_in_batch=num_items).loss
    torch.testing.assert_close(same, outputs.loss)


@every_softmax
def test_gradients_of_training_are_those_of_the_whole_distribution(cutoffs: list[int] | None) -> None:
    """Though training with labels computes no logits; all words of the clusters but one are nobody's label."""
    model = make_language_model(adaptive_softmax_cutoffs=cutoffs).train()
    input_ids = torch.tensor([[3, 15, 4, 2, 7], [1, 5, 3, 3, 2]])
    loss = model(input_ids, labels=input_ids).loss
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    logits = model(input_ids).logits
    F.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_logits_are_there_unless_training_with_labels_does_not_need_them() -> None:
    model = make_language_model()
    ids = torch.tensor([TEXTS[0]])
    assert model(ids, labels=ids).logits is not None
    assert model(ids, labels=ids, output_logits=False).logits is None
    model.train()
    assert model(ids, labels=ids).logits is None
    assert model(ids, labels=ids, output_logits=True).logits is not None
    assert model(ids).logits is not None


@torch.no_grad()
def test_logits_can_be_asked_for_some_positions_only() -> None:
    model = make_language_model(adaptive_softmax_cutoffs=CUTOFFS)
    ids = torch.tensor([TEXTS[2]])
    logits = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, logits[:, -2:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([0, 3])).logits, logits[:, [0, 3]])


@both_depths
@every_cell
@pytest.mark.parametrize("is_training", [False, True], ids=["evaluation", "training"])
def test_a_text_read_in_pieces_is_the_text_read_at_once(
    cell_type: str, num_hidden_layers: int, is_training: bool
) -> None:
    """In the forms that the recurrence takes with and without a backward pass."""
    model = make_language_model(cell_type=cell_type, num_hidden_layers=num_hidden_layers).train(is_training)
    input_ids = torch.randint(3, 20, (3, 9))
    with torch.set_grad_enabled(is_training):
        whole = model(input_ids, use_cache=True)
        cache = RNNCache()
        pieces = [model(piece, cache=cache) for piece in input_ids.split([1, 4, 2, 2], dim=1)]
    torch.testing.assert_close(torch.cat([piece.logits for piece in pieces], dim=1), whole.logits)
    torch.testing.assert_close(cache.state.hidden_state, whole[CACHE_NAME].state.hidden_state)
    assert pieces[-1][CACHE_NAME] is cache
    assert cache.get_seq_length() == 9


@pytest.mark.parametrize("layout", LAYOUTS)
@both_depths
@every_cell
@torch.no_grad()
def test_padding_leaves_the_state_of_a_text_as_it_is(cell_type: str, num_hidden_layers: int, layout: str) -> None:
    """Wherever it stands, and if a whole piece of a text is padding."""
    model = make_language_model(cell_type=cell_type, num_hidden_layers=num_hidden_layers)
    input_ids, attention_mask = make_batch(layout)
    cache = RNNCache()
    for columns in torch.arange(14).split(3):
        model(input_ids[:, columns], attention_mask=attention_mask[:, columns], cache=cache)
    for row, text in enumerate(TEXTS):
        alone = model(torch.tensor([text]), use_cache=True)[CACHE_NAME].state
        torch.testing.assert_close(cache.state.hidden_state[row], alone.hidden_state[0])
        if cell_type == "lstm":
            torch.testing.assert_close(cache.state.cell_state[row], alone.cell_state[0])


@every_cell
def test_gradients_do_not_reach_back_into_the_cache(cell_type: str) -> None:
    model = make_language_model(cell_type=cell_type).train()
    cache = RNNCache()
    model(torch.tensor([[3, 4]]), cache=cache)
    assert cache.state.hidden_state is not None and not cache.state.hidden_state.requires_grad
    model(torch.tensor([[5, 6]]), labels=torch.tensor([[5, 6]]), cache=cache).loss.backward()
    assert not model.get_input_embeddings().weight.grad[3:5].equal(torch.zeros(2, 5))  # through the output layer
    assert model.model.layers[0].recurrent.weight_hh_l0.grad.any()


@every_cell
def test_gradients_of_an_initial_state_are_those_of_torch(cell_type: str) -> None:
    """The encoder itself may be trained through its initial state."""
    model = make_model(RNNModel, cell_type=cell_type)
    names = ["initial_hidden_state", "initial_cell_state"][: 2 if cell_type == "lstm" else 1]
    states = {name: torch.randn(2, 1, 4, requires_grad=True) for name in names}
    input_ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    ours = model(input_ids, **states).last_hidden_state
    torchs_states = tuple(state.transpose(0, 1) for state in states.values())
    layer = model.layers[0].recurrent
    theirs, _ = layer(model.embed_tokens(input_ids), torchs_states if cell_type == "lstm" else torchs_states[0])
    torch.testing.assert_close(ours, theirs)
    sources = [*states.values(), *layer.parameters()]
    weights = torch.randn_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad((ours * weights).sum(), sources), torch.autograd.grad((theirs * weights).sum(), sources)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bidirectional": True}, "A language model needs `bidirectional=False`"),
        ({"adaptive_softmax_cutoffs": [5, 5]}, r"must rise, from 1 .* \(19\) at most, got \[5, 5\]"),
        ({"adaptive_softmax_cutoffs": [5, 20]}, "`adaptive_softmax_cutoffs` must rise"),
        ({"adaptive_softmax_cutoffs": [0, 5]}, "`adaptive_softmax_cutoffs` must rise"),
        ({"adaptive_softmax_cutoffs": []}, "`adaptive_softmax_cutoffs` must rise"),
    ],
)
def test_configurations_that_make_no_language_model_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        make_language_model(**arguments)
    assert isinstance(caught.value.__cause__ or caught.value, ValueError)


@pytest.mark.parametrize(
    ("model_arguments", "states", "message"),
    [
        ({"bidirectional": True}, ["hidden", "cell"], "needs `bidirectional=False`"),
        ({}, ["hidden"], "starts from `initial_hidden_state` and `initial_cell_state`"),
        ({}, ["cell"], "starts from `initial_hidden_state` and `initial_cell_state`"),
        ({"cell_type": "gru"}, ["hidden", "cell"], "starts from `initial_hidden_state` alone"),
    ],
)
def test_initial_states_that_do_not_fit_are_refused(
    model_arguments: dict[str, Any], states: list[str], message: str
) -> None:
    model = make_model(RNNModel, **model_arguments)
    given = {f"initial_{name}_state": torch.zeros(1, 1, 4) for name in states}
    with pytest.raises(ValueError, match=message):
        model(torch.tensor([[3, 4]]), **given)


@every_softmax
@every_cell
def test_saved_models_give_the_same_logits_and_save_shared_weights_once(
    cell_type: str, cutoffs: list[int] | None, tmp_path: Path
) -> None:
    model = make_language_model(cell_type=cell_type, adaptive_softmax_cutoffs=cutoffs)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is RNNForCausalLM
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    text = torch.tensor([TEXTS[2]])
    assert torch.equal(loaded(text).logits, model(text).logits)
    num_bytes = sum(parameter.numel() for parameter in model.parameters()) * 4
    assert (tmp_path / "model.safetensors").stat().st_size < num_bytes + 2000


def test_output_layers_need_not_be_tied(tmp_path: Path) -> None:
    model = make_language_model(tie_word_embeddings=False, adaptive_softmax_cutoffs=CUTOFFS)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    model.save_pretrained(tmp_path)
    loaded = RNNForCausalLM.from_pretrained(tmp_path)
    text = torch.tensor([TEXTS[2]])
    assert torch.equal(loaded(text).logits, model(text).logits)


def test_new_words_join_the_last_cluster() -> None:
    model = make_language_model(adaptive_softmax_cutoffs=CUTOFFS)
    before = model(torch.tensor([TEXTS[0]])).logits
    model.resize_token_embeddings(23)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    after = model(torch.tensor([TEXTS[0]])).logits
    torch.testing.assert_close(after[..., :11], before[..., :11])
    torch.testing.assert_close(after.exp().sum(dim=-1), torch.ones(1, 4))
    ids = torch.tensor([[22, 3, 21]])
    outputs = model(ids, labels=ids)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(outputs.logits[0, :-1], ids[0, 1:]))


@every_cell
def test_a_classifier_takes_over_the_encoder(cell_type: str, tmp_path: Path) -> None:
    model = make_language_model(cell_type=cell_type, adaptive_softmax_cutoffs=CUTOFFS)
    model.save_pretrained(tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=4)
    assert classifier.classifier.weight.shape == (4, 4)
    for name, weight in model.model.state_dict().items():
        assert torch.equal(classifier.model.state_dict()[name], weight)


def test_transformers_trainer_learns_and_evaluates(tmp_path: Path) -> None:
    """Of accumulated batches with different numbers of tokens, the loss reported is that of a token."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["the cat sat on the mat"], has_end_of_text=True)
    model = RNNForCausalLM(
        RNNConfig(vocab_size=len(tokenizer), embedding_dropout=0, classifier_dropout=0, word_dropout=0)
    )
    rows = [{"input_ids": tokenizer("the cat sat on the mat").input_ids[: 3 + index % 4]} for index in range(32)]
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, learning_rate=0.03, per_device_train_batch_size=4,
            gradient_accumulation_steps=2, num_train_epochs=8, save_strategy="no", disable_tqdm=True, logging_steps=1,
        ),
        train_dataset=rows,  # type: ignore[arg-type]  # a list will do
        eval_dataset=rows,  # type: ignore[arg-type]
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )  # fmt: skip
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    first = trainer.state.log_history[1]["loss"]
    assert first == pytest.approx(before, rel=0.2)
    # after "the" either "cat" or "mat" may come
    assert trainer.evaluate()["eval_loss"] < 0.5 < before


@pytest.mark.parametrize(("size", "cutoffs"), [(21, [8, 20]), (20, [8]), (10, [8]), (8, None), (5, None)])
def test_adaptive_softmax_follows_a_vocabulary_that_shrinks(
    tmp_path: Path, size: int, cutoffs: list[int] | None
) -> None:
    """Clusters that no word is left in go; what is left is a distribution, trained, saved and grown again."""
    torch.manual_seed(0)
    model = RNNForCausalLM(RNNConfig(vocab_size=30, adaptive_softmax_cutoffs=[8, 20])).eval()
    ids = torch.tensor([[3, 4, 2, 1]])
    with torch.no_grad():
        before = model(ids).logits[..., :size]
        model.resize_token_embeddings(size)
        logits = model(ids).logits
    assert model.config.adaptive_softmax_cutoffs == model.config.to_dict()["adaptive_softmax_cutoffs"] == cutoffs
    assert logits.shape[-1] == size
    torch.testing.assert_close(logits.softmax(dim=-1).sum(dim=-1), torch.ones(1, 4))
    shortlist = slice(0, min(size, 8))
    # the words of the shortlist keep their odds
    torch.testing.assert_close(logits[..., shortlist].diff(), before[..., shortlist].diff())
    model.train()(ids, labels=ids).loss.backward()
    model.eval().save_pretrained(tmp_path)
    torch.testing.assert_close(RNNForCausalLM.from_pretrained(tmp_path)(ids).logits, logits)
    model.resize_token_embeddings(30, mean_resizing=False)
    assert model(ids).logits.shape[-1] == 30
