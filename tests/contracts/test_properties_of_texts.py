"""What holds for every text, tried on many: also those that nobody would think of."""

import tempfile
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rnn_hf import RNNConfig, RNNForSequenceClassification, TextClassifier
from rnn_hf.data.augmentation import LONGEST_NGRAM, noised_words
from rnn_hf.data.tokenizer_training import CONTINUATION, TokenizerType, save_tokenizer, train_tokenizer
from rnn_hf.data.tokenizing import fast_encoder
from rnn_hf.onnx_classifier import encodable
from scripts.research.count_near_duplicates import EXACT, Copies, shingles, words_of

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
