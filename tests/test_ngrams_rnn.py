"""The n-gram branch of a classifier: equality with a computation by hand, invariance, training, saving, loading."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rnn_hf import RNNConfig, RNNForSequenceClassification, modeling_rnn
from rnn_hf.ngrams_rnn import NGramBranch
from tests.tiny_models import LAYOUTS, logits_alone, make_batch, make_model

# Few buckets, so that n-grams share some
BRANCH: dict[str, Any] = {"ngram_buckets": 11, "bidirectional": True}
UNKNOWN = 1


def make_classifier(**arguments: Any) -> RNNForSequenceClassification:
    """A tiny classifier with a branch, every bucket of which has another weight."""
    model: RNNForSequenceClassification = make_model(**{**BRANCH, **arguments})
    assert model.ngrams is not None
    with torch.no_grad():
        model.ngrams.idf.copy_(torch.rand(model.ngrams.num_buckets) + 0.5)
        model.ngrams.bias.copy_(torch.rand(model.num_labels))
    return model


def hash_of_pair(first: int, second: int) -> int:
    return (first * 1_000_003 + second * 998_244_353) % (2**31 - 1)


def logits_by_hand(branch: NGramBranch, runs: list[list[int]]) -> Tensor:
    """The logits of a text whose words follow one another in these runs, with words and word pairs."""
    words = [word for run in runs for word in run]
    pairs = [
        (first * 1_000_003 + second * 998_244_353) % (2**31 - 1) for run in runs for first, second in pairwise(run)
    ]
    buckets = [ngram % branch.num_buckets for ngram in words + pairs]
    weights = branch.idf[buckets]
    total = sum(weight * branch.table.weight[bucket] for weight, bucket in zip(weights, buckets, strict=True))
    return torch.as_tensor(total * 5 / weights.square().sum().sqrt() + branch.bias)


@pytest.mark.parametrize("text", [[7, 8, 13], [9, 9, 3], [5]], ids=["different words", "a word twice", "one word"])
@torch.no_grad()
def test_logits_are_those_computed_by_hand(text: list[int]) -> None:
    model = make_classifier(bidirectional=False)
    assert model.ngrams is not None
    expected = logits_by_hand(model.ngrams, [text])
    torch.testing.assert_close(model.ngrams(torch.tensor([text]), None)[0], expected)
    network, branch = model.classify(torch.tensor([text]))[0]
    torch.testing.assert_close(branch[0], expected)
    torch.testing.assert_close(model(torch.tensor([text])).logits, network + branch)
    assert not torch.equal(branch, network)


@torch.no_grad()
def test_an_ngram_of_three_words_depends_on_their_order_and_is_none_of_two() -> None:
    numbers = NGramBranch(RNNConfig(ngram_buckets=2**16, ngram_order=3)).ngrams_of
    found, counts = numbers(torch.tensor([[7, 8, 9], [9, 8, 7], [8, 7, 9]]), None)
    assert counts is None and found.shape == (3, 6)
    assert len(set(found[:, 5].tolist())) == 3
    assert len(set(found[0].tolist())) == 6
    largest = torch.full((1, 3), 2**31 - 1)
    assert int(numbers(largest, None)[0].min()) >= 0 and int(numbers(largest, None)[0].max()) < 2**31


@pytest.mark.parametrize("order", [1, 2, 3, 9])
@torch.no_grad()
def test_logits_do_not_depend_on_the_batch(order: int) -> None:
    """A text gets the same logits alone, padded on either side, with holes and in any order."""
    model = make_classifier(ngram_order=order)
    expected = logits_alone(model)
    for layout in LAYOUTS:
        input_ids, attention_mask = make_batch(layout)
        torch.testing.assert_close(model(input_ids, attention_mask=attention_mask).logits, expected)
        logits = model(input_ids.flip(0), attention_mask=attention_mask.flip(0)).logits
        torch.testing.assert_close(logits, expected.flip(0))


@pytest.mark.parametrize("dtype", [torch.long, torch.float], ids=["ids", "floats_of_a_tokenizer"])
def test_a_text_without_tokens_has_the_logits_of_the_biases(dtype: torch.dtype) -> None:
    model = make_classifier()
    assert model.ngrams is not None
    empty = torch.empty(1, 0, dtype=dtype)
    biases = model.classifier.bias + model.ngrams.bias
    torch.testing.assert_close(model(empty, attention_mask=empty).logits, biases[None])
    batch = torch.tensor([[7, 8], [4, 4]]), torch.tensor([[1, 1], [0, 0]])
    torch.testing.assert_close(model(*batch).logits[1], biases)
    model.train()(*batch, labels=torch.tensor([1, 2])).loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    assert model(torch.empty(0, 3, dtype=torch.long)).logits.shape == (0, 3)


@torch.no_grad()
def test_ngrams_without_weight_leave_a_text_as_it_is_without_the_branch() -> None:
    """So it is with words that no training text has."""
    model = make_classifier()
    assert model.ngrams is not None
    model.ngrams.idf.zero_()
    network, branch = model.classify(torch.tensor([[7, 8, 9]]))[0]
    assert torch.equal(branch[0], model.ngrams.bias) and network.any()


@torch.no_grad()
def test_a_dropped_word_is_in_neither_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_classifier(word_dropout=0.5)
    assert model.ngrams is not None
    drawn: list[Tensor] = []

    def draw(words: Tensor, probability: float) -> Tensor:
        drawn.append(words)
        return words == 8

    monkeypatch.setattr(modeling_rnn, "draw_dropped_words", draw)
    # 8 is dropped: nothing of 7 and 5 is a pair, and the padding in between is none either
    input_ids = torch.tensor([[7, 8, 17, 5, 9, 4]])
    attention_mask = torch.tensor([[1, 1, 0, 1, 1, 1]])
    network, branch = model.train().classify(input_ids, attention_mask)[0]
    assert len(drawn) == 1
    torch.testing.assert_close(branch[0], logits_by_hand(model.ngrams, [[7], [5, 9, 4]]))
    torch.testing.assert_close(branch[0], model.ngrams(input_ids, attention_mask.bool(), input_ids == 8)[0])
    torch.testing.assert_close(network, model.eval().classify(torch.tensor([[7, UNKNOWN, 5, 9, 4]]))[0][0])


@torch.no_grad()
def test_a_text_of_dropped_words_alone_is_finite() -> None:
    model = make_classifier()
    assert model.ngrams is not None
    ids = torch.tensor([[7, 8]])
    assert torch.equal(model.ngrams(ids, None, torch.ones_like(ids, dtype=torch.bool))[0], model.ngrams.bias)


def test_word_vectors_are_refused() -> None:
    model = make_classifier()
    with pytest.raises(
        ValueError, match=r"`inputs_embeds` cannot be given to a model with `ngram_buckets`.*`input_ids`"
    ):
        model(inputs_embeds=torch.zeros(1, 3, 5))


@pytest.mark.parametrize("factor", [None, 1.0, 4.0])
def test_a_branch_that_learns_apart_is_left_out_in_training_mode(factor: float | None) -> None:
    model = make_classifier()
    assert model.ngrams is not None
    model.ngrams.factor_alone = factor
    batch, labels = torch.tensor([[7, 8, 9], [4, 2, 3]]), torch.tensor([2, 0])
    network, branch = model.eval().classify(batch)[0]
    torch.testing.assert_close(model(batch).logits, network + branch)
    outputs = model.train()(batch, labels=labels)
    torch.testing.assert_close(outputs.logits, network + branch if factor is None else factor * network)
    torch.testing.assert_close(outputs.loss, F.cross_entropy(outputs.logits, labels))
    outputs.loss.backward()
    assert (model.ngrams.table.weight.grad is None) == (factor is not None)
    model.ngrams.train_together()
    torch.testing.assert_close(model(batch).logits, network + branch)


@torch.no_grad()
def test_a_bucket_counts_for_its_owner_alone() -> None:
    model = make_classifier(bidirectional=False)
    assert model.ngrams is not None
    ngrams, _ = model.ngrams.ngrams_of(torch.tensor([[7, 18]]), None)  # of 11 buckets, both have the one of 7
    assert ngrams[0].tolist() == [7, 18, hash_of_pair(7, 18)]
    before = model.ngrams(torch.tensor([[7], [18]]), None)
    torch.testing.assert_close(before[0], before[1])
    model.ngrams.owners[7] = 18
    alone = model.ngrams(torch.tensor([[7], [18]]), None)
    torch.testing.assert_close(alone[1], before[1])
    torch.testing.assert_close(alone[0], model.ngrams.bias)
    model.ngrams.owners[7] = 7
    torch.testing.assert_close(model.ngrams(torch.tensor([[7], [18]]), None), alone.flip(0))


def test_a_new_branch_says_nothing_and_weighs_all_ngrams_alike() -> None:
    model = RNNForSequenceClassification(RNNConfig(vocab_size=20, ngram_buckets=11, num_labels=3))
    assert model.ngrams is not None
    assert not model.ngrams.table.weight.any() and torch.equal(model.ngrams.idf, torch.ones(11))
    assert RNNForSequenceClassification(RNNConfig(vocab_size=20)).ngrams is None


@pytest.mark.parametrize(("initializer", "is_drawn"), [("orthogonal", False), ("uniform", True)])
def test_the_bias_of_the_head_starts_at_zero_but_for_the_uniform_initializer(initializer: str, is_drawn: bool) -> None:
    torch.manual_seed(0)
    model = RNNForSequenceClassification(RNNConfig(vocab_size=20, recurrent_initializer=initializer))
    assert bool(model.classifier.bias.any()) == is_drawn


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@torch.no_grad()
def test_a_saved_model_gives_the_same_logits(tmp_path: Path, dtype: torch.dtype) -> None:
    """Bit for bit, and in half types as far as these are precise."""
    model = make_classifier()
    model.save_pretrained(tmp_path)
    loaded = RNNForSequenceClassification.from_pretrained(tmp_path, dtype=dtype).eval()
    assert loaded.ngrams is not None and loaded.ngrams.idf.dtype == loaded.ngrams.table.weight.dtype == dtype
    batch = make_batch("with holes")
    logits = loaded(*batch).logits
    assert logits.dtype == dtype
    if dtype == torch.float32:
        assert torch.equal(logits, model(*batch).logits)
    else:
        torch.testing.assert_close(logits.float(), model(*batch).logits, rtol=0.05, atol=0.05)


def test_a_branch_for_other_labels_starts_anew(tmp_path: Path) -> None:
    make_classifier().save_pretrained(tmp_path)
    loaded = RNNForSequenceClassification.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True)
    assert loaded.ngrams is not None and loaded.ngrams.table.weight.shape == (11, 7)
    assert not loaded.ngrams.table.weight.any() and len(loaded.ngrams.idf.unique()) > 1


@torch.no_grad()
def test_a_text_without_ngrams_gets_the_bias_in_half_precision() -> None:
    config = RNNConfig(vocab_size=9, num_labels=2, ngram_buckets=16)
    branch = RNNForSequenceClassification(config).half().eval().ngrams
    assert branch is not None
    branch.idf.zero_()
    branch.bias.copy_(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(branch(torch.tensor([[3, 4]]), None), branch.bias.unsqueeze(0))
