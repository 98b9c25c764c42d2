import pytest
from datasets import Dataset, DatasetDict, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "one", "two", "three", "four"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def test_tokens_are_those_of_the_tokenizer() -> None:
    tokenizer = make_tokenizer()
    texts = ["one two three four", "", "five four"]
    rows = DatasetDict(test=Dataset.from_dict({"text": texts, "label": [1, 0, 1]}))
    for max_length in (None, 3):
        encoded = encode_dataset(rows, tokenizer, max_length)["test"]
        expected = tokenizer(texts, truncation=max_length is not None, max_length=max_length)["input_ids"]
        assert encoded["input_ids"][:] == expected
        assert encoded["length"][:] == [len(ids) for ids in expected]
    assert encoded["labels"][:] == [1, 0, 1]
    assert encoded["row"][:] == [0, 1, 2]
    assert encoded.features["input_ids"] == List(Value("int32"))


def test_a_tokenizer_without_a_backend_works() -> None:
    class Slow:
        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[len(word) for word in text.split()] for text in texts]}

    rows = DatasetDict(test=Dataset.from_dict({"text": ["a bb", ""], "label": [0, 0]}))
    assert encode_dataset(rows, Slow(), None)["test"]["input_ids"][:] == [[1, 2], []]  # type: ignore[arg-type]


def test_the_tokenizer_is_left_as_it_was() -> None:
    tokenizer = make_tokenizer()
    before = tokenizer.backend_tokenizer.to_str()
    encode_dataset(DatasetDict(test=Dataset.from_dict({"text": ["one"], "label": [0]})), tokenizer, 2)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_max_length_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`max_length` must be at least 1, got 0"):
        encode_dataset(DatasetDict(), make_tokenizer(), 0)


def test_a_text_cannot_smuggle_padding_in() -> None:
    tokenizer = train_tokenizer(["one two"])
    rows = DatasetDict(test=Dataset.from_dict({"text": ["[PAD] one"], "label": [0]}))
    assert (
        encode_dataset(rows, tokenizer, None)["test"]["input_ids"][:] == tokenizer(["[PAD] one"]).input_ids == [[1, 2]]
    )
