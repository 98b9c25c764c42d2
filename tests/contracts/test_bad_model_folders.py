"""A folder that is no whole model of this family is refused in one line, before memory is taken for it."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNForTokenClassification, TextClassifier
from rnn_hf.causal_lm_rnn import RNNForCausalLM
from rnn_hf.data.tokenizer_training import save_tokenizer, train_tokenizer
from rnn_hf.safe_loading import check_model
from tests.refusals import assert_one_line, assert_refused

Spoil = Callable[[Path], Any]

LABELS = ["World", "Sports", "Business", "Sci/Tech"]
EMBEDDINGS = "model.embed_tokens.weight"
HUGE = 10**15


def save_good(folder: Path) -> Path:
    """Write a small whole model, with the classes of the demo."""
    tokenizer = train_tokenizer(["a b c d e f"])
    config = RNNConfig(
        vocab_size=len(tokenizer),
        embedding_size=4,
        hidden_size=4,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    RNNForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_good(tmp_path / "model")


def test_the_folder_that_the_others_are_made_of_is_good(folder: Path) -> None:
    assert TextClassifier.from_pretrained(folder).predict_proba("a b c").shape == (4,)


def write(name: str, content: str | bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(name: str, size: int) -> Spoil:
    """Keep so many bytes of a file; with a negative number, all but so many."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def remove(*names: str) -> Spoil:
    return lambda folder: [(folder / name).unlink() for name in names]


def as_folder(name: str) -> Spoil:
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def set_json(name: str, **values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | values))

    return spoil


def config(**values: Any) -> Spoil:
    return set_json("config.json", **values)


def tokenizer_config(**values: Any) -> Spoil:
    return set_json("tokenizer_config.json", **values)


def vocabulary(**ids: int) -> Spoil:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        content["model"]["vocab"].update(ids)
        (folder / "tokenizer.json").write_text(json.dumps(content))

    return spoil


