"""A folder that trains on a bare machine with a GPU, Python 3.12 and PyTorch, and no package index; see docs/gpu.md.

    python -m scripts.release.gpu_kit --cases CASES --output KIT [--python 3.12]

It holds our code, wheels of the few packages that such a machine lacks, the weights to begin with, online cases, and
``train.sh``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from scripts.command import run_module
from scripts.errors import UserError
from scripts.io.atomic import atomic_folder
from scripts.paths import BUNDLE_ROOT
from scripts.release.requirements import read_pins

# What a machine with PyTorch has, each with what it needs itself; and what training needs beside these.
ASSUMED = ("torch", "numpy", "scipy", "scikit-image", "matplotlib", "tensorboard", "pyyaml")
PACKAGES = ("monai", "pytorch-ignite", "fire", "termcolor", "nibabel", "edt", "trimesh", "tqdm")
CODE = ("scripts", "configs")
LEFT_OUT = ("scripts/viewer", "scripts/deploy", "configs/baselines", "configs/ablations", "scripts/benchmarks/drr")
WEIGHTS = ("models/model.pt", "models/localization.pt")
LIMIT_MB = 60.0
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
COMMAND = "bash train.sh --network level --minutes 10 --output out"
TRAIN = f"""#!/usr/bin/env bash
# {COMMAND}
set -euo pipefail
kit="$(cd "$(dirname "$0")" && pwd)"
if [ ! -d "$kit/site" ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$kit/site" "$kit"/wheels/*.whl
fi
export PYTHONPATH="$kit:$kit/site" PYTHONUNBUFFERED=1
python3 -m scripts.learning.gpu --cases "$kit/cases" "$@"
"""


def pack(cases: tuple[Path, ...], output: Path, python: str = "3.12") -> None:
    """Write the kit.

    Args:
        cases: folders of online cases (`scripts.data.online.build`), with commas.
        output: folder for the kit; an older kit is replaced.
        python: version on the bare machine.

    Raises:
        UserError: a folder holds no case, a wheel cannot be had, or the kit would be larger than 60 MB.
    """
    files = [path for folder in cases for path in sorted(folder.glob("*.npz"))]
    if not files:
        where = ", ".join(map(str, cases))
        raise UserError(f"{where}: no file of an online case (--cases); scripts.data.online.build makes them")
    with atomic_folder(output, marker="train.sh") as kit:
        for name in _tracked():
            target = kit / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(BUNDLE_ROOT / name, target)
        (kit / "cases").mkdir()
        for path in files:
            shutil.copy(path, kit / "cases" / path.name)
        _download(kit / "wheels", python)
        (kit / "train.sh").write_text(TRAIN)
        size = sum(path.stat().st_size for path in kit.rglob("*") if path.is_file()) / 1e6
        if size > LIMIT_MB:
            raise UserError(f"the kit would have {size:.0f} MB, more than {LIMIT_MB:.0f}: give fewer --cases")
    print(f"{output}: {len(files)} patients, {size:.0f} MB; there: {COMMAND}")


def _tracked() -> list[str]:
    """Files of the repository that belong into the kit."""
    command = ["git", "-C", str(BUNDLE_ROOT), "ls-files", *CODE, *WEIGHTS]
    try:
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"{BUNDLE_ROOT}: the kit is packed from a git checkout ({error})") from error
    return [name for name in listed if not name.startswith(LEFT_OUT)]


def _download(folder: Path, python: str) -> None:
    pins = read_pins(BUNDLE_ROOT / "constraints.txt")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "--dest", str(folder)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    try:
        subprocess.run([*command, *(f"{name}=={pins[name]}" for name in PACKAGES)], check=True)
    except subprocess.CalledProcessError as error:
        raise UserError(f"the wheels for Python {python} cannot be downloaded here (pip's message above)") from error


if __name__ == "__main__":
    run_module(pack)
