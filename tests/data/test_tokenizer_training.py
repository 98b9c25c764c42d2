"""Word-level tokenizers: rules, vocabulary, saving and loading."""

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from rnn_hf.data.tokenizer_training import save_tokenizer, train_tokenizer
from rnn_hf.data.tokenizing import training_length
from tests.conftest import no_warnings

TEXTS = ["b c a", "B, c", "b ."]
# b 3, c 2, then "," "." "a" once each in the order of their code points
VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "b": 2, "c": 3, ",": 4, ".": 5, "a": 6}


def reference_words(text: str) -> list[str]:
    """The rules one by one, in their order."""
    text = text.lower()
    text = re.sub("(')", r" \1 ", text)
    text = re.sub('"', "", text)
    text = re.sub(r"(\.)", r" \1 ", text)
    text = re.sub("<br />", " ", text)
    text = re.sub("([,()!?])", r" \1 ", text)
    text = re.sub("[;:]", " ", text)
    return text.split()


def words(text: str) -> list[str]:
    """The words of a tokenizer that has seen the text, so that none is unknown."""
    return train_tokenizer([text, "filler"]).tokenize(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's", ["it", "'", "s"]),
        ('say "yes" to a"b', ["say", "yes", "to", "ab"]),
        ("U.S. 3.5", ["u", ".", "s", ".", "3", ".", "5"]),
        ("one<br />two<BR />three", ["one", "two", "three"]),
        ('a<br "/>b', ["a", "b"]),
        ("a<br/>b <br  />", ["a<br/>b", "<br", "/>"]),
        ("a,b (c)! d?", ["a", ",", "b", "(", "c", ")", "!", "d", "?"]),
        ("re: a;b 10:30", ["re", "a", "b", "10", "30"]),
        ("a \t\n\x0b\x0c\r b\xa0c\u2003d\x85e\x1cf\x1fg", ["a", "b", "c", "d", "e", "f", "g"]),
        ("start-up AT&T $5 #1 and/or x_y", ["start-up", "at&t", "$5", "#1", "and/or", "x_y"]),
        ("a\u200bb e\u0301 \U0001f600!", ["a\u200bb", "e\u0301", "\U0001f600", "!"]),
        ("\u0130X", ["i\u0307x"]),
        ("ΟΔΟΣ ΣΑΣ' Σ", ["οδος", "σας", "'", "\u03c3"]),
        ('"', []),
        ("", []),
    ],
)
def test_text_is_cut_by_the_rules(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert reference_words(text) == expected


def test_words_equal_those_of_plain_python_on_random_texts() -> None:
    alphabet = [
        *"aAbBrR09zé-$&#/_<>*[]\u2019",
        *"''\"\"..,()!?;:",
        *" \t\n\r\x0b\x0c\x1b\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u3000",
        *"\u180e\u200b\u200d\u2060\ufeff\u00ad\u0301\u0307",
        *"ΣΣσςΑ\u0130\u0131\u01c5ẞßK\u02b0\U0001f600",
        *["<br />", "<BR />", '<br "/>', '"<b"r />', "<br/>", "<br  />", "<br\t/>", "<br '/>", "< br />", "[UNK]"],
    ]
    generator = random.Random(0)
    texts = ["".join(generator.choices(alphabet, k=generator.randrange(16))) for _ in range(20_000)]
    tokenizer = train_tokenizer(texts)
    encodings = tokenizer.backend_tokenizer.encode_batch(texts)
    assert [(text, encoding.tokens) for text, encoding in zip(texts, encodings, strict=True)] == [
        (text, reference_words(text)) for text in texts
    ]


def test_lone_sigmas_cost_linear_time() -> None:
    # with an unbounded look-behind this takes minutes
    assert words(" Σ" * 50_000) == ["\u03c3"] * 50_000


def test_ids_go_from_frequent_to_rare_and_ties_by_code_point() -> None:
    assert train_tokenizer(TEXTS).get_vocab() == VOCABULARY
    assert train_tokenizer(reversed(TEXTS)).get_vocab() == VOCABULARY


@pytest.mark.parametrize("vocab_size", range(2, 10))
def test_vocab_size_counts_the_special_tokens(vocab_size: int) -> None:
    expected = {word: index for word, index in VOCABULARY.items() if index < vocab_size}
    assert train_tokenizer(TEXTS, vocab_size=vocab_size).get_vocab() == expected


def test_words_rarer_than_min_frequency_are_unknown() -> None:
    tokenizer = train_tokenizer(TEXTS, min_frequency=2)
    assert tokenizer.get_vocab() == {"[PAD]": 0, "[UNK]": 1, "b": 2, "c": 3}
    assert tokenizer("A b c d").input_ids == [1, 2, 3, 1]


def test_special_tokens_cannot_be_injected_by_a_text(tmp_path: Path) -> None:
    train_tokenizer(["a b"]).save_pretrained(tmp_path)
    for tokenizer in (train_tokenizer(["a b"]), PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        assert tokenizer("a [PAD] b").input_ids == [2, 1, 3]
    with_words = train_tokenizer(["[PAD] [UNK]"])
    assert with_words.tokenize("[PAD] [UNK]") == ["[pad]", "[unk]"]


def test_batch_is_padded_on_the_right_with_a_mask() -> None:
    batch = train_tokenizer(TEXTS)(["b c", "", "a"], padding=True)
    assert dict(batch) == {"input_ids": [[2, 3], [0, 0], [6, 0]], "attention_mask": [[1, 1], [0, 0], [1, 0]]}


def test_max_length_is_that_of_training_and_not_of_the_models() -> None:
    """A model reads texts of any length, so a longer text is not truncated and causes no warning."""
    tokenizer = train_tokenizer(TEXTS, max_length=2)
    assert training_length(tokenizer) == 2
    with no_warnings():
        assert tokenizer("b c a").input_ids == tokenizer("b c a", truncation=True).input_ids == [2, 3, 6]
    assert tokenizer("b c a", truncation=True, max_length=2).input_ids == [2, 3]


def test_offsets_cut_the_words_out_of_the_text() -> None:
    text = 'It\'s "Big"<br />news: É!'
    tokenizer = train_tokenizer([text])
    offsets = tokenizer(text, return_offsets_mapping=True).offset_mapping
    assert [text[start:end] for start, end in offsets] == ["It", "'", "s", "Big", "news", "É", "!"]


def test_a_tokenizer_is_saved_under_the_name_that_transformers_4_knows(tmp_path: Path) -> None:
    """Also after loading, when its class has the name that only version 5 knows."""
    tokenizer = train_tokenizer(TEXTS, max_length=5)
    for folder in (tmp_path / "first", tmp_path / "again"):
        save_tokenizer(tokenizer, folder)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert (config["max_length"], config["split_special_tokens"]) == (5, True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer(["a b [PAD]", ""]).input_ids == train_tokenizer(TEXTS)(["a b [PAD]", ""]).input_ids


def test_a_tokenizer_of_another_class_keeps_its_name(tmp_path: Path) -> None:
    save_tokenizer(BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}), tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "BertTokenizer"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 1}, "`vocab_size` must be at least 2, got 1"),
        ({"min_frequency": 0}, "`min_frequency` must be at least 1, got 0"),
        ({"max_length": 0}, "`max_length` must be at least 1, got 0"),
        ({"min_frequency": 4}, "occurs at least 4 times, got none"),
    ],
)
def test_number_out_of_its_domain_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_tokenizer(TEXTS, **arguments)


@pytest.mark.parametrize("texts", [[], iter(()), ["", ' "" ;']])
def test_texts_without_a_word_are_refused(texts: Iterable[str]) -> None:
    with pytest.raises(ValueError, match="`texts` must contain a word"):
        train_tokenizer(texts)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "`texts` must be an iterable of strings, got one string"),
        (["a", ["b", "c"]], "`texts` must be strings, got .* at position 1"),
        ([None], "`texts` must be strings, got None at position 0"),
    ],
)
def test_texts_that_are_not_strings_are_refused(texts: Iterable[str], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        train_tokenizer(texts)
