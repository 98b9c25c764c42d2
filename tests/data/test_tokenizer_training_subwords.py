"""Subword tokenizers: training, splitting, saving and loading."""

import json
import math
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import (
    CONTINUATION,
    WORD_START,
    TokenizerType,
    save_tokenizer,
    train_tokenizer,
)
from rnn_hf.data.tokenizing import fast_encoder
from rnn_hf.training import arguments
from tests.data.test_tokenizer_training import reference_words

TYPES = [name for name in get_args(TokenizerType) if name != "word"]
TEXTS: list[str] = load_demo_news(num_train=1000, num_test=8)["train"]["text"][:]
STRANGE = [
    "",
    " ",
    "ΟΔΟΣ",
    "中文 and words",
    "na\u00efve \u0130stanbul",
    "\U0001f600!",
    '"a<br />b"',
    "[UNK] [PAD] ##s ▁a",
]


@pytest.fixture(scope="module", params=TYPES)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, tokenizer_type=request.param, vocab_size=200)


def model_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return model


def random_texts() -> list[str]:
    generator = random.Random(0)
    alphabet = [*"abcdefgstABZ.,'!?;:\"-", " ", "  ", "\n", "<br />", "é", "Σ", "中", "\u0130", "\U0001f600"]
    return STRANGE + ["".join(generator.choices(alphabet, k=generator.randrange(20))) for _ in range(2000)]


def marked_words(text: str) -> list[str]:
    return [WORD_START + word for word in reference_words(text)]


def test_the_flag_has_the_types_of_the_function() -> None:
    assert get_args(arguments.TokenizerType) == get_args(TokenizerType)


def test_special_tokens_come_first_and_the_vocabulary_is_full(tokenizer: PreTrainedTokenizerFast) -> None:
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, len(tokenizer)) == (0, 1, 200)
    assert sorted(tokenizer.get_vocab().values()) == list(range(200))
    assert tokenizer.all_special_ids == [1, 0]


@pytest.mark.parametrize("tokenizer_type", TYPES)
@pytest.mark.parametrize("vocab_size", [60, 61, 150, 30_000])
def test_vocab_size_is_obeyed(tokenizer_type: TokenizerType, vocab_size: int) -> None:
    assert len(train_tokenizer(TEXTS, tokenizer_type=tokenizer_type, vocab_size=vocab_size)) <= vocab_size


@pytest.mark.parametrize("tokenizer_type", ["bpe", "wordpiece"])
def test_a_vocabulary_smaller_than_the_alphabet_has_the_most_frequent_characters(
    tokenizer_type: TokenizerType,
) -> None:
    tokenizer = train_tokenizer(["eee tt z"], tokenizer_type=tokenizer_type, vocab_size=5)
    assert len(tokenizer) <= 5
    vocabulary = set(tokenizer.get_vocab())
    assert "e" in vocabulary
    assert "z" not in vocabulary


def test_pieces_put_together_are_the_words(tokenizer: PreTrainedTokenizerFast) -> None:
    """The training texts have no unknown parts."""
    for text in TEXTS[:200]:
        tokens = tokenizer.tokenize(text)
        if tokens and any(token.startswith(WORD_START) for token in tokens):
            assert "".join(tokens).split(WORD_START)[1:] == reference_words(text)
        else:
            joined = " ".join(tokens).replace(f" {CONTINUATION}", "")
            assert joined.split() == reference_words(text)


def test_offsets_cut_the_pieces_out_of_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in [*TEXTS[:200], "Unseen Playgrounds; minister-like (CUPS)"]:
        encoding = tokenizer(text, return_offsets_mapping=True)
        tokens = tokenizer.convert_ids_to_tokens(encoding.input_ids)
        end_before = 0
        for token, (start, end) in zip(tokens, encoding.offset_mapping, strict=True):
            piece = token.removeprefix(WORD_START).removeprefix(CONTINUATION)
            if piece and token != "[UNK]":
                assert text[start:end].lower() == piece
                assert start >= end_before
                end_before = end


