"""What the source files promise as a whole."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HUB_FILES = {
    "configuration_rnn", "recurrences_rnn", "pooling_rnn", "layers_rnn", "ngrams_rnn", "outputs_rnn",
    "modeling_rnn", "causal_lm_rnn",
}  # fmt: skip

# A module imports those of lower floors, and of its own
FLOORS = [
    {*HUB_FILES, "version", "onnx_classifier", "endpoint"},
    {"files", "errors", "progress", "random_states", "threads", "argument_fields", "standard_streams", "explanations"},
    {"safe_loading"},
    {"data"},
    {"inference", "training", "onnx_export"},
    {"hub", "reporting"},
    {"text_predictor"},
    {"text_classifier", "word_contributions"},
    {"tables", "sklearn", "pipelines", "label_errors", "lesson_page", "public", "onnx_backend", ""},
    {"commands", "__main__"},
]
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
# `TextClassifier.train` and its like import what only they need when they are called
IMPORTED_WHEN_CALLED = {"text_classifier", "text_predictor", "__main__"}


def imported(path: Path, code: str) -> Iterator[tuple[str, bool]]:
    """Yield the modules of the package that a module imports, and whether it does so when it is imported itself."""
    tree = ast.parse(code)
    inside = {id(node) for part in ast.walk(tree) if isinstance(part, ast.FunctionDef) for node in ast.walk(part)}
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: -node.level]) if node.level else ""
            home = ".".join(part for part in (base, node.module) if part)
            names = [f"{home}.{name.name}" for name in node.names] if home == "rnn_hf" else [home]
        else:
            continue
        for name in names:
            if re.match(r"rnn_hf(\.|$)", name):
                yield name.partition(".")[2].partition(".")[0], id(node) not in inside


def module_of(path: Path) -> str:
    """Return the part of the package that a file belongs to: a folder, or a file beside them."""
    first = path.relative_to(ROOT / "rnn_hf").parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports_of_higher_floors(path: Path, code: str) -> list[str]:
    own = module_of(path)
    return [
        name
        for name, is_immediate in imported(path, code)
        if FLOOR_OF[name if name in FLOOR_OF else ""] > FLOOR_OF[own]
        and (is_immediate or own not in IMPORTED_WHEN_CALLED)
    ]


def test_imports_run_down_the_floors_only() -> None:
    paths = sorted((ROOT / "rnn_hf").rglob("*.py"))
    assert {module_of(path) for path in paths} == FLOOR_OF.keys()
    higher = {str(path): imports_of_higher_floors(path, path.read_text(encoding="utf-8")) for path in paths}
    # the package itself lists its public names
    higher.pop(str(ROOT / "rnn_hf" / "__init__.py"))
    assert {path: names for path, names in higher.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "from rnn_hf.training.loop import Run",
        "import rnn_hf.commands.train",
        "from ..text_classifier import TextClassifier",
        "from rnn_hf import reporting",
        "def read():\n    from rnn_hf.hub import push_folder",
    ],
)
def test_an_import_of_a_higher_floor_is_found(line: str) -> None:
    path = ROOT / "rnn_hf" / "data" / "sources.py"
    assert imports_of_higher_floors(path, line)
    assert not imports_of_higher_floors(path, "from ..errors import plain\nfrom .columns import TextColumns")


def test_no_script_imports_another_and_none_changes_the_path() -> None:
    for path in [*(ROOT / "rnn_hf").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        code = path.read_text(encoding="utf-8")
        assert not re.search(r"sys\.path\.(append|insert|extend)", code), path
        if path.parent == ROOT / "scripts":
            assert not re.search(r"^ *(from|import) scripts", code, re.MULTILINE), path


def test_no_file_of_the_package_is_long() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "rnn_hf").rglob("*.py")}
    assert {
        name: length
        for name, length in lengths.items()
        if length > (450 if name.endswith(("_rnn.py", "onnx_classifier.py")) else 400)
    } == {}
    assert len((ROOT / "rnn_hf" / "commands" / "train.py").read_text().splitlines()) <= 120
    assert len((ROOT / "scripts" / "train_with_trainer.py").read_text().splitlines()) <= 120


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for folder in ("rnn_hf", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(path.relative_to(ROOT).as_posix())
    assert len(places) > 50
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
