"""Whether marks were set on the films that they come with: films of equal size fit any marks, another patient's too."""

from __future__ import annotations

from dataclasses import replace

from scripts.films.film import Films
from scripts.io.annotations import Annotations

OTHER_FILM = "the marks were set on another film, or on this one mirrored, turned, inverted or exported otherwise"


def marks_of_films(films: Films, annotations: Annotations) -> Annotations:
    """Marks that say which films they are of.

    Args:
        films: as they were read.
        annotations: set on them, or so the user says.

    Returns:
        the same; a view that names no film gets this one's fingerprint. If it names another one, there is a warning,
        and the levels count as not confirmed.
    """
    pairs = tuple(zip(films.views, (annotations.ap, annotations.lat), strict=True))
    lines = [f"{v.name}: {OTHER_FILM}" for v, m in pairs if m.film and v.film.there and m.film != v.film.fingerprint]
    ap, lat = (replace(m, film=m.film or v.film.fingerprint) if v.film.there else m for v, m in pairs)
    confirmed = annotations.levels_confirmed and not lines
    return replace(
        annotations, ap=ap, lat=lat, levels_confirmed=confirmed, warnings=(*lines, *_own_warnings(annotations))
    )


def accepted(films: Films, annotations: Annotations) -> Annotations:
    """Marks that a person has confirmed on these films, whatever film they were set on."""
    ap, lat = (replace(marks, film="") for marks in (annotations.ap, annotations.lat))
    return marks_of_films(films, replace(annotations, ap=ap, lat=lat))


def other_films(annotations: Annotations) -> list[str]:
    """The warnings that marks were set on other films."""
    return [line for line in annotations.warnings if line.endswith(OTHER_FILM)]


def _own_warnings(annotations: Annotations) -> list[str]:
    return [line for line in annotations.warnings if not line.endswith(OTHER_FILM)]
