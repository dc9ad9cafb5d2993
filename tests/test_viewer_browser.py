"""The viewer in a real browser: what a surgeon does, and what must not be possible."""

from __future__ import annotations

import io
import json
import os
import shutil
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

from scripts.films.options import VIEWS
from scripts.geometry.biplanar import BiplanarGeometry
from scripts.io.annotations import read_annotations
from scripts.io.tables import read_csv
from scripts.levels import level_number
from tests.conftest import ROOT
from tests.dicom_films import SECRET, sample_film, write_dicom
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
    wait_for(lambda: page.locator("svg[data-view][aria-busy=true]").count() == 0, 30)
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
    """Of a mark on the screen; marks that are just being drawn again, and the film itself, are waited for."""
    wait_for(lambda: page.locator("svg[data-view][aria-busy=true]").count() == 0, 30)
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
    # One of them was set by hand; the other one only went along.
    assert "set by hand" in mark(page, "ap", "T8").get_attribute("aria-label")
    assert "set by hand" not in mark(page, "lat", "T8").get_attribute("aria-label")
    page.keyboard.press("Control+z")
    assert place(page, "ap", "T8") == before["ap"] and place(page, "lat", "T8") == before["lat"]
    page.keyboard.press("Control+y")
    assert place(page, "ap", "T8")[0] == row
    page.uncheck("#linked")
    drag(page, "lat", "T8", 0, -9)
    assert place(page, "ap", "T8")[0] == row and place(page, "lat", "T8")[0] < row - 2
    miss = float(page.locator('#levels tr[data-level="T8"] .miss').inner_text())
    assert miss == pytest.approx(row - place(page, "lat", "T8")[0], abs=0.06)
    # Removed while it is dragged: that is not an error.
    x, y = centre(page, "ap", "T5")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 9, y)
    page.keyboard.press("Delete")
    page.mouse.move(x + 30, y)
    page.mouse.up()
    assert mark(page, "ap", "T5").count() == 0


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
    automatic = json.loads(json.dumps(marks["views"]))
    for view in automatic.values():
        for found in view["vertebrae"]:
            # Half of the doubt is about the level.
            found |= {"set_by": "model", "confidence": 0.45, "level_posterior": {found["level"]: 0.5, "C1": 0.5}}
    unseen = automatic["lat"]["vertebrae"][2]
    unseen |= {"interpolated": True, "confidence": 0.0, "corners": None}
    content = {**marks, "views": automatic, "levels_uncertain": True}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    page.click("#open")
    choose(page, SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz", tmp_path / "annotations.json")
    page.wait_for_selector("#uncertain", state="visible")
    # Keys that open the help are not those of the vertebra that is selected.
    page.evaluate("viewer.state.select('T5')")
    page.locator("#uncertain summary").focus()
    page.keyboard.press("Space")
    assert page.evaluate("[viewer.state.chosen.has('T5'), document.querySelector('#uncertain details').open]") == [
        True, True
    ]  # fmt: skip
    # Counted from one that is known, all are; that can be undone.
    mark(page, "ap", "T5").focus()
    page.select_option("#relabel", "T6")
    assert not page.is_visible("#uncertain") and mark(page, "ap", "L2").count() == 1
    sure = "Object.values(viewer.state.marks).map(marks => Object.values(marks).map(mark => mark.confidence))"
    known = page.evaluate(sure)
    assert known[0] == [0.9] * 13 and known[1] == [0.9, 0.9, 0.0] + [0.9] * 10
    # There and back makes nothing surer.
    page.select_option("#relabel", "T5")
    assert page.evaluate(sure) == known
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert page.is_visible("#uncertain") and mark(page, "ap", "L2").count() == 0
    page.click("#levels-right")
    assert not page.is_visible("#uncertain")
    assert page.evaluate(sure) == known
    assert mark(page, "lat", "T3").get_attribute("aria-label").startswith("T3, interpolated")
    # Its place is the user's once it is itself put there.
    drag(page, "ap", "T3", 0, 2)
    assert mark(page, "lat", "T3").get_attribute("aria-label").startswith("T3, interpolated")
    drag(page, "lat", "T3", 3, 0)
    assert mark(page, "lat", "T3").get_attribute("aria-label").startswith("T3, set by hand")
    placed = page.evaluate("viewer.state.marks.lat.T3")
    assert placed["confidence"] == 1 and "interpolated" not in placed
    with page.expect_download() as download:
        page.click("#save")
    saved = json.loads(Path(download.value.path()).read_text())
    assert saved["levels_uncertain"] is False
    assert [mark["level"] for mark in saved["views"]["ap"]["vertebrae"]] == [
        mark["level"] for mark in marks["views"]["ap"]["vertebrae"]
    ]


def test_reconstruction_is_drawn_turned_and_corrected(page: Any) -> None:
    empty = pixels(page)
    reconstruct(page, "T11", "T5")
    wait_for(lambda: (np.abs(pixels(page) - empty).sum(-1) > 60).mean() > 0.02, 30)
    first = pixels(page)
    page.locator("#azimuth").fill("120")
    wait_for(lambda: np.abs(pixels(page) - first).mean() > 0.5, 30)
    page.click('[data-preset="ap"]')
    assert page.locator("#azimuth").input_value() == "0"
    assert page.locator('svg[data-view=ap] .outline[data-level="T11"]').count() >= 1
    # Letters as on the films, and as the directions turn.
    turned = {"front": (0, 0), "left": (90, 0), "back": (180, 0), "right": (-90, 0), "above": (0, 90)}
    letters = []
    for azimuth, elevation in turned.values():
        page.evaluate("angles => viewer.scene.view(...angles)", [azimuth, elevation, 0])
        page.evaluate("viewer.scene.draw()")
        letters.append("".join(page.locator("#names b").all_inner_texts()))
    assert letters == ["RL", "AP", "LR", "PA", "RL"]
    assert [page.locator(f"svg[data-view={view}] .letters").text_content() for view in VIEWS] == letters[:2]
    page.click('[data-preset="ap"]')
    # Selecting in one pane selects in all.
    page.locator('#levels tr[data-level="T11"] .level').click()
    assert "selected" in mark(page, "lat", "T11").get_attribute("class")
    # A corrected mark: that vertebra is made again, the other one is not.
    keys = page.evaluate("Object.fromEntries([...viewer.scene.meshes].map(([level, m]) => [level, m.key]))")
    drag(page, "ap", "T11", 4, 0)
    changed = "Object.fromEntries([...viewer.scene.meshes].map(([level, m]) => [level, m.key]))"
    wait_for(lambda: page.evaluate(changed).get("T11") not in (None, keys["T11"]), 60)
    assert page.evaluate(changed)["T5"] == keys["T5"]
    # The shape before the correction, as a net and an outline; the films behind the spine; what was measured.
    wait_for(lambda: page.locator("#reconstruct").is_enabled(), 60)
    for option, outlines in (("#compare", 2), ("#films", 0)):
        without = pixels(page)
        page.check(option)
        wait_for(lambda without=without: np.abs(pixels(page) - without).mean() > 0.1, 30)
        assert page.locator(".outline.before").count() >= outlines
    wait_for(lambda: page.locator("#vertebra-measurements tbody tr").count() == 2, 60)
    level, rotation, wedge, heights = page.locator("#vertebra-measurements tbody tr").last.inner_text().split("\t")
    assert level == "T11" and "°" in rotation and "°" in wedge
    assert all(10 < float(height) < 40 for height in heights.split("/"))
    # A step back is no correction: there is nothing to compare with.
    nets = "[...viewer.scene.before.values()].filter(({ mesh }) => mesh.visible).length"
    assert page.evaluate(nets) == 1
    page.keyboard.press("Control+z")
    wait_for(lambda: page.evaluate(changed) == keys and page.evaluate(nets) == 0, 20)
    assert page.locator(".outline.before").count() == 0


def use(page: Any, level: str) -> str:
    return page.locator(f'#levels tr[data-level="{level}"] .status').inner_text()


def settled(page: Any) -> bool:
    """Whether nothing is computed, and all that is shown is current and measured."""
    return page.locator("#reconstruct").is_enabled() and page.evaluate("viewer.state.anglesNow !== undefined")


def test_one_status_with_its_reason_in_list_films_and_scene(page: Any) -> None:
    reconstruct(page, "T10", "T11", "T12")
    wait_for(lambda: settled(page), 60)
    assert all(use(page, level).startswith("good 0.") for level in ("T10", "T11", "T12"))
    drag(page, "ap", "T11", 30, 0)
    wait_for(lambda: use(page, "T11") == "outdated", 5)
    wait_for(lambda: settled(page), 120)
    assert use(page, "T11") == "do not use"
    assert "out of line" in page.locator('#levels tr[data-reasons-of="T11"]').inner_text()
    for view in ("ap", "lat"):
        label = mark(page, view, "T11").get_attribute("aria-label")
        assert "do not use: lies" in label and "out of line" in label
        assert mark(page, view, "T11").locator("text").text_content() == "T11 do not use"
        assert page.locator(f"svg[data-view={view}] .outline.do-not-use").count() >= 1
    wait_for(lambda: page.locator("#names span").all_inner_texts() == ["T11 do not use"], 10)
    assert "± 0.0" not in page.locator("aside").inner_text()


def choose(page: Any, *files: Path) -> None:
    page.set_input_files("#choose-files", files)


def open_pictures(page: Any, folder: Path) -> None:
    """The sample's films as pictures without a scale, with their marks."""
    for view in ("ap", "lat"):
        film = np.asarray(nib.load(SAMPLE / f"{view}.nii.gz").dataobj).squeeze().astype(float)
        film = (film - film.min()) / np.ptp(film) * 255
        Image.fromarray(film.astype(np.uint8)).save(folder / f"{view}.png")
    page.click("#open")
    choose(page, folder / "ap.png", folder / "lat.png", SAMPLE / "annotations.json")
    # Their names alone are not enough: the user is asked.
    wait_for(lambda: page.locator("#open-go").is_enabled() and page.locator(".busy").count() == 0, 60)
    assert page.locator(".tile .view-said").all_inner_texts() == [
        f"{view} is only guessed from the file's name: look at it" for view in ("AP", "LAT")
    ]
    page.click("#open-go")
    wait_for(lambda: page.is_visible("#scale-note"), 60)


def test_lengths_of_uncalibrated_films_say_so_where_they_stand(page: Any, tmp_path: Path) -> None:
    page.check("#films")
    open_pictures(page, tmp_path)
    assert "not calibrated" in page.locator("#scale-note").inner_text()
    assert page.locator('#levels tr[data-level="T11"] .miss').inner_text().startswith("≈")
    reconstruct(page, "T10", "T11", "T12")
    wait_for(lambda: settled(page), 60)
    assert page.locator("#vertebra-measurements tbody tr td:last-child").first.inner_text().startswith("≈")
    # The films behind the spine are this case's, as the box says, and hang as its geometry is.
    hanging = "viewer.scene.films.map(film => [...film.geometry.attributes.position.array])"
    before = page.evaluate(hanging)
    assert len(before) == 2
    # A mark moves the geometry of all: at once, and until they are made again, all are outdated.
    page.click("#choose-none")
    drag(page, "ap", "T2", 8, 3)
    wait_for(lambda: [use(page, level) for level in ("T10", "T11", "T12")] == ["outdated"] * 3, 5)
    assert page.locator(".outline.outdated").count() >= 6
    wait_for(lambda: page.evaluate("viewer.state.saved === viewer.state.now"), 30)
    wait_for(lambda: page.evaluate(hanging) != before, 10)
    page.wait_for_timeout(1500)
    assert [use(page, level) for level in ("T10", "T11", "T12")] == ["outdated"] * 3
    assert page.locator("#vertebra-measurements tbody tr").count() == 0


def test_films_share_one_scale_and_marks_follow_only_where_heights_are_shared(page: Any, tmp_path: Path) -> None:
    films = [page.locator(f"svg[data-view={view}]") for view in ("ap", "lat")]

    def scales() -> list[float]:
        return [film.evaluate("film => film.getScreenCTM().a") for film in films]

    def heights(level: str) -> list[float]:
        return [centre(page, view, level)[1] for view in ("ap", "lat")]

    def lines() -> list[float]:
        return [box["y"] for line in page.locator(".pointer").all() if (box := line.bounding_box())]

    def aligned() -> None:
        assert scales()[0] == pytest.approx(scales()[1], rel=1e-6)
        for level in ("T2", "L1"):
            assert heights(level)[0] == pytest.approx(heights(level)[1], abs=1)

    aligned()
    x, y = centre(page, "lat", "T8")
    page.mouse.move(x, y)
    assert lines() == pytest.approx([y, y], abs=1.5)
    scale = scales()[0]
    page.mouse.wheel(0, -500)
    wait_for(lambda: scales()[0] > 1.5 * scale, 10)
    aligned()
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x - 40, y + 50)
    page.mouse.up()
    assert heights("T8") == pytest.approx([y + 50] * 2, abs=2)
    aligned()
    # A mirrored film has its letters mirrored at once.
    page.click("section[data-view=ap] [data-tool=flip]")
    assert page.locator("svg[data-view=ap] .letters").text_content() == "LR"
    page.click("section[data-view=ap] [data-tool=flip]")
    # Films that do not say how they lie to each other: one scale, but no mark moves or sets another one.
    open_pictures(page, tmp_path)
    page.click("#choose-none")
    assert page.locator("#linked").is_disabled() and scales()[0] == pytest.approx(scales()[1], rel=1e-6)
    before = place(page, "lat", "T2"), place(page, "ap", "T2")
    drag(page, "ap", "T2", 5, -6)
    assert place(page, "lat", "T2") == before[0] and place(page, "ap", "T2") != before[1]
    page.mouse.move(*centre(page, "ap", "T5"))
    assert [line.get_attribute("visibility") for line in page.locator(".pointer").all()] == ["visible", "hidden"]


