"""The folders that a MONAI Application Package is made of, and the command that makes it.

    python -m scripts.deploy.package --output output/map

The container itself is built by ``holoscan package`` (holoscan-cli 4.2.0, the last with that command), which needs
Docker and a network.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.command import run_module
from scripts.io.atomic import atomic_folder
from scripts.paths import BUNDLE_ROOT
from scripts.release.bundle import Bundle

MODELS = ("model.ts", "localization.ts")
CONFIG = "app.yaml"
SDK = ("monai-deploy-app-sdk", "4.0.0")
MAIN = '''"""What the container starts."""

import sys

from scripts.deploy.__main__ import main

sys.exit(main())
'''


def write_application(bundle: Bundle, output: Path) -> Path:
    """``app/`` (code, configs, pinned requirements, ``app.yaml``) and ``models/`` for ``holoscan package``.

    Args:
        bundle: the tree.
        output: folder to write, whole or not at all.

    Raises:
        UserError: the folder holds something else.
    """
    with atomic_folder(output, f"app/{CONFIG}") as work:
        app, models = work / "app", work / "models"
        for name in bundle.files():
            if name.startswith(("scripts/", "configs/", "LICENSE")):
                (app / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle.root / name, app / name)
        (app / "__main__.py").write_text(MAIN)
        (app / "requirements.txt").write_text("\n".join(requirements(bundle)) + "\n")
        shutil.copyfile(Path(__file__).with_name(CONFIG), app / CONFIG)
        models.mkdir()
        for name in MODELS:
            shutil.copyfile(bundle.root / "models" / name, models / name)
    return output


def requirements(bundle: Bundle) -> list[str]:
    """Pinned packages of the bundle and of the application."""
    return sorted([*bundle.project["dependencies"], *bundle.project["optional-dependencies"]["deploy"]])


def package_command(folder: Path, version: str) -> str:
    """What builds the container; run it where Docker and holoscan-cli 4.2.0 are."""
    return (
        f"holoscan package {folder}/app -c {folder}/app/{CONFIG} -m {folder}/models --platform x86_64 "
        f"-t vertebra_biplanar_reconstruction:{version} --sdk monai-deploy --sdk-version {SDK[1]}"
    )


def main(output: Path) -> None:
    """Write the folders and say what to do with them."""
    bundle = Bundle(BUNDLE_ROOT)
    folder = write_application(bundle, output)
    print(package_command(folder, bundle.version))


if __name__ == "__main__":
    run_module(main)
