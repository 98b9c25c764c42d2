"""What cannot be an argument or a recipe is refused by every script in one line, before anything is written."""

from pathlib import Path

import pytest

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.data.tokenizer_training import save_tokenizer, train_tokenizer
from scripts.research import baselines
from tests.refusals import assert_refused
from tests.test_hub import make_classifier, save_folder

# The classes of the demo
NAMES = dict(enumerate(["World", "Sports", "Business", "Sci/Tech"]))

TRAINING = ("train", "train_language_model", "distill", "train_with_trainer")

# Flags that every training script has, and what is wrong with them
OF_TRAINING = [
    (["--hiden_size", "3"], "Did you mean `--hidden_size`?"),
    (["--zzzzzz"], "Unknown argument '--zzzzzz'"),
    (["stray"], "stray"),
    (["--hidden_size"], "expected one argument"),
    (["--hidden_size", "x"], "invalid int value: 'x'"),
    (["--hidden_size", "3.5"], "invalid int value: '3.5'"),
    (["--hidden_size", "0"], "`hidden_size` must be at least 1, got 0."),
    (["--hidden_size", "-1"], "`hidden_size` must be at least 1, got -1."),
    (["--vocab_size", "0"], "`vocab_size` must be at least 1, got 0."),
    (["--vocab_size", "1"], "`vocab_size - 1` (0), got 1"),
    (["--embedding_size", "0"], "`embedding_size` must be at least 1"),
    (["--num_hidden_layers", "0"], "`num_hidden_layers` must be at least 1"),
    (["--cell_type", "LSTM"], "invalid choice: 'LSTM'"),
    (["--cell_type", ""], "invalid choice: ''"),
    (["--embedding_dropout", "1"], "`embedding_dropout` must be at least 0 and below 1"),
    (["--embedding_dropout", "-0.1"], "`embedding_dropout` must be at least 0 and below 1"),
    (["--classifier_dropout", "nan"], "`--classifier_dropout` must be a finite number"),
    (["--hidden_dropout_prob", "inf"], "`--hidden_dropout_prob` must be a finite number"),
    (["--word_dropout", "2"], "`word_dropout` must be at least 0 and below 1"),
    (["--embedding_initializer_range", "-1"], "`embedding_initializer_range` must be at least 0"),
    (["--embedding_initializer_range", "nan"], "`--embedding_initializer_range` must be a finite number"),
    (["--embedding_initializer_range", "inf"], "`--embedding_initializer_range` must be a finite number"),
    (["--embedding_initializer_mean", "nan"], "`--embedding_initializer_mean` must be a finite number"),
    (["--recurrent_initializer", "zeros"], "invalid choice: 'zeros'"),
    (["--bidirectional", "maybe"], "maybe"),
    (["--learning_rate", "0"], "`--learning_rate` must be above 0"),
    (["--learning_rate", "nan"], "`--learning_rate` must be"),
    (["--learning_rate", "inf"], "`--learning_rate` must be"),
    (["--learning_rate", "fast"], "invalid float value: 'fast'"),
    (["--num_train_epochs", "0"], "`--num_train_epochs` must be above 0"),
    (["--num_train_epochs", "inf"], "`--num_train_epochs` must be"),
    (["--max_steps", "0"], "`--max_steps` must be -1 or at least 1"),
    (["--max_steps", "-2"], "`--max_steps` must be at least -1"),
    (["--warmup_steps", "-1"], "`--warmup_steps` must be at least 0"),
    (["--per_device_train_batch_size", "0"], "`--per_device_train_batch_size` must be at least 1"),
    (["--per_device_eval_batch_size", "0"], "`--per_device_eval_batch_size` must be at least 1"),
    (["--gradient_accumulation_steps", "0"], "`--gradient_accumulation_steps` must be at least 1"),
    (["--weight_decay", "-1"], "`--weight_decay` must be at least 0"),
    (["--max_grad_norm", "-1"], "`--max_grad_norm` must be at least 0"),
    (["--adam_beta1", "1"], "`--adam_beta1` must be at least 0 and below 1"),
    (["--optim", "sgdd"], "invalid choice: 'sgdd'"),
    (["--lr_scheduler_type", "flat"], "invalid choice: 'flat'"),
    (["--seed", "-1"], "`--seed` must be at least 0"),
    (["--seed", "99999999999999999999999"], "`--seed` must be at least 0 and at most 4294967295"),
    (["--save_strategy", "sometimes"], "invalid choice: 'sometimes'"),
    (["--save_steps", "0"], "`--save_steps` must be at least 1"),
    (["--save_total_limit", "0"], "`--save_total_limit` must be at least 1"),
    (["--save_dtype", "int8"], "invalid choice: 'int8'"),
    (["--eval_strategy", "no", "--early_stopping_patience", "1"], "`--early_stopping_patience` needs evaluations"),
    (["--early_stopping_patience", "0"], "`--early_stopping_patience` must be at least 1"),
    (["--validation_size", "1"], "`--validation_size` must be at least 0 and below 1"),
    (["--validation_size", "nan"], "`--validation_size` must be at least 0 and below 1"),
    (["--max_train_samples", "0"], "`--max_train_samples` must be at least 1"),
    (["--shuffle_buffer_size", "0"], "`--shuffle_buffer_size` must be at least 1"),
    (["--max_length", "0"], "`--max_length` must be at least 1"),
    (["--min_frequency", "0"], "`--min_frequency` must be at least 1"),
    (["--min_frequency", "99999999"], "`min_frequency`"),
    (["--tokenizer_type", "letters"], "invalid choice: 'letters'"),
    (["--tokenizer_type", "bpe", "--vocab_size", "3"], "`vocab_size` must be at least"),
    (["--tokenizer_type", "bpe", "--tokenizer_name_or_path", "there"], "are mutually exclusive"),
    (["--tokenizer_name_or_path", "./nowhere"], "./nowhere"),
    (["--tokenizer_name_or_path", ""], "`--tokenizer_name_or_path` must not be empty"),
    (["--model_name_or_path", "./nowhere"], "./nowhere"),
    (["--model_name_or_path", ""], "`--model_name_or_path` must not be empty"),
    (["--word_vectors", "./nowhere.txt"], "nowhere.txt"),
    (["--word_vectors", "."], "got the directory ."),
    (["--max_extra_words", "-1"], "`--max_extra_words` must be at least 0"),
    (["--train_file", "rows.csv"], "are mutually exclusive"),
    (["--dataset_name", "./nowhere"], "./nowhere"),
    (["--dataset_name", ""], "`--dataset_name` must not be empty"),
    (["--problem_type", "ranking"], "invalid choice: 'ranking'"),
    (["--label_column_name", "topic"], '"topic" is not in the dataset (columns: text, label)'),
    (["--text_column_names", "title"], '"title" is not in the dataset (columns: text, label)'),
    (["--text_column_names", "label"], '"label" is the label'),
    (["--text_column_names"], "text_column_names"),
    (["--report_to", "tracker-of-nobody"], "tracker-of-nobody"),
    (["--push_to_hub"], "`--push_to_hub` needs a repository"),
    (["--resume_from_checkpoint", "./nowhere"], "nowhere"),
    (["--output_dir", "{out}/all_results.json"], "all_results.json' is a file"),
    (["--output_dir", ""], "`--output_dir` must not be empty"),
    (["--output_dir", "{out}/all_results.json/run"], "all_results.json' is a file"),
]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classifier = make_classifier()
    model = RNNForSequenceClassification(RNNConfig(vocab_size=classifier.model.config.vocab_size, id2label=NAMES))
    return save_folder(TextClassifier(model, classifier.tokenizer), tmp_path_factory.mktemp("model"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that holds the results of another run."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "all_results.json").write_text('{"test_accuracy": 0.9}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize("script", TRAINING)
@pytest.mark.parametrize(("argv", "says"), OF_TRAINING, ids=[" ".join(argv) for argv, _ in OF_TRAINING])
def test_an_argument_of_training_that_cannot_be_is_refused(
    script: str, argv: list[str], says: str, good: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [word.format(out=out) for word in argv]
    common = ["--dataset_name", "demo", "--max_train_samples", "40", "--max_steps", "1", "--use_cpu"]
    common += ["--output_dir", str(out), "--overwrite_output_dir"]
    if script == "distill":
        common = ["--teacher_name_or_path", str(good), *common]
    assert_refused(script, [*common, *argv], says, tmp_path, capsys)


# What a recipe may not be: its bytes, and what is wrong with them
RECIPES = [
    (b"", "must be a mapping of flags to values, got None"),
    (b"# nothing\n", "must be a mapping of flags to values, got None"),
    (b"- seed\n- 1\n", "must be a mapping of flags to values, got ['seed', 1]"),
    (b"seed", "must be a mapping of flags to values, got 'seed'"),
    (b"3", "must be a mapping of flags to values, got 3"),
    (b"seed: [1, 2\n", "is not YAML"),
    (b"seed: 1\n\tlearning_rate: 2\n", "is not YAML"),
    (b"seed: 1\n--- \nseed: 2\n", "is not YAML"),
    (b"\xff\xfe\x00", "is not YAML"),
    (b"seed: \x00", "is not YAML"),
    (b"seed: !!python/object/apply:os.system ['true']\n", "is not YAML"),
    (b"a: &a [1]\nb: *c\n", "is not YAML"),
    (b"? {a: 1}\n: 2\n", "is not YAML"),
    (b"{" * 1500, "is not YAML"),
    (b"sede: 1\n", "Did you mean `--seed`?"),
    (b"1: 2\n", "Unknown key in the recipe"),
    (b"seed: {value: 1}\n", "`seed` in the recipe"),
    (b"seed: [[1]]\n", "`seed` in the recipe"),
    (b"seed: [1, 2]\n", "2"),
    (b"seed: many\n", "invalid int value: 'many'"),
    (b"seed: 1.5\n", "invalid int value: '1.5'"),
    (b"seed: .nan\n", "invalid int value: 'nan'"),
    (b"seed: 2020-01-01\n", "invalid int value: '2020-01-01'"),
    (b"seed: ''\n", "invalid int value: ''"),
    (b"seed: -1\n", "`--seed` must be at least 0"),
    (b"learning_rate: .inf\n", "`--learning_rate` must be a finite number"),
    (b"bidirectional: perhaps\n", "perhaps"),
    (b"dataset_name: ''\n", "`--dataset_name` must not be empty"),
    (b"cell_type: transformer\n", "invalid choice: 'transformer'"),
    (b"help: true\n", "Unknown key in the recipe"),
    (b"seed: 1\nseed: 2\n", "key `seed` occurs more than once"),
]


@pytest.fixture(autouse=True)
def fasttext_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained where everything is refused, so it need not be installed."""
    monkeypatch.setattr(baselines, "find_spec", lambda name: name)


@pytest.mark.parametrize("script", [*TRAINING, "run_recipe", "ablation", "learning_curve", "baselines"])
@pytest.mark.parametrize(("content", "says"), RECIPES, ids=[repr(content[:40]) for content, _ in RECIPES])
def test_a_recipe_that_cannot_be_is_refused(
    script: str,
    content: bytes,
    says: str,
    good: Path,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(content)
    argv = [str(recipe)]
    if script not in ("ablation", "learning_curve", "baselines"):
        argv += ["--output_dir", str(out), "--overwrite_output_dir"]
    if script == "distill":
        argv += ["--teacher_name_or_path", str(good)]
    if script in ("ablation", "learning_curve"):
        argv += ["--output_file", str(out / "points.json")]
    if script == "ablation":
        argv += ["--techniques", str(recipe)]
    assert_refused(script, argv, says, tmp_path, capsys)


MODEL = ["--model_name_or_path", "{good}"]
OUT = ["--output_dir", "{out}", "--overwrite_output_dir"]
CURVE = ["--dataset_name", "demo", "--output_file", "{out}/curve.json"]
ABLATION = ["--dataset_name", "demo", "--output_file", "{out}/ablation.json", "--techniques", "{out}/techniques.yaml"]
DISTILL = ["--dataset_name", "demo", "--max_train_samples", "40", "--use_cpu", *OUT]
DEMO = ["--dataset_name", "demo", "--max_train_samples", "40", "--use_cpu", *OUT]

STREAM = [*DEMO, "--streaming", "--max_steps", "1"]

# Script, arguments, and what is wrong with them
OF_OTHERS = [
    ("distill", DISTILL, "--teacher_name_or_path"),
    ("distill", [*DISTILL, "--teacher_name_or_path", "./nowhere"], "./nowhere"),
    ("distill", [*DISTILL, "--teacher_name_or_path", "{good}", "--temperature", "0"], "`--temperature` must be"),
    ("distill", [*DISTILL, "--teacher_name_or_path", "{good}", "--alpha", "2"], "`--alpha` must be at least 0"),
    ("distill", [*DISTILL, "--teacher_name_or_path", "{good}", "--num_noised_copies", "-1"], "`--num_noised_copies`"),
    ("distill", [*DISTILL, "--teacher_name_or_path", "{good}", "--mask_probability", "2"], "`--mask_probability`"),
    ("train_language_model", [*DEMO, "--bptt", "0"], "`--bptt` must be at least 1"),
    ("train_language_model", [*DEMO, "--optim", "lazy_adamw"], "`--optim lazy_adamw` spares word vectors"),
    ("train_language_model", [*DEMO, "--class_weights", "balanced"], "`--class_weights` is only for classifiers"),
    ("train_language_model", [*DEMO, "--adaptive_softmax_cutoffs", "5", "3"], "`adaptive_softmax_cutoffs` must rise"),
    ("train_language_model", [*DEMO, "--num_generated_texts", "-1"], "`--num_generated_texts` must be at least 0"),
    ("train_language_model", [*DEMO, "--model_name_or_path", "{good}"], "not a `RNNForCausalLM`"),
    ("train", [*DEMO, "--class_weights", "heavy"], "`--class_weights` must be `balanced` or numbers above 0"),
    ("train", [*DEMO, "--class_weights", "1", "2"], "class_weights"),
    ("train", [*DEMO, "--class_weights", "1", "2", "3", "nan"], "`--class_weights` must be"),
    ("train", [*DEMO, "--temperature_scaling", "--validation_size", "0"], "needs a validation split"),
    ("train", [*DEMO, "--model_name_or_path", "{good}", "--hidden_size", "99"], "contradicts the checkpoint's 64"),
    ("train", [*DEMO, "--model_name_or_path", "{good}", "--tokenizer_name_or_path", "{large}"], "The tokenizer has"),
    ("train", [*DEMO, "--streaming"], "`--streaming` needs `--max_steps`"),
    ("train", [*STREAM, "--class_weights", "balanced"], "`--class_weights balanced` cannot count"),
    ("train", [*STREAM, "--dataloader_num_workers", "2"], "`--dataloader_num_workers` cannot split a stream"),
    ("train", [*STREAM, "--temperature_scaling"], "needs a validation split. Pass `--validation_file`"),
    ("train", [*STREAM, "--early_stopping_patience", "1"], "needs a validation split. Pass `--validation_file`"),
    ("train", [*STREAM, "--label_column_name", "kind"], 'Column "kind" is not in the dataset'),
    ("distill", [*DISTILL, "--teacher_name_or_path", "{good}", "--streaming"], "`--streaming` is only for"),
    ("train_language_model", [*DEMO, "--streaming"], "`--streaming` is only for `rnn-hf train`"),
    ("train_with_trainer", [*DEMO, "--streaming"], "`--streaming` is only for `rnn-hf train`"),
    ("train_with_trainer", [*DEMO, "--gradual_unfreezing"], "`--gradual_unfreezing` is only for `rnn-hf train`"),
    ("train_with_trainer", [*DEMO, "--resume_from_checkpoint", "latest"], "must be a checkpoint of Trainer"),
    ("run_recipe", [*OUT, "--seeds"], "--seeds"),
    ("run_recipe", [*OUT, "--seeds", "1", "1"], "`--seeds` must be different numbers"),
    ("run_recipe", [*OUT, "--seeds", "-1"], "`--seeds` must be different numbers of at least 0"),
    ("run_recipe", [*OUT, "--seed", "1"], "Pass `--seeds`"),
    ("run_recipe", [*OUT, "--push_to_hub", "--hub_model_id", "a/b"], "are for one seed"),
    ("run_recipe", ["--output_dir", "{out}"], "is not empty"),
    ("run_recipe", ["--output_dir", "{out}/all_results.json"], "all_results.json' is a file"),
    ("run_recipe", ["--output_dir", "{out}/all_results.json/runs"], "is a file"),
    ("run_recipe", ["nowhere.yaml", *OUT], "nowhere.yaml"),
    ("run_recipe", ["{out}", *OUT], "{out}"),
    ("ablation", ["--dataset_name", "demo"], "Pass `--techniques`"),
    ("ablation", [*ABLATION, "--techniques", "{out}/nowhere.yaml"], "nowhere.yaml"),
    ("ablation", [*ABLATION, "--output_file", "{out}/no/where.json"], "The folder of `--output_file` does not exist"),
    ("ablation", [*ABLATION, "--output_file", "{out}"], "{out}"),
    ("ablation", [*ABLATION, "--output_file", "{out}/broken.json"], "broken.json"),
    ("ablation", [*ABLATION, "--output_file", "{out}/list.json"], "list.json"),
    ("ablation", [*ABLATION, "--output_file", "{out}/all_results.json"], "all_results.json"),
    ("ablation", [*ABLATION, "--techniques", "{out}/broken.json"], "broken.json"),
    ("ablation", [*ABLATION, "--techniques", "{out}/list.json"], "must be a mapping of techniques"),
    ("ablation", [*ABLATION, "--techniques", "{out}/binary"], "binary"),
    ("ablation", [*ABLATION, "--techniques", "{out}/all_results.json"], "must have `source` and either"),
    ("ablation", [*ABLATION, "--techniques", "{out}/unhashable.yaml"], "must map flags of `rnn-hf train`"),
    ("learning_curve", ["--dataset_name", "demo"], "Pass `--output_file`"),
    ("learning_curve", [*CURVE, "--num_rows", "0"], "`--num_rows` must be at least 1"),
    ("learning_curve", [*CURVE, "--models", "bert"], "`--models` must be of"),
    ("learning_curve", [*CURVE, "--max_train_samples", "3"], "Pass `--num_rows`"),
    ("learning_curve", [*CURVE, "--output_file", "{out}/broken.json"], "broken.json"),
    ("learning_curve", [*CURVE, "--output_file", "{out}/binary"], "binary"),
    ("learning_curve", [*CURVE, "--output_file", "{out}/list.json"], "list.json"),
    ("learning_curve", [*CURVE, "--output_file", "{out}/points.json"], "points.json"),
    ("learning_curve", [*CURVE, "--dataset_name", "./nowhere"], "./nowhere"),
    ("baselines", ["--dataset_name", "demo", "--models", "bert"], "`--models` must be of"),
    ("baselines", ["--dataset_name", "demo", "--fasttext_epochs", "0"], "`--fasttext_epochs` must be at least 1"),
    ("baselines", ["--dataset_name", "demo", "--validation_size", "0"], "need a validation split"),
    ("baselines", ["--dataset_name", "demo", "--output_file", "{out}/no/x.json"], "`--output_file` does not exist"),
    ("baselines", ["--dataset_name", "demo", "--output_file", "{out}"], "{out}"),
    ("baselines", ["--dataset_name", "./nowhere"], "./nowhere"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--splits", "train"], "`--splits` must be of"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--similarities", "0"], "`--similarities` must be above 0"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--similarities", "nan"], "`--similarities` must be"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--output_file", "{out}"], "{out}"),
    ("count_near_duplicates", ["--dataset_name", "./nowhere"], "./nowhere"),
    ("count_near_duplicates", ["--train_file", "{out}/all_results.json"], 'no "test" split'),
    ("evaluate", [], "--model_name_or_path"),
    ("evaluate", ["--model_name_or_path", "./nowhere"], "./nowhere"),
    ("evaluate", ["--model_name_or_path", "{out}"], "has no config.json"),
    ("evaluate", [*MODEL, "--dataset_name", "./nowhere"], "./nowhere"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--split", "dev"], '"dev"'),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--threshold", "2"], "`--threshold` must be at least 0"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--threshold", "nan"], "`--threshold` must be"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--per_device_eval_batch_size", "0"], "must be at least 1"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--output_file", "{out}"], "{out}"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--output_file", "{out}/no/x.json"], "does not exist"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--figure_file", "{out}/x.jpg"], "must end in .png"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--test_file", "x.csv"], "Pass one or the other"),
    ("predict", [], "--model_name_or_path"),
    ("predict", ["--model_name_or_path", "./nowhere", "--text", "a"], "./nowhere"),
    ("predict", ["--model_name_or_path", "{out}", "--text", "a"], "has no config.json"),
    ("predict", [*MODEL, "--input_file", "{out}/nowhere.txt"], "nowhere.txt"),
    ("predict", [*MODEL, "--input_file", "{out}"], "{out}"),
    ("predict", [*MODEL, "--text", "a", "--input_file", "x"], "Drop one of them"),
    ("predict", [*MODEL, "--text", "a", "--batch_size", "0"], "`--batch_size` must be at least 1"),
    ("predict", [*MODEL, "--text", "a", "--threshold", "-1"], "`--threshold` must be at least 0"),
    ("predict", [*MODEL, "--text", "a", "--output_file", "{out}/no/x.jsonl"], "`--output_file` does not exist"),
    ("predict", [*MODEL, "--text", "a", "--output_file", "{out}"], "{out}"),
    ("predict", [*MODEL, "--text"], "--text"),
    ("push_to_hub", [], "folder"),
    ("push_to_hub", ["{good}"], "name"),
    ("push_to_hub", ["{out}", "a/b"], "is not a complete model"),
    ("push_to_hub", ["./nowhere", "a/b"], "nowhere"),
    ("push_to_hub", ["{good}", "nobody"], "must be named OWNER/NAME"),
    ("push_to_hub", ["{good}", "a/b/c"], "must be named OWNER/NAME"),
    ("push_to_hub", ["{good}", "a/b", "--revison", "x"], "--revison"),
    ("push_to_hub", ["{good}", "a/..b"], "cannot be the name of a repository"),
    ("render_model_cards", ["{out}"], "recipe.yaml"),
    ("render_model_cards", ["./nowhere"], "recipe.yaml"),
    ("render_model_cards", ["{out}/all_results.json"], "recipe.yaml"),
    ("render_model_cards", ["--what"], "--what"),
    ("results_table", ["--what"], "--what"),
    ("results_table", ["ag-news"], "ag-news"),
    ("benchmark", [], "The first word must be one of"),
    ("benchmark", ["fly"], "got 'fly'"),
    ("benchmark", ["predict"], "--model_name_or_path"),
    ("benchmark", ["predict", "--model_name_or_path", "./nowhere"], "./nowhere"),
    ("benchmark", ["predict", *MODEL, "--dataset_name", "./nowhere"], "./nowhere"),
    ("benchmark", ["predict", *MODEL, "--rounds", "0"], "`--rounds` must be at least 1"),
    ("benchmark", ["load", "--model_name_or_path", "./nowhere"], "./nowhere"),
    ("benchmark", ["load", *MODEL, "--output_file", "{out}/no/x.json"], "does not exist"),
    ("benchmark", ["load", *MODEL, "--output_file", "{out}"], "{out}"),
    ("benchmark", ["train", "--dataset_name", "./nowhere"], "./nowhere"),
    ("benchmark", ["memory", "--dataset_name", "./nowhere"], "./nowhere"),
    ("benchmark", ["train", "--what"], "--what"),
]  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with more tokens than the model."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer([" ".join(f"word{number}" for number in range(99))]), folder)
    return folder


@pytest.mark.parametrize(
    ("script", "argv", "says"), OF_OTHERS, ids=[f"{row[0]} {' '.join(row[1])}" for row in OF_OTHERS]
)
def test_an_argument_of_another_script_that_cannot_be_is_refused(
    script: str,
    argv: list[str],
    says: str,
    good: Path,
    large: Path,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (out / "techniques.yaml").write_text("longer: {source: nobody, with: {hidden_size: 8}}\n")
    (out / "unhashable.yaml").write_text("longer: {source: nobody, with: [hidden_size]}\n")
    (out / "broken.json").write_text("{")
    (out / "list.json").write_text("[]")
    (out / "points.json").write_text('{"settings": {}, "points": [{"model": "recipe"}]}')
    (out / "binary").write_bytes(b"\xff\xfe\x00")
    places = {"good": good, "large": large, "out": out}
    argv = [word.format(**places) for word in argv]
    assert_refused(script, argv, says.format(**places), tmp_path, capsys)
