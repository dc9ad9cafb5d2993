"""``python -m scripts.deploy -i STUDY -o OUTPUT -m MODELS``: the MONAI Deploy application, and what a MAP starts."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from scripts.errors import UserError


def main() -> int:
    """Run the application once.

    Returns:
        exit status: 0 only if the job was done.
    """
    # The SDK reports a failed operator in a page of lines; ours is one. Set the variable to INFO to see its own.
    os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
    warnings.filterwarnings("ignore", message="Current stack size")
    # It logs the UIDs of studies.
    logging.getLogger("highdicom").setLevel(logging.WARNING)
    try:
        from scripts.deploy.app import SpineApplication
    except ModuleNotFoundError as error:
        print(f"error: {error}; the application needs pip install '.[deploy]'", file=sys.stderr)
        return 1
    try:
        SpineApplication().run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
