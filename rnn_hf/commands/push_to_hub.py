"""Push a model folder to the Hub in one commit: weights, configuration, tokenizer, code, card, recipe and results.

python scripts/push_to_hub.py runs/ag-news OWNER/NAME [--private] [--revision BRANCH] [--dry_run]
"""

import sys
from collections.abc import Sequence

from rnn_hf.commands.parser import ScriptParser, exit_statuses, user_errors
from rnn_hf.hub import files_to_push, push_folder


@exit_statuses("push_to_hub.py")
def main(argv: Sequence[str] | None = None) -> str | None:
    """Push a folder; return the address of the commit."""
    with user_errors("push_to_hub.py"):
        parser = ScriptParser([], description=__doc__)
        parser.add_argument("folder", help="Folder that scripts/train.py wrote.")
        parser.add_argument("name", help="OWNER/NAME on the Hub; made where it does not exist.")
        parser.add_argument("--private", action="store_true", help="Whether a new repository is private.")
        parser.add_argument("--revision", help="Branch to commit to, made where it does not exist. Default: main.")
        parser.add_argument("--commit_message", help="First line of the commit.")
        parser.add_argument("--dry_run", action="store_true", help="Whether to list the files and stop.")
        args = parser.parse_args(sys.argv[1:] if argv is None else argv)
        if args.dry_run:
            sizes = {name: path.stat().st_size for name, path in files_to_push(args.folder).items()}
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
        )
    print(address)
    return address


if __name__ == "__main__":
    main()
