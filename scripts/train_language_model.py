"""Train a recurrent language model: `rnn-hf train-language-model` from a clone.

    python scripts/train_language_model.py [recipe.yaml] --output_dir runs/language-model [--flag value ...]
    torchrun --nproc_per_node 2 scripts/train_language_model.py ... --use_cpu

`--help` lists the flags.
"""

from rnn_hf.commands.train_language_model import main

if __name__ == "__main__":
    main()
