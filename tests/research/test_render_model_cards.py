import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")

from PIL import Image

from rnn_hf.reporting.figures import draw_figures
from rnn_hf.reporting.model_card import render_model_card
from rnn_hf.reporting.run_facts import read_run_facts
from scripts.research import render_model_cards as script

Train = Callable[..., tuple[dict[str, Any], Path]]
RECIPES = sorted(path.parent for path in script.CARDS.glob("*/recipe.yaml"))


@pytest.mark.parametrize("folder", RECIPES, ids=lambda folder: folder.name)
def test_a_stored_card_is_what_its_files_give(folder: Path) -> None:
    fresh = render_model_card(read_run_facts(folder, **script.described(folder)))
    assert (folder / "README.md").read_text() == str(fresh)


@pytest.mark.parametrize("folder", RECIPES, ids=lambda folder: folder.name)
def test_a_stored_card_has_the_figures_of_its_results(folder: Path, tmp_path: Path) -> None:
    draw_figures(json.loads((folder / "all_results.json").read_text()), tmp_path)
    stored = {path.name for path in (folder / "figures").iterdir()}
    assert stored == {path.name for path in tmp_path.iterdir()}
    for name in stored:
        with Image.open(folder / "figures" / name) as image:
            image.verify()
        assert (folder / "figures" / name).stat().st_size < 60_000
        assert f"](figures/{name})" in (folder / "README.md").read_text()


def test_a_card_that_was_named_is_rendered_from_its_recipe_and_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("recipe.yaml", "all_results.json"):
        shutil.copy(script.CARDS / "ag-news" / name, tmp_path / name)
    script.main([str(tmp_path)])
    assert capsys.readouterr().out == f"Written: {tmp_path / 'README.md'}\n"
    text = (tmp_path / "README.md").read_text()
    assert "`group_by_length`" not in text and "| `optim` | `lazy_adamw` |" in text
    assert "| `gradient_accumulation_steps` | `1` |" in text, "a default that the recipe does not name"
    assert "rnn-hf train recipe.yaml" in text
    assert (tmp_path / "figures" / "confusion_matrix.png").exists()


def test_settings_that_followed_the_data_are_those_of_the_run(tmp_path: Path) -> None:
    """The recipe wins, which names the dataset that others can load."""
    (tmp_path / "recipe.yaml").write_text("dataset_name: fancyzhx/ag_news\n")
    assert script.resolved_recipe(tmp_path / "recipe.yaml")["hidden_size"] == 64
    (tmp_path / "resolved_recipe.yaml").write_text("dataset_name: /home/copy\nhidden_size: 16\nmax_steps: 5\n")
    resolved = script.resolved_recipe(tmp_path / "recipe.yaml")
    assert resolved.items() >= {"dataset_name": "fancyzhx/ag_news", "hidden_size": 16, "max_steps": 5}.items()
    assert resolved["gradient_accumulation_steps"] == 1


@pytest.mark.parametrize("name", ["ag-news-lm", "ag-news-lm-bidirectional"])
def test_a_classifier_has_the_sizes_of_the_language_model_that_it_starts_from(name: str) -> None:
    resolved = script.resolved_recipe(script.CARDS / name / "recipe.yaml")
    sizes = {"hidden_size": 512, "embedding_size": 128, "bidirectional": name.endswith("bidirectional")}
    assert resolved.items() >= {"classifier_pooling": "mean_max_last", "cell_type": "lstm", **sizes}.items()


def test_a_run_writes_the_card_that_is_rendered_from_its_folder(train: Train) -> None:
    _, folder = train("run", "--logging_steps", "2")
    written = (folder / "README.md").read_text()
    assert written == str(render_model_card(read_run_facts(folder, **script.described(folder))))
    for name in ("learning_curves", "confusion_matrix"):
        assert (folder / "figures" / f"{name}.png").exists()
        assert f"](figures/{name}.png)" in written


@pytest.mark.parametrize(("results", "message"), [(None, "all_results.json"), ("{", "Expecting property name")])
def test_a_mistake_of_the_user_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], results: str | None, message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        script.main([str(tmp_path / "nowhere")])
    assert "nowhere" in capsys.readouterr().err
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    if results is not None:
        (tmp_path / "all_results.json").write_text(results)
    with pytest.raises(SystemExit, match="2"):
        script.main([str(tmp_path)])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("render_model_cards: error: ")
    assert message in line
