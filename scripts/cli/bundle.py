"""The bundle itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.cli.arguments import split_words
from scripts.errors import UserError


def verify() -> None:
    """Check this bundle as MONAI's model zoo does, and say what would block a pull request there."""
    from scripts.paths import BUNDLE_ROOT
    from scripts.release.bundle import Bundle
    from scripts.release.zoo import verify as verify_bundle

    blocking = verify_bundle(Bundle(BUNDLE_ROOT))
    if blocking:
        raise UserError(f"{blocking[0]} ({len(blocking)} in all)")


def release(output: str, base_url: str = "", tests: Any = "tests") -> None:
    """Build the zip that is handed out, with exports, checksums, bill of materials and licences; see docs/release.md.

    Args:
        output: folder for all of it.
        base_url: where this folder will be reachable, for large_files.yml.
        tests: which tests must pass, comma-separated; all of them if left out.
    """
    from scripts.paths import BUNDLE_ROOT
    from scripts.release.build import release as build_release
    from scripts.release.bundle import Bundle

    folder = Path(str(output))
    report = build_release(Bundle(BUNDLE_ROOT), folder, str(base_url), split_words(tests))
    for name in report["files"]:
        print(folder / name if (folder / name).exists() else f"  with {name}")
