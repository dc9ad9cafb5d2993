"""Functions as commands: the one place where words of the command line become the types that a signature names.

=====================  =========================================================
annotation             word
=====================  =========================================================
``str``                as it is: ``007`` stays a name
``int float Path``     what the type makes of it
``bool``               true or false; the option alone is true
an ``Enum``            one of its values
``X | None``           as ``X``; empty for None
``tuple[X, ...]``      ``a,b,c``
``tuple[X, X]``        ``a,b``, or ``a`` for both
``dict``               ``{"a": 1}``
``Annotated[X, f]``    what ``f`` makes of it
a dataclass            an option for each of its fields, explained in its docstring
=====================  =========================================================

Fire reads the options and shows the help. A parameter ``list_`` is the option ``--list``.
"""

from __future__ import annotations

import errno
import inspect
import io
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import fire
from fire.decorators import SetParseFn
from fire.docstrings import parse as parse_docstring
from fire.parser import DefaultParseValue

from scripts.ending import EndedError, ending_in_order
from scripts.errors import UserError

Command = Callable[..., None]
NOUNS = {int: "a whole number", float: "a number", bool: "true or false"}
# What the system says of disks and paths, which the user can mend; everything else is a fault of ours.
MENDED_BY_USER = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOTDIR,
    errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EBUSY,
)  # fmt: skip
TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Args:
        parameter: its name and default.
        meaning: for the help.
    """

    parameter: inspect.Parameter
    meaning: str


def run_module(commands: Command | Mapping[str, Command]) -> None:
    """Run a function with the options of the command line, or one of several that its first word names; then exit."""
    sys.exit(run_command(commands, sys.argv[1:]))


def run_command(commands: Command | Mapping[str, Command], words: Sequence[str], name: str | None = None) -> int:
    """Run a function with options, or one of several that the first word names.

    Args:
        commands: the function, or several by name.
        words: of the command line; ``--debug`` shows where an error came from.
        name: of the program, for the help.

    Returns:
        exit status: 0 only if the job was done.
    """
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    os.environ.setdefault("PAGER", "cat")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # Paths may hold bytes that are no text; they are printed as they are.
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        help_wanted = bool({"--help", "-h"} & set(words))
        if not help_wanted:
            if callable(commands):
                _check_options(commands, words)
            elif words and words[0] in commands:
                _check_options(commands[words[0]], words[1:], f"{words[0]} ")
        typed = partial(_typed, words_as_they_are=not help_wanted)
        component = typed(commands) if callable(commands) else {key: typed(f) for key, f in commands.items()}
        with ending_in_order(), _help_with_dashes() if help_wanted else nullcontext():
            fire.Fire(component, command=words, name=name)
        return 0
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        # Who reads the output, as `head` does, has seen enough; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if debug or error.errno not in MENDED_BY_USER:
            raise
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        print(f"error: {where}{error.strerror}", file=sys.stderr)
        return 1
    except EndedError as error:
        print("stopped", file=sys.stderr)
        return 128 + error.number
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _output_is_closed() -> bool:
    """Whether stdout is a pipe that nobody reads from any more; a broken pipe may also be another one."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def _help_with_dashes() -> Iterator[None]:
    """Fire's help, with options as the documentation spells them."""
    out, text = sys.stderr, io.StringIO()
    try:
        # Fire asks whether stdout is a terminal before it starts a pager.
        with redirect_stdout(text), redirect_stderr(text):
            yield
    finally:
        out.write(re.sub(r"--[a-z_]+", lambda option: str(option[0]).replace("_", "-"), text.getvalue()))


def options_of(command: Callable[..., Any]) -> dict[str, Option]:
    """Every option of a command by its name, with underscores; those that have to be given come first."""
    options = sorted(_options(command), key=lambda option: option.parameter.default is not inspect.Parameter.empty)
    return {option.parameter.name: option for option in options}


