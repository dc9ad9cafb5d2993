"""The viewer in a real browser: what a surgeon does, and what must not be possible."""

from __future__ import annotations

import io
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import trimesh
from PIL import Image

from tests.conftest import ROOT
from tests.viewer_service import ARGUMENTS, CHROMIUM, engines, needs_browser, service, wait_for

pytestmark = needs_browser
SAMPLE = ROOT / "docs" / "sample"
playwright = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with service() as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """The page with the sample case, 1280 x 800; every request and error is kept."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page = context.new_page()
    page.requests, page.problems = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: page.problems.append(line.text) if line.type == "error" else None)
    page.goto(address)
    wait_for(lambda: page.locator(".mark").count() == 26, 400)
    yield page
    assert page.problems == []
    assert all(url.startswith((address, "blob:")) for url in page.requests)
    context.close()


def mark(page: Any, view: str, level: str) -> Any:
    return page.locator(f'svg[data-view={view}] .mark[data-level="{level}"]')


def place(page: Any, view: str, level: str) -> tuple[float, float]:
    found = mark(page, view, level)
    return float(found.get_attribute("data-row")), float(found.get_attribute("data-column"))


def centre(page: Any, view: str, level: str) -> tuple[float, float]:
    """Of a mark on the screen; marks that are just being drawn again are waited for."""
    boxes: list[Any] = []
    wait_for(lambda: boxes.append(mark(page, view, level).locator(".hit").bounding_box()) or boxes[-1], 10)
    return boxes[-1]["x"] + boxes[-1]["width"] / 2, boxes[-1]["y"] + boxes[-1]["height"] / 2


def drag(page: Any, view: str, level: str, dx: int, dy: int) -> None:
    x, y = centre(page, view, level)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2)
    page.mouse.move(x + dx, y + dy)
    page.mouse.up()


def pixels(page: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB"), dtype=float)


def reconstruct(page: Any, *levels: str) -> None:
    page.click("#choose-none")
    for level in levels:
        page.locator(f'#levels tr[data-level="{level}"] input[aria-label="reconstruct {level}"]').check()
    page.click("#reconstruct")
    wait_for(
        lambda: page.evaluate("viewer.scene.meshes.size") >= len(levels) and page.locator("#reconstruct").is_enabled(),
        300,
    )


def test_marks_move_together_and_every_edit_can_be_undone(page: Any) -> None:
    before = {view: place(page, view, "T8") for view in ("ap", "lat")}
    drag(page, "ap", "T8", 6, 12)
    row, column = place(page, "ap", "T8")
    assert row > before["ap"][0] + 2 and column > before["ap"][1] + 1
    assert place(page, "lat", "T8")[0] == pytest.approx(row, abs=1e-6)  # one height, parallel beams
    assert place(page, "lat", "T8")[1] == before["lat"][1]
    assert "set by hand" in mark(page, "ap", "T8").get_attribute("aria-label")
    page.keyboard.press("Control+z")
    assert place(page, "ap", "T8") == before["ap"] and place(page, "lat", "T8") == before["lat"]
    page.keyboard.press("Control+y")
    assert place(page, "ap", "T8")[0] == row
    page.uncheck("#linked")
    drag(page, "lat", "T8", 0, -9)
    assert place(page, "ap", "T8")[0] == row and place(page, "lat", "T8")[0] < row - 2
    miss = float(page.locator('#levels tr[data-level="T8"] .miss').inner_text())
    assert miss == pytest.approx(row - place(page, "lat", "T8")[0], abs=0.06)


def test_add_remove_and_relabel(page: Any) -> None:
    mark(page, "ap", "T5").focus()
    page.keyboard.press("Delete")
    assert mark(page, "ap", "T5").count() == mark(page, "lat", "T5").count() == 0
    # A double click between T4 and T6 proposes the level that is missing, in both views.
    (x, above), (_, below) = (centre(page, "ap", level) for level in ("T4", "T6"))
    page.mouse.dblclick(x, (above + below) / 2)
    assert mark(page, "ap", "T5").count() == mark(page, "lat", "T5").count() == 1
    assert place(page, "ap", "T5")[0] == pytest.approx(place(page, "lat", "T5")[0], abs=1e-6)
    # Its neighbours go along: T1 to L1 become C7 to T12.
    page.select_option("#relabel", "T4")
    assert mark(page, "ap", "C7").count() == 1 and mark(page, "ap", "L1").count() == 0
    assert page.locator("#selected-name").inner_text() == "T4"
    page.keyboard.press("Control+z")
    # Alone it would be a level that is taken; with those below L1 becomes L2.
    mark(page, "lat", "T6").focus()
    page.select_option("#scope", "one")
    page.select_option("#relabel", "T7")
    assert "taken" in page.locator("#toast").inner_text() and mark(page, "ap", "T6").count() == 1
    page.select_option("#scope", "below")
    page.select_option("#relabel", "T7")
    assert mark(page, "ap", "T5").count() == mark(page, "ap", "L2").count() == 1
    assert mark(page, "ap", "T6").count() == 0
    page.keyboard.press("Control+z")
    # Between two that follow each other a vertebra is inserted, and those below move down.
    rows = {level: place(page, "ap", level)[0] for level in ("T11", "T12", "L1")}
    (x, above), (_, below) = (centre(page, "ap", level) for level in ("T11", "T12"))
    page.mouse.dblclick(x + 45, (above + below) / 2)
    assert rows["T11"] < place(page, "ap", "T12")[0] < rows["T12"]
    assert place(page, "ap", "L1")[0] == rows["T12"] and place(page, "ap", "L2")[0] == rows["L1"]


def test_uncertain_levels_are_asked_for(page: Any, tmp_path: Path) -> None:
    marks = json.loads((SAMPLE / "annotations.json").read_text())
    assert not page.is_visible("#uncertain")
    (tmp_path / "annotations.json").write_text(json.dumps({**marks, "levels_uncertain": True}))
    page.click("#open")
    page.set_input_files("#file-ap", SAMPLE / "ap.nii.gz")
    page.set_input_files("#file-lat", SAMPLE / "lat.nii.gz")
    page.set_input_files("#file-annotations", tmp_path / "annotations.json")
    page.click("#open-go")
    page.wait_for_selector("#uncertain", state="visible")
    # Counted from one that is known, all are; that can be undone.
    mark(page, "ap", "T5").focus()
    page.select_option("#relabel", "T6")
    assert not page.is_visible("#uncertain") and mark(page, "ap", "L2").count() == 1
    page.keyboard.press("Control+z")
    assert page.is_visible("#uncertain") and mark(page, "ap", "L2").count() == 0
    page.click("#levels-right")
    assert not page.is_visible("#uncertain")
    with page.expect_download() as download:
        page.click("#save")
    saved = json.loads(Path(download.value.path()).read_text())
    assert saved["levels_uncertain"] is False
    assert [mark["level"] for mark in saved["views"]["ap"]["vertebrae"]] == [
        mark["level"] for mark in marks["views"]["ap"]["vertebrae"]
    ]


def test_reconstruction_is_drawn_turned_and_corrected(page: Any) -> None:
    empty = pixels(page)
    reconstruct(page, "T11", "T12")
    wait_for(lambda: (np.abs(pixels(page) - empty).sum(-1) > 60).mean() > 0.02, 30)
    first = pixels(page)
    page.locator("#azimuth").fill("120")
    wait_for(lambda: np.abs(pixels(page) - first).mean() > 0.5, 30)
    page.click('[data-preset="ap"]')
    assert page.locator("#azimuth").input_value() == "0"
    assert page.locator('svg[data-view=ap] .outline[data-level="T11"]').count() >= 1
    # Selecting in one pane selects in all.
    page.locator('#levels tr[data-level="T11"] .level').click()
    assert "selected" in mark(page, "lat", "T11").get_attribute("class")
    # A corrected mark: that vertebra is made again, the other one is not.
    keys = page.evaluate("Object.fromEntries([...viewer.scene.meshes].map(([level, m]) => [level, m.key]))")
    drag(page, "ap", "T11", 4, 0)
    changed = "Object.fromEntries([...viewer.scene.meshes].map(([level, m]) => [level, m.key]))"
    wait_for(lambda: page.evaluate(changed).get("T11") not in (None, keys["T11"]), 60)
    assert page.evaluate(changed)["T12"] == keys["T12"]
    # The shape before the correction, as a net and an outline; the films behind the spine; what was measured.
    wait_for(lambda: page.locator("#reconstruct").is_enabled(), 60)
    for option, outlines in (("#compare", 2), ("#films", 0)):
        without = pixels(page)
        page.check(option)
        wait_for(lambda without=without: np.abs(pixels(page) - without).mean() > 0.1, 30)
        assert page.locator(".outline.before").count() >= outlines
    wait_for(lambda: page.locator("#vertebra-measurements tbody tr").count() == 2, 60)
    level, rotation, wedge, heights = page.locator("#vertebra-measurements tbody tr").first.inner_text().split("\t")
    assert level == "T11" and "°" in rotation and "°" in wedge
    assert all(10 < float(height) < 40 for height in heights.split("/"))


def test_exploded_vertebrae_and_names_stay_in_sight(page: Any) -> None:
    reconstruct(page, "T10", "T11", "T12")
    page.check("#show-names")
    page.locator("#explode").fill("60")
    canvas = page.locator("#canvas").bounding_box()
    wait_for(lambda: page.locator("#names span").count() == 3, 30)
    for name in page.locator("#names span").all():
        box = name.bounding_box()
        assert canvas["y"] <= box["y"] and box["y"] + box["height"] <= canvas["y"] + canvas["height"]


def test_exports_open_elsewhere(page: Any, tmp_path: Path) -> None:
    reconstruct(page, "T12", "L1")

    def exported(kind: str) -> Path:
        with page.expect_download(timeout=240_000) as waiting:
            page.click(f'[data-kind="{kind}"]')
        path = tmp_path / f"out.{kind}"
        waiting.value.save_as(path)
        return path

    assert set(np.unique(np.asanyarray(nib.load(exported("nii.gz")).dataobj))) == {0, 19, 20}
    with zipfile.ZipFile(exported("stl")) as surfaces:
        assert surfaces.namelist() == ["L1.stl", "T12.stl"]
        for name in surfaces.namelist():
            assert trimesh.load_mesh(io.BytesIO(surfaces.read(name)), "stl").is_watertight
    assert set(trimesh.load_scene(exported("glb")).geometry) == {"T12", "L1"}
    files = zipfile.ZipFile(exported("dicom"))
    kinds = {
        pydicom.dcmread(io.BytesIO(files.read(name))).Modality for name in files.namelist() if name.endswith(".dcm")
    }
    assert kinds == {"SEG", "M3D"}
    with page.expect_download() as waiting:
        page.click("#save")
    waiting.value.save_as(tmp_path / "annotations.json")
    assert len(json.loads((tmp_path / "annotations.json").read_text())["views"]["ap"]["vertebrae"]) == 13


def test_a_storm_of_clicks_and_a_killed_engine_leave_it_usable(page: Any) -> None:
    page.click("#fit")
    box = page.locator("svg[data-view=ap]").bounding_box()
    for i in range(60):
        page.mouse.dblclick(box["x"] + box["width"] * (0.2 + 0.01 * i), box["y"] + box["height"] * (0.3 + 0.005 * i))
    for _ in range(70):
        page.keyboard.press("Control+z")
    assert page.locator(".mark").count() == 26
    working = engines()
    assert working
    for child in working:
        os.kill(child, signal.SIGKILL)
    reconstruct_or_error(page, "T10")
    reconstruct(page, "T10")
    assert page.evaluate("[...viewer.scene.meshes.keys()].includes('T10')")


def reconstruct_or_error(page: Any, level: str) -> None:
    page.click("#choose-none")
    page.locator(f'#levels tr[data-level="{level}"] input[aria-label="reconstruct {level}"]').check()
    page.click("#reconstruct")
    wait_for(lambda: page.locator("#reconstruct").is_enabled(), 300)


def test_keyboard_alone_is_enough(page: Any) -> None:
    row, _ = place(page, "ap", "T9")
    mark(page, "ap", "T9").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    assert place(page, "ap", "T9")[0] == pytest.approx(row + 11)
    page.keyboard.press("]")
    assert page.locator("#selected-name").inner_text() == "T10"
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    assert page.locator("#azimuth").input_value() == "0"


def test_two_windows_are_two_users(chromium: Any, address: str, page: Any) -> None:
    context = chromium.new_context()
    other = context.new_page()
    other.goto(address)
    wait_for(lambda: other.locator(".mark").count() == 26, 120)
    mark(page, "ap", "T3").focus()
    page.keyboard.press("Delete")
    other.reload()
    wait_for(lambda: other.locator(".mark").count() == 26, 120)
    assert mark(page, "ap", "T3").count() == 0
    context.close()
