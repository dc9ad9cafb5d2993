"""A training that is killed and resumed ends with the very weights of one that was not."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from scripts.errors import UserError
from scripts.learning import checkpoint
from scripts.learning.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from scripts.learning.inputs import check_settings
from tests.conftest import ROOT
from tests.tiny_training import make_trainer, train

EPOCHS = 5


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return train(tmp_path_factory.mktemp("whole"), EPOCHS, resume=False)


def rows(folder: Path) -> list[str]:
    return [",".join(line.split(",")[:4]) for line in (folder / "training.csv").read_text().splitlines()]


def test_stopped_after_any_epoch_and_resumed(uninterrupted: torch.Tensor, tmp_path: Path) -> None:
    train(tmp_path, EPOCHS, resume=False)
    whole = rows(tmp_path)
    for epoch in (1, 3):
        folder = tmp_path / str(epoch)
        train(folder, epoch, resume=False)
        assert torch.equal(train(folder, EPOCHS, resume=True), uninterrupted)
        assert rows(folder) == whole
    assert torch.equal(train(tmp_path / "3", EPOCHS, resume=True), uninterrupted)  # complete already


def test_killed_at_any_moment(uninterrupted: torch.Tensor, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.tiny_training", str(tmp_path), str(EPOCHS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([*command], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    while not (tmp_path / "checkpoint_2.pt").exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "final.pt").exists()
    subprocess.run([*command, "resume"], cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert torch.equal(torch.load(tmp_path / "final.pt"), uninterrupted)


@pytest.mark.parametrize("moment", ["digest", "replace"])
def test_killed_while_the_checkpoint_is_written(
    uninterrupted: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        pass

    train(tmp_path, 2, resume=False)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "digest":
            patch.setattr(checkpoint, "sha256", die)
        else:
            patch.setattr(checkpoint.os, "replace", die)
        with pytest.raises(Killed):
            save_checkpoint(tmp_path / "checkpoint_3.pt", {"epoch": 3})
    assert torch.equal(train(tmp_path, EPOCHS, resume=True), uninterrupted)


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "no digest"])
def test_damaged_checkpoints_are_named_and_skipped(
    uninterrupted: torch.Tensor, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    train(tmp_path, 3, resume=False)
    newest = checkpoints(tmp_path)[0]
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    elif damage == "empty":
        newest.write_bytes(b"")
    else:
        checkpoint.digest_path(newest).unlink()
    with pytest.raises(ValueError, match="checkpoint_3"):
        load_checkpoint(newest)
    assert torch.equal(train(tmp_path, EPOCHS, resume=True), uninterrupted)
    assert "checkpoint_3.pt" in caplog.text


def test_two_trainings_are_not_mixed_in_a_folder(uninterrupted: torch.Tensor, tmp_path: Path) -> None:
    """The second one deleted its own checkpoints, as those of the first had higher numbers."""
    train(tmp_path, 3, resume=False)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"holds checkpoints of another training: go on with it \(--resume True\)"):
        check_settings(output_dir=str(tmp_path), resume=False)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(UserError, match="another --output_dir"):
        train(tmp_path, 1, resume=False)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint_3.pt", "checkpoint_2.pt"]
    check_settings(output_dir=str(tmp_path), resume=True)
    assert torch.equal(train(tmp_path, EPOCHS, resume=True), uninterrupted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 1}, "was trained with 2 steps an epoch, this is 4 "),
        ({"batch_size": 4}, "was trained with 2 steps an epoch, this is 1 "),
        ({"seed": 1}, "was trained with --seed 0, this is 1"),
        (
            {"learning_rate": 5e-3},
            r"its schedule was made with base_lrs \[0.01\], this is \[0.005\] \(--learning_rate\)",
        ),
        ({"epochs": 5}, r"its schedule was made with T_max 2, this is 5 \(--max_epochs\)"),
        ({"cosine": False}, r"its schedule was made with T_max 2, this is None"),
    ],
)
def test_a_training_goes_on_as_it_was_begun_or_not_at_all(tmp_path: Path, change: dict, said: str) -> None:
    """An epoch was cut short, or the log deleted; another rate was forgotten, and a cosine rose again."""
    begun = {"epochs": 2, "cosine": True}
    train(tmp_path, resume=False, **begun)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=f"checkpoint_2.pt: {said}"):
        train(tmp_path, resume=True, **begun | change)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    train(tmp_path, resume=True, **begun)


def test_a_checkpoint_of_before_that_does_not_say_its_seed(uninterrupted: torch.Tensor, tmp_path: Path) -> None:
    train(tmp_path, 2, resume=False)
    for path in checkpoints(tmp_path):
        state = load_checkpoint(path)
        assert state.pop("seed") == 0
        save_checkpoint(path, state)
    assert torch.equal(train(tmp_path, EPOCHS, resume=True), uninterrupted)


def test_a_log_that_no_checkpoint_belongs_to_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("training_1.csv", "training_2.csv"):
        train(tmp_path, 1, resume=False)
        log = (tmp_path / "training.csv").read_text()
        for path in checkpoints(tmp_path):
            path.unlink()
        train(tmp_path, 1, resume=True)
        assert (tmp_path / name).read_text() == log and len(rows(tmp_path)) == 3
        assert f"the log of an earlier training is now {name}" in caplog.text
        for path in checkpoints(tmp_path):
            path.unlink()
        (tmp_path / "training.csv").unlink()


def test_nothing_to_resume_from_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_settings(output_dir=str(tmp_path), resume=True)
    train(tmp_path, 1, resume=True)
    assert f"{tmp_path}: no checkpoint to resume from" in caplog.text
    for path in checkpoints(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of its checkpoints can be read"):
        train(tmp_path, 2, resume=True)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, ("touch " + str(tmp_path / "executed"),)

    save_checkpoint(tmp_path / "checkpoint_1.pt", {"epoch": Evil()})
    with pytest.raises(pickle.UnpicklingError, match=r"(?i)weights"):
        load_checkpoint(tmp_path / "checkpoint_1.pt")
    assert not (tmp_path / "executed").exists()


def test_number_of_workers_changes_nothing(uninterrupted: torch.Tensor, tmp_path: Path) -> None:
    assert torch.equal(train(tmp_path, EPOCHS, resume=False, num_workers=2), uninterrupted)


def test_each_epoch_draws_anew() -> None:
    loader = make_trainer(different=True, noise=0.1).data_loader
    seen = []
    for epoch in (1, 2, 1):
        loader.sampler.set_epoch(epoch)
        seen.append(torch.cat([batch["image"].flatten() for batch in loader]))
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
