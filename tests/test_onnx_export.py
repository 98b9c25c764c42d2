from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from rnn_hf import RNNForSequenceClassification, RNNForTokenClassification, RNNModel, train_tokenizer
from rnn_hf.onnx_export import build_onnx, export_onnx
from tests.tiny_models import both_depths, both_directions, every_cell, every_pooling, make_model

LENGTHS = [4, 0, 7, 1, 3]
KINDS: dict[str, dict[str, Any]] = {
    "n-grams": {"ngram_buckets": 32},
    "longer n-grams, mean of the word vectors": {"ngram_buckets": 32, "ngram_order": 4, "concat_embedding_mean": True},
    "padding is read": {"pack_padded_sequences": False, "ngram_buckets": 32},
}


def texts(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of a batch with padding on the right."""
    mask = torch.arange(max(lengths, default=0)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(2, 20, mask.shape, generator=torch.Generator().manual_seed(1))
    return ids * mask, mask.long()


def session_of(model: Any, quantize: bool = False) -> onnxruntime.InferenceSession:
    made = build_onnx(model, quantize)
    onnx.checker.check_model(made, full_check=True)
    return onnxruntime.InferenceSession(made.SerializeToString())


def run(session: onnxruntime.InferenceSession, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    logits: np.ndarray = session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    return logits


def assert_same(model: Any, *batches: list[int], rtol: float = 0.0) -> None:
    """Logits of tokens are those of the model, in batches of many lengths, of one text, and of empty texts."""
    session = session_of(model)
    for lengths in batches or (LENGTHS, [5], [1], [0], [0, 0, 0]):
        ids, mask = texts(lengths)
        with torch.no_grad():
            expected = model(ids, attention_mask=mask).logits.numpy()
        got = run(session, ids, mask)
        assert got.shape == expected.shape
        if got.ndim == 3:  # the logits of padding are not defined
            got, expected = got[mask.bool().numpy()], expected[mask.bool().numpy()]
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-5, err_msg=str(lengths))


@every_cell
@every_pooling
@both_directions
@both_depths
def test_a_classifier_answers_as_the_model_does(
    cell_type: str, pooling: str, bidirectional: bool, num_hidden_layers: int
) -> None:
    assert_same(
        make_model(
            cell_type=cell_type, classifier_pooling=pooling, bidirectional=bidirectional,
            num_hidden_layers=num_hidden_layers,
        )
    )  # fmt: skip


@every_cell
@both_directions
@pytest.mark.parametrize("kind", KINDS)
def test_branches_and_padding_are_those_of_the_model(cell_type: str, bidirectional: bool, kind: str) -> None:
    pooling = "mean_max_last"
    assert_same(
        make_model(cell_type=cell_type, classifier_pooling=pooling, bidirectional=bidirectional, **KINDS[kind])
    )


@every_cell
@both_directions
@both_depths
def test_a_tagger_answers_as_the_model_does(cell_type: str, bidirectional: bool, num_hidden_layers: int) -> None:
    model = make_model(
        RNNForTokenClassification, cell_type=cell_type, bidirectional=bidirectional,
        num_hidden_layers=num_hidden_layers,
    )  # fmt: skip
    assert_same(model)


def test_a_bucket_that_belongs_to_one_ngram_ignores_others() -> None:
    model = make_model(ngram_buckets=32)
    ids, mask = texts(LENGTHS)
    ngrams = model.ngrams.ngrams_of(ids, mask.bool())[0]
    model.ngrams.owners[:] = -1
    model.ngrams.owners[ngrams[0] % 32] = ngrams[0].int()
    model.ngrams.idf.uniform_(0, 3)
    assert_same(model)


def test_a_text_of_10_000_tokens_is_read() -> None:
    # the sums of so many numbers differ by their order
    assert_same(make_model(bidirectional=True, ngram_buckets=32), [10_000, 3], rtol=1e-4)


@every_cell
def test_an_answer_of_the_quantized_model_does_not_depend_on_the_batch(cell_type: str) -> None:
    model = make_model(cell_type=cell_type, bidirectional=True, ngram_buckets=32)
    session = session_of(model, quantize=True)
    ids, mask = texts([7, 7, 2, 0])
    together = run(session, ids, mask)
    for row, length in enumerate([7, 7, 2, 0]):
        alone = run(session, ids[row : row + 1, :length], mask[row : row + 1, :length])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)
    # as close as 8 bits are
    np.testing.assert_allclose(together, run(session_of(model), ids, mask), atol=0.05)
    assert np.abs(together - run(session_of(model), ids, mask)).max() > 1e-4


def test_other_models_are_rejected() -> None:
    with pytest.raises(TypeError, match="`model` must be a classifier or a tagger of this package, got `RNNModel`"):
        build_onnx(make_model(RNNModel))


def test_a_subclass_that_computes_something_else_is_not_exported(tmp_path: Path) -> None:
    class Doubled(RNNForSequenceClassification):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            outputs = super().forward(*args, **kwargs)
            outputs.logits = 2 * outputs.logits
            return outputs

    tokenizer = train_tokenizer(["a dog", "a cat"])
    with pytest.raises(ValueError, match="The graph does not compute what `Doubled` computes: logits differ by"):
        export_onnx(make_model(Doubled), tokenizer, tmp_path)
    assert [*tmp_path.iterdir()] == []
