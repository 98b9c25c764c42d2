"""Push a model folder to the Hub in one commit: weights, configuration, tokenizer, code, card, recipe and results.

    rnn-hf push runs/mine OWNER/NAME --private
    rnn-hf push runs/mine OWNER/NAME --dry_run

Log in with `hf auth login` first, or set `HF_TOKEN`.
"""

import sys
from collections.abc import Sequence

from rnn_hf.files import expand_home
from rnn_hf.hub import files_to_push, push_folder

from .entry import exit_statuses, user_errors
from .parser import CommandParser

NAME = "rnn-hf push"


@exit_statuses(NAME)
def main(argv: Sequence[str] | None = None) -> str | None:
    """Push a folder; return the address of the commit."""
    with user_errors():
        parser = CommandParser([], prog=NAME, description=__doc__)
        parser.add_argument("folder", type=expand_home, help="Model folder, as written by `rnn-hf train`.")
        parser.add_argument("name", help="Repository on the Hub, OWNER/NAME; created if it does not exist.")
        parser.add_argument("--private", action="store_true", help="Make a new repository private.")
        parser.add_argument(
            "--revision", metavar="BRANCH", help="Branch to commit to, created if it does not exist. Default: main."
        )
        parser.add_argument("--commit_message", metavar="MESSAGE", help="Commit message.")
        parser.add_argument(
            "--with_handler", action="store_true", help="Push handler.py and requirements.txt for Inference Endpoints."
        )
        parser.add_argument("--dry_run", action="store_true", help="List the files and exit.")
        args = parser.parse_args(sys.argv[1:] if argv is None else argv)
        if args.dry_run:
            sizes = {
                name: path.stat().st_size
                for name, path in files_to_push(args.folder, with_handler=args.with_handler).items()
            }
            width = max(map(len, sizes))
            for name, size in {**sizes, "in all": sum(sizes.values())}.items():
                print(f"{name:<{width}} {size:>12,} bytes")
            return None
        address = push_folder(
            args.folder,
            args.name,
            private=args.private,
            revision=args.revision,
            commit_message=args.commit_message,
            with_handler=args.with_handler,
        )
    print(address)
    return address
