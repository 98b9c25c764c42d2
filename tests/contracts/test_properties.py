"""What holds for every input, tried on many: also those that nobody would think of."""

import ast
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score
from torch.utils.data import BatchSampler as TorchBatchSampler
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.configuration_rnn import ClassifierPooling
from rnn_hf.data.augmentation import LONGEST_NGRAM, noised_words
from rnn_hf.data.batching import (
    BatchSampler,
    LengthGroupedBatchSampler,
    PaddingCollator,
    RandomBatchSampler,
    SortedBatchSampler,
    TokenBatch,
)
from rnn_hf.data.bptt import StreamSampler
from rnn_hf.data.tokenizer_training import CONTINUATION, TokenizerType, save_tokenizer, train_tokenizer
from rnn_hf.data.tokenizing import encodable, fast_encoder, flatten
from rnn_hf.errors import plain
from rnn_hf.pooling_rnn import RNNPooler
from rnn_hf.reporting.model_card import render_model_card
from rnn_hf.training.metrics import classification_metrics, multi_label_metrics, regression_metrics
from scripts.research.count_near_duplicates import EXACT, Copies, shingles, words_of
from tests.data.test_bptt import END, make_streams, sequence_of
from tests.reporting.test_model_card import (
    CLASS,
    cells,
    check_survives,
    code_blocks,
    facts,
    language_model_facts,
    page,
    recipe,
    shown,
)

TOKENIZER_TYPES = get_args(TokenizerType)
CORPUS = [
    "The club won the cup, it's said (twice)!",
    "Shares fell as oil rose. Why?",
    "naïve ΌΣΟΣ straße 中文 😀 İ a-b c'd",
]

FINAL_SIGMA = ("\N{GREEK SMALL LETTER FINAL SIGMA}", "\N{GREEK SMALL LETTER SIGMA}")

# Lone surrogates are in it, which no other text has
any_text = st.text(st.characters())
# Texts that are more than one unknown word, and what the words of `basic_english` are told apart by
wordy_text = st.lists(
    st.sampled_from([*" \t\n\x1c.,'()!?;:\"", "<br />", "club", "Σ", "[PAD]", "ß", "\ud800"]) | any_text, max_size=20
).map("".join)


# From texts to tokens


@cache
def tokenizer_of(tokenizer_type: TokenizerType) -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS, tokenizer_type=tokenizer_type, vocab_size=90)


