"""List the rows of a dataset, those whose label is most likely wrong first: `rnn-hf find-label-errors` from a clone.

    python scripts/find_label_errors.py --train_file mine.csv --output_file suspects.csv

`--help` lists the flags.
"""

from rnn_hf.commands.find_label_errors import main

if __name__ == "__main__":
    main()
