"""Classify texts: `rnn-hf predict` from a clone.

    python scripts/predict.py --model_name_or_path runs/mine --text "Stocks fall as oil prices surge"
    python scripts/predict.py --model_name_or_path runs/mine --input_file headlines.txt --output_file labels.jsonl

`--help` lists the flags.
"""

from rnn_hf.commands.predict import main

if __name__ == "__main__":
    main()
