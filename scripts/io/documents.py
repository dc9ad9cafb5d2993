"""JSON and YAML: files of any origin read within bounds, and JSON that every reader of JSON accepts.

Files may begin with a byte order mark, as Windows writes it. What one could use to fill the memory, the stack or the
time is refused: size, nesting without end, and aliases of YAML that stand for more than they say. NaN and infinity are
no JSON; Python reads and writes them if it is not told otherwise.
"""

from __future__ import annotations

import codecs
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scripts.errors import UserError
from scripts.io.atomic import write_text

MOST_BYTES = 2**30
# Of a file that a person writes or corrects: marks, a geometry.
SMALL_BYTES, MOST_VALUES, MOST_DEPTH = 2**20, 50_000, 50
# PyYAML takes a second for as much; a geometry has a few lines.
YAML_BYTES = 2**16
YAML_SUFFIXES = (".yaml", ".yml")
# What the parsers raise for broken files; PyYAML lets its constructors' own errors through.
BROKEN = (OSError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError, yaml.YAMLError)


def read_json(path: Path, what: str = "JSON file", most_bytes: int = MOST_BYTES) -> Any:
    """The content of a JSON file in UTF-8, with or without a byte order mark, or in UTF-16.

    Args:
        path: of the file.
        what: it should be, for errors.
        most_bytes: larger files are refused.

    Raises:
        UserError: missing, too large, not JSON, or nested without end.
    """
    try:
        return json.loads(_read(path, what, most_bytes), object_pairs_hook=_once)
    except BROKEN as error:
        raise _unreadable(path, what, error) from error


def read_text(path: Path, what: str) -> str:
    """The content of a small text file in UTF-8, or in UTF-16 with a byte order mark, as Windows writes it.

    Args:
        path: of the file.
        what: it should be, for errors.

    Raises:
        UserError: missing, too large, or no text.
    """
    data = _read(path, what, SMALL_BYTES)
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no readable {what} (neither UTF-8 nor UTF-16); save it as UTF-8") from error


def parse_json(data: bytes | str, what: str) -> Any:
    """JSON that was sent, bounded as a small file is and with finite numbers.

    Args:
        data: the text.
        what: it is, for errors.

    Raises:
        UserError: no JSON, too large, nested too deeply, or a number is not finite.
    """
    if len(data) > SMALL_BYTES:
        raise UserError(f"{what}: no readable JSON (larger than {_size(SMALL_BYTES)})")
    try:
        document = json.loads(data, object_pairs_hook=_once)
    except BROKEN as error:
        raise UserError(f"{what}: no readable JSON ({_reason(error)})") from error
    check_values(document, what)
    return document


def read_small(path: Path, what: str) -> Any:
    """The content of a JSON or, by its name, YAML file that a person may have written.

    Args:
        path: of the file; ``.yaml`` and ``.yml`` are YAML, everything else is JSON.
        what: it should be, for errors.

    Raises:
        UserError: missing, unreadable, larger than such a file can be, or a number in it is not finite.
    """
    if path.suffix.lower() in YAML_SUFFIXES:
        document = _parse_yaml(_read(path, what, YAML_BYTES), path, what)
    else:
        document = read_json(path, what, SMALL_BYTES)
    check_values(document, str(path))
    return document


def check_values(document: Any, where: str) -> None:
    """Refuse what no reader of a small document should have to deal with.

    Args:
        document: as a parser gives it; an object that occurs twice counts twice.
        where: the file, for errors.

    Raises:
        UserError: names the field of a number that is not finite, or of an invalid text; or there are too many
            values, or too many in each other.
    """
    for count, (name, value) in enumerate(_values(document, where)):
        field = name[:80].encode(errors="backslashreplace").decode()
        if count > MOST_VALUES:
            raise UserError(f"{where}: more than {MOST_VALUES} values: no such file is that large")
        if isinstance(value, (int, float)) and not _finite(value):
            raise UserError(f"{where}: at {field}: {str(value)[:20]} is no finite number")
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise UserError(f"{where}: at {field}: a text with half a character in it")


def check_schema(document: Any, schema: Path, where: str) -> None:
    """Refuse a document that is not as a JSON schema says.

    Args:
        document: to check.
        schema: file of the schema.
        where: the document came from, for the error.

    Raises:
        UserError: it is not; where in it, and why.
    """
    # Not above: what trains in a GPU kit imports this module, and the kit's machine has no such package.
    import jsonschema

    try:
        jsonschema.validate(document, json.loads(schema.read_text(encoding="utf-8")))
    except jsonschema.ValidationError as error:
        raise UserError(f"{where}: at {error.json_path}: {error.message.splitlines()[0][:200]}") from error


