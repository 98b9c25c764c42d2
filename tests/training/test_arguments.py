import re
import shlex
import tracemalloc
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml
from transformers import TrainingArguments

from rnn_hf import RNNConfig
from rnn_hf.commands.evaluate import EvaluateArguments
from rnn_hf.commands.parser import CommandParser
from rnn_hf.commands.predict import PredictArguments
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
    "ensemble_size",
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


# Words of a command line, and what is wrong with them
WRONG_VALUES = [
    ("--hiden_size 3", "Unknown argument '--hiden_size'. Did you mean `--hidden_size`?"),
    ("--zzzzzz", "Unknown argument '--zzzzzz'. `--help` lists the flags."),
    ("--seed 1 stray", "Unknown argument 'stray'"),
    ("--hidden_size", "expected one argument"),
    ("--hidden_size x", "invalid int value: 'x'"),
    ("--hidden_size 3.5", "invalid int value: '3.5'"),
    ("--learning_rate fast", "invalid float value: 'fast'"),
    ("--bidirectional maybe", "maybe"),
    ("--text_column_names", "text_column_names"),
    ("--cell_type LSTM", "invalid choice: 'LSTM'"),
    ("--cell_type ''", "invalid choice: ''"),
    ("--recurrent_initializer zeros", "invalid choice: 'zeros'"),
    ("--optim sgdd", "invalid choice: 'sgdd'"),
    ("--lr_scheduler_type flat", "invalid choice: 'flat'"),
    ("--save_strategy sometimes", "invalid choice: 'sometimes'"),
    ("--save_dtype int8", "invalid choice: 'int8'"),
    ("--tokenizer_type letters", "invalid choice: 'letters'"),
    ("--problem_type ranking", "invalid choice: 'ranking'"),
    ("--classifier_dropout nan", "`classifier_dropout` must be a finite number"),
    ("--hidden_dropout_prob inf", "`hidden_dropout_prob` must be a finite number"),
    ("--embedding_initializer_range nan", "`embedding_initializer_range` must be a finite number"),
    ("--embedding_initializer_range inf", "`embedding_initializer_range` must be a finite number"),
    ("--embedding_initializer_mean nan", "`embedding_initializer_mean` must be a finite number"),
    ("--learning_rate 0", "`learning_rate` must be above 0, got 0.0"),
    ("--learning_rate nan", "`learning_rate` must be"),
    ("--learning_rate inf", "`learning_rate` must be"),
    ("--num_train_epochs 0", "`num_train_epochs` must be above 0"),
    ("--num_train_epochs inf", "`num_train_epochs` must be"),
    ("--max_steps 0", "`max_steps` must be -1 or at least 1"),
    ("--max_steps -2", "`max_steps` must be at least -1"),
    ("--warmup_steps -1", "`warmup_steps` must be at least 0"),
    ("--per_device_train_batch_size 0", "`per_device_train_batch_size` must be at least 1"),
    ("--per_device_eval_batch_size 0", "`per_device_eval_batch_size` must be at least 1"),
    ("--gradient_accumulation_steps 0", "`gradient_accumulation_steps` must be at least 1"),
    ("--weight_decay -1", "`weight_decay` must be at least 0"),
    ("--max_grad_norm -1", "`max_grad_norm` must be at least 0"),
    ("--adam_beta1 1", "`adam_beta1` must be at least 0 and below 1"),
    ("--seed -1", "`seed` must be at least 0"),
    ("--seed 99999999999999999999999", "`seed` must be at least 0 and at most 4294967295"),
    ("--save_steps 0", "`save_steps` must be at least 1"),
    ("--save_total_limit 0", "`save_total_limit` must be at least 1"),
    ("--early_stopping_patience 0", "`early_stopping_patience` must be at least 1"),
    ("--eval_strategy no --early_stopping_patience 1", "`early_stopping_patience` needs evaluations"),
    (
        "--load_best_model_at_end false --early_stopping_patience 1",
        "`early_stopping_patience` needs `load_best_model_at_end=true`",
    ),
    ("--validation_size 1", "`validation_size` must be at least 0 and below 1"),
    ("--validation_size nan", "`validation_size` must be at least 0 and below 1"),
    ("--max_train_samples 0", "`max_train_samples` must be at least 1"),
    ("--shuffle_buffer_size 0", "`shuffle_buffer_size` must be at least 1"),
    ("--max_length 0", "`max_length` must be at least 1"),
    ("--min_frequency 0", "`min_frequency` must be at least 1"),
    ("--max_extra_words -1", "`max_extra_words` must be at least 0"),
    ("--tokenizer_type bpe --tokenizer_name_or_path there", "are mutually exclusive"),
    ("--dataset_name demo --train_file rows.csv", "are mutually exclusive"),
    ("--tokenizer_name_or_path ''", "`tokenizer_name_or_path` must not be empty"),
    ("--model_name_or_path ''", "`model_name_or_path` must not be empty"),
    ("--dataset_name ''", "`dataset_name` must not be empty"),
    ("--output_dir ''", "`output_dir` must not be empty"),
    ("--push_to_hub", "`push_to_hub` needs a repository"),
    ("--class_weights heavy", "`class_weights` must be `balanced` or numbers above 0"),
    ("--class_weights 1 2 3 nan", "`class_weights` must be `balanced` or numbers above 0"),
]
WRONG_VALUES_OF_OTHERS = [
    (DistillationRunArguments, "--temperature 0", "`temperature` must be above 0"),
    (DistillationRunArguments, "--alpha 2", "`alpha` must be at least 0 and at most 1"),
    (DistillationRunArguments, "--num_noised_copies -1", "`num_noised_copies` must be at least 0"),
    (DistillationRunArguments, "--mask_probability 2", "`mask_probability` must be at least 0 and at most 1"),
    (LanguageModelRunArguments, "--bptt 0", "`bptt` must be at least 1"),
    (LanguageModelRunArguments, "--optim lazy_adamw", "`optim=lazy_adamw` spares word vectors"),
    (LanguageModelRunArguments, "--class_weights balanced", "`class_weights` is only for classifiers"),
    (LanguageModelRunArguments, "--label_smoothing_factor 0.1", "`label_smoothing_factor` is only for classifiers"),
    (LanguageModelRunArguments, "--gradual_unfreezing true", "`gradual_unfreezing` is only for classifiers"),
    (LanguageModelRunArguments, "--num_generated_texts -1", "`num_generated_texts` must be at least 0"),
    (EvaluateArguments, "--threshold 2", "`threshold` must be at least 0 and at most 1"),
    (EvaluateArguments, "--threshold nan", "`threshold` must be at least 0 and at most 1"),
    (EvaluateArguments, "--per_device_eval_batch_size 0", "`per_device_eval_batch_size` must be at least 1"),
    (PredictArguments, "--threshold -1", "`threshold` must be at least 0 and at most 1"),
    (PredictArguments, "--batch_size 0", "`batch_size` must be at least 1"),
    (PredictArguments, "--text a --input_file x", "Drop one of them"),
    (PredictArguments, "--text", "expected at least one argument"),
]


