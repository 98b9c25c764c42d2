"""The lesson: a notebook that is stored without outputs and runs from top to bottom."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

PATH = ROOT / "scripts" / "lesson.ipynb"

# What a reader sees in tables, as JSON
FIGURES = """
import json

print(json.dumps({
    "accuracy": {row["model"]: row["validation accuracy, %"] for row in results},
    "change by padding": [float(with_padding(model, TWINS[0]).data.std().max()) for model in (padded, packed)],
    "test accuracy": test.metrics["test_accuracy"],
    "same logits": same_logits,
    "predicted": classifier.predict(TWINS),
}))
"""


@pytest.fixture(scope="module")
def notebook() -> Any:
    return nbformat.read(PATH, as_version=nbformat.NO_CONVERT)


def code_cells(notebook: Any) -> list[Any]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 20
    return cells


def printed(notebook: Any, name: str) -> str:
    """Return what the cell of a name printed, or the text of its result."""
    (cell,) = [cell for cell in notebook.cells if cell.id == name]
    return "".join(
        output.get("text") or output["data"]["text/plain"] for output in cell.outputs if output.get("name") != "stderr"
    ).strip()


def test_it_is_stored_as_a_notebook_of_version_4_without_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.metadata.kernelspec.name) == (4, "python3")
    for cell in code_cells(notebook):
        assert (cell.outputs, cell.execution_count) == ([], None), cell.id
        assert "execution" not in cell.metadata, cell.id


def test_each_cell_compiles_and_names_no_place_of_one_machine(notebook: Any) -> None:
    for cell in code_cells(notebook):
        compile(cell.source, cell.id, "exec")
    for cell in notebook.cells:
        assert not re.search(r"""(^|[\s"'(=])(/|~/|[A-Za-z]:\\)\w""", cell.source), cell.id


def test_ruff_accepts_it() -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, str(PATH)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_it_runs_without_a_network_and_shows_what_it_says(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "empty"
    folder.mkdir()
    notebook.cells.append(nbformat.v4.new_code_cell(FIGURES, id="figures"))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()

    assert {path.name for path in folder.iterdir()} == {"runs"}
    assert printed(notebook, "rnn-step") == "True"
    assert printed(notebook, "lstm-step").split() == ["True", "True"]
    assert printed(notebook, "share").startswith("Nothing was pushed")
    figures = json.loads(printed(notebook, "figures"))
    accuracy = figures["accuracy"]
    packed = accuracy["LSTM, packed"]
    assert packed > 90
    assert packed > accuracy["LSTM, reads padding"]
    assert packed > accuracy["LSTM, reads padding to 100 words"] + 40
    assert packed > accuracy["plain RNN, packed"]
    of_padded, of_packed = figures["change by padding"]
    assert of_packed < 1e-6 < 1e-3 < of_padded
    assert figures["test accuracy"] > 0.9
    assert figures["same logits"]
    assert figures["predicted"] == ["Business", "Sports"]
