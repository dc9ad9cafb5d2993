"""How an input is corrupted: anywhere in its bytes, or in one field of its structure by an unexpected value."""

from __future__ import annotations

import copy
import gzip
import io
import json
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import yaml

Mutation = Callable[[bytes, np.random.Generator], bytes]
# A parser's limits lie near these.
EDGES = (0, 1, -1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63, -(2**31))
FLOATS = (np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e-300, 1e300, 3.4e38, 1e-45)
TEXTS = (b"", b"\0\0", b"NaN ", b"-inf", b"1,5 ", b"1\\2\\3\\4 ", b"1e400 ", b"--1 ", b"\xff\xfe\xfd\xfc", b"A" * 300)
CHARACTER_SETS = (b"ISO_IR 100", b"ISO_IR 192", b"\\ISO 2022 IR 87 ", b"ISO 2022 IR 149", b"GB18030 ", b"NONSENSE")
VALUES: tuple[Any, ...] = (
    None, True, "", "x", "NaN", "L5", [], {}, [[]], [None, None], -1, 0, 1e9, -1e9, 1e308, 2**70, float("nan"),
    float("inf"), "\ud800", "\0", "../../x", [1, 2, 3], [float("nan"), 1.0], {"a": {"a": {"a": []}}},
)  # fmt: skip
# Repetitions grow fast, and the readers are to be tested, not the memory.
MOST_BYTES = 2**20
WHOLE_FILES = (b"", b"\0", b"\n", b"{", b"[" * 5000, b"\x89PNG\r\n\x1a\n", b"II*\0", b"\x1f\x8b", b"\0" * 128 + b"DICM")


