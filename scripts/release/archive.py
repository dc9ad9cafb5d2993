"""A zip whose bytes depend on nothing but the files in it."""

from __future__ import annotations

import zipfile
from pathlib import Path


def write_zip(path: Path, folder: Path) -> None:
    """Pack a folder under its own name, files sorted, all of one time and one mode.

    Files are stored and not compressed: compressed bytes depend on the version of zlib, and nearly all of a bundle's
    bytes are compressed already.

    Args:
        path: the zip to write.
        folder: what to pack.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(f for f in folder.rglob("*") if f.is_file()):
            entry = zipfile.ZipInfo((Path(folder.name) / file.relative_to(folder)).as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, file.read_bytes())
