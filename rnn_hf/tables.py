"""Classification of folders of Parquet files, in one process or by workers of Ray Data."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from .data.column_guesses import likely_text_columns
from .data.columns import columns_error, joined_texts, text_columns_of
from .files import atomic_folder
from .onnx_classifier import CHUNK_SIZE
from .text_classifier import TextClassifier

# Prefix of the columns of answers
PREFIX = "predicted_"

# Maximum number of rows in a file of a worker; they are in memory together
MAX_ROWS_PER_FILE = 2**16

# Several, so that no worker waits long for the last one
FILES_PER_WORKER = 4


@dataclass
class TableClassifier:
    """Classifies tables of texts: a callable for `pyarrow` tables, and a class for `Dataset.map_batches` of Ray Data.

    It returns the table with the answers after all columns: `predicted_label` and `predicted_probability`; if a text
    may have several labels, `predicted_labels`; for a regression, `predicted_value`, or `predicted_values` by name if
    there are several targets.

    Args:
        classifier: The classifier. If it was loaded from a folder or the Hub, other processes load it from there, too.
        text_column_names: Columns that make up the text, joined by a space; a missing value is an empty text.
        batch_size: Number of texts per batch.
        all_probabilities: Whether to add `predicted_probabilities`, the probability of every label by name.
        threshold: Minimum probability of each label, if a text may have several. Default: the model's own thresholds.

    Example:
        >>> from rnn_hf import RNNConfig, RNNForSequenceClassification
        >>> from rnn_hf.data.tokenizer_training import train_tokenizer
        >>> model = RNNForSequenceClassification(RNNConfig(vocab_size=5, num_labels=3))
        >>> answer = TableClassifier(TextClassifier(model, train_tokenizer(["a dog", "a cat"])), ["text"])
        >>> answer(pa.table({"id": [7, 8], "text": ["a dog", None]})).column_names
        ['id', 'text', 'predicted_label', 'predicted_probability']
    """

    classifier: TextClassifier
    text_column_names: Sequence[str]
    batch_size: int = 256
    all_probabilities: bool = False
    threshold: float | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return a table with the answers to its texts, in the same order."""
        texts = joined_texts(table, self.text_column_names).to_pylist()
        probabilities = self.classifier.predict_proba(texts, self.batch_size, show_progress=False)
        for name, answers in self.columns(probabilities).items():
            table = table.append_column(name, answers)
        return table

    def check_columns(self, schema: pa.Schema) -> None:
        """Check that a table has no columns with the names of answers.

        Raises:
            ValueError: If it has such a column.
        """
        for name in self.columns(np.zeros((0, self.classifier.model.num_labels), dtype=np.float32)):
            if name in schema.names:
                raise ValueError(f'The input must not have the column "{name}", which the predictions get. Rename it.')

    def columns(self, probabilities: np.ndarray) -> dict[str, pa.Array]:
        """Return the columns to add for the result of `predict_proba`.

        Args:
            probabilities: Shape `(num_texts, num_labels)`.
        """
        names, problem_type = self.classifier.label_names, self.classifier.problem_type
        by_name = pa.StructArray.from_arrays([pa.array(column) for column in probabilities.T.copy()], names)
        columns: dict[str, Any]
        if problem_type == "regression":
            columns = {"values": by_name} if len(names) > 1 else {"value": by_name.field(0)}
        else:
            answers = self.classifier.answers(probabilities, self.threshold)
            is_single = problem_type == "single_label_classification"
            columns = (
                {"label": answers, "probability": probabilities.max(axis=1)} if is_single else {"labels": answers}
            )
            columns |= {"probabilities": by_name} if self.all_probabilities else {}
        types = answer_types(self.classifier)
        return {f"{PREFIX}{name}": pa.array(column, types[name]) for name, column in columns.items()}


def answer_types(classifier: TextClassifier) -> dict[str, pa.DataType]:
    """Return the types of all columns that the answers of a classifier may have, by name without `PREFIX`."""
    label = pa.int64() if classifier.model.config.has_integer_labels else pa.string()
    number = pa.float32()
    numbers = pa.struct([(name, number) for name in classifier.label_names])
    return {
        "label": label,
        "labels": pa.list_(label),
        "probability": number,
        "probabilities": numbers,
        "top_k": pa.list_(pa.struct([("label", label), ("probability", number)])),
        "value": number,
        "values": numbers,
    }


