"""The bundle itself."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import UserError


def verify() -> None:
    """Check this bundle as MONAI's model zoo does, and say what would block a pull request there."""
    from scripts.paths import BUNDLE_ROOT
    from scripts.release.bundle import Bundle
    from scripts.release.zoo import verify as verify_bundle

    blocking = verify_bundle(Bundle(BUNDLE_ROOT))
    if blocking:
        raise UserError(f"{blocking[0]} ({len(blocking)} in all)")


def release(output: Path, base_url: str = "", tests: tuple[str, ...] = ("tests",)) -> None:
    """Build the zip that is handed out, with exports, checksums, bill of materials and licences.

    Args:
        output: folder for all of it.
        base_url: where this folder will be reachable, for large_files.yml.
        tests: which tests must pass, comma-separated; all of them if left out.
    """
    from scripts.paths import BUNDLE_ROOT
    from scripts.release.build import release as build_release
    from scripts.release.bundle import Bundle

    report = build_release(Bundle(BUNDLE_ROOT), output, base_url, tests)
    for name in report["files"]:
        print(output / name if (output / name).exists() else f"  with {name}")
