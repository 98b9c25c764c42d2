"""Models load by the code that travels with them where the package is missing: from a Hub, from folders, older ones.

One process without the package does all of it, because importing transformers takes longer than each of the jobs.
"""

import inspect
import json
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import transformers
from huggingface_hub import HfApi
from transformers import AutoModel, AutoTokenizer, pipeline

from rnn_hf import (
    RNNConfig,
    RNNForCausalLM,
    RNNForSequenceClassification,
    RNNForTokenClassification,
    RNNPreTrainedModel,
    TextClassifier,
)
from rnn_hf.commands import push_to_hub
from rnn_hf.configuration_rnn import CellType
from rnn_hf.data.tokenizer_training import save_tokenizer, train_tokenizer
from tests.conftest import hub_served, in_new_process
from tests.test_hub import (
    CARD,
    TEXTS,
    logits_of,
    make_classifier,
    push_by_methods,
    push_by_script,
    push_by_trainer,
    save_folder,
)
from tests.tiny_models import HUB_FILES, PACKAGE, make_batch, make_model

# Folders of version 0.1.0, whose auto_map names one modeling file for all heads; their code was deleted
ONE_MODELING_FILE = Path(__file__).parents[1] / "fixtures" / "one_modeling_file"
OLDER = ("classifier", "language_model")
WAYS = {"owner/script": push_by_script, "owner/methods": push_by_methods, "owner/trainer": push_by_trainer}

# Of each kind: the model, its settings, its own Auto class and its pipeline
KINDS: dict[str, tuple[type[RNNPreTrainedModel], dict[str, Any], str, str]] = {
    "classifier": (
        RNNForSequenceClassification,
        {"bidirectional": True, "classifier_pooling": "mean_max", "ngram_buckets": 16},
        "AutoModelForSequenceClassification",
        "text-classification",
    ),
    "tagger": (
        RNNForTokenClassification,
        {"bidirectional": True, "cell_type": "rnn"},
        "AutoModelForTokenClassification",
        "token-classification",
    ),
    "language-model": (
        RNNForCausalLM,
        {"cell_type": "gru", "adaptive_softmax_cutoffs": [5], "eos_token_id": 2, "bos_token_id": 2},
        "AutoModelForCausalLM",
        "text-generation",
    ),
}
KINDS_TEXTS = ['the "club", won. the cup', *TEXTS]


def make_folder(kind: str, folder: Path) -> Path:
    """A saved model with its tokenizer and card."""
    model_class, settings, _, task = KINDS[kind]
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, has_end_of_text=kind == "language-model")
    model = model_class(RNNConfig(vocab_size=len(tokenizer), embedding_size=4, hidden_size=3, **settings))
    if isinstance(model, RNNForSequenceClassification):
        torch.nn.init.normal_(model.ngrams.table.weight)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    (folder / "README.md").write_text(CARD.replace("text-classification", task))
    return folder


@torch.no_grad()
def answers(name: str, auto_class: str, task: str, texts: list[str], **trust: bool) -> tuple[Any, Any, Any, Any]:
    """Logits, states of the encoder and what the pipeline returns, as JSON; then model, encoder and tokenizer."""
    model = getattr(transformers, auto_class).from_pretrained(name, **trust)
    encoder, tokenizer = AutoModel.from_pretrained(name, **trust), AutoTokenizer.from_pretrained(name, **trust)
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    # tokens: without the package, transformers' own pipeline puts no blank between a prompt and what follows
    arguments = {"max_new_tokens": 9, "do_sample": False, "return_tensors": True} if task == "text-generation" else {}
    answered = pipeline(task, model=name, **trust)(texts[:2], **arguments)
    results = [model(**batch).logits.tolist(), encoder(**batch).last_hidden_state.tolist(), answered]
    return json.loads(json.dumps(results, default=float)), model, encoder, tokenizer


# As where the package is not installed: an entry of `None` makes every import of it fail
DO_JOBS = f"""
import json, pickle, sys, traceback
from pathlib import Path
from typing import Any
sys.modules["rnn_hf"] = None
import torch, transformers
from transformers import (
    AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline
)

TRUST = {{"trust_remote_code": True}}

def logits_of(model, tokenizer, texts):
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.tolist()

def is_theirs(*things):
    return all(type(thing).__module__.startswith("transformers_modules.") for thing in things)

{inspect.getsource(answers)}

results = {{}}
for name, code, arguments in json.loads(Path(sys.argv[1]).read_text()):
    scope = globals() | {{"arguments": arguments}}
    try:
        exec(code, scope)
        results[name] = scope["found"]
    except Exception:
        results[name] = traceback.format_exc()
Path(sys.argv[2]).write_text(json.dumps(results))
"""

