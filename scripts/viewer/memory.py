"""The opened cases in the memory of the engine's process, with its networks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from scripts.films.calibration import calibrate
from scripts.films.film import Films
from scripts.films.options import AS_THE_FILES_SAY, ReadingOptions
from scripts.films.pair import read_films
from scripts.io.annotations import Annotations, read_annotations
from scripts.localization.localizer import Localizer
from scripts.measure.review import Review
from scripts.reconstruction.predictor import Predictor
from scripts.spine.session import Session

MARKS_FILE = "annotations.json"
REQUEST_FILE = "request.json"
MOST_OPEN = 4


@dataclass
class OpenCase:
    """A case in memory; all of it can be read or computed again from its folder.

    Args:
        as_read: the films as their files say.
        films: the same in the frame and scale that the marks give where the files do not.
        marks: of both views.
        session: keeps what was reconstructed.
        reviews: what was measured, by fingerprints of the vertebrae.
    """

    as_read: Films
    films: Films
    marks: Annotations
    session: Session
    reviews: dict[str, Review] = field(default_factory=dict)


_OPEN: dict[Path, OpenCase] = {}


@cache
def predictor() -> Predictor:
    """The network, loaded once a process."""
    return Predictor(batch_size=1, precision="auto")


@cache
def localizer() -> Localizer:
    """The annotation network, loaded once a process."""
    return Localizer()


def opened(folder: Path) -> OpenCase:
    """The case in memory, read from its folder if this process has not seen it yet."""
    if folder not in _OPEN:
        keep_open(folder, films_of(folder), read_annotations(folder / MARKS_FILE))
    return _OPEN[folder]


def keep_open(folder: Path, as_read: Films, marks: Annotations, old: Session | None = None) -> OpenCase:
    """Put a case into memory, its films in the frame that the marks give.

    Args:
        folder: of the case.
        as_read: its films as their files say.
        marks: of both views.
        old: the session before; it goes on if the films are where they were.
    """
    films = calibrate(as_read, marks) if marks.paired_levels() else as_read
    session = old if old is not None and old.films.geometry == films.geometry else Session(films, predictor())
    before = _OPEN.pop(folder, None)
    reviews = before.reviews if before is not None and session is before.session else {}
    _OPEN[folder] = OpenCase(as_read, films, marks, session, reviews)
    while len(_OPEN) > MOST_OPEN:
        _OPEN.pop(next(iter(_OPEN)))
    return _OPEN[folder]


def films_of(folder: Path) -> Films:
    """A case's films as its request wants them read.

    Raises:
        UserError: they cannot be read or do not belong together.
    """
    asked = (folder / REQUEST_FILE).read_text()
    request = json.loads(asked)
    states = [(folder / request[key]).stat() for key in ("ap", "lat", "geometry") if request.get(key)]
    # Other films, chosen after a try that was refused or cancelled, bear the same names.
    return _films_as_asked(folder, asked, tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in states))


@lru_cache(maxsize=1)
def _films_as_asked(folder: Path, asked: str, _: tuple[tuple[int, int, int], ...]) -> Films:
    request = json.loads(asked)
    options = ReadingOptions(
        geometry=folder / request["geometry"] if request.get("geometry") else None,
        spacing=tuple(request.get("spacing", AS_THE_FILES_SAY.spacing)),
        turn=tuple(request.get("turn", AS_THE_FILES_SAY.turn)),
        mirror=tuple(request.get("mirror", ())),
        invert=tuple(request.get("invert", ())),
    )
    return read_films(folder / request["ap"], folder / request["lat"], options)
