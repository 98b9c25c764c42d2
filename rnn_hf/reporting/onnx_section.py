"""The section of a card on the ONNX export beside the model."""

import re
from pathlib import Path

import yaml

from rnn_hf.errors import plain
from rnn_hf.files import atomic_file

from .markdown import fenced

TAGS = ("onnx", "transformers.js")
TITLE = re.compile(r"^## ONNX$", re.MULTILINE)
FRONT_MATTER = re.compile(r"\A\ufeff?---\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
# The line before the first tag, if each has a line of its own without indentation
BLOCK_OF_TAGS = re.compile(r"^tags:[ \t]*\n(?=- )", re.MULTILINE)


def add_onnx_section(folder: Path) -> None:
    """Add tags and a section on ONNX to the card in a folder; everything else in it stays as it is.

    A card whose tags cannot be read is left alone.

    Args:
        folder: Folder of the model.
    """
    path = folder / "README.md"
    if not path.is_file():
        return
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    front_matter = FRONT_MATTER.match(text)
    task = None
    if front_matter is not None:
        try:
            data = yaml.safe_load(front_matter[1])
            task, tags = data.get("pipeline_tag"), data.get("tags", [])
            missing = [tag for tag in TAGS if tag not in tags]
        except (yaml.YAMLError, AttributeError, TypeError):
            return
        lines = "".join(f"- {tag}\n" for tag in missing)
        place = BLOCK_OF_TAGS.search(front_matter[1])
        if missing and place is not None:
            text = text[: front_matter.start(1) + place.end()] + lines + text[front_matter.start(1) + place.end() :]
        elif missing and "tags" not in data:
            text = f"{text[: front_matter.end(1)]}tags:\n{lines}{text[front_matter.end(1) :]}"
    if TITLE.search(text) is None:
        text = f"{text.rstrip()}\n\n{section(folder.resolve().name, task)}\n"
    with atomic_file(path) as beside:
        beside.write_bytes(text.encode("utf-8", "surrogateescape"))


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
        f"## ONNX\n\n`onnx/model.onnx` computes what the model computes; in `onnx/model_quantized.onnx`, a quarter of "
        f'its size, word vectors and n-gram tables have 8 bits (`dtype: "q8"`).\n\n{python if is_classifier else ""}'
        f"In a browser or Node, with transformers.js:\n\n{fenced('javascript', *in_javascript)}"
    )