@cache
def loaded_tokenizer_of(tokenizer_type: TokenizerType) -> PreTrainedTokenizerFast:
    """Return the same tokenizer, saved and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer_of(tokenizer_type), folder)
        return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("tokenizer_type", TOKENIZER_TYPES)
@given(texts=st.lists(wordy_text, min_size=1, max_size=4), max_length=st.integers(1, 9))
def test_every_text_is_encoded_and_cut_off_where_it_was_asked(
    tokenizer_type: TokenizerType, texts: list[str], max_length: int
) -> None:
    tokenizer = tokenizer_of(tokenizer_type)
    whole, short = (fast_encoder(tokenizer, length)[0](texts) for length in (None, max_length))
    expected = tokenizer([encodable(text) for text in texts]).input_ids
    for (ids, lengths), limit in ((whole, None), (short, max_length)):
        assert lengths.tolist() == [len(row[:limit]) for row in expected]
        assert ids.tolist() == [token for row in expected for token in row[:limit]]
    assert all(0 < token < len(tokenizer) for row in expected for token in row), "a text has padding in it"


@pytest.mark.parametrize("tokenizer_type", TOKENIZER_TYPES)
@given(text=wordy_text)
def test_a_tokenizer_that_was_saved_and_loaded_gives_the_same_tokens(tokenizer_type: TokenizerType, text: str) -> None:
    tokenizers = tokenizer_of(tokenizer_type), loaded_tokenizer_of(tokenizer_type)
    before, after = (fast_encoder(tokenizer, None)[0]([text])[0].tolist() for tokenizer in tokenizers)
    assert before == after


@given(text=wordy_text)
def test_offsets_are_where_a_word_stands_in_its_text(text: str) -> None:
    text = encodable(text)
    tokenizer = tokenizer_of("word")
    encoded = tokenizer(text, return_offsets_mapping=True)
    end_before = 0
    for token_id, (start, end) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
        assert end_before <= start < end <= len(text)
        end_before = end
        if token_id != tokenizer.unk_token_id:
            # the quote is no part of a word, wherever it stands, and a sigma at the end of one is another letter
            written = text[start:end].lower().replace('"', "")
            assert tokenizer.convert_ids_to_tokens(token_id).replace(*FINAL_SIGMA) == written.replace(*FINAL_SIGMA)


@pytest.mark.parametrize("tokenizer_type", ["bpe", "unigram", "wordpiece"])
@given(text=wordy_text)
def test_offsets_of_pieces_follow_each_other_in_the_text(tokenizer_type: TokenizerType, text: str) -> None:
    text = encodable(text)
    tokenizer = tokenizer_of(tokenizer_type)
    encoded = tokenizer(text, return_offsets_mapping=True)
    start_before = 0
    for token_id, (start, end) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
        assert start_before <= start <= end <= len(text)
        start_before = start
        piece = tokenizer.convert_ids_to_tokens(token_id).removeprefix(CONTINUATION).lstrip("▁")
        # the mark of a word's start, where it is a piece of its own, stands at the first letter
        if token_id != tokenizer.unk_token_id and piece and text[start:end].isascii():
            assert piece == text[start:end].lower().replace('"', "")


@settings(max_examples=30)
@given(texts=st.lists(wordy_text, max_size=4), tokenizer_type=st.sampled_from(TOKENIZER_TYPES))
def test_a_tokenizer_is_trained_on_any_texts_or_tells_why_not(texts: list[str], tokenizer_type: TokenizerType) -> None:
    try:
        tokenizer = train_tokenizer(texts, tokenizer_type=tokenizer_type, vocab_size=300)
    except ValueError as error:
        assert str(error).startswith(("`texts` must contain a word", "`vocab_size` must be larger"))
        return
    ids = [token for row in tokenizer([encodable(text) for text in texts]).input_ids for token in row]
    assert 2 < len(tokenizer) <= 300
    # every word was seen; what is rarer than a whole vocabulary may still be unknown
    if tokenizer_type == "word":
        assert tokenizer.unk_token_id not in ids


@cache
def classifier_of(tokenizer_type: TokenizerType) -> TextClassifier:
    torch.manual_seed(0)
    tokenizer = tokenizer_of(tokenizer_type)
    config = RNNConfig(vocab_size=len(tokenizer), embedding_size=4, hidden_size=3, bidirectional=True)
    return TextClassifier(RNNForSequenceClassification(config), tokenizer)


@settings(max_examples=50)
@given(texts=st.lists(wordy_text, max_size=9), tokenizer_type=st.sampled_from(TOKENIZER_TYPES))
def test_every_text_gets_the_answer_that_it_gets_alone(texts: list[str], tokenizer_type: TokenizerType) -> None:
    classifier = classifier_of(tokenizer_type)
    together = classifier.predict_proba(texts, batch_size=4)
    assert together.shape == (len(texts), 2)
    for text, probabilities in zip(texts, together, strict=True):
        np.testing.assert_allclose(probabilities, classifier.predict_proba(text), atol=1e-6)
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)


@given(
    words=st.lists(st.text("ab", min_size=1, max_size=3), max_size=12),
    seed=st.integers(0, 2**32),
    mask_probability=st.floats(0, 1),
    ngram_probability=st.floats(0, 1),
)
def test_a_noised_text_is_a_run_of_its_words_with_masks_among_them(
    words: list[str], seed: int, mask_probability: float, ngram_probability: float
) -> None:
    def draw(mask: str) -> list[str]:
        generator = np.random.default_rng(seed)
        probabilities = {"mask_probability": mask_probability, "ngram_probability": ngram_probability}
        return noised_words(words, mask, generator, **probabilities)

    noised = draw("#")
    assert draw("##") == [word.replace("#", "##") for word in noised]
    assert len(noised) == len(words) or 1 <= len(noised) <= LONGEST_NGRAM
    runs = [words[start : start + len(noised)] for start in range(len(words) - len(noised) + 1)]
    assert any(all(new in (old, "#") for new, old in zip(noised, run, strict=True)) for run in runs)
    if ngram_probability == 0:
        assert len(noised) == len(words)
    if mask_probability == 0:
        assert "#" not in noised


@given(
    rows=st.lists(st.text("ab ,", max_size=9), min_size=1, max_size=6),
    others=st.lists(st.text("ab ,", max_size=9), min_size=1, max_size=6),
    data=st.data(),
)
def test_near_copies_are_those_that_every_pair_compared_would_find(
    rows: list[str], others: list[str], data: st.DataObject
) -> None:
    labels = [
        data.draw(st.lists(st.integers(0, 1), min_size=len(texts), max_size=len(texts))) for texts in (rows, others)
    ]
    copies = Copies(rows, labels[0], [0.5])
    for other, label in zip(others, labels[1], strict=True):
        copies.look_among([other], [label])
    together = Copies(rows, labels[0], [0.5])
    together.look_among(others, labels[1])
    assert copies.counts() == together.counts()

    def is_copy(row: str, other: str, similarity: float) -> bool:
        mine, theirs = shingles(words_of(row)), shingles(words_of(other))
        return len(mine & theirs) / len(mine | theirs) >= similarity

    near = [
        [(is_copy(row, other, 0.5), label) for other, label in zip(others, labels[1], strict=True)] for row in rows
    ]
    exact = [any(words_of(row) == words_of(other) for other in others) for row in rows]
    counted = copies.counts()
    assert counted["similarity_0.5"]["num_rows"] == sum(any(found for found, _ in of_row) for of_row in near)
    assert counted["similarity_0.5"]["num_rows_with_another_label"] == sum(
        any(found and label != own for found, label in of_row) for of_row, own in zip(near, labels[0], strict=True)
    )
    assert counted[EXACT]["num_rows"] == sum(exact)


# From rows to batches


@given(
    sampler_type=st.sampled_from([LengthGroupedBatchSampler, RandomBatchSampler, SortedBatchSampler]),
    lengths=st.lists(st.integers(0, 9), max_size=70),
    per_process=st.integers(1, 9),
    processes=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
    start_batch=st.integers(0, 12),
    fills=st.booleans(),
)
def test_every_row_comes_once_in_an_epoch(
    sampler_type: type[BatchSampler],
    lengths: list[int],
    per_process: int,
    processes: int,
    seed: int,
    epoch: int,
    start_batch: int,
    fills: bool,
) -> None:
    batch_size = per_process * processes
    sampler = sampler_type(np.array(lengths, dtype=np.int32), batch_size, seed)
    sampler.set_epoch(epoch)
    sampler.fill_last_batch = fills or processes > 1
    whole = list(sampler)
    assert len(whole) == len(sampler) == -(-len(lengths) // batch_size)
    order = [row for batch in whole for row in batch]
    assert sorted(order[: len(lengths)]) == list(range(len(lengths)))
    if sampler.fill_last_batch:
        assert order == (order[: len(lengths)] * batch_size)[: len(whole) * batch_size]
    else:
        assert len(order) == len(lengths)
    # what each process is given of a batch makes up the batch
    shards = [
        list(BatchSamplerShard(torch_sampler(sampler), processes, index, split_batches=True))
        for index in range(processes)
    ]
    assert [[row for part in parts for row in part] for parts in zip(*shards, strict=True)] == whole
    sampler.start_batch = start_batch
    assert list(sampler) == whole[start_batch:]
    assert len(sampler) == len(whole[start_batch:])


def torch_sampler(sampler: BatchSampler) -> TorchBatchSampler:
    return sampler  # type: ignore[return-value]  # what Accelerate asks of one, ours has


@given(
    texts=st.lists(st.lists(st.integers(1, 99), max_size=6), min_size=1, max_size=8), pad_token_id=st.integers(0, 9)
)
def test_a_padded_batch_holds_every_token_in_its_place(texts: list[list[int]], pad_token_id: int) -> None:
    tokens, lengths = flatten(texts)
    rows = np.arange(len(texts))
    batch = PaddingCollator(pad_token_id)(TokenBatch(tokens, lengths, rows, rows))
    longest = max(1, *map(len, texts))
    assert batch["input_ids"].tolist() == [text + [pad_token_id] * (longest - len(text)) for text in texts]
    assert batch["attention_mask"].tolist() == [[1] * len(text) + [0] * (longest - len(text)) for text in texts]


@given(
    texts=st.lists(st.lists(st.integers(3, 99), max_size=6), min_size=1, max_size=8),
    num_streams=st.integers(1, 9),
    piece_length=st.integers(1, 9),
    seed=st.none() | st.integers(0, 2**40),
    epoch=st.integers(0, 3),
)
def test_no_token_of_a_stream_is_dropped_or_comes_twice(
    texts: list[list[int]], num_streams: int, piece_length: int, seed: int | None, epoch: int
) -> None:
    assume(any(texts))
    streams = make_streams(num_streams, piece_length, texts)
    sampler = StreamSampler(streams, seed)
    sampler.set_epoch(epoch)
    batches = [streams.__getitems__(indices) for indices in sampler]
    tokens, labels = (
        torch.cat([batch[name] for batch in batches], dim=1).flatten() for name in ("input_ids", "labels")
    )
    is_label = labels != -100
    read = [*tokens[is_label].tolist(), int(labels[is_label][-1])]
    assert labels[is_label].tolist() == read[1:]
    if seed is None:
        assert read == sequence_of(texts)
    assert read[0] == read[-1] == END
    found = " ".join(map(str, read[1:-1])).split(f" {END} ") if len(texts) > 1 else [" ".join(map(str, read[1:-1]))]
    assert Counter(sequence_of(texts)) == Counter(read)
    if all(texts):
        assert sorted(found) == sorted(" ".join(map(str, text)) for text in texts)
    assert sum(float(batch["num_labels"]) for batch in batches) == pytest.approx(len(read) - 1)


# From states to vectors


def pooled_by_hand(
    part: str, states: np.ndarray, mask: np.ndarray, bidirectional: bool, query: np.ndarray
) -> np.ndarray:
    """Return the pooled vector of one text, from its tokens alone."""
    tokens = states[mask]
    if not len(tokens):
        return np.zeros(states.shape[1])
    if part == "last":
        half = states.shape[1] // 2 if bidirectional else states.shape[1]
        return np.concatenate([tokens[-1][:half], tokens[0][half:]])
    if part == "mean":
        return np.array(tokens.mean(axis=0))
    if part == "max":
        return np.array(tokens.max(axis=0))
    weights = np.exp(np.tanh(tokens) @ query)
    return np.array((weights / weights.sum()) @ tokens)


@pytest.mark.parametrize("pooling", get_args(ClassifierPooling))
@given(data=st.data(), bidirectional=st.booleans(), batch_size=st.integers(1, 4), length=st.integers(1, 6))
def test_pooling_is_that_of_the_tokens_alone_wherever_they_stand(
    pooling: ClassifierPooling, data: st.DataObject, bidirectional: bool, batch_size: int, length: int
) -> None:
    config = RNNConfig(hidden_size=2, bidirectional=bidirectional, classifier_pooling=pooling)
    pooler = RNNPooler(config)
    numbers = st.floats(-50, 50, width=32)
    states = data.draw(arrays(np.float32, (batch_size, length, config.output_size), elements=numbers))
    mask = data.draw(arrays(bool, (batch_size, length)))
    query = data.draw(arrays(np.float32, (config.output_size,), elements=st.floats(-2, 2, width=32)))
    with torch.no_grad():
        for weight in pooler.parameters():
            weight.copy_(torch.from_numpy(query))
        pooled = pooler(torch.from_numpy(states), torch.from_numpy(mask)).numpy()
        without_mask = pooler(torch.from_numpy(states), None).numpy()
        # what stands where no token is, and how far a batch is padded, changes nothing
        other = np.where(mask[..., None], states, data.draw(numbers))
        wider = np.pad(other, ((0, 0), (0, 2), (0, 0)), constant_values=data.draw(numbers))
        padded = pooler(torch.from_numpy(wider), torch.from_numpy(np.pad(mask, ((0, 0), (0, 2))))).numpy()
    np.testing.assert_allclose(padded, pooled, rtol=1e-4, atol=1e-4)
    for everywhere, found in ((False, pooled), (True, without_mask)):
        expected = [
            np.concatenate(
                [pooled_by_hand(part, row, of_row | everywhere, bidirectional, query) for part in pooler.parts]
            )
            for row, of_row in zip(states, mask, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# From logits to metrics


def logits_and_labels(kind: str) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return logits, labels and an order of the rows."""

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num_rows, width = draw(st.integers(1, 12)), draw(st.integers(1 if kind == "numbers" else 2, 4))
        numbers = st.integers(-20, 20).map(float)
        # no two logits of a row are the same, so that rounding decides nothing
        logits = draw(arrays(np.float32, (num_rows, width), elements=numbers)) + np.linspace(
            0.1, 0.4, width, dtype="f4"
        )
        labels = {
            "classes": lambda: arrays(np.int64, (num_rows,), elements=st.integers(0, width - 1)),
            "sets": lambda: arrays(np.float32, (num_rows, width), elements=st.sampled_from([0.0, 1.0])),
            "numbers": lambda: arrays(np.float32, (num_rows, width), elements=numbers),
        }[kind]()
        return logits, draw(labels), np.array(draw(st.permutations(range(num_rows))))

    return drawn()


