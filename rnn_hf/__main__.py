"""`python -m rnn_hf JOB`: one command for each job."""

import sys
from importlib import import_module

JOBS = {"train": "train", "train-language-model": "train_language_model", "distill": "distill"}

if __name__ == "__main__":
    import_module(f"rnn_hf.commands.{JOBS[sys.argv[1]]}").main(sys.argv[2:])
