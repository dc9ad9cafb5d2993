"""Whether a command's outputs would replace what it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from scripts.errors import UserError


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Refuse, before any work is done, to write over a file that is read.

    Args:
        outputs: files to write, and folders whose earlier content goes.
        inputs: files and folders that are read; None for those not given.

    Raises:
        UserError: an input is an output, or lies in the folder of one.

    >>> keep_inputs([Path("spine")], [Path("ap.png"), None])
    >>> keep_inputs([Path("spine")], [Path("spine/ap.png")])
    Traceback (most recent call last):
        ...
    scripts.errors.UserError: spine/ap.png: would be replaced by the output spine; choose another --output
    """
    given = [path for path in inputs if path is not None]
    for output in outputs:
        # Unlike Path.resolve, this does not fail where links lead in a circle; writing there is refused elsewhere.
        target = os.path.realpath(output)
        for path in given:
            if Path(os.path.realpath(path)).is_relative_to(target):
                raise UserError(f"{path}: would be replaced by the output {output}; choose another --output")
