"""Word vectors from the token embeddings of another model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
    ViTConfig,
    ViTModel,
)

from rnn_hf import RNNConfig, RNNModel
from rnn_hf.data.model_vectors import WORDS_AT_A_TIME
from rnn_hf.data.pretrained_vectors import iterate_words, read_pretrained_vectors, reduce_width, vectors_width
from rnn_hf.data.tokenizer_training import train_tokenizer
from rnn_hf.data.word_vectors import WordVectors
from tests import local_hub
from tests.data.test_binary_vectors import fasttext, word2vec

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "##s", "dog", "[unused0]", "run", "##ning", "the"]
VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "cats": 2, "zebra": 3, "dog": 4, "running": 5, "catzebra": 6}
OURS = {"[PAD]", "[UNK]"}
PARTS = {2: [4, 5], 4: [6], 5: [8, 9]}


def wordpiece() -> Tokenizer:
    backend = Tokenizer(WordPiece({piece: index for index, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(PIECES[:4])
    # neither may affect the vectors of words
    backend.enable_padding(length=8)
    backend.enable_truncation(1)
    return backend


def static_folder(folder: Path, **tensors: torch.Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    wordpiece().save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors")
    return folder


def bert_folder(folder: Path, **saving: Any) -> Path:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(PIECES), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertForMaskedLM(config).save_pretrained(folder, **saving)
    tokens = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=wordpiece(), **tokens).save_pretrained(folder)
    return folder


def as_dict(vectors: WordVectors) -> dict[int, Any]:
    return {word: pytest.approx(row) for word, row in zip(vectors.ids.tolist(), vectors.vectors.tolist(), strict=True)}


def means(matrix: torch.Tensor) -> dict[int, list[float]]:
    """Return the vectors of the words of `VOCABULARY`, given the vector of each token."""
    return {word: matrix[tokens].mean(dim=0).tolist() for word, tokens in PARTS.items()}


def test_a_word_has_the_mean_of_its_tokens_unless_one_is_unknown(tmp_path: Path) -> None:
    matrix = torch.randn(len(PIECES), 3)
    folder = static_folder(tmp_path / "m", embeddings=matrix)
    vectors = read_pretrained_vectors(str(folder), VOCABULARY, OURS)
    assert as_dict(vectors) == means(matrix)
    assert vectors.vocab_size == 5 and vectors_width(str(folder)) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_and_mapping_of_model2vec_are_used(tmp_path: Path, dtype: torch.dtype) -> None:
    matrix, weights = torch.randn(4, 3).to(dtype), torch.rand(len(PIECES)) + 0.5
    mapping = torch.arange(len(PIECES)) % 4
    folder = static_folder(tmp_path / "m", embeddings=matrix, weights=weights, mapping=mapping)
    expected = means(matrix.float()[mapping] * weights[:, None])
    assert as_dict(read_pretrained_vectors(str(folder), VOCABULARY, OURS)) == expected


def test_integers_of_8_bits_are_read_as_fractions(tmp_path: Path) -> None:
    matrix = torch.randint(-127, 128, (len(PIECES), 3), dtype=torch.int8)
    folder = static_folder(tmp_path / "m", embeddings=matrix)
    assert as_dict(read_pretrained_vectors(str(folder), VOCABULARY, OURS)) == means(matrix.float() / 127)


@pytest.mark.parametrize("is_quantized", [False, True])
def test_what_model2vec_saves_gives_what_it_encodes(tmp_path: Path, is_quantized: bool) -> None:
    model2vec = pytest.importorskip("model2vec")
    random = np.random.default_rng(0)
    parts: dict[str, Any] = {}
    if is_quantized:
        parts = {"weights": random.uniform(0.5, 2, len(PIECES)), "token_mapping": random.integers(0, 5, len(PIECES))}
    rows = random.normal(size=(5 if is_quantized else len(PIECES), 4)).astype(np.float32)
    model = model2vec.StaticModel(rows, wordpiece(), normalize=True, **parts)
    model.save_pretrained(tmp_path)
    encoded = model.encode(["cats", "dog", "running"], normalize=False)
    expected = dict(zip(PARTS, encoded.tolist(), strict=True))
    assert as_dict(read_pretrained_vectors(str(tmp_path), VOCABULARY, OURS)) == expected


@pytest.mark.parametrize("saving", [{}, {"max_shard_size": "1KB"}], ids=["one file", "several"])
def test_a_transformers_model_gives_its_input_embeddings(tmp_path: Path, saving: dict[str, Any]) -> None:
    folder = bert_folder(tmp_path / "bert", **saving)
    matrix = BertForMaskedLM.from_pretrained(folder).get_input_embeddings().weight.detach()
    assert (folder / "model.safetensors").exists() == (not saving)
    assert as_dict(read_pretrained_vectors(str(folder), VOCABULARY, OURS)) == means(matrix)
    assert vectors_width(str(folder)) == 8


def test_more_words_than_a_batch_and_rows_than_a_part_have_their_own_vectors(tmp_path: Path) -> None:
    words = [f"w{index}" for index in range(WORDS_AT_A_TIME * 2 + 5)]
    backend = Tokenizer(WordPiece({"[UNK]": 0, **{word: i + 1 for i, word in enumerate(words)}}, unk_token="[UNK]"))
    rows = torch.arange(len(words) + 1.0)[:, None]
    save_file({"embeddings": rows}, tmp_path / "model.safetensors")
    backend.save(str(tmp_path / "tokenizer.json"))
    vectors = read_pretrained_vectors(str(tmp_path), {word: i for i, word in enumerate(reversed(words))})
    assert torch.equal(vectors.vectors[:, 0], len(words) - vectors.ids.float())
    assert len(vectors.ids) == len(words)


def test_a_byte_level_tokenizer_reads_a_word_as_inside_a_text(tmp_path: Path) -> None:
    """A GPT-2 reads ` cat` as another token than `cat`; the first is the word."""
    tokens = ["c", "a", "t", "Ġ", "ca", "cat", "Ġcat", "Ã", "©", "Ã©", "caÃ©", "ĠcaÃ©"]
    merges = [("c", "a"), ("ca", "t"), ("Ġ", "cat"), ("Ã", "©"), ("ca", "Ã©"), ("Ġ", "caÃ©")]
    backend = Tokenizer(BPE({token: index for index, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    GPT2Model(GPT2Config(vocab_size=12, n_embd=4, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path)
    vectors = read_pretrained_vectors(str(tmp_path), {"cat": 0, "caé": 1})
    matrix = GPT2Model.from_pretrained(tmp_path).get_input_embeddings().weight.detach()
    assert as_dict(vectors) == {0: matrix[6].tolist(), 1: matrix[11].tolist()}
    assert list(iterate_words(str(tmp_path)))[1:] == ["cat", "caé"]


def test_embeddings_that_encoder_and_decoder_share_are_found(tmp_path: Path) -> None:
    T5Model(T5Config(vocab_size=11, d_model=4, d_ff=4, num_layers=1, num_heads=1, d_kv=4)).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=wordpiece(), unk_token="[UNK]").save_pretrained(tmp_path)
    matrix = load_file(tmp_path / "model.safetensors")["shared.weight"]
    assert as_dict(read_pretrained_vectors(str(tmp_path), VOCABULARY, OURS)) == means(matrix)


def test_whole_words_are_those_without_marks(tmp_path: Path) -> None:
    folder = static_folder(tmp_path / "m", embeddings=torch.ones(len(PIECES), 2))
    assert list(iterate_words(str(folder))) == ["cat", "dog", "[unused0]", "run", "the"]


def test_the_width_is_read_from_the_beginning_of_a_file(tmp_path: Path) -> None:
    files = {
        "glove": b"cat 1 2 3\nthis line is damaged\n",
        "vec": b"7 3\ncat 1 2 3\n",
        "word2vec": word2vec({"cat": [1.0, -2.5, 0.1]}, "1 3"),
        "fasttext": fasttext(["cat"], np.ones((1, 3), np.float32)),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert {vectors_width(str(tmp_path / name)) for name in files} == {3}


def test_a_reduction_is_that_of_principal_components() -> None:
    random = np.random.default_rng(0)
    numbers = (random.normal(size=(9000, 6)) @ random.normal(size=(6, 6)) + 5).astype(np.float32)
    reduced, share = reduce_width(WordVectors(torch.arange(9000), torch.from_numpy(numbers), 9000), 3)
    expected = PCA(3).fit(numbers.astype(np.float64))
    scores = expected.transform(numbers)
    signs = np.sign((scores * reduced.vectors.numpy()).sum(axis=0))
    scores *= signs * np.sqrt(numbers.var(axis=0).mean() / (scores**2).mean())
    np.testing.assert_allclose(reduced.vectors.numpy(), scores, atol=1e-3)
    assert share == pytest.approx(expected.explained_variance_ratio_.sum())
    assert reduced.vectors.square().mean().item() == pytest.approx(numbers.var(axis=0).mean(), rel=1e-4)


@pytest.mark.parametrize("width", [0, 3])
def test_a_reduction_widens_nothing(width: int) -> None:
    with pytest.raises(ValueError, match=rf"`width` must be at least 1 and at most .* got {width} and 2"):
        reduce_width(WordVectors(torch.arange(4), torch.ones(4, 2), 4), width)


def test_equal_vectors_are_reduced_to_zeros() -> None:
    reduced, share = reduce_width(WordVectors(torch.arange(2), torch.ones(2, 3), 2), 2)
    assert torch.equal(reduced.vectors, torch.zeros(2, 2)) and share == 1


def break_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


def replace_weights(**tensors: torch.Tensor) -> Any:
    return lambda folder: save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_tokenizer, "tokenizer.json' cannot be loaded"),
        (remove_tokenizer, "no tokenizer.json"),
        (cut_weights, "not a complete file of weights"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (replace_weights(embeddings=torch.ones(11)), "must be a matrix of numbers, got F32 of the shape"),
        (replace_weights(embeddings=torch.ones(11, 2, dtype=torch.int64)), "must be a matrix of numbers, got I64"),
        (replace_weights(embeddings=torch.full((11, 2), torch.nan)), "must be finite numbers"),
        (replace_weights(embeddings=torch.ones(11, 2), weights=torch.ones(11, 1)), "a number for each token"),
        (replace_weights(embeddings=torch.ones(11, 2), mapping=torch.ones(11)), "a number for each token"),
        (
            replace_weights(embeddings=torch.ones(2, 2), mapping=torch.arange(11)),
            "must name rows below 2, got 0 to 10",
        ),
        (replace_weights(embeddings=torch.ones(3, 2)), "has none of the 5 words"),
        (replace_weights(matrix=torch.ones(11, 2)), "neither a config.json nor `embeddings`"),
    ],
)
def test_a_damaged_model2vec_folder_is_refused_in_one_line(tmp_path: Path, damage: Any, message: str) -> None:
    folder = static_folder(tmp_path / "m", embeddings=torch.ones(len(PIECES), 2))
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        read_pretrained_vectors(str(folder), VOCABULARY, OURS)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def settings(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (pickle_weights, r"weights as a pickle \(pytorch_model.bin\)"),
        (settings(model_type="of-nobody"), "not that of a transformers model"),
        (settings(num_hidden_layers=10**9), "1000000000 layers but"),
        (settings(attn_implementation="kernels-community/x"), "`attn_implementation` .* must not be set"),
        (
            settings(model_type="of-nobody", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"}),
            "not that of a transformers model",
        ),
        (
            replace_weights(other=torch.ones(1, 1)),
            "must have the input embeddings `embeddings.word_embeddings.weight`",
        ),
        (lambda folder: (folder / "config.json").write_text("[]"), "must hold the settings of a model"),
    ],
)
def test_a_transformers_folder_that_cannot_be_read_safely_is_refused(
    tmp_path: Path, damage: Any, message: str
) -> None:
    folder = bert_folder(tmp_path / "bert")
    (folder / "code.py").write_text("raise SystemExit('this code must not run')")
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        read_pretrained_vectors(str(folder), VOCABULARY, OURS)
    assert "\n" not in str(error.value)


def test_a_model_without_tokens_is_refused(tmp_path: Path) -> None:
    ViTModel(
        ViTConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, image_size=16)
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"\(vit\) has no input embeddings of tokens"):
        vectors_width(str(tmp_path))


@pytest.mark.parametrize("kind", ["model2vec", "transformers"])
def test_a_repository_on_the_hub_is_read_unless_a_folder_has_its_name(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = tmp_path / "hub" / "models" / local_hub.OWNER / "vectors"
    folder.mkdir(parents=True)
    if kind == "model2vec":
        static_folder(folder, embeddings=torch.randn(len(PIECES), 8))
    else:
        bert_folder(folder)
    monkeypatch.chdir(tmp_path)
    name = f"{local_hub.OWNER}/vectors"
    assert vectors_width(name) == 8
    downloaded, local = (read_pretrained_vectors(source, VOCABULARY, OURS) for source in (name, str(folder)))
    assert torch.equal(downloaded.vectors, local.vectors) and torch.equal(downloaded.ids, local.ids)
    (tmp_path / local_hub.OWNER).mkdir()
    static_folder(tmp_path / name, embeddings=torch.randn(len(PIECES), 3))
    assert vectors_width(name) == 3


def test_a_repository_that_is_not_on_the_hub_is_told_in_one_line(hub: str) -> None:
    with pytest.raises(ValueError, match="'owner/nothing' cannot be loaded") as error:
        vectors_width("owner/nothing")
    assert "\n" not in str(error.value)


def test_a_model_of_this_family_gives_the_vectors_of_its_words(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["the cat", "the dog"])
    model = RNNModel(RNNConfig(vocab_size=len(tokenizer), embedding_size=6, hidden_size=4))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    vectors = read_pretrained_vectors(str(tmp_path), {"[UNK]": 1, "dog": 7, "zebra": 8}, {"[UNK]"})
    weight = model.get_input_embeddings().weight.detach()
    assert as_dict(vectors) == {1: weight[1].tolist(), 7: weight[4].tolist()}
    assert vectors_width(str(tmp_path)) == 6 and list(iterate_words(str(tmp_path))) == ["the", "cat", "dog"]


def test_what_does_not_exist_is_told_in_one_line(tmp_path: Path) -> None:
    for read in (vectors_width, lambda name: list(iterate_words(name))):
        with pytest.raises(FileNotFoundError, match="a file, a folder of a model or `owner/name` on the Hub"):
            read(str(tmp_path / "nowhere"))
        with pytest.raises(ValueError, match="got the directory"):
            read(str(tmp_path))
