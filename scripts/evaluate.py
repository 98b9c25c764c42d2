"""Evaluate a saved classifier on a dataset: `rnn-hf evaluate` from a clone.

    python scripts/evaluate.py --model_name_or_path runs/mine [--test_file test.csv] [--output_file results.json]
    torchrun --nproc_per_node 2 scripts/evaluate.py --model_name_or_path runs/mine --use_cpu

`--help` lists the flags.
"""

from rnn_hf.commands.evaluate import main

if __name__ == "__main__":
    main()
