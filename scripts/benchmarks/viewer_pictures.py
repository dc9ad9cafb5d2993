"""The interface as a user sees it, and how long it lets him wait: the pictures and times of ``docs/viewer.md``.

    python -m scripts.benchmarks.viewer_pictures --output FOLDER [--name sample] [--case CASE_FOLDER] [--size 1280,800]
        [--ap FILM --lat FILM] [--steps correct]

A case folder is one of a prepared dataset, or anything with ap.nii.gz, lat.nii.gz and annotations.json. Needs Chromium
and Playwright (the extra ``dev``).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.command import run_module
from scripts.paths import BUNDLE_ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
RECONSTRUCTED = "document.getElementById('reconstruct').disabled === false && viewer.scene.meshes.size > 0"
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"


def wait(condition: Callable[[], Any], seconds: float = 600) -> None:
    """Until a condition holds; Playwright's own waiting needs eval, which the page forbids."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def main(
    output: Path,
    name: str = "sample",
    case: Path | None = None,
    ap: Path | None = None,
    lat: Path | None = None,
    size: tuple[int, int] = (1280, 800),
    quality: int = 82,
) -> None:
    """Open a case, reconstruct it, turn it, and keep a JPEG of each state."""
    from playwright.sync_api import sync_playwright

    output.mkdir(parents=True, exist_ok=True)
    width, height = size
    files = {"ap": ap, "lat": lat}
    if case:
        files = {"ap": case / "ap.nii.gz", "lat": case / "lat.nii.gz", "annotations": case / "annotations.json"}
    options = [f"--{key}={value}" for key, value in files.items() if value]
    command = [sys.executable, "-W", "ignore", "-m", "scripts", "view", "--port=0", "--browser=False", *options]
    service = subprocess.Popen(command, cwd=BUNDLE_ROOT, stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    found = re.match(r"http://\S+", service.stdout.readline())
    assert found, "the service did not start"
    try:
        with sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": width, "height": height})
            page.on("pageerror", lambda error: print(f"page error: {error}"))

            def keep(state: str) -> None:
                picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
                picture.save(output / f"viewer_{name}_{state}.jpg", quality=quality)

            page.goto(found[0])
            started = time.monotonic()
            wait(lambda: page.locator(".mark").count() or page.locator("#toast").is_visible())
            print(f"first paint {page.evaluate(PAINTED):.0f} ms, marks after {time.monotonic() - started:.1f} s")
            keep("marks")
            started = time.monotonic()
            page.click("#reconstruct")
            total = page.evaluate("viewer.state.chosen.size")
            wait(lambda: page.evaluate("Object.keys(viewer.state.results).length") >= total)
            computed = time.monotonic()
            wait(lambda: page.evaluate(RECONSTRUCTED))
            done = time.monotonic()
            print(f"{total} vertebrae: masks {computed - started:.1f} s, all shown {done - computed:.1f} s later")
            time.sleep(1.5)
            keep("spine")
            page.click('[data-preset="side60"]')
            page.locator("#explode").fill("12")
            page.locator("#show-names").check()
            level = page.evaluate("viewer.state.levels()[Math.floor(viewer.state.levels().length / 2)]")
            page.locator(f'#levels tr[data-level="{level}"] .level').click()
            time.sleep(1)
            keep("chosen")
            browser.close()
    finally:
        service.terminate()
        service.wait(30)


if __name__ == "__main__":
    run_module(main)
