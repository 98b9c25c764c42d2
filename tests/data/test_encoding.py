from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.conftest import in_new_process

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


def test_a_second_process_tokenizes_nothing(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "one two,x\none two,y\n" * 50)
    encode_dataset(load_text_dataset(train_file=path), tokenizer, 9)
    code = (
        "import sys; from transformers import PreTrainedTokenizerFast; from rnn_hf.data import encoding, sources\n"
        "tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])\n"
        # use changes a tokenizer's settings, but not what it is
        "tokenizer('one', truncation=True, max_length=2, padding='max_length')\n"
        "calls, build = [], encoding.fast_encoder\n"
        "def watched(*arguments):\n"
        "    encode, content = build(*arguments)\n"
        "    return (lambda texts: calls.append(1) or encode(texts)), content\n"
        "encoding.fast_encoder = watched\n"
        "dataset = sources.load_text_dataset(train_file=sys.argv[2])\n"
        "for max_length in (9, 2):\n"
        "    encoded = encoding.encode_dataset(dataset, tokenizer, max_length)\n"
        "    print(len(calls), len(encoded['train'].cache_files))"
    )
    result = in_new_process(code, str(tmp_path / "tokenizer"), str(path))
    assert result.stdout.split() == ["0", "1", "2", "1"], result.stderr


def test_a_text_cannot_smuggle_padding_in() -> None:
    tokenizer = train_tokenizer(["one two"])
    rows = DatasetDict(test=Dataset.from_dict({"text": ["[PAD] one"], "label": [0]}))
    assert (
        encode_dataset(rows, tokenizer, None)["test"]["input_ids"][:] == tokenizer(["[PAD] one"]).input_ids == [[1, 2]]
    )
