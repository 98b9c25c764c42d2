"""Small datasets in files and folders."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet


def write_csv(path: Path, labels: list[str], texts: list[str] | None = None) -> Path:
    texts = texts or [f"text {row}" for row in range(len(labels))]
    path.write_text("text,label\n" + "".join(f"{t},{label}\n" for t, label in zip(texts, labels, strict=True)))
    return path


def write_folder(folder: Path, **splits: dict[str, list[object]]) -> str:
    """Write a dataset in the Hub's layout, and return its path."""
    (folder / "data").mkdir(parents=True)
    for split, columns in splits.items():
        pa.parquet.write_table(pa.table(columns), folder / "data" / f"{split}-0.parquet")
    return str(folder)
