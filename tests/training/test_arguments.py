import tracemalloc
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from transformers import TrainingArguments

from rnn_hf import RNNConfig
from rnn_hf.commands.parser import CommandParser
from rnn_hf.training.arguments import (
    ClassifierRunArguments,
    DistillationRunArguments,
    LanguageModelRunArguments,
    ModelArguments,
    TrainArguments,
)
from rnn_hf.training.recipes import arguments_of_recipe, as_recipe

CARDS = Path(__file__).parents[2] / "model_cards"
RECIPES = sorted(CARDS.glob("*/recipe.yaml"))
LESSON = {
    "embedding_size": 64, "hidden_size": 32, "per_device_train_batch_size": 16, "num_train_epochs": 1,
    "learning_rate": 1e-3, "optim": "adam", "lr_scheduler_type": "constant", "max_grad_norm": 0, "weight_decay": 0,
    "recurrent_initializer": "uniform", "embedding_initializer_range": 1,
    "embedding_dropout": 0, "word_dropout": 0, "classifier_dropout": 0, "hidden_dropout_prob": 0,
}  # fmt: skip
# Arguments that `TrainingArguments` does not have
OURS = {
    "model_name_or_path", "backward_model_name_or_path", "class_weights", "early_stopping_patience",
    "overwrite_output_dir", "save_dtype",
    "layer_learning_rate_decay", "gradual_unfreezing", "freeze_embeddings_epochs", "temperature_scaling",
    "skip_nonfinite_steps", "tune_minutes", "settings_from_data", "train_on_all_rows", "tune_thresholds",
}  # fmt: skip


def parse(*argv: str) -> dict[str, object]:
    arguments = arguments_of_recipe(Path(argv[0])) if argv[0].endswith(".yaml") else ClassifierRunArguments
    (args,), _ = CommandParser([arguments]).parse(argv)
    return as_recipe(args)


def test_model_flags_have_the_names_and_defaults_of_the_configuration() -> None:
    config = RNNConfig()
    own = {name for name in RNNConfig.__annotations__ if name in config.to_dict() and not name.endswith("_token_id")}
    of_language_models = {"adaptive_softmax_cutoffs", "reads_backward", "tie_word_embeddings", "use_cache"}
    # found by training, and by looking at the labels
    found = {"model_type", "calibration_temperature", "problem_type", "label_thresholds", "has_integer_labels"}
    found.add("text_column_names")
    assert {field.name for field in fields(ModelArguments)} == own - of_language_models - found
    for field in fields(ModelArguments):
        assert field.default == getattr(config, field.name), field.name


def test_training_flags_have_the_names_of_training_arguments() -> None:
    theirs = {field.name for field in fields(TrainingArguments)}
    assert {field.name for field in fields(TrainArguments)} - theirs == OURS