# It comes first, before any code is trusted
UNTRUSTED = """
found = []
for auto in (AutoConfig, AutoModel, AutoModelForSequenceClassification):
    try:
        auto.from_pretrained(*arguments)
    except ValueError as error:
        found.append(str(error))
found = [found, [name for name in sys.modules if "modeling_rnn" in name]]
"""

PUSHED = """
found, texts, (name,) = [], arguments[0], arguments[1:]
for at in (name, name + "-again"):
    config = AutoConfig.from_pretrained(at, **TRUST)
    model = AutoModelForSequenceClassification.from_pretrained(at, **TRUST)
    encoder = AutoModel.from_pretrained(at, **TRUST)
    assert is_theirs(config, model, encoder)
    for key, weight in encoder.state_dict().items():
        assert torch.equal(weight, model.model.state_dict()[key])
    tokenizer = AutoTokenizer.from_pretrained(at, **TRUST)
    classify = pipeline("text-classification", model=at, **TRUST)
    found.append([logits_of(model, tokenizer, texts), [answer["label"] for answer in classify(texts)]])
    if at == name:
        model.push_to_hub(name + "-again")
        tokenizer.push_to_hub(name + "-again")
"""

OF_A_KIND = """
found, (name, auto_class, task, texts) = [], arguments
for place in (name, name + "-again"):
    answered, model, encoder, tokenizer = answers(place, auto_class, task, texts, **TRUST)
    found.append(answered)
    config = AutoConfig.from_pretrained(place, **TRUST)
    assert is_theirs(config, model, encoder)
    for thing in (config, model, encoder):
        pickle.loads(pickle.dumps(thing))
    # of one class, however they were loaded
    assert type(model.model) is type(encoder)
    if task == "text-generation":
        classifier = AutoModelForSequenceClassification.from_pretrained(place, **TRUST)
        assert type(classifier.model) is type(encoder)
        for key, weight in encoder.state_dict().items():
            assert torch.equal(classifier.model.state_dict()[key], weight)
    else:
        try:
            AutoModelForCausalLM.from_pretrained(place, **TRUST)
        except ValueError as error:
            assert "Unrecognized configuration class" in str(error)
        else:
            raise AssertionError("it has code for generation")
    if place == name:
        model.push_to_hub(name + "-again")
        tokenizer.push_to_hub(name + "-again")
"""

AFTER_ITS_ENCODER = """
encoder = AutoModel.from_pretrained(*arguments, **TRUST)
model = AutoModelForCausalLM.from_pretrained(*arguments, **TRUST)
assert type(model.model) is type(encoder)
found = type(pickle.loads(pickle.dumps(model))).__name__
"""

AT_REVISIONS = """
found, (name, old, texts) = [], arguments
for revisions in ({}, {"revision": old}, {"revision": "main", "code_revision": old}):
    model = AutoModelForSequenceClassification.from_pretrained(name, **TRUST, **revisions)
    tokenizer = AutoTokenizer.from_pretrained(name, **TRUST, **revisions)
    found.append([model.version, logits_of(model, tokenizer, texts)])
"""

OLDER_FOLDER = """
found, (auto_class, texts, *places) = [], arguments
for place in places:
    model = getattr(transformers, auto_class).from_pretrained(place, **TRUST)
    assert is_theirs(model)
    found.append(logits_of(model, AutoTokenizer.from_pretrained(place, **TRUST), texts))
"""

SAVED = """
found, (place, *batch) = [], arguments
for at in (place, place + "-again"):
    config = AutoConfig.from_pretrained(at, **TRUST)
    model = AutoModelForSequenceClassification.from_pretrained(at, **TRUST)
    encoder = AutoModel.from_pretrained(at, **TRUST)
    assert type(config).__name__ == "RNNConfig" and is_theirs(config, model, encoder)
    assert not model.training and not encoder.training
    with torch.no_grad():
        input_ids, attention_mask = map(torch.tensor, batch)
        states = encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        found.append([model(input_ids, attention_mask=attention_mask).logits.tolist(), states.tolist()])
    model.save_pretrained(place + "-again")
"""

# Also padded and cut off
TOKENIZER = """
tokenizer = AutoTokenizer.from_pretrained(arguments[0])
names = ("model_input_names", "padding_side", "pad_token_id", "unk_token_id")
found = [
    dict(tokenizer(arguments[1], padding=True, truncation=True)),
    tokenizer.get_vocab(),
    [tokenizer.init_kwargs["max_length"], *(getattr(tokenizer, name) for name in names)],
]
"""