def test_nothing_outdated_is_shown_as_current_or_exported(page: Any) -> None:
    reconstruct(page, "T2", "T11")
    wait_for(lambda: settled(page), 60)
    assert page.locator("#vertebra-measurements tbody tr").count() == 2
    # What is exported is measured: no vertebra that is not ticked, and none is left out without a word.
    tick = page.locator('#levels input[aria-label="reconstruct T11"]')
    tick.uncheck()
    wait_for(lambda: settled(page) and use(page, "T2") != "being checked", 60)
    assert use(page, "T11") == "not ticked" and "T11: not ticked" in page.locator("#measure-note").inner_text()
    assert page.locator("#vertebra-measurements tbody tr").all_inner_texts()[0].startswith("T2")
    assert page.locator("#vertebra-measurements tbody tr").count() == 1
    page.locator('#levels input[aria-label="reconstruct T12"]').check()
    page.click('[data-kind="csv"]')
    wait_for(lambda: "not reconstructed: T12" in page.locator("#toast").inner_text(), 20)
    page.locator('#levels input[aria-label="reconstruct T12"]').uncheck()
    tick.check()
    wait_for(lambda: settled(page) and use(page, "T11").startswith("good"), 60)
    # Another name: the old numbers, shapes and outlines go.
    mark(page, "ap", "T11").focus()
    page.select_option("#scope", "below")
    page.select_option("#relabel", "T12")
    assert page.locator("#vertebra-measurements tbody tr").count() == 0
    assert page.evaluate("viewer.scene.meshes.size") == 0 and page.locator(".outline").count() == 0
    page.keyboard.press("Control+z")
    # Undo: shapes, numbers and ticks are back, without computing.
    wait_for(lambda: page.evaluate("viewer.scene.meshes.size") == 2 and settled(page), 10)
    assert use(page, "T11").startswith("good") and page.locator("#vertebra-measurements tbody tr").count() == 2
    # Untouched by the page's own refreshing, the service refuses what is outdated and says the way out. What T11 shows
    # tells nothing new of T2.
    page.evaluate("clearTimeout(viewer.work.timer); viewer.work.reconstruct = async () => {}")
    drag(page, "ap", "T11", 5, 0)
    assert use(page, "T11") == "outdated"
    page.click('[data-kind="csv"]')
    wait_for(lambda: "outdated or not reconstructed: T11" in page.locator("#toast").inner_text(), 20)
    assert "untick" in page.locator("#toast").inner_text()
    assert "outdated" in page.locator("#measure-note").inner_text()
    page.locator('#levels input[aria-label="reconstruct T11"]').uncheck()
    with page.expect_download() as waiting:
        page.click('[data-kind="csv"]')
    assert [row["level"] for row in read_csv(Path(waiting.value.path()))] == ["T2"]
    page.problems.clear()  # the refusal itself


