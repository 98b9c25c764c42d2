"""Train a recurrent text classifier: `rnn-hf train` from a clone.

    python scripts/train.py [recipe.yaml] --output_dir runs/mine [--train_file mine.csv] [--flag value ...]
    torchrun --nproc_per_node 2 scripts/train.py ... --use_cpu
    accelerate launch scripts/train.py ...

`--help` lists the flags.
"""

from rnn_hf.commands.train import main

if __name__ == "__main__":
    main()
