"""Push a model folder to the Hub in one commit: `rnn-hf push` from a clone.

    python scripts/push_to_hub.py runs/mine OWNER/NAME [--private] [--revision BRANCH] [--dry_run]

`--help` lists the flags.
"""

from rnn_hf.commands.push_to_hub import main

if __name__ == "__main__":
    main()