def test_what_is_removed_or_moved_while_computing_stays_so(page: Any) -> None:
    page.click("#choose-none")
    for level in ("T4", "T8", "T12"):
        page.locator(f'#levels input[aria-label="reconstruct {level}"]').check()
    page.evaluate("""() => {
        viewer.drawn = [];
        const put = viewer.scene.put.bind(viewer.scene);
        viewer.scene.put = (level, key, surface) => { viewer.drawn.push(level); put(level, key, surface); };
    }""")
    page.click("#reconstruct")
    mark(page, "ap", "T4").focus()
    page.keyboard.press("Delete")
    drag(page, "ap", "T8", 6, 0)
    wait_for(lambda: "T8" in page.evaluate("Object.keys(viewer.state.results)") and settled(page), 120)
    page.wait_for_timeout(500)
    # T4 came when it was no longer there: not for a moment is it drawn.
    assert set(page.evaluate("viewer.drawn")) == {"T8", "T12"}
    assert set(page.evaluate("[...viewer.scene.meshes.keys()]")) == {"T8", "T12"}
    assert page.locator('.outline[data-level="T4"]').count() == 0
    # What is shown of T8 was made from the mark as it is now.
    column = place(page, "ap", "T8")[1]
    assert page.evaluate("viewer.state.results.T8.marks.ap")[1] == column and use(page, "T8") != "outdated"
    page.problems.clear()  # what was asked for and is no longer marked


