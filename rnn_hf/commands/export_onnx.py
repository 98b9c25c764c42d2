"""Export a classifier or tagger as ONNX, for onnxruntime and transformers.js.

    rnn-hf export-onnx runs/mine
    rnn-hf export-onnx OWNER/NAME --output_dir exported

Writes three files into `onnx/` of the folder: `model.onnx`; `model_quantized.onnx`, whose word vectors and n-gram
tables have 8 bits; and `onnx_classifier.py`, which runs both without torch. Needs `pip install "rnn-hf[onnx]"`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rnn_hf.errors import missing_extra
from rnn_hf.files import expand_home
from rnn_hf.modeling_rnn import RNNForTokenClassification
from rnn_hf.reporting.onnx_section import add_onnx_section
from rnn_hf.safe_loading import check_model, folder_or_id, load_classifier, read_facts, read_tokenizer

from .entry import exit_statuses, user_errors
from .parser import CommandParser

NAME = "rnn-hf export-onnx"


@exit_statuses(NAME)
def main(argv: Sequence[str] | None = None) -> Path:
    """Export a model; return the folder."""
    with user_errors():
        parser = CommandParser([], prog=NAME, description=__doc__)
        parser.add_argument("model", type=expand_home, help="Model folder, or `owner/name` on the Hub.")
        parser.add_argument(
            "--output_dir", metavar="FOLDER", type=expand_home, help="Folder for the files. Default: the model folder."
        )
        args = parser.parse_args(sys.argv[1:] if argv is None else argv)
        name = folder_or_id(args.model)
        if args.output_dir is None and not Path(name).is_dir():
            raise ValueError(f"`--output_dir` is needed for a model on the Hub, {name!r}. Pass a folder.")
        folder = Path(args.output_dir or name)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"`--output_dir` must be a folder, got '{folder}'.")
        try:
            from rnn_hf.onnx_export import export_onnx
        except ModuleNotFoundError as error:
            raise missing_extra(NAME, error, "onnx") from error
        facts = read_facts(name) or {}
        if facts.get("architectures") == [RNNForTokenClassification.__name__]:
            config = check_model(name, RNNForTokenClassification)
            model = RNNForTokenClassification.from_pretrained(name, config=config, use_safetensors=True).eval()  # type: ignore[no-untyped-call]  # transformers' own
            sizes = export_onnx(model, read_tokenizer(name), folder)
        else:
            sizes = export_onnx(*load_classifier(name), folder)
        add_onnx_section(folder)
    for file, size in sizes.items():
        print(f"{folder / 'onnx' / file}  {size / 1e6:.2f} MB")
    return folder
