"""Nothing that somebody else has written runs code or takes memory because it was loaded."""

import ast
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.commands import evaluate, predict
from rnn_hf.commands import train as train_script
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.data.word_vectors import read_word_vectors
from rnn_hf.safe_loading import check_model
from tests.conftest import TINY_RUN, in_new_process
from tests.refusals import assert_refused

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "rnn_hf").rglob("*.py"), *(ROOT / "scripts").glob("*.py")])

Train = Callable[..., tuple[dict[str, Any], Path]]

# Files that some library reads as pickles
PICKLES = (
    "pytorch_model.bin", "training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin",
    "rng_state.pth", "rng_state_0.pth", "random_states_0.pkl", "custom_checkpoint_0.pkl", "scaler.pt", "sampler.bin",
    "tokenizer.model", "tokenizer.pkl", "spiece.model", "vocab.pkl", "vocab.bin", "adapter_model.bin", "data.pkl",
    "model.pt", "state.pkl", "generators.pkl", "streams.pt", "dataset.pkl", "cache.npy",
)  # fmt: skip


class Planted:
    """What makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that is there at the end only if planted code was run."""
    marker = tmp_path / "marker"
    yield marker
    assert not marker.exists(), "planted code was run"


def plant(folder: Path, marker: Path) -> None:
    """Put pickles wherever somebody might read one."""
    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Planted(marker)))


def test_what_is_planted_runs_where_it_is_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    plant(tmp_path, marker)
    pickle.loads((tmp_path / "data.pkl").read_bytes()).close()  # noqa: S301  # that is what it shows
    assert marker.exists()


def test_pickles_beside_a_model_and_a_checkpoint_are_never_read(train: Train, marker: Path, tmp_path: Path) -> None:
    """Loaded, evaluated, asked, trained on, taught by, and resumed."""
    settings = ["--save_strategy", "epoch"]
    _, folder = train("run", *settings)
    (checkpoint,) = (folder / "checkpoints").iterdir()
    for place in (folder, folder / "checkpoints"):
        plant(place, marker)
    assert TextClassifier.from_pretrained(folder).predict("a text") is not None
    model = ["--model_name_or_path", str(folder)]
    evaluate.main([*model, "--dataset_name", "demo", "--use_cpu"])
    predict.main([*model, "--text", "a text"])
    train("second", *model, "--tokenizer_name_or_path", str(folder), "--max_steps", "1")
    resume = [*settings, "--resume_from_checkpoint", "latest"]
    train("run", *resume)
    plant(checkpoint, marker)
    with pytest.raises(SystemExit, match="2"):  # what it has no digest of is not looked at
        train("run", *resume)


