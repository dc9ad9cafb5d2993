"""``--geometry``: what the small YAML form means, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from scripts.errors import UserError
from scripts.films.calibration import calibrate
from scripts.films.geometry_file import read_geometry
from scripts.films.options import ReadingOptions
from scripts.films.pair import read_films
from scripts.geometry.biplanar import Beam, geometry_of_grid
from scripts.geometry.frames import Grid
from scripts.io.annotations import read_annotations
from tests.conftest import ROOT, SAMPLE
from tests.dicom_films import sample_film, write_dicom

VIEW = {"source_to_detector_mm": 1800, "source_to_isocentre_mm": 1500, "pixel_spacing_mm": [0.6, 0.3]}


def written(folder: Path, document: object) -> Path:
    path = folder / "geometry.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("beam", ["slot", "cone"])
@pytest.mark.parametrize("at", ["isocentre", "detector"])
def test_spacing_holds_where_the_file_says(beam: str, at: str, tmp_path: Path) -> None:
    """A rod of 30 mm across the isocentre measures what the beam and the spacing say."""
    document = {"beam": beam, "ap": {**VIEW, "spacing_at": at}, "lat": {**VIEW, "spacing_at": at}}
    pair = read_films(
        write_dicom(tmp_path / "a", "ap"),
        write_dicom(tmp_path / "l", "lat"),
        ReadingOptions(geometry=written(tmp_path, document)),
    )
    rod = np.array([[-15.0, 0, 15.0], [15.0, 0, -15.0]])
    rows, columns = np.abs(np.diff(pair.geometry.ap.project(rod), axis=0))[0]
    magnified = 1.2 if at == "detector" else 1.0
    assert columns == pytest.approx(30 * magnified / 0.3)
    # A slot's rows do not diverge, whatever plane the spacing is for.
    assert rows == pytest.approx(30 * (magnified if beam == "cone" else 1.0) / 0.6)


@pytest.mark.parametrize(("beam", "size"), [("cone", (0.7, 0.7)), ("slot", (0.9, 0.7)), ("parallel", None)])
@pytest.mark.parametrize("header", [{}, {"DistanceSourceToDetector": 1800, "DistanceSourceToPatient": 1750}])
def test_distances_of_the_file_correct_the_detectors_spacing(
    header: dict[str, int], beam: str, size: tuple[float, float] | None, tmp_path: Path
) -> None:
    far = {} if beam == "parallel" else {"source_to_detector_mm": 1800, "source_to_isocentre_mm": 1400}
    options = ReadingOptions(geometry=written(tmp_path, {"beam": beam, "ap": far, "lat": far}))
    own = {"PixelSpacing": None, "ImagerPixelSpacing": [0.9, 0.9], **header}
    ap, lat = write_dicom(tmp_path / "a", "ap", **own), write_dicom(tmp_path / "l", "lat", **own)
    pair = read_films(ap, lat, options)
    # Without distances in the file what the header makes of its spacing holds.
    assert pair.lat.spacing_mm == pytest.approx(size or ((0.875, 0.875) if header else (0.9, 0.9)))
    told = "AP: scale from ImagerPixelSpacing / magnification 1.286 of the geometry file"
    assert (told in pair.warnings) == (size is not None)
    assert any("magnification unknown" in line for line in pair.warnings) == (size is None and not header)
    # What the header calls corrected, and what the user gives, is left alone.
    write_dicom(lat, "lat", **{**own, "PixelSpacing": [0.8, 0.8]})
    pair = read_films(ap, lat, replace(options, spacing=(0.6, None)))
    assert pair.lat.spacing_mm == (0.8, 0.8) and pair.ap.spacing_mm == (0.6, 0.6)


def test_distances_of_the_file_replace_impossible_ones_of_the_header(tmp_path: Path) -> None:
    """Of a film that lies as well: the detector's pixels turn with it."""
    far = {"source_to_detector_mm": 1800, "source_to_isocentre_mm": 1500}
    options = ReadingOptions(geometry=written(tmp_path, {"beam": "cone", "ap": far, "lat": far}))
    own = {"PixelSpacing": None, "EstimatedRadiographicMagnificationFactor": 4, "ImagerPixelSpacing": [0.6, 0.9]}
    lying = np.ascontiguousarray(sample_film("ap").T)
    ap = write_dicom(tmp_path / "a", "ap", lying, PatientOrientation=["F", "L"], **own)
    lat = write_dicom(tmp_path / "l", "lat", **own)
    with pytest.raises(UserError, match=r"magnification of 4\.00 is impossible; give --spacing or --geometry"):
        read_films(ap, lat)
    pair = read_films(ap, lat, options)
    assert pair.ap.spacing_mm == pytest.approx((0.75, 0.5)) and pair.lat.spacing_mm == pytest.approx((0.5, 0.75))
    turned = read_films(ap, lat, replace(options, turn=(90, 0)))
    assert turned.ap.spacing_mm == pytest.approx((0.5, 0.75))


