"""Classifiers in threads and forks: right answers, and torch's threads as they were."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from rnn_hf import onnx_classifier
from rnn_hf.inference import workers
from rnn_hf.text_classifier import TextClassifier
from rnn_hf.threads import in_new_thread, num_threads_here
from tests.conftest import in_new_process
from tests.tiny_classifiers import TEXTS, make_classifier, text_by_text


@pytest.fixture
def classifier() -> TextClassifier:
    return make_classifier()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("batch_size", [3, 1000], ids=["in the pool", "in this thread"])
def test_a_stream_is_read_in_chunks_and_keeps_its_order(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr(onnx_classifier, "CHUNK_SIZE", 20)
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
@pytest.mark.parametrize("num_texts", [1, 100, 10_000])
def test_each_worker_computes_on_one_thread(num_texts: int) -> None:
    """Even if it is the first time that its thread uses torch."""
    assert list(workers(num_texts, batch_size=256).map(lambda _: torch.get_num_threads(), range(4))) == [1] * 4
    assert torch.get_num_threads() == 2


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
