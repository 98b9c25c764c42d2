import contextlib
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, load_from_disk
from datasets.fingerprint import Hasher

from rnn_hf import RNNConfig, RNNForSequenceClassification, RNNModel, inference
from rnn_hf.configuration_rnn import CellType, ClassifierPooling
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.text_classifier import TextClassifier
from rnn_hf.threads import in_new_thread, num_threads_here
from tests.conftest import in_new_process

TEXTS = ["The cat sat.", "", "a dog", "the cat and the dog sat on a mat, all day long!", "unknown words only"]


def make_classifier(**arguments: object) -> TextClassifier:
    """A classifier whose answers differ from text to text, over a tokenizer that cuts texts after nine tokens."""
    tokenizer = train_tokenizer(["the cat sat on a mat . a dog and all day long !"], max_length=9)
    torch.manual_seed(0)
    settings = {"num_labels": 3, "embedding_initializer_range": 1, **arguments}
    config = RNNConfig(vocab_size=len(tokenizer), **settings)  # type: ignore[arg-type]
    return TextClassifier(RNNForSequenceClassification(config), tokenizer)


@pytest.fixture
def classifier() -> TextClassifier:
    return make_classifier()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def unpickled(data: bytes) -> TextClassifier:
    classifier: TextClassifier = pickle.loads(data)  # noqa: S301  # what a test has pickled
    return classifier


def text_by_text(classifier: TextClassifier, texts: list[str]) -> np.ndarray:
    """The probabilities that the plain model gives each text alone."""
    expected = []
    for text in texts:
        batch = classifier.tokenizer(text, truncation=True, max_length=classifier.max_length, return_tensors="pt")
        with torch.no_grad():
            expected.append(classifier.model(**batch).logits.softmax(dim=-1)[0].numpy())
    return np.array(expected)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("cell_type", get_args(CellType))
def test_probabilities_are_those_of_the_model_text_by_text(
    cell_type: str, bidirectional: bool, num_threads: int
) -> None:
    classifier = make_classifier(cell_type=cell_type, bidirectional=bidirectional)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    actual = classifier.predict_proba(TEXTS, batch_size=2)
    assert torch.get_num_threads() == num_threads
    torch.set_num_threads(before)
    assert (actual.shape, actual.dtype) == ((5, 3), np.float32)
    np.testing.assert_allclose(actual, text_by_text(classifier, TEXTS), atol=1e-6)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_batches_of_many_texts_have_few_shapes_and_little_padding(
    classifier: TextClassifier, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every shape costs time and memory once, so a stream must not bring new ones for ever."""
    generator = np.random.default_rng(0)
    texts = ["a " * length for length in generator.integers(0, 10, size=2000)]
    shapes, num_positions, classify = set(), 0, classifier.model.classify

    def noted(input_ids: torch.Tensor, *others: object) -> object:
        nonlocal num_positions
        shapes.add(tuple(input_ids.shape))
        num_positions += input_ids.numel()
        return classify(input_ids, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(classifier.model, "classify", noted)
    with num_threads_here(num_threads):
        actual = classifier.predict_proba(texts, batch_size=64)
    assert {size for size, _ in shapes if size > 8} <= {16, 32, 48, 64}
    num_tokens = sum(len(text) // 2 for text in texts)
    assert num_tokens < num_positions < 1.1 * num_tokens
    first_of_length = {text: texts.index(text) for text in texts}
    expected = text_by_text(classifier, list(first_of_length))
    np.testing.assert_allclose(actual[list(first_of_length.values())], expected, atol=1e-6)
    np.testing.assert_allclose(actual, actual[[first_of_length[text] for text in texts]], atol=1e-6)


def test_labels_are_the_most_probable_ones(classifier: TextClassifier) -> None:
    expected = [classifier.labels[index] for index in text_by_text(classifier, TEXTS).argmax(axis=1)]
    assert len(set(expected)) > 1  # or the order would not be seen
    assert classifier.predict(TEXTS) == expected
    assert classifier.predict(iter(TEXTS), batch_size=1) == expected


def test_a_single_string_has_a_single_answer(classifier: TextClassifier) -> None:
    probabilities = classifier.predict_proba(TEXTS[3])
    np.testing.assert_allclose(probabilities, text_by_text(classifier, TEXTS)[3], atol=1e-6)
    assert classifier.predict(TEXTS[3]) == classifier.labels[probabilities.argmax()]


def test_no_text_has_no_answer(classifier: TextClassifier) -> None:
    assert classifier.predict([]) == []
    assert classifier.predict_proba([]).shape == (0, 3)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("batch_size", [3, 1000], ids=["in the pool", "in this thread"])
def test_a_stream_is_read_in_chunks_and_keeps_its_order(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr(inference, "CHUNK_SIZE", 20)
    num_read = 0

    def stream() -> Iterator[str]:
        nonlocal num_read
        for index in range(103):
            num_read += 1
            yield TEXTS[index % len(TEXTS)]

    chunks = classifier.iter_proba(stream(), batch_size)
    first = next(chunks)
    assert num_read <= 60
    answers = np.concatenate([first, *chunks])
    np.testing.assert_allclose(answers, np.resize(text_by_text(classifier, TEXTS), (103, 3)), atol=1e-6)


@pytest.mark.usefixtures("two_threads")
def test_an_error_of_the_stream_reaches_the_caller_and_the_threads_are_put_back(classifier: TextClassifier) -> None:
    def stream() -> Iterator[str]:
        yield from TEXTS * 2000
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        list(classifier.iter_proba(stream(), batch_size=8))
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("texts", [TEXTS[3], TEXTS, TEXTS * 60], ids=["one_text", "one_batch", "many_batches"])
def test_threads_get_the_right_answers_and_keep_their_number_of_torchs_threads(
    classifier: TextClassifier, texts: str | list[str]
) -> None:
    """While the calls run and after."""
    expected = text_by_text(classifier, [texts] if isinstance(texts, str) else TEXTS)
    expected = np.resize(expected, classifier.predict_proba(texts).shape)

    def use(_: int) -> int:
        for _ in range(5):
            np.testing.assert_allclose(classifier.predict_proba(texts, batch_size=100), expected, atol=1e-6)
            assert in_new_thread(torch.get_num_threads) == 2
        return torch.get_num_threads()

    classifier.predict_proba(texts, batch_size=100)  # the first call starts the workers
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(16))) == [2] * 16
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == 2


@pytest.mark.usefixtures("two_threads")
def test_a_thread_has_its_own_number_of_torchs_threads_for_a_while() -> None:
    with num_threads_here(1):
        assert (torch.get_num_threads(), in_new_thread(torch.get_num_threads)) == (1, 2)
        with num_threads_here(3):
            assert (torch.get_num_threads(), in_new_thread(torch.get_num_threads)) == (3, 2)
    assert (torch.get_num_threads(), in_new_thread(torch.get_num_threads)) == (2, 2)


@pytest.mark.usefixtures("two_threads")
def test_a_stream_under_way_changes_no_thread(classifier: TextClassifier) -> None:
    chunks = classifier.iter_proba(iter(TEXTS * 6000), batch_size=8)
    next(chunks)
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == 2
    chunks.close()
    assert torch.get_num_threads() == in_new_thread(torch.get_num_threads) == 2


@pytest.mark.usefixtures("two_threads")
def test_texts_that_come_one_by_one_from_many_threads_do_not_disturb_one_another(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are answered one at a time: threads that take turns after every operation are slower than one."""
    under_way = most = 0
    classify = classifier.model.classify

    def noted(*arguments: torch.Tensor) -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.001)
        under_way -= 1
        return classify(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(classifier.model, "classify", noted)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(classifier.predict, TEXTS * 4))
    assert most == 1


