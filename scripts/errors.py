"""The one exception that is meant for the user."""

from __future__ import annotations

from collections.abc import Iterator


class UserError(Exception):
    """Something the user can mend: one line that names the file, what is wrong and what to do.

    The command line prints the message without a traceback and exits with a non-zero status.
    """


def reason_of(error: BaseException) -> BaseException:
    """What is behind an error that others were raised from: the first `UserError` among them, or else the first raised.

    >>> try:
    ...     try:
    ...         raise MemoryError("128 GiB")
    ...     except MemoryError as error:
    ...         raise RuntimeError("failed to evaluate") from error
    ... except RuntimeError as error:
    ...     reason_of(error)
    MemoryError('128 GiB')
    """
    chain = list(_chain(error))
    return next((e for e in chain if isinstance(e, UserError)), chain[-1])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
