"""The one exception that is meant for the user."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: one line that names the file, what is wrong and what to do.

    The command line prints the message without a traceback and exits with a non-zero status.
    """
