"""Explanations of models whose right answer is known."""

import pickle
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from rnn_hf import Explanation, RNNConfig, RNNForSequenceClassification, TextClassifier, train_tokenizer
from rnn_hf.configuration_rnn import CellType
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.ngrams_rnn import NORM
from rnn_hf.word_contributions import _adaptive_simpson
from tests.tiny_classifiers import make_classifier

METHODS: Any = ("leave_one_out", "integrated_gradients")
both_methods = pytest.mark.parametrize("method", METHODS)
# a known word, and what tokenizers and pages stumble over
TEXTS = [
    "the cat sat", "", " \n", "dog", "the dog [PAD] and [UNK] cat", "🏆⚽ a cat 👩‍👩‍👧", "zebra xylophone",
    'The "cat" sat; <br /> on a mat.', "İstanbul a dog", "a \ud800 dog",
]  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "classes": {},
    "several labels": {"problem_type": "multi_label_classification"},
    "targets": {"problem_type": "regression", "id2label": {0: "height", 1: "width", 2: "depth"}},
    "one target": {"problem_type": "regression", "num_labels": 1},
}


def counter_of_cats() -> TextClassifier:
    """A model whose score is the number of times that a text has the word "cat"."""
    tokenizer = train_tokenizer(["the cat sat on a mat . a dog and all day long !"])
    config = RNNConfig(
        vocab_size=len(tokenizer), embedding_size=2, hidden_size=1, cell_type="rnn", bidirectional=False,
        classifier_pooling="last", id2label={0: "cats"}, problem_type="regression",
    )  # fmt: skip
    model, small = RNNForSequenceClassification(config), 1e-3
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids("cat"), 0] = 1
        recurrent = model.model.layers[0].recurrent
        recurrent.weight_ih_l0[0, 0], recurrent.weight_hh_l0[0, 0] = small, 1  # almost linear
        model.classifier.weight[0, 0] = 1 / small
    return TextClassifier(model, tokenizer)


def assert_complete(explanation: Explanation) -> None:
    assert explanation.baseline is not None
    change = explanation.score - explanation.baseline
    assert sum(explanation.contributions) == pytest.approx(change, rel=0.01, abs=1e-5)


@both_methods
def test_a_model_that_counts_a_word_is_explained_by_that_word(method: Any) -> None:
    explanation = counter_of_cats().explain("The cat and the dog; a cat.", method=method)
    assert explanation.words == ["The", "cat", "and", "the", "dog;", "a", "cat."]
    np.testing.assert_allclose(explanation.contributions, [0, 1, 0, 0, 0, 0, 1], atol=1e-4)
    assert (explanation.method, explanation.unit, explanation.label) == (method, "target", "cats")
    assert explanation.score == pytest.approx(2, abs=1e-4)
    assert explanation.baseline == (None if method == "leave_one_out" else 0)


def test_leave_one_out_is_the_difference_of_probabilities() -> None:
    classifier = make_classifier(ngram_buckets=32)
    text = "the cat and a dog"
    explanation = classifier.explain(text)
    without = ["the cat and a dog".replace(word, "", 1) for word in text.split()[:3]]
    full = classifier.predict_proba(text)
    label = full.argmax()
    expected = [full[label] - classifier.predict_proba(other)[label] for other in without]
    np.testing.assert_allclose(explanation.contributions[:3], expected, atol=1e-6)
    assert explanation.label == classifier.predict(text) and explanation.unit == "probability"
    assert explanation.score == pytest.approx(full[label]) and explanation.baseline is None


