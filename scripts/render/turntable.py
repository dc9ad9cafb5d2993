"""The turning spine as an animated GIF or an MP4, without display or GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.errors import UserError
from scripts.render.preview import DrawnSpine
from scripts.render.surfaces import render_surfaces

FRAMES, FRAMES_A_SECOND = 48, 16
HEIGHT_PX = 480
SUFFIXES = (".gif", ".mp4")


def write_turntable(path: Path, spine: DrawnSpine, frames: int = FRAMES, height_px: int = HEIGHT_PX) -> None:
    """Once around the spine, starting in front and going to the patient's left.

    Args:
        path: ``.gif``, or ``.mp4`` (H.264, which needs the package ``av``).
        spine: surfaces of the vertebrae, as `scripts.render.preview.drawn_spine` makes them.
        frames: of the turn.
        height_px: of the picture, about.

    Raises:
        UserError: nothing to show, another kind of file, or ``av`` is missing.
    """
    check_turntable(path.name)
    if not spine.surfaces:
        raise UserError("no vertebra to turn: nothing was reconstructed")
    surfaces, size = spine.surfaces, spine.size_mm
    scale = height_px / float(size[0])
    width = float(np.hypot(size[1], size[2]))
    pictures = [render_surfaces(surfaces, size, (360.0 * i / frames, 0.0), scale, width)[0] for i in range(frames)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        # One palette for all frames, or colours would flicker.
        palette = Image.fromarray(np.concatenate(pictures[:: max(frames // 4, 1)], axis=1)).quantize(128)
        images = [Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
        images[0].save(path, save_all=True, append_images=images[1:], duration=1000 // FRAMES_A_SECOND, loop=0)
    else:
        _write_mp4(path, pictures)


def check_turntable(name: str) -> None:
    """Raise a UserError if a film of this name cannot be written, before any work is done."""
    suffix = Path(name).suffix
    if suffix not in SUFFIXES or Path(name).name != name:
        raise UserError(f"--turntable {name}: name a .gif or .mp4 file, which is written into the output folder")
    if suffix == ".mp4":
        _video_library()


def _video_library() -> Any:
    try:
        import av
    except ImportError as error:
        raise UserError("--turntable: .mp4 needs `pip install av`; .gif needs nothing") from error
    return av


def _write_mp4(path: Path, pictures: list[np.ndarray]) -> None:
    library = _video_library()
    # H.264 halves the colours' resolution: even sizes only.
    height, width = (n - n % 2 for n in pictures[0].shape[:2])
    with library.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_A_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            frame = library.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
