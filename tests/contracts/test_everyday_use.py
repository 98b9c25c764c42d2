"""Tests of what users of transformers do with any model: Auto classes, pipelines, types, devices, processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

from rnn_hf import (
    RNNConfig,
    RNNForSequenceClassification,
    RNNForTokenClassification,
    RNNModel,
    TextClassifier,
)
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.conftest import no_warnings
from tests.tiny_models import LAYOUTS, both_directions, every_cell, logits_alone, make_batch, make_model

LONG = " ".join(["a dog sat"] * 400)
TEXTS = ["The cat sat on a mat.", "", "a dog", "the cat and the dog sat on a mat, all day long!", "unknown words only"]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="not run: no CUDA device")


def on_gpu(test: Callable[..., None]) -> Callable[..., None]:
    marked: Callable[..., None] = pytest.mark.gpu(needs_gpu(test))
    return marked


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved classifier, which was trained on texts of no more than 512 tokens, with its tokenizer."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = train_tokenizer(["the cat sat on a mat . a dog and all day long !"], max_length=512)
    names = ["cats", "dogs", "neither"]
    model = make_model(
        vocab_size=len(tokenizer),
        bidirectional=True,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> np.ndarray:
    """The probabilities of `TEXTS`."""
    return TextClassifier.from_pretrained(folder).predict_proba(TEXTS)


def as_rows(answers: list[list[dict[str, Any]]]) -> np.ndarray:
    """The scores of all labels, in the order of their ids."""
    ids = {"cats": 0, "dogs": 1, "neither": 2}
    return np.array(
        [[of_text["score"] for of_text in sorted(answer, key=lambda a: ids[a["label"]])] for answer in answers]
    )


def test_every_auto_class_loads_from_one_folder(folder: Path) -> None:
    with no_warnings():
        assert type(AutoConfig.from_pretrained(folder)) is RNNConfig
        assert type(AutoModel.from_pretrained(folder)) is RNNModel
        assert type(AutoModelForSequenceClassification.from_pretrained(folder)) is RNNForSequenceClassification
        tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast
    assert set(tokenizer("a dog")) == {"input_ids", "attention_mask"}
    tagger = AutoModelForTokenClassification.from_pretrained(folder, num_labels=7, ignore_mismatched_sizes=True)
    assert type(tagger) is RNNForTokenClassification
    saved = load_file(folder / "model.safetensors")
    for name, tensor in tagger.model.state_dict(prefix="model.").items():
        assert torch.equal(tensor, saved[name])


def test_pipeline_takes_strings_lists_generators_and_datasets_without_a_warning(
    folder: Path, expected: np.ndarray
) -> None:
    columns = Dataset.from_dict({"text": TEXTS, "label": [0] * len(TEXTS)})

    def stream() -> Iterator[str]:
        yield from TEXTS

    with no_warnings():
        classify = pipeline("text-classification", model=str(folder))
        answers = [classify(text, top_k=None) for text in TEXTS]
        np.testing.assert_allclose(as_rows(answers), expected, atol=1e-5)
        for inputs in (TEXTS, stream(), KeyDataset(columns, "text"), list(columns["text"])):
            answers = list(classify(inputs, top_k=None))
            np.testing.assert_allclose(as_rows(answers), expected, atol=1e-5)


@pytest.mark.parametrize("first", range(len(TEXTS)))
def test_pipeline_in_batches_gives_the_same(first: int, folder: Path, expected: np.ndarray) -> None:
    """Whichever text begins the batch, the empty one as well."""
    order = [*range(first, len(TEXTS)), *range(first)]
    with no_warnings():
        classify = pipeline("text-classification", model=str(folder))
        answers = classify([TEXTS[index] for index in order], batch_size=3, top_k=None)
    np.testing.assert_allclose(as_rows(answers), expected[order], atol=1e-5)


def test_pipeline_gives_as_many_labels_as_are_asked_for(folder: Path, expected: np.ndarray) -> None:
    classify = pipeline("text-classification", model=str(folder))
    names = np.array(["cats", "dogs", "neither"])
    assert classify(TEXTS[0])[0]["label"] == names[expected[0].argmax()]
    assert [answer["label"] for answer in classify(TEXTS[0], top_k=2)] == names[(-expected[0]).argsort()[:2]].tolist()


def test_long_text_is_read_whole_by_the_pipeline_and_cut_on_request_without_a_warning(folder: Path) -> None:
    classifier = TextClassifier.from_pretrained(folder)
    assert classifier.max_length == 512
    with no_warnings():
        classify = pipeline("text-classification", model=str(folder))
        whole = classify([LONG, "the cat"], batch_size=2, top_k=None)
        cut = classify(LONG, top_k=None, truncation=True, max_length=classifier.max_length)
        expected_cut = classifier.predict_proba(LONG)
    token_ids = classifier.tokenizer(LONG, return_tensors="pt").input_ids
    assert token_ids.shape == (1, 1200)
    with torch.no_grad():
        logits = classifier.model(token_ids).logits
    np.testing.assert_allclose(as_rows(whole[:1]), logits.softmax(-1).numpy(), atol=1e-5)
    np.testing.assert_allclose(as_rows([cut])[0], expected_cut, atol=1e-5)
    assert np.abs(as_rows([cut]) - as_rows(whole[:1])).max() > 1e-6


def test_encoder_is_a_module_of_sentence_transformers(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    models = pytest.importorskip("sentence_transformers.models")
    tokenizer = train_tokenizer(["the cat sat on a mat . a dog and all day long !"])
    model = make_model(vocab_size=len(tokenizer), bidirectional=True, classifier_pooling="mean_max")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = models.Transformer(str(tmp_path))
    pooling = models.Pooling(model.config.output_size, pooling_mode=("mean", "max"))
    texts = [text for text in TEXTS if text]
    vectors = sentence_transformers.SentenceTransformer(modules=[encoder, pooling]).encode(texts)
    np.testing.assert_allclose(vectors, TextClassifier(model, tokenizer).encode(texts), atol=1e-6)


@both_directions
@every_cell
@torch.no_grad()
def test_half_precision_model_agrees_with_the_float32_model(cell_type: str, bidirectional: bool) -> None:
    model = make_model(cell_type=cell_type, bidirectional=bidirectional)
    expected = logits_alone(model)
    for layout in LAYOUTS:
        logits = model.half()(*make_batch(layout)).logits
        assert logits.dtype == torch.float16
        torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.01)


@both_directions
@every_cell
def test_training_step_under_bfloat16_autocast_has_the_gradients_of_float32(
    cell_type: str, bidirectional: bool
) -> None:
    gradients = []
    for is_autocast in (False, True):
        model = make_model(cell_type=cell_type, bidirectional=bidirectional).train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_autocast):
            loss = model(*make_batch("padded on the right"), labels=torch.tensor([0, 1, 2])).loss
        loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.any()
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}], ids=str)
@torch.no_grad()
def test_model_loads_with_a_device_map(device_map: Any, folder: Path) -> None:
    expected = RNNForSequenceClassification.from_pretrained(folder)
    with no_warnings():
        model = AutoModelForSequenceClassification.from_pretrained(folder, device_map=device_map)
    input_ids = torch.tensor([[3, 4, 5]])
    logits = model(input_ids.to(model.device)).logits.cpu()
    torch.testing.assert_close(logits, expected(input_ids).logits)
    batch, mask = (tensor % 13 for tensor in make_batch("with holes"))
    assert model(batch.to(model.device), attention_mask=mask.to(model.device)).logits.isfinite().all()


@on_gpu
@both_directions
@every_cell
@torch.no_grad()
def test_logits_on_a_gpu_are_those_of_the_cpu_whatever_the_padding(cell_type: str, bidirectional: bool) -> None:
    model = make_model(cell_type=cell_type, bidirectional=bidirectional, num_hidden_layers=2)
    expected = logits_alone(model)
    model.cuda()
    for layout in LAYOUTS:
        input_ids, attention_mask = make_batch(layout)
        logits = model(input_ids.cuda(), attention_mask=attention_mask.cuda()).logits
        torch.testing.assert_close(logits.cpu(), expected, rtol=1e-2, atol=1e-2)
    model.bfloat16()
    logits = model(input_ids.cuda(), attention_mask=attention_mask.cuda()).logits
    torch.testing.assert_close(logits.float().cpu(), expected, rtol=0, atol=0.05)


@on_gpu
@every_cell
@torch.no_grad()
def test_weights_that_a_gpu_holds_as_one_block_are_saved_and_loaded(cell_type: str, tmp_path: Path) -> None:
    """cuDNN lays the weights of a layer side by side, and safetensors refuses tensors that share memory."""
    model = make_model(cell_type=cell_type, bidirectional=True).cuda()
    batch = tuple(tensor.cuda() for tensor in make_batch("padded on the right"))
    expected = model(*batch).logits
    model.save_pretrained(tmp_path)
    loaded = RNNForSequenceClassification.from_pretrained(tmp_path, device_map="cuda")
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    torch.testing.assert_close(loaded(*batch).logits, expected)


@on_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="not run: fewer than two CUDA devices")
@every_cell
@torch.no_grad()
def test_data_parallel_gives_the_logits_of_one_device(cell_type: str) -> None:
    """Each device gets other lengths; on a CPU the wrapper calls the module, which proves nothing."""
    model = make_model(cell_type=cell_type, bidirectional=True)
    expected = logits_alone(model)
    input_ids, attention_mask = make_batch("padded on the right")
    logits = nn.DataParallel(model.cuda())(input_ids.cuda(), attention_mask=attention_mask.cuda()).logits
    torch.testing.assert_close(logits.cpu(), expected, rtol=1e-2, atol=1e-2)
