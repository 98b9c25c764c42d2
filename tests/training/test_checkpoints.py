from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rnn_hf.files import atomic_folder, publish
from rnn_hf.training.arguments import TrainArguments
from rnn_hf.training.checkpoints import (
    RunState,
    generator_states,
    open_checkpoint,
    restore_generators,
    save_checkpoint,
)
from rnn_hf.training.optimization import create_optimizer, create_schedule


class Trained:
    """A layer, its optimizer and its schedule after some steps."""

    def __init__(self, num_steps: int, optim: str = "adamw_torch") -> None:
        args = TrainArguments(output_dir="x", optim=optim, learning_rate=0.1, weight_decay=0.1)  # type: ignore[arg-type]
        torch.manual_seed(0)
        self.model = nn.Linear(3, 2)
        self.optimizer = create_optimizer(self.model, args)
        self.schedule = create_schedule(self.optimizer, args, 20)
        for step in range(num_steps):
            self.step(step)

    def step(self, step: int) -> None:
        self.optimizer.zero_grad()
        self.model(torch.full((4, 3), float(step + 1))).square().sum().backward()
        self.optimizer.step()
        self.schedule.step()

    def save(self, folder: Path, step: int, best: dict[str, Tensor] | None = None, limit: int | None = None) -> Path:
        return save_checkpoint(
            folder,
            RunState(step=step, best_metric=0.5, log=[{"loss": 0.1}]),
            model=self.model,
            optimizer=self.optimizer,
            schedule=self.schedule,
            generators=[generator_states(), {"cpu": torch.get_rng_state()}],
            best_weights=best,
            arguments={"seed": 3},
            total_limit=limit,
        )


@pytest.mark.parametrize("optim", ["adam", "adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop", "sgd"])
def test_a_restored_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, optim: str) -> None:
    undisturbed = Trained(5, optim)
    path = Trained(3, optim).save(tmp_path, 3)
    resumed = Trained(0, optim)
    checkpoint = open_checkpoint(tmp_path, str(path), print)
    checkpoint.restore(resumed.model, resumed.optimizer, resumed.schedule)
    for step in (3, 4):
        resumed.step(step)
    assert torch.equal(resumed.model.weight, undisturbed.model.weight)
    assert resumed.schedule.get_last_lr() == undisturbed.schedule.get_last_lr()
    assert checkpoint.state == RunState(step=3, best_metric=0.5, log=[{"loss": 0.1}])
    assert checkpoint.arguments == {"seed": 3}


def test_generators_go_on_where_they_stood(tmp_path: Path) -> None:
    path = Trained(1).save(tmp_path, 1)
    expected = torch.rand(3)
    torch.rand(100)
    open_checkpoint(tmp_path, str(path), print).restore_generators(rank=0)
    assert torch.equal(torch.rand(3), expected)


def test_a_process_without_a_saved_generator_keeps_its_own(tmp_path: Path) -> None:
    path = Trained(1).save(tmp_path, 1)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    open_checkpoint(tmp_path, str(path), print).restore_generators(rank=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_best_weights_come_back(tmp_path: Path) -> None:
    best = {"weight": torch.ones(2)}
    path = Trained(1).save(tmp_path, 1, best)
    loaded = open_checkpoint(tmp_path, str(path), print).best_weights
    assert loaded is not None and torch.equal(loaded["weight"], best["weight"])
    assert open_checkpoint(tmp_path, str(Trained(1).save(tmp_path, 2)), print).best_weights is None


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    path = Trained(1).save(tmp_path, 1)
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    trained = Trained(1)
    for step in (9, 10, 11):
        trained.save(tmp_path, step, limit=2)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-00000010", "step-00000011"]


@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "state"])
def test_a_damaged_checkpoint_is_passed_over_and_refused_by_name(tmp_path: Path, damage: str) -> None:
    trained = Trained(1)
    trained.save(tmp_path, 1)
    newest = trained.save(tmp_path, 2)
    file = newest / ("state.json" if damage == "state" else "optimizer.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "flip":
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2])
    warnings: list[str] = []
    assert open_checkpoint(tmp_path, "latest", warnings.append).state.step == 1
    assert len(warnings) == 1 and "step-00000002" in warnings[0]
    with pytest.raises(ValueError, match="Pass another one"):
        open_checkpoint(tmp_path, str(newest), print)