def plain(document: Any) -> Any:
    """A document as JSON gives it back: tuples and arrays as lists, keys as text."""
    return json.loads(json.dumps(document, default=lambda value: np.asarray(value).tolist()))


def to_json(document: Any, where: str, indent: int | None = 1) -> str:
    """A document as the text of a JSON file.

    Args:
        document: plain values.
        where: the file, for errors.
        indent: spaces a level; None for one line.

    Raises:
        UserError: names the field of a number that is not finite.
    """
    try:
        return json.dumps(document, indent=indent, allow_nan=False)
    except ValueError as error:
        field = next(iter(not_finite(document)), "$")
        raise UserError(f"{where}: at {field}: no finite number, not written") from error


def write_json(path: Path, document: Any, indent: int | None = 1) -> None:
    """Write a JSON file in one step.

    Raises:
        UserError: a number is not finite; an older file stays.
    """
    write_text(path, to_json(document, str(path), indent) + "\n")


def not_finite(document: Any) -> list[str]:
    """Fields of a document whose numbers are NaN or infinite.

    >>> not_finite({"a": [1.0, float("nan")], "b": float("inf")})
    ['$.a[1]', '$.b']
    """
    numbers = ((field, value) for field, value in _values(document, "") if isinstance(value, (int, float)))
    return sorted(field for field, value in numbers if not _finite(value))


def without(document: Any, fields: list[str]) -> Any:
    """A copy of a document with null in some fields, as `not_finite` names them.

    >>> document = {"a": [1.0, float("nan")]}
    >>> without(document, not_finite(document))
    {'a': [1.0, None]}
    """
    gone = frozenset(fields)

    def copied(value: Any, field: str) -> Any:
        if field in gone:
            return None
        if isinstance(value, dict):
            return {key: copied(inner, f"{field}.{key}") for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [copied(inner, f"{field}[{i}]") for i, inner in enumerate(value)]
        return value

    return copied(document, "$")


def _values(document: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every value with its field, without recursion."""
    waiting: list[tuple[str, Any, int]] = [("$", document, 0)]
    while waiting:
        field, value, depth = waiting.pop()
        yield field, value
        if depth > MOST_DEPTH:
            raise UserError(f"{where}: nested more than {MOST_DEPTH} deep, at {field[:60]}")
        if isinstance(value, dict):
            waiting.extend((f"{field}.{key}", inner, depth + 1) for key, inner in value.items())
        elif isinstance(value, (list, tuple)):
            waiting.extend((f"{field}[{i}]", inner, depth + 1) for i, inner in enumerate(value))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _read(path: Path, what: str, most_bytes: int) -> bytes:
    try:
        # Not by the size that the system tells: pipes have none.
        with path.open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, what, error) from error
    if len(data) > most_bytes:
        raise UserError(f"{path}: not a readable {what} (larger than {_size(most_bytes)})")
    return data


def _size(count: int) -> str:
    return f"{count // 2**20} MB" if count >= 2**20 else f"{count // 2**10} kB"


def _parse_yaml(data: bytes, path: Path, what: str) -> Any:
    try:
        # Nodes first: aliases and merged keys multiply when Python's values are made of them. Not by the parser in C,
        # whose recursion nothing bounds.
        root = yaml.compose(data, yaml.SafeLoader)
        if root is None:
            return None
        _check_nodes(root, str(path))
        return yaml.SafeLoader("").construct_document(root)
    except UserError:
        raise
    except BROKEN as error:
        raise _unreadable(path, what, error) from error


def _check_nodes(root: yaml.Node, where: str) -> None:
    waiting = [(root, 0)]
    count = 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MOST_VALUES or depth > MOST_DEPTH:
            raise UserError(f"{where}: aliases or lists in lists without end: no such file is that large")
        if isinstance(node, yaml.MappingNode):
            _once(
                [(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
            )
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        waiting.extend((part, depth + 1) for child in children for part in _parts(child))


def _parts(child: yaml.Node | tuple[yaml.Node, yaml.Node]) -> tuple[yaml.Node, ...]:
    return child if isinstance(child, tuple) else (child,)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that is there twice a parser would take the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        often = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{often!r} is there twice")
    return found


def _unreadable(path: Path, what: str, error: BaseException) -> UserError:
    return UserError(f"{path}: not a readable {what} ({_reason(error)})")


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "lists in lists without end"
    return " ".join(str(error).split())[:120] or type(error).__name__