class Jobs:
    """What the process without the package is to do; afterwards, what it found."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, str, list[Any]]] = []
        self.expected: dict[str, Any] = {}
        self.found: dict[str, Any] = {}

    def add(self, name: str, code: str, *arguments: Any, expected: Any = None) -> None:
        self.jobs.append((name, code, list(arguments)))
        self.expected[name] = expected

    def do(self, folder: Path) -> None:
        (folder / "jobs.json").write_text(json.dumps(self.jobs))
        files = [str(folder / f"{name}.json") for name in ("jobs", "results")]
        done = in_new_process(DO_JOBS, *files, HF_MODULES_CACHE=str(folder / "modules"))
        assert done.returncode == 0, done.stderr
        self.found = json.loads(Path(files[1]).read_text())


def older_folder(name: str, folder: Path) -> Path:
    """A folder of version 0.1.0, whose code is one modeling file.

    Its configuration and weights are those that 0.1.0 saved; its modeling file is today's code joined in one.
    """
    shutil.copytree(ONE_MODELING_FILE / name, folder)
    configuration, *others = [(PACKAGE / f"{file}.py").read_text() for file in HUB_FILES]
    (folder / "configuration_rnn.py").write_text(configuration)
    imports = re.compile(r"^from \.(?!configuration_rnn)\w+ import (?:\([^)]*\)|.*)\n", re.MULTILINE)
    (folder / "modeling_rnn.py").write_text("\n".join(imports.sub("", text) for text in others))
    (folder / "README.md").write_text(CARD)
    return folder


def auto_class_of_older(name: str) -> str:
    return "AutoModelForCausalLM" if name == "language_model" else "AutoModelForSequenceClassification"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Jobs, Path]]:
    """What the process found that cannot import the package, and the folder of all that it has loaded."""
    folder, jobs = tmp_path_factory.mktemp("there"), Jobs()
    with hub_served(folder):
        push_by_script(make_classifier(), "owner/untrusted", folder / "untrusted")
        jobs.add("untrusted", UNTRUSTED, "owner/untrusted")
        for seed, (name, push) in enumerate(WAYS.items()):
            classifier = make_classifier(seed)
            push(classifier, name, folder / "ways")
            jobs.add(name, PUSHED, TEXTS, name, expected=[logits_of(classifier), classifier.predict(TEXTS)])
        for kind, (_, _, auto_class, task) in KINDS.items():
            path = make_folder(kind, folder / kind)
            push_to_hub.main([str(path), f"owner/{kind}"])
            expected, *_ = answers(str(path), auto_class, task, KINDS_TEXTS)
            jobs.add(kind, OF_A_KIND, f"owner/{kind}", auto_class, task, KINDS_TEXTS, expected=expected)
        push_to_hub.main([str(folder / "language-model"), "owner/after-encoder"])
        jobs.add("after its encoder", AFTER_ITS_ENCODER, "owner/after-encoder")
        versions = {}
        for seed, version in enumerate(("old", "new"), start=3):
            classifier = make_classifier(seed)
            path = save_folder(classifier, folder / version)
            with (path / "modeling_rnn.py").open("a") as file:
                file.write(f'\nRNNForSequenceClassification.version = "{version}"\n')
            address = push_to_hub.main([str(path), "owner/versions"])
            versions[version] = str(address).split("/")[-1], logits_of(classifier)
        jobs.add("versions", AT_REVISIONS, "owner/versions", versions["old"][0], TEXTS, expected=versions)
        for name in OLDER:
            path = older_folder(name, folder / f"older-{name}")
            push_to_hub.main([str(path), f"owner/older-{name}"])
            places = [f"owner/older-{name}", str(path)]
            expected = json.loads((path / "expected_logits.json").read_text())
            jobs.add(f"older {name}", OLDER_FOLDER, auto_class_of_older(name), TEXTS, *places, expected=expected)
        for cell_type in get_args(CellType):
            model = make_model(
                cell_type=cell_type, bidirectional=True, num_hidden_layers=2, classifier_pooling="attention"
            )
            model.save_pretrained(folder / "saved" / cell_type)
            batch = make_batch("with holes")
            with torch.no_grad():
                results = [model(*batch).logits.tolist(), model.model(*batch).last_hidden_state.tolist()]
            place = str(folder / "saved" / cell_type)
            jobs.add(cell_type, SAVED, place, *(tensor.tolist() for tensor in batch), expected=results)
        words = train_tokenizer(["a b c", "B c c", "it's [UNK] <br />"], max_length=5)
        words.save_pretrained(folder / "words")
        texts = ["B c, a's [UNK] [PAD] zz", "", "c"]
        expected = [dict(words(texts, padding=True, truncation=True)), words.get_vocab()]
        expected.append([5, ["input_ids", "attention_mask"], "right", 0, 1])
        jobs.add("tokenizer", TOKENIZER, str(folder / "words"), texts, expected=expected)
        jobs.do(folder)
        yield jobs, folder


There = tuple[Jobs, Path]


def test_code_is_not_run_without_being_trusted(there: There) -> None:
    refusals, loaded = there[0].found["untrusted"]
    assert len(refusals) == 3
    assert all("trust_remote_code=True" in refusal for refusal in refusals)
    assert loaded == []


@pytest.mark.parametrize("name", WAYS)
def test_what_is_pushed_in_any_way_loads_bit_for_bit(there: There, name: str) -> None:
    """Through every Auto class and the pipeline, and once more after it was pushed from there."""
    jobs, _ = there
    assert jobs.found[name] == [jobs.expected[name]] * 2
    assert len({str(jobs.expected[way]) for way in WAYS}) == len(WAYS)
    # what was pushed from there is whole, with the package, too
    assert logits_of(TextClassifier.from_pretrained(f"{name}-again")) == jobs.expected[name][0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_loads_from_the_hub_bit_for_bit(there: There, kind: str) -> None:
    """Through every Auto class that applies and the pipeline, and once more after saving and pushing it from there."""
    jobs, _ = there
    assert jobs.found[kind] == [jobs.expected[kind]] * 2
    _, _, auto_class, task = KINDS[kind]
    for name in (f"owner/{kind}", f"owner/{kind}-again"):
        results, model, encoder, _ = answers(name, auto_class, task, KINDS_TEXTS)
        assert results == jobs.expected[kind]
        assert type(model) is KINDS[kind][0] and type(model.model) is type(encoder)


def test_a_language_model_that_was_loaded_after_its_encoder_is_pickled(there: There) -> None:
    assert there[0].found["after its encoder"] == "RNNForCausalLM"


def test_a_revision_pins_weights_and_code(there: There) -> None:
    """Loaded at an older commit, a model has that commit's weights and code; `code_revision` is for the code alone."""
    jobs, _ = there
    (old, old_logits), (_, new_logits) = (jobs.expected["versions"][version] for version in ("old", "new"))
    assert old_logits != new_logits
    assert jobs.found["versions"] == [["new", new_logits], ["old", old_logits], ["old", new_logits]]
    assert logits_of(TextClassifier.from_pretrained("owner/versions", revision=old)) == old_logits