def without_unknown_word(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    del content["model"]["vocab"]["[UNK]"]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def weights(**changed: torch.Tensor | None) -> Spoil:
    """Replace weights, whose names have `__` for a dot; `None` removes one."""

    def spoil(folder: Path) -> None:
        content = load_file(folder / "model.safetensors")
        for name, weight in changed.items():
            content.pop(name.replace("__", "."), None)
            if weight is not None:
                content[name.replace("__", ".")] = weight
        save_file(content, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def header(content: dict[str, Any], length: int | None = None, data: bytes = b"") -> Spoil:
    raw = json.dumps(content).encode()
    return write("model.safetensors", struct.pack("<Q", len(raw) if length is None else length) + raw + data)


def claims(shape: list[int], num_bytes: int) -> dict[str, Any]:
    return {EMBEDDINGS: {"dtype": "F32", "shape": shape, "data_offsets": [0, num_bytes]}}


def only(name: str, content: str | bytes) -> Spoil:
    """Replace the weights by another file."""
    return lambda folder: (remove("model.safetensors")(folder), write(name, content)(folder))


def index_of(file: object) -> str:
    return json.dumps({"metadata": {}, "weight_map": {EMBEDDINGS: file}})


def as_other_head(head: type[Any]) -> Spoil:
    return lambda folder: head(RNNConfig.from_pretrained(folder)).save_pretrained(folder)


CONFIGURATIONS: list[tuple[str, Spoil, str]] = [
    ("no configuration", remove("config.json"), "has no config.json"),
    ("a folder as the configuration", as_folder("config.json"), "has no config.json"),
    ("an empty configuration", write("config.json", ""), "is not JSON"),
    ("half a configuration", cut("config.json", 100), "is not JSON"),
    ("a configuration in UTF-16", write("config.json", "{}".encode("utf-16")), "is not JSON"),
    ("a configuration of bytes", write("config.json", b"\xff\xfe\x00"), "is not JSON"),
    ("a configuration that is too deep", write("config.json", "[" * 100_000), "is not JSON"),
    ("a list as the configuration", write("config.json", "[]"), "must hold the settings of a model, got []"),
    ("a number as the configuration", write("config.json", "3"), "must hold the settings of a model, got 3"),
    ("nothing as the configuration", write("config.json", "null"), "must hold the settings of a model, got None"),
    ("a configuration of nothing", write("config.json", "{}"), "is a None model, not one of this package"),
    ("a foreign configuration", write("config.json", '{"model_type": "bert"}'), "is a 'bert' model"),
    ("an unknown type", config(model_type="zzz"), "is a 'zzz' model, not one of this package"),
    ("a list of types", config(model_type=["rnn_hf"]), "is a ['rnn_hf'] model"),
    ("a huge hidden size", config(hidden_size=10**9), "has `hidden_size` 1000000000, but its weights are"),
    ("a large hidden size", config(hidden_size=10**5), "has `hidden_size` 100000, but its weights are"),
    ("a huge vocabulary", config(vocab_size=HUGE), f"has `vocab_size` {HUGE}, but its weights are"),
    ("a vocabulary beyond all numbers", config(vocab_size=10**30), "but its weights are"),
    ("a huge embedding size", config(embedding_size=10**9), "has `embedding_size` 1000000000, but"),
    ("very many layers", config(num_hidden_layers=10**9), "has `num_hidden_layers` 1000000000, but"),
    ("many layers", config(num_hidden_layers=10**4), "has `num_hidden_layers` 10000, but its weights are"),
    ("very many labels", config(num_labels=10**9), "has `num_labels` 1000000000, but its weights are"),
    ("no hidden size", config(hidden_size=0), "`hidden_size` must be at least 1, got 0"),
    ("a negative hidden size", config(hidden_size=-1), "`hidden_size` must be at least 1, got -1"),
    ("a hidden size in words", config(hidden_size="4"), "'hidden_size' expected int, got str"),
    ("a broken hidden size", config(hidden_size=4.5), "'hidden_size' expected int, got float"),
    ("a missing hidden size", config(hidden_size=None), "'hidden_size' expected int, got NoneType"),
    ("a hidden size that is true", config(hidden_size=True), "'hidden_size' expected int, got bool"),
    ("another hidden size", config(hidden_size=5), "must have the shape [4, 5], got [4, 4]"),
    ("a larger vocabulary", config(vocab_size=9), "must have the shape [9, 4], got [8, 4]"),
    ("a smaller vocabulary", config(vocab_size=3), "must have the shape [3, 4], got [8, 4]"),
    ("another cell", config(cell_type="gru"), "must have the shape [12], got [16]"),
    ("an unknown cell", config(cell_type="transformer"), "'cell_type' expected one of"),
    ("another direction", config(bidirectional=True), "must have the shape [4, 8], got [4, 4]"),
    ("another pooling", config(classifier_pooling="mean_max"), "must have the shape [4, 8], got [4, 4]"),
    ("a pooling that lacks weights", config(classifier_pooling="attention"), "[1, 4], got none"),
    ("an unknown pooling", config(classifier_pooling="sum"), "'classifier_pooling' expected one of"),
    ("a dropout that is no number", config(classifier_dropout=float("nan")), "`classifier_dropout` must be"),
    ("a dropout in words", config(classifier_dropout="some"), "'classifier_dropout'"),
    ("padding outside the vocabulary", config(pad_token_id=99), "`pad_token_id` must be from 0 to"),
    ("a temperature of 0", config(calibration_temperature=0), "`calibration_temperature` must be above 0"),
    ("an endless temperature", config(calibration_temperature=float("inf")), "`calibration_temperature` must be"),
    ("a list of labels", config(id2label=LABELS), "is not valid"),
    ("no labels", config(id2label={}), "`id2label` must have at least one label"),
    ("a label more", config(id2label=dict(enumerate("abcde"))), "must have the shape [5], got [4]"),
    ("labels with gaps", config(id2label={0: "a", 5: "b", 9: "c", 11: "d"}), "`id2label` must have the ids from 0"),
    ("labels without numbers", config(id2label={"x": "a"}), "invalid literal for int()"),
    ("fewer than no labels", config(num_labels=-1), "`id2label` must have at least one label"),
    ("an unknown problem", config(problem_type="ranking"), "'problem_type' with value 'ranking'"),
    ("a list of problems", config(problem_type=["regression"]), "'problem_type' with value ['regression']"),
    ("an unknown type of numbers", config(dtype="float99"), "is not valid"),
    ("a list of types of numbers", config(dtype=["float32"]), "is not valid"),
    ("a setting that is computed", config(output_size=3), "is not valid"),
    ("a quantization", config(quantization_config={"quant_method": "gptq"}), "`quantization_config` in"),
    ("a quantization in words", config(quantization_config="all"), "`quantization_config` in"),
    ("a kernel from elsewhere", config(_attn_implementation="somebody/kernel"), "`_attn_implementation` in"),
    ("another kernel", config(attn_implementation="somebody/kernel"), "`attn_implementation` in"),
    ("a language model", as_other_head(RNNForCausalLM), "is a `RNNForCausalLM`, not a"),
    ("a tagger", as_other_head(RNNForTokenClassification), "is a `RNNForTokenClassification`"),
]  # fmt: skip

TOKENIZERS: list[tuple[str, Spoil, str]] = [
    ("no tokenizer", remove("tokenizer.json"), "cannot be loaded"),
    ("no file of a tokenizer", remove("tokenizer.json", "tokenizer_config.json"), "cannot be loaded"),
    ("an empty tokenizer", write("tokenizer.json", ""), "cannot be loaded"),
    ("half a tokenizer", cut("tokenizer.json", 200), "cannot be loaded"),
    ("a tokenizer of nothing", write("tokenizer.json", "{}"), "cannot be loaded"),
    ("a list as the tokenizer", write("tokenizer.json", "[]"), "cannot be loaded"),
    ("null as the tokenizer", write("tokenizer.json", "null"), "cannot be loaded"),
    ("a tokenizer of bytes", write("tokenizer.json", b"\xff\xfe"), "cannot be loaded"),
    ("a model that no tokenizer has", set_json("tokenizer.json", model={"type": "x"}), "cannot be loaded"),
    ("a pattern that cannot be", set_json("tokenizer.json", normalizer={
        "type": "Replace", "pattern": {"Regex": "(("}, "content": ""}), "cannot be loaded"),
    ("a negative id", vocabulary(zzz=-1), "cannot be loaded"),
    ("an id that is too large", vocabulary(zzz=2**40), "cannot be loaded"),
    ("a token more than the model", vocabulary(zzz=8), "The tokenizer has 9 tokens but"),
    ("a token far beyond the model", vocabulary(zzz=10**9), "has the id 1000000000"),
    ("an id beyond the model", vocabulary(a=1000), "has the id 1000 (token 'a') but there are 8 word vectors"),
    ("a tokenizer that grew", tokenizer_config(pad_token="[NEW]"), "The tokenizer has 9 tokens"),
    ("a foreign tokenizer", tokenizer_config(tokenizer_class="BertTokenizer"), "The tokenizer has 11 tokens"),
    ("no settings of the tokenizer", write("tokenizer_config.json", ""), "cannot be loaded"),
    ("half the settings", cut("tokenizer_config.json", 50), "cannot be loaded"),
    ("a list of settings", write("tokenizer_config.json", "[]"), "cannot be loaded"),
    ("null as settings", write("tokenizer_config.json", "null"), "cannot be loaded"),
    ("settings of bytes", write("tokenizer_config.json", b"\xff\xfe"), "cannot be loaded"),
    ("a number as the class", tokenizer_config(tokenizer_class=3), "cannot be loaded"),
    ("a number as the padding", tokenizer_config(pad_token=3), "cannot be loaded"),
    ("an unknown side", tokenizer_config(padding_side="top"), "cannot be loaded"),
    ("an unknown side of truncation", tokenizer_config(truncation_side="top"), "cannot be loaded"),
    ("a length in words", tokenizer_config(max_length="long"), "`max_length` of the tokenizer must be"),
    ("a negative length", tokenizer_config(max_length=-5), "`max_length` of the tokenizer must be"),
    ("no length", tokenizer_config(max_length=0), "`max_length` of the tokenizer must be"),
    ("a broken length", tokenizer_config(max_length=2.5), "`max_length` of the tokenizer must be"),
    ("a length that is true", tokenizer_config(max_length=True), "`max_length` of the tokenizer must be"),
    ("a list of lengths", tokenizer_config(max_length=[5]), "`max_length` of the tokenizer must be"),
    ("a longest text in words", tokenizer_config(max_length=None, model_max_length="long"), "`model_max_length`"),
    ("a negative longest text", tokenizer_config(max_length=None, model_max_length=-5), "`model_max_length`"),
    ("a broken list of added tokens", write("added_tokens.json", "{"), "cannot be loaded"),
    ("a broken list of special tokens", write("special_tokens_map.json", "{"), "cannot be loaded"),
    ("a list of special tokens", write("special_tokens_map.json", "[]"), "cannot be loaded"),
]  # fmt: skip

WEIGHTS: list[tuple[str, Spoil, str]] = [
    ("no weights", remove("model.safetensors"), "has no model.safetensors"),
    ("a folder as the weights", as_folder("model.safetensors"), "has no model.safetensors"),
    ("empty weights", write("model.safetensors", b""), "is not a complete file of weights"),
    ("half of the header", cut("model.safetensors", 300), "is not a complete file of weights"),
    ("nothing but a length", cut("model.safetensors", 8), "is not a complete file of weights"),
    ("all but one byte", cut("model.safetensors", -1), "is not a complete file of weights"),
    ("a byte more", lambda f: write("model.safetensors", (f / "model.safetensors").read_bytes() + b"x")(f),
     "is not a complete file of weights"),
    ("garbage", write("model.safetensors", bytes(range(256)) * 8), "is not a complete file of weights"),
    ("a header that never ends", header({}, length=2**60), "is not a complete file of weights"),
    ("the longest header", header({}, length=2**64 - 1), "is not a complete file of weights"),
    ("a header of another file", write("model.safetensors", struct.pack("<Q", 4) + b"GGUF"), "not a complete file"),
    ("a claim of a petabyte", header(claims([HUGE], 4 * HUGE)), "is not a complete file of weights"),
    ("a shape that its bytes contradict", header(claims([10**8, 10**7], 4), data=b"0000"), "not a complete file"),
    ("no matrix at all", header({}), "but its weights are 0 numbers in 0 matrices"),
    ("foreign weights", lambda f: save_file({"bert.x": torch.zeros(300)}, f / "model.safetensors"),
     "must have the shape"),
    ("a missing bias", weights(classifier__bias=None), "classifier.bias must have the shape [4], got none"),
    ("a bias that is too long", weights(classifier__bias=torch.zeros(7)), "must have the shape [4], got [7]"),
    ("a bias of NaN", weights(classifier__bias=torch.tensor([0, torch.nan, 0, 0])), "must be finite numbers"),
    ("an infinite bias", weights(classifier__bias=torch.tensor([0, torch.inf, -torch.inf, 0])), "must be finite"),
    ("word vectors of NaN", weights(model__embed_tokens__weight=torch.full((8, 4), torch.nan)), "must be finite"),
    ("a bias beyond float32", weights(classifier__bias=torch.full((4,), 1e300, dtype=torch.float64)), "finite"),
    ("a bias of whole numbers", weights(classifier__bias=torch.zeros(4, dtype=torch.int64)), "got I64"),
    ("a bias of truth values", weights(classifier__bias=torch.zeros(4, dtype=torch.bool)), "got BOOL"),
    ("a complex bias", weights(classifier__bias=torch.zeros(4, dtype=torch.complex64)), "got C64"),
    ("a pickle", only("pytorch_model.bin", b"\x80\x04."), "as a pickle (pytorch_model.bin)"),
    ("pickles", only("pytorch_model.bin.index.json", index_of("x.bin")), "as a pickle"),
    ("weights of TensorFlow", only("tf_model.h5", b"x"), "has no model.safetensors"),
    ("a part that is missing", only("model.safetensors.index.json", index_of("a.safetensors")), "no a.safetensors"),
    ("a part elsewhere", only("model.safetensors.index.json", index_of("../a.safetensors")), "files beside it"),
    ("a part that is a pickle", only("model.safetensors.index.json", index_of("a.bin")), "files beside it"),
    ("a part that is a number", only("model.safetensors.index.json", index_of(3)), "files beside it"),
    ("half a list of parts", only("model.safetensors.index.json", "{"), "is not a list of files of weights"),
    ("a list of no parts", only("model.safetensors.index.json", "[]"), "is not a list of files of weights"),
    ("an adapter", write("adapter_config.json", '{"base_model_name_or_path": "/"}'), "holds an adapter"),
]  # fmt: skip

ROWS = [*CONFIGURATIONS, *TOKENIZERS, *WEIGHTS]


# Training has a length of its own, and makes a new classifier above a language model
FIT_FOR_TRAINING = {row[0] for row in ROWS if "length`" in row[2]} | {"a language model"}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that holds the results of another run."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "all_results.json").write_text("{}")
    return folder


@pytest.mark.parametrize(("what", "spoil", "says"), ROWS, ids=[row[0] for row in ROWS])
def test_a_folder_that_is_no_whole_model_is_refused_in_one_line(
    what: str,
    spoil: Spoil,
    says: str,
    folder: Path,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the class that answers, and by training, which loads a model in steps of its own."""
    spoil(folder)
    with pytest.raises(ValueError) as error:
        TextClassifier.from_pretrained(folder)
    assert_one_line(error.value)
    assert says in str(error.value)
    if what not in FIT_FOR_TRAINING:
        argv = [
            "--model_name_or_path",
            str(folder),
            "--dataset_name",
            "demo",
            "--use_cpu",
            "--max_train_samples",
            "40",
        ]
        argv += ["--output_dir", str(out), "--overwrite_output_dir", "--max_steps", "1"]
        assert_refused("train", argv, says, tmp_path, capsys)


@pytest.mark.parametrize("rows", [CONFIGURATIONS, TOKENIZERS, WEIGHTS], ids=["config", "tokenizer", "weights"])
@pytest.mark.parametrize("script", ["evaluate", "predict"])
def test_the_other_scripts_refuse_such_a_folder_and_write_nothing(
    script: str,
    rows: list[tuple[str, Spoil, str]],
    folder: Path,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, spoil, says = rows[0]
    spoil(folder)
    argv = ["--model_name_or_path", str(folder), "--output_file", str(out / "all_results.json")]
    argv += ["--text", "a b"] if script == "predict" else ["--dataset_name", "demo", "--use_cpu"]
    assert_refused(script, argv, says, tmp_path, capsys)


def test_a_name_that_is_neither_here_nor_known_from_the_hub_is_told() -> None:
    with pytest.raises(ValueError, match="'owner/none' is neither a folder nor a model that the Hub returned"):
        check_model("owner/none", local_files_only=True)
