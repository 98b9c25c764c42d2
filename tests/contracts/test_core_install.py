"""The core install has neither `datasets` nor `pyarrow`: what needs them is imported only when it is used."""

import rnn_hf
from rnn_hf import data
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.conftest import in_new_process

WITHOUT_DATASETS = """
import sys
sys.modules["datasets"] = sys.modules["pyarrow"] = None
"""


def test_the_package_exports_the_functions() -> None:
    assert data.load_text_dataset is load_text_dataset
    assert data.train_tokenizer is rnn_hf.train_tokenizer is train_tokenizer


def test_tokenizers_need_no_datasets() -> None:
    code = """
import rnn_hf.data.tokenizing
from rnn_hf.data.demo_news import DEMO_DATASET
from rnn_hf import TextClassifier, train_tokenizer
print(train_tokenizer(["a b"])("b a").input_ids)
"""
    result = in_new_process(WITHOUT_DATASETS + code)
    assert result.stdout == "[3, 2]\n", result.stderr


def test_without_datasets_loading_one_names_the_package_to_install() -> None:
    code = """
try:
    from rnn_hf.data import load_text_dataset
except ImportError as error:
    print(error)
"""
    result = in_new_process(WITHOUT_DATASETS + code)
    assert "needs the package datasets" in result.stdout, result.stderr
    assert 'pip install "rnn-hf[train]"' in result.stdout
    assert result.stdout.count("\n") == 1
