"""Runs the tests that every model inside transformers must pass on every head, and prints how many ran.

    pytest -m slow -s tests.contracts.test_transformers_common.py

They are in the source distribution of transformers, not in what pip installs. It is fetched once, in the version that
is installed, and kept in pytest's cache (`pytest --cache-clear` removes it).
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest
import transformers

import rnn_hf
from rnn_hf.configuration_rnn import CellType
from rnn_hf.safe_loading import HEADS

TEMPLATE = Path(__file__).parent / "transformers_common" / "rnn_common_tests.py"

# what the common tests import and the source distribution leaves out
MISSING_MODULES = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": (
        "config_common_kwargs = {\n"
        '    "return_dict": False,\n'
        '    "output_hidden_states": True,\n'
        '    "dtype": "float16",\n'
        '    "chunk_size_feed_forward": 5,\n'
        '    "architectures": ["RNNModel"],\n'
        '    "id2label": {0: "label"},\n'
        '    "label2id": {"label": "0"},\n'
        '    "problem_type": "regression",\n'
        "}\n"
    ),
}


@pytest.fixture(scope="module")
def common_tests(pytestconfig: pytest.Config) -> Path:
    """The folder `tests` of the source distribution of transformers, from the cache or from the package index."""
    cache = pytestconfig.cache.mkdir("transformers_source")
    unpacked = cache / f"transformers-{transformers.__version__}" / "tests"
    if unpacked.is_dir():
        return unpacked
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        requirement = f"transformers=={transformers.__version__}"
        command = [sys.executable, "-m", "pip", "download", requirement, "--no-binary", "transformers", "--no-deps"]
        download = subprocess.run(
            [*command, "--retries", "1", "--dest", scratch], capture_output=True, text=True, timeout=600
        )
        if download.returncode:
            pytest.skip(f"not run: pip could not fetch the source of {requirement}: {download.stderr.strip()[-300:]}")
        [archive] = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        # renaming is atomic: the cache never holds half a folder
        (Path(scratch) / f"transformers-{transformers.__version__}").rename(unpacked.parent)
    return unpacked


@pytest.mark.slow
def test_every_configuration_passes_the_common_tests_of_transformers(common_tests: Path, tmp_path: Path) -> None:
    """Each head with each cell, with two layers and with two directions, on masks with holes."""
    package = tmp_path / "tests"
    shutil.copytree(common_tests, package)
    for path, source in {"__init__.py": "", **MISSING_MODULES}.items():
        module = package / path
        module.parent.mkdir(exist_ok=True)
        module.write_text(source)
    shutil.copy(TEMPLATE, package / "test_rnn_common.py")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    arguments = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "--junitxml=results.xml"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(rnn_hf.__file__).parents[1]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_rnn_common.py", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]

    num_passed: Counter[str] = Counter()
    skipped: dict[str, set[str]] = {}
    num_tests: Counter[str] = Counter()
    for case in ElementTree.parse(tmp_path / "results.xml").getroot().iter("testcase"):
        configuration = case.attrib["classname"].rpartition(".")[2]
        num_tests[configuration] += 1
        # a test whose parts were skipped is not counted as passed
        reasons = [skip.attrib["message"] for skip in case.iter("skipped")]
        num_passed[configuration] += not reasons
        for reason in reasons:
            skipped.setdefault(reason, set()).add(case.attrib["name"])
    print()
    for configuration, total in num_tests.items():
        passed = num_passed[configuration]
        print(f"{configuration}: {passed} passed, {total - passed} not applicable, 0 failed")
    for reason, names in sorted(skipped.items()):
        print(f"not applicable, {len(names)}: {reason}")
    assert len(num_tests) == len(HEADS) * len(get_args(CellType)) * 2
    assert min(num_passed.values()) > 60
