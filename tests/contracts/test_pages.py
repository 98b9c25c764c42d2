"""The pages for users: their commands and their code run as written, or are listed with the reason why not."""

import ast
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rnn_hf import RNNConfig, RNNForTokenClassification
from rnn_hf.__main__ import JOBS, main
from rnn_hf.data.tokenizer_training import train_tokenizer
from tests.conftest import ROOT

PAGES = ["README.md", "scripts/README.md"]

# Part of a command or of a block of code, and why it is not run here
NOT_RUN = {
    "OWNER/": "needs a network",
    "fancyzhx/ag_news": "needs a network",
    "model_cards/ag-news/recipe.yaml": "needs a network",
    "model_cards/ag-news-": "needs a network, and minutes to hours",
    "runs/ag-news": "needs the model of such a run",
    "sentence-transformers/all-MiniLM": "needs a network: tests/research/test_few_labels.py does that",
    "runs/teacher": "needs the model of such a run",
    "lesson-page --train": "trains three models: tests/commands/test_lesson_page.py does that",
    "pip install": "installs packages: .ci/run does that",
    "pytest": "runs this test",
    "torchrun": "starts processes: test_launches.py and test_several_processes.py do that",
    "sentence_transformers": "needs sentence-transformers",
}

# What makes a job short
SHORTER = {
    "train": {"--max_steps": "2", "--use_cpu": "true"},
    "train-language-model": {"--max_steps": "2", "--use_cpu": "true", "--num_generated_texts": "0"},
    "evaluate": {"--use_cpu": "true"},
    "find-label-errors": {"--max_steps": "2", "--use_cpu": "true", "--num_folds": "2"},
}

TEXTS = ["the striker scored twice", "shares fell again", "a late goal won the cup", "the bank cut its rates"] * 10
LABELS = ["Sports", "Business"] * 20
HEADER = "text,label,title,subject,body,queue\n"
TABLE = HEADER + "".join(f"{text},{name},{text},{text},,{name}\n" for text, name in zip(TEXTS, LABELS, strict=True))


def blocks(page: str) -> list[tuple[str, str]]:
    """Return the language and the code of each block of a page that can be run, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```(bash|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def words_of(block: str) -> list[list[str]]:
    """Return the commands of a block as words, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    words = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [command for command in words if command]


def commands(page: str) -> list[list[str]]:
    return [words for language, block in blocks(page) if language == "bash" for words in words_of(block)]


def reason_not_to_run(code: str) -> str | None:
    return next((reason for part, reason in NOT_RUN.items() if part in code), None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the pages take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "model_cards").symlink_to(ROOT / "model_cards")
    for name in ("mine", "tickets", "train", "test"):
        (tmp_path / f"{name}.csv").write_text(TABLE)
    words = sorted(set(" ".join(TEXTS).split()))
    vectors = torch.randn(len(words), 100, generator=torch.Generator().manual_seed(0)).tolist()
    (tmp_path / "glove.6B.100d.txt").write_text(
        "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, vectors, strict=True))
    )
    tokenizer = train_tokenizer(TEXTS)
    tagger = RNNForTokenClassification(RNNConfig(vocab_size=len(tokenizer), num_labels=7))
    for part in (tagger, tokenizer):
        part.save_pretrained(tmp_path / "runs" / "tagger")
    return tmp_path


def shortened(words: list[str]) -> list[str]:
    """Return the arguments of a command of `rnn-hf` that takes seconds, and may replace what another one wrote."""
    job, *argv = [re.sub("^10$", "0.05", word) if "--tune_minutes" in words else word for word in words[1:]]
    for flag, value in SHORTER.get(job, {}).items():
        if flag not in argv:
            argv += [flag, value]
    if "--output_dir" in argv and Path(argv[argv.index("--output_dir") + 1]).exists():
        argv.append("--overwrite_output_dir")
    return [job, *argv]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", PAGES)
def test_commands_and_code_run(page: str) -> None:
    num_run = 0
    names: dict[str, Any] = {
        "texts": TEXTS, "labels": LABELS, "more_texts": TEXTS[:4], "their_labels": LABELS[:4],
    }  # fmt: skip
    for language, block in blocks(page):
        if language == "python":
            ast.parse(block)
            if reason_not_to_run(block) is None:
                exec(compile(block, page, "exec"), names)
                num_run += 1
            continue
        for words in words_of(block):
            if reason_not_to_run(" ".join(words)) is None:
                assert words[0] == "rnn-hf", f"{page}: {words} is neither a job nor listed"
                main(shortened(words))
                num_run += 1
    assert num_run >= 8


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_of_a_page_exists(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also in commands that are not run, and in those within a sentence."""
    inline = re.findall(r"`(rnn-hf\s[^`]+)`", re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.S | re.M))
    known: dict[str, set[str]] = {}
    for words in [*commands(page), *(shlex.split(command) for command in inline)]:
        job = next((word for word in words if word in JOBS), None)
        if job is None or ("rnn-hf" not in (words[0], words[0]) and "rnn_hf" not in words):
            continue
        if job not in known:
            with pytest.raises(SystemExit):
                main([job, "--help"])
            known[job] = set(re.findall(r"--\w+", capsys.readouterr().out))
        launcher_ends = words.index(job)
        unknown = {word for word in words[launcher_ends:] if word.startswith("--")} - known[job]
        assert not unknown, f"{page}: {job} has no {unknown}"
    assert known


def test_each_reason_is_needed() -> None:
    code = [
        *(" ".join(words) for page in PAGES for words in commands(page)),
        *(block for page in PAGES for language, block in blocks(page) if language == "python"),
    ]
    for part in NOT_RUN:
        assert any(part in each for each in code), part


def test_links_to_files_and_sections_exist() -> None:
    for page in [*PAGES, "model_cards/README.md", "scripts/lesson.ipynb"]:
        folder = (ROOT / page).parent
        for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            if "://" in target:
                continue
            name, _, section = target.partition("#")
            linked = folder / name if name else ROOT / page
            assert linked.exists(), f"{page}: {target}"
            if section:
                titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert section in anchors, f"{page}: {target}"