FORK = """
import multiprocessing, sys
import torch
from rnn_hf import TextClassifier

torch.set_num_threads(2)
classifier = TextClassifier.from_pretrained(sys.argv[1])
texts = ["the cat sat", "a dog", ""] * 30
shapes = [texts[0], texts[:1], texts, texts * 10]

def answers(classifier):
    return [classifier.predict(shape) for shape in shapes]

def child(queue):
    queue.put((answers(classifier), answers(TextClassifier.from_pretrained(sys.argv[1])), torch.get_num_threads()))

if __name__ == "__main__":
    torch.rand(500, 500) @ torch.rand(500, 500)  # on both threads
    expected = answers(classifier)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=child, args=(queue,), daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=50) for _ in processes] == [(expected, expected, 2)] * 2
    for process in processes:
        process.join(50)
        assert process.exitcode == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_process_that_has_predicted_can_be_forked(classifier: TextClassifier, tmp_path: Path) -> None:
    """Its children predict, with its classifier and with one that they load, and end."""
    classifier.save_pretrained(tmp_path)
    done = in_new_process(FORK, str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_progress_is_shown_for_long_inputs_unless_it_is_not_wanted(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier.predict(TEXTS)
    assert not capsys.readouterr().err
    monkeypatch.setattr(inference, "SECONDS_BEFORE_PROGRESS", 0)
    classifier.predict(TEXTS)
    assert "5/5" in capsys.readouterr().err
    classifier.predict(TEXTS, show_progress=False)
    assert not capsys.readouterr().err


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("batch_size", [2, 1000], ids=["in_the_pool", "in_this_thread"])
@pytest.mark.parametrize("pooling", get_args(ClassifierPooling))
def test_vectors_are_what_the_classifier_reads(pooling: str, batch_size: int) -> None:
    """Its linear layer over them gives the probabilities."""
    classifier = make_classifier(classifier_pooling=pooling, bidirectional=True, concat_embedding_mean=True)
    vectors = classifier.encode(TEXTS, batch_size=batch_size)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, classifier.model.classifier.in_features)
    with torch.no_grad():
        probabilities = classifier.model.classifier(torch.from_numpy(vectors)).softmax(dim=-1).numpy()
    np.testing.assert_allclose(probabilities, text_by_text(classifier, TEXTS), atol=1e-6)
    assert not vectors[1].any()  # the empty text
    np.testing.assert_allclose(classifier.encode(TEXTS[3]), vectors[3], atol=1e-6)
    np.testing.assert_allclose(classifier.encode(iter(TEXTS)), vectors, atol=1e-6)
    assert classifier.encode([]).shape == (0, vectors.shape[1])


def test_normalized_vectors_have_length_one_and_the_same_direction(classifier: TextClassifier) -> None:
    vectors, normalized = classifier.encode(TEXTS), classifier.encode(TEXTS, normalize_embeddings=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(normalized * lengths, vectors, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(normalized, axis=1), [1, 0, 1, 1, 1], atol=1e-6)


def test_a_model_in_half_the_bytes_gives_vectors(classifier: TextClassifier, tmp_path: Path) -> None:
    classifier.model.save_pretrained(tmp_path)
    classifier.tokenizer.save_pretrained(tmp_path)
    vectors = TextClassifier.from_pretrained(tmp_path, dtype="bfloat16").encode(TEXTS)
    np.testing.assert_allclose(vectors, classifier.encode(TEXTS), atol=0.1)


def test_a_tokenizer_without_a_note_cuts_texts_at_its_longest(classifier: TextClassifier) -> None:
    """As tokenizers of other models and of older folders are."""
    tokenizer = train_tokenizer(["the cat sat on a mat"])
    assert TextClassifier(classifier.model, tokenizer).max_length is None
    del tokenizer.init_kwargs["max_length"]
    tokenizer.model_max_length = 3
    older = TextClassifier(classifier.model, tokenizer)
    assert older.max_length == 3
    np.testing.assert_allclose(older.predict_proba("the cat sat on"), older.predict_proba("the cat sat"), atol=1e-6)


def test_texts_are_cut_where_training_cut_them(classifier: TextClassifier) -> None:
    words = "the cat sat on a mat and a dog"
    short, long = classifier.predict_proba([words, words + " all day long"])
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_a_lone_surrogate_is_an_unknown_character(classifier: TextClassifier) -> None:
    np.testing.assert_allclose(classifier.predict_proba("a \ud800 dog"), classifier.predict_proba("a ? dog"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a dog", None], "must be strings, got None at position 1"),
        (pd.Series(["a dog", float("nan")], dtype=object), "got nan at position 1"),
        ([b"a dog"], "got b'a dog' at position 0"),
        (("a dog", 3), "got 3 at position 1"),
        ((text for text in [*["a dog"] * 50, float("inf")]), "got inf at position 50"),
        ([["a dog", "a cat"]], r"got \['a dog', 'a cat'\] at position 0"),  # a pair, to `tokenizers`
        (np.array([["a dog", "a cat"]]), r"got array\(.* at position 0"),
        (None, "must be a list, got NoneType"),
        (b"a dog", "must be a list, got bytes"),
        ({"text": ["a dog"]}, "must be a list, got dict"),
        (pd.DataFrame({"text": ["a dog"]}), "must be one column, got a table"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch, texts: Any, message: str
) -> None:
    monkeypatch.setattr(inference, "CHUNK_SIZE", 20)
    with pytest.raises(TypeError, match=message):
        classifier.predict(texts)
    if not isinstance(texts, Iterator):
        with pytest.raises(TypeError, match=message):
            classifier.encode(texts)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused(classifier: TextClassifier, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"`batch_size` must be at least 1, got {batch_size}"):
        classifier.predict(TEXTS, batch_size=batch_size)


def test_a_string_is_no_stream(classifier: TextClassifier) -> None:
    with pytest.raises(TypeError, match="Pass `\\[text\\]`"):
        next(classifier.iter_proba("a dog"))


def test_a_larger_tokenizer_is_refused(classifier: TextClassifier) -> None:
    model = RNNForSequenceClassification(RNNConfig(vocab_size=4, num_labels=3))
    with pytest.raises(ValueError, match=r"The tokenizer has \d+ tokens but `config.vocab_size` is 4"):
        TextClassifier(model, classifier.tokenizer)


def test_a_model_with_adapters_is_refused_until_they_are_merged(classifier: TextClassifier) -> None:
    peft = pytest.importorskip("peft")
    expected = classifier.predict_proba(TEXTS)
    model: Any = peft.get_peft_model(
        classifier.model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["embed_tokens"], r=2)
    ).eval()
    with pytest.raises(TypeError, match=r"got `PeftModel.*`\. Pass what its `merge_and_unload\(\)` returns"):
        TextClassifier(model, classifier.tokenizer)
    merged = TextClassifier(model.merge_and_unload(), classifier.tokenizer)
    np.testing.assert_allclose(merged.predict_proba(TEXTS), expected, atol=1e-6)


@pytest.mark.parametrize("model", [RNNModel(RNNConfig(vocab_size=30)), "folder"], ids=["encoder", "path"])
def test_what_is_no_classifier_is_refused(classifier: TextClassifier, model: Any) -> None:
    with pytest.raises(TypeError, match=r"must be an `RNNForSequenceClassification`, got `(RNNModel|str)`"):
        TextClassifier(model, classifier.tokenizer)


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
