import ast
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token

from rnn_hf.configuration_rnn import CellType
from rnn_hf.errors import plain
from rnn_hf.reporting.dataset_facts import KNOWN
from rnn_hf.reporting.model_card import render_model_card
from rnn_hf.reporting.run_facts import RunFacts, read_run_facts
from rnn_hf.training.arguments import ClassifierRunArguments, LanguageModelRunArguments
from rnn_hf.training.recipes import as_recipe
from tests.hub_cards import LICENSES, PIPELINE_TAGS

# https://github.com/huggingface/huggingface.js, packages/tasks/src/model-libraries.ts: those of text
LIBRARIES = {"transformers", "sentence-transformers", "setfit", "flair", "spacy", "fasttext", "keras", "model2vec"}

CLASS = {"precision": 0.5, "recall": 0.25, "f1": 0.75, "support": 1900}
RESULTS: dict[str, Any] = {
    "test_accuracy": 0.9123, "test_macro_f1": 0.9012, "num_test_examples": 7600, "num_train_examples": 1234,
    "num_validation_examples": 65, "test_per_class": {"World": CLASS, "Sports": CLASS},
    "test_confusion_matrix": [[1800, 100], [7, 1893]],
    "test_calibration": {"expected_calibration_error": 0.0234, "num_bins": 15, "bins": []},
    "validation_accuracy": 0.9277, "epoch": 3.0, "train_runtime": 61.5, "train_samples_per_second": 3456.0,
    "num_processes": 1, "seed": 42, "num_parameters": 65_000, "model_bytes": 130_000, "python_version": "3.12.1",
    "torch_version": "2.13.0", "transformers_version": "5.24.0", "device": "cpu", "num_threads": 2,
}  # fmt: skip

NASTY = [
    "a|b", "two\nlines", "<script>alert(1)</script>", "`x`", "back\\slash", "---", "x\n---\ny", "\r\n---\r\n# x",
    "'one' \"two\"", "key: value", "# heading #", "- item", "{{ name }}{% raw %}", "*bold* _x_", "[x](http://y)",
    "![x](y)", "```", "x\n```\ny", "&lt;", "null", "1e3", "x\u2028y", "\x00", "\ud800", "né 😀", "$x$", " x ",
    "!!python/object:os.system", "~~x~~", "<!-- x", "\ttab", "%s {0}", "\\|", "x\\", "&#124;", "=", "|---|",
]  # fmt: skip


def recipe(**changes: Any) -> dict[str, Any]:
    known = {"dataset_name": "fancyzhx/ag_news"}
    return as_recipe(ClassifierRunArguments(output_dir="run")) | known | changes


def facts(results: dict[str, Any] | None = None, name: str = "ag-news", **changes: Any) -> RunFacts:
    given = {"recipe": recipe()} | changes
    return RunFacts(name=name, results=RESULTS | (results or {}), **given)


def card_text(*args: Any, **changes: Any) -> str:
    return str(render_model_card(facts(*args, **changes)).text)


