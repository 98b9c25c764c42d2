"""Rows read as a stream: every row once, in an order that a resumed run repeats, in constant memory."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from rnn_hf.data.batching import LengthGroupedBatchSampler, RandomBatchSampler, TokenBatch
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.labels import label_names_of, problem_type_of
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.streaming import PoolSampler, StreamedRows, StreamError, TextStream, load_text_stream
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.conftest import ROOT, in_new_process

NUM_ROWS, NUM_FILES = 1003, 4
WORDS = [f"word{number}" for number in range(50)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a dataset of several Parquet files, each row with a different text, and with declared labels."""
    draw = np.random.default_rng(0)
    texts = [f"id{row} " + " ".join(draw.choice(WORDS, draw.integers(0, 30))) for row in range(NUM_ROWS)]
    features = Features(text=Value("string"), label=ClassLabel(names=["a", "b", "c"]))
    rows = Dataset.from_dict({"text": texts, "label": [row % 3 for row in range(NUM_ROWS)]}, features=features)
    place = tmp_path / "rows"
    place.mkdir()
    for number in range(NUM_FILES):
        rows.shard(NUM_FILES, number).to_parquet(place / f"train-{number:05}-of-{NUM_FILES:05}.parquet")
    rows.select(range(60)).to_parquet(place / "test-00000-of-00001.parquet")
    return place


def sampler_of(
    stream: TextStream,
    pool_size: int,
    batch_size: int = 8,
    seed: int = 0,
    sampler_type: Any = LengthGroupedBatchSampler,
) -> PoolSampler:
    tokenizer = train_tokenizer(stream.iterate_texts(), vocab_size=5000)
    return PoolSampler(StreamedRows(stream, tokenizer, None, pool_size), sampler_type, batch_size, seed)


def batches_of(sampler: PoolSampler) -> Iterator[TokenBatch]:
    """Yield the batches as a loader does: each is fetched before the next one is requested."""
    return (sampler.rows.__getitems__(indices) for indices in sampler)


def texts_of(batch: TokenBatch) -> list[tuple[int, ...]]:
    return [tuple(tokens) for tokens in np.split(batch.tokens, np.cumsum(batch.lengths)[:-1])]


