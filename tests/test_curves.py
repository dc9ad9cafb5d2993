"""Learning curves from the logs of trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.errors import UserError
from scripts.learning.curves import main, read_run, running_mean


def run(folder: Path, losses: list[float], rates: list[float]) -> Path:
    folder.mkdir()
    rows = [f"1,{i},{loss},{rate}\n" for i, (loss, rate) in enumerate(zip(losses, rates, strict=True))]
    (folder / "training.csv").write_text("epoch,iteration,loss_dice,lr_generator\n" + "".join(rows))
    return folder


def test_running_mean_by_hand() -> None:
    values = np.array([4.0, 2.0, 6.0, 8.0])
    np.testing.assert_allclose(running_mean(values, 2), [4, 3, 4, 7])
    np.testing.assert_allclose(running_mean(values, 10), [4, 3, 4, 5])
    np.testing.assert_allclose(running_mean(values, 1), values)


def test_runs_are_drawn_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = run(tmp_path / "one", [0.6, 0.4, 0.2], [1e-3, 1e-3, 1e-4])
    two = run(tmp_path / "two", [0.3, 0.1], [1e-3, 1e-4])
    main((one, two), tmp_path / "a" / "curves.png", window=2)
    assert capsys.readouterr().out.splitlines() == [
        "one: 3 steps, loss_dice of the last 2: 0.3000",
        "two: 2 steps, loss_dice of the last 2: 0.2000",
    ]
    main((one,), tmp_path / "one.png", window=2)
    both, alone = (np.asarray(Image.open(tmp_path / n).convert("RGB")) for n in ("a/curves.png", "one.png"))
    assert both.shape == alone.shape and (both != alone).any()
    np.testing.assert_array_equal(read_run(one, "loss_dice").rate, [1e-3, 1e-3, 1e-4])


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    good = run(tmp_path / "good", [0.6], [1e-3])
    with pytest.raises(UserError, match="no column loss_x; there are epoch"):
        main((good,), tmp_path / "x.png", term="loss_x")
    with pytest.raises(UserError, match="window of 0"):
        main((good,), tmp_path / "x.png", window=0)
    with pytest.raises(UserError, match="not there"):
        main((tmp_path,), tmp_path / "x.png")
    with pytest.raises(UserError, match="no step"):
        main((run(tmp_path / "empty", [], []),), tmp_path / "x.png")
    (good / "training.csv").write_text("loss_dice,lr_generator\n0.5\n")
    with pytest.raises(UserError, match="no number"):
        main((good,), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
