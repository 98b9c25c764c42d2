import pickle
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from datasets import Dataset, Features, List, Value
from torch.utils.data import DataLoader

from rnn_hf.data.batching import (
    BatchSampler,
    EncodedRows,
    LengthGroupedBatchSampler,
    PaddingCollator,
    RandomBatchSampler,
    SortedBatchSampler,
    padding_share,
)

SAMPLERS = [LengthGroupedBatchSampler, RandomBatchSampler, SortedBatchSampler]
SHUFFLED = [LengthGroupedBatchSampler, RandomBatchSampler]
LENGTHS = np.random.default_rng(0).integers(0, 90, size=1003).astype(np.int32)


def make_dataset(lengths: list[int]) -> Dataset:
    rows = range(len(lengths))
    columns = {
        # every token identifies its row
        "input_ids": [[100 * row + position + 1 for position in range(lengths[row])] for row in rows],
        "labels": [row % 3 for row in rows],
        "length": lengths,
        "row": list(rows),
    }
    features = Features(
        input_ids=List(Value("int32")), labels=Value("int64"), length=Value("int32"), row=Value("int32")
    )
    return Dataset.from_dict(columns, features=features)


# rows and collator


def test_a_batch_holds_the_rows_asked_for_in_their_order() -> None:
    rows = EncodedRows(make_dataset([2, 0, 3]))
    assert rows.lengths.tolist() == [2, 0, 3] and rows.lengths.dtype == np.int32
    batch = PaddingCollator(pad_token_id=7)(rows.__getitems__([2, 1, 0]))
    expected = {
        "input_ids": [[201, 202, 203], [7, 7, 7], [1, 2, 7]],
        "attention_mask": [[1, 1, 1], [0, 0, 0], [1, 1, 0]],
        "labels": [2, 1, 0],
        "row": [2, 1, 0],
    }
    assert {name: tensor.tolist() for name, tensor in batch.items()} == expected
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_rows_of_a_selection_and_of_many_chunks_are_found(tmp_path: Path) -> None:
    lengths = [row % 5 for row in range(40)]
    whole = make_dataset(lengths)
    whole.map(batched=True, batch_size=7, writer_batch_size=7, cache_file_name=str(tmp_path / "rows.arrow"))
    for dataset in (Dataset.from_file(str(tmp_path / "rows.arrow")), whole.select([*range(39, -1, -1)])):
        rows = EncodedRows(dataset)
        batch = PaddingCollator(0)(rows.__getitems__([33, 2, 14]))
        for position, index in enumerate([33, 2, 14]):
            length = batch["attention_mask"][position].sum()
            assert batch["input_ids"][position, :length].tolist() == dataset[index]["input_ids"]
            assert rows.lengths[index] == length
        assert batch["row"].tolist() == [dataset[index]["row"] for index in (33, 2, 14)]


def test_a_batch_of_empty_texts_is_one_position_wide() -> None:
    batch = PaddingCollator(pad_token_id=9)(EncodedRows(make_dataset([0, 0])).__getitems__([0, 1]))
    assert batch["input_ids"].tolist() == [[9], [9]]
    assert batch["attention_mask"].tolist() == [[0], [0]]


def test_rows_and_collator_survive_pickling() -> None:
    rows, collator = pickle.loads(pickle.dumps((EncodedRows(make_dataset([2, 1])), PaddingCollator(0))))  # noqa: S301 - our own bytes
    assert collator(rows.__getitems__([1, 0]))["input_ids"].tolist() == [[101, 0], [1, 2]]


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is only known on Linux")
def test_batches_of_a_mapped_file_take_no_memory_for_its_tokens(tmp_path: Path) -> None:
    """Also after every row was read: pages of the file do not count as anonymous memory."""

    def anonymous_bytes() -> int:
        memory = psutil.Process().memory_info()
        return int(memory.rss - memory.shared)

    num_rows, length = 20_000, 500
    tokens = pa.array(np.arange(num_rows * length, dtype=np.int32))
    offsets = pa.array(np.arange(num_rows + 1, dtype=np.int32) * length)
    columns = {
        "input_ids": pa.ListArray.from_arrays(offsets, tokens),
        "labels": np.zeros(num_rows, np.int64),
        "length": np.full(num_rows, length, np.int32),
        "row": np.arange(num_rows, dtype=np.int32),
    }
    Dataset(pa.table(columns)).save_to_disk(tmp_path / "rows")
    del columns, tokens
    dataset = Dataset.load_from_disk(str(tmp_path / "rows"))
    before = anonymous_bytes()
    rows = EncodedRows(dataset)
    for batch in RandomBatchSampler(rows.lengths, 64):
        assert rows.__getitems__(batch).tokens[0] == batch[0] * length
    assert anonymous_bytes() - before < 0.2 * num_rows * length * 4


