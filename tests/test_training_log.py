"""The log of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
from ignite.engine import Engine

from scripts.learning.handlers import TrainingLog


def test_a_training_whose_loss_is_no_number_stops_and_says_so(tmp_path: Path) -> None:
    losses = [1.0, 0.5, float("nan"), 0.1]
    engine = Engine(lambda engine, batch: {"loss": losses[engine.state.iteration - 1]})
    TrainingLog(str(tmp_path), {}).attach(engine)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 3: train with a lower --learning_rate"):
        engine.run(range(4), max_epochs=1)
    rows = (tmp_path / "training.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [["1", "1", "1"], ["1", "2", "0.5"], ["1", "3", "nan"]]
