from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.data.tokenizing import fast_encoder, pad, set_training_length, training_length

TEXTS = ["one two", "", "three one two one", "four"]


def test_tokens_are_those_of_the_tokenizer_one_text_after_the_other() -> None:
    tokenizer = train_tokenizer(["one two three"])
    encode, _ = fast_encoder(tokenizer, max_length=3)
    tokens, lengths = encode(TEXTS)
    expected = tokenizer(TEXTS, truncation=True, max_length=3)["input_ids"]
    assert lengths.tolist() == [2, 0, 3, 1]
    assert [part.tolist() for part in np.split(tokens, lengths.cumsum()[:-1])] == expected
    assert tokens.dtype == np.int32


@pytest.mark.parametrize("max_length", [3, None])
def test_length_of_training_replaces_the_limits_of_a_tokenizer_and_is_saved(
    max_length: int | None, tmp_path: Path
) -> None:
    tokenizer = train_tokenizer(["one two three"], max_length=7)
    tokenizer.model_max_length = 512
    set_training_length(tokenizer, max_length)
    tokenizer.save_pretrained(tmp_path)
    for each in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        assert training_length(each) == max_length
        assert each.model_max_length > 10**9


def test_no_texts_have_no_tokens() -> None:
    tokens, lengths = fast_encoder(train_tokenizer(["one"]), None)[0]([])
    assert (len(tokens), len(lengths)) == (0, 0)


def test_half_a_surrogate_pair_is_encoded() -> None:
    encode, _ = fast_encoder(train_tokenizer(["one ?"]), None)
    assert encode(["one \ud800"])[0].tolist() == encode(["one ?"])[0].tolist()


def test_the_settings_of_the_tokenizer_are_left_alone() -> None:
    tokenizer = train_tokenizer(["one two three"])
    tokenizer(["one"], padding="max_length", truncation=True, max_length=2)
    encode, identity = fast_encoder(tokenizer, max_length=1)
    assert encode(["one two"])[1].tolist() == [1]
    assert tokenizer("one two three")["input_ids"] == tokenizer.convert_tokens_to_ids(["one", "two", "three"])
    assert identity == fast_encoder(train_tokenizer(["one two three"]), max_length=1)[1]


def test_a_tokenizer_without_a_fast_backend_gives_the_same() -> None:
    class Slow:
        def __call__(self, texts: list[str], **limits: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[len(word) for word in text.split()] for text in texts]}

    encode, identity = fast_encoder(Slow(), None)  # type: ignore[arg-type]
    assert identity is None
    tokens, lengths = encode(TEXTS)
    assert (tokens.tolist(), lengths.tolist()) == ([3, 3, 5, 3, 3, 3, 4], [2, 0, 4, 1])


@pytest.mark.parametrize("lengths", [[0, 0], [0, 3], [2, 1]])
def test_padding_stands_on_the_right_and_no_batch_is_without_a_position(lengths: list[int]) -> None:
    tokens = np.arange(1, sum(lengths) + 1)
    input_ids, mask = pad(tokens, np.array(lengths), pad_token_id=9)
    assert input_ids.shape == mask.shape == (2, max(1, *lengths))
    assert input_ids[mask].tolist() == tokens.tolist()
    assert mask.sum(dim=1).tolist() == lengths
    assert set(input_ids[~mask].tolist()) <= {9}
