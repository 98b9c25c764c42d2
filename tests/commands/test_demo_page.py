"""The files of the demo page; `tests/browser` opens it in a browser."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard

from rnn_hf.commands import demo_page
from rnn_hf.files import read_json
from tests.conftest import last_line
from tests.tiny_classifiers import make_classifier


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_classifier(id2label=dict(enumerate(["</script>", "$a", "é"]))).save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def test_a_page_is_a_static_space_with_all_that_it_needs(model: Path, tmp_path: Path) -> None:
    page = demo_page.main(
        [str(model), "--output_dir", str(tmp_path / "page"), "--examples", "a\udcff $x", "</script>"]
    )
    files = {str(path.relative_to(page)) for path in page.rglob("*") if path.is_file()}
    assert files == {
        "README.md", "index.html", "model/config.json", "model/tokenizer.json", "model/tokenizer_config.json",
        "model/onnx/model_quantized.onnx",
    }  # fmt: skip
    assert SpaceCard.load(page / "README.md").data.sdk == "static"
    html = (page / "index.html").read_text()
    settings = json.loads(re.search(r'<script id="settings"[^>]*>(.*?)</script>', html, re.DOTALL)[1])  # type: ignore[index]
    assert settings["label_names"] == ["</script>", "$a", "é"] and settings["examples"][1] == "</script>"
    assert (settings["dtype"], settings["max_length"], settings["wasm"]) == ("q8", 9, None)
    assert settings["library"].startswith("https://cdn.jsdelivr.net/npm/@huggingface/transformers@")
    assert "<title>mine</title>" in html and "$title" not in html
    assert not any(token["special"] for token in read_json(page / "model" / "tokenizer.json")["added_tokens"])


def test_a_killed_run_does_not_block_the_next(model: Path, tmp_path: Path) -> None:
    (tmp_path / ".page.tmp").mkdir()
    demo_page.main([str(model), "--output_dir", str(tmp_path / "page"), "--dtype", "fp32"])
    assert (tmp_path / "page" / "model" / "onnx" / "model.onnx").is_file() and not (tmp_path / ".page.tmp").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output_dir", "{tmp}/full"], "`--output_dir` must be a new or empty folder"),
        (["--output_dir", "{tmp}/page", "--library_dir", "{tmp}"], "Run `npm install @huggingface/transformers`"),
        (["--output_dir", "{tmp}/page", "--dtype", "fp16"], "invalid choice: 'fp16'"),
        ([], "the following arguments are required: --output_dir"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(SystemExit, match="2"):
        demo_page.main([str(model), *(word.format(tmp=tmp_path) for word in argv)])
    assert message in last_line(capsys.readouterr().err)
    assert not (tmp_path / "page").exists()


def test_a_tokenizer_that_the_browser_would_not_follow_is_refused(tmp_path: Path) -> None:
    classifier = make_classifier()
    classifier.tokenizer.truncation_side = "left"
    with pytest.raises(ValueError, match="cannot truncate texts as this tokenizer does"):
        demo_page.write_demo_page(classifier, tmp_path / "page", name="mine")
    assert not (tmp_path / "page").exists()