@pytest.mark.parametrize("ngram_buckets", [0, 64])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell_type", get_args(CellType))
def test_integrated_gradients_add_up_to_the_logit(cell_type: str, bidirectional: bool, ngram_buckets: int) -> None:
    classifier = make_classifier(
        cell_type=cell_type, bidirectional=bidirectional, ngram_buckets=ngram_buckets, embedding_initializer_range=3,
        concat_embedding_mean=True, classifier_pooling="mean_max_last", num_hidden_layers=2,
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in classifier.model.named_parameters():
            if name.startswith("ngrams."):
                parameter.normal_()
    # a random network is rougher than a trained one
    explanations = classifier.explain(TEXTS, label="LABEL_1", method=METHODS[1], num_steps=2000)
    for text, explanation in zip(TEXTS, explanations, strict=True):
        assert_complete(explanation)
        batch = classifier.tokenizer([text.replace("\ud800", "?")], truncation=True, max_length=9, return_tensors="pt")
        with torch.no_grad():
            expected = classifier.model(batch["input_ids"].long()).logits[0, 1]
        assert explanation.score == pytest.approx(float(expected), abs=1e-4)


def test_ngrams_have_their_exact_contributions() -> None:
    """Those of a pair are divided between its words."""
    classifier = make_classifier(ngram_buckets=64, ngram_order=2)
    branch: Any = classifier.model.ngrams
    with torch.no_grad():
        classifier.model.classifier.weight.zero_()
        branch.table.weight.normal_(), branch.bias.normal_(), branch.idf.uniform_(0.5, 2)
    explanation = classifier.explain("the cat sat", label="LABEL_2", method=METHODS[1])
    ids = torch.tensor([classifier.tokenizer("the cat sat").input_ids])
    ngrams, _ = branch.ngrams_of(ids, None)
    buckets = ngrams[0] % 64
    weights = branch.idf[buckets]
    the, cat, sat, the_cat, cat_sat = (weights * branch.table.weight[buckets, 2] * NORM / weights.norm()).tolist()
    expected = [the + the_cat / 2, cat + the_cat / 2 + cat_sat / 2, sat + cat_sat / 2]
    np.testing.assert_allclose(explanation.contributions, expected, rtol=1e-5)
    assert_complete(explanation)


@both_methods
@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_is_explained_in_its_unit(kind: str, method: Any) -> None:
    classifier = make_classifier(**KINDS[kind])
    label = "width" if kind == "targets" else None
    explanation = classifier.explain("the cat sat", label, method=method)
    is_regression = classifier.problem_type == "regression"
    assert explanation.unit == ("target" if is_regression else "logit" if method == METHODS[1] else "probability")
    answers = classifier.predict_proba("the cat sat")
    index = 1 if kind == "targets" else int(answers.argmax())
    assert explanation.label == classifier.label_names[index]
    if is_regression or method == "leave_one_out":
        assert explanation.score == pytest.approx(answers[index], abs=1e-5)


@both_methods
def test_a_text_alone_and_among_others_gets_the_same_numbers(method: Any) -> None:
    classifier = make_classifier(bidirectional=True, ngram_buckets=32)
    together = classifier.explain(TEXTS * 3, method=method, batch_size=4)
    for text, explanation in zip(TEXTS, together, strict=False):
        alone = classifier.explain(text, method=method)
        assert (alone.offsets, alone.label) == (explanation.offsets, explanation.label)
        np.testing.assert_allclose(alone.contributions, explanation.contributions, atol=1e-6)
    assert classifier.explain([], method=method) == []


@both_methods
def test_words_are_parts_of_the_text_and_those_that_are_not_read_have_none(method: Any) -> None:
    """A word without a token, and all words after the limit of nine tokens."""
    classifier = make_classifier(ngram_buckets=32)
    for text, explanation in zip(TEXTS, classifier.explain(TEXTS, method=method), strict=True):
        assert explanation.words == text.split() and len(explanation.contributions) == len(explanation.words)
        assert [text[start:end] for start, end in explanation.offsets] == explanation.words
    long = "the cat ; sat " * 250
    contributions = classifier.explain(long, method=method).contributions
    assert len(contributions) == 1000 and contributions[2] == 0 and not any(contributions[12:])
    assert all(contributions[:2])


def test_what_a_model_does_not_read_costs_nothing() -> None:
    """But the tokens that move up where a word is left out count."""
    classifier, lengths = make_classifier(), []
    text = "the mat ; ; ; sat " * 3 + "dog ; day a long " * 20_000
    words = text.split()
    expected = classifier.predict_proba(text) - classifier.predict_proba(" ".join([*words[:1], *words[2:100]]))
    predict = classifier.iter_proba

    def noted(texts: Any, batch_size: int) -> Any:
        given = list(texts)
        lengths.extend(map(len, given))
        return predict(given, batch_size)

    classifier.iter_proba = noted  # type: ignore[method-assign]
    explanation = classifier.explain(text)
    assert max(lengths) < 100 and len(explanation.contributions) == len(words)
    assert explanation.contributions[1] == pytest.approx(
        expected[classifier.labels.index(explanation.label)], abs=1e-6
    )


def test_words_are_left_out_alone_where_padding_would_count() -> None:
    classifier = make_classifier(pack_padded_sequences=False, bidirectional=True)
    text = "the cat sat on a dog"
    without = "the sat on a dog"
    for texts in ([text], [text, "mat", "a day and all long the mat sat on"]):
        explanation = classifier.explain(texts)[0]
        label = classifier.labels.index(explanation.label)
        expected = (classifier.predict_proba(text) - classifier.predict_proba(without))[label]
        assert explanation.contributions[1] == pytest.approx(expected, abs=1e-6)


def test_a_text_that_is_truncated_on_the_left_is_explained_by_its_end() -> None:
    classifier = make_classifier()
    classifier.tokenizer.truncation_side = "left"
    contributions = (
        TextClassifier(classifier.model, classifier.tokenizer).explain("dog " * 5 + "cat " * 9).contributions
    )
    assert not any(contributions[:5]) and all(contributions[5:])


def test_a_long_text_without_a_limit_adds_up() -> None:
    classifier = counter_of_cats()
    explanation = classifier.explain("a cat " * 500, method=METHODS[1])
    assert len(explanation.words) == 1000
    assert_complete(explanation)


def test_pieces_of_a_word_are_one_word() -> None:
    texts = ["lower lowest newer newest", "low new"]
    tokenizer = train_tokenizer(texts, tokenizer_type="wordpiece", vocab_size=30)
    torch.manual_seed(0)
    classifier = TextClassifier(RNNForSequenceClassification(RNNConfig(vocab_size=len(tokenizer))), tokenizer)
    assert len(tokenizer.tokenize("lower newest,")) > 2
    explanation = classifier.explain("lower newest,", method=METHODS[1])
    assert explanation.words == ["lower", "newest,"]
    assert_complete(explanation)


def test_words_of_a_script_without_spaces_are_tokens() -> None:
    texts = ["我们明天去北京看朋友。", "今天下雨了。", "明天去看朋友"] * 5
    tokenizer = train_tokenizer(texts, tokenizer_type="unigram", vocab_size=40)
    classifier = TextClassifier(RNNForSequenceClassification(RNNConfig(vocab_size=len(tokenizer))), tokenizer)
    explanation = classifier.explain("明天去北京 today。", method=METHODS[1])
    assert "".join(explanation.words) == "明天去北京today。" and 3 <= len(explanation.words) <= 6
    assert explanation.words[-1] == "today。"
    assert_complete(explanation)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "LABEL_7"}, "`label` must be one of 'LABEL_0', 'LABEL_1', 'LABEL_2', got 'LABEL_7'"),
        ({"method": "shap"}, "`method` must be one of leave_one_out, integrated_gradients, got 'shap'"),
        ({"num_steps": 2}, "`num_steps` must be at least 3, got 2"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_classifier().explain(["a dog"], **arguments)


def test_several_targets_need_a_name() -> None:
    with pytest.raises(ValueError, match="`label` must be one of 'height', 'width', 'depth', got None"):
        make_classifier(**KINDS["targets"]).explain("a dog")


@both_methods
@pytest.mark.parametrize("text", [None, 3])
def test_what_is_no_text_is_refused(text: Any, method: Any) -> None:
    with pytest.raises(TypeError, match=f"must be strings, got {text} at position 1"):
        make_classifier().explain(["a dog", text], method=method)


def test_integers_are_labels() -> None:
    classifier = make_classifier(id2label={0: "10", 1: "-3", 2: "7"}, has_integer_labels=True)
    assert classifier.explain("a dog", label=-3).label == -3
    assert classifier.explain("a dog", label="-3") == classifier.explain("a dog", label=-3)


def test_nothing_is_left_behind() -> None:
    """Neither gradients nor changed modules; and the classifier and the explanation can be pickled."""
    classifier = make_classifier(ngram_buckets=32)
    with torch.inference_mode():
        explanation = classifier.explain("the cat sat", method=METHODS[1])
    assert all(parameter.grad is None for parameter in classifier.model.parameters())
    assert classifier.model.ngrams is not None and not classifier.model.training
    assert pickle.loads(pickle.dumps(explanation)) == explanation  # noqa: S301  # what was pickled here
    assert pickle.loads(pickle.dumps(classifier)).explain("the cat sat").words == explanation.words  # noqa: S301


def test_a_tokenizer_without_a_fast_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = make_classifier()
    monkeypatch.setattr("rnn_hf.text_classifier.prepared_backend", lambda *arguments: None)
    with pytest.raises(TypeError, match="`explain` needs a fast tokenizer, got `TokenizersBackend`"):
        classifier.explain("a dog")


def test_the_onnx_backend_leaves_words_out_and_refuses_gradients(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    classifier = make_classifier(ngram_buckets=32)
    classifier.save_pretrained(tmp_path)
    classifier.export_onnx(tmp_path)
    backend = TextClassifier.from_pretrained(tmp_path, backend="onnx")
    for ours, theirs in zip(backend.explain(TEXTS), classifier.explain(TEXTS), strict=True):
        assert (ours.text, ours.label, ours.offsets) == (theirs.text, theirs.label, theirs.offsets)
        np.testing.assert_allclose(ours.contributions, theirs.contributions, atol=1e-5)
    with pytest.raises(AttributeError, match="`integrated_gradients` needs torch"):
        backend.explain("a dog", method=METHODS[1])


@pytest.fixture(scope="module")
def reader_of_order() -> TextClassifier:
    """A network trained on the demo, in which the order of the words decides."""
    news = load_demo_news()["train"]
    names = news.features["label"].names
    return TextClassifier.train(
        news["text"], [names[label] for label in news["label"]], show_progress=False, ngram_buckets=0,
        hidden_size=32, num_train_epochs=6, train_on_all_rows=False, use_cpu=True,
    )  # fmt: skip


@both_methods
def test_words_decide_where_their_order_makes_them_decide(reader_of_order: TextClassifier, method: Any) -> None:
    """Two texts of each pair have the same words; the topic is that of the main clause."""
    pairs = [
        ("strikers win the cup final", "shareholders approve a merger"),
        ("goalkeepers miss a playoff match", "bankers raise interest rates"),
        ("boxers chase a gold medal", "regulators report annual sales"),
    ]
    for pair in pairs:
        for main, side in (pair, pair[::-1]):
            explanation = reader_of_order.explain(f"{main} after {side}.".capitalize(), method=method)
            assert explanation.label == ("Sports" if main == pair[0] else "Business")
            middle = len(main.split())
            decisive, mentioned = explanation.contributions[:middle], explanation.contributions[middle + 1 :]
            assert sum(decisive) > max(0, sum(mentioned))


def test_gradients_of_a_trained_network_add_up(reader_of_order: TextClassifier) -> None:
    for explanation in reader_of_order.explain(load_demo_news()["test"]["text"][:40], method=METHODS[1]):
        assert_complete(explanation)


def test_simpson_divides_the_intervals_with_large_errors() -> None:
    seen: list[float] = []

    def step(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.extend(points)
        inner = 200 * (points - 0.3)
        slopes = np.stack([200 / np.cosh(inner) ** 2, 3 * points**2], axis=1)
        return np.tanh(inner) + points**3, slopes

    integrals = _adaptive_simpson(step, tolerance=1e-3, max_points=500)
    np.testing.assert_allclose(integrals, [2, 1], atol=1e-3)
    assert len(seen) < 100 and np.mean(np.abs(np.array(seen) - 0.3) < 0.1) > 0.5
    seen.clear()
    _adaptive_simpson(step, tolerance=0, max_points=30)
    assert len(seen) <= 30 and len(set(seen)) == len(seen)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="not run: needs a CUDA device")
def test_a_gpu_gives_the_same_gradients() -> None:
    classifier = make_classifier(bidirectional=True, ngram_buckets=32)
    expected = classifier.explain("the cat sat", method=METHODS[1])
    model: Any = classifier.model.to("cuda")  # type: ignore[arg-type]  # transformers' own
    got = TextClassifier(model, classifier.tokenizer).explain("the cat sat", method=METHODS[1])
    np.testing.assert_allclose(got.contributions, expected.contributions, atol=1e-4)
