"""Fuzz a reader of files with libFuzzer.

    python -m tests.fuzz {word_vectors,recipes} [-runs=2000 | -max_total_time=600] [CORPUS] [any flag of libFuzzer]

Needs the extra `fuzz`. An input that breaks the promises of a reader is written to `crash-*` in the working folder;
its place, once fixed, is a row of the reader's own tests.
"""

import importlib
import os
import sys
import tempfile
from pathlib import Path

import atheris

# Where new branches count as progress
INSTRUMENTED = ["rnn_hf.data", "rnn_hf.commands.parser", "rnn_hf.training.arguments", "yaml", "argparse"]
LIMITS = ["-rss_limit_mb=2048", "-malloc_limit_mb=2048", "-timeout=20", "-max_len=4096"]


def main(name: str, *flags: str) -> None:
    """Write the first inputs and the words that inputs are made of, and run until a flag ends it."""
    with atheris.instrument_imports(include=INSTRUMENTED):
        harness = importlib.import_module(f"tests.fuzz.{name}")
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    (folder / "seeds").mkdir()
    for index, seed in enumerate(harness.seeds()):
        (folder / "seeds" / str(index)).write_bytes(seed)
    # a dictionary of libFuzzer: quotes and backslashes are escaped, and so is what is not ASCII
    words = ("".join(f"\\x{byte:02x}" for byte in word) for word in harness.words())
    (folder / "words").write_text("".join(f'"{word}"\n' for word in words))
    harness.FILE = folder / "input"
    corpora = [] if any(not flag.startswith("-") for flag in flags) else [str(folder / "found")]
    (folder / "found").mkdir()
    # the seeds come last: libFuzzer writes to the first folder
    arguments = [*LIMITS, f"-dict={folder / 'words'}", *flags, *corpora, str(folder / "seeds")]
    # `argv[0]` is what libFuzzer would start again for each of several jobs
    atheris.Setup([sys.argv[0], *arguments], harness.check)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