def to_type(word: str, kind: Any, option: str) -> Any:
    """A word as a type.

    Args:
        word: of the command line.
        kind: the type; the module's docstring lists them.
        option: whose word it is, for the error.

    Raises:
        UserError: the word is not of this type.

    >>> to_type("0.14", tuple[float, float] | None, "spacing"), to_type("L1, L2", tuple[str, ...], "levels")
    ((0.14, 0.14), ('L1', 'L2'))
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is str:
        return word
    if origin is Annotated:
        return inner[1](word)
    if origin is UnionType:
        (kind,) = (k for k in inner if k is not NoneType)
        # An empty list is not the same as none given.
        nothing = word == "None" or (not word and get_origin(kind) is not tuple)
        return None if nothing else to_type(word, kind, option)
    if origin is tuple:
        return _to_tuple([part.strip() for part in word.split(",") if part.strip()], inner, option)
    if origin is dict:
        value = _from_json(DefaultParseValue(word))
        if not isinstance(value, dict):
            raise UserError(f"--{_spelled(option)} is a dictionary such as '{{\"a\": 1}}', not {word}")
        return value
    try:
        return TRUTH[word.lower()] if kind is bool else kind(word)
    except (ValueError, KeyError) as error:
        wanted = " or ".join(k.value for k in kind) if issubclass(kind, Enum) else NOUNS[kind]
        raise UserError(f"--{_spelled(option)} takes {wanted}, not '{word}'") from error


def _to_tuple(parts: list[str], kinds: tuple[Any, ...], option: str) -> tuple[Any, ...]:
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(parts)
    elif len(parts) == 1:
        parts = parts * len(kinds)
    if len(parts) != len(kinds):
        raise UserError(f"--{_spelled(option)} takes {len(kinds)} values with commas, or one for all, not {len(parts)}")
    return tuple(to_type(part, kind, option) for part, kind in zip(parts, kinds, strict=True))


def _from_json(value: Any) -> Any:
    """What Fire made of a JSON argument, with JSON's true, false and null, which it takes for words."""
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return {"true": True, "false": False, "null": None}.get(value, value) if isinstance(value, str) else value


def _options(owner: Callable[..., Any]) -> Iterator[Option]:
    """The options of a function, or of a dataclass, which is called like one."""
    kinds = get_type_hints(owner, include_extras=True)
    meanings = {text.name: text.description for text in parse_docstring(inspect.getdoc(owner)).args or ()}
    for name, parameter in inspect.signature(owner).parameters.items():
        if is_dataclass(kinds[name]):
            yield from _options(kinds[name])
        else:
            yield Option(parameter.replace(name=name.rstrip("_")), " ".join(str(meanings.get(name, "")).split()))


def _call(owner: Any, given: dict[str, Any]) -> Any:
    """Call it with what the options say; defaults have their types already."""
    values: dict[str, Any] = {}
    for name, kind in get_type_hints(owner, include_extras=True).items():
        option = name.rstrip("_")
        if is_dataclass(kind):
            values[name] = _call(kind, given)
        elif option in given:
            value = given[option]
            values[name] = to_type(value, kind, option) if isinstance(value, str) else value
    return owner(**values)


def _typed(command: Command, words_as_they_are: bool) -> Command:
    """The command as Fire calls it: flat options, each value a word or a default.

    Args:
        command: with types.
        words_as_they_are: keep Fire from reading numbers and lists into words. It notes this in an attribute of the
            function, which its help would list among the commands.
    """
    options = options_of(command)

    def call(*given: Any) -> None:
        _call(command, dict(zip(options, given, strict=True)))

    about = parse_docstring(inspect.getdoc(command))
    meanings = "\n".join(f"    {name}: {option.meaning}" for name, option in options.items())
    call.__doc__ = f"{about.summary}\n\n{about.description or ''}\n\nArgs:\n{meanings}"
    call.__name__ = command.__name__
    shown = [o.parameter.replace(default=_as_word(o.parameter.default)) for o in options.values()]
    call.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    if words_as_they_are:
        SetParseFn(str)(call)
    return call


def _check_options(command: Command, words: Sequence[str], name: str = "") -> None:
    """Refuse unknown and missing options before any work: Fire would call the function first and complain afterwards.

    Raises:
        UserError: there are such.
    """
    options = options_of(command)
    given = [word[2:].split("=")[0].replace("-", "_") for word in words if word.startswith("--") and len(word) > 2]
    for option in given:
        # Fire takes --nodicom for --dicom False.
        if option not in options and option.removeprefix("no") not in options:
            known = ", ".join(f"--{_spelled(known)}" for known in options)
            raise UserError(f"{name}has no option --{_spelled(option)}; it has {known}")
    needed = [key for key, o in options.items() if o.parameter.default is inspect.Parameter.empty and key not in given]
    # Commands can also be called with their arguments in order; then Fire counts them.
    if needed and all(word.startswith("--") for word in words[:1]):
        raise UserError(f"{name}needs {', '.join(f'--{_spelled(key)}' for key in needed)}")


def _as_word(default: Any) -> Any:
    """A default as one would type it, so that the help shows it like that."""
    if isinstance(default, tuple):
        return ",".join(str(_as_word(part)) for part in default)
    return default.value if isinstance(default, Enum) else str(default) if isinstance(default, Path) else default


def _spelled(option: str) -> str:
    return option.replace("_", "-")
