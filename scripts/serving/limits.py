"""Numbers and names that a service is started with, refused before it starts if it could not work with them."""

from __future__ import annotations

import re

from scripts.errors import UserError

# The default repertoire of DICOM without the backslash; not of spaces alone.
AE_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}", re.ASCII)
LARGEST_PORT = 65535


def check_port(port: int) -> None:
    """Refuse what is no port to listen on; 0 takes a free one.

    Raises:
        UserError: it is none.
    """
    if not 0 <= port <= LARGEST_PORT:
        raise UserError(f"--port is a number from 0 to {LARGEST_PORT}, not {port}")


def check_ae_title(title: str) -> None:
    """Refuse what DICOM does not allow as the name of a node.

    Raises:
        UserError: it is none.
    """
    if not AE_TITLE.fullmatch(title):
        raise UserError(f"--ae-title has 1 to 16 letters, digits and signs of ASCII, without backslash, not {title!r}")


def check_above(option: str, value: float, least: float, inclusive: bool = False) -> None:
    """Refuse a number that is not above a limit, NaN among them.

    Args:
        option: its name, for the error.
        value: of the option.
        least: the limit.
        inclusive: whether the limit itself is good too.

    Raises:
        UserError: it is not, or it is NaN.

    >>> check_above("--keep-hours", 24.0, 0)
    >>> check_above("--keep-hours", float("nan"), 0)
    Traceback (most recent call last):
        ...
    scripts.errors.UserError: --keep-hours is a number above 0, not nan
    """
    if not (value > least or (inclusive and value == least)):
        wanted = f"from {least:g} on" if inclusive else f"above {least:g}"
        raise UserError(f"{option} is a number {wanted}, not {value:g}")
