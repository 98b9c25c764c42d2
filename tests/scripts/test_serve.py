"""The example of a service, under uvicorn, with many clients at once."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Thread
from typing import Any

import numpy as np
import pytest

from rnn_hf import TextClassifier
from rnn_hf.data.demo_news import load_demo_news
from tests.conftest import ROOT, free_port

uvicorn = pytest.importorskip("uvicorn")
serve = pytest.importorskip("scripts.serve")

MODEL = ROOT / "model_cards" / "ag-news"
TEXTS = [*load_demo_news()["test"]["text"][:499], ""]


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[int, TextClassifier]]:
    """Port of the service, and its classifier."""
    classifier = TextClassifier.from_pretrained(MODEL)
    port = int(free_port())
    server = uvicorn.Server(uvicorn.Config(serve.create_app(classifier), port=port, log_level="warning"))
    thread = Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port, classifier
    server.should_exit = True
    thread.join()


def post(connection: HTTPConnection, body: object) -> tuple[int, Any]:
    """Return the status and the answer to a request."""
    connection.request("POST", "/predict", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def ask(port: int, num_requests: int, num_clients: int) -> tuple[list[int], list[float]]:
    """Send requests of one to three texts; return the numbers of wrong answers, and the seconds of each request."""
    expected = TextClassifier.from_pretrained(MODEL).predict(TEXTS)
    wrong, seconds = [], []

    def client(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        for number in range(first, num_requests, num_clients):
            rows = [(number + step) % len(TEXTS) for step in range(1 + number % 3)]
            started = time.perf_counter()
            status, answers = post(connection, {"texts": [TEXTS[row] for row in rows]})
            seconds.append(time.perf_counter() - started)
            if status != 200 or [answer["answer"] for answer in answers] != [expected[row] for row in rows]:
                wrong.append(number)

    with ThreadPoolExecutor(num_clients) as clients:
        list(clients.map(client, range(num_clients)))
    return wrong, seconds


def test_answers_are_those_of_the_classifier(service: tuple[int, TextClassifier]) -> None:
    port, classifier = service
    assert ask(port, 100, 10)[0] == []
    _, answers = post(HTTPConnection("127.0.0.1", port), {"texts": ["oil"]})
    np.testing.assert_allclose([*answers[0]["scores"].values()], classifier.predict_proba("oil"), atol=1e-6)


@pytest.mark.parametrize("body", [{}, {"texts": []}, {"texts": "oil"}, {"texts": [1]}, {"texts": [None]}])
def test_a_bad_request_is_refused(service: tuple[int, TextClassifier], body: object) -> None:
    assert post(HTTPConnection("127.0.0.1", service[0]), body)[0] == 422


@pytest.mark.slow
def test_50_clients_get_10_000_right_answers(service: tuple[int, TextClassifier]) -> None:
    started = time.perf_counter()
    wrong, seconds = ask(service[0], 10_000, 50)
    rate = len(seconds) / (time.perf_counter() - started)
    median, slowest = np.percentile(seconds, [50, 99]) * 1000
    print(f"\n{rate:,.0f} requests a second; median {median:.0f} ms, 99 % within {slowest:.0f} ms")
    assert wrong == [] and len(seconds) == 10_000
