"""`scripts/research/few_labels.py` on a tiny encoder and a few rows."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from scripts.research import few_labels as script
from scripts.research import panel_datasets
from tests.conftest import last_line
from tests.research.test_panel import made_up


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small copy of TREC, of whose rows the panel takes all."""
    data = tmp_path / "datasets" / "trec" / "data"
    data.mkdir(parents=True)
    for split, num_rows in (("train", 120), ("test", 40)):
        rows = made_up(num_rows, len(split))
        columns = {"text": rows["text"], "coarse_label": [str(label) for label in rows["coarse_label"]]}
        Dataset.from_dict(columns).to_parquet(data / f"{split}-00000-of-00001.parquet")
    panel_datasets.load_splits.cache_clear()
    return tmp_path / "datasets"


def test_a_sample_of_the_rows_has_labels_and_other_rows_have_none(
    encoder: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled = panel_datasets.PanelDataset("TREC", "trec", None, label_columns=("coarse_label",), num_rows=80)
    monkeypatch.setitem(panel_datasets.DATASETS, "trec_coarse", sampled)
    (tmp_path / "vectors.txt").write_text("match 1 2\nbank 3 4\n")
    argv = [
        str(encoder), "--folder", str(folder), "--dataset", "trec_coarse", "--num_unlabelled", "30", "--seeds", "3",
        "--output_dir", str(tmp_path / "runs"), "--output_file", str(tmp_path / "few.json"),
        "--word_vectors", str(tmp_path / "vectors.txt"),
    ]  # fmt: skip
    content = script.main(argv)
    assert json.loads((tmp_path / "few.json").read_text()) == content
    assert [run["name"] for run in content["runs"]] == [script.TEACHER, script.STUDENT, script.STUDENT_WITH_VECTORS]
    assert content["word_vectors"] == "vectors.txt" and content["encoder"] == "encoder"
    assert [run.get("num_unlabelled_examples") for run in content["runs"]] == [None, 30, 30]
    assert all(0 <= run["test_accuracy"] <= 1 for run in content["runs"])
    texts = {
        name: set(Dataset.from_parquet(str(tmp_path / "runs" / "seed_3" / f"{name}.parquet"))["text"])
        for name in ("train", "unlabelled", "test")
    }
    assert [len(texts[name]) for name in ("train", "unlabelled", "test")] == [80, 30, 40]
    assert not texts["train"] & texts["unlabelled"]

    # what is there is not trained again
    monkeypatch.setattr(script, "run_or_exit", lambda command: pytest.fail(f"ran {command}"))
    capsys.readouterr()
    assert script.main(argv) == content
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in table[2:]] == ["teacher", "student", "student with word vectors"]

    # models of other texts are not taken for these
    with pytest.raises(SystemExit, match="2"):
        script.main([*argv, "--num_unlabelled", "20"])
    assert "num_unlabelled: 30`, but this recipe has 20." in last_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--seeds", "1"], "Pass the name or folder of an encoder first."),
        (["x", "--dataset", "clear"], "`--dataset` must have one label a text, got clear."),
        (["x", "--dataset", "imdb"], "`datasets` must be of ag_news_500"),
    ],
)
def test_wrong_arguments_are_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main(argv)
    assert message in last_line(capsys.readouterr().err)
