"""What holds for all rows, whatever their lengths and number: batches, streams and pooling."""

from collections import Counter
from typing import get_args

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.utils.data import BatchSampler as TorchBatchSampler

from rnn_hf import RNNConfig
from rnn_hf.configuration_rnn import ClassifierPooling
from rnn_hf.data.batching import (
    BatchSampler,
    LengthGroupedBatchSampler,
    PaddingCollator,
    RandomBatchSampler,
    SortedBatchSampler,
    TokenBatch,
)
from rnn_hf.data.bptt import StreamSampler
from rnn_hf.onnx_classifier import flatten
from rnn_hf.pooling_rnn import RNNPooler
from tests.data.test_bptt import END, make_streams, sequence_of


@given(
    sampler_type=st.sampled_from([LengthGroupedBatchSampler, RandomBatchSampler, SortedBatchSampler]),
    lengths=st.lists(st.integers(0, 9), max_size=70),
    per_process=st.integers(1, 9),
    processes=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
    start_batch=st.integers(0, 12),
    fills=st.booleans(),
)
def test_every_row_comes_once_in_an_epoch(
    sampler_type: type[BatchSampler],
    lengths: list[int],
    per_process: int,
    processes: int,
    seed: int,
    epoch: int,
    start_batch: int,
    fills: bool,
) -> None:
    batch_size = per_process * processes
    sampler = sampler_type(np.array(lengths, dtype=np.int32), batch_size, seed)
    sampler.set_epoch(epoch)
    sampler.fill_last_batch = fills or processes > 1
    whole = list(sampler)
    assert len(whole) == len(sampler) == -(-len(lengths) // batch_size)
    order = [row for batch in whole for row in batch]
    assert sorted(order[: len(lengths)]) == list(range(len(lengths)))
    if sampler.fill_last_batch:
        assert order == (order[: len(lengths)] * batch_size)[: len(whole) * batch_size]
    else:
        assert len(order) == len(lengths)
    # what each process is given of a batch makes up the batch
    shards = [
        list(BatchSamplerShard(torch_sampler(sampler), processes, index, split_batches=True))
        for index in range(processes)
    ]
    assert [[row for part in parts for row in part] for parts in zip(*shards, strict=True)] == whole
    sampler.start_batch = start_batch
    assert list(sampler) == whole[start_batch:]
    assert len(sampler) == len(whole[start_batch:])


def torch_sampler(sampler: BatchSampler) -> TorchBatchSampler:
    return sampler  # type: ignore[return-value]  # what Accelerate asks of one, ours has


@given(
    texts=st.lists(st.lists(st.integers(1, 99), max_size=6), min_size=1, max_size=8), pad_token_id=st.integers(0, 9)
)
def test_a_padded_batch_holds_every_token_in_its_place(texts: list[list[int]], pad_token_id: int) -> None:
    tokens, lengths = flatten(texts)
    rows = np.arange(len(texts))
    batch = PaddingCollator(pad_token_id)(TokenBatch(tokens, lengths, rows, rows))
    longest = max(1, *map(len, texts))
    assert batch["input_ids"].tolist() == [text + [pad_token_id] * (longest - len(text)) for text in texts]
    assert batch["attention_mask"].tolist() == [[1] * len(text) + [0] * (longest - len(text)) for text in texts]


@given(
    texts=st.lists(st.lists(st.integers(3, 99), max_size=6), min_size=1, max_size=8),
    num_streams=st.integers(1, 9),
    piece_length=st.integers(1, 9),
    seed=st.none() | st.integers(0, 2**40),
    epoch=st.integers(0, 3),
)
def test_no_token_of_a_stream_is_dropped_or_comes_twice(
    texts: list[list[int]], num_streams: int, piece_length: int, seed: int | None, epoch: int
) -> None:
    assume(any(texts))
    streams = make_streams(num_streams, piece_length, texts)
    sampler = StreamSampler(streams, seed)
    sampler.set_epoch(epoch)
    batches = [streams.__getitems__(indices) for indices in sampler]
    tokens, labels = (
        torch.cat([batch[name] for batch in batches], dim=1).flatten() for name in ("input_ids", "labels")
    )
    is_label = labels != -100
    read = [*tokens[is_label].tolist(), int(labels[is_label][-1])]
    assert labels[is_label].tolist() == read[1:]
    if seed is None:
        assert read == sequence_of(texts)
    assert read[0] == read[-1] == END
    found = " ".join(map(str, read[1:-1])).split(f" {END} ") if len(texts) > 1 else [" ".join(map(str, read[1:-1]))]
    assert Counter(sequence_of(texts)) == Counter(read)
    if all(texts):
        assert sorted(found) == sorted(" ".join(map(str, text)) for text in texts)
    assert sum(float(batch["num_labels"]) for batch in batches) == pytest.approx(len(read) - 1)


def pooled_by_hand(
    part: str, states: np.ndarray, mask: np.ndarray, bidirectional: bool, query: np.ndarray
) -> np.ndarray:
    """Return the pooled vector of one text, from its tokens alone."""
    tokens = states[mask]
    if not len(tokens):
        return np.zeros(states.shape[1])
    if part == "last":
        half = states.shape[1] // 2 if bidirectional else states.shape[1]
        return np.concatenate([tokens[-1][:half], tokens[0][half:]])
    if part == "mean":
        return np.array(tokens.mean(axis=0))
    if part == "max":
        return np.array(tokens.max(axis=0))
    weights = np.exp(np.tanh(tokens) @ query)
    return np.array((weights / weights.sum()) @ tokens)


@pytest.mark.parametrize("pooling", get_args(ClassifierPooling))
@given(data=st.data(), bidirectional=st.booleans(), batch_size=st.integers(1, 4), length=st.integers(1, 6))
def test_pooling_is_that_of_the_tokens_alone_wherever_they_stand(
    pooling: ClassifierPooling, data: st.DataObject, bidirectional: bool, batch_size: int, length: int
) -> None:
    config = RNNConfig(hidden_size=2, bidirectional=bidirectional, classifier_pooling=pooling)
    pooler = RNNPooler(config)
    numbers = st.floats(-50, 50, width=32)
    states = data.draw(arrays(np.float32, (batch_size, length, config.output_size), elements=numbers))
    mask = data.draw(arrays(bool, (batch_size, length)))
    query = data.draw(arrays(np.float32, (config.output_size,), elements=st.floats(-2, 2, width=32)))
    with torch.no_grad():
        for weight in pooler.parameters():
            weight.copy_(torch.from_numpy(query))
        pooled = pooler(torch.from_numpy(states), torch.from_numpy(mask)).numpy()
        without_mask = pooler(torch.from_numpy(states), None).numpy()
        # what stands where no token is, and how far a batch is padded, changes nothing
        other = np.where(mask[..., None], states, data.draw(numbers))
        wider = np.pad(other, ((0, 0), (0, 2), (0, 0)), constant_values=data.draw(numbers))
        padded = pooler(torch.from_numpy(wider), torch.from_numpy(np.pad(mask, ((0, 0), (0, 2))))).numpy()
    np.testing.assert_allclose(padded, pooled, rtol=1e-4, atol=1e-4)
    for everywhere, found in ((False, pooled), (True, without_mask)):
        expected = [
            np.concatenate(
                [pooled_by_hand(part, row, of_row | everywhere, bidirectional, query) for part in pooler.parts]
            )
            for row, of_row in zip(states, mask, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