def parquet_files(folder: Path) -> tuple[list[Path], pa.Schema, int]:
    """Return the Parquet files of a folder in the order of their names, their columns, and their number of rows.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it has no Parquet file or no rows, or its files have different columns.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder of `input_dir` does not exist: {str(folder)!r}. Check the path.")
    files = sorted(file for file in folder.glob("*.parquet") if not file.name.startswith((".", "_")))
    if not files:
        raise ValueError(f"`input_dir` must hold files that end in .parquet, got none in {str(folder)!r}.")
    num_rows, schema = 0, None
    for file in files:
        try:
            metadata = pq.read_metadata(file)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{str(file)!r} is not a Parquet file: {error}") from error
        columns = metadata.schema.to_arrow_schema()
        schema = schema or columns
        if not columns.equals(schema):
            raise ValueError(f"{str(file)!r} must have the columns of {str(files[0])!r}. Move it to another folder.")
        num_rows += metadata.num_rows
    if num_rows == 0:
        raise ValueError(f"`input_dir` must hold rows, got none in {str(folder)!r}.")
    return files, schema, num_rows


def text_columns_in(head: pa.Table, wanted: Sequence[str] | None, classifier: TextClassifier) -> list[str]:
    """Return the columns that make up the text.

    Args:
        head: The first rows of a table.
        wanted: The columns. Defaults to those that the classifier was trained on; if it does not know them, to the
            result of `text_columns_of`.
        classifier: The classifier.

    Raises:
        ValueError: If a column is missing or does not hold strings, or there is no default.
    """
    rows = Dataset(head)
    try:
        return text_columns_of(rows, wanted or classifier.config.text_column_names)
    except ValueError as error:
        if wanted:
            raise
        raise columns_error(str(error), {"text_column_names": likely_text_columns(head, None)}) from error


def predict_folder(answer: TableClassifier, files: Sequence[Path], folder: Path) -> None:
    """Write Parquet files with the answers added, under the same names and with the same order of rows.

    Args:
        answer: Adds the answers to a table.
        files: The input, read in chunks of a few thousand rows.
        folder: The output folder. It is written completely or not at all.
    """
    with atomic_folder(folder.resolve()) as beside:
        for file in files:
            with pq.ParquetFile(file) as rows:
                schema = answer(rows.schema_arrow.empty_table()).schema
                with pq.ParquetWriter(beside / file.name, schema) as writer:
                    for batch in rows.iter_batches(CHUNK_SIZE):
                        writer.write_table(answer(pa.Table.from_batches([batch])))


@contextmanager
def ray_started(num_workers: int) -> Iterator[None]:
    """Start Ray on this machine, or join the cluster that the environment variable `RAY_ADDRESS` names.

    Ray is started here without a dashboard and without usage reports.

    Args:
        num_workers: Number of workers that must fit.

    Raises:
        ValueError: If Ray is not installed, or the cluster has no CPU left for reading and writing.
        ConnectionError: If there is no cluster at `RAY_ADDRESS`.
    """
    if find_spec("ray") is None:
        raise ValueError('`num_workers` needs Ray. Install it with `pip install "rnn-hf[ray]"`.')
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # an extra

    address = os.environ.get("RAY_ADDRESS")
    here: dict[str, Any] = {"address": "local", "num_cpus": num_workers + 1, "include_dashboard": False}
    ray.init(**({"address": address} if address else here), log_to_driver=False, logging_level=logging.WARNING)
    try:
        num_cpus = int(ray.cluster_resources().get("CPU", 0))
        if num_workers >= num_cpus:
            # the workers would hold all CPUs and wait for ever for rows to be read
            raise ValueError(f"`num_workers` must be below the {num_cpus} CPUs of the cluster, got {num_workers}.")
        yield
    finally:
        ray.shutdown()


def predict_folder_with_ray(
    answer: TableClassifier, files: Sequence[Path], folder: Path, num_rows: int, num_workers: int
) -> None:
    """Write Parquet files with the answers added, as `predict_folder` does, but by workers of Ray Data.

    Ray must be running. The files are numbered: in the order of their names, their rows are in the order of the input.
    A worker that dies is replaced, and its unfinished work is done again. The model, the input and the output must
    have the same paths on every machine of the cluster.

    Args:
        answer: Adds the answers to a table; each worker has its own copy.
        files: The input.
        folder: The output folder. It is written completely or not at all.
        num_rows: Number of rows in all files.
        num_workers: Number of processes that classify, each on one CPU.

    Raises:
        RuntimeError: If a row was lost or written twice.
    """
    import ray  # an extra

    class NumberedFiles(ray.data.Datasink):  # type: ignore[misc]  # an extra has no types where it is not installed
        """One file per task; with `write_parquet`, the threads of Arrow would mix up the rows of a file."""

        def __init__(self, folder: Path) -> None:
            self.folder = folder

        def write(self, blocks: Iterable[pa.Table], ctx: Any) -> None:
            """Write blocks, replacing the file that a dead worker may have left."""
            pq.write_table(pa.concat_tables(blocks), self.folder / f"part-{ctx.task_idx:05}.parquet")

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    rows_per_file = -(-num_rows // (FILES_PER_WORKER * num_workers))
    with atomic_folder(folder.resolve()) as beside:
        (
            ray.data.read_parquet([str(file.resolve()) for file in files], partitioning=None)
            .repartition(target_num_rows_per_block=min(max(rows_per_file, answer.batch_size), MAX_ROWS_PER_FILE))
            .map_batches(
                TableClassifier,
                fn_constructor_kwargs={each.name: getattr(answer, each.name) for each in fields(answer)},
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=num_workers),
            )
            .write_datasink(NumberedFiles(beside))
        )
        num_written = sum(pq.read_metadata(file).num_rows for file in beside.iterdir())
        if num_written != num_rows:
            raise RuntimeError(f"{num_rows:,} rows were read, but {num_written:,} answers were written.")
