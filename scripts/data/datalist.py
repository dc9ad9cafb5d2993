"""``dataset.json``, MONAI's datalist, written row by row: its length costs no memory."""

from __future__ import annotations

import json
import shutil
import tempfile
import textwrap
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from scripts.data.items import VertebraItem
from scripts.io.atomic import atomic_file


def write_datalist(
    path: Path, header: dict[str, Any], names: tuple[str, ...], rows: Iterable[tuple[str, VertebraItem]]
) -> dict[str, int]:
    """A JSON object: the header's entries, then the lists; as `json.dumps` with ``indent=1`` would write it.

    Args:
        path: the file.
        header: first entries, not empty.
        names: of the lists, in their order.
        rows: name of its list and item, in the order in which a list shall have them.

    Returns:
        number of items per list.
    """
    counts = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        parts: dict[str, TextIO] = {
            name: stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent)) for name in names
        }
        for name, item in rows:
            values = asdict(item)
            for rare in ("along_spine", "label_origin"):
                if not values[rare]:
                    del values[rare]
            text = textwrap.indent(json.dumps(values, indent=1), "  ")
            parts[name].write(f"{',' if counts[name] else ''}\n{text}")
            counts[name] += 1
        with atomic_file(path) as stream:
            stream.write(json.dumps(header, indent=1).removesuffix("\n}"))
            for name, part in parts.items():
                stream.write(f",\n {json.dumps(name)}: [")
                part.seek(0)
                shutil.copyfileobj(part, stream)
                stream.write("\n ]" if counts[name] else "]")
            stream.write("\n}\n")
    return counts
