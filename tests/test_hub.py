"""What is pushed to a Hub can be loaded from there, with the package and without it."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    hf_hub_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.commands import push_to_hub
from rnn_hf.data.tokenizer_training import save_tokenizer, train_tokenizer
from rnn_hf.data.tokenizing import training_length
from tests.hub_cards import card_errors
from tests.local_hub import READ_TOKEN
from tests.tiny_classifiers import unpickled

NAME = "owner/tiny"
TEXTS = ["the club won the cup", "shares fell as oil rose", "unheard words", ""]
CARD = "---\npipeline_tag: text-classification\nlibrary_name: transformers\n---\n# Tiny\n"


def make_classifier(seed: int = 0) -> TextClassifier:
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS, max_length=16)
    config = RNNConfig(
        vocab_size=len(tokenizer), embedding_size=4, hidden_size=3, bidirectional=True, classifier_pooling="mean_max"
    )
    return TextClassifier(RNNForSequenceClassification(config), tokenizer)


def save_folder(classifier: TextClassifier, folder: Path, card: str = CARD) -> Path:
    """Write what the training script writes, as far as loading goes."""
    classifier.model.save_pretrained(folder)
    save_tokenizer(classifier.tokenizer, folder)
    (folder / "README.md").write_text(card)
    return folder


@torch.no_grad()
def logits_of(classifier: TextClassifier) -> list[list[float]]:
    batch = classifier.tokenizer(TEXTS, padding=True, return_tensors="pt")
    logits: list[list[float]] = classifier.model(**batch).logits.tolist()
    return logits


# The Hub of the tests says what the real one says


def test_a_private_repository_is_hidden_from_whoever_has_no_token(hub: str) -> None:
    api = HfApi()
    api.create_repo(NAME, private=True)
    assert api.model_info(NAME).private
    assert HfApi(token=READ_TOKEN).model_info(NAME).private
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).model_info(NAME)
    api.create_repo("owner/open")
    assert not HfApi(token=False).model_info("owner/open").private


def test_only_a_token_with_the_right_to_write_makes_a_repository(hub: str) -> None:
    for name, token in [(NAME, READ_TOKEN), (NAME, False), (NAME, "hf_unknown"), ("others/tiny", None)]:
        with pytest.raises(HfHubHTTPError, match=r"401|403"):
            HfApi().create_repo(name, token=token)
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info(NAME)


def test_a_commit_adds_deletes_and_copies_and_leaves_older_ones_as_they_were(hub: str, tmp_path: Path) -> None:
    api = HfApi()
    api.create_repo(NAME)
    weights = b"\x00 many bytes"
    add = [CommitOperationAdd(name, content) for name, content in [("a.txt", b"one"), ("w/x.safetensors", weights)]]
    first = api.create_commit(NAME, add, commit_message="first")
    second = api.create_commit(
        NAME,
        [
            CommitOperationDelete("a.txt"),
            CommitOperationAdd("b.txt", b"two"),
            CommitOperationCopy("w/x.safetensors", "y.safetensors"),
        ],
        commit_message="second",
    )
    assert first.oid != second.oid
    assert set(api.list_repo_files(NAME, revision=first.oid)) == {".gitattributes", "a.txt", "w/x.safetensors"}
    files = {".gitattributes", "b.txt", "w/x.safetensors", "y.safetensors"}
    assert set(api.list_repo_files(NAME)) == set(api.list_repo_files(NAME, revision=second.oid)) == files
    assert Path(hf_hub_download(NAME, "y.safetensors")).read_bytes() == weights
    assert Path(hf_hub_download(NAME, "a.txt", revision=first.oid)).read_bytes() == b"one"


def test_branches_and_tags_are_revisions_and_what_is_unknown_is_refused(hub: str) -> None:
    api = HfApi()
    api.create_repo(NAME)
    first = api.create_commit(NAME, [CommitOperationAdd("a", b"1")], commit_message="first").oid
    api.create_tag(NAME, tag="v1")
    api.create_branch(NAME, branch="next/big")
    api.create_commit(NAME, [CommitOperationAdd("a", b"2")], commit_message="second", revision="next/big")
    assert api.model_info(NAME, revision="v1").sha == api.model_info(NAME).sha == first
    assert Path(hf_hub_download(NAME, "a", revision="next/big")).read_bytes() == b"2"
    assert Path(hf_hub_download(NAME, "a", revision="v1")).read_bytes() == b"1"
    with pytest.raises(RevisionNotFoundError):
        api.model_info(NAME, revision="nowhere")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(NAME, "a", revision="nowhere")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(NAME, "b")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("owner/nothing", "a")


def test_a_commit_on_an_old_state_is_refused(hub: str) -> None:
    api = HfApi()
    api.create_repo(NAME)
    old = api.model_info(NAME).sha
    api.create_commit(NAME, [CommitOperationAdd("a", b"1")], commit_message="first")
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(NAME, [CommitOperationAdd("a", b"2")], commit_message="late", parent_commit=old)


RESULT = "{task: {type: t}, dataset: {type: d, name: d}, metrics: [{type: m, value: 1}]}"


@pytest.mark.parametrize(
    ("front_matter", "message"),
    [
        ("license: [mit", "not valid"),
        ("- a list", "must be an object"),
        ("license: my-own", '"license" must be one of'),
        ("pipeline_tag: text-clasification", '"pipeline_tag" must be one of'),
        ("tags: one", '"tags" must be an array'),
        ("datasets: [null]", '"datasets" must hold strings only'),
        ("model-index: {name: m}", '"model-index" must be an array'),
        (f"model-index: [{{results: [{RESULT}]}}]", '"model-index[0].name" is required'),
        (
            f"model-index: [{{name: m, results: [{RESULT.replace(', name: d', '')}]}}]",
            '"model-index[0].results[0].dataset.name" is required',
        ),
        (
            f"model-index: [{{name: m, results: [{RESULT.replace(', value: 1', '')}]}}]",
            '"model-index[0].results[0].metrics[0].value" is required',
        ),
    ],
)
def test_a_card_with_bad_front_matter_is_told_apart(front_matter: str, message: str) -> None:
    assert any(message in error for error in card_errors(f"---\n{front_matter}\n---\ntext\n"))


def test_a_good_card_is_accepted_and_a_bad_one_refused_wherever_it_comes(hub: str) -> None:
    model_index = f"model-index: [{{name: m, results: [{RESULT}]}}]"
    good = f"---\nlicense: other\npipeline_tag: text-classification\ntags: [a]\n{model_index}\n---\ntext\n"
    bad = good.replace("other", "my-own")
    api = HfApi()
    api.create_repo(NAME)
    ModelCard(good).validate()
    api.create_commit(NAME, [CommitOperationAdd("README.md", good.encode())], commit_message="good")
    with pytest.raises(ValueError, match='Error: "license" must be one of'):
        ModelCard(bad).validate()
    with pytest.raises(ValueError, match='"license" must be one of'):
        api.create_commit(NAME, [CommitOperationAdd("README.md", bad.encode())], commit_message="bad")
    assert Path(hf_hub_download(NAME, "README.md")).read_text() == good


def test_large_content_that_was_never_uploaded_is_refused(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api = HfApi()
    api.create_repo(NAME)
    monkeypatch.setattr(HfApi, "preupload_lfs_files", lambda self, additions, **kwargs: None)
    operation = CommitOperationAdd("x.safetensors", b"content")
    operation._upload_mode = "lfs"
    with pytest.raises(BadRequestError, match="was not uploaded"):
        api.create_commit(NAME, [operation], commit_message="lost")


# Every way of pushing


def push_by_script(classifier: TextClassifier, name: str, tmp_path: Path) -> None:
    push_to_hub.main([str(save_folder(classifier, tmp_path / "saved")), name])


def push_by_methods(classifier: TextClassifier, name: str, tmp_path: Path) -> None:
    classifier.model.push_to_hub(name)
    classifier.tokenizer.push_to_hub(name)


def push_by_trainer(classifier: TextClassifier, name: str, tmp_path: Path) -> None:
    rows = Dataset.from_list([{**classifier.tokenizer(text), "labels": 0} for text in TEXTS])
    args = TrainingArguments(
        str(tmp_path / "trainer"), push_to_hub=True, hub_model_id=name, max_steps=1, use_cpu=True, save_strategy="no"
    )
    trainer = Trainer(classifier.model, args, train_dataset=rows, processing_class=classifier.tokenizer)
    trainer.train()
    trainer.push_to_hub()
    classifier.model.eval()


@pytest.mark.parametrize("push", [push_by_script, push_by_methods, push_by_trainer])
def test_what_is_pushed_loads_with_the_package(push: Any, hub: str, tmp_path: Path) -> None:
    classifier = make_classifier()
    push(classifier, NAME, tmp_path)
    loaded = TextClassifier.from_pretrained(NAME)
    assert logits_of(loaded) == logits_of(classifier)
    # and once more after saving what was loaded
    loaded.model.push_to_hub("owner/again")
    loaded.tokenizer.push_to_hub("owner/again")
    assert logits_of(TextClassifier.from_pretrained("owner/again")) == logits_of(classifier)


def test_a_pickle_stays_at_the_commit_that_was_loaded(hub: str, tmp_path: Path) -> None:
    old, new = make_classifier(1), make_classifier(2)
    push_by_script(old, NAME, tmp_path / "old")
    pickled = pickle.dumps(TextClassifier.from_pretrained(NAME))
    push_by_script(new, NAME, tmp_path / "new")
    assert logits_of(TextClassifier.from_pretrained(NAME)) == logits_of(new)
    assert logits_of(unpickled(pickled)) == logits_of(old)


def test_auto_classes_load_from_the_hub_with_the_package_and_no_question(hub: str, tmp_path: Path) -> None:
    push_by_script(make_classifier(), NAME, tmp_path)
    assert type(AutoModelForSequenceClassification.from_pretrained(NAME)) is RNNForSequenceClassification
    assert training_length(AutoTokenizer.from_pretrained(NAME)) == 16
