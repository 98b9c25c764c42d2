from typing import Any

import pytest
from huggingface_hub import ModelCard

from rnn_hf import RNNConfig
from rnn_hf.reporting.model_card import render_model_card

RESULTS: dict[str, Any] = {
    "test_accuracy": 0.9123, "test_macro_f1": 0.9012, "num_test_examples": 7600, "num_train_examples": 1234,
    "test_per_class": {"World": {"precision": 0.5, "recall": 0.25, "f1": 0.75, "support": 1900}},
    "validation_accuracy": 0.92, "epoch": 3.0, "train_runtime": 61.5, "train_samples_per_second": 3456.0,
    "num_processes": 1, "seed": 42, "num_parameters": 65_000, "torch_version": "2", "transformers_version": "5",
}  # fmt: skip
RECIPE = {"dataset_name": "fancyzhx/ag_news", "train_file": None, "output_dir": "some/where/ag-news"}


def render(**changes: Any) -> ModelCard:
    return render_model_card(RESULTS | changes, RECIPE, RNNConfig().to_dict())


def test_the_front_matter_holds_what_was_measured() -> None:
    data = ModelCard(str(render())).data
    assert (data.library_name, data.pipeline_tag, data.model_name) == (
        "transformers",
        "text-classification",
        "ag-news",
    )
    measured = {result.metric_type: result.metric_value for result in data.eval_results}
    assert measured == {"accuracy": 0.9123, "f1": 0.9012}
    assert {result.dataset_type for result in data.eval_results} == {"fancyzhx/ag_news"}


def test_the_text_holds_the_figures() -> None:
    text = render().text
    for figure in (
        "# ag-news",
        "91.23 %",
        "90.12 %",
        "7,600 rows",
        "1,234 rows",
        "50.00 | 25.00 | 75.00 | 1,900",
        "61.5",
    ):
        assert figure in text


def test_a_run_without_test_split_has_a_card() -> None:
    card = render(test_accuracy=None, test_macro_f1=None, num_test_examples=0, validation_accuracy=None)
    assert "There was no test split." in card.text
    assert ModelCard(str(card)).data.eval_results is None


@pytest.mark.parametrize("label", ["a|b", "two\nlines", "<script>", "`x`", "back\\slash"])
def test_a_label_cannot_break_its_row(label: str) -> None:
    card = render(test_per_class={label: RESULTS["test_per_class"]["World"]})
    row = next(line for line in card.text.splitlines() if "50.00 | 25.00" in line)
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 6
    assert "<script>" not in row


def test_the_path_of_a_folder_stays_out_of_the_card(tmp_path: Any) -> None:
    recipe = {"dataset_name": str(tmp_path), "train_file": None, "output_dir": str(tmp_path / "model")}
    assert str(tmp_path.parent) not in str(render_model_card(RESULTS, recipe, RNNConfig().to_dict()))
