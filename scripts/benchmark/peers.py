"""Other classifiers, and the lesson's training loop, that the benchmark compares this package with.

A peer is a function from texts to labels. Packages of peers are imported in functions, because each may be missing.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

from rnn_hf.onnx_classifier import GRAPH, OnnxTextClassifier
from rnn_hf.text_classifier import TextClassifier

Classify = Callable[[list[str]], Any]

WORDPIECE_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def is_installed(package: str) -> bool:
    """Return whether a package can be imported."""
    return find_spec(package) is not None


def train_wordpiece(texts: Iterable[str], vocab_size: int = 30_000) -> Tokenizer:
    """Return a WordPiece tokenizer built like BERT's (Devlin et al., 2019), without special tokens around a text.

    Args:
        texts: Texts to train it on.
        vocab_size: Maximum size of the vocabulary.
    """
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = WordPieceTrainer(vocab_size=vocab_size, special_tokens=WORDPIECE_TOKENS, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def model2vec_peer(tokenizer: Tokenizer) -> Classify:
    """Return model2vec's encoder: the mean of word piece vectors of size 256, which are random here.

    Args:
        tokenizer: The WordPiece tokenizer.
    """
    from model2vec import StaticModel

    vectors = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 256)).astype(np.float32)
    model = StaticModel(vectors, tokenizer, normalize=True)
    return lambda texts: model.encode(texts)


def minilm_shape(
    tokenizer: Tokenizer, num_labels: int
) -> tuple[BertForSequenceClassification, PreTrainedTokenizerFast]:
    """Return a transformer of the size of MiniLM-L6 (Wang et al., 2020) with random weights, and its tokenizer.

    Args:
        tokenizer: The WordPiece tokenizer.
        num_labels: Number of classes.
    """
    pieces = Tokenizer.from_str(tokenizer.to_str())
    start, end = WORDPIECE_TOKENS.index("[CLS]"), WORDPIECE_TOKENS.index("[SEP]")  # the trainer keeps their order
    pieces.post_processor = processors.BertProcessing(("[SEP]", end), ("[CLS]", start))
    config = BertConfig(
        vocab_size=pieces.get_vocab_size(),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        id2label={index: str(index) for index in range(num_labels)},
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), WORDPIECE_TOKENS, strict=True))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=pieces, model_max_length=512, **names)
    return BertForSequenceClassification(config).eval(), wrapped


def pipeline_peer(model: Any, tokenizer: Any = None) -> Classify:
    """Return a model in transformers' pipeline, on the CPU, with batches of 64; it also takes a single string.

    Args:
        model: A model, or the folder of a model with its tokenizer.
        tokenizer: The tokenizer, unless `model` is a folder.
    """
    # no overload of `pipeline` matches `Any`
    make_pipeline: Callable[..., Any] = pipeline
    classify = make_pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=64, device="cpu")
    return lambda texts: [answer["label"] for answer in classify(texts, truncation=True)]


def onnx_peer(classifier: TextClassifier) -> tuple[Callable[[Any], Any], int]:
    """Return a classifier's answers by onnxruntime, without this package's torch part, and its size in bytes.

    Args:
        classifier: The classifier, which is exported into a temporary folder.
    """
    with TemporaryDirectory() as name:
        classifier.export_onnx(name)
        files = (Path(name) / "onnx" / GRAPH, Path(name) / "tokenizer.json")
        return OnnxTextClassifier(name).predict, sum(file.stat().st_size for file in files)


def basic_english(text: str) -> list[str]:
    r"""Return the words of a text as torchtext's tokenizer `basic_english` does.

    Example:
        >>> basic_english('It\'s a "start-up": really!')
        ['it', "'", 's', 'a', 'start-up', 'really', '!']
    """
    text = text.lower().replace('"', "").replace("<br />", " ")
    text = re.sub(r"[;:]", " ", text)
    return re.sub(r"(['.,()!?])", r" \1 ", text).split()


@dataclass(frozen=True)
class LessonSettings:
    """How the lesson's classifiers differ.

    Args:
        cell_type: `"rnn"` or `"lstm"`.
        pooling: The mean of all outputs, or the last state.
        is_packed: Whether sequences are packed, so that the recurrent layer does not read padding.
        embedding_mean: Mean of the normal distribution of the word vectors, whose standard deviation is 1.
        embedding_size: Size of the word vectors.
        hidden_size: Size of the state.
        batch_size: Texts per step.
        learning_rate: Adam's learning rate.
    """

    cell_type: Literal["rnn", "lstm"]
    pooling: Literal["mean", "last"]
    is_packed: bool
    embedding_mean: float
    embedding_size: int
    hidden_size: int
    batch_size: int
    learning_rate: float

    @classmethod
    def from_recipe(cls, recipe: dict[str, Any]) -> "LessonSettings":
        """Return the settings of a recipe in `model_cards/`."""
        return cls(
            cell_type=recipe["cell_type"],
            pooling=recipe["classifier_pooling"],
            is_packed=recipe.get("pack_padded_sequences", True),
            embedding_mean=recipe.get("embedding_initializer_mean", 0.0),
            embedding_size=recipe["embedding_size"],
            hidden_size=recipe["hidden_size"],
            batch_size=recipe["per_device_train_batch_size"],
            learning_rate=recipe["learning_rate"],
        )


class LessonClassifier(nn.Module):
    """A recurrent classifier in plain PyTorch, as in the lesson.

    Args:
        settings: Cell, pooling and sizes.
        vocab_size: Number of words, including those for padding and for unknown words.
        num_labels: Number of classes.
    """

    def __init__(self, settings: LessonSettings, vocab_size: int, num_labels: int) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(vocab_size, settings.embedding_size)
        nn.init.normal_(self.embedding.weight, settings.embedding_mean, 1.0)
        layer_type = {"rnn": nn.RNN, "lstm": nn.LSTM}[settings.cell_type]
        self.recurrent = layer_type(settings.embedding_size, settings.hidden_size, batch_first=True)
        self.classifier = nn.Linear(settings.hidden_size, num_labels)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits.

        Args:
            input_ids: Word ids with right padding. Shape `(batch_size, longest)`.
            lengths: Number of words of each text. Shape `(batch_size,)`.

        Returns:
            Logits of shape `(batch_size, num_labels)`.
        """
        inputs: Any = self.embedding(input_ids)
        if self.settings.is_packed:
            inputs = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, states = self.recurrent(inputs)
        if self.settings.pooling == "mean":
            pooled = outputs.mean(dim=1)
        else:
            pooled = (states[0] if self.settings.cell_type == "lstm" else states)[-1]
        logits: Tensor = self.classifier(pooled)
        return logits


