"""Words of the command line as the types that functions take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.errors import UserError

if TYPE_CHECKING:
    from scripts.localization.anchors import Anchor


def split_words(value: Any) -> tuple[str, ...]:
    """What fire makes of ``a,b``: a tuple, a string or a number."""
    if isinstance(value, (list, tuple)):
        return tuple(str(v).strip() for v in value)
    return tuple(word.strip() for word in str(value).split(",") if word.strip())


def json_words(value: Any) -> Any:
    """What Fire made of a JSON argument, with JSON's true, false and null, which it takes for words."""
    if isinstance(value, dict):
        return {key: json_words(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_words(item) for item in value]
    return {"true": True, "false": False, "null": None}.get(value, value) if isinstance(value, str) else value


def parse_spacing(value: Any) -> tuple[float, float] | None:
    """``0.14`` or ``0.14,0.15`` as (AP, LAT) mm a pixel; None if not given."""
    try:
        numbers = [float(word) for word in split_words(value)]
    except ValueError as error:
        raise UserError(f"--spacing takes mm a pixel, as 0.14 or 0.14,0.15, not {value}") from error
    if len(numbers) > 2:
        raise UserError(f"--spacing takes one number or two (AP,LAT), not {len(numbers)}")
    return (numbers[0], numbers[-1]) if numbers else None


def read_anchors(value: Any) -> tuple[Anchor, ...]:
    """See `scripts.localization.anchors.parse_anchors`."""
    from scripts.localization.anchors import parse_anchors

    return parse_anchors(",".join(split_words(value)))


def optional_path(value: Any) -> Path | None:
    """A path, None where nothing is given."""
    return Path(str(value)) if value else None
