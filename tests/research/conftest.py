import pytest
from accelerate.state import AcceleratorState

from rnn_hf.commands import train
from scripts.research import run_recipe


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train in this process rather than in one for each seed; return the seeds that were trained."""
    seeds: list[int] = []

    def in_this_process(command: list[str]) -> int:
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            results = train.main(command[4:])
        except SystemExit as stop:
            return int(str(stop.code))
        seeds.append(results["seed"])
        return 0

    monkeypatch.setattr(run_recipe, "run_to_its_end", in_this_process)
    return seeds
