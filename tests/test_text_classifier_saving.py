"""Classifiers on their way to disk and back, into pickles and into caches."""

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, load_from_disk
from datasets.fingerprint import Hasher

from rnn_hf.text_classifier import TextClassifier
from tests.tiny_classifiers import TEXTS, make_classifier, unpickled


@pytest.fixture
def classifier() -> TextClassifier:
    return make_classifier()


def test_a_saved_classifier_gives_the_same_answers(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    loaded = TextClassifier.from_pretrained(tmp_path)
    assert np.array_equal(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert (loaded.labels, loaded.max_length) == (["LABEL_0", "LABEL_1", "LABEL_2"], 9)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float64, "torch.float32"])
def test_a_classifier_is_loaded_in_the_type_asked_for(
    classifier: TextClassifier, tmp_path: Path, dtype: str | torch.dtype
) -> None:
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    loaded = TextClassifier.from_pretrained(tmp_path, dtype=dtype, device="cpu")
    assert str(loaded.model.dtype).removeprefix("torch.") == str(dtype).removeprefix("torch.")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int4"}, "must be a floating type of torch, got 'int4'"),
        ({"dtype": torch.int32}, "got torch.int32"),
        ({"dtype": "int8"}, '`dtype="int8"` is no longer offered: .* Pass "float32", "float16" or "bfloat16"'),
        ({"dtype": torch.int8}, "is no longer offered"),
    ],
)
def test_a_type_that_cannot_be_is_refused(
    classifier: TextClassifier, tmp_path: Path, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TextClassifier.from_pretrained(tmp_path, **arguments)  # type: ignore[arg-type]


def test_a_loaded_classifier_is_pickled_by_its_place(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    with contextlib.chdir(tmp_path.parent):  # the process that reads the pickle works elsewhere
        loaded = TextClassifier.from_pretrained(
            f"./{tmp_path.name}", dtype="bfloat16", device="cpu", token="secret", cache_dir="cache"
        )
    pickled = pickle.dumps(loaded)
    assert len(pickled) < 1000 and b"secret" not in pickled
    again = unpickled(pickled)
    assert again.model.dtype == torch.bfloat16
    assert np.array_equal(again.predict_proba(TEXTS), loaded.predict_proba(TEXTS))
    assert pickle.dumps(again) == pickled
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        unpickled(pickled)


def hash_of(classifier: TextClassifier) -> str:
    """What `datasets` caches the answers of the classifier under."""
    return Hasher.hash(lambda batch: {"label": classifier.predict(batch["text"])})


def test_a_classifier_in_a_function_has_the_same_hash_until_it_is_trained_again(
    classifier: TextClassifier, tmp_path: Path
) -> None:
    classifier.save_pretrained(tmp_path)
    loaded = TextClassifier.from_pretrained(tmp_path)
    expected = hash_of(loaded)
    loaded.predict(TEXTS)
    loaded.tokenizer(TEXTS, padding=True, truncation=True, max_length=3)
    assert hash_of(loaded) == hash_of(TextClassifier.from_pretrained(tmp_path)) == expected
    assert hash_of(unpickled(pickle.dumps(loaded))) == expected
    with torch.no_grad():
        classifier.model.classifier.bias[1] += 1
    classifier.save_pretrained(tmp_path)
    assert hash_of(loaded) == expected  # its answers are still the old ones
    again = hash_of(TextClassifier.from_pretrained(tmp_path))
    classifier.model.config.id2label = {0: "a", 1: "b", 2: "c"}
    classifier.save_pretrained(tmp_path)
    assert len({expected, again, hash_of(TextClassifier.from_pretrained(tmp_path))}) == 3


def test_a_classifier_of_no_place_in_a_function_has_the_same_hash_until_it_changes(classifier: TextClassifier) -> None:
    expected = hash_of(classifier)
    classifier.predict(TEXTS)
    assert hash_of(classifier) == expected
    with torch.no_grad():
        classifier.model.classifier.bias[1] += 1
    assert hash_of(classifier) != expected


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_dataset_is_mapped_once(classifier: TextClassifier, tmp_path: Path, num_proc: int | None) -> None:
    classifier.save_pretrained(tmp_path / "model")
    Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path / "data")
    files = []
    for _ in range(2):
        loaded = TextClassifier.from_pretrained(tmp_path / "model")
        answers = load_from_disk(tmp_path / "data").map(
            lambda batch, loaded=loaded: {"label": loaded.predict(batch["text"])}, batched=True, num_proc=num_proc
        )
        assert answers["label"] == classifier.predict(TEXTS)
        files.append([file["filename"] for file in answers.cache_files])
    assert files[0] == files[1]


def test_a_classifier_of_no_place_is_pickled_whole(classifier: TextClassifier) -> None:
    again = unpickled(pickle.dumps(classifier))
    assert np.array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert (again.labels, again.max_length) == (classifier.labels, 9)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        TextClassifier.from_pretrained(tmp_path / "nowhere")


def test_whoever_may_read_the_configuration_may_read_the_weights(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.save_pretrained(tmp_path)
    modes = {(tmp_path / name).stat().st_mode for name in ("config.json", "model.safetensors", "tokenizer.json")}
    assert len(modes) == 1
