"""Films to annotate, from files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from scripts.errors import UserError
from scripts.geometry.biplanar import BiplanarGeometry, View
from scripts.io.nifti import read_film

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
Films = tuple[np.ndarray | None, np.ndarray | None]


def read_films(
    ap: Path | None, lat: Path | None, geometry: Path | None = None
) -> tuple[Films, BiplanarGeometry | None]:
    """Both films, or one, and their geometry if their files say it.

    Args:
        ap: NIfTI with a pixel size, or a picture without; None if there is none.
        lat: likewise.
        geometry: ``geometry.json``.

    Raises:
        UserError: neither is given, one is not readable, one is calibrated and the other not, or sizes differ.
    """
    if ap is None and lat is None:
        raise UserError("give --ap or --lat, or both")
    films: list[np.ndarray | None] = []
    views: list[View | None] = []
    for path, frontal in ((ap, True), (lat, False)):
        film, view = (None, None) if path is None else _read(path, frontal)
        films.append(film)
        views.append(view)
    known = [view is not None for film, view in zip(films, views, strict=True) if film is not None]
    if any(known) and not all(known):
        raise UserError("one film has a pixel size and the other none; give both as NIfTI, or both as pictures")
    both: Films = (films[0], films[1])
    if geometry is not None:
        try:
            exact = BiplanarGeometry.from_dict(json.loads(geometry.read_text()))
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{geometry}: not a readable geometry file ({error})") from error
        for film, view in zip(both, (exact.ap, exact.lat), strict=True):
            if film is not None and film.shape != view.shape:
                raise UserError(f"{geometry}: made for films of another size")
        return both, exact
    if not all(known):
        return both, None
    # A film that is missing is never asked for its view.
    first, second = views[0] or views[1], views[1] or views[0]
    assert first is not None and second is not None
    return both, BiplanarGeometry(first, second)


def _read(path: Path, frontal: bool) -> tuple[np.ndarray, View | None]:
    if path.suffix.lower() not in PICTURES:
        film, view = read_film(path, frontal)
        return film, view
    try:
        with Image.open(path) as image:
            pixels: np.ndarray = np.asarray(image.convert("F"), np.float32)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path}: not a readable picture ({error})") from error
    if pixels.max() <= pixels.min():
        raise UserError(f"{path}: blank, every pixel is {pixels.flat[0]:g}")
    return pixels, None
