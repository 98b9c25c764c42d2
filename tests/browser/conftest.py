"""Packages of Node for the tests of what runs in a browser."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = ("@huggingface/transformers@4.3.2", "puppeteer-core@25")


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the packages: the one that `NODE_MODULES` names, or a new one."""
    if shutil.which("chromium") is None or shutil.which("npm") is None:
        pytest.skip("not run: needs Chromium and npm")
    if "NODE_MODULES" in os.environ:
        return Path(os.environ["NODE_MODULES"])
    folder = tmp_path_factory.mktemp("npm")
    done = subprocess.run(
        ["npm", "install", "--ignore-scripts", *PACKAGES], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"not run: npm cannot install the packages: {done.stderr[-200:]}")
    return folder / "node_modules"
