"""The card of a model of which nothing is known but its files."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedTokenizerBase

from rnn_hf.data.tokenizer_training import save_tokenizer
from rnn_hf.errors import plain
from rnn_hf.files import atomic_folder, publish
from rnn_hf.hub import remove_onnx
from rnn_hf.modeling_rnn import RNNPreTrainedModel

from .markdown import escaped, fenced

MOST_LABELS = 50


def write_with_short_card(
    model: RNNPreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, name: str, label_names: Sequence[str]
) -> None:
    """Write a classifier and a card that says what it is and how to load it.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        folder: Where the files go; other files there stay.
        name: Name of the model.
        label_names: Its classes.
    """
    with atomic_folder(folder / "finished") as finished:
        model.save_pretrained(finished)
        save_tokenizer(tokenizer, finished)
        short_card(name, label_names).save(finished / "README.md")
    publish(folder / "finished", folder)
    remove_onnx(folder)


def short_card(name: str, label_names: Sequence[str]) -> ModelCard:
    """Return a card that says what a classifier is and how to load it."""
    data = ModelCardData(library_name="transformers", pipeline_tag="text-classification", tags=["rnn_hf"])
    labels = ", ".join(map(escaped, label_names[:MOST_LABELS]))
    rest = f" and {len(label_names) - MOST_LABELS} more" if len(label_names) > MOST_LABELS else ""
    lines = (
        "from rnn_hf import TextClassifier",
        "",
        f"classifier = TextClassifier.from_pretrained({plain(name)!r})",
        'classifier.predict(["A text to classify."])',
    )
    text = f"# {escaped(name)}\n\nA recurrent text classifier of the `rnn_hf` family. Labels: {labels}{rest}.\n\n"
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}{fenced('python', *lines)}\n")