def test_texts_of_every_kind_have_ids_and_an_empty_one_none(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("").input_ids == tokenizer(" \n;").input_ids == []
    for text in random_texts():
        ids = tokenizer(text).input_ids
        assert bool(ids) == bool(reference_words(text)), text
        assert all(0 < index < 200 for index in ids), "a text cannot inject the padding"


@pytest.mark.parametrize(
    ("tokenizer_type", "expected"),
    [
        ("bpe", ["▁", "[UNK]", "▁s", "[UNK]", "t"]),
        ("wordpiece", ["[UNK]", "[UNK]"]),
        ("unigram", ["▁", "中文", "▁s", "é", "t"]),
    ],
)
def test_a_character_never_seen_is_unknown(tokenizer_type: TokenizerType, expected: list[str]) -> None:
    tokenizer = train_tokenizer(["s t st " * 9, "tt ts ss t"], tokenizer_type=tokenizer_type, vocab_size=9)
    tokens, ids = tokenizer.tokenize("中文 sét"), tokenizer("中文 sét").input_ids
    known = ["[UNK]" if index == 1 else token for token, index in zip(tokens, ids, strict=True)]
    assert known == ["[UNK]" if token in ("中文", "é") else token for token in expected]


def test_every_merge_is_of_the_most_frequent_pair() -> None:
    """Merging by hand, following Sennrich et al. (2016), over the counts of all words."""
    tokenizer = train_tokenizer(TEXTS, tokenizer_type="bpe", vocab_size=120)
    counts = Counter(word for text in TEXTS for word in marked_words(text))
    cuts = {word: list(word) for word in counts}
    merges = [tuple(merge) for merge in model_of(tokenizer)["merges"]]
    assert len(merges) > 60
    for merge in merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, cut in cuts.items():
            for pair in pairwise(cut):
                pairs[pair] += counts[word]
        assert pairs[merge] == max(pairs.values())
        for cut in cuts.values():
            index = 0
            while index < len(cut) - 1:
                if (cut[index], cut[index + 1]) == merge:
                    cut[index : index + 2] = ["".join(merge)]
                index += 1
    for text in TEXTS[:50]:
        assert tokenizer.tokenize(text) == [piece for word in marked_words(text) for piece in cuts[word]]


def test_rarer_pairs_than_min_frequency_are_not_merged() -> None:
    texts = ["ab " * 5 + "cd " * 2]
    common, all_pairs = (
        set(train_tokenizer(texts, tokenizer_type="bpe", vocab_size=50, min_frequency=least).get_vocab())
        for least in (3, 1)
    )
    assert f"{WORD_START}ab" in common & all_pairs
    assert f"{WORD_START}cd" in all_pairs - common


def test_a_word_is_cut_into_the_longest_wordpieces_from_left_to_right() -> None:
    tokenizer = train_tokenizer(TEXTS, tokenizer_type="wordpiece", vocab_size=200)
    vocabulary = tokenizer.get_vocab()

    def cut(word: str) -> list[str]:
        pieces: list[str] = []
        while word:
            prefix = CONTINUATION if pieces else ""
            fitting = [end for end in range(len(word), 0, -1) if prefix + word[:end] in vocabulary]
            if not fitting:
                return ["[UNK]"]
            pieces.append(prefix + word[: fitting[0]])
            word = word[fitting[0] :]
        return pieces

    for text in [*TEXTS[:100], "ministerial footballs uncupped"]:
        assert tokenizer.tokenize(text) == [piece for word in reference_words(text) for piece in cut(word)]


def test_the_cut_of_a_unigram_model_is_the_most_probable_one() -> None:
    """The best of all splits, found by dynamic programming."""
    tokenizer = train_tokenizer(TEXTS, tokenizer_type="unigram", vocab_size=200)
    scores = dict(model_of(tokenizer)["vocab"][2:])

    def best(word: str) -> float:
        reached = [0.0] + [-math.inf] * len(word)
        for end in range(1, len(word) + 1):
            reached[end] = max(reached[start] + scores.get(word[start:end], -math.inf) for start in range(end))
        return reached[-1]

    for text in TEXTS[:100]:
        found = sum(scores[token] for token in tokenizer.tokenize(text))
        assert found == pytest.approx(sum(map(best, marked_words(text))))


def test_a_saved_tokenizer_gives_the_same_ids(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*TEXTS[:100], *random_texts()]
    assert loaded(texts).input_ids == tokenizer(texts).input_ids
    encode, _ = fast_encoder(loaded, None)
    ids, _ = encode(texts)
    assert ids.tolist() == [index for text in tokenizer(texts).input_ids for index in text]
    assert loaded.decode(loaded("the minister won").input_ids) == "the minister won"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer_type": "bpe"}, "`vocab_size` must be at least 4 for a tokenizer of the type 'bpe', got None."),
        (
            {"tokenizer_type": "wordpiece", "vocab_size": 3},
            "at least 4 for a tokenizer of the type 'wordpiece', got 3.",
        ),
        ({"tokenizer_type": "unigram", "vocab_size": 9}, "which keeps every character, got 9. Raise it."),
        ({"tokenizer_type": "unigram", "vocab_size": 99, "min_frequency": 2}, "`min_frequency` must be 1"),
        (
            {"tokenizer_type": "syllable"},
            "`tokenizer_type` must be one of word, bpe, wordpiece, unigram, got 'syllable'",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_tokenizer(TEXTS, **settings)


@pytest.mark.parametrize("tokenizer_type", TYPES)
def test_texts_without_a_word_are_refused(tokenizer_type: TokenizerType) -> None:
    with pytest.raises(ValueError, match="`texts` must contain a word"):
        train_tokenizer(["", " ;"], tokenizer_type=tokenizer_type, vocab_size=50)


@pytest.mark.parametrize("tokenizer_type", TYPES)
def test_a_list_among_the_texts_is_refused(tokenizer_type: TokenizerType) -> None:
    with pytest.raises(TypeError, match=r"`texts` must be strings, got .* at position 1"):
        train_tokenizer(["a", ["b"]], tokenizer_type=tokenizer_type, vocab_size=50)  # type: ignore[list-item]