def test_sides_central_ray_and_turn(tmp_path: Path) -> None:
    view = {"source_to_detector_mm": 1800, "source_to_isocentre_mm": 1500}
    document = {
        "beam": "cone",
        "ap": {**view, "source": "posterior", "principal_point": [10, 20]},
        "lat": {**view, "source": "right", "yaw_deg": 5},
    }
    pair = read_films(
        write_dicom(tmp_path / "a", "ap"),
        write_dicom(tmp_path / "l", "lat"),
        ReadingOptions(geometry=written(tmp_path, document)),
    )
    ap, lat = pair.geometry.ap, pair.geometry.lat
    assert np.allclose(ap.project(np.zeros((1, 3))), [[10, 20]])
    assert np.allclose(ap.beam_direction, [0, 1, 0])
    # From the right, towards the patient's left (-x), turned by 5 degrees about the long axis.
    assert np.allclose(np.abs(lat.beam_direction), [np.cos(np.radians(5)), np.sin(np.radians(5)), 0], atol=1e-9)
    assert lat.beam_direction[0] < 0
    assert not pair.registered


def test_simultaneous_films_are_registered_by_their_rows(tmp_path: Path) -> None:
    document = {"beam": "parallel", "simultaneous": True}
    pair = read_films(
        write_dicom(tmp_path / "a", "ap"),
        write_dicom(tmp_path / "l", "lat"),
        ReadingOptions(geometry=written(tmp_path, document)),
    )
    assert pair.registered
    point = pair.geometry.ap.project(np.array([[0, 0, -50.0]]))[0, 0]
    assert point == pair.geometry.lat.project(np.array([[0, 0, -50.0]]))[0, 0] == pytest.approx(50)
    short = write_dicom(tmp_path / "l", "lat", film=np.eye(120, dtype=np.float32))
    with pytest.raises(UserError, match="different heights"):
        read_films(tmp_path / "a", short, ReadingOptions(geometry=tmp_path / "geometry.yaml"))


def test_simultaneous_cones_meet_in_their_central_rays(tmp_path: Path) -> None:
    """Rows that diverge are no heights: the central ray stays in each film's middle, as the warning says."""
    document = {"beam": "cone", "simultaneous": True, "ap": VIEW, "lat": VIEW}
    ap, lat = write_dicom(tmp_path / "a", "ap"), write_dicom(tmp_path / "l", "lat", film=sample_film("lat")[:301])
    pair = read_films(ap, lat, ReadingOptions(geometry=written(tmp_path, document)))
    assert pair.registered and "AP: the central ray is taken to hit its centre" in pair.warnings
    for view in (pair.geometry.ap, pair.geometry.lat):
        centre = (np.array(view.shape) - 1) / 2
        assert np.allclose(view.project(np.zeros((1, 3))), centre) and view.principal_point == tuple(centre)


def test_the_exact_form_of_prepare_still_holds(tmp_path: Path) -> None:
    grid = Grid((0.0, 0.0, 0.0), (333, 275, 360))
    exact = geometry_of_grid(grid, Beam.CONE)
    path = tmp_path / "geometry.json"
    path.write_text(json.dumps(exact.to_dict()))
    pair = read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz", ReadingOptions(geometry=path))
    assert pair.geometry == exact and pair.registered
    # Pictures, which know no scale of their own, have that of the geometry: nothing is estimated from the marks.
    for name, view in (("a", exact.ap), ("l", exact.lat)):
        Image.fromarray(np.eye(*view.shape, dtype=np.uint8) * 200).save(tmp_path / f"{name}.png")
    pictures = read_films(tmp_path / "a.png", tmp_path / "l.png", ReadingOptions(geometry=path))
    assert pictures.in_one_frame and pictures.ap.spacing_mm == exact.ap.pixel_mm
    assert calibrate(pictures, read_annotations(SAMPLE / "annotations.json")).geometry == exact
    with pytest.raises(UserError, match="films of another size"):
        other = write_dicom(tmp_path / "a", "ap", film=np.eye(64, dtype=np.float32))
        read_films(other, SAMPLE / "lat.nii.gz", ReadingOptions(geometry=path))


