"""The section of a card on the ONNX export beside the model."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from rnn_hf.errors import plain
from rnn_hf.files import atomic_file

from .markdown import fenced

TAGS = ("onnx", "transformers.js")
TITLE = "## ONNX"


def add_onnx_section(folder: Path) -> None:
    """Add tags and a section on ONNX to the card in a folder, unless there is none or it has them.

    Args:
        folder: Folder of the model.
    """
    path = folder / "README.md"
    if not path.is_file():
        return
    card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    data: Any = card.data
    data.tags = list(dict.fromkeys([*(data.tags or []), *TAGS]))
    if TITLE not in card.text:
        name = folder.resolve().name
        card.text = f"{card.text.rstrip()}\n\n{section(name, data.pipeline_tag)}\n"
    with atomic_file(path) as beside:
        card.save(beside)


def section(name: str, task: str | None) -> str:
    """Return the section: how to load the export in Python and in JavaScript.

    Args:
        name: Name of the model.
        task: Its task on the Hub.
    """
    shown = plain(name)
    is_classifier = task != "token-classification"
    in_python = (
        "from onnx_classifier import OnnxTextClassifier",
        "",
        f"classifier = OnnxTextClassifier({shown!r})",
        'classifier.predict(["A text to classify."])',
    )
    pipeline = "TextClassificationPipeline" if is_classifier else "TokenClassificationPipeline"
    in_javascript = (
        f'import {{ AutoModel, AutoTokenizer, {pipeline} }} from "@huggingface/transformers";',
        "",
        f"const tokenizer = await AutoTokenizer.from_pretrained({shown!r});",
        f'const model = await AutoModel.from_pretrained({shown!r}, {{ dtype: "fp32" }});',
        f'const classify = new {pipeline}({{ task: "{task or "text-classification"}", model, tokenizer }});',
        'console.log(await classify("A text to classify."));',
    )
    python = (
        "Without torch and transformers, with the file `onnx/onnx_classifier.py` (`pip install onnxruntime "
        "tokenizers`):\n\n"
        f"{fenced('python', *in_python)}\n\n"
    )
    return (
        f"{TITLE}\n\n`onnx/model.onnx` computes what the model computes; in `onnx/model_quantized.onnx`, a quarter of "
        f'its size, word vectors and n-gram tables have 8 bits (`dtype: "q8"`).\n\n{python if is_classifier else ""}'
        f"In a browser or Node, with transformers.js:\n\n{fenced('javascript', *in_javascript)}"
    )