@pytest.mark.parametrize("name", OLDER)
def test_an_older_folder_loads_and_can_be_pushed_with_and_without_the_package(there: There, name: str) -> None:
    """The logits are those of the version that saved it."""
    jobs, folder = there
    expected = torch.tensor(jobs.expected[f"older {name}"])
    for logits in jobs.found[f"older {name}"]:
        torch.testing.assert_close(torch.tensor(logits), expected, rtol=0, atol=1e-6)
    place = folder / f"older-{name}"
    code = [file for file in HfApi().list_repo_files(f"owner/older-{name}") if file.endswith(".py")]
    assert sorted(code) == ["configuration_rnn.py", "modeling_rnn.py"]
    generates = name == "language_model"
    model_class = RNNForCausalLM if generates else RNNForSequenceClassification
    for at in (f"owner/older-{name}", str(place)):
        model = model_class.from_pretrained(at).eval()
        batch = AutoTokenizer.from_pretrained(at)(TEXTS, padding=True, return_tensors="pt")
        torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=1e-6)
    if not generates:
        assert TextClassifier.from_pretrained(place).predict(TEXTS)
    # saved anew, it has the files of this version
    model.save_pretrained(place)
    push_to_hub.main([str(place), f"owner/renewed-{name}"])
    assert {f"{file}.py" for file in HUB_FILES if generates or file != "causal_lm_rnn"} <= set(
        HfApi().list_repo_files(f"owner/renewed-{name}")
    )
    assert pickle.loads(pickle.dumps(model)) is not None  # noqa: S301  # what this test has pickled


@pytest.mark.parametrize("cell_type", get_args(CellType))
def test_a_saved_model_computes_the_same_bit_for_bit(there: There, cell_type: str) -> None:
    """And once more after it was saved there."""
    jobs, folder = there
    assert jobs.found[cell_type] == [jobs.expected[cell_type]] * 2
    assert list((folder / "modules").rglob("modeling_rnn.py"))


def test_a_saved_tokenizer_is_the_same(there: There) -> None:
    jobs, _ = there
    assert jobs.found["tokenizer"] == jobs.expected["tokenizer"]
