"""Train a small classifier on the answers of larger ones: `rnn-hf distill` from a clone.

    python scripts/distill.py [recipe.yaml] --teacher_name_or_path TEACHER [TEACHER ...] --output_dir runs/student

`--help` lists the flags.
"""

from rnn_hf.commands.distill import main

if __name__ == "__main__":
    main()
