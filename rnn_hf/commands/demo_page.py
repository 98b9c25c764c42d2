"""Write a web page that runs a classifier in the browser: a static Space of the Hub, or any folder of a web server.

    rnn-hf demo-page runs/mine --output_dir page
    python -m http.server --directory page

The page computes with transformers.js, so no text leaves the browser. Needs `pip install "rnn-hf[onnx]"`.
"""

import html
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any, Literal

from huggingface_hub import SpaceCardData

from rnn_hf.errors import plain
from rnn_hf.files import atomic_folder, expand_home, read_json, write_json
from rnn_hf.onnx_classifier import GRAPH, QUANTIZED_GRAPH
from rnn_hf.reporting.page_head import page_head
from rnn_hf.text_classifier import TextClassifier

from .entry import exit_statuses, user_errors
from .parser import CommandParser

NAME = "rnn-hf demo-page"

TEMPLATE = Path(__file__).with_name("demo_page.html")

# The version that the tests run
LIBRARY = "https://cdn.jsdelivr.net/npm/@huggingface/transformers@4.3.2"

# Folders and files of the library in `node_modules`
DIST, WASM = Path("@huggingface/transformers/dist"), Path("onnxruntime-web/dist")
SCRIPT, WASM_FILES = "transformers.min.js", "ort-wasm-simd-threaded.asyncify.*"

# The graph of each type, as transformers.js names both
GRAPHS = {"fp32": GRAPH, "q8": QUANTIZED_GRAPH}

DataType = Literal["fp32", "q8"]


@exit_statuses(NAME)
def main(argv: Sequence[str] | None = None) -> Path:
    """Write a page; return its folder."""
    with user_errors():
        parser = CommandParser([], prog=NAME, description=__doc__)
        parser.add_argument("model", type=expand_home, help="Model folder, or `owner/name` on the Hub.")
        parser.add_argument(
            "--output_dir", metavar="FOLDER", type=expand_home, required=True, help="New or empty folder for the page."
        )
        parser.add_argument("--title", help="Title of the page. Default: the name of the model.")
        parser.add_argument("--examples", metavar="TEXT", nargs="+", help="Texts to try.")
        parser.add_argument(
            "--dtype", choices=("fp32", "q8"), default="q8",
            help="Numbers of the weights: 32 bits, or 8 bits for word vectors and n-gram tables. Default: q8.",
        )  # fmt: skip
        parser.add_argument(
            "--library_dir", metavar="FOLDER", type=expand_home,
            help="Folder node_modules with @huggingface/transformers, which is copied. Default: loaded from jsDelivr.",
        )  # fmt: skip
        args = parser.parse_args(sys.argv[1:] if argv is None else argv)
        folder = Path(args.output_dir)
        write_demo_page(
            TextClassifier.from_pretrained(args.model),
            folder,
            name=args.title or Path(args.model).resolve().name,
            examples=args.examples,
            dtype=args.dtype,
            library_dir=None if args.library_dir is None else Path(args.library_dir),
        )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder / 'index.html'}  {size / 1e6:.1f} MB in all")
    return folder


def write_demo_page(
    classifier: TextClassifier,
    folder: Path,
    *,
    name: str,
    examples: list[str] | None = None,
    dtype: DataType = "q8",
    library_dir: Path | None = None,
) -> None:
    """Write a page that classifies what is typed, without a server that computes.

    Args:
        classifier: The classifier.
        folder: New or empty folder for the page.
        name: Title of the page.
        examples: Texts to try.
        dtype: `"fp32"`, or `"q8"` for word vectors and n-gram tables of 8 bits.
        library_dir: Folder `node_modules` with transformers.js, which is copied. Default: the page loads the library
            from jsDelivr.

    Raises:
        FileNotFoundError: If the library is not in its folder.
        ValueError: If the folder is not empty, or the classifier cannot be exported.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`--output_dir` must be a new or empty folder, got '{folder}'.")
    library, wasm = LIBRARY, None
    if library_dir is not None and not (library_dir / DIST / SCRIPT).is_file():
        raise FileNotFoundError(
            f"'{library_dir / DIST / SCRIPT}' does not exist. Run `npm install @huggingface/transformers`, and pass "
            "its `node_modules`."
        )
    check_tokenizer(classifier)
    with atomic_folder(folder) as page:
        classifier.export_onnx(page / "model")
        for path in (page / "model" / "onnx").iterdir():
            if path.name != GRAPHS[dtype]:
                path.unlink()
        adapt_tokenizer(classifier, page / "model")
        if library_dir is not None:
            library, wasm = f"./lib/{SCRIPT}", "./lib/"
            (page / "lib").mkdir()
            for path in (library_dir / DIST / SCRIPT, *sorted((library_dir / WASM).glob(WASM_FILES))):
                shutil.copy(path, page / "lib")
        settings: dict[str, Any] = {
            "label_names": classifier.label_names,
            "problem_type": classifier.problem_type,
            "thresholds": _list_of(classifier.thresholds(), len(classifier.label_names)),
            "max_length": classifier.max_length,
            "dtype": dtype,
            "library": library,
            "wasm": wasm,
            "examples": examples or [],
        }
        megabytes = (page / "model" / "onnx" / GRAPHS[dtype]).stat().st_size / 1e6
        text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=html.escape(plain(name)),
            head=page_head(plain(name)),
            megabytes=f"{megabytes:.1f}",
            settings=json.dumps(settings).replace("<", "\\u003c"),
        )
        (page / "index.html").write_bytes(text.encode("utf-8", "replace"))
        card = SpaceCardData(title=plain(name), sdk="static", app_file="index.html", pinned=False)
        about = f"---\n{card.to_yaml()}\n---\n\n{_about(name)}\n"
        (page / "README.md").write_bytes(about.encode("utf-8", "replace"))


def _about(name: str) -> str:
    return (
        f"# {plain(name)}\n\nA recurrent text classifier of the `rnn_hf` family that runs in the browser. Open it "
        "from any web server, such as `python -m http.server`, or push the folder to a static Space of the Hub."
    )


def _list_of(thresholds: float | list[float], number: int) -> list[float]:
    return thresholds if isinstance(thresholds, list) else [thresholds] * number


def check_tokenizer(classifier: TextClassifier) -> None:
    """Check that transformers.js tokenizes as this classifier does.

    Raises:
        ValueError: If texts are truncated on the left, or around tokens that are added.
    """
    if classifier.max_length is None:
        return
    added = classifier.tokenizer.num_special_tokens_to_add()
    if classifier.tokenizer.truncation_side != "right" or added:
        raise ValueError(
            "The demo page cannot truncate texts as this tokenizer does, on the left or around special tokens. Save "
            "the tokenizer without `max_length`."
        )


def adapt_tokenizer(classifier: TextClassifier, folder: Path) -> None:
    """Let transformers.js pad on the right, and take typed special tokens for ordinary words if Python does.

    Args:
        classifier: The classifier.
        folder: Folder of the page's tokenizer.
    """
    tokenizer = classifier.tokenizer
    content = read_json(folder / "tokenizer.json")
    if tokenizer.split_special_tokens:  # transformers.js has no such setting
        content["added_tokens"] = [token for token in content["added_tokens"] if not token["special"]]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    settings = read_json(folder / "tokenizer_config.json")
    pad_token = tokenizer.pad_token or tokenizer.convert_ids_to_tokens(classifier.pad_token_id)
    write_json(folder / "tokenizer_config.json", settings | {"padding_side": "right", "pad_token": pad_token})
