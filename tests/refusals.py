"""How every script refuses: one line, status 2, and everything on the disk as it was."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import datasets
import pytest
from transformers.utils import logging as transformers_logging

# Scripts that are no doors to a command of the package
HOMES = {
    "train_with_trainer": "scripts.train_with_trainer",
    "benchmark": "scripts.benchmark.__main__",
    **{
        name: f"scripts.research.{name}"
        for name in (
            "ablation",
            "baselines",
            "panel",
            "settings_study",
            "results_table",
            "render_model_cards",
            "run_recipe",
            "count_near_duplicates",
        )
    },
}


def program_of(script: str) -> str:
    """Return how a script names itself."""
    if script in HOMES:
        return "train_with_trainer.py" if script == "train_with_trainer" else script
    return "rnn-hf " + {"push_to_hub": "push"}.get(script, script.replace("_", "-"))


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return everything that lies in a folder: the bytes of files, `None` for folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused(
    script: str, argv: Sequence[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a script that must refuse its input.

    Args:
        script: Its name, without `.py`.
        argv: Its command line.
        says: What its only line must hold.
        folder: Where its inputs lie and its outputs would; nothing in it may change.
        capsys: What it prints.
    """
    main = importlib.import_module(HOMES.get(script, f"rnn_hf.commands.{script}")).main
    before = contents(folder)
    capsys.readouterr()
    # a bar is drawn by whoever reads rows, and says nothing about them
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    try:
        with pytest.raises(SystemExit) as exit_:
            main([str(word) for word in argv])
    finally:
        datasets.enable_progress_bars()
        transformers_logging.enable_progress_bar()
    said = capsys.readouterr().err
    assert exit_.value.code == 2, said
    assert said.count("\n") == 1 and said.endswith("\n"), f"not one line: {said}"
    assert said.startswith(f"{program_of(script)}: error: "), said
    assert "Traceback" not in said
    # whether an argument has its dashes is tested with the parser
    assert says.replace("`--", "`") in said.replace("`--", "`")
    assert contents(folder) == before


def assert_one_line(error: BaseException) -> None:
    """Check that an exception says what is wrong, on one line."""
    text = str(error)
    assert text.strip() and "\n" not in text, text