def test_steps_restore_marks_ticks_confidences_and_shapes(page: Any) -> None:
    reconstruct(page, "T9", "T10")
    wait_for(lambda: settled(page), 60)

    def seen() -> list[Any]:
        made = "[...viewer.scene.meshes].map(([level, m]) => [level, m.key]).sort()"
        ticks = page.locator('#levels input[aria-label^="reconstruct"]').all()
        return [
            page.evaluate(made), [box.is_checked() for box in ticks], use(page, "T9"), use(page, "T10"),
            page.locator(".mark").evaluate_all("marks => marks.map(m => m.outerHTML)"),
        ]  # fmt: skip

    before, steps = seen(), page.evaluate("JSON.stringify(viewer.state.history.map(s => s.marks))")
    mark(page, "ap", "T9").focus()
    before[4] = seen()[4]
    page.keyboard.press("Delete")
    assert "T9" not in page.evaluate("[...viewer.scene.meshes.keys()]")
    page.keyboard.press("Control+z")
    mark(page, "ap", "T9").focus()
    wait_for(lambda: seen() == before, 20)
    page.keyboard.press("Shift+ArrowRight")
    wait_for(lambda: settled(page) and seen()[0] != before[0], 60)
    after = seen()
    page.keyboard.press("Control+z")
    wait_for(lambda: seen() == before, 20)
    page.keyboard.press("Control+y")
    wait_for(lambda: seen() == after, 20)
    # Inserting and renumbering are steps like others.
    (x, above), (_, below) = (centre(page, "ap", level) for level in ("T11", "T12"))
    page.mouse.dblclick(x + 45, (above + below) / 2)
    assert page.locator('#levels tr[data-level="L2"]').count() == 1
    page.keyboard.press("Control+z")
    wait_for(lambda: seen()[:4] == after[:4], 20)
    # A tick is a step too; and nothing that was once a step has changed.
    page.locator('#levels input[aria-label="reconstruct T10"]').uncheck()
    page.keyboard.press("Control+z")
    assert page.locator('#levels input[aria-label="reconstruct T10"]').is_checked()
    assert page.evaluate("JSON.stringify(viewer.state.history.map(s => s.marks))").startswith(steps[:-1])


def test_wrong_levels_are_asked_about_and_confirmed(page: Any) -> None:
    assert not page.is_visible("#uncertain")
    (_, there), (_, here) = (centre(page, "ap", level) for level in ("T10", "T8"))
    drag(page, "ap", "T8", 0, int(there - here) + 8)
    assert page.is_visible("#uncertain")
    assert "is marked above T8" in page.locator("#level-doubts").inner_text()
    page.click("#levels-right")
    assert "correct that" in page.locator("#toast").inner_text()
    assert "not confirmed" in page.locator("#levels-state").inner_text()
    page.keyboard.press("Control+z")
    assert not page.is_visible("#uncertain")
    page.click("#levels-right")
    assert page.locator("#levels-state").inner_text() == "Levels confirmed by you."
    with page.expect_download() as download:
        page.click("#save")
    assert json.loads(Path(download.value.path()).read_text())["levels_confirmed"] is True
    # Counted from the vertebra with the last ribs; what was confirmed no longer is, until one goes back.
    mark(page, "ap", "T11").focus()
    page.evaluate("document.querySelector('[data-is-level=T12]').click()")
    assert mark(page, "ap", "L2").count() == 1 and "not confirmed" in page.locator("#levels-state").inner_text()
    page.keyboard.press("Control+z")
    assert page.locator("#levels-state").inner_text() == "Levels confirmed by you."


def test_work_is_kept_offered_again_and_discarded_only_when_asked(page: Any, address: str) -> None:
    reconstruct(page, "T11")
    wait_for(lambda: settled(page), 60)
    drag(page, "ap", "T3", 7, 0)
    wait_for(lambda: settled(page) and page.evaluate("viewer.state.saved === viewer.state.now"), 60)
    column = place(page, "ap", "T3")[1]
    page.wait_for_timeout(400)
    # A reload offers what was there: marks, steps and shapes.
    page.reload()
    wait_for(lambda: page.is_visible("#resume"), 60)
    assert "2 changes" not in page.locator("#drafts").inner_text() and "change" in page.locator("#drafts").inner_text()
    assert place(page, "ap", "T3")[1] != column
    page.locator("#drafts button", has_text="Resume").click()
    wait_for(lambda: place(page, "ap", "T3")[1] == column, 30)
    wait_for(lambda: page.evaluate("[...viewer.scene.meshes.keys()]") == ["T11"] and settled(page), 60)
    page.keyboard.press("Control+z")
    assert place(page, "ap", "T3")[1] != column
    page.keyboard.press("Control+y")
    # Another case: nothing is discarded without a word.
    page.click("#sample")
    assert page.is_visible("#leave")
    page.locator("#leave button", has_text="Cancel").click()
    assert place(page, "ap", "T3")[1] == column
    page.click("#sample")
    page.click("#leave-keep")
    wait_for(lambda: page.is_visible("#resume-open") and place(page, "ap", "T3")[1] != column, 30)
    # The service forgets everything, as after a crash: the same films take the marks again.
    draft = page.evaluate("JSON.parse(localStorage.getItem(Object.keys(localStorage)[0]))")
    assert page.evaluate("id => fetch(`/api/cases/${id}`, { method: 'DELETE' }).then(a => a.ok)", draft["id"])
    page.click("#resume-open")
    page.locator("#drafts button", has_text="Resume").click()
    wait_for(lambda: place(page, "ap", "T3")[1] == column, 30)
    assert not page.is_visible("#resume") and not page.is_visible("#resume-open")
    # A service that has lost the case: the window writes the marks.
    name = page.evaluate("viewer.state.case.id")
    page.wait_for_timeout(400)
    assert page.evaluate("id => fetch(`/api/cases/${id}`, { method: 'DELETE' }).then(a => a.ok)", name)
    drag(page, "ap", "T3", 3, 0)
    with page.expect_download() as download:
        page.click("#save")
    written = read_annotations(Path(download.value.path()))
    assert written.ap.film and written.ap.by_level()[level_number("T3")].centroid[1] == place(page, "ap", "T3")[1]
    # Closing deletes what there is, here and at the service.
    drag(page, "ap", "T3", 3, 0)
    page.wait_for_timeout(400)
    page.click("#close")
    assert not page.is_visible("#leave-keep")
    page.click("#leave-discard")
    opened(page, name)
    assert page.evaluate("Object.keys(localStorage)") == []
    wait_for(lambda: page.evaluate("id => fetch(`/api/cases/${id}`).then(a => a.status)", name) == 404, 10)
    page.reload()
    wait_for(lambda: page.locator(".mark").count() == 26, 60)
    page.wait_for_timeout(300)
    assert not page.is_visible("#resume")
    # Shapes alone are kept without a question.
    reconstruct(page, "T11")
    wait_for(lambda: settled(page), 60)
    page.click("#sample")
    wait_for(lambda: page.is_visible("#resume-open"), 30)
    assert not page.is_visible("#leave")
    page.problems.clear()  # the cases that are gone


KEPT = "Object.values(localStorage).map(JSON.parse).map(draft => draft.steps.map(step => step.what)).sort()"


