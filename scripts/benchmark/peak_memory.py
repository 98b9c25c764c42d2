"""Run a Python script, and write how much memory its process took at most, as JSON.

python scripts/benchmark_memory.py PEAK.json SCRIPT.py [ARGUMENT ...]
"""

import json
import runpy
import sys
import threading
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

STATUS = Path("/proc/self/status")
SECONDS_BETWEEN_LOOKS = 0.05


def status_bytes(name: str) -> int | None:
    """Return a figure that Linux keeps of this process, in bytes; `None` where there is no such figure.

    Args:
        name: Name of the line, such as `RssAnon` or `VmHWM`.
    """
    if not STATUS.exists():
        return None
    lines = STATUS.read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def peak_resident_bytes() -> int:
    """Return the most memory that was resident, pages of mapped files among it, in bytes.

    `ru_maxrss` begins with what the parent held before this program replaced it; `VmHWM` does not.
    """
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return status_bytes("VmHWM") or getrusage(RUSAGE_SELF).ru_maxrss * kilobyte


class AnonymousPeak(threading.Thread):
    """Looks every now and then at the memory that stands for no file, of which Linux keeps no peak.

    Attributes:
        peak: The most bytes it saw; `None` where it cannot look.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = status_bytes("RssAnon")
        self.is_over = threading.Event()

    def run(self) -> None:
        """Look until `is_over` is set."""
        while self.peak is not None and not self.is_over.wait(SECONDS_BETWEEN_LOOKS):
            self.peak = max(self.peak, status_bytes("RssAnon") or 0)


def main() -> None:
    """Run the script that the command line names."""
    output_file, script, *arguments = sys.argv[1:]
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).resolve().parent)
    watcher = AnonymousPeak()
    watcher.start()
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        watcher.is_over.set()
        watcher.join()
        peaks = {"peak_resident_bytes": peak_resident_bytes(), "peak_anonymous_bytes": watcher.peak}
        Path(output_file).write_text(json.dumps(peaks) + "\n")


if __name__ == "__main__":
    main()
