"""Run a Python script, and write the peak memory of its process as JSON.

python scripts/benchmark/peak_memory.py PEAK.json SCRIPT.py [ARGUMENT ...]
"""

import json
import runpy
import sys
import threading
from pathlib import Path

import psutil

SECONDS_BETWEEN_SAMPLES = 0.05


class PeakMemory:
    """Samples the memory of this process in a thread while a `with` block runs.

    Resident memory includes the pages of memory-mapped files that were read, which the operating system takes back
    when it needs memory. Anonymous memory does not.

    Attributes:
        resident: Peak of the resident memory, in bytes.
        anonymous: Peak of the anonymous memory, in bytes; `None` where it is unknown, which is outside Linux.
    """

    def __init__(self) -> None:
        self.resident = 0
        self.anonymous: int | None = None
        self._process = psutil.Process()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_over, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._sample()

    def _sample_until_over(self) -> None:
        while not self._is_over.wait(SECONDS_BETWEEN_SAMPLES):
            self._sample()

    def _sample(self) -> None:
        memory = self._process.memory_info()
        self.resident = max(self.resident, memory.rss)
        if hasattr(memory, "shared"):
            self.anonymous = max(self.anonymous or 0, memory.rss - memory.shared)


def main() -> None:
    """Run the script that the command line names."""
    output_file, script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    peak = PeakMemory()
    try:
        with peak:
            runpy.run_path(script, run_name="__main__")
    finally:
        peaks = {"peak_resident_bytes": peak.resident, "peak_anonymous_bytes": peak.anonymous}
        Path(output_file).write_text(json.dumps(peaks) + "\n")


if __name__ == "__main__":
    main()
