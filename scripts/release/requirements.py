"""The pinned packages that the product stands on.

Everything is read from pyproject.toml, constraints.txt and the installed packages' own metadata; no network is asked.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.release.bundle import Bundle

# What packages write into "License" or their classifiers, as SPDX expressions. "BSD License" could be any of several.
SPDX = {
    "mit": "MIT",
    "mit license": "MIT",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license v2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
# Names of families, of which SPDX knows the members only.
FAMILIES = ("BSD", "MPL", "GPL", "LGPL", "Apache", "CC")
SPDX_WORDS = re.compile(
    r"(Apache|MIT|BSD|MPL|PSF|LGPL|GPL|ISC|Zlib|BSL|LLVM|CC|HPND)[-\w.+]*|AND|OR|WITH|CC0-1\.0|Unlicense"
)


@dataclass(frozen=True)
class Package:
    """A pinned package.

    Attributes:
        name: as the package spells itself.
        version: the pinned one.
        required: whether the product needs it; else tests, exports or a cluster do.
        licence: an SPDX expression, or the words of its authors.
        is_spdx: which of the two.
        website: its home page.
        needs: names of the pinned packages that it needs.
    """

    name: str
    version: str
    required: bool
    licence: str
    is_spdx: bool
    website: str
    needs: tuple[str, ...] = field(default=())

    @property
    def purl(self) -> str:
        """Package URL."""
        return f"pkg:pypi/{canonical(self.name)}@{self.version}"


def canonical(name: str) -> str:
    """A package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(constraints: Path) -> dict[str, str]:
    """constraints.txt: canonical name -> version.

    Raises:
        UserError: a line is not an exact pin.
    """
    pins = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        words = line.split("#")[0].strip()
        if not words:
            continue
        name, _, version = words.partition("==")
        if not version:
            raise UserError(f"{constraints}: '{words}' is no exact version")
        pins[canonical(name)] = version
    return pins


def requirements(lines: Iterable[str], extras: Iterable[str] = ("",)) -> set[str]:
    """Canonical names that requirement lines ask for in this environment."""
    from packaging.requirements import Requirement

    names = set()
    for line in lines:
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
            names.add(canonical(one.name))
    return names


def read_packages(bundle: Bundle) -> list[Package]:
    """Every pinned package, sorted by name.

    Raises:
        UserError: a package that the product needs is not pinned, not installed, or installed in another version.
    """
    pins = read_pins(bundle.root / "constraints.txt")
    needed: set[str] = set()
    waiting = requirements(bundle.project["dependencies"])
    while waiting:
        name = waiting.pop()
        needed.add(name)
        if name not in pins:
            raise UserError(f"constraints.txt: {name} is needed and not pinned")
        waiting |= requirements(_installed(name, pins[name]).requires or []) - needed
    return [_package(name, version, name in needed, pins) for name, version in sorted(pins.items())]


def _installed(name: str, version: str) -> importlib.metadata.Distribution:
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"{name}: pinned and needed, but not installed here") from error
    if found.version.split("+")[0] != version:
        raise UserError(f"{name}: constraints.txt pins {version}, installed is {found.version}")
    return found


def _package(name: str, version: str, required: bool, pins: dict[str, str]) -> Package:
    try:
        found = _installed(name, version)
    except UserError:
        if required:
            raise
        return Package(name, version, required, "not read: not installed here", False, "")
    licence, is_spdx = _licence(found)
    needs = sorted(requirements(found.requires or []) & pins.keys())
    return Package(found.name, version, required, licence, is_spdx, _website(found), tuple(needs))


def _licence(found: importlib.metadata.Distribution) -> tuple[str, bool]:
    about: Any = found.metadata
    classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    field_text = (about.get("License") or "").strip()
    if "\n" in field_text or len(field_text) > 60:
        field_text = ""
    for words in (about.get("License-Expression") or "", field_text, *classifiers):
        expression = SPDX.get(words.lower(), words)
        is_spdx = all(SPDX_WORDS.fullmatch(word) for word in re.findall(r"[^\s()]+", expression))
        if expression and is_spdx and expression not in FAMILIES:
            return expression, True
    return field_text or ", ".join(classifiers) or "see the package", False


def _website(found: importlib.metadata.Distribution) -> str:
    about: Any = found.metadata
    links = dict(entry.split(", ", 1) for entry in about.get_all("Project-URL") or [] if ", " in entry)
    by_name = {name.lower(): url for name, url in links.items()}
    for name in ("homepage", "home", "repository", "source", "source code"):
        if name in by_name:
            return by_name[name]
    return about.get("Home-page") or next(iter(links.values()), "")