@pytest.mark.parametrize("sampler_type", [LengthGroupedBatchSampler, RandomBatchSampler])
@pytest.mark.parametrize("pool_size", [50, 104, 1003, 5000])
def test_an_epoch_holds_every_row_once_encoded_like_a_dataset(folder: Path, pool_size: int, sampler_type: Any) -> None:
    stream, _ = load_text_stream(str(folder))
    sampler = sampler_of(stream, pool_size, sampler_type=sampler_type)
    read = list(batches_of(sampler))
    assert [len(batch.lengths) for batch in read] == [8] * (NUM_ROWS // 8) + [NUM_ROWS % 8]
    rows = load_text_dataset(str(folder), validation_size=0)
    tokenizer = train_tokenizer(rows["train"]["text"][:], vocab_size=5000)
    whole = encode_dataset(rows, tokenizer, None)["train"]
    expected = sorted((tuple(row["input_ids"]), row["labels"]) for row in whole)
    assert len({tokens for tokens, _ in expected}) == NUM_ROWS, "rows that are alike would prove nothing"
    assert (
        sorted(pair for batch in read for pair in zip(texts_of(batch), batch.labels.tolist(), strict=True)) == expected
    )
    assert sampler.rows.num_rows == NUM_ROWS


def test_files_and_rows_come_in_another_order_in_each_epoch_and_with_each_seed(folder: Path) -> None:
    stream, _ = load_text_stream(str(folder))
    orders = {}
    for seed in (0, 1):
        sampler = sampler_of(stream, pool_size=200, seed=seed)
        for epoch in (0, 1, 0):
            sampler.set_epoch(epoch)
            order = [text for batch in batches_of(sampler) for text in texts_of(batch)]
            assert orders.setdefault((seed, epoch), order) == order
    assert len({str(order) for order in orders.values()}) == 4
    firsts = {tuple(sorted(order[:200])) for order in orders.values()}
    assert len(firsts) > 1, "the first buffer is always of the same file"


def test_batches_are_grouped_by_length_within_a_buffer(folder: Path) -> None:
    stream, _ = load_text_stream(str(folder))

    def spread(sampler_type: Any) -> float:
        batches = batches_of(sampler_of(stream, pool_size=500, sampler_type=sampler_type))
        return float(np.mean([np.ptp(batch.lengths) for batch in batches]))

    assert spread(LengthGroupedBatchSampler) < spread(RandomBatchSampler) / 3


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("num_read", [1, 24, 25, 60, 126])
def test_a_resumed_epoch_goes_on_where_it_was_and_reads_nothing_twice(
    folder: Path, num_read: int, is_ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the loader has prefetched a batch of the next buffer, which was not trained on."""
    stream, _ = load_text_stream(str(folder))
    sampler = sampler_of(stream, pool_size=200)  # 25 batches
    sampler.set_epoch(3)
    whole = [texts_of(batch) for batch in batches_of(sampler)]
    batches = batches_of(sampler)
    for _ in range(min(num_read + is_ahead, len(whole))):
        next(batches)
    place = json.loads(json.dumps(sampler.place_of(num_read)))

    later, _ = load_text_stream(str(folder))
    resumed = sampler_of(later, pool_size=200)
    begun = []
    buffers = TextStream.buffers

    def noted(self: TextStream, num_rows: int, order: int = 0, place: Any = None) -> Any:
        begun.append(0 if place is None else place["num_read"])
        return buffers(self, num_rows, order, place)

    monkeypatch.setattr(TextStream, "buffers", noted)
    resumed.go_on(place)
    resumed.set_epoch(3)
    resumed.start_batch = num_read
    assert [texts_of(batch) for batch in batches_of(resumed)] == whole[num_read:]
    assert begun == [200 * (num_read // 25) if num_read < 126 else 1003 - 1003 % 200]
    assert resumed.rows.num_rows == NUM_ROWS
    resumed.start_batch = 0
    assert [texts_of(batch) for batch in batches_of(resumed)] == whole


def test_a_place_that_was_not_noted_is_found_by_reading_again(folder: Path) -> None:
    stream, _ = load_text_stream(str(folder))
    sampler = sampler_of(stream, pool_size=200)
    whole = [texts_of(batch) for batch in batches_of(sampler)]
    other = sampler_of(stream, pool_size=200)
    other.start_batch = 60
    assert [texts_of(batch) for batch in batches_of(other)] == whole[60:]


def test_every_process_can_take_its_part_of_the_last_batch(folder: Path) -> None:
    stream, _ = load_text_stream(str(folder))
    sampler = sampler_of(stream, pool_size=200)
    sampler.fill_last_batch = True
    assert {len(batch.lengths) for batch in batches_of(sampler)} == {8}


# labels


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("labels", "problem", "names"),
    [
        (["sport", "news", "sport", "arts"], "single_label_classification", ["arts", "news", "sport"]),
        ([3, 1, 3, 2], "single_label_classification", ["1", "2", "3"]),
        ([True, False, True, True], "single_label_classification", ["False", "True"]),
        ([0.5, 1.5, -1.0, 2.0], "regression", ["LABEL_0"]),
        ([[0.5, 1.0], [1.5, 2.0], [0.0, 0.0], [1.0, 1.0]], "regression", ["LABEL_0", "LABEL_1"]),
    ],
)
def test_labels_are_read_as_those_of_a_dataset(
    tmp_path: Path, labels: list[Any], problem: str, names: list[str]
) -> None:
    rows = [{"text": f"text {index}", "label": label} for index, label in enumerate(labels)]
    path = write(tmp_path / "rows.jsonl", rows)
    stream, others = load_text_stream(train_file=path, test_file=path)
    whole = load_text_dataset(train_file=path, test_file=path, validation_size=0)
    assert stream.features == whole["train"].features
    assert (problem_type_of(stream), label_names_of(stream)) == (problem, names)
    buffers = list(stream.buffers(3))
    assert [row for buffer, _ in buffers for row in buffer] == list(whole["train"])
    assert [len(buffer) for buffer, _ in buffers] == [3, 1]
    assert list(others["test"]) == list(whole["test"])


def test_several_declared_classes_a_row_are_read(tmp_path: Path) -> None:
    features = Features(text=Value("string"), label=List(ClassLabel(names=["a", "b", "c"])))
    rows = Dataset.from_dict({"text": ["x", "y"], "label": [[2, 0], []]}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    stream, _ = load_text_stream(train_file=tmp_path / "rows.parquet")
    streamed = StreamedRows(stream, train_tokenizer(["x y"], vocab_size=10), None, 10)
    ((buffer, _),) = streamed.buffers(10, 0, None)
    assert buffer.__getitems__([0, 1]).labels.tolist() == [[1, 0, 1], [0, 0, 0]]


def test_several_undeclared_classes_a_row_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"text": "x", "label": ["a", "b"]}, {"text": "y", "label": ["a"]}])
    with pytest.raises(ValueError, match="must be declared to stream rows"):
        load_text_stream(train_file=path)


def test_columns_are_joined_and_cleaned_as_in_a_dataset(tmp_path: Path) -> None:
    rows = [{"title": "Oil  #36;46", "body": "up", "kind": "a"}, {"title": None, "body": "down", "kind": "b"}]
    path = write(tmp_path / "rows.jsonl", rows)
    settings: dict[str, Any] = {
        "text_column_names": ["title", "body"], "label_column_name": "kind", "clean_text": True, "train_file": path
    }  # fmt: skip
    stream, _ = load_text_stream(**settings)
    whole = load_text_dataset(**settings, validation_size=0)["train"]
    assert list(stream.iterate_texts()) == whole["text"][:] == ["Oil $46 up", "down"]


def test_the_first_rows_only_are_read_if_asked_for(folder: Path) -> None:
    stream, _ = load_text_stream(str(folder), max_train_samples=70)
    assert sum(len(buffer) for buffer, _ in stream.buffers(50, order=5)) == 70


# invalid rows


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "Every row must have a label, got none in row 1 of"),
        ("maybe", 'Label "maybe" in row 1 of'),
    ],
)
def test_a_row_that_is_wrong_is_told_when_it_is_read(tmp_path: Path, bad: str | None, message: str) -> None:
    labels = [("no", "yes")[index % 2] for index in range(2500)]
    labels[2001] = bad  # type: ignore[call-overload]  # on purpose
    rows = Dataset.from_dict({"text": [str(index) for index in range(2500)], "label": labels})
    stream = TextStream(
        rows.to_iterable_dataset(), None, "label", ["no", "yes"], "single_label_classification", clean_text=False
    )
    buffers = stream.buffers(1000)
    assert [len(next(buffers)[0]) for _ in range(2)] == [1000, 1000]
    with pytest.raises(StreamError, match=rf"In rows 2,000 to 2,499 of the stream \(row 0 is row 2,000\): {message}"):
        next(buffers)


def test_a_damaged_file_is_told_when_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = folder / f"train-{NUM_FILES - 1:05}-of-{NUM_FILES:05}.parquet"
    last.write_bytes(last.read_bytes()[:200])
    with pytest.raises(StreamError, match=r"could not be read .*Fix its files"):
        load_text_stream(str(folder))  # its first rows are checked
    rows = datasets.load_dataset(str(folder), split="train", streaming=True)
    monkeypatch.setattr("rnn_hf.data.streaming.HEAD_ROWS", 10)
    stream = TextStream(rows, None, "label", None, None, clean_text=False)
    with pytest.raises(StreamError, match=r"could not be read .*Fix its files"):
        list(stream.buffers(100))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column_name": "kind"}, 'Column "kind" is not in the dataset'),
        ({"text_column_names": ["title"]}, 'Text column "title" is not in the dataset'),
        ({"dataset_name": "no/such/folder"}, "no folder"),
    ],
)
def test_what_a_dataset_lacks_is_told_before_anything_is_read(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_text_stream(**{"dataset_name": str(folder), **settings})


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_an_empty_stream_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "rows.parquet":
        Dataset.from_dict({"text": [], "label": []}).to_parquet(path)
    else:
        path.write_text("text,label\n" if name.endswith("csv") else "")
    with pytest.raises(ValueError):
        load_text_stream(train_file=path)


def test_a_stream_without_training_rows_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="no training split"):
        load_text_stream(test_file=folder / "test-00000-of-00001.parquet")


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is only known on Linux")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """200,000 rows and 1,600,000, which are 400 MB, in buffers of 20,000."""
    code = """
import sys
from rnn_hf.data.batching import LengthGroupedBatchSampler
from rnn_hf.data.streaming import PoolSampler, StreamedRows, load_text_stream
from rnn_hf.data.tokenizer_training import train_tokenizer
from scripts.benchmark.peak_memory import PeakMemory
stream, _ = load_text_stream(train_file=sys.argv[1])
tokenizer = train_tokenizer(["word"], vocab_size=10)
sampler = PoolSampler(StreamedRows(stream, tokenizer, None, 20_000), LengthGroupedBatchSampler, 128)
rows = 0
with PeakMemory() as peak:
    for batch in sampler:
        rows += len(sampler.rows.__getitems__(batch).lengths)
print(rows, peak.anonymous)
"""
    path, peaks = tmp_path / "rows.csv", []
    line = "word " * 50
    for num_rows in (200_000, 1_600_000):
        with path.open("w") as file:
            file.write("text,label\n")
            file.writelines(f"{line}{row},{row % 2}\n" for row in range(num_rows))
        done = in_new_process(code, str(path), PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stderr
        rows, peak = map(int, done.stdout.split())
        assert rows == num_rows
        peaks.append(peak)
    print(f"\npeaks of {peaks[0] / 2**20:.0f} and {peaks[1] / 2**20:.0f} MiB")
    assert peaks[1] < peaks[0] + 40 * 2**20