def opened(page: Any, old: str) -> None:
    """Wait until another case is open than one that was."""
    wait_for(lambda: page.evaluate("viewer.state.case.id") != old, 60)
    page.wait_for_timeout(400)


def test_resumed_steps_take_the_place_of_none_that_are_to_be_kept(page: Any) -> None:
    """The same films are open with other steps, and the service has lost the case that is resumed."""
    first = page.evaluate("viewer.state.case.id")
    drag(page, "ap", "T3", 7, 0)
    page.click("#sample")
    page.click("#leave-keep")
    opened(page, first)
    page.evaluate("id => fetch(`/api/cases/${id}`, { method: 'DELETE' })", first)
    drag(page, "ap", "T5", 7, 0)
    drag(page, "ap", "T6", 7, 0)
    page.wait_for_timeout(400)
    both = [["opened", "move T3"], ["opened", "move T5", "move T6"]]
    assert page.evaluate(KEPT) == both

    def resume() -> list[str]:
        page.click("#resume-open")
        page.locator("#drafts button", has_text="Resume").click()
        page.click("#leave-keep")
        wait_for(lambda: page.locator("#status").inner_text() == "resumed", 30)
        page.wait_for_timeout(400)
        assert page.evaluate(KEPT) == both
        page.evaluate("document.querySelector('#status').textContent = ''")
        return page.evaluate("viewer.state.history.map(step => step.what)")

    # An error that may pass takes nothing away.
    page.route(f"**/api/cases/{first}", lambda route: route.fulfill(status=503, json={"error": "too much is waiting"}))
    page.click("#resume-open")
    page.locator("#drafts button", has_text="Resume").click()
    page.click("#leave-keep")
    wait_for(lambda: "too much is waiting" in page.locator("#resume-error").inner_text(), 30)
    assert page.evaluate(KEPT) == both
    page.unroute(f"**/api/cases/{first}")
    page.locator("#resume button", has_text="Not now").click()
    assert resume() == both[0]
    assert resume() == both[1]
    page.problems.clear()  # the cases that are gone


def film_brightness(page: Any, view: str) -> float:
    """The mean of a film's picture on the screen, without what is drawn on it."""
    page.evaluate("document.querySelectorAll('.marks').forEach(marks => { marks.style.visibility = 'hidden'; })")
    picture = Image.open(io.BytesIO(page.locator(f"svg[data-view={view}]").screenshot())).convert("L")
    page.evaluate("document.querySelectorAll('.marks').forEach(marks => { marks.style.visibility = ''; })")
    return float(np.asarray(picture, float).mean())


def test_edits_made_while_another_case_opens_are_kept(page: Any) -> None:
    first, held = page.evaluate("viewer.state.case.id"), []
    page.route("**/api/sample", lambda route: held.append(route))
    page.click("#sample")
    wait_for(lambda: page.wait_for_timeout(50) or held, 20)
    answer = held[0].fetch()
    assert not page.is_visible("#leave")
    drag(page, "ap", "T3", 9, 0)
    page.wait_for_timeout(600)
    # The last one comes just before the other case does.
    page.evaluate("viewer.state.remove('T5')")
    films: list[Any] = []
    page.route("**/ap.png", lambda route: films.append(route))
    page.route("**/lat.png", lambda route: route.abort())
    held[0].fulfill(response=answer)
    opened(page, first)
    # Without its picture a film is empty, not the former patient's, and its marks cannot be moved.
    wait_for(lambda: page.wait_for_timeout(50) or films, 20)
    wait_for(lambda: page.locator(".missing").all_inner_texts() == ["", "LAT: the picture could not be loaded"], 10)
    assert film_brightness(page, "ap") < 3 and film_brightness(page, "lat") < 3
    column = place(page, "ap", "T3")[1]
    for view in ("ap", "lat"):
        box = mark(page, view, "T3").locator(".hit").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 30, box["y"] + 30)
        page.mouse.up()
        page.keyboard.press("ArrowRight")
    assert place(page, "ap", "T3")[1] == column and page.evaluate("viewer.state.history.length") == 1
    films[0].continue_()
    wait_for(lambda: film_brightness(page, "ap") > 20, 20)
    page.problems.clear()  # the picture that never came
    assert page.evaluate(KEPT) == [["opened", "move T3", "remove T5"]]
    assert page.is_visible("#resume-open") and "is kept" in page.locator("#toast").inner_text()
    assert page.evaluate("id => fetch(`/api/cases/${id}`).then(answer => answer.status)", first) == 200


def test_what_one_case_still_lacked_is_not_computed_for_the_next(page: Any) -> None:
    old = page.evaluate("viewer.state.case.id")
    page.click("#reconstruct")
    wait_for(lambda: page.evaluate("Object.keys(viewer.state.results).length") >= 1, 120)
    page.click("#sample")
    opened(page, old)
    wait_for(lambda: page.evaluate("!viewer.work.running"), 60)
    page.wait_for_timeout(500)
    assert page.evaluate("[viewer.work.running, Object.keys(viewer.state.results).length]") == [False, 0]
    assert sum(url.endswith("/reconstruct") for url in page.requests) == 2  # asked for once, and cancelled


def test_exploded_vertebrae_and_names_stay_in_sight(page: Any) -> None:
    reconstruct(page, "T10", "T11", "T12")
    page.check("#show-names")
    page.locator("#explode").fill("60")
    canvas = page.locator("#canvas").bounding_box()

    def drawn() -> list[Any]:
        """Boxes of the three names, once all are shown at the same time."""
        boxes = [name.bounding_box() for name in page.locator("#names span").all()]
        return boxes if len(boxes) == 3 and all(boxes) else []

    seen: list[list[Any]] = []
    wait_for(lambda: seen.append(drawn()) or seen[-1], 30)
    for box in seen[-1]:
        assert canvas["y"] <= box["y"] and box["y"] + box["height"] <= canvas["y"] + canvas["height"]


def drop(page: Any, path: Path) -> None:
    """A file or folder on the page, as the browser gets it from the system."""
    devtools = page.context.new_cdp_session(page)
    what = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": what})


def shown_film(page: Any, tile: str) -> np.ndarray:
    """A film as it is drawn for choosing, without the black beside it."""
    picture = Image.open(io.BytesIO(page.locator(f"{tile} svg").screenshot())).convert("L")
    width, height = (float(value) for value in page.locator(f"{tile} svg").get_attribute("viewBox").split()[2:])
    across = picture.height * width / height
    left = (picture.width - across) / 2
    return np.asarray(picture.crop((round(left), 0, round(left + across), picture.height)).resize((90, 80)), float)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    small = [np.asarray(Image.fromarray(film.astype(np.float32)).resize((90, 80)), float) for film in (one, other)]
    return float(np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1])


