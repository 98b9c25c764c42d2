"""The command line: `rnn-hf JOB`, `python -m rnn_hf JOB`, `torchrun -m rnn_hf JOB`."""

import importlib
import sys
from collections.abc import Sequence

from .standard_streams import standard_streams
from .version import __version__

# Name of each job, its module in `rnn_hf.commands`, and what it does
JOBS = {
    "train": ("train", "train a classifier on texts and labels"),
    "train-language-model": ("train_language_model", "train a language model, from which a classifier can start"),
    "distill": ("distill", "train a small classifier on the answers of larger ones"),
    "evaluate": ("evaluate", "measure a classifier on labelled texts"),
    "find-label-errors": ("find_label_errors", "list the rows of a dataset whose label is probably wrong"),
    "predict": ("predict", "classify texts: a table, lines of a file, or a folder of Parquet files"),
    "export-onnx": ("export_onnx", "export a classifier or tagger as ONNX"),
    "demo-page": ("demo_page", "write a web page that runs a classifier in the browser"),
    "lesson-page": ("lesson_page", "write a web page that shows what recurrent networks do with a text"),
    "push": ("push_to_hub", "push a model folder to the Hub"),
}

# Packages of the extra `train`
OF_THE_EXTRA = {"accelerate", "cleanlab", "datasets", "pandas", "pyarrow", "scipy", "sklearn", "yaml"}


def usage() -> str:
    """Return what `--help` prints."""
    width = max(map(len, JOBS))
    jobs = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in JOBS.items())
    return f"usage: rnn-hf JOB [flags]\n\nRecurrent text classifiers, version {__version__}.\n\njobs:\n{jobs}\n\n\
`rnn-hf JOB --help` lists the flags of a job."


@standard_streams()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the job that the command line names: the entry point of `rnn-hf`."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return
    if words[0] == "--version":
        print(__version__)
        return
    if words[0] not in JOBS:
        print(f"rnn-hf: error: Unknown job {words[0]!r}. Choose from {', '.join(JOBS)}.", file=sys.stderr)
        sys.exit(2)
    try:
        import rnn_hf.public  # noqa: F401  # registers the models with transformers, which takes seconds

        job = importlib.import_module(f"rnn_hf.commands.{JOBS[words[0]][0]}")
    except ModuleNotFoundError as error:
        from .errors import missing_extra

        if error.name is None or error.name.split(".")[0] not in OF_THE_EXTRA:
            raise
        print(f"rnn-hf: error: {missing_extra(f'rnn-hf {words[0]}', error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"rnn-hf {words[0]}: Stopped by SIGINT.", file=sys.stderr)
        sys.exit(130)
    job.main(words[1:])


if __name__ == "__main__":
    main()