def page(card: ModelCard) -> list[Token]:
    """Return the blocks that a Markdown renderer sees below the front matter."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(card.text)


def shown(token: Token) -> str:
    """Return what a reader sees of a line; anything but plain text is a mark-up that should not be."""
    assert {child.type for child in token.children or []} <= {"text"}, token.children
    return "".join(child.content for child in token.children or [])


def cells(blocks: list[Token]) -> list[Token]:
    return [after for before, after in pairwise(blocks) if before.type in ("td_open", "th_open")]


def code_blocks(card: ModelCard, language: str) -> list[str]:
    return [block.content for block in page(card) if block.type == "fence" and block.info == language]


def check_survives(card: ModelCard, ordinary: ModelCard, tmp_path: Path) -> ModelCard:
    """Check that a card has the blocks of an ordinary one, and comes back from a file as it was; return it."""
    kinds = [(block.type, block.tag, block.level) for block in page(ordinary)]
    assert [(block.type, block.tag, block.level) for block in page(card)] == kinds
    inline = {child.type for block in page(card) for child in block.children or []}
    assert inline <= {"text", "code_inline", "link_open", "link_close", "image", "softbreak"}
    card.save(tmp_path / "README.md")
    loaded = ModelCard.load(tmp_path / "README.md")
    assert loaded.data.to_dict() == card.data.to_dict()
    assert loaded.data.eval_results == card.data.eval_results
    assert loaded.text == card.text
    return loaded


@pytest.mark.parametrize("label", NASTY)
def test_a_label_is_shown_as_it_is_and_breaks_nothing(label: str, tmp_path: Path) -> None:
    results = {"test_per_class": {label: CLASS, "Sports": CLASS}}
    card = render_model_card(facts(results))
    check_survives(card, render_model_card(facts()), tmp_path)
    assert plain(label) in [shown(cell) for cell in cells(page(card)) if "`" not in cell.content.replace("\\`", "")]
    error = next(block for block in page(card) if block.content.startswith("The most frequent error"))
    assert shown(error) == f"The most frequent error: {plain(label)} classified as Sports, 100 of 1,900 rows."


@pytest.mark.parametrize("name", NASTY)
def test_a_models_name_is_shown_as_it_is_and_breaks_nothing(name: str, tmp_path: Path) -> None:
    card = render_model_card(facts(name=name))
    loaded = check_survives(card, render_model_card(facts()), tmp_path)
    assert shown(page(card)[1]) == plain(name)
    assert loaded.data.model_name == plain(name)
    for code in code_blocks(card, "python"):
        names = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
        assert plain(name) in names
    (command,) = code_blocks(card, "bash")
    assert shlex.split(command)[-2:] == ["--output_dir", f"runs/{plain(name)}"]


@pytest.mark.parametrize("name", NASTY)
def test_a_datasets_name_is_shown_as_it_is_and_breaks_nothing(name: str, tmp_path: Path) -> None:
    def of(file: str) -> ModelCard:
        return render_model_card(facts(recipe=recipe(dataset_name=None, train_file=file)))

    loaded = check_survives(of(name), of("news.csv"), tmp_path)
    title = plain(Path(name).name)
    assert {result.dataset_name for result in loaded.data.eval_results} == {title}
    assert loaded.data.get("datasets") is None
    (line,) = (block for block in page(loaded) if block.content.startswith("The dataset"))
    assert shown(line) == f"The dataset: {title}."


def test_the_front_matter_holds_what_was_measured() -> None:
    data = ModelCard(str(render_model_card(facts()))).data
    assert data.to_dict().keys() == {
        "language", "license", "license_name", "license_link", "library_name", "pipeline_tag", "tags", "datasets",
        "metrics", "widget", "model-index",
    }  # fmt: skip
    measured = {(result.metric_type, result.metric_name): result.metric_value for result in data.eval_results}
    assert measured == {("accuracy", "Accuracy"): 0.9123, ("f1", "Macro F1"): 0.9012}
    assert {(result.dataset_type, result.dataset_split) for result in data.eval_results} == {
        ("fancyzhx/ag_news", "test")
    }
    assert (data.datasets, data.language, data.model_name) == (["fancyzhx/ag_news"], "en", "ag-news")
    assert data["widget"][0]["text"]


def test_the_hub_knows_the_values_of_every_card() -> None:
    for dataset in [*KNOWN, "/a/folder/of/ones/own"]:
        for cell_type in get_args(CellType):
            data = render_model_card(facts(recipe=recipe(dataset_name=dataset, cell_type=cell_type))).data
            assert (data.license in LICENSES) or (data.license is None and dataset not in KNOWN)
            assert (data.license == "other") == (data.license_name is not None) == (data.license_link is not None)
            assert data.pipeline_tag in PIPELINE_TAGS
            assert data.library_name in LIBRARIES
            assert cell_type in data.tags


def test_weights_from_ag_news_do_not_carry_the_licence_of_the_code() -> None:
    card = render_model_card(facts())
    assert card.data.license == "other"
    assert "non-commercial" in card.data.license_name
    assert "non-commercial" in card.text.split("## Licence")[1]


def test_nothing_is_claimed_of_a_dataset_that_nobody_has_described(tmp_path: Path) -> None:
    card = render_model_card(facts(recipe=recipe(dataset_name=str(tmp_path), text_column_names=["a"])))
    for name in ("license", "language", "widget", "datasets"):
        assert card.data.get(name) is None
    for claim in ("2004", "news", "Sci/Tech", "non-commercial", "validation split; "):
        assert claim not in card.text.replace("ag-news", "")


def test_the_text_holds_the_figures() -> None:
    text = card_text()
    for figure in (
        "# ag-news", "91.23 %", "90.12 %", "7,600 rows", "1,234 rows", "50.00 | 25.00 | 75.00 | 1,900", "61.5",
        "World classified as Sports, 100 of 1,900 rows", "is 2.3 % over 15 bins", "65,000 parameters", "0.1 MB",
        "92.77 %", "3.12.1", "2.13.0", "5.24.0", "--seed 42", "| validation | 65 |",
    ):  # fmt: skip
        assert figure in text


def test_several_seeds_are_shown_with_their_mean_and_spread() -> None:
    seeds = [{"seed": 1, "test_accuracy": 0.9323, "test_macro_f1": 0.9}, {"seed": 2, "test_accuracy": 0.9523}]
    text = card_text(other_seeds=seeds)
    assert "| Accuracy | 91.23 % | 93.23 ± 2.00 % | 88.26 to 98.20 % |" in text
    assert "| Macro F1 | 90.12 % | 90.06 ± 0.08 % | 89.30 to 90.82 % |" in text
    assert "It does not cover the choice of test rows" in text
    assert "interval" not in card_text()
    assert "seeds 42, 1, 2" in text
    assert "±" not in card_text()


def test_a_run_without_test_split_has_a_card() -> None:
    absent = ("test_accuracy", "test_macro_f1", "test_per_class", "test_confusion_matrix", "test_calibration")
    card = render_model_card(facts(dict.fromkeys(absent) | {"num_test_examples": 0, "validation_accuracy": None}))
    assert "There was no test split." in card.text
    assert ModelCard(str(card)).data.eval_results is None
    assert "model_name" not in card.data.to_dict()


def test_a_regression_has_a_card_of_its_own_metrics() -> None:
    results = {name: value for name, value in RESULTS.items() if not name.startswith(("test_", "validation_"))}
    results |= {"test_mse": 0.125, "test_r2": 0.5, "validation_r2": 0.25, "validation_accuracy": None}
    card = render_model_card(RunFacts(name="stars", recipe=recipe(), results=results))
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert measured == {"mse": 0.125, "r_squared": 0.5}
    assert "| Mean squared error | 0.125 |" in card.text
    assert "| R² on the validation split | 0.25 |" in card.text
    assert "precision" not in card.text


def test_the_least_that_results_hold_makes_a_card() -> None:
    results = {"num_train_examples": 5, "num_test_examples": 0, "seed": 0}
    assert "trained on 5 rows" in render_model_card(RunFacts(name="x", recipe=recipe(), results=results)).text


@pytest.mark.parametrize("matrix", [[[5, 0], [0, 3]], [[5]], None])
def test_no_error_is_told_where_there_is_none(matrix: list[list[int]] | None) -> None:
    labels = ["World", "Sports"][: len(matrix or ())]
    text = card_text({"test_confusion_matrix": matrix, "test_per_class": dict.fromkeys(labels, CLASS)})
    assert "most frequent error" not in text


def test_of_many_classes_the_most_frequent_ones_are_shown() -> None:
    per_class = {f"class {index}": {**CLASS, "support": index} for index in range(3000)}
    entries = {"true": [7, 7, 8], "predicted": [7, 8, 8], "count": [4, 3, 1]}
    text = card_text({"test_per_class": per_class, "test_confusion_matrix": entries})
    assert "The 50 most frequent of the 3,000 classes, in %; `all_results.json` has all of them:" in text
    assert re.findall(r"^\| class (\d+) ", text, re.MULTILINE) == [str(index) for index in range(2999, 2949, -1)]
    assert "class 7 classified as class 8, 3 of 7 rows." in text


def test_published_results_are_no_measure_only_for_a_part_of_the_rows() -> None:
    assert "As published, the training split has 120,000 rows." in card_text()
    whole = {"num_train_examples": 119_000, "num_validation_examples": 1_000}
    assert "As published" not in card_text(whole)


def test_a_model_that_reads_padding_says_so() -> None:
    assert "reads padding" not in card_text()
    assert "reads padding" in card_text(recipe=recipe(pack_padded_sequences=False))


def test_speed_is_shown_where_it_was_measured() -> None:
    spread = {"median": 12345.6, "percentile_10": 0, "percentile_90": 99999}
    row = {"texts_per_second": spread, "milliseconds_for_one_text": {"median": 1.25}}
    report = {
        "machine": {"cpu": "A|B", "num_threads": 2},
        "versions": {"torch": "2.13.0"},
        "rows": [
            {"name": "ours", "accuracy": 0.915, **row},
            {"name": "no accuracy", "accuracy": None, **row},
            {"name": "part", "accuracy": None, "texts_per_second": spread, "milliseconds_for_one_text": None},
        ],
    }
    text = card_text(prediction=report)
    assert "| ours | 12,346 | 1.25 | 91.5 |" in text
    assert "no accuracy" not in text
    assert "| texts per second |" not in card_text()
    without = "without its n-gram branch"
    assert without not in text and without in card_text(prediction=report, recipe=recipe(ngram_buckets=8))
    assert without not in card_text(prediction={**report, "ngram_buckets": 8}, recipe=recipe(ngram_buckets=8))


def test_a_temperature_is_shown_with_the_error_it_corrects() -> None:
    text = card_text({"temperature": 1.2345, "test_ece": 0.0234, "test_ece_before_scaling": 0.0456})
    assert "divided by a temperature of 1.23," in text
    assert "Without it, the calibration error would be 4.6 %." in text
    assert "temperature" not in card_text()


def test_a_model_trained_on_all_rows_says_whose_the_validation_figures_are() -> None:
    assert "first model" not in card_text({"trained_on_all_rows": False})
    text = card_text({"trained_on_all_rows": True, "num_train_examples": 1299})
    section = text.split("## Training")[1]
    assert "those of a first model, which was trained without the validation rows." in section
    assert "then trained from the start on all rows, training and validation, with the same settings.\n" in section
    assert "| training (validation rows included) | 1,299 |" in text
    temperature = {"temperature": 1.2, "test_ece": 0.02, "test_ece_before_scaling": 0.04}
    text = card_text({"trained_on_all_rows": True, **temperature})
    assert "with the same settings. Its temperature is that of the first model.\n" in text
    text = card_text({"trained_on_all_rows": True, "label_thresholds": {"a": 0.5}})
    assert "with the same settings. Its thresholds are those of the first model.\n" in text


def test_rows_of_validation_that_were_trained_on_are_counted_once() -> None:
    counts = {"num_train_examples": 119_990, "num_validation_examples": 1_000}
    assert "As published" in card_text({"trained_on_all_rows": True, **counts})
    assert "As published" not in card_text({"trained_on_all_rows": False, **counts})


def test_the_thresholds_of_several_labels_are_named() -> None:
    text = card_text({"label_thresholds": {"joy": 0.314, "a|b": 0.5}})
    assert "the highest F1 on the validation split: joy 0.31, a\\|b 0.50.\n" in text
    assert "highest F1" not in card_text()
    many = {f"label {number}": 0.25 for number in range(1_040)}
    text = card_text({"label_thresholds": many})
    assert "label 29 0.25, and 1,010 more in `config.json` (`label_thresholds`)." in text
    assert "label 30 " not in text


def test_an_ensemble_is_described_with_its_source() -> None:
    assert "3 such networks, trained from different seeds, are joined" in card_text(recipe=recipe(ensemble_size=3))
    assert all("such networks" not in card_text(recipe=recipe(**changes)) for changes in ({}, {"ensemble_size": 1}))


@pytest.mark.parametrize(
    ("changes", "ngrams"),
    [
        ({}, "words and word pairs"),
        ({"ngram_order": 1}, "words"),
        ({"ngram_order": 3}, "n-grams of up to 3 words"),
        ({"tokenizer_type": "unigram"}, "tokens and token pairs"),
    ],
)
def test_the_n_gram_branch_is_described_with_its_sources(changes: dict[str, Any], ngrams: str) -> None:
    text = card_text(recipe=recipe(ngram_buckets=65_536, **changes))
    assert f"a linear model of hashed {ngrams} (65,536 buckets; Weinberger et al., 2009)" in text
    assert "(wide and deep: Cheng et al., 2016). Accuracy 91.23 % and macro F1 90.12 % on the test split." in text
    assert "| `ngram_buckets` | `65536` |" in text
    assert "hashed" not in card_text() and "ngram" not in card_text()


def test_steps_are_shown_in_the_place_of_the_epochs_that_they_override() -> None:
    text = card_text(recipe=recipe(max_steps=1_000))
    assert "| `max_steps` | `1000` |" in text and "num_train_epochs" not in text
    assert "| `num_train_epochs` | `3.0` |" in card_text() and "max_steps" not in card_text()


def test_a_share_that_was_chosen_from_the_rows_is_rounded() -> None:
    assert "a stratified random 2.69 % of its" in card_text(recipe=recipe(validation_size=2_000 / 74_430))


def test_figures_are_linked_by_their_place_beside_the_card_where_they_exist(tmp_path: Path) -> None:
    (tmp_path / "all_results.json").write_text(json.dumps(RESULTS))
    (tmp_path / "figures").mkdir()
    for name in ("learning_curves", "confusion_matrix"):
        (tmp_path / "figures" / f"{name}.png").touch()
    read = read_run_facts(tmp_path, name="x", recipe=recipe())
    images = [
        child.attrs["src"]
        for block in page(render_model_card(read))
        for child in block.children or []
        if child.type == "image"
    ]
    assert images == ["figures/confusion_matrix.png", "figures/learning_curves.png"]


def test_the_path_of_a_folder_stays_out_of_the_card(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "not" / "here"):
        changed = recipe(dataset_name=str(path), output_dir=str(path), model_name_or_path=str(path))
        assert str(tmp_path.parent) not in str(render_model_card(facts(recipe=changed)))


def test_the_model_that_training_began_with_is_named_if_it_is_on_the_hub() -> None:
    assert render_model_card(facts(recipe=recipe(model_name_or_path="owner/name"))).data.base_model == "owner/name"
    assert render_model_card(facts(recipe=recipe(model_name_or_path="./runs/x"))).data.base_model is None


LANGUAGE_RESULTS: dict[str, Any] = {
    "validation_perplexity": 98.76, "num_validation_tokens": 4321, "num_validation_examples": 65,
    "num_train_examples": 1234, "num_test_examples": 0, "train_tokens_per_second": 1234.5, "seed": 42,
    "generated_texts": ["a `text`", "", "``` and another"],
}  # fmt: skip


def language_model_facts(name: str = "news-writer") -> RunFacts:
    given = as_recipe(LanguageModelRunArguments(output_dir="run")) | {"dataset_name": "fancyzhx/ag_news"}
    return RunFacts(name=name, recipe=given, results=dict(LANGUAGE_RESULTS))


def test_the_card_of_a_language_model_tells_its_task_its_perplexity_and_what_it_writes() -> None:
    card = render_model_card(language_model_facts())
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.pipeline_tag in PIPELINE_TAGS
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("perplexity", 98.76, "validation")
    [texts] = code_blocks(card, "text")
    assert texts.splitlines() == ["a `text`", "(an empty text)", "``` and another"]
    assert "A recurrent language model" in card.text and "lassification" not in card.text
    assert "| Perplexity | 98.76 |" in card.text
    assert "| `bptt` | `70` |" in card.text and "classifier_pooling" not in card.text
    assert "rnn-hf train-language-model recipe.yaml" in card.text


def test_the_python_of_a_language_models_card_is_python() -> None:
    with_package, with_remote_code = code_blocks(render_model_card(language_model_facts('a "name"')), "python")
    for code in (with_package, with_remote_code):
        ast.parse(code)
    assert with_package.startswith("import rnn_hf")
    assert "trust_remote_code=True" in with_remote_code


def test_a_classifiers_card_tells_where_it_started_and_how_its_layers_were_unfrozen() -> None:
    """Of a folder the name alone: its path is one of the machine it was trained on."""
    changes = {"model_name_or_path": "/home/somebody/writer", "gradual_unfreezing": True}
    text = card_text(recipe=recipe(**changes))
    assert "| `model_name_or_path` | `writer` |" in text and "somebody" not in text
    assert "| `gradual_unfreezing` | `true` |" in text
    assert "gradual_unfreezing" not in card_text()