@pytest.mark.parametrize(("words", "says"), WRONG_VALUES)
def test_a_value_that_cannot_be_is_refused(words: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse(*shlex.split(words))


@pytest.mark.parametrize(("arguments", "words", "says"), WRONG_VALUES_OF_OTHERS)
def test_a_value_that_another_job_cannot_use_is_refused(arguments: type, words: str, says: str) -> None:
    required = [entry.name for entry in fields(arguments) if entry.default is entry.default_factory is MISSING]
    given = [word for name in required for word in (f"--{name}", "there")]
    with pytest.raises(ValueError, match=re.escape(says)):
        CommandParser([arguments]).parse([*given, *shlex.split(words)])


@pytest.mark.parametrize("arguments", [LanguageModelRunArguments, DistillationRunArguments])
def test_a_job_of_other_defaults_has_the_same_domains(arguments: type) -> None:
    """So that what one job refuses, the others refuse, too."""
    own, others = ({entry.name: entry for entry in fields(kind)} for kind in (arguments, ClassifierRunArguments))
    for name in own.keys() & others.keys():
        assert own[name].type == others[name].type
        assert own[name].metadata.get("domain") == others[name].metadata.get("domain"), name


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
        ("", "must be a mapping of flags to values, got None"),
        ("# nothing", "must be a mapping of flags to values, got None"),
        ("seed", "must be a mapping of flags to values, got 'seed'"),
        ("3", "must be a mapping of flags to values, got 3"),
        ("seed: 1\n\tlearning_rate: 2", "is not YAML"),
        ("seed: 1\n---\nseed: 2", "is not YAML"),
        ("seed: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("b: *c", "is not YAML"),
        ("? {a: 1}\n: 2", "is not YAML"),
        ("{" * 1500, "is not YAML"),
        ("1: 2", "Unknown key in the recipe .* '1'"),
        ("seed: [[1]]", "`seed` in the recipe .* must be one value or a list"),
        ("seed: 1.5", "invalid int value: '1.5'"),
        ("seed: .nan", "invalid int value: 'nan'"),
        ("seed: 2020-01-01", "invalid int value: '2020-01-01'"),
        ("seed: ''", "invalid int value: ''"),
        ("seed: -1", "`seed` must be at least 0"),
        ("learning_rate: .inf", "`learning_rate` must be a finite number"),
        ("dataset_name: ''", "`dataset_name` must not be empty"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        parse(str(path), "--output_dir", "x")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"seed: \x00"])
def test_a_recipe_of_other_bytes_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not YAML"):
        parse(str(path))


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
