from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from rnn_hf.data.bptt import StreamSampler, TokenStreams

END = 2
TEXTS = [[5, 6, 7], [], [8], [9, 10, 11, 12, 13], [14, 15]]


def make_streams(
    num_streams: int, piece_length: int, texts: list[list[int]] = TEXTS, is_backward: bool = False
) -> TokenStreams:
    rows = Dataset.from_dict({"input_ids": texts, "length": [len(text) for text in texts]})
    return TokenStreams(rows, END, num_streams, piece_length, is_backward)


def batches_of(streams: TokenStreams) -> list[dict[str, Any]]:
    return [streams.__getitems__(batch) for batch in StreamSampler(streams, None)]


def sequence_of(texts: list[list[int]]) -> list[int]:
    return [END] + [token for text in texts for token in [*text, END]]


@pytest.mark.parametrize("piece_length", [1, 2, 3, 100])
@pytest.mark.parametrize("num_streams", [1, 2, 3, 5, 40])
def test_every_token_is_read_and_predicted_exactly_once(num_streams: int, piece_length: int) -> None:
    streams = make_streams(num_streams, piece_length)
    batches = batches_of(streams)
    assert all(batch["input_ids"].shape[0] == num_streams for batch in batches)
    assert all(batch["input_ids"].shape[1] <= piece_length for batch in batches)
    # the streams, each put together from its pieces, one after the other
    tokens, labels = (torch.cat([batch[name] for batch in batches], dim=1) for name in ("input_ids", "labels"))
    is_label = labels.flatten() != -100
    sequence = sequence_of(TEXTS)
    assert tokens.flatten()[is_label].tolist() == sequence[:-1]
    assert labels.flatten()[is_label].tolist() == sequence[1:]
    assert streams.num_labels == len(sequence) - 1


def test_backward_streams_hold_every_text_turned_round() -> None:
    (batch,) = batches_of(make_streams(num_streams=1, piece_length=100, is_backward=True))
    turned = [text[::-1] for text in TEXTS[::-1]]
    assert [*batch["input_ids"][0].tolist(), END] == sequence_of(turned)
    assert batch["labels"][0].tolist() == sequence_of(turned)[1:]


def test_labels_are_counted_over_all_streams() -> None:
    """Each of two processes divides by half the number of labels in the whole batch, wherever the labels are."""
    streams = make_streams(num_streams=4, piece_length=3)
    for batch in StreamSampler(streams, None):
        whole = streams.__getitems__(batch)
        expected = (whole["labels"] != -100).sum()
        assert whole["num_labels"] == expected
        for half in (batch[:2], batch[2:]):
            assert streams.__getitems__(half)["num_labels"] == expected / 2


def test_every_epoch_has_its_own_order_of_whole_texts() -> None:
    streams = make_streams(num_streams=1, piece_length=1000)
    sampler = StreamSampler(streams, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        [batch] = [streams.__getitems__(batch) for batch in sampler]
        orders.append(batch["input_ids"][0].tolist() + batch["labels"][0, -1:].tolist())
    assert orders[0] == orders[2] != orders[1]
    generator = np.random.default_rng([3, 1])
    assert orders[1] == sequence_of([TEXTS[index] for index in generator.permutation(len(TEXTS))])


def test_an_epoch_can_be_entered_in_its_middle() -> None:
    streams = make_streams(num_streams=2, piece_length=2)
    sampler = StreamSampler(streams, seed=0)
    whole = list(sampler)
    sampler.start_batch = 2
    assert list(sampler) == whole[2:]
    assert len(sampler) == len(whole) - 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_streams": 0, "piece_length": 1}, "`num_streams` must be at least 1, got 0"),
        ({"num_streams": 1, "piece_length": 0}, "`piece_length` must be at least 1, got 0"),
        ({"num_streams": 1, "piece_length": 1, "texts": [[]]}, "The texts must have tokens, got none"),
    ],
)
def test_mistakes_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_streams(**arguments)