def test_a_dropped_study_opens_by_its_headers(page: Any, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_dicom(study / "1" / "IM1", "lat", PixelSpacing=[0.9, 0.9])
    write_dicom(study / "2" / "more" / "1.2.3", "ap", PixelSpacing=[0.9, 0.9])
    write_dicom(study / "2" / "slice", "ap", Modality="CT")
    (study / "readme.txt").write_text("of a disc")
    shutil.copy(SAMPLE / "annotations.json", study / "marks.json")
    case = page.evaluate("viewer.state.case.id")
    page.evaluate("""() => {
        viewer.said = new Set();
        const line = document.getElementById("open-status");
        new MutationObserver(() => viewer.said.add(line.textContent)).observe(line, { childList: true });
    }""")
    drop(page, study)
    wait_for(lambda: page.evaluate("viewer.state.case.id") != case, 60)
    assert page.evaluate("viewer.state.case.views") == {
        "ap": {"shape": [333, 360], "pixel_mm": [0.9, 0.9]},
        "lat": {"shape": [333, 275], "pixel_mm": [0.9, 0.9]},
    }
    assert page.locator(".mark").count() == 26 and not page.is_visible("#open-dialog")
    said = " ".join(page.evaluate("[...viewer.said]"))
    assert all(word in said for word in ("sending", "of 5", "reading the films…", "reading the marks…"))
    assert SECRET not in page.content()


def test_pictures_without_names_are_chosen_turned_and_calibrated_by_keyboard(page: Any, tmp_path: Path) -> None:
    films = {view: sample_film(view) / sample_film(view).max() * 200 for view in ("ap", "lat")}
    # The lateral one lies, the frontal one is mirrored and has dark bones.
    for name, film in (("1", np.rot90(films["lat"])), ("2", 200 - films["ap"][:, ::-1])):
        Image.fromarray(film.astype(np.uint8)).save(tmp_path / f"{name}.png")
    page.keyboard.press("o")
    choose(page, tmp_path / "1.png", tmp_path / "2.png", SAMPLE / "annotations.json", ROOT / "README.md")
    wait_for(lambda: page.locator("#found-films li").count() == 2 and page.locator(".busy").count() == 0, 60)
    assert page.locator("#refused").text_content().startswith("Not used: 1README.md: neither DICOM")
    assert "does not say which view" in page.locator("#found-films li").first.inner_text()
    assert page.locator("#open-go").is_disabled() and not page.is_visible("#tiles")

    def press(what: str, key: str = "Enter") -> None:
        page.locator(what).focus()
        page.keyboard.press(key)

    # Of two the other one is then the lateral one.
    press('[aria-label="1.png is the frontal film"]')
    assert page.locator(".tile .given").all_inner_texts() == ["1.png", "2.png"]
    press("#swap")
    assert page.locator(".tile .given").all_inner_texts() == ["2.png", "1.png"]
    ap, lat = (f".tile[data-slot={view}]" for view in ("ap", "lat"))
    for what in (f"{lat} [data-do=turn]", f"{ap} [data-do=mirror]", f"{ap} [data-do=invert]"):
        press(what)
    wait_for(lambda: alike(shown_film(page, ap), films["ap"]) > 0.97, 10)
    assert alike(shown_film(page, lat), films["lat"]) > 0.97
    # A line from its ends by the arrow keys, for the lateral film alone; Escape leads back only.
    press(f"{lat} [data-do=measure]")
    page.keyboard.press("Escape")
    assert page.is_visible("#open-dialog") and not page.is_visible("#ruler")
    press(f"{lat} [data-do=measure]")
    assert "not at the detector" in page.locator("#ruler").inner_text()
    assert page.evaluate("document.activeElement.dataset.end") == "0"
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert "column 138, row 217" in page.evaluate("document.activeElement.ariaLabel")
    page.fill("#ruler-mm", "1000000")
    assert page.locator("#ruler-use").is_disabled()
    page.fill("#ruler-mm", "88,7")
    press("#ruler-use")
    spacing = 88.7 / (0.3 * 333 + 11)
    assert float(page.locator(f"{lat} input").input_value()) == pytest.approx(spacing, rel=1e-4)
    assert "set by you" in page.locator(f"{lat} .scale").inner_text()
    assert "not known" in page.locator(f"{ap} .scale").inner_text()
    case = page.evaluate("viewer.state.case.id")
    press("#open-go")
    wait_for(lambda: page.evaluate("viewer.state.case.id") != case, 60)
    views = page.evaluate("viewer.state.case.views")
    assert views["lat"] == {"shape": [333, 275], "pixel_mm": pytest.approx([spacing, spacing])}
    # The other one has its scale from this one and the heights of the marks.
    assert views["ap"]["shape"] == [333, 360] and views["ap"]["pixel_mm"][0] == pytest.approx(spacing, rel=0.05)
    assert "LAT: scale given by the user" in page.evaluate("viewer.state.case.warnings")
    for view in ("ap", "lat"):
        url = page.evaluate("view => `/api/cases/${viewer.state.case.id}/${view}.png`", view)
        picture = Image.open(io.BytesIO(page.request.get(page.url.split("?")[0].rstrip("/") + url).body()))
        assert alike(np.asarray(picture, float), films[view]) > 0.97


def test_reading_can_be_cancelled_and_what_was_sent_is_deleted(page: Any) -> None:
    (engine,) = engines()
    os.kill(engine, signal.SIGSTOP)
    try:
        page.keyboard.press("o")
        choose(page, SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz")
        wait_for(lambda: page.locator("#open-status").inner_text().startswith("reading 1 of 2, ap.nii.gz"), 20)
        assert page.evaluate("document.activeElement.id") == "open-cancel"
        page.keyboard.press("Enter")
        wait_for(lambda: page.locator(".busy").count() == 0, 20)
    finally:
        os.kill(engine, signal.SIGCONT)
    # What the cancelled file left does no harm. One film alone opens nothing, and is gone once the dialog is closed.
    choose(page, SAMPLE / "ap.nii.gz", SAMPLE / "labelmap.nii.gz")
    wait_for(lambda: page.locator("#found-films li").count() == 1 and page.locator(".busy").count() == 0, 60)
    assert page.locator("#open-go").is_disabled()
    url = page.locator("#found-films image").first.get_attribute("href")
    answers = "url => fetch(url).then(answer => answer.status)"
    assert page.evaluate(answers, url) == 200
    page.keyboard.press("Escape")
    wait_for(lambda: page.evaluate(answers, url) == 404, 20)
    assert page.locator(".mark").count() == 26
    page.problems.clear()  # the picture that is gone


def leaning(page: Any, view: str, selector: str) -> list[float]:
    """How far drawn lines fall to the right of the screen, degrees."""
    ends = "lines => lines.map(line => ['x1', 'y1', 'x2', 'y2'].map(name => Number(line.getAttribute(name))))"
    lines = np.array(page.locator(f"svg[data-view={view}] {selector}").evaluate_all(ends)).reshape(-1, 2, 2)
    steps = lines[:, 1] - lines[:, 0]
    return list(np.degrees(np.arctan2(steps[:, 1], steps[:, 0]) + np.where(steps[:, 0] < 0, np.pi, 0)) % 360)


def apart(one: float, other: float) -> float:
    return abs((one - other + 180) % 360 - 180)


def clear_of(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two boxes on the screen do not meet."""
    return (
        one["x"] >= other["x"] + other["width"]
        or one["x"] + one["width"] <= other["x"]
        or one["y"] >= other["y"] + other["height"]
        or one["y"] + one["height"] <= other["y"]
    )


def test_end_plates_are_drawn_and_end_vertebrae_chosen(page: Any) -> None:
    reconstruct(page, "T9", "T10", "T11", "T12")
    wait_for(lambda: settled(page), 60)
    page.click('[data-preset="ap"]')
    # The lines lie where the films' own geometry shows the measured planes.
    told = page.evaluate("[viewer.state.opened.geometry, viewer.state.measuredNow.plates.T10]")
    geometry = BiplanarGeometry.from_dict(told[0])
    plates = np.array(told[1]["mm"]).reshape(2, 2, 2, 3)
    for plane, view in enumerate((geometry.ap, geometry.lat)):
        drawn = page.locator(f"svg[data-view={VIEWS[plane]}] .plate[data-level=T10]").all()
        for line, ends in zip(drawn, plates[:, plane], strict=True):
            points = [float(line.get_attribute(name) or "") for name in ("y1", "x1", "y2", "x2")]
            assert points == pytest.approx(((view.project(ends) + 0.5) * view.pixel_mm).ravel(), abs=1e-6)
    row = page.locator('#measurements tr[data-measure="kyphosis"]')
    assert "chosen by the program" in row.inner_text()
    assert page.locator("#measurements .reasons").last.inner_text() == "T4: not reconstructed"
    assert page.locator(".angle-line[data-measure=kyphosis]").count() == 0

    # Another end vertebra, by keyboard: the angle is that between the drawn end plates, and is written at its lines.
    row.locator("select[data-end=upper]").focus()
    page.keyboard.type("T9")
    wait_for(lambda: settled(page) and "set by you" in row.inner_text(), 30)
    upper = leaning(page, "lat", ".plate[data-level=T9]")[0]
    lower = leaning(page, "lat", ".plate[data-level=T12]")[1]
    angle = page.locator("#measurements .angle").all_inner_texts()[-1]
    assert float(angle.split("°")[0]) == pytest.approx(apart(upper, lower), abs=0.051)
    assert page.locator("svg[data-view=lat] .angle-label").text_content() == f"Kyphosis {apart(upper, lower):.0f}°"
    # No mark covers it, and it covers none.
    boxes = "all => all.map(drawn => drawn.getBoundingClientRect().toJSON())"
    (told,) = page.locator("svg[data-view=lat] .angle-label").evaluate_all(boxes)
    drawn = page.locator("svg[data-view=lat] :is(.mark text, .mark .shape)").evaluate_all(boxes)
    assert len(drawn) == 26 and all(clear_of(told, box) for box in drawn)
    order = "film => [...film.children].map(part => part.getAttribute('class'))"
    layers = page.locator("svg[data-view=lat]").evaluate(order)
    assert layers.index("angles") > layers.index("marks")
    (first, second) = leaning(page, "lat", ".angle-line[data-measure=kyphosis]")
    assert apart(first, second) == pytest.approx(apart(upper, lower), abs=1e-6)
    with page.expect_download(timeout=120_000) as download:
        page.click('[data-kind="json"]')
    report = json.loads(Path(download.value.path()).read_text())
    (told,) = report["measurements"]["kyphosis"]
    assert (told["upper_end"], told["lower_end"], told["end_vertebrae_chosen_by"]) == ("T9", "T12", "user")
    # Both round the same angle, the page to tenths, the report to hundredths.
    assert angle == f"{apart(upper, lower):.1f}° ± {told['sd']:.1f}"
    assert told["degrees"] == pytest.approx(apart(upper, lower), abs=0.0051)
    tilts = report["vertebrae"][1]["measurements"]["tilt_frontal"]["degrees"]
    assert np.mean(leaning(page, "ap", ".plate[data-level=T10]")) == pytest.approx(tilts % 360, abs=0.01)
    with page.expect_download() as download:
        page.click("#save")
    chosen = [{"measure": "kyphosis", "upper": "T9", "lower": "T12"}]
    assert json.loads(Path(download.value.path()).read_text())["end_vertebrae"] == chosen

    # Undone and redone, also from the select itself, one choice after the other; back to the program's choice.
    page.wait_for_timeout(1100)
    row.locator("select[data-end=upper]").select_option("T10")
    wait_for(lambda: settled(page) and row.locator("select[data-end=upper]").input_value() == "T10", 30)
    page.keyboard.press("Control+z")
    wait_for(lambda: settled(page) and row.locator("select[data-end=upper]").input_value() == "T9", 30)
    row.locator("select[data-end=upper]").focus()
    page.keyboard.press("Control+z")
    wait_for(lambda: settled(page) and "chosen by the program" in row.inner_text(), 30)
    page.keyboard.press("Control+y")
    wait_for(lambda: settled(page) and "set by you" in row.inner_text(), 30)
    row.locator("button").click()
    wait_for(lambda: settled(page) and "chosen by the program" in row.inner_text(), 30)
    page.keyboard.press("Control+z")
    wait_for(lambda: settled(page) and page.locator("svg[data-view=lat] .angle-line").count() == 3, 30)

    # One switch for films and 3D; what is not current is not drawn.
    shown = "[...viewer.scene.lines.lines.values()].filter(lines => lines.visible).length"
    wait_for(lambda: page.evaluate(shown) == 4, 10)
    with_lines = pixels(page)
    page.uncheck("#plates")
    wait_for(lambda: page.evaluate(shown) == 0 and np.abs(pixels(page) - with_lines).max() > 60, 10)
    assert page.locator(".plate, .angle-line, .angle-label").count() == 0
    page.check("#plates")
    page.evaluate("clearTimeout(viewer.work.timer); viewer.work.reconstruct = async () => {}")
    drag(page, "ap", "T9", 5, 0)
    assert use(page, "T9") == "outdated"
    assert page.locator(".angle-line, .angle-label, .plate[data-level=T9]").count() == 0


def step(page: Any) -> str:
    return page.locator("#steps [aria-current]").inner_text()


def test_path_leads_from_films_to_exports(page: Any) -> None:
    assert step(page) == "Check marks" and "confirm the levels" in page.locator("#next").inner_text()
    page.click("#levels-right")
    page.click("#choose-none")
    assert step(page) == "Reconstruct" and "Tick" in page.locator("#next").inner_text()
    assert page.locator("#status").inner_text() == ""  # no longer how many were marked at first
    page.click("#reconstruct")
    assert "Tick vertebrae first" in page.locator("#toast").inner_text()
    reconstruct(page, "T10")
    wait_for(lambda: step(page) == "Export", 60)
    assert page.locator("#steps .done").all_inner_texts() == ["✓ Films", "✓ Check marks", "✓ Reconstruct", "✓ Measure"]
    # By keyboard alone to the report; then all is done, until something changes.
    page.keyboard.press("e")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.kind") == "html"
    with page.expect_download(timeout=120_000):
        page.keyboard.press("Enter")
    wait_for(lambda: page.locator("#steps .done").count() == 5, 10)
    page.evaluate("viewer.state.push('doubt', viewer.state.marks, { confirmed: false })")
    assert page.locator("#steps .done").count() == 3 and step(page) == "Export"
    page.keyboard.press("Control+z")
    assert page.locator("#steps .done").count() == 5
    page.evaluate("viewer.work.reconstruct = async () => {}")
    drag(page, "ap", "T10", 5, 0)
    assert step(page) == "Reconstruct" and "1 of 1 not current" in page.locator("#next").inner_text()


def test_nothing_jumps_covers_controls_or_deletes_unasked(page: Any) -> None:
    parts = ("header", "#path", "svg[data-view=ap]", "#exports", "#reconstruct")

    def places() -> list[Any]:
        return [page.locator(part).bounding_box() for part in parts]

    before = places()
    assert before[3]["y"] + before[3]["height"] <= 800
    page.click("#choose-none")
    page.locator('#levels input[aria-label="reconstruct T10"]').check()
    page.click("#reconstruct")
    wait_for(lambda: page.is_visible("#cancel"), 10)
    assert places() == before
    wait_for(lambda: settled(page) and page.evaluate("viewer.scene.meshes.size") == 1, 120)
    assert places() == before and page.locator("#status").inner_text().startswith("1 vertebra in")
    # However far one goes near, most of the vertebra stays in sight.
    page.locator("#canvas").hover()
    for _ in range(30):
        page.mouse.wheel(0, -400)
    wait_for(lambda: page.evaluate("viewer.scene.scale") > 1.2, 10)
    page.wait_for_timeout(300)
    assert page.evaluate("viewer.scene.camera.top - viewer.scene.camera.bottom") == pytest.approx(50, abs=1)
    # Backspace is for the film; elsewhere it deletes nothing.
    page.locator('#levels tr[data-level="T9"] .level').click()
    page.keyboard.press("Backspace")
    page.locator("#canvas").focus()
    page.keyboard.press("Backspace")
    assert mark(page, "ap", "T9").count() == 1
    mark(page, "ap", "T9").focus()
    assert mark(page, "ap", "T9").evaluate("mark => getComputedStyle(mark).outlineStyle") == "none"
    page.keyboard.press("Backspace")
    assert mark(page, "ap", "T9").count() == 0
    # What is told lies over no control.
    page.evaluate("viewer.state.choose([])")
    page.click('[data-kind="csv"]')
    told = page.locator("#toast").bounding_box()
    for control in page.locator("button, input, select").all():
        box = control.bounding_box()
        if box and control.is_visible():
            assert clear_of(box, told)
    # Where there is little room nothing is cut, and all can be reached.
    for width, height in ((640, 400), (800, 500)):
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("scrollTo(0, 0)")
        notice = page.locator(".notice").bounding_box()
        assert notice["y"] >= 0 and notice["x"] + notice["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        last = page.locator("#exports button").last
        last.scroll_into_view_if_needed()
        assert last.bounding_box()["y"] + last.bounding_box()["height"] <= height
        assert page.locator("#levels").bounding_box()["height"] > 150


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


@pytest.mark.parametrize("secure", [True, False])
def test_what_one_window_has_open_is_not_offered_in_another(chromium: Any, address: str, secure: bool) -> None:
    """Also over plain http from another machine, where browsers have no locks."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    if not secure:
        context.add_init_script("delete Navigator.prototype.locks")

    def window() -> Any:
        page = context.new_page()
        page.goto(address)
        wait_for(lambda: page.locator(".mark").count() == 26, 120)
        assert page.evaluate("!!navigator.locks") == secure
        page.wait_for_timeout(800)
        return page

    one = window()
    drag(one, "ap", "T3", 7, 0)
    one.wait_for_timeout(400)
    two = window()
    assert not two.is_visible("#resume") and not two.is_visible("#resume-open")
    one.close()
    three, _ = window(), two.reload()
    for page in (two, three):
        wait_for(lambda page=page: page.is_visible("#resume"), 30)
    three.locator("#drafts button", has_text="Resume").click()
    wait_for(lambda: three.locator("#status").inner_text() == "resumed", 30)
    # What was offered before is opened and discarded only if it is still free.
    two.locator("#drafts button", has_text="Resume").click()
    wait_for(lambda: "Another window" in two.locator("#resume-error").inner_text(), 30)
    assert not two.is_visible("#resume-open")
    assert two.evaluate("viewer.state.case.id") != three.evaluate("viewer.state.case.id")
    context.close()
