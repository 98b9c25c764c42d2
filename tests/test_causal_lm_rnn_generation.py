"""Generation by the language model, its cache, and the pipeline."""

from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    pipeline,
)

from rnn_hf import RNNConfig
from rnn_hf.causal_lm_rnn import CACHE_NAME, RNNForCausalLM
from rnn_hf.data.tokenizer_training import TokenizerType, train_tokenizer
from tests.conftest import no_warnings
from tests.test_causal_lm_rnn import make_language_model
from tests.tiny_models import (
    TEXTS,
    both_depths,
    every_cell,
    make_batch,
)

CUTOFFS = [6, 11]
SPECIAL = {"bos_token_id": 2, "eos_token_id": 2}
every_softmax = pytest.mark.parametrize("cutoffs", [None, CUTOFFS], ids=["full", "adaptive"])


@pytest.mark.parametrize(
    "mode", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"num_return_sequences": 2, "do_sample": True}],
    ids=["greedy", "beams", "sampling"],
)  # fmt: skip
@both_depths
@every_cell
def test_generation_is_the_same_with_and_without_the_state(
    cell_type: str, num_hidden_layers: int, mode: dict[str, Any]
) -> None:
    """From prompts of different lengths, padded on the left; without the state, everything is read again each time."""
    model = make_language_model(
        cell_type=cell_type, num_hidden_layers=num_hidden_layers, adaptive_softmax_cutoffs=CUTOFFS
    )
    input_ids, attention_mask = make_batch("padded on the left")
    texts = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        arguments = {"do_sample": False, **mode, "use_cache": use_cache, "min_new_tokens": 4, "max_new_tokens": 9}
        with no_warnings():
            texts.append(model.generate(input_ids, attention_mask=attention_mask, **arguments))
    assert texts[0].shape[1] >= input_ids.shape[1] + 4
    assert torch.equal(texts[0], texts[1])


@every_cell
def test_prompts_of_different_lengths_go_on_as_each_would_alone(cell_type: str) -> None:
    model = make_language_model(cell_type=cell_type)
    input_ids, attention_mask = make_batch("padded on the left")
    together = model.generate(input_ids, attention_mask=attention_mask, do_sample=False, max_new_tokens=9)
    for row, text in enumerate(TEXTS):
        alone = model.generate(torch.tensor([text]), do_sample=False, max_new_tokens=9)[0, len(text) :]
        assert torch.equal(together[row, 14 : 14 + len(alone)], alone)


def test_generation_reads_every_token_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_language_model()
    widths, forward = [], model.model.forward
    monkeypatch.setattr(
        model.model, "forward", lambda ids, **others: (widths.append(ids.shape[1]), forward(ids, **others))[1]
    )
    model.generate(torch.tensor([TEXTS[0]]), do_sample=False, max_new_tokens=5, eos_token_id=None)
    assert widths == [4, 1, 1, 1, 1]


def test_generation_goes_on_from_a_state_that_was_kept() -> None:
    model = make_language_model()
    prompt = torch.tensor([TEXTS[0]])
    # transformers would take generated padding for padding of the prompt
    settings: dict[str, Any] = {"do_sample": False, "eos_token_id": None, "suppress_tokens": [0]}
    whole = model.generate(prompt, max_new_tokens=8, **settings)
    first = model.generate(prompt, max_new_tokens=4, return_dict_in_generate=True, **settings)
    rest = model.generate(first.sequences, max_new_tokens=4, **{CACHE_NAME: first[CACHE_NAME]}, **settings)
    assert torch.equal(rest, whole)


def test_generation_without_a_prompt_begins_with_the_token_between_texts() -> None:
    model = make_language_model()
    assert model.generate(do_sample=True, max_new_tokens=3, num_return_sequences=4)[:, 0].tolist() == [2] * 4


@torch.no_grad()
def test_a_cache_can_be_repeated_selected_and_reset_but_not_cropped() -> None:
    model = make_language_model()
    cache = model(torch.tensor([[3, 4], [5, 6]]))[CACHE_NAME]
    hidden_state, cell_state = cache.state.hidden_state, cache.state.cell_state
    cache.batch_repeat_interleave(2)
    assert torch.equal(cache.state.hidden_state, hidden_state[[0, 0, 1, 1]])
    cache.reorder_cache(torch.tensor([3, 0]))
    assert torch.equal(cache.state.cell_state, cell_state[[1, 0]])
    cache.batch_select_indices(torch.tensor([1]))
    assert torch.equal(cache.state.hidden_state, hidden_state[:1])
    with pytest.raises(RuntimeError, match="cannot be cropped"):
        cache.crop(-1)
    cache.reset()
    text = torch.tensor([[7, 8]])
    torch.testing.assert_close(model(text, cache=cache).logits, model(text).logits)
    with pytest.raises(ValueError, match="assisted generation is not supported with stateful models"):
        model.generate(text, prompt_lookup_num_tokens=2, max_new_tokens=4)


def test_another_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="must be an `RNNCache`, got `DynamicCache`"):
        make_language_model()(torch.tensor([[3]]), **{CACHE_NAME: DynamicCache()})


def test_the_pipeline_goes_on_with_a_text(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat"], has_end_of_text=True)
    model = make_language_model(vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    write = pipeline("text-generation", model=str(tmp_path))
    [answer] = write("the cat", max_new_tokens=4, do_sample=False)
    assert answer["generated_text"].startswith("the cat")


def test_the_end_of_text_token_is_known_but_never_added() -> None:
    tokenizer = train_tokenizer(["b c b [EOS]"], has_end_of_text=True)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("[EOS]", 2)
    assert 2 not in tokenizer("b [EOS] c").input_ids
    assert train_tokenizer(["b"]).eos_token is None
    with pytest.raises(ValueError, match="at least 3, got 2"):
        train_tokenizer(["b"], vocab_size=2, has_end_of_text=True)


@pytest.mark.parametrize("tokenizer_type", get_args(TokenizerType))
def test_pipeline_decodes_prompt_and_continuation_as_one_text(tokenizer_type: str) -> None:
    """For every tokenizer, with blanks where a text has them, also within a word that goes on."""
    corpus = ["the club won the cup, and the fans went home", "oil prices rose as the bank of england met"] * 10
    size = {} if tokenizer_type == "word" else {"vocab_size": 60}
    tokenizer = train_tokenizer(corpus, tokenizer_type=cast(Any, tokenizer_type), has_end_of_text=True, **size)
    model = RNNForCausalLM(RNNConfig(vocab_size=len(tokenizer), eos_token_id=2, bos_token_id=2)).eval()
    ids = tokenizer("the club won the cup, and").input_ids
    for split in range(1, len(ids)):
        prompt, whole = tokenizer.decode(ids[:split]), tokenizer.decode(ids)
        rest = torch.tensor(ids[split:])

        def go_on(input_ids: Tensor, rest: Tensor = rest, **_: object) -> Tensor:
            return torch.cat([input_ids, rest.expand(len(input_ids), -1)], dim=1)

        model.generate = go_on  # type: ignore[assignment, method-assign]
        write = pipeline("text-generation", model=model, tokenizer=tokenizer)
        if tokenizer(prompt).input_ids != ids[:split]:
            continue  # a part of a word that is other pieces alone
        assert write(prompt)[0]["generated_text"] == whole
        assert prompt + write(prompt, return_full_text=False)[0]["generated_text"] == whole
        both = write([prompt.upper(), prompt + " "], batch_size=2)
        start = len(prompt)
        assert both[0][0]["generated_text"] == prompt.upper() + whole[start:]
        assert both[1][0]["generated_text"] == prompt + " " + whole[start:].lstrip()