def test_a_recipe_tells_what_it_trains(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("hidden_size: 8\nbptt: 35\n")
    assert arguments_of_recipe(recipe) is LanguageModelRunArguments
    assert parse(str(recipe), "--output_dir", "x")["bptt"] == 35
    recipe.write_text("hidden_size: 8\n")
    assert arguments_of_recipe(recipe) is ClassifierRunArguments
    recipe.write_text("hidden_size: 8\nteacher_name_or_path: [a, b]\n")
    assert arguments_of_recipe(recipe) is DistillationRunArguments


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_every_recipe_is_read(path: Path) -> None:
    written = yaml.safe_load(path.read_text())
    recipe = parse(str(path), "--output_dir", "x")
    assert {name: recipe[name] for name in written} == written


@pytest.mark.parametrize("name", ["lesson-rnn", "lesson-lstm", "lesson-lstm-packed", "gru", "bilstm", "lstm-2-layers"])
def test_the_lessons_recipes_have_its_settings(name: str) -> None:
    recipe = parse(str(CARDS / name / "recipe.yaml"), "--output_dir", "x")
    assert {key: recipe[key] for key in LESSON} == LESSON
    is_padded = name in ("lesson-rnn", "lesson-lstm")
    assert recipe["pack_padded_sequences"] is not is_padded
    assert recipe["train_sampling_strategy"] == ("random" if is_padded else "group_by_length")


def test_the_command_line_wins_over_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("learning_rate: 1e-2\nbidirectional: true\ntext_column_names: [title, body]\nword_vectors: null\n")
    recipe = parse(str(path), "--output_dir", "x", "--learning_rate", "0.5")
    assert recipe["learning_rate"] == 0.5
    assert recipe["bidirectional"] is True
    assert recipe["text_column_names"] == ["title", "body"]


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("learning_rate: 1e-2\n")
    assert yaml.safe_load(path.read_text())["learning_rate"] == "1e-2"
    assert parse(str(path), "--output_dir", "x")["learning_rate"] == 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden_size: 3", r"hiden_size.*Did you mean `--hidden_size`"),
        ("hidden_size: wide", "hidden_size.*invalid int value: 'wide'"),
        ("hidden_size: {a: 1}", "`hidden_size` in the recipe .* must be one value or a list"),
        ("hidden_size: [1, 2]", "2"),
        ("bidirectional: maybe", "Truthy value expected"),
        ("cell_type: transformer", "invalid choice: 'transformer'"),
        ("num_train_epochs: -1", "`num_train_epochs` must be above 0, got -1"),
        ("validation_size: 1", "`validation_size` must be at least 0 and below 1, got 1"),
        ("max_steps: 0", "`max_steps` must be -1 or at least 1"),
        ("- a list", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("[" * 5000, "is not YAML.*recursion"),
        ("seed: !!int ''", "is not YAML"),
        ("seed: !!bool perhaps", "is not YAML"),
        ("seed: 2026-13-45", "is not YAML.*month must be in 1..12"),
        ('dataset_name: "\\UFFFFFFFF"', "is not YAML"),
        ("dataset_name: \0", "is not YAML"),
        ("text_column_names: &names [a]\nclass_weights: *names", r"is not YAML.*an alias \(`\*`\)"),
        ("a: &a {}\n<<: *a", "an alias"),
        ("seed: 1\nseed: 2", "key `seed` occurs more than once"),
        ("--- 1\n--- 2", "expected a single document"),
        ("seed: !!set {1}", "`seed` in the recipe .* must be one value or a list, got {1}"),
        ("train_file: !!binary aGVsbG8=", "must be one value or a list, got b'hello'"),
        ("text_column_names: [a, null]", "must be one value or a list"),
        ("text_column_names: [a, --push_to_hub]", "do not start with a dash, got '--push_to_hub'"),
        ("text_column_names: [a, --]", "do not start with a dash, got '--'"),
        ("eval_strategy: --", "`--` cannot be a value, got '--eval_strategy=--'"),
        ("help: true", "Unknown key .* 'help'"),
        ("? [a, b]\n: 1", "unhashable key"),
        ("2026-01-01: 1", "Unknown key .* '2026-01-01'"),
        ("on: 1", "Unknown key .* 'True'"),
        ("{eval_strategy: 'no', early_stopping_patience: 2}", "`early_stopping_patience` needs evaluations"),
        ("{dataset_name: demo, train_file: x.csv}", "`dataset_name` and files"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        parse(str(path), "--output_dir", "x")


def test_a_text_that_looks_like_a_flag_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("dataset_name: --push_to_hub\nhub_revision: 2026-01-01\ntext_column_names: ['=a b']\n")
    recipe = parse(str(path), "--output_dir", "x")
    assert recipe["dataset_name"] == "--push_to_hub" and recipe["push_to_hub"] is False
    assert (recipe["hub_revision"], recipe["text_column_names"]) == ("2026-01-01", ["=a b"])


@pytest.mark.parametrize("merge", ["", "<<: "], ids=["values", "merged keys"])
def test_a_recipe_that_would_unfold_to_billions_of_values_takes_no_memory(tmp_path: Path, merge: str) -> None:
    path = tmp_path / "recipe.yaml"
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{{merge or 'x: '}[{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    path.write_text("\n".join(lines))
    tracemalloc.start()
    with pytest.raises(ValueError, match="an alias"):
        parse(str(path), "--output_dir", "x")
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_a_message_does_not_repeat_a_whole_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    for text in (f"seed: [{{a: {'x' * 5000}}}]", f"[{'x' * 5000}]", f"seed: !!float {'x' * 5000}"):
        path.write_text(text)
        with pytest.raises(ValueError, match="recipe") as error:
            parse(str(path), "--output_dir", "x")
        assert len(str(error.value)) < 1000


def test_a_recipe_that_does_not_exist_is_refused() -> None:
    with pytest.raises(FileNotFoundError):
        parse("nowhere.yaml", "--output_dir", "x")
