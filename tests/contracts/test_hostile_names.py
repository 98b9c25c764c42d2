"""Names in data never become paths, markup or commands, in any script."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from rnn_hf import TextClassifier
from rnn_hf.commands import evaluate, predict, train
from rnn_hf.errors import plain
from tests.conftest import TINY_RUN
from tests.reporting.test_model_card import cells, page, shown

LABELS = [
    "../../etc/passwd", "/etc/passwd", "<script>alert(1)</script>", "| a |", "[x](javascript:alert(1))", "two\nlines",
    '"', "'", "---", "--- !!python/object:os.system", "null", "*alias", "$\\frac{", "%s{0}", "\x1b[2J", "\u202e",
    "=1+1", "x" * 3000, "",
]  # fmt: skip


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on such labels; its folder, file and columns also have such names."""
    folder = tmp_path_factory.mktemp("work")
    rows = [{"<b>t</b>": f"words of {index % 5}", "--label": label} for index, label in enumerate(LABELS * 4)]
    file = folder / "[x](javascript:1) <i> $( `id` %20.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train.main(
        [
            *TINY_RUN[2:], "--train_file", str(file), "--test_file", str(file), "--label_column_name=--label",
            "--text_column_names", "<b>t</b>", "--output_dir", str(folder / "<img src=x>"),
        ]
    )  # fmt: skip
    return folder


@pytest.fixture
def run(surroundings: Path) -> Path:
    return surroundings / "<img src=x>"


def test_nothing_is_written_beside_the_run_and_every_file_can_be_read(surroundings: Path, run: Path) -> None:
    assert len(list(surroundings.iterdir())) == 2
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzREADM_/.") for name in files), files
    assert sorted(TextClassifier.from_pretrained(run).labels) == sorted(LABELS)
    results = json.loads((run / "all_results.json").read_text())
    assert sorted(results["test_per_class"]) == sorted(LABELS)
    assert yaml.safe_load((run / "recipe.yaml").read_text())["label_column_name"] == "--label"


def test_the_written_recipe_repeats_the_run(run: Path, tmp_path: Path) -> None:
    again = train.main([str(run / "recipe.yaml"), "--output_dir", str(tmp_path / "again")])
    first = json.loads((run / "all_results.json").read_text())
    assert again["test_per_class"] == first["test_per_class"]


def test_the_card_shows_the_labels_and_holds_no_markup_of_theirs(run: Path) -> None:
    card = ModelCard.load(run / "README.md")
    kinds = {block.type for block in page(card)} | {
        child.type for block in page(card) for child in block.children or []
    }
    assert not {kind for kind in kinds if "html" in kind or "link" in kind}
    table = [shown(cell) for cell in cells(page(card)) if not cell.content.startswith("`")]
    start = table.index("class") + 5
    assert sorted(table[start : start + 5 * len(LABELS) : 5]) == sorted(map(plain, LABELS))
    assert str(run.parent) not in card.content


def test_what_predict_writes_is_a_line_of_json_for_each_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict.main(["--model_name_or_path", str(run), "--all_probabilities", "--text", "words of 1", "words of 2"])
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    answers = [json.loads(line) for line in out.splitlines()]
    assert [sorted(answer["probabilities"]) for answer in answers] == [sorted(LABELS)] * 2


def test_a_label_without_a_utf_8_form_is_written_in_escapes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One from a file of rows cannot have it, but that of a configuration can."""
    classifier = TextClassifier.from_pretrained(run)
    classifier.model.config.id2label = {index: f"\ud800{index}" for index in range(len(LABELS))}
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    predict.main(["--model_name_or_path", str(tmp_path), "--output_file", str(tmp_path / "out.jsonl"), "--text", "a"])
    assert json.loads((tmp_path / "out.jsonl").read_text())["label"][0] == "\ud800"


def test_what_evaluate_prints_cannot_steer_a_terminal(
    surroundings: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = surroundings.glob("*.jsonl")
    evaluate.main(
        [
            "--model_name_or_path", str(run), "--test_file", str(file), "--label_column_name=--label", "--use_cpu",
            "--text_column_names", "<b>t</b>", "--output_file", str(tmp_path / "x.json"),
        ]
    )  # fmt: skip
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert "two lines" in out
    assert sorted(json.loads((tmp_path / "x.json").read_text())["per_class"]) == sorted(LABELS)
