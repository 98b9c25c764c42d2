"""Classification of tables of any size: the parts of `rnn-hf predict` that need Arrow."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rnn_hf.data.columns import HEAD_ROWS, joined_texts
from rnn_hf.data.table_files import TableFile
from rnn_hf.onnx_classifier import CHUNK_SIZE
from rnn_hf.tables import PREFIX, answer_types, text_columns_in
from rnn_hf.text_classifier import TextClassifier

from .answer_files import Write, answer_names, answer_writer
from .entry import user_errors
from .json_lines import AnswerFormat


class AnsweredTable:
    """A table, the columns of its texts, and the names of its answers.

    Args:
        table: The rows.
        classifier: The classifier.
        text_column_names: Columns of the text. Defaults to those of the training data.
        form: Contents of an answer.

    Attributes:
        form: The same, with a prefix for the names if the table has a column of such a name.
        answers: Names of the answers.

    Raises:
        ValueError: If there are no such columns, or no free names for the answers.
    """

    def __init__(
        self,
        table: TableFile,
        classifier: TextClassifier,
        text_column_names: Sequence[str] | None,
        form: AnswerFormat,
    ) -> None:
        self.table, self.columns = table, table.schema.names
        head = next(iter(table.batches(HEAD_ROWS)), None)
        rows = table.schema.empty_table() if head is None else pa.Table.from_batches([head])
        self.texts = text_columns_in(rows, text_column_names, classifier)
        self.form, self.answers = form, answer_names(classifier, form)
        if set(self.answers) & set(self.columns):
            self.form = replace(form, prefix=PREFIX)
            self.answers = answer_names(classifier, self.form)
        for name in self.answers:
            if name in self.columns:
                raise ValueError(f'The table must not have the column "{name}", which the predictions get. Rename it.')

    def writer(
        self, output: Any, ending: str, classifier: TextClassifier, delimiter: str | None
    ) -> AbstractContextManager[Write]:
        """Return a function that writes the rows of `chunks` and the answers."""
        if ending == ".parquet":
            return parquet_writer(output, self.table.schema, classifier, self.answers)
        is_same = ending == self.table.format
        return answer_writer(output, ending, self.columns, self.answers, delimiter if is_same else None)

    def chunks(self, ending: str) -> Iterator[tuple[Any, list[str]]]:
        """Yield chunks of rows, in the form that the output format needs, and their texts."""
        with user_errors():
            if ending == ".parquet":
                for batch in self.table.batches(CHUNK_SIZE):
                    yield batch, joined_texts(pa.Table.from_batches([batch]), self.texts).to_pylist()
            else:
                for rows in self.table.objects(CHUNK_SIZE):
                    yield rows, [" ".join(_text(row.get(name)) for name in self.texts) for row in rows]


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


@contextmanager
def parquet_writer(
    file: Path, columns: pa.Schema, classifier: TextClassifier, answers: Sequence[str]
) -> Iterator[Write]:
    """Yield a function that writes record batches with the answers after them.

    Args:
        file: The file.
        columns: Columns of the batches; if there are none, rows are not written.
        classifier: The classifier.
        answers: Names of the answers.
    """
    types = answer_types(classifier)
    added = [pa.field(name, types[name.removeprefix(PREFIX)]) for name in answers]
    schema = pa.schema([*columns, *added], columns.metadata)
    with pq.ParquetWriter(file, schema) as writer:

        def write(rows: Any, lines: list[str]) -> None:
            objects = [json.loads(line) for line in lines]
            arrays = [
                pa.array([_typed(row[field.name], field.type) for row in objects], field.type) for field in added
            ]
            stored = rows.columns if len(columns) else []
            writer.write_batch(pa.RecordBatch.from_arrays([*stored, *arrays], schema=schema))

        yield write


def _typed(value: Any, wanted: pa.DataType) -> Any:
    """Return an answer with integers for labels that JSON has as strings of digits."""
    if isinstance(value, list):
        return [_typed(item, wanted.value_type) for item in value]
    if isinstance(value, dict):
        return {name: _typed(item, wanted.field(name).type) for name, item in value.items()}
    return int(value) if value is not None and pa.types.is_int64(wanted) else value
