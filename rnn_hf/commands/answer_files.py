"""Writing rows with the answers of a classifier, as JSON Lines, JSON, CSV or TSV."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from rnn_hf.onnx_classifier import encodable
from rnn_hf.text_classifier import TextClassifier

from .json_lines import AnswerFormat, json_line, json_lines

# Takes rows, as objects or (for Parquet) as Arrow's record batches, and the answer to each as a line of JSON
Write = Callable[[Any, list[str]], None]


def answer_names(classifier: TextClassifier, form: AnswerFormat) -> list[str]:
    """Return the names of a classifier's answers."""
    (line,) = json_lines(classifier, np.zeros((1, classifier.model.num_labels)), form)
    return [*json.loads(line), *([f"{form.prefix}explanation"] if form.is_explained else [])]


@contextmanager
def answer_writer(
    output: Path | TextIO, ending: str, columns: Sequence[str], answers: Sequence[str], delimiter: str | None
) -> Iterator[Write]:
    """Yield a function that writes rows as text, with the answers after them.

    In CSV and TSV files, lists and objects are JSON. In TSV files, which have no quotes, tabs and line ends become
    spaces.

    Args:
        output: A file, or an open stream.
        ending: Format of the output: .jsonl, .json, .csv or .tsv.
        columns: Names of the columns of the rows.
        answers: Names of the answers.
        delimiter: Character between the columns of a CSV or TSV file. Defaults to a comma or a tab.
    """
    if isinstance(output, Path):
        with (
            output.open("w", encoding="utf-8", newline="") as stream,
            answer_writer(stream, ending, columns, answers, delimiter) as write,
        ):
            yield write
        return
    if ending in (".csv", ".tsv"):
        yield _delimited_writer(output, ending == ".csv", columns, answers, delimiter)
        return
    is_array = ending == ".json"
    output.write("[\n" if is_array else "")
    yield _json_writer(output, is_array)
    output.write("\n]\n" if is_array else "")


def _json_writer(stream: TextIO, is_array: bool) -> Write:
    before = ""

    def write(rows: Sequence[dict[str, Any]], answers: list[str]) -> None:
        nonlocal before
        lines = [
            f"{json_line(row)[:-1]}, {line[1:]}" if row else line for row, line in zip(rows, answers, strict=True)
        ]
        if is_array:
            stream.write(before + ",\n".join(line.rstrip("\n") for line in lines))
            before = ",\n"
        else:
            stream.writelines(lines)
        stream.flush()

    return write


def _delimited_writer(
    stream: TextIO, is_quoted: bool, columns: Sequence[str], answers: Sequence[str], delimiter: str | None
) -> Write:
    delimiter = (delimiter or ("," if is_quoted else "\t")).replace(r"\t", "\t")
    quoting: dict[str, Any] = {} if is_quoted else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n", **quoting)
    unquotable = re.compile(rf"[\r\n{re.escape(delimiter)}]")

    def field(value: Any) -> str:
        text = json_line(value) if isinstance(value, list | dict) else "" if value is None else encodable(str(value))
        return text if is_quoted else unquotable.sub(" ", text)

    writer.writerow(map(field, [*columns, *answers]))

    def write(rows: Sequence[dict[str, Any]], lines: list[str]) -> None:
        for row, line in zip(rows, lines, strict=True):
            answer = json.loads(line)
            writer.writerow(map(field, [*map(row.get, columns), *map(answer.get, answers)]))
        stream.flush()

    return write