def test_where_there_is_no_checkpoint_the_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Start again without"):
        open_checkpoint(tmp_path, "latest", print)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_checkpoint(tmp_path, str(tmp_path / "step-00000001"), print)


def test_an_interrupted_write_leaves_what_stood_there(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    with atomic_folder(folder) as beside:
        (beside / "file").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(folder) as beside:
        (beside / "file").write_text("new, but not finished")
        raise RuntimeError
    assert (folder / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder], "what was not finished is left"


def test_what_a_killed_process_left_unfinished_is_written_anew(tmp_path: Path) -> None:
    for name in (".result.tmp", ".result.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "leftover").touch()
    with atomic_folder(tmp_path / "result") as beside:
        (beside / "file").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["result", "file"]


@pytest.mark.parametrize("limit", [1, 2])
def test_the_last_good_checkpoint_is_never_removed(tmp_path: Path, limit: int) -> None:
    """A run that resumes before a damaged checkpoint writes checkpoints of earlier steps, which are newer."""
    trained = Trained(1)
    for step in (1, 2, 5):
        damaged = trained.save(tmp_path, step)
    (damaged / "model.safetensors").write_bytes(b"")
    assert open_checkpoint(tmp_path, "latest", lambda line: None).state.step == 2
    trained.save(tmp_path, 3, limit=limit)
    names = [path.name for path in sorted((tmp_path / "checkpoints").iterdir())]
    assert names == ["step-00000002", "step-00000003"][-limit:]
    assert open_checkpoint(tmp_path, "latest", pytest.fail).state.step == 3


def test_a_file_that_was_put_into_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    checkpoint = Trained(1).save(tmp_path, 1)
    (checkpoint / "best_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"not as they were written: best_model\.safetensors"):
        open_checkpoint(tmp_path, str(checkpoint), print)


def test_publishing_replaces_namesakes_and_leaves_the_rest(tmp_path: Path) -> None:
    files, folder = tmp_path / "files", tmp_path / "folder"
    for path in (files, folder):
        path.mkdir()
    (files / "a").write_text("new")
    (folder / "a").write_text("old")
    (folder / "b").write_text("kept")
    publish(files, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "new", "b": "kept"}
    assert not files.exists()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder that is the target of links, and stays unchanged."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_text("mine")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert (folder / "file").read_text() == "mine"


def test_publishing_replaces_links_and_never_writes_through_them(tmp_path: Path, elsewhere: Path) -> None:
    files, folder = tmp_path / "files", tmp_path / "folder"
    (files / "figures").mkdir(parents=True)
    (files / "figures" / "a.png").write_text("new")
    folder.mkdir()
    for name, target in (("README.md", "file"), ("lost.md", "nowhere"), ("recipe.yaml", "."), ("figures", ".")):
        if name != "figures":
            (files / name).write_text("new")
        (folder / name).symlink_to(elsewhere / target)
    publish(files, folder)
    assert not any(path.is_symlink() for path in folder.iterdir())
    assert [path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()] == ["new"] * 4


def test_a_folder_is_written_in_place_of_a_link_and_not_through_it(tmp_path: Path, elsewhere: Path) -> None:
    for name in ("result", ".result.tmp"):
        (tmp_path / name).symlink_to(elsewhere)
    with atomic_folder(tmp_path / "result") as beside:
        (beside / "new").write_text("new")
    assert [path.name for path in (tmp_path / "result").iterdir()] == ["new"]


@pytest.mark.parametrize("target", [".", "file", "nowhere"])
def test_checkpoints_are_written_in_place_of_a_link(tmp_path: Path, elsewhere: Path, target: str) -> None:
    (tmp_path / "checkpoints").symlink_to(elsewhere / target)
    Trained(1).save(tmp_path, 1)
    assert not (tmp_path / "checkpoints").is_symlink()
    (tmp_path / "checkpoints" / "step-00000000").symlink_to(elsewhere)
    Trained(1).save(tmp_path, 2, limit=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_generator_states_are_restored() -> None:
    states = generator_states()
    expected = torch.rand(2)
    restore_generators(states)
    assert torch.equal(torch.rand(2), expected)
