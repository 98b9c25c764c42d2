"""What is drawn and trained is the same in every process, whatever its hash seed and its threads."""

import inspect
import json
import random
from typing import Any, get_args

import pytest

from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.encoding import encode_dataset
from rnn_hf.data.sources import load_text_dataset
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
import json, random, sys
from typing import Any, get_args
from transformers import AutoTokenizer
from rnn_hf.data import encoding, sources
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import TokenizerType, train_tokenizer

{inspect.getsource(made)}

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
# use changes a tokenizer's settings, but not what it is
tokenizer("one", truncation=True, max_length=2, padding="max_length")
calls, build = [], encoding.fast_encoder

def watched(*arguments):
    encode, content = build(*arguments)
    return (lambda texts: calls.append(1) or encode(texts)), content

encoding.fast_encoder = watched
dataset = sources.load_text_dataset(train_file=sys.argv[2])
found = []
for max_length in (9, 2):
    encoded = encoding.encode_dataset(dataset, tokenizer, max_length)
    found.append([len(calls), len(encoded["train"].cache_files)])
print(json.dumps([made(), found]))
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[list[int]]]:
    """What a second process makes, and how often it tokenizes what this one has tokenized."""
    folder = tmp_path_factory.mktemp("there")
    tokenizer, rows = train_tokenizer(["one two"]), folder / "a.csv"
    tokenizer.save_pretrained(folder / "tokenizer")
    rows.write_text("text,label\n" + "one two,x\none two,y\n" * 50)
    encode_dataset(load_text_dataset(train_file=rows), tokenizer, 9)
    # another hash seed, and another number of threads than most machines have
    settings = {"PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "3", "TOKENIZERS_PARALLELISM": "true"}
    done = in_new_process(CODE, str(folder / "tokenizer"), str(rows), **settings)
    assert done.returncode == 0, done.stderr
    things, found = json.loads(done.stdout)
    return things, found


def test_news_vocabularies_and_ids_are_the_same_in_every_process(there: tuple[dict[str, Any], list[Any]]) -> None:
    here = json.loads(json.dumps(made()))
    assert len(here["word"]) == 1000
    for name, value in here.items():
        assert there[0][name] == value, name
    for tokenizer_type in get_args(TokenizerType)[1:]:
        assert here[tokenizer_type] == here[f"{tokenizer_type} reversed"]


def test_a_second_process_tokenizes_nothing(there: tuple[dict[str, Any], list[Any]]) -> None:
    """Unless texts are to be cut off elsewhere."""
    assert there[1] == [[0, 1], [2, 1]]
