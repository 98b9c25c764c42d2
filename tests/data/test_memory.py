import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from rnn_hf.data.batching import EncodedRows
from rnn_hf.data.memory import MappedPages, iterate_texts


def mapped_dataset(folder: Path, num_rows: int = 20_000) -> Dataset:
    """A dataset of about 2 MB a thousand rows, in a file."""
    rows = Dataset.from_dict({"text": [f"{row:06}" * 20 for row in range(num_rows)]})
    rows.save_to_disk(folder / "rows")
    return Dataset.load_from_disk(str(folder / "rows"))


def resident_file_bytes() -> int:
    """The bytes of mapped files that count as this process's memory."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells, and lets go of, mapped pages")
def test_pages_that_were_read_are_let_go_of_and_can_be_read_again(tmp_path: Path) -> None:
    dataset = mapped_dataset(tmp_path)
    pages = MappedPages(dataset)
    pages.release()
    before = resident_file_bytes()
    texts = dataset["text"][:]
    held = resident_file_bytes()
    assert held > before + 1_000_000
    assert pages.release() > 2_000_000
    assert resident_file_bytes() < held - 1_000_000
    assert dataset["text"][:] == texts


def test_a_dataset_in_memory_has_no_pages_to_let_go_of() -> None:
    dataset = Dataset.from_dict({"text": ["one", "two"]})
    assert MappedPages(dataset).release() == 0
    assert list(iterate_texts(dataset)) == ["one", "two"]


def test_texts_come_in_their_order_also_from_a_selection(tmp_path: Path) -> None:
    dataset = mapped_dataset(tmp_path, 100).select([5, 3, 99])
    assert [text[:6] for text in iterate_texts(dataset, batch_size=2)] == ["000005", "000003", "000099"]


def test_batches_stay_right_while_pages_are_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnn_hf.data.batching.ROWS_BETWEEN_RELEASES", 5)
    columns = {"input_ids": [[row] * (row % 7) for row in range(500)], "labels": [0] * 500, "row": list(range(500))}
    rows = Dataset.from_dict(columns | {"length": [row % 7 for row in range(500)]})
    rows.save_to_disk(tmp_path / "rows")
    encoded = EncodedRows(Dataset.load_from_disk(str(tmp_path / "rows")))
    for start in range(0, 500, 20):
        batch = encoded.__getitems__(list(range(start, start + 20)))
        assert batch.tokens.tolist() == np.repeat(batch.row, batch.lengths).tolist()
