"""The n-gram branch, compared with scikit-learn on whole words, and the weights of network and branch."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC
from transformers import PreTrainedTokenizerBase

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.sources import split_texts
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.training import ngram_fit
from rnn_hf.training.arguments import ClassifierRunArguments
from rnn_hf.training.ngram_fit import fit_ngrams, weigh_branches
from rnn_hf.training.splits import TextSplits
from rnn_hf.training.targets import TargetScale

NAMES = ["a", "b", "c"]
WORDS = np.array([f"w{number}" for number in range(60)])


def make_rows(label: Any, num_rows: int = 300) -> tuple[list[str], list[Any]]:
    """Texts in which no word occurs twice, and labels that a function computes from the ids of the words."""
    generator = np.random.default_rng(0)
    chosen = [generator.permutation(60)[: generator.integers(2, 9)] for _ in range(num_rows)]
    return [" ".join(WORDS[row]) for row in chosen], [label(row) for row in chosen]


def splits_of(texts: list[str], labels: list[Any], feature: Any, problem_type: Any) -> TextSplits:
    rows = Dataset.from_dict({"text": texts, "label": labels}, features=Features(text=Value("string"), label=feature))
    return TextSplits(
        split_texts({"train": rows}, problem_type=problem_type, validation_size=0)["train"], DatasetDict()
    )


def fitted(
    texts: list[str], labels: list[Any], feature: Any, problem_type: Any, **arguments: Any
) -> tuple[RNNForSequenceClassification, PreTrainedTokenizerBase]:
    """A classifier whose branch was fitted to these rows."""
    splits = splits_of(texts, labels, feature, problem_type)
    tokenizer = train_tokenizer(arguments.pop("words_of", texts))
    buckets = arguments.pop("buckets", 2**16)
    settings = {"vocab_size": len(tokenizer), "unk_token_id": 1, "pad_token_id": 0, "ngram_buckets": buckets}
    labelled: dict[str, Any] = {"num_labels": len(splits.label_names), "problem_type": problem_type}
    torch.manual_seed(0)
    model = RNNForSequenceClassification(RNNConfig(**settings, **labelled, ngram_order=arguments.pop("order", 2)))
    fit_ngrams(model, splits.encode(tokenizer, ClassifierRunArguments())["train"], splits, **arguments)
    return model.eval(), tokenizer


@torch.no_grad()
def answers(model: RNNForSequenceClassification, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> np.ndarray:
    assert model.ngrams is not None
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    return np.asarray(model.ngrams(batch.input_ids, batch.attention_mask.bool()))


@pytest.fixture(params=[0.75, 1.5])
def power(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """The only power of the inverse document frequency that is tried."""
    monkeypatch.setattr(ngram_fit, "POWERS", {request.param: 7.0})
    return float(request.param)


def vectorizer(texts: list[str], power: float) -> TfidfVectorizer:
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+").fit(texts)
    words.idf_ = (words.idf_ - 1) ** power  # scikit-learn adds 1
    return words


@pytest.mark.parametrize("class_weights", [None, ["balanced"], ["1", "2", "5"]])
def test_classes_are_told_apart_as_by_support_vectors_of_tfidf(class_weights: list[str] | None, power: float) -> None:
    texts, labels = make_rows(lambda row: int(row.min() % 3))
    model, tokenizer = fitted(
        texts, labels, ClassLabel(names=NAMES), "single_label_classification", class_weights=class_weights
    )
    words, weights = vectorizer(texts, power), None
    if class_weights is not None:
        numbers = 300 / (3 * np.bincount(labels)) if class_weights == ["balanced"] else np.array([1.0, 2.0, 5.0])
        weights = numbers[labels]
    peer = LinearSVC(random_state=0).fit(words.transform(texts), labels, weights)
    unseen, _ = make_rows(lambda row: 0, 700)
    unseen = unseen[300:]
    expected = 7 * peer.decision_function(words.transform(unseen))
    # solvers of the dual problem stop near the optimum
    np.testing.assert_allclose(answers(model, tokenizer, unseen), expected, atol=0.02)
    assert model.ngrams is not None and model.ngrams.factor_alone == 1.0
    assert not any(parameter.requires_grad for parameter in model.ngrams.parameters())


def test_two_classes_are_mirror_images() -> None:
    texts, labels = make_rows(lambda row: int(row.min() % 2))
    model, tokenizer = fitted(texts, labels, ClassLabel(names=["a", "b"]), "single_label_classification")
    assert model.ngrams is not None and model.ngrams.bias.shape == (2,)
    logits = answers(model, tokenizer, texts)
    np.testing.assert_allclose(logits[:, 0], -logits[:, 1], atol=1e-5)
    assert ((logits[:, 1] > 0) == np.array(labels)).all()


def test_several_labels_are_balanced(power: float) -> None:
    texts, labels = make_rows(lambda row: [index for index, number in enumerate((3, 4, 5)) if number in row])
    model, tokenizer = fitted(texts, labels, List(ClassLabel(names=NAMES)), "multi_label_classification")
    words, truth = vectorizer(texts, power), np.array([[label in row for label in range(3)] for row in labels])
    for label in range(3):
        machine = LinearSVC(C=ngram_fit.COST_OF_SEVERAL, class_weight="balanced", random_state=0)
        peer = machine.fit(words.transform(texts), truth[:, label])
        np.testing.assert_allclose(
            answers(model, tokenizer, texts)[:, label],
            7 * peer.decision_function(words.transform(texts)),
            atol=0.02,
        )


@pytest.mark.parametrize("is_standardized", [True, False])
def test_a_regression_is_a_ridge_regression_of_what_the_network_learns(is_standardized: bool, power: float) -> None:
    texts, targets = make_rows(lambda row: 1000.0 + 50.0 * row.min())
    truth = np.array(targets)
    scale = TargetScale.of(truth) if is_standardized else None
    model, tokenizer = fitted(texts, targets, Value("float32"), "regression", scale=scale)
    if is_standardized:
        truth = (truth - truth.mean()) / truth.std()
    words = vectorizer(texts, power)
    peer = Ridge(ngram_fit.RIDGE_ALPHA).fit(words.transform(texts), truth)
    expected = ngram_fit.BRANCH_SHARE_OF_REGRESSION * peer.predict(words.transform(texts))
    np.testing.assert_allclose(answers(model, tokenizer, texts)[:, 0], expected, atol=2e-3 * truth.std())
    assert model.ngrams is not None
    # the network alone learns the whole target, of which its logits are the rest
    assert model.ngrams.factor_alone == pytest.approx(1 / (1 - ngram_fit.BRANCH_SHARE_OF_REGRESSION))


def test_texts_have_the_same_vectors_in_the_fit_as_in_the_model() -> None:
    """Also those in which words and pairs of words occur several times."""
    generator = np.random.default_rng(0)
    texts = [" ".join(WORDS[generator.integers(0, 6, 12)]) for _ in range(200)] + ["w1 w1 w1 w2"]
    targets = [text.count("w1") for text in texts]
    model, tokenizer = fitted(texts, targets, Value("float32"), "regression")
    branch = model.ngrams
    assert branch is not None
    splits = splits_of(texts, targets, Value("float32"), "regression")
    rows = ngram_fit.known_rows(splits.encode(tokenizer, ClassifierRunArguments())["train"])
    counts, labels = ngram_fit.count_ngrams(branch, rows, model.config)
    assert labels.tolist() == targets
    assert sorted(counts[[-1]].data.tolist()) == [1, 1, 2, 3]  # w2, w1 w2, w1 w1, w1
    assert counts.has_sorted_indices, "LIBLINEAR reads them in order"
    vectors = ngram_fit.vectors_of_texts(counts, branch.idf.numpy().astype(float))
    expected = vectors @ (ngram_fit.NORM * branch.table.weight.numpy()) + branch.bias.numpy()
    np.testing.assert_allclose(answers(model, tokenizer, texts), expected, atol=1e-5)


def test_a_regression_that_goes_on_from_a_checkpoint_stays_in_the_unit_of_its_targets(tmp_path: Path) -> None:
    texts, targets = make_rows(lambda row: 1000.5 + 50.0 * row.min(), 900)
    settings: dict[str, Any] = {"train_on_all_rows": False, "validation_size": 0.3, "show_progress": False}
    first = TextClassifier.train(texts, targets, max_steps=150, hidden_size=8, **settings)
    first.save_pretrained(tmp_path)
    second = TextClassifier.train(texts, targets, max_steps=5, model_name_or_path=str(tmp_path), **settings)
    scores = [classifier.results["validation_r2"] for classifier in (first, second)]
    assert scores[0] > 0.3 and scores[1] > scores[0] - 0.05


def test_the_validation_metric_is_that_of_the_weighed_model() -> None:
    texts, labels = make_rows(lambda row: NAMES[int(row[0] % 3)], 1_500)
    settings: dict[str, Any] = {"max_steps": 60, "hidden_size": 8, "show_progress": False}
    held_out = texts[1000:], labels[1000:]
    classifier = TextClassifier.train(texts[:1000], labels[:1000], validation=held_out, **settings)
    assert classifier.results["branch_factors"] != [1.0, 1.0]
    measured = classifier.evaluate(*held_out, show_progress=False)["accuracy"]
    assert classifier.results["validation_accuracy"] == pytest.approx(measured, abs=0.005)


def test_classes_that_no_row_or_every_row_has_are_never_and_always_answered() -> None:
    texts, labels = make_rows(lambda row: [0, *([2] if 3 in row else [])])
    model, tokenizer = fitted(texts, labels, List(ClassLabel(names=NAMES)), "multi_label_classification")
    logits = answers(model, tokenizer, texts)
    assert (logits[:, 0] > 0).all() and (logits[:, 1] < 0).all()


def test_ngrams_of_known_words_have_a_bucket() -> None:
    texts = ["w1 w2"] * 3 + ["w1 w9"] * 2 + ["w3"]
    model, tokenizer = fitted(
        texts, [0, 0, 0, 1, 1, 2], ClassLabel(names=NAMES), "single_label_classification", words_of=["w1 w2 w3"]
    )
    branch = model.ngrams
    assert branch is not None
    ids = tokenizer.convert_tokens_to_ids(["w1", "w2", "w3"])
    pair = int(branch.ngrams_of(torch.tensor([ids[:2]]), None)[0][0, 2])
    assert sorted(branch.owners[branch.owners >= 0].tolist()) == sorted([*ids, pair])
    idf = {ids[0]: 5, ids[1]: 3, ids[2]: 1, pair % 2**16: 3}
    for bucket, count in idf.items():
        assert float(branch.idf[bucket]) == pytest.approx(np.log(7 / (1 + count)) ** min(ngram_fit.POWERS))
    assert int((branch.idf > 0).sum()) == 4
    assert answers(model, tokenizer, ["w9 w77"]).tolist() == [branch.bias.tolist()]


def test_the_most_frequent_of_the_ngrams_with_a_bucket_gets_it() -> None:
    texts, labels = make_rows(lambda row: int(row.min() % 3))
    model, tokenizer = fitted(texts, labels, ClassLabel(names=NAMES), "single_label_classification", buckets=2**8)
    branch, num_texts = model.ngrams, Counter[int]()
    assert branch is not None
    for ids in tokenizer(texts).input_ids:
        ngrams, is_ngram = branch.ngrams_of(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
        num_texts.update(set(ngrams[is_ngram].tolist()))
    owners = np.full(2**8, -1)
    for ngram, _ in sorted(num_texts.items(), key=lambda item: (item[1], -item[0])):
        owners[ngram % 2**8] = ngram
    assert len(num_texts) > 4 * 2**8
    assert branch.owners.tolist() == owners.tolist()


def test_ngrams_whose_bucket_belongs_to_another_are_not_counted() -> None:
    """5 and 9 have the bucket of 1; the columns of the result are in order."""
    ngrams = csr_array((np.array([2, 7, 1, 3], np.uint16), np.array([1, 5, 8, 9], np.int32), np.array([0, 2, 2, 4])))
    counts = ngram_fit.of_buckets(ngrams, np.array([8, 1, -1, -1], np.int32))
    assert counts.toarray().tolist() == [[0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("problem_type", ["single_label_classification", "regression"])
def test_the_weight_of_rare_words_is_the_usual_one_unless_another_is_better(problem_type: Any) -> None:
    """Each text has half of 300 frequent words, and one of 50 rare ones; one of the two determines the label."""
    generator = np.random.default_rng(0)
    frequent, rare = generator.random((400, 300)) < 0.5, np.eye(50, dtype=bool)[generator.integers(0, 50, 400)]
    counts = csr_array(np.hstack([frequent, rare]).astype(float))
    idf = ngram_fit.inverse_document_frequencies(counts)
    for told_by, expected in ((rare.argmax(axis=1), 1.5), (frequent[:, :5].sum(axis=1), 0.75)):
        labels = told_by % 2 if told_by.max() > 5 else (told_by > 2).astype(int)
        if problem_type == "regression":
            labels = 2.0 * labels[:, None] - 1
        num_labels = 2 if labels.ndim == 1 else 1
        assert ngram_fit.choose_power(counts, idf, labels, num_labels, usual=2.25 - expected) == expected
        # of a few rows, it may be chance
        few, usual = counts[:20], 2.25 - expected
        idf_of_few = ngram_fit.inverse_document_frequencies(few)
        assert ngram_fit.choose_power(few, idf_of_few, labels[:20], num_labels, usual) == usual


def test_of_too_many_texts_a_sample_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, labels = make_rows(lambda row: int(row.min() % 3))
    monkeypatch.setattr(ngram_fit, "MOST_NGRAMS", sum(len(text.split()) for text in texts))
    fitted(texts, labels, ClassLabel(names=NAMES), "single_label_classification")
    assert "n-grams of 150 texts" in capsys.readouterr().out


@pytest.mark.parametrize("order", [1, 3])
def test_orders_other_than_two_separate_their_training_rows(order: int) -> None:
    texts, labels = make_rows(lambda row: int(row.min() % 3))
    model, tokenizer = fitted(texts, labels, ClassLabel(names=NAMES), "single_label_classification", order=order)
    assert (answers(model, tokenizer, texts).argmax(axis=1) == labels).mean() > 0.9


def test_the_part_that_is_right_more_often_weighs_more() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 2000)
    good, bad = (
        5 * np.eye(3)[np.where(generator.random(2000) < share, labels, generator.integers(0, 3, 2000))]
        for share in (0.9, 0.3)
    )
    of_network, of_branch = weigh_branches(bad, good, labels, "single_label_classification")
    assert of_network == 1.0 and of_branch > 2
    of_network, of_branch = weigh_branches(good, bad, labels, "single_label_classification")
    assert of_network == 1.0 and of_branch < 0.5

    def loss(factor: float) -> float:
        return min(
            float(F.cross_entropy(torch.from_numpy(scale * (good + factor * bad)), torch.from_numpy(labels)))
            for scale in np.linspace(0.05, 3, 60)
        )

    assert loss(of_branch) <= min(loss(of_branch / 2), loss(of_branch * 2), loss(1.0))


def test_few_rows_and_rows_that_all_are_right_change_no_weight() -> None:
    labels = np.arange(600) % 3
    right, wrong = 5 * np.eye(3)[labels], np.zeros((600, 3))
    assert weigh_branches(wrong, right, labels, "single_label_classification") == (1.0, 1.0)
    labels = np.where(np.arange(600) % 9 == 0, 0, labels)
    few = slice(0, ngram_fit.FEWEST_ROWS_TO_WEIGH - 1)
    assert weigh_branches(right[few], wrong[few], labels[few], "single_label_classification") == (1.0, 1.0)
    noise = np.random.default_rng(0).normal(0, 4, size=(600, 3))
    assert weigh_branches(right, noise, labels, "single_label_classification")[1] < 0.5


def test_weights_of_a_regression_are_those_of_least_squares() -> None:
    generator = np.random.default_rng(0)
    network, branch = generator.normal(size=(2, 500, 2))
    labels = 0.3 * network + 1.7 * branch
    assert weigh_branches(network, branch, labels, "regression") == pytest.approx((0.3, 1.7), abs=1e-3)
    assert weigh_branches(-network, branch, labels, "regression")[0] == 1 / ngram_fit.LARGEST_FACTOR


def test_weights_of_several_labels_have_the_best_macro_f1() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((900, 4)) < 0.2).astype(np.float32)
    network, branch = (labels - 0.5 + generator.normal(0, spread, labels.shape) for spread in (2.0, 0.5))
    found = weigh_branches(network, branch, labels, "multi_label_classification")
    assert found[0] == 1.0 and found[1] == max(ngram_fit.FACTORS_OF_SEVERAL)


@pytest.mark.parametrize("problem", ["classes", "several", "numbers"])
def test_the_trained_model_is_better_than_either_part(tmp_path: Path, problem: str) -> None:
    """It also predicts the same after saving and loading."""
    texts, labels = make_rows(
        {
            "classes": lambda row: NAMES[int(row[0] % 3)],  # the first word: the network's
            "several": lambda row: [name for name, number in zip(NAMES, (3, 4, 5), strict=True) if number in row],
            "numbers": lambda row: 0.25 + float(row.min()),
        }[problem],
        3_600,
    )
    settings: dict[str, Any] = {"max_steps": 150, "hidden_size": 16, "seed": 1}
    classifier = TextClassifier.train(texts[:3000], labels[:3000], show_progress=False, **settings)
    metric = {"classes": "accuracy", "several": "macro_f1", "numbers": "r2"}[problem]
    both = classifier.evaluate(texts[3000:], labels[3000:], show_progress=False)[metric]
    classifier.save_pretrained(tmp_path)
    loaded = TextClassifier.from_pretrained(tmp_path)
    assert loaded.evaluate(texts[3000:], labels[3000:], show_progress=False)[metric] == pytest.approx(both, abs=2e-3)
    assert classifier.model.ngrams is not None
    classifier.model.ngrams = None
    network = classifier.evaluate(texts[3000:], labels[3000:], show_progress=False)[metric]
    assert both > network or both > 0.95


def test_the_second_training_knows_the_words_of_all_rows() -> None:
    texts, labels = demo_texts()
    classifier = TextClassifier.train(texts, labels, max_steps=4, hidden_size=4, show_progress=False)
    words = classifier.tokenizer.get_vocab()
    assert classifier.results["trained_on_all_rows"]
    assert all(classifier.tokenizer.unk_token not in classifier.tokenizer.tokenize(text) for text in texts)
    assert classifier.model.get_input_embeddings().weight.shape[0] == len(words)


def demo_texts() -> tuple[list[str], list[str]]:
    """Texts of the demo data, each with a word of its own."""
    rows = load_demo_news()["train"][:200]
    texts = [f"{text} number{index}" for index, text in enumerate(rows["text"])]
    return texts, [str(label) for label in rows["label"]]


def test_multi_label_f1_is_that_of_scikit_learn() -> None:
    logits, labels = np.array([[2.0], [1.0], [-1.0], [-2.0]]), np.array([[1], [0], [1], [0]])
    assert ngram_fit.best_macro_f1(logits, labels) == f1_score(labels, [[1], [1], [1], [0]], average="macro")
