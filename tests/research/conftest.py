from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from transformers import BertConfig, BertModel

from rnn_hf.commands import train
from rnn_hf.data.demo_news import load_demo_news
from rnn_hf.data.tokenizer_training import train_tokenizer
from scripts.research import run_recipe


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train in this process rather than in one for each seed; return the seeds that were trained."""
    seeds: list[int] = []

    def in_this_process(command: list[str]) -> int:
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            results = train.main(command[4:])
        except SystemExit as stop:
            return int(str(stop.code))
        seeds.append(results["seed"])
        return 0

    monkeypatch.setattr(run_recipe, "run_to_its_end", in_this_process)
    return seeds


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A tiny BERT without a classifier."""
    tokenizer = train_tokenizer(load_demo_news(num_train=200, num_test=8)["train"]["text"])
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    for part in (BertModel(config), tokenizer):
        part.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"