def assert_same_metrics(metrics: dict[str, Any], others: dict[str, Any]) -> None:
    """Check all numbers of two reports, however deep they lie, up to the rounding of sums."""
    assert metrics.keys() == others.keys()
    for name, value in metrics.items():
        if isinstance(value, dict):
            assert_same_metrics(value, others[name])
        elif isinstance(value, list):
            assert len(value) == len(others[name])
            for item, other in zip(value, others[name], strict=True):
                assert_same_metrics({"item": item}, {"item": other})
        else:
            assert value == pytest.approx(others[name], abs=1e-6), name


@given(logits_and_labels("classes"))
def test_metrics_of_classes_are_scikit_learns_in_any_order_of_the_rows(
    given_rows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    logits, labels, order = given_rows
    names = [f"class {index}" for index in range(logits.shape[1])]
    metrics = classification_metrics(logits, labels, names)
    assert_same_metrics(classification_metrics(logits[order], labels[order], names), metrics)
    predictions, ids = logits.argmax(axis=1), list(range(len(names)))
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro", zero_division=0))
    assert metrics["confusion_matrix"] == confusion_matrix(labels, predictions, labels=ids).tolist()
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    assert metrics["loss"] == pytest.approx(-log_probabilities.mean(), rel=1e-5, abs=1e-9)
    for score, name in ((precision_score, "precision"), (recall_score, "recall")):
        expected = score(labels, predictions, labels=ids, average=None, zero_division=0)
        assert [of_class[name] for of_class in metrics["per_class"].values()] == pytest.approx(expected.tolist())
    assert sum(entry["count"] for entry in metrics["calibration"]["bins"]) == len(labels)


@given(logits_and_labels("sets"), st.sampled_from([0.01, 0.3, 0.5, 0.9]))
def test_metrics_of_sets_are_scikit_learns_in_any_order_of_the_rows(
    given_rows: tuple[np.ndarray, np.ndarray, np.ndarray], threshold: float
) -> None:
    logits, labels, order = given_rows
    names = [f"class {index}" for index in range(logits.shape[1])]
    metrics = multi_label_metrics(logits, labels, names, threshold)
    assert_same_metrics(multi_label_metrics(logits[order], labels[order], names, threshold), metrics)
    predictions = 1 / (1 + np.exp(-logits.astype(np.float64))) >= threshold
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    assert metrics["micro_f1"] == pytest.approx(f1_score(labels, predictions, average="micro", zero_division=0))
    occurring = [index for index in range(len(names)) if labels[:, index].any() or predictions[:, index].any()]
    if occurring:
        expected = f1_score(labels, predictions, labels=occurring, average="macro", zero_division=0)
        assert metrics["macro_f1"] == pytest.approx(expected)


@given(logits_and_labels("numbers"))
def test_metrics_of_numbers_are_finite_and_those_of_any_order_of_the_rows(
    given_rows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    predictions, truth, order = given_rows
    names = [f"target {index}" for index in range(truth.shape[1])]
    metrics = regression_metrics(predictions, truth, names)
    assert_same_metrics(regression_metrics(predictions[order], truth[order], names), metrics)
    assert all(np.isfinite(value) for name, value in metrics.items() if name != "per_target")
    assert metrics["mse"] == pytest.approx(((predictions - truth) ** 2).mean(), rel=1e-5)
    assert -1 - 1e-9 <= metrics["spearman"] <= 1 + 1e-9
    perfect = regression_metrics(truth, truth, names)
    assert perfect["mae"] == 0 and perfect["r2"] == np.mean([float(column.var() > 0) for column in truth.T])


# From results to a card

# Marks of Markdown, HTML and YAML, whole and in pieces
marked_up = st.lists(
    st.sampled_from(
        [
            "[x](javascript:alert(1))", "<script>", "</td>", "<img src=x onerror=alert(1)>", "<!--", "| a |", "|",
            "\n", "---", "\n---\n", "../../etc/passwd", "{{ x }}", "&lt;", "&#60;", "\\", "`", "```", "~~~", "# ",
            "- ", "!", "!!python/object:os.system", "&a", "*a", "%", "@", '"', "'", ": ", "http://x.y", "<http://x.y>",
            "\ud800", "\u202e", "\x1b[31m", "x" * 500, "$$", "~", "null", "_", "*", "[", "]", "(", ")",
        ]
    )
    | any_text,
    min_size=1,
    max_size=6,
).map("".join)  # fmt: skip


@settings(max_examples=60)
@given(labels=st.lists(marked_up, min_size=2, max_size=5, unique=True))
def test_the_table_of_a_card_has_a_row_for_each_label_as_it_is(labels: list[str]) -> None:
    matrix = [
        [int(row != column) + (row == 0 and column == 1) for column in range(len(labels))]
        for row in range(len(labels))
    ]
    results = {"test_per_class": dict.fromkeys(labels, CLASS), "test_confusion_matrix": matrix}
    ordinary = {**results, "test_per_class": {f"label {index}": CLASS for index in range(len(labels))}}
    with tempfile.TemporaryDirectory() as folder:
        card = check_survives(render_model_card(facts(results)), render_model_card(facts(ordinary)), Path(folder))
    found = [shown(cell) for cell in cells(page(card)) if not cell.content.startswith("`")]
    start = found.index("class")
    assert found[start + 5 : start + 5 + 5 * len(labels) : 5] == [plain(label) for label in labels]
    (error,) = (block for block in page(card) if block.content.startswith("The most frequent error"))
    assert f": {plain(labels[0])} classified as {plain(labels[1])}, 2 of" in shown(error)


@settings(max_examples=60)
@given(name=marked_up, file=marked_up, config=marked_up, setting=marked_up)
def test_no_name_breaks_a_card(name: str, file: str, config: str, setting: str) -> None:
    changes = {
        "dataset_name": None,
        "dataset_config_name": config,
        "text_column_names": [setting],
        "word_vectors": setting,
    }
    card = render_model_card(facts(name=name, recipe=recipe(**changes, train_file=file)))
    ordinary = {**changes, "dataset_config_name": "config", "text_column_names": ["a"], "word_vectors": "b"}
    with tempfile.TemporaryDirectory() as folder:
        check_survives(card, render_model_card(facts(recipe=recipe(**ordinary, train_file="x.csv"))), Path(folder))
    assert shown(page(card)[1]) == plain(name)
    for code in code_blocks(card, "python"):
        ast.parse(code)


@settings(max_examples=60)
@given(texts=st.lists(marked_up, min_size=1, max_size=3))
def test_what_a_language_model_writes_stays_in_its_block(texts: list[str]) -> None:
    given_facts = language_model_facts()
    given_facts.results["generated_texts"] = texts  # type: ignore[index]  # a dict in fact
    [written] = code_blocks(render_model_card(given_facts), "text")
    assert written.splitlines() == [plain(text) or "(an empty text)" for text in texts]
