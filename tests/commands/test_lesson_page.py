"""`rnn-hf lesson-page` from models to a page; `tests/lesson_page` has the numbers."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from rnn_hf.commands import lesson_page
from tests.conftest import last_line
from tests.tiny_classifiers import make_classifier


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_classifier(hidden_size=2, id2label={0: "a", 1: "b", 2: "c"}).save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def test_train_trains_the_lessons_networks_on_generated_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--max_train_samples", "60", "--num_train_epochs", "1"]
    monkeypatch.setattr(lesson_page, "TRAINING", [*lesson_page.TRAINING, *quick])
    assert lesson_page.main(["--train"]) == Path("lesson.html")
    data = data_of(tmp_path / "lesson.html")
    cells = [(model["name"], model["cell"], model["hidden_size"]) for model in data["models"]]
    assert cells == [("lesson-rnn", "rnn", 32), ("lesson-lstm", "lstm", 32), ("lesson-gru", "gru", 32)]
    # of the recipe: one text of each label, and all views that need a dataset
    assert len(data["texts"]) == 4
    assert all(model["driving_words"] and model["gradient"] and model["neighbours"] for model in data["models"])
    with pytest.raises(SystemExit, match="2"):
        lesson_page.main(["--train"])
    written = capsys.readouterr()
    assert "'runs/lesson-rnn' is not empty. Leave out `--train`" in last_line(written.err)
    assert re.search(r"Written: lesson.html, 0\.\d MB, in ", written.out)


def test_a_dataset_can_be_named_and_models_need_not_have_one(model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nthe cat sat,a\na dog,b\nthe mat,c\n")
    rows = ["--train_file", str(tmp_path / "rows.csv"), "--test_file", str(tmp_path / "rows.csv")]
    out = ["--output_file", str(tmp_path / "x.html")]
    data = data_of(lesson_page.main([str(model), *rows, *out, "--texts", "the cat sat on a mat"]))
    assert data["models"][0]["num_test_texts"] == 3
    (neighbours,) = data["models"][0]["neighbours"]
    assert {neighbour["label"] for neighbour in neighbours} == {"a", "b", "c"}
    other = tmp_path / "others" / "mine"
    shutil.copytree(model, other)
    data = data_of(lesson_page.main([str(model), str(other), *out]))
    assert data["models"][0]["neighbours"] is None and data["texts"] == list(lesson_page.TEXTS)
    assert [entry["name"] for entry in data["models"]] == [str(model), str(other)]


def test_a_regression_has_a_page(tmp_path: Path) -> None:
    make_classifier(num_labels=1, hidden_size=2, problem_type="regression").save_pretrained(tmp_path / "mine")
    (tmp_path / "rows.jsonl").write_text('{"text": "the cat sat", "label": 0.5}\n{"text": "a dog", "label": 1.5}\n')
    page = lesson_page.main(
        [
            str(tmp_path / "mine"),
            "--train_file",
            str(tmp_path / "rows.jsonl"),
            "--output_file",
            str(tmp_path / "x.html"),
        ]
    )
    (model,) = data_of(page)["models"]
    assert model["accuracy"] is None
    assert model["is_classifier"] is False and {one["label"] for one in model["neighbours"][0]} == {"0.5", "1.5"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Pass model folders, or `--train` to train the lesson's networks first."),
        (["--train", "mine"], "`--train` trains the lesson's networks. Leave out the models."),
        (["nowhere"], "'nowhere'"),
        (["mine", "--texts", " "], "A text of the lesson page must have at least one word, got ' '."),
        (["mine", "--strings_file", "nowhere.json"], "nowhere.json"),
        (["mine", "--output_file", "nowhere/x.html"], "nowhere"),
        (["mine", "--test_file", "nowhere.csv"], "`--test_file` must be a file, but there is none at nowhere.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_writes_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    monkeypatch.chdir(model.parent)
    with pytest.raises(SystemExit, match="2"):
        lesson_page.main(argv)
    assert message in last_line(capsys.readouterr().err)
    assert not Path("lesson.html").exists()
