"""Export a classifier or tagger as ONNX: `rnn-hf export-onnx` from a clone.

    python scripts/export_onnx.py runs/mine [--output_dir FOLDER]

`--help` lists the flags.
"""

from rnn_hf.commands.export_onnx import main

if __name__ == "__main__":
    main()
