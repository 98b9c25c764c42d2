import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="the extra [fuzz] is not installed")
@pytest.mark.parametrize("name", ["word_vectors", "recipes"])
def test_a_reader_survives_a_short_run_of_its_fuzzer(name: str, tmp_path: Path) -> None:
    """Exit status 77 is libFuzzer's for an input that broke a promise; the input then lies in `tmp_path`."""
    command = [sys.executable, "-m", "tests.fuzz", name, "-runs=2000", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    assert re.search(r"Done \d+ runs", done.stderr)
    assert not list(tmp_path.glob("crash-*"))


@pytest.mark.parametrize("name", ["word_vectors", "recipes"])
def test_a_fuzzer_begins_with_inputs_that_are_read_and_some_that_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would never come beyond the first check."""
    harness = __import__(f"tests.fuzz.{name}", fromlist=["check"])
    monkeypatch.setattr(harness, "FILE", tmp_path / "input")
    reader = {"word_vectors": "read_word_vectors", "recipes": "read"}[name]
    read, outcomes = getattr(harness, reader), []

    def watched(*arguments: object) -> object:
        outcomes.append("refused")
        result = read(*arguments)
        outcomes[-1] = "read"
        return result

    monkeypatch.setattr(harness, reader, watched)
    for seed in harness.seeds():
        harness.check(seed)
    assert {"read", "refused"} == set(outcomes)