def test_a_folder_whose_weights_are_a_pickle_is_refused_by_every_script(
    train: Train, marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = train("run")
    (folder / "model.safetensors").unlink()
    plant(folder, marker)
    with pytest.raises(ValueError, match=r"as a pickle \(pytorch_model.bin\), .* convert it"):
        TextClassifier.from_pretrained(folder)
    out = ["--output_dir", str(tmp_path / "out")]
    for script, argv in (
        ("evaluate", ["--model_name_or_path", str(folder), "--dataset_name", "demo"]),
        ("predict", ["--model_name_or_path", str(folder), "--text", "a"]),
        ("train", [*TINY_RUN, *out, "--model_name_or_path", str(folder)]),
        ("train_language_model", [*TINY_RUN, *out, "--model_name_or_path", str(folder)]),
        ("train_with_trainer", [*TINY_RUN, *out, "--model_name_or_path", str(folder)]),
        ("benchmark", ["predict", "--model_name_or_path", str(folder), "--dataset_name", "demo"]),
        ("distill", [*TINY_RUN, *out, "--teacher_name_or_path", str(folder)]),
    ):
        assert_refused(script, argv, "as a pickle (pytorch_model.bin)", tmp_path, capsys)


@pytest.mark.parametrize("name", ["vectors.pkl", "vectors.npy", "vectors.npz", "vectors.bin", "vectors.txt"])
@pytest.mark.parametrize("is_array", [False, True], ids=["pickle", "array"])
def test_word_vectors_that_are_a_pickle_are_not_read(name: str, is_array: bool, marker: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    if is_array:
        with path.open("wb") as file:
            np.save(file, np.array([Planted(marker)], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Planted(marker)))
    with pytest.raises(ValueError, match="must"):
        read_word_vectors(path, {"cat": 0})


def test_a_dataset_folder_runs_no_script_and_reads_no_pickle(marker: Path, tmp_path: Path) -> None:
    folder = tmp_path / "news"
    folder.mkdir()
    code = f"open({str(marker)!r}, 'w')\n"
    for name in ("news.py", "dataset.py", "__init__.py", "conftest.py"):
        (folder / name).write_text(code)
    plant(folder, marker)
    with pytest.raises(ValueError, match="scripts are no longer supported"):
        load_text_dataset(str(folder))
    (folder / "news.py").unlink()
    (folder / "train.csv").write_text("text,label\n" + "a,x\nb,y\n" * 30)
    load_text_dataset(str(folder))


# What a folder can name its code for
AUTO_MAP = {
    "AutoConfig": "planted.Config",
    "AutoModel": "planted.Model",
    "AutoModelForSequenceClassification": "planted.Model",
    "AutoModelForCausalLM": "planted.Model",
    "AutoTokenizer": ["planted.Tokenizer", "planted.Tokenizer"],
}


def plant_code(folder: Path, marker: Path, model_type: str | None, file: str) -> None:
    path = folder / file
    content = json.loads(path.read_text()) | {"auto_map": AUTO_MAP, "custom_pipelines": {"x": {"impl": "planted.P"}}}
    if file == "config.json":
        content["model_type"] = model_type
    else:
        content["tokenizer_class"] = "PlantedTokenizer"
    path.write_text(json.dumps(content))
    for name in ("planted.py", "configuration_rnn.py", "modeling_rnn.py"):
        (folder / name).write_text(f"open({str(marker)!r}, 'w')\n")


@pytest.mark.parametrize(
    ("file", "model_type", "is_good"),
    [
        ("config.json", "rnn_hf", True),
        ("config.json", "planted", False),
        ("config.json", None, False),
        ("tokenizer_config.json", None, False),
    ],
)
def test_code_beside_a_model_is_never_run_and_nobody_is_asked_for_it(
    file: str,
    model_type: str | None,
    is_good: bool,
    train: Train,
    marker: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, folder = train("run")
    plant_code(folder, marker, model_type, file)
    # whoever pipes texts may be piping a yes
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    model = ["--model_name_or_path", str(folder)]
    out = ["--output_dir", str(tmp_path / "out"), "--max_steps", "1"]
    runs = [
        ("evaluate", [*model, "--dataset_name", "demo"]),
        ("predict", [*model, "--text", "a"]),
        ("train", [*TINY_RUN, *out, *model]),
        ("distill", [*TINY_RUN, *out, "--teacher_name_or_path", str(folder)]),
    ]
    if is_good:
        TextClassifier.from_pretrained(folder)
        evaluate.main(runs[0][1])
        predict.main(runs[1][1])
        train_script.main(runs[2][1])
        return
    with pytest.raises(ValueError):
        TextClassifier.from_pretrained(folder)
    for script, argv in runs:
        assert_refused(script, argv, str(folder), tmp_path, capsys)
    if file == "tokenizer_config.json":
        tokenizer = [*TINY_RUN, *out, "--tokenizer_name_or_path", str(folder)]
        assert_refused("train", tokenizer, "cannot be loaded", tmp_path, capsys)


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Yield the parts of all sources, each with its place and its text."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
                yield f"{source}:{node.lineno}: {ast.unparse(node)}", node


def given(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def test_no_source_reads_a_pickle() -> None:
    """Nor any weights of a form that could be one."""
    assert len(SOURCES) > 50
    for place, node in nodes():
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not modules & {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}, place
        elif isinstance(node, ast.Call):
            name, keywords = ast.unparse(node.func), given(node)
            assert name != "torch.load" or keywords.get("weights_only") == "True", place
            assert keywords.get("allow_pickle", "False") == "False", place
            assert not name.endswith(("register_for_checkpointing", "load_state", "read_pickle")), place
            assert name not in ("yaml.unsafe_load", "yaml.full_load", "eval", "exec"), place
            assert name != "yaml.load" or "MappingLoader" in place, place


def test_every_model_is_loaded_from_safetensors_and_no_code_is_run_unasked() -> None:
    num_calls = 0
    for place, node in nodes():
        owner, _, method = ast.unparse(node.func).rpartition(".") if isinstance(node, ast.Call) else ("", "", "")
        if method != "from_pretrained" or owner.startswith(("TextClassifier", "super")):
            continue
        if place.endswith(" kind.from_pretrained(**place)"):  # of a `TextClassifier` that was pickled
            continue
        num_calls += 1
        keywords = given(node)
        if "Tokenizer" in owner:
            assert "trust_remote_code" in keywords, f"it would ask: {place}"
        elif "Config" not in owner:
            assert keywords.get("use_safetensors") == "True", place
        # the handler of an endpoint runs beside the code of its own repository
        is_trusted = keywords.get("trust_remote_code") == "True"
        assert is_trusted == ("endpoint/handler.py" in place), place
    assert num_calls > 5


# What would take gigabytes if it were believed, and what is said of it
CLAIMS = [
    ("config.json", {"hidden_size": 10**9}, "has `hidden_size` 1000000000"),
    ("config.json", {"hidden_size": 200_000}, "has `hidden_size` 200000"),
    ("config.json", {"vocab_size": 10**15}, "has `vocab_size` 1000000000000000"),
    ("config.json", {"embedding_size": 10**9}, "has `embedding_size` 1000000000"),
    ("config.json", {"num_hidden_layers": 10**8}, "has `num_hidden_layers` 100000000"),
    ("config.json", {"num_labels": 10**9}, "has `num_labels` 1000000000"),
    ("model.safetensors", ([10**15], 4 * 10**15, None), "is not a complete file of weights"),
    ("model.safetensors", ([10**9, 10**6], 4, None), "is not a complete file of weights"),
    ("model.safetensors", ([1], 4, 2**60), "is not a complete file of weights"),
    ("vectors.txt", b"1000000000000 300\ncat 1 2\n", "must have a word and 300 numbers"),
    ("vectors.txt", b"2 1000000000000\ncat 1 2\n", "must have a word and 1000000000000 numbers"),
    ("vectors.txt", b"1000000000000 1000000000000\ncat \x00\x01", "which is impossible"),
]  # fmt: skip

GREEDY = """
import json, resource, sys
from pathlib import Path
from rnn_hf import TextClassifier
from rnn_hf.data.word_vectors import read_word_vectors

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

TextClassifier.from_pretrained(sys.argv[1])
# not more than a gigabyte beyond what the libraries have reserved
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, size + 2**30))
for folder in map(Path, sys.argv[2:]):
    before = memory()
    try:
        if (folder / "vectors.txt").exists():
            read_word_vectors(folder / "vectors.txt", {"cat": 0})
        else:
            TextClassifier.from_pretrained(folder)
    except ValueError as error:
        print(json.dumps([str(error), memory() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited by means of Linux")
def test_no_memory_is_taken_for_a_size_that_is_only_claimed(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c"])
    good = tmp_path / "good"
    RNNForSequenceClassification(RNNConfig(vocab_size=len(tokenizer), hidden_size=4)).save_pretrained(good)
    tokenizer.save_pretrained(good)
    folders = []
    for number, (name, claim, _) in enumerate(CLAIMS):
        folder = shutil.copytree(good, tmp_path / str(number))
        folders.append(str(folder))
        if isinstance(claim, dict):
            content = json.dumps(json.loads((folder / name).read_text()) | claim).encode()
        elif isinstance(claim, tuple):
            shape, num_bytes, length = claim
            entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, num_bytes]}
            header = json.dumps({"model.embed_tokens.weight": entry}).encode()
            content = struct.pack("<Q", length or len(header)) + header
        else:
            content = claim
        (folder / name).write_bytes(content)
    done = in_new_process(GREEDY, str(good), *folders, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(CLAIMS)
    for (said, megabytes), (_, _, says) in zip(answers, CLAIMS, strict=True):
        assert says in said
        assert megabytes < 50, said


def test_a_model_of_many_honest_parts_is_loaded(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c"])
    model = RNNForSequenceClassification(RNNConfig(vocab_size=len(tokenizer), embedding_size=40))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert check_model(tmp_path).embedding_size == 40
    expected = TextClassifier(model, tokenizer).predict_proba("a b")
    assert TextClassifier.from_pretrained(tmp_path).predict_proba("a b").tolist() == expected.tolist()
