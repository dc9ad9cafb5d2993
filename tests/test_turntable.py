"""The turning spine: all frames, one size, and it turns the right way."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from scripts.errors import UserError
from scripts.render.turntable import check_turntable, write_turntable
from tests.drawn_labelmaps import spine_of
from tests.test_preview import drawn, markers, place


def test_gif_turns_from_the_front_to_the_patients_left(tmp_path: Path) -> None:
    write_turntable(tmp_path / "spine.gif", spine_of(markers()), frames=8, height_px=160)
    with Image.open(tmp_path / "spine.gif") as film:
        assert film.n_frames == 8
        frames = []
        for i in range(8):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")))
    # Label 21 sticks out to the patient's left: right in front, towards the viewer from the left, left from behind.
    left = [place(frames[i], 21) for i in (0, 4)]
    assert left[0] is not None and left[1] is not None and left[0][1] > 0.6 and left[1][1] < 0.4
    behind = place(frames[2], 22)
    assert behind is not None and behind[1] > 0.6
    assert all(drawn(frame).any() for frame in frames)


def test_mp4_holds_all_frames(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_turntable(tmp_path / "spine.mp4", spine_of(markers()), frames=6, height_px=121)
    frames = imageio.imread(tmp_path / "spine.mp4", plugin="pyav")
    assert frames.shape[0] == 6 and frames.shape[1] % 2 == 0 and drawn(frames[0]).any()


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    for name in ("spine.avi", "../spine.gif", "spine"):
        with pytest.raises(UserError, match="--turntable"):
            check_turntable(name)
    with pytest.raises(UserError, match="no vertebra"):
        write_turntable(tmp_path / "a.gif", spine_of(np.zeros((9, 9, 9), np.uint8)))
