"""The folder tree: a room imports only from rooms above it."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.conftest import ROOT

SCRIPTS = ROOT / "scripts"
# From the ground up; docs/contributing.md says what each is for.
ROOMS = (
    "errors", "ending", "command", "paths", "levels", "jobs", "threads", "drawing",
    "geometry", "io", "anatomy", "films", "export", "simulation", "data", "learning", "reconstruction", "localization",
    "spine", "measure", "render", "job", "serving", "viewer", "release", "deploy", "benchmarks", "cli",
)  # fmt: skip


def imports(path: Path) -> set[str]:
    """Rooms that a module imports from, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("scripts.")}
    return found


def test_every_room_is_in_the_list_and_in_the_docs() -> None:
    rooms = {p.stem for p in SCRIPTS.iterdir() if p.name not in ("__init__.py", "__main__.py", "__pycache__")}
    assert rooms == set(ROOMS)
    page = (ROOT / "docs" / "contributing.md").read_text()
    assert [room for room in ROOMS if (SCRIPTS / room).is_dir() and f"`{room}`" not in page] == []


def test_rooms_import_downwards_only() -> None:
    checked = 0
    for path in SCRIPTS.rglob("*.py"):
        room = path.relative_to(SCRIPTS).parts[0].removesuffix(".py")
        if room in ROOMS:
            above = {r for r in imports(path) if ROOMS.index(r) > ROOMS.index(room)}
            assert not above, f"{path.relative_to(ROOT)} imports from {', '.join(sorted(above))}"
            checked += 1
    assert checked > 200
