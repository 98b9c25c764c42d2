"""A teacher of another architecture, and the run of a student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from rnn_hf.commands import distill
from rnn_hf.data.demo_news import load_demo_news
from tests.conftest import TINY_RUN

Distill = Callable[..., tuple[dict[str, Any], Path]]
LABELS = ["Sports", "World", "Sci/Tech", "Business"]  # another order than the dataset's


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT of random weights, with its own tokenizer and the classes in another order."""
    folder = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = Tokenizer(WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = Lowercase(), BertPreTokenizer()
    backend.train_from_iterator(
        load_demo_news(num_train=200, num_test=8)["train"]["text"],
        WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False),
    )
    backend.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(tiny_bert(len(tokenizer), id2label=dict(enumerate(LABELS))))
    with torch.no_grad():
        for weight in model.classifier.parameters():
            weight.normal_()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_bert(vocab_size: int, **settings: Any) -> BertConfig:
    return BertConfig(
        vocab_size=vocab_size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24, **settings,
    )  # fmt: skip


@pytest.fixture
def student(tmp_path: Path) -> Distill:
    """Run the script on a few demo rows; `student("name", teachers, "--flag", "value")` returns results and folder."""

    def run(name: str, teachers: list[Path], *argv: str) -> tuple[dict[str, Any], Path]:
        AcceleratorState._reset_state(reset_partial_state=True)
        folder, names = tmp_path / name, map(str, teachers)
        common = [*TINY_RUN, "--output_dir", str(folder), "--teacher_name_or_path", *names]
        return distill.main([*common, *argv]), folder

    return run