class LessonVocabulary:
    """The ids of all words of some texts.

    Padding and unknown words have different ids, as in this package, so that both models have the same number of
    parameters; the lesson itself pads with the id of unknown words.

    Args:
        texts: Texts to collect words from.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(basic_english(text))
        self.ids = {word: index for index, (word, _) in enumerate(counts.most_common(), start=2)}

    def __len__(self) -> int:
        return len(self.ids) + 2

    def collate(self, rows: Sequence[tuple[str, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch of texts and their classes.

        Args:
            rows: Texts with their classes.

        Returns:
            Word ids with right padding, shape `(batch_size, longest)`; numbers of words, and classes, shape
            `(batch_size,)`.
        """
        # an empty text cannot be packed
        texts = [torch.tensor([self.ids.get(word, 1) for word in basic_english(text)] or [1]) for text, _ in rows]
        lengths = torch.tensor([len(text) for text in texts])
        longest = int(lengths.max())
        input_ids = torch.stack([F.pad(text, (0, longest - len(text))) for text in texts])
        return input_ids, lengths, torch.tensor([label for _, label in rows])


@dataclass
class LessonRun:
    """Results of one epoch of the lesson's loop.

    Args:
        losses: Loss of each step, in nats.
        accuracy: Share of the texts that were classified correctly in their training step.
        step_ends: Time at the end of each step, in seconds.
    """

    losses: list[float] = field(default_factory=list)
    accuracy: float = 0.0
    step_ends: list[float] = field(default_factory=list)


def train_lesson(model: LessonClassifier, vocabulary: LessonVocabulary, rows: Sequence[tuple[str, int]]) -> LessonRun:
    """Train a classifier for one epoch, as the lesson does.

    Args:
        model: The classifier.
        vocabulary: Its vocabulary.
        rows: Texts with their classes.
    """
    loader: DataLoader[Any] = DataLoader(
        rows,  # type: ignore[arg-type]  # any sequence will do
        batch_size=model.settings.batch_size,
        shuffle=True,
        collate_fn=vocabulary.collate,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=model.settings.learning_rate)
    run, num_correct, num_seen = LessonRun(), 0, 0
    model.train()
    for input_ids, lengths, labels in loader:
        optimizer.zero_grad()
        logits = model(input_ids, lengths)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        run.losses.append(loss.item())
        num_correct += int((logits.argmax(dim=1) == labels).sum().item())
        num_seen += len(labels)
        run.accuracy = num_correct / num_seen
        run.step_ends.append(time.perf_counter())
    return run
