"""What is drawn and trained is the same in every process, whatever its hash seed and its threads."""

import inspect
import json
import random
from typing import Any, get_args

import pytest

from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import TokenizerType, train_tokenizer
from tests.conftest import in_new_process


def made() -> dict[str, Any]:
    """Return news, a vocabulary of words, and for each type of pieces of words a vocabulary and ids of texts."""
    draw = random.Random(0)
    numbers = [" ".join(str(draw.randrange(3000)) for _ in range(20)) for _ in range(500)]
    texts = load_demo_news(num_train=1000, num_test=8)["train"]["text"][:]
    result: dict[str, Any] = {
        "news": [split.to_list() for split in load_demo_news(seed=3, num_train=40, num_test=20).values()],
        "word": train_tokenizer(numbers, vocab_size=1000).get_vocab(),
    }
    for tokenizer_type in get_args(TokenizerType)[1:]:
        # nor does the order of the texts matter
        for name, some in (("", texts), (" reversed", texts[::-1])):
            tokenizer = train_tokenizer(some, tokenizer_type=tokenizer_type, vocab_size=200)
            result[tokenizer_type + name] = [tokenizer.get_vocab(), tokenizer(texts[:100]).input_ids]
    return result


CODE = f"""
import json, random
from typing import Any, get_args
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import TokenizerType, train_tokenizer

{inspect.getsource(made)}

print(json.dumps(made()))
"""


@pytest.mark.parametrize("number", ["1", "2"])
def test_news_vocabularies_and_ids_are_the_same_in_every_process(number: str) -> None:
    done = in_new_process(CODE, PYTHONHASHSEED=number, RAYON_NUM_THREADS=number, TOKENIZERS_PARALLELISM="true")
    there, here = json.loads(done.stdout), json.loads(json.dumps(made()))
    assert len(here["word"]) == 1000
    for name, value in here.items():
        assert there[name] == value, name
    for tokenizer_type in get_args(TokenizerType)[1:]:
        assert here[tokenizer_type] == here[f"{tokenizer_type} reversed"]
