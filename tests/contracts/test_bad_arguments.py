"""What cannot be an argument or a recipe is refused by every script in one line, before anything is written.

Values that no argument may have are tested with the arguments and the parser; here each script meets one of a kind.
"""

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

# One thing for each step in which a training script may refuse its arguments, and what is wrong with it
OF_TRAINING = [
    (["--zzzzzz"], "Unknown argument '--zzzzzz'"),
    (["--learning_rate", "0"], "`--learning_rate` must be above 0"),
    (["--hidden_size", "0"], "`hidden_size` must be at least 1, got 0."),
    (["--output_dir", "{out}/all_results.json"], "all_results.json' is a file"),
    (["--report_to", "tracker-of-nobody"], "tracker-of-nobody"),
    (["--model_name_or_path", "./nowhere"], "./nowhere"),
    (["--dataset_name", "./nowhere"], "./nowhere"),
    (["--text_column_names", "title"], '"title" is not in the dataset (columns: text, label)'),
    (["--tokenizer_name_or_path", "./nowhere"], "./nowhere"),
    (["--word_vectors", "./nowhere.txt"], "nowhere.txt"),
    (["--resume_from_checkpoint", "./nowhere"], "nowhere"),
]


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


@pytest.fixture(autouse=True)
def fasttext_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained where everything is refused, so it need not be installed."""
    monkeypatch.setattr(baselines, "find_spec", lambda name: name)


@pytest.mark.parametrize("script", [*TRAINING, "run_recipe", "ablation", "baselines"])
def test_a_recipe_that_cannot_be_is_refused(
    script: str, good: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sede: 1\n")
    argv = [str(recipe)]
    if script not in ("ablation", "baselines"):
        argv += ["--output_dir", str(out), "--overwrite_output_dir"]
    if script == "distill":
        argv += ["--teacher_name_or_path", str(good)]
    if script == "ablation":
        argv += ["--output_file", str(out / "points.json"), "--techniques", str(recipe)]
    assert_refused(script, argv, "Did you mean `--seed`?", tmp_path, capsys)


MODEL = ["--model_name_or_path", "{good}"]
OUT = ["--output_dir", "{out}", "--overwrite_output_dir"]
ABLATION = ["--dataset_name", "demo", "--output_file", "{out}/ablation.json", "--techniques", "{out}/techniques.yaml"]
DISTILL = ["--dataset_name", "demo", "--max_train_samples", "40", "--use_cpu", *OUT]
DEMO = ["--dataset_name", "demo", "--max_train_samples", "40", "--use_cpu", *OUT]

STREAM = [*DEMO, "--streaming", "--max_steps", "1"]

# Script, arguments, and what is wrong with them
OF_OTHERS = [
    ("distill", DISTILL, "--teacher_name_or_path"),
    ("distill", [*DISTILL, "--teacher_name_or_path", "./nowhere"], "./nowhere"),
    ("train_language_model", [*DEMO, "--adaptive_softmax_cutoffs", "5", "3"], "`adaptive_softmax_cutoffs` must rise"),
    ("train_language_model", [*DEMO, "--model_name_or_path", "{good}"], "not a `RNNForCausalLM`"),
    ("train_language_model", [*DEMO, "--bidirectional", "true"], "A language model needs `--bidirectional False`"),
    ("train", [*DEMO, "--vocab_size", "1"], "`vocab_size - 1` (0), got 1"),
    ("train", [*DEMO, "--min_frequency", "99999999"], "`min_frequency`"),
    ("train", [*DEMO, "--tokenizer_type", "bpe", "--vocab_size", "3"], "`vocab_size` must be at least"),
    ("train", [*DEMO, "--tokenizer_type", "unigram", "--vocab_size", "5"], "`--vocab_size` must be larger"),
    ("train", [*DEMO, "--word_vectors", "."], "got the directory ."),
    ("train", [*DEMO, "--label_column_name", "topic"], '"topic" is not in the dataset (columns: text, label)'),
    ("train", [*DEMO, "--text_column_names", "label"], '"label" is the label'),
    ("train", [*DEMO, "--output_dir", "{out}/all_results.json/run"], "all_results.json' is a file"),
    ("train", [*DEMO, "--resume_from_checkpoint", "latest"], "No complete checkpoint is in"),
    ("train", [*DEMO, "--early_stopping_patience", "1", "--validation_size", "0"], "needs a validation split"),
    ("train", [*DEMO, "--problem_type", "regression", "--temperature_scaling"], "needs one class per text"),
    ("train", [*DEMO, "--class_weights", "1", "2"], "class_weights"),
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
    ("run_recipe", [*OUT, "--resume_from_checkpoint", "latest"], "are for one seed"),
    ("run_recipe", ["--output_dir", "{out}"], "is not empty"),
    ("run_recipe", ["--output_dir", "{out}/all_results.json"], "all_results.json' is a file"),
    ("run_recipe", ["--output_dir", "{out}/all_results.json/runs"], "is a file"),
    ("run_recipe", ["nowhere.yaml", *OUT], "nowhere.yaml"),
    ("run_recipe", ["{out}", *OUT], "{out}"),
    ("ablation", ["--dataset_name", "demo"], "Pass `--techniques`"),
    ("ablation", [*ABLATION, "--techniques", "{out}/nowhere.yaml"], "nowhere.yaml"),
    ("ablation", [*ABLATION, "--output_file", "{out}/no/where.json"], "The folder of `--output_file` does not exist"),
    ("ablation", [*ABLATION, "--output_file", "{out}/broken.json"], "broken.json"),
    ("ablation", [*ABLATION, "--output_file", "{out}/list.json"], "list.json"),
    ("ablation", [*ABLATION, "--output_file", "{out}/points.json"], "points.json"),
    ("ablation", [*ABLATION, "--output_file", "{out}/binary"], "binary"),
    ("ablation", [*ABLATION, "--output_file", "{out}/all_results.json"], "all_results.json"),
    ("ablation", [*ABLATION, "--techniques", "{out}/broken.json"], "broken.json"),
    ("ablation", [*ABLATION, "--techniques", "{out}/list.json"], "must be a mapping of techniques"),
    ("ablation", [*ABLATION, "--techniques", "{out}/binary"], "binary"),
    ("ablation", [*ABLATION, "--techniques", "{out}/all_results.json"], "must have `source` and either"),
    ("ablation", [*ABLATION, "--techniques", "{out}/unhashable.yaml"], "must map flags of `rnn-hf train`"),
    ("baselines", ["--dataset_name", "demo", "--models", "bert"], "`--models` must be of"),
    ("baselines", ["--dataset_name", "demo", "--fasttext_epochs", "0"], "`--fasttext_epochs` must be at least 1"),
    ("baselines", ["--dataset_name", "demo", "--validation_size", "0"], "need a validation split"),
    ("baselines", ["--dataset_name", "demo", "--output_file", "{out}/no/x.json"], "`--output_file` does not exist"),
    ("baselines", ["--dataset_name", "demo", "--seed", "1"], "Pass `--seeds`"),
    ("baselines", ["--dataset_name", "demo", "--problem_type", "regression"], "need one class per text"),
    ("baselines", ["--dataset_name", "./nowhere"], "./nowhere"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--splits", "train"], "`--splits` must be of"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--similarities", "0"], "`--similarities` must be above 0"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--similarities", "nan"], "`--similarities` must be"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--output_file", "{out}"], "{out}"),
    ("count_near_duplicates", ["--dataset_name", "demo", "--splits", "validation", "--validation_size", "0"],
     'no "validation" split'),
    ("count_near_duplicates", ["--dataset_name", "./nowhere"], "./nowhere"),
    ("count_near_duplicates", ["--train_file", "{out}/all_results.json"], 'no "test" split'),
    ("evaluate", [], "--model_name_or_path"),
    ("evaluate", ["--model_name_or_path", "./nowhere"], "./nowhere"),
    ("evaluate", ["--model_name_or_path", "{out}"], "has no config.json"),
    ("evaluate", [*MODEL, "--dataset_name", "./nowhere"], "./nowhere"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--split", "dev"], '"dev"'),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--output_file", "{out}/no/x.json"], "does not exist"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--figure_file", "{out}/x.jpg"], "must end in .png"),
    ("evaluate", [*MODEL, "--dataset_name", "demo", "--test_file", "x.csv"], "Pass one or the other"),
    ("predict", [], "--model_name_or_path"),
    ("predict", ["--model_name_or_path", "./nowhere", "--text", "a"], "./nowhere"),
    ("predict", ["--model_name_or_path", "{out}", "--text", "a"], "has no config.json"),
    ("predict", [*MODEL, "--input_file", "{out}/nowhere.txt"], "nowhere.txt"),
    ("predict", [*MODEL, "--input_file", "{out}"], "{out}"),
    ("predict", [*MODEL, "--text", "a", "--output_file", "{out}/no/x.jsonl"], "`--output_file` does not exist"),
    ("predict", [*MODEL, "--text", "a", "--output_file", "/dev/null"], "must be a regular file"),
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
    ("benchmark", ["train", "--dataset_name", "./nowhere"], "./nowhere"),
    ("benchmark", ["memory", "--dataset_name", "./nowhere"], "./nowhere"),
    ("benchmark", ["train", "--what"], "--what"),
    ("benchmark", ["train", "--optim", "adm"], "adm"),
    ("benchmark", ["train", "--recipes", "ag-news"], "must be of lesson-rnn, lesson-lstm, lesson-lstm-packed"),
    ("benchmark", ["train", "--profile", "--output_file", "{out}/x.json"], "exclude each other"),
    ("benchmark", ["load", *MODEL, "--profile"], "--profile"),
    ("benchmark", ["memory", "--copies", "1"], "`--copies` must be at least 2, got 1"),
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