def test_a_spacing_and_a_geometry_file_may_not_contradict_each_other(tmp_path: Path) -> None:
    ap, lat = write_dicom(tmp_path / "a", "ap", PixelSpacing=[0.4, 0.8]), write_dicom(tmp_path / "l", "lat")
    far = {"source_to_detector_mm": 1800, "source_to_isocentre_mm": 1500}
    document = {"beam": "cone", "ap": {**far, "pixel_spacing_mm": 0.6, "spacing_at": "detector"}, "lat": far}
    options = ReadingOptions(written(tmp_path, document), spacing=(0.3, None))
    with pytest.raises(UserError, match=r"its AP pixels measure 0\.5 x 0\.5 mm in the patient, and --spacing"):
        read_films(ap, lat, options)
    same = read_films(ap, lat, replace(options, spacing=(0.5, 0.7)))
    assert same.ap.spacing_mm == pytest.approx((0.5, 0.5)) and same.lat.spacing_mm == (0.7, 0.7)
    assert same.ap.scale_notes == ("AP: scale given by the geometry file",)
    assert same.lat.scale_notes == ("LAT: scale given by the user",)
    assert not any("taken as square" in line for line in same.warnings)


def test_a_geometry_file_against_what_the_films_say_is_told(tmp_path: Path) -> None:
    ap, lat = write_dicom(tmp_path / "a", "ap"), write_dicom(tmp_path / "l", "lat")
    document = {"beam": "cone", "ap": {**VIEW, "source": "posterior"}, "lat": {**VIEW, "source": "left"}}
    told = read_films(ap, lat, ReadingOptions(written(tmp_path, document))).warnings
    assert [line for line in told if "stood" in line] == [
        "AP: the source stood on the other side by the geometry file than by its header"
    ]
    parallel = ReadingOptions(written(tmp_path, {"beam": "parallel"}))
    told = read_films(SAMPLE / "ap.nii.gz", SAMPLE / "lat.nii.gz", parallel).warnings
    assert [line.split(":")[0] for line in told if "results do not lie where that file does" in line] == ["AP", "LAT"]


BAD = {
    "beam: parallel\nap: {pixel_spacing_mm: .nan}": "$.ap.pixel_spacing_mm: nan is no finite number",
    "beam: parallel\nlat: {pixel_spacing_mm: [1, .inf]}": "$.lat.pixel_spacing_mm",
    "[" * 2000: "not a readable geometry file",
    "a: [": "not a readable geometry file",
    "just words": "is not of type 'object'",
    "ap: {}": "'beam' is a required property",
    "beam: laser": "at $.beam: 'laser' is not one of",
    "beam: cone": "at $.ap: a cone beam needs source_to_detector_mm",
    "{beam: cone, ap: {source_to_detector_mm: 900, source_to_isocentre_mm: 1000}}": "beyond the detector",
    "{beam: parallel, ap: {source_to_detector_mm: 900}}": "is it a cone",
    "{beam: parallel, ap: {pixel_spacing_mm: 0}}": "at $.ap.pixel_spacing_mm",
    "{beam: parallel, ap: {source: left}}": "at $.ap.source: 'left' is not one of",
    "{beam: parallel, lat: {spacing: 0.1}}": "'spacing' was unexpected",
    '{"ap": {"row_direction": [0, 0, -1]}, "lat": {}}': "not a readable geometry file",
}


@pytest.mark.parametrize("text", list(BAD))
def test_bad_geometry_files(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_geometry(written(tmp_path, text))
    assert BAD[text] in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path))


def test_the_example_of_the_page_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "films.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    setup = read_geometry(written(tmp_path, example))
    assert setup.ap.beam is setup.lat.beam is Beam.CONE
    # On the detector 0.143 mm; in the plane of the isocentre smaller by the magnification there.
    assert setup.ap_spacing_mm == pytest.approx([0.143 * 1550 / 1800] * 2)
    assert setup.lat_spacing_mm == pytest.approx([0.143 * 1450 / 1800] * 2)


def test_turns_go_where_the_document_says(tmp_path: Path) -> None:
    """Sources in front and on the left: yaw to the right and to the front, pitch down, roll anticlockwise."""
    films = [write_dicom(tmp_path / name, name) for name in ("ap", "lat")]
    # Where each source stands then, RAS: + is to the patient's right, to the front, upwards.
    for turn, ap_side, lat_side in (
        ("yaw_deg", (1, 1, 0), (-1, 1, 0)), ("pitch_deg", (0, 1, -1), (-1, 0, -1)), ("roll_deg", (0, 1, 0), (-1, 0, 0)),
    ):  # fmt: skip
        document = {"beam": "cone", "ap": {**VIEW, turn: 10}, "lat": {**VIEW, turn: 10}}
        geometry = read_films(*films, ReadingOptions(geometry=written(tmp_path, document))).geometry
        for view, side in ((geometry.ap, ap_side), (geometry.lat, lat_side)):
            source = -np.array(view.beam_direction)
            assert np.where(np.abs(source) < 1e-9, 0, np.sign(source)).tolist() == list(side)
            # A point above the isocentre.
            up = np.subtract(*view.project(np.array([[0, 0, 50.0], [0, 0, 0]]) + view.isocentre_mm))
            assert np.sign(up[0]) == -1 and (up[1] < -1) == (turn == "roll_deg")