def mutate(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """An input corrupted once or several times.

    Args:
        content: of a readable file.
        kind: its format, a key of `STRUCTURED`; others are corrupted in their bytes only.
        rng: source of chance.
    """
    for _ in range(int(rng.integers(1, 4))):
        if len(content) > MOST_BYTES:
            break
        ways = [spoil_bytes, *STRUCTURED.get(kind, ())]
        way = ways[int(rng.integers(len(ways)))]
        try:
            content = way(content, rng)
        # After an earlier corruption the input may have lost its structure.
        except Exception:
            content = spoil_bytes(content, rng)
    return content


def spoil_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, overwritten, left out, repeated, inserted, or cut off; headers more often than what follows."""
    size = len(content)
    if size == 0 or rng.random() < 0.02:
        return WHOLE_FILES[int(rng.integers(len(WHOLE_FILES)))]
    start = int(size * rng.random() ** rng.choice([1.0, 4.0, 12.0]))
    length = min(int(2 ** (12 * rng.random())), size - start)
    before, part, after = content[:start], content[start : start + length], content[start + length :]
    noise = rng.bytes(length)
    some = bytes(b if rng.random() < 0.9 else n for b, n in zip(part, noise, strict=True))
    choices = (some, noise, b"\0" * length, b"\xff" * length, b"", part * 2, part + noise)
    which = int(rng.integers(len(choices) + 1))
    return before if which == len(choices) else before + choices[which] + after


def spoil_dicom(content: bytes, rng: np.random.Generator) -> bytes:
    """One attribute gets a raw value of any kind, is taken out, or is put where it does not belong."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(io.BytesIO(content))
        tags = [tag for tag in (*data.file_meta.keys(), *data.keys()) if rng.random() < 0.5] or list(data.keys())
        tag = tags[int(rng.integers(len(tags)))]
        within = data.file_meta if tag in data.file_meta else data
        kind = within[tag].VR
        if rng.random() < 0.15:
            del within[tag]
        elif tag.element == 5 and tag.group == 8:
            within[tag] = pydicom.DataElement(tag, "CS", _one(CHARACTER_SETS, rng).decode("latin-1"))
        elif rng.random() < 0.3:
            # Another value representation than the standard's.
            kind = str(rng.choice(["UN", "LO", "DS", "IS", "US", "FL", "SQ", "OB", "UI", "PN", "DA"]))
            within.add(pydicom.DataElement(tag, kind, _raw(kind, rng)))
        else:
            within.add(pydicom.DataElement(tag, kind, _raw(kind, rng)))
        stream = io.BytesIO()
        data.save_as(stream, enforce_file_format=rng.random() < 0.9)
        return stream.getvalue()


def spoil_nifti(content: bytes, rng: np.random.Generator) -> bytes:
    """One field of the header gets a number at the limits of its type."""
    packed = content[:2] == b"\x1f\x8b"
    plain = bytearray(gzip.decompress(content) if packed else content)
    fields = nib.nifti1.header_dtype
    name = str(rng.choice(list(fields.names)))
    base, offset = fields.fields[name][:2]
    base, shape = base.subdtype or (base, ())
    place = offset + base.itemsize * int(rng.integers(max(int(np.prod(shape)), 1)))
    if base.kind == "f":
        with np.errstate(over="ignore"):
            value = np.array(_one(FLOATS, rng), base)
    elif base.kind in "iu":
        value = np.array(int(_one(EDGES, rng)) & (2 ** (8 * base.itemsize) - 1), f"u{base.itemsize}")
    else:
        value = np.frombuffer(rng.bytes(base.itemsize), "u1")
    plain[place : place + base.itemsize] = value.tobytes()
    return gzip.compress(bytes(plain), 1, mtime=0) if packed else bytes(plain)


def spoil_document(content: bytes, rng: np.random.Generator) -> bytes:
    """One value of a JSON document is replaced, removed, repeated, or moved to another place."""
    return json.dumps(_changed(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def spoil_yaml(content: bytes, rng: np.random.Generator) -> bytes:
    """The same of YAML; or aliases of aliases, tags, and nesting, which only YAML has."""
    if rng.random() < 0.2:
        rows = ["a: &a [x,x,x,x,x,x,x,x,x]"]
        rows += [f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
        bombs = (
            "\n".join(rows), "!!python/object/apply:os.getcwd []", "a: " + "[" * 3000, "&a [*a]", "<<: *x", "- : -",
            "a: !!binary x", "a: 0x_", "a: 2001-99-99", "beam: !!set {parallel}", "%YAML 9.9\n---\na: b", "a: 1:2:3.5e",
        )  # fmt: skip
        return _one(bombs, rng).encode()
    if b"&" in content:
        # A bomb would go off here.
        return spoil_bytes(content, rng)
    return yaml.safe_dump(_changed(yaml.safe_load(content), rng)).encode("utf-8", "surrogatepass")


def spoil_png(content: bytes, rng: np.random.Generator) -> bytes:
    """One byte or number of a chunk changes and its checksum with it, so that a reader gets further."""
    place, chunks = 8, []
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    which = int(rng.integers(len(chunks))) if rng.random() < 0.5 else 0
    name, body = chunks[which]
    if body:
        start = int(rng.integers(len(body)))
        number = int(_one(EDGES, rng)) & 0xFFFFFFFF
        body = body[:start] + (number.to_bytes(4, "big") if rng.random() < 0.5 else rng.bytes(1)) + body[start + 1 :]
    chunks[which] = (name, body)
    parts = (len(b).to_bytes(4, "big") + n + b + zlib.crc32(n + b).to_bytes(4, "big") for n, b in chunks)
    return content[:8] + b"".join(parts)


def spoil_tiff(content: bytes, rng: np.random.Generator) -> bytes:
    """One entry of the first directory of a little-endian TIFF gets another number, kind, or count."""
    start = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[start : start + 2], "little")
    place = start + 2 + 12 * int(rng.integers(entries)) + int(rng.choice([0, 2, 4, 8]))
    width = 2 if (place - start - 2) % 12 < 4 else 4
    number = int(_one(EDGES, rng)) & (2 ** (8 * width) - 1)
    return content[:place] + number.to_bytes(width, "little") + content[place + width :]


STRUCTURED: dict[str, tuple[Mutation, ...]] = {
    "dicom": (spoil_dicom,) * 4,
    "nifti": (spoil_nifti,) * 4,
    "json": (spoil_document,) * 6,
    "yaml": (spoil_yaml,) * 6,
    "png": (spoil_png,) * 2,
    "tiff": (spoil_tiff,) * 3,
}


def _changed(document: Any, rng: np.random.Generator) -> Any:
    document = copy.deepcopy(document)
    places = list(_places(document))
    if not places or rng.random() < 0.03:
        return _one(VALUES, rng)
    holder, key = places[int(rng.integers(len(places)))]
    what = rng.random()
    if what < 0.15:
        del holder[key]
    elif what < 0.25:
        other, there = places[int(rng.integers(len(places)))]
        holder[key] = copy.deepcopy(other[there])
    elif what < 0.3 and isinstance(holder, list):
        holder.extend(copy.deepcopy(holder) * int(rng.integers(1, 50)))
    else:
        holder[key] = _one(VALUES, rng)
    return document


def _places(document: Any) -> Any:
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(pairs) if isinstance(document, (dict, list)) else ():
        yield document, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def _raw(kind: str, rng: np.random.Generator) -> Any:
    """A value that pydicom writes as it is, whatever the value representation allows."""
    if kind == "SQ":
        return []
    if kind in ("US", "SS", "UL", "SL"):
        sizes = {"US": (0, 2**16), "SS": (-(2**15), 2**15), "UL": (0, 2**32), "SL": (-(2**31), 2**31)}[kind]
        return [e for e in EDGES if sizes[0] <= e < sizes[1]][int(rng.integers(6))]
    if kind in ("FL", "FD"):
        return float(np.float32(_one(FLOATS, rng)))
    value = rng.bytes(int(rng.integers(1, 20)) * 2) if rng.random() < 0.2 else _one(TEXTS, rng)
    return value if kind in ("OB", "OW", "UN") else value.decode("latin-1")


def _one(values: tuple[Any, ...], rng: np.random.Generator) -> Any:
    return values[int(rng.integers(len(values)))]
