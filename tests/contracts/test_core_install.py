"""The core install has neither `datasets` nor `pyarrow`: what needs them is imported only when it is used."""

import rnn_hf
from rnn_hf import data
from rnn_hf.data.sources import load_text_dataset
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.conftest import in_new_process


def test_the_package_exports_the_functions() -> None:
    assert data.load_text_dataset is load_text_dataset
    assert data.train_tokenizer is rnn_hf.train_tokenizer is train_tokenizer


def test_without_datasets_tokenizers_are_trained_and_loading_rows_names_the_package_to_install() -> None:
    code = """
import sys
sys.modules["datasets"] = sys.modules["pyarrow"] = None
import rnn_hf.data.tokenizing
from rnn_hf.data.demo_news import DEMO_DATASET
from rnn_hf import TextClassifier, train_tokenizer
print(train_tokenizer(["a b"])("b a").input_ids)
try:
    from rnn_hf.data import load_text_dataset
except ImportError as error:
    print(error)
"""
    result = in_new_process(code)
    ids, error = result.stdout.splitlines()
    assert ids == "[3, 2]", result.stderr
    assert "needs the package datasets" in error
    assert 'pip install "rnn-hf[train]"' in error