# samplers


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1003, 2000])
@pytest.mark.parametrize("sampler_type", SAMPLERS)
def test_every_row_comes_once_and_only_the_last_batch_is_short(
    sampler_type: type[BatchSampler], batch_size: int
) -> None:
    sampler = sampler_type(LENGTHS, batch_size)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(1003))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    assert len(batches[-1]) == (1003 % batch_size or batch_size)
    assert len(sampler) == len(batches)


@pytest.mark.parametrize("sampler_type", SAMPLERS)
def test_no_rows_give_no_batches(sampler_type: type[BatchSampler]) -> None:
    assert list(sampler_type(np.array([], dtype=np.int32), 4)) == []


@pytest.mark.parametrize("sampler_type", SHUFFLED)
def test_the_order_is_a_function_of_seed_and_epoch(sampler_type: type[BatchSampler]) -> None:
    def draw(seed: int, epoch: int) -> list[list[int]]:
        sampler = sampler_type(LENGTHS, 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert draw(1, 2) == draw(1, 2)
    different = [draw(1, 2), draw(1, 3), draw(2, 2), draw(2, 1)]
    assert len({tuple(map(tuple, batches)) for batches in different}) == 4
    # other batches, not the same ones in another order
    first, second = ({frozenset(batch) for batch in batches} for batches in different[:2])
    assert len(first & second) < 0.05 * len(first)


@pytest.mark.parametrize("sampler_type", SHUFFLED)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_begun_in_the_middle_goes_on_as_the_undisturbed_one(
    sampler_type: type[BatchSampler], num_workers: int
) -> None:
    rows = EncodedRows(make_dataset([row % 9 for row in range(50)]))
    sampler = sampler_type(rows.lengths, 8, seed=3)
    loader = DataLoader(rows, batch_sampler=sampler, collate_fn=PaddingCollator(0), num_workers=num_workers)
    sampler.set_epoch(4)
    whole = [batch["row"].tolist() for batch in loader]
    sampler.start_batch = 3
    assert [batch["row"].tolist() for batch in loader] == whole[3:]


@pytest.mark.parametrize("num_rows", [3, 21, 24])
def test_a_last_batch_is_filled_with_the_first_rows_of_the_epoch_also_when_resumed(num_rows: int) -> None:
    sampler = RandomBatchSampler(LENGTHS[:num_rows], 8)
    order = [row for batch in sampler for row in batch]
    sampler.fill_last_batch = True
    whole = list(sampler)
    assert {len(batch) for batch in whole} == {8}
    assert [row for batch in whole for row in batch] == (order * 3)[: len(whole) * 8]
    sampler.start_batch = 1
    assert list(sampler) == whole[1:]


def test_sorted_batches_begin_with_the_longest_and_keep_equals_in_order() -> None:
    assert list(SortedBatchSampler([1, 3, 2, 3, 0], 2)) == [[1, 3], [2, 0], [4]]


def test_grouping_by_length_leaves_little_padding() -> None:
    # lengths like those of news: about 40 tokens, a few of 200
    lengths = np.random.default_rng(0).lognormal(3.7, 0.35, size=50_000).astype(np.int32)
    grouped, random = (padding_share(lengths, list(sampler(lengths, 64))) for sampler in SHUFFLED)
    assert grouped < 0.05 < 0.4 < random


def test_padding_share_counts_positions() -> None:
    # 2 x 4 and 1 x 2 positions, 4 + 1 + 2 tokens
    assert padding_share([4, 1, 2], [[0, 1], [2]]) == pytest.approx(3 / 10)


@pytest.mark.parametrize(
    ("batch_size", "seed", "message"), [(0, 0, "`batch_size` .* got 0"), (1, -1, "`seed` .* got -1")]
)
def test_wrong_arguments_are_refused(batch_size: int, seed: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomBatchSampler([1, 2], batch_size, seed)


# Accelerate


@pytest.mark.parametrize("sampler_type", SHUFFLED)
def test_a_prepared_loader_draws_the_epoch_it_is_set_to(sampler_type: type[BatchSampler]) -> None:
    rows = EncodedRows(make_dataset([row % 9 for row in range(50)]))
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=True))
    sampler = sampler_type(rows.lengths, 8, seed=3)
    loader = accelerator.prepare(DataLoader(rows, batch_sampler=sampler, collate_fn=PaddingCollator(0)))
    for epoch in (5, 2):
        undisturbed = sampler_type(rows.lengths, 8, seed=3)
        undisturbed.set_epoch(epoch)
        loader.set_epoch(epoch)
        assert [batch["row"].tolist() for batch in loader] == list(undisturbed)
