"""Radiographs in: what a film says of itself, what is assumed, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import HTJ2KLossless, JPEGLSLossless, RLELossless, generate_uid

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.films.calibration import calibrate
from scripts.films.film import Projection, Radiograph
from scripts.films.options import ReadingOptions, parse_spacing, parse_turn
from scripts.films.orientation import view_evidence
from scripts.films.pair import read_films, read_radiograph
from scripts.films.study import choose_film
from scripts.geometry.biplanar import Beam
from scripts.io.annotations import read_annotations
from scripts.io.nifti import read_nifti, write_nifti
from scripts.job.report import lengths_in_words
from tests.conftest import SAMPLE, without_films
from tests.dicom_films import SECRET, sample_film, stored_pixels, write_dicom

AP, LAT = Projection.FRONTAL, Projection.LATERAL


def same_picture(film: Radiograph, wanted: np.ndarray) -> float:
    """Correlation; a mirror, transpose or inversion loses it."""
    assert film.pixels.shape == wanted.shape
    return float(np.corrcoef(film.pixels.ravel(), wanted.ravel())[0, 1])


STORED = {
    "plain": (lambda f: f, ["L", "F"], "MONOCHROME2"),
    "mirrored": (lambda f: f[:, ::-1], ["R", "F"], "MONOCHROME2"),
    "upside down": (lambda f: f[::-1], ["L", "H"], "MONOCHROME2"),
    "lying": (lambda f: f.T, ["F", "L"], "MONOCHROME2"),
    "lying, turned": (lambda f: f.T[::-1], ["F", "R"], "MONOCHROME2"),
    "inverse": (lambda f: f.max() - f, ["L", "F"], "MONOCHROME1"),
    "oblique letters": (lambda f: f[:, ::-1], ["RA", "FP"], "MONOCHROME2"),
}


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("how", list(STORED))
def test_however_stored_the_film_is_displayed_alike(how: str, bits: int, tmp_path: Path) -> None:
    turn, letters, photometric = STORED[how]
    path = write_dicom(
        tmp_path / "a.dcm", "ap", np.ascontiguousarray(turn(sample_film("ap"))), bits,
        PatientOrientation=letters, PhotometricInterpretation=photometric,
    )  # fmt: skip
    film = read_radiograph(path, AP)
    assert same_picture(film, sample_film("ap")) > 0.9999
    assert film.spacing_mm == (1.0, 1.0)
    assert any("inverted" in w for w in film.warnings) == (how == "inverse")


def test_lateral_faces_left(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "l.dcm", "lat", np.ascontiguousarray(sample_film("lat")[:, ::-1]), PatientOrientation=["A", "F"]
    )
    assert same_picture(read_radiograph(path, LAT), sample_film("lat")) > 0.9999


def test_anisotropic_spacing_turns_with_the_film(tmp_path: Path) -> None:
    lying = np.ascontiguousarray(sample_film("ap").T)
    path = write_dicom(tmp_path / "a.dcm", "ap", lying, PatientOrientation=["F", "L"], PixelSpacing=[0.4, 0.7])
    assert read_radiograph(path, AP).spacing_mm == (0.7, 0.4)


def test_no_orientation_is_a_warning_and_mirror_mends_it(tmp_path: Path) -> None:
    mirrored = np.ascontiguousarray(sample_film("ap")[:, ::-1])
    ap = write_dicom(tmp_path / "a.dcm", "ap", mirrored, PatientOrientation=None, ViewPosition="PA")
    lat = write_dicom(tmp_path / "l.dcm", "lat")
    pair = read_films(ap, lat)
    assert any("no PatientOrientation" in line for line in pair.warnings)
    assert same_picture(pair.ap, mirrored) > 0.9999
    assert same_picture(read_films(ap, lat, ReadingOptions(mirror=("ap",))).ap, sample_film("ap")) > 0.9999
    with pytest.raises(UserError, match="--mirror takes"):
        read_films(ap, lat, ReadingOptions(mirror=("front",)))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_film_is_the_one_that_was_turned_back(degrees: int, tmp_path: Path) -> None:
    """Pixels, pixel sizes and exposed field of a film that lies, against numpy's turn of the film as it stands."""
    # Not square, with a margin at the left that no light fell on.
    film = sample_film("ap")[:, 20:].copy()
    film[:, :40] = film.max()
    lying = np.ascontiguousarray(np.rot90(film, degrees // 90))
    sizes = (0.4, 0.5) if degrees == 180 else (0.5, 0.4)
    about: dict[str, Any] = {"ViewPosition": "AP", "PatientOrientation": None, "ImagerPixelSpacing": None}
    straight = write_dicom(tmp_path / "s.dcm", "ap", film, PixelSpacing=[0.4, 0.5], **about)
    path = write_dicom(tmp_path / "a.dcm", "ap", lying, PixelSpacing=list(sizes), **about)
    wanted = read_films(straight, None).ap
    turn = parse_turn(f"ap:{degrees}")
    found = read_films(path, None, ReadingOptions(turn=turn)).ap
    assert found.spacing_mm == (0.4, 0.5) and found.field == wanted.field != (0, 0, *film.shape)
    assert np.array_equal(found.pixels, wanted.pixels)
    assert any(f"turned clockwise by {degrees} degrees by the user" in line for line in found.warnings)
    # Mirrored after it was turned.
    both = read_films(path, None, ReadingOptions(turn=turn, mirror=("ap",))).ap
    assert np.array_equal(both.pixels, wanted.pixels[:, ::-1])


def test_a_turn_is_against_what_the_header_says_and_only_by_quarters(tmp_path: Path) -> None:
    ap = write_dicom(tmp_path / "a.dcm", "ap")
    turned = read_films(ap, None, ReadingOptions(turn=(180, 0))).ap
    assert np.array_equal(turned.pixels, read_films(ap, None).ap.pixels[::-1, ::-1])
    assert any("against its PatientOrientation" in line for line in turned.warnings)
    with pytest.raises(UserError, match="NIfTI film says itself how it lies; --turn"):
        read_films(SAMPLE / "ap.nii.gz", None, ReadingOptions(turn=(90, 0)))
    for word in ("45", "ap", "front:90", "ap:90,ap:180", "90,90,90", "", "nan"):
        with pytest.raises(UserError, match="--turn takes"):
            parse_turn(word)


def test_a_film_mirrored_or_inverted_by_the_user_is_told(tmp_path: Path) -> None:
    options = ReadingOptions(mirror=("ap",), invert=("ap", "lat"))
    ap, lat = write_dicom(tmp_path / "a.dcm", "ap"), tmp_path / "l.png"
    Image.fromarray((sample_film("lat") * 30).astype(np.uint8)).save(lat)
    told = [line for line in read_films(ap, lat, options).warnings if "by the user" in line]
    assert told == [
        "AP: bright and dark exchanged by the user, against its PhotometricInterpretation",
        "AP: mirrored left to right by the user, against its PatientOrientation",
        "LAT: bright and dark exchanged by the user",
    ]
    silent = write_dicom(tmp_path / "s.dcm", "ap", PatientOrientation=None)
    assert "AP: mirrored left to right by the user" in read_films(silent, None, ReadingOptions(mirror=("ap",))).warnings
    assert not any("by the user" in line for line in read_films(ap, lat).warnings)


def test_one_film_can_be_given_its_pixel_size_alone(tmp_path: Path) -> None:
    ap, lat = write_dicom(tmp_path / "a.dcm", "ap"), write_dicom(tmp_path / "l.dcm", "lat")
    pair = read_films(ap, lat, ReadingOptions(spacing=parse_spacing("lat:0.25")))
    assert pair.ap.spacing_mm == (1.0, 1.0) and pair.lat.spacing_mm == (0.25, 0.25)
    assert "LAT: scale given by the user" in pair.warnings and "AP: scale given by the user" not in pair.warnings


def test_rescale_window_and_lut(tmp_path: Path) -> None:
    """Values follow slope, intercept, window and LUT; a window that shows nothing is ignored."""
    path = write_dicom(
        tmp_path / "a.dcm", "ap", WindowCenter=3600, WindowWidth=5001, RescaleSlope=2, RescaleIntercept=-100
    )
    raw = stored_pixels(path).astype(float) * 2 - 100
    read = read_radiograph(path, AP)
    top, left, bottom, right = read.field
    film = ((read.pixels - read.pixels.min()) / np.ptp(read.pixels))[top:bottom, left:right]
    assert np.allclose(film, np.clip((raw - 1099.5) / 5000, 0, 1)[top:bottom, left:right], atol=2e-3)
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 16], np.arange(4096, dtype="<u2")[::-1].tobytes()
    path = write_dicom(
        tmp_path / "b.dcm", "ap", VOILUTSequence=Sequence([item]), PhotometricInterpretation="MONOCHROME1"
    )
    assert same_picture(read_radiograph(path, AP), sample_film("ap")) > 0.9999
    path = write_dicom(tmp_path / "c.dcm", "ap", WindowCenter=60000, WindowWidth=10)
    film = read_radiograph(path, AP)
    assert same_picture(film, sample_film("ap")) > 0.9999 and any("shows nothing" in w for w in film.warnings)


@pytest.mark.parametrize(("relationship", "sign"), [("LIN", 1), ("LOG", 1), ("LOG", -1)])
def test_raw_detector_values_become_line_integrals(relationship: str, sign: int, tmp_path: Path) -> None:
    film = sample_film("ap")
    raw = {"LIN": np.exp(-film / 2), "LOG": film.max() - film}[relationship] if sign == 1 else film
    path = write_dicom(
        tmp_path / "a.dcm", "ap", raw.astype(np.float32), 16, PresentationIntentType="FOR PROCESSING",
        PixelIntensityRelationship=relationship, PixelIntensityRelationshipSign=sign,
        PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    assert same_picture(read_radiograph(path, AP), film) > 0.999


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_films(syntax: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", "ap")
    data = pydicom.dcmread(path)
    data.compress(syntax)
    data.save_as(tmp_path / "b.dcm")
    assert np.array_equal(read_radiograph(tmp_path / "b.dcm", AP).pixels, read_radiograph(path, AP).pixels)


@pytest.mark.parametrize(("name", "uid"), [("JPEGLosslessProcess14_1", ".4.70"), ("JPEG2000Lossless", ".4.90")])
def test_jpeg_films_that_only_gdcm_writes(name: str, uid: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", "ap")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "b.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "b.dcm").file_meta.TransferSyntaxUID.endswith(uid)
    assert np.array_equal(read_radiograph(tmp_path / "b.dcm", AP).pixels, read_radiograph(path, AP).pixels)


def test_a_syntax_that_nothing_decodes_is_named(tmp_path: Path) -> None:
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", "ap"))
    data.file_meta.TransferSyntaxUID = HTJ2KLossless
    data.PixelData = pydicom.encaps.encapsulate([b"\0" * 1000])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "b.dcm")
    with pytest.raises(UserError, match=r"High-Throughput JPEG 2000.*cannot be decoded.*export it uncompressed"):
        read_radiograph(tmp_path / "b.dcm", AP)


SCALES = {
    "corrected": ({}, (1.0, 1.0), Beam.PARALLEL, "no source distances"),
    "detector only": ({"PixelSpacing": None}, (1.2, 1.2), Beam.PARALLEL, "5 to 30 % too large"),
    "written twice": ({"PixelSpacing": [1.2, 1.2]}, (1.2, 1.2), Beam.PARALLEL, "5 to 30 % too large"),
    "estimated factor": (
        {"PixelSpacing": None, "EstimatedRadiographicMagnificationFactor": 1.25}, (0.96, 0.96), Beam.PARALLEL, "1.250",
    ),
    "distances": (
        {"PixelSpacing": None, "DistanceSourceToDetector": 1800, "DistanceSourceToPatient": 1500}, (1.0, 1.0),
        Beam.CONE, "1.200",
    ),
    "calibrated": (
        {"PixelSpacing": [0.9, 0.9], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.9, 0.9), Beam.PARALLEL, "fiducial",
    ),
    "none": ({"PixelSpacing": None, "ImagerPixelSpacing": None}, None, Beam.PARALLEL, "no pixel spacing"),
    "scanner": (
        {"Manufacturer": "EOS imaging", "DistanceSourceToDetector": 1300, "DistanceSourceToIsocenter": 1000},
        (1.0, 1.0), Beam.SLOT, "middle column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", list(SCALES))
def test_scale_and_beam_of_a_header(how: str, tmp_path: Path) -> None:
    attributes, spacing, beam, warning = SCALES[how]
    ap = write_dicom(tmp_path / "a.dcm", "ap", **attributes)
    lat = write_dicom(tmp_path / "l.dcm", "lat", **attributes)
    pair = read_films(ap, lat)
    assert pair.ap.spacing_mm == (None if spacing is None else pytest.approx(spacing))
    assert pair.geometry.ap.beam is pair.geometry.lat.beam is beam
    assert any(warning in line for line in pair.warnings)
    assert pair.registered == (how == "scanner")
    if spacing:
        size = pair.geometry.ap.pixel_size_mm(np.array(pair.geometry.ap.isocentre_mm))[0]
        assert size == pytest.approx(spacing)


def test_the_report_says_how_far_lengths_can_be_trusted(tmp_path: Path) -> None:
    """The detector's scale is not called calibrated, until the user gives one; the worst of either film counts."""
    detector, alone = {"PixelSpacing": None}, {"ImagerPixelSpacing": None}
    none = {**detector, **alone}
    unknown = "scale of the detector, magnification unknown: 5 to 30 % too large"
    estimated = "estimated, films not calibrated"
    for of_ap, of_lat, words in (
        ({}, {}, "calibrated"), (detector, {}, unknown), (alone, alone, "magnification perhaps not corrected"),
        (detector, none, f"{unknown}; {estimated} (sd"), (none, none, f"{estimated} (sd"),
    ):  # fmt: skip
        films = write_dicom(tmp_path / "a.dcm", "ap", **of_ap), write_dicom(tmp_path / "l.dcm", "lat", **of_lat)
        marks = without_films(read_annotations(SAMPLE / "annotations.json"))
        assert lengths_in_words(calibrate(read_films(*films), marks)).startswith(words)
        geometry = tmp_path / "geometry.yaml"
        geometry.write_text("{beam: parallel, ap: {pixel_spacing_mm: 1}, lat: {pixel_spacing_mm: 1}}")
        for given in (ReadingOptions(spacing=(1.0, 1.0)), ReadingOptions(geometry=geometry)):
            assert lengths_in_words(read_films(*films, given)) == "calibrated"


def test_source_side_follows_the_view_position(tmp_path: Path) -> None:
    """PA and left lateral: the source stands behind and on the right; what is nearer to it is larger."""
    far = {"DistanceSourceToDetector": 1800, "DistanceSourceToPatient": 1500}
    for ap_position, lat_position, sign in (("AP", "RL", 1), ("PA", "LL", -1)):
        pair = read_films(
            write_dicom(tmp_path / "a.dcm", "ap", ViewPosition=ap_position, **far),
            write_dicom(tmp_path / "l.dcm", "lat", ViewPosition=lat_position, **far),
        )
        front, left = np.array([[0.0, 100, 0]]), np.array([[-100.0, 0, 0]])
        assert np.sign(pair.geometry.ap.magnification(front)[0, 1] - 1.2) == sign
        assert np.sign(pair.geometry.lat.magnification(left)[0, 1] - 1.2) == sign


FAR = {"DistanceSourceToDetector": 1800, "DistanceSourceToPatient": 1500, "PixelSpacing": None}
SCANNER = {**FAR, "Manufacturer": "EOS imaging"}


@pytest.mark.parametrize("beam", [FAR, SCANNER])
def test_a_source_whose_side_nothing_says_is_told(beam: dict[str, Any], tmp_path: Path) -> None:
    silent = read_films(
        write_dicom(tmp_path / "a.dcm", "ap", ViewPosition=None, **beam),
        write_dicom(tmp_path / "l.dcm", "lat", ViewPosition="LATERAL", **beam),
    )
    told = [line for line in silent.warnings if "nothing says where the X-ray source stood" in line]
    assert len(told) == 2 and "in front of" in told[0] and "on the patient's left" in told[1]
    clear = read_films(write_dicom(tmp_path / "a.dcm", "ap", **beam), write_dicom(tmp_path / "l.dcm", "lat", **beam))
    assert not any("source stood" in line for line in clear.warnings)


def test_attributes_that_contradict_each_other_on_the_sources_side_are_told(tmp_path: Path) -> None:
    code = Dataset()
    for value, told in (("272479007", True), ("399348003", False)):  # PA, AP
        code.CodeValue = value
        path = write_dicom(tmp_path / "a.dcm", "ap", ViewCodeSequence=Sequence([code]))
        lines = read_radiograph(path, AP).warnings
        assert ("AP: ViewCodeSequence contradicts ViewPosition on the side on which the X-ray source stood, ignored" in
                lines) == told  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({}, ""), ({"AcquisitionTime": "101139.5"}, ""), ({"AcquisitionTime": "160000"}, "AcquisitionTime"),
        ({"StudyInstanceUID": generate_uid()}, "StudyInstanceUID"),
        ({"AcquisitionDate": "20240507"}, "AcquisitionDate"),
    ],
)  # fmt: skip
def test_only_films_of_one_scan_share_their_heights(attributes: dict[str, Any], why: str, tmp_path: Path) -> None:
    when = {"AcquisitionDate": "20240506", "AcquisitionTime": "101112", **SCANNER}
    ap = write_dicom(tmp_path / "a.dcm", "ap", **when)
    pair = read_films(ap, write_dicom(tmp_path / "l.dcm", "lat", **{**when, **attributes}))
    assert pair.registered == (not why)
    assert (f"the films are not of one scan by their {why}: heights are not taken as shared" in pair.warnings) == bool(
        why
    )


def test_borders_are_masked_and_marks_stay(tmp_path: Path) -> None:
    film = sample_film("ap").copy()
    film[:20], film[-30:], film[:, :40], film[:, -25:] = 9.0, 9.0, 9.0, 9.0
    film[3:12, 100:112] = 0.0  # a letter burnt into the border
    path = write_dicom(tmp_path / "a.dcm", "ap", film)
    read = read_radiograph(path, AP)
    rows, columns = film.shape
    wanted = np.array([20, 40, rows - 30, columns - 25])
    assert read.pixels.shape == film.shape and np.abs(np.array(read.field) - wanted).max() <= 3
    top, left, bottom, right = wanted + [3, 3, -3, -3]
    inside, clean = read.pixels[top:bottom, left:right], sample_film("ap")[top:bottom, left:right]
    assert np.corrcoef(inside.ravel(), clean.ravel())[0, 1] > 0.9999
    assert read.pixels[:15].max() == read.pixels.min() and any("borders masked" in w for w in read.warnings)
    shutter = write_dicom(
        tmp_path / "s.dcm", "ap", ShutterShape="RECTANGULAR", ShutterUpperHorizontalEdge=11,
        ShutterLeftVerticalEdge=21, ShutterLowerHorizontalEdge=300, ShutterRightVerticalEdge=330,
        PatientOrientation=["R", "F"],
    )  # fmt: skip
    assert read_radiograph(shutter, AP).field == (10, columns - 330, 300, columns - 20)


def test_films_without_borders_keep_every_pixel(tmp_path: Path) -> None:
    for name, wanted in (("ap", AP), ("lat", LAT)):
        film = sample_film(name)
        read = read_radiograph(write_dicom(tmp_path / f"{name}.dcm", name), wanted)
        top, left, bottom, right = read.field
        # Air at the sides may go, with slivers of skin; the body may not.
        assert film[top:bottom, left:right].sum() > 0.995 * film.sum()


@pytest.mark.parametrize("kind", ["png8", "png16", "jpg", "tif", "rgb"])
def test_pictures(kind: str, tmp_path: Path) -> None:
    film = sample_film("ap")
    scaled = film / film.max()
    path = tmp_path / f"a.{'png' if kind.startswith('png') or kind == 'rgb' else kind}"
    if kind == "png16":
        image = Image.fromarray((scaled * 65535).astype(np.uint16))
    else:
        image = Image.fromarray((scaled * 255).astype(np.uint8))
    (image.convert("RGB") if kind == "rgb" else image).save(path)
    read = read_radiograph(path, AP)
    assert same_picture(read, film) > (0.995 if kind == "jpg" else 0.9999) and read.spacing_mm is None
    lat = Path(shutil.copy(path, tmp_path / f"l{path.suffix}"))
    pair = read_films(path, lat, ReadingOptions(spacing=(0.5, 0.25)))
    assert None not in (pair.ap.spacing_mm, pair.lat.spacing_mm) and pair.geometry.lat.pixel_spacing_mm == (0.25, 0.25)
    assert not pair.registered and any("without a header" in line for line in pair.warnings)


def test_a_dark_picture_is_suspected_and_inverted(tmp_path: Path) -> None:
    film = sample_film("ap")
    dark = Image.fromarray(((1 - film / film.max()) * 255).astype(np.uint8))
    for name in ("a.png", "l.png"):
        dark.save(tmp_path / name)
    pair = read_films(tmp_path / "a.png", tmp_path / "l.png", ReadingOptions(invert=("ap",)))
    assert any("use --invert" in line for line in pair.lat.warnings)
    assert same_picture(pair.ap, film) > 0.999 and same_picture(pair.lat, film) < -0.999


def test_dark_bones_are_suspected_whatever_the_format(tmp_path: Path) -> None:
    film = sample_film("ap")
    dark = write_dicom(tmp_path / "a.dcm", "ap", film.max() - film)
    assert any("AP: its sides are brighter than its middle" in line for line in read_radiograph(dark, AP).warnings)
    assert not any("its sides are" in line for line in read_radiograph(dark, AP, invert=True).warnings)
    volume, affine = read_nifti(SAMPLE / "ap.nii.gz")
    write_nifti(tmp_path / "a.nii.gz", volume.max() - volume, affine)
    assert any("its sides are" in line for line in read_radiograph(tmp_path / "a.nii.gz", AP).warnings)
    for name in ("ap", "lat"):
        wanted = AP if name == "ap" else LAT
        for path in (write_dicom(tmp_path / "b.dcm", name), SAMPLE / f"{name}.nii.gz"):
            assert not any("its sides are" in line for line in read_radiograph(path, wanted).warnings)


def test_a_presentation_that_contradicts_the_photometric_interpretation_is_told(tmp_path: Path) -> None:
    about = {"MONOCHROME2": "INVERSE", "MONOCHROME1": "INVERSE", "": "IDENTITY"}
    told = [
        any(
            "PresentationLUTShape INVERSE contradicts MONOCHROME2" in line
            for line in read_radiograph(
                write_dicom(
                    tmp_path / "a.dcm",
                    "ap",
                    PresentationLUTShape=shape,
                    PhotometricInterpretation=kind or "MONOCHROME2",
                ),
                AP,
            ).warnings
        )
        for kind, shape in about.items()
    ]
    assert told == [True, False, False]


@pytest.mark.parametrize(
    ("centre", "width", "words"),
    [
        (200, 400, "makes 8"), (3500, 300, "of the film the darkest value, ignored"), (1600, 2600, ""),
        (2000, 2500, ""), (3000, 3000, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dark", [False, True])
def test_a_window_that_leaves_little_of_the_film_is_ignored(
    centre: int, width: int, words: str, dark: bool, tmp_path: Path
) -> None:
    film = sample_film("ap")
    turned = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 3686 - centre} if dark else {}
    path = write_dicom(
        tmp_path / "a.dcm", "ap", film.max() - film if dark else film,
        **{"WindowCenter": centre, "WindowWidth": width, **turned},
    )  # fmt: skip
    read = read_radiograph(path, AP)
    told = [line for line in read.warnings if "the window in the header makes" in line]
    assert len(told) == bool(words) and all(words in line for line in told)
    assert (same_picture(read, film) > 0.9999) == bool(words)


REFUSED = {
    "swapped": "are --ap and --lat swapped",
    "swapped by letters": "are --ap and --lat swapped",
    "twice": "l.dcm: the same file for --ap and --lat",
    "two patients": "two different patients by their PatientID",
    "two birthdays": "two different patients by their PatientBirthDate",
    "two studies": "two different studies",
    "frames": "holds 3 frames",
    "no pixels": "no radiograph",
    "truncated": "truncated or damaged",
    "magnification": "magnification of 4.00 is impossible",
    "spacing": "PixelSpacing of 0 x 0 mm is impossible",
    "blank": "blank",
    "tiny": "are no radiograph",
    "text": "neither DICOM",
    "cut jpeg": "not a readable picture",
}


def spoilt(how: str, folder: Path) -> tuple[Path, Path]:
    ap, lat = folder / "a.dcm", folder / "l.dcm"
    write_dicom(ap, "ap")
    write_dicom(lat, "lat")
    if how == "swapped":
        return lat, ap
    if how == "twice":
        write_dicom(ap, "ap", ViewPosition=None, PatientOrientation=None)
        lat.unlink()
        lat.symlink_to(ap)
    elif how == "swapped by letters":
        write_dicom(ap, "lat", ViewPosition=None)
    elif how == "two patients":
        write_dicom(lat, "lat", PatientID="4712")
    elif how == "two birthdays":
        write_dicom(lat, "lat", PatientID=None, PatientBirthDate="19710102")
    elif how == "two studies":
        write_dicom(lat, "lat", StudyInstanceUID=generate_uid(), StudyDate="20240507")
    elif how == "frames":
        write_dicom(ap, "ap", NumberOfFrames=3)
    elif how == "no pixels":
        write_dicom(ap, "ap", PixelData=None)
    elif how == "truncated":
        ap.write_bytes(ap.read_bytes()[:50_000])
    elif how == "magnification":
        write_dicom(ap, "ap", PixelSpacing=None, EstimatedRadiographicMagnificationFactor=4)
    elif how == "spacing":
        write_dicom(ap, "ap", PixelSpacing=[0, 0])
    elif how == "blank":
        write_dicom(ap, "ap", np.zeros((100, 100), np.float32))
    elif how == "tiny":
        write_dicom(ap, "ap", sample_film("ap")[:20, :20])
    elif how == "text":
        ap = folder / "notes"
        ap.write_text("no film")
    elif how == "cut jpeg":
        ap = folder / "a.jpg"
        Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).save(ap)
        ap.write_bytes(ap.read_bytes()[:700])
    return ap, lat


@pytest.mark.parametrize("how", list(REFUSED))
def test_bad_films_are_refused_in_one_line_that_names_nobody(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ap, lat = spoilt(how, tmp_path)
    status = main(
        ["reconstruct", f"--ap={ap}", f"--lat={lat}", f"--annotations={SAMPLE}/annotations.json",
         f"--output={tmp_path}/result"]
    )  # fmt: skip
    error = capsys.readouterr().err
    assert status == 1 and len(error.strip().splitlines()) == 1 and REFUSED[how] in error
    assert not any(secret in error for secret in (SECRET, "4711", "4712", "19700102"))
    assert not (tmp_path / "result").exists()


def test_a_name_is_the_same_with_and_without_its_empty_parts(tmp_path: Path) -> None:
    ap = write_dicom(tmp_path / "a.dcm", "ap", PatientName="Doe^Jane", IssuerOfPatientID="A")
    for name in ("Doe^Jane^^^", "Doe^Jane^^^=", "Doe^Jane==", "DOE^JANE"):
        assert read_films(ap, write_dicom(tmp_path / "l.dcm", "lat", PatientName=name)).lat.there
    with pytest.raises(UserError, match="two different patients by their PatientName"):
        read_films(ap, write_dicom(tmp_path / "l.dcm", "lat", PatientName="Doe^^Jane"))
    with pytest.raises(UserError, match="two different patients by their IssuerOfPatientID"):
        read_films(ap, write_dicom(tmp_path / "l.dcm", "lat", IssuerOfPatientID="B"))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("KNEE", True), ("UNKNOWN", True), ("SKULL", True), (None, False), ("", False),
        ("LSSPINE", False), ("CHESTABDPELVIS", False), ("WHOLEBODY", False), ("NECK", False), ("TRUNK", False),
        ("LWS", False), ("lumbar spine", False),
    ],
)  # fmt: skip
def test_a_film_of_another_part_of_the_body_is_told(part: str | None, told: bool, tmp_path: Path) -> None:
    attributes = {} if part is None else {"BodyPartExamined": part}
    lines = read_radiograph(write_dicom(tmp_path / "a.dcm", "ap", **attributes), AP).warnings
    assert any(f"AP: BodyPartExamined is {part}, which is not known" in line for line in lines) == told


def test_one_day_in_two_studies_is_a_warning(tmp_path: Path) -> None:
    ap = write_dicom(tmp_path / "a.dcm", "ap")
    lat = write_dicom(tmp_path / "l.dcm", "lat", StudyInstanceUID=generate_uid())
    assert any("two studies of one day" in line for line in read_films(ap, lat).warnings)


def test_days_count_whatever_the_study_says(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    for study in ({"StudyInstanceUID": None}, {}):
        lat = write_dicom(tmp_path / "l.dcm", "lat", StudyDate="20300506", **study)
        with pytest.raises(UserError, match="two different studies by their StudyDate"):
            read_films(write_dicom(path, "ap", **study), lat)
    acquired = {"AcquisitionDate": "20240506"}
    lat = write_dicom(tmp_path / "l.dcm", "lat", AcquisitionDate="20240507")
    assert any("on two days by their" in w for w in read_films(write_dicom(path, "ap", **acquired), lat).warnings)
    # The form of old files; what is no date says nothing.
    for date in ("2024.05.06", ""):
        old = write_dicom(tmp_path / "l.dcm", "lat", StudyDate=date, **acquired)
        assert not any("days" in w for w in read_films(write_dicom(path, "ap", **acquired), old).warnings)


@pytest.mark.parametrize(
    ("imager", "distance", "told"),
    [
        (0.5, None, "a magnification of 0.50, which is impossible"), (3.5, None, "3.50, which is impossible"),
        (1.2, 900, "a magnification of 1.20, and what else the header says of it is 2.00"),
        (1.2, 1400, ""), (1.2, None, ""), (0.98, None, ""),
    ],
)  # fmt: skip
def test_a_calibration_that_no_magnification_can_make_is_questioned(
    imager: float, distance: float | None, told: str, tmp_path: Path
) -> None:
    about: dict[str, Any] = {"ImagerPixelSpacing": [imager] * 2}
    about |= {"DistanceSourceToDetector": 1800, "DistanceSourceToPatient": distance} if distance else {}
    film = read_films(write_dicom(tmp_path / "a.dcm", "ap", **about), None).ap
    lines = [line for line in film.scale_notes if "is the pixel size right?" in line]
    assert film.spacing_mm == (1.0, 1.0) and len(lines) == bool(told) and all(told in line for line in lines)


@pytest.mark.parametrize("anonymous", ["a", "l", "al"])
def test_films_of_which_one_is_anonymous_may_show_two_patients(anonymous: str, tmp_path: Path) -> None:
    nobody = dict.fromkeys(("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID"))
    ap = write_dicom(tmp_path / "a.dcm", "ap", **(nobody if "a" in anonymous else {}))
    lat = write_dicom(tmp_path / "l.dcm", "lat", **(nobody if "l" in anonymous else {}))
    assert "nothing in the files says that both films show the same patient" in read_films(ap, lat).warnings
    # One study is one patient.
    for path, name in ((ap, "ap"), (lat, "lat")):
        write_dicom(path, name, PatientID=None)
    assert not any("same patient" in line for line in read_films(ap, lat).warnings)


def test_views_by_every_attribute() -> None:
    for attributes, view, behind in (
        ({"ViewPosition": "PA"}, AP, True),
        ({"ViewPosition": "LL"}, LAT, True),
        ({"PositionerPrimaryAngle": -88}, LAT, None),
        ({"PositionerPrimaryAngle": 178}, AP, None),
        ({"SeriesDescription": "Whole spine LAT standing"}, LAT, None),
        ({"SeriesDescription": "Spine PA/LAT"}, None, None),
        ({"PatientOrientation": ["A", "F"]}, LAT, None),
        ({"PatientOrientation": ["R", "F"], "SeriesDescription": "lateral"}, AP, None),
    ):
        header = Dataset()
        for keyword, value in attributes.items():
            setattr(header, keyword, value)
        evidence = view_evidence(header)
        assert (evidence.projection, evidence.reversed) == (view, behind), attributes


@pytest.mark.parametrize(("codes", "view", "behind"), [
    (("399348003", "R-10206"), AP, False), (("272479007", "R-40888", "R-10214", " r-40888"), AP, True),
    (("399067008", "R-102CD"), LAT, None), (("399198007", "R-10232"), LAT, False),
    (("399173006", "R-10236"), LAT, True), (("R-10252", ""), None, None),
])  # fmt: skip
def test_view_codes_of_snomed_ct_and_rt(codes: tuple[str, ...], view: Projection | None, behind: bool | None) -> None:
    """What pydicom's dictionaries call antero-posterior, postero-anterior, lateral, right lateral, left lateral."""
    for code in codes:
        item, header = Dataset(), Dataset()
        item.CodeValue, header.ViewCodeSequence = code, Sequence([item])
        evidence = view_evidence(header)
        assert (evidence.projection, evidence.reversed) == (view, behind), code
        # View Position is trusted more.
        header.ViewPosition = "PA"
        assert view_evidence(header).reversed is True


def test_a_study_folder_gives_its_pair(tmp_path: Path) -> None:
    write_dicom(tmp_path / "study" / "IM1", "ap")
    write_dicom(tmp_path / "study" / "sub" / "IM2", "lat")
    write_dicom(tmp_path / "study" / "IM3", "ap", film=sample_film("ap") * 0.5, ImageType=["DERIVED", "SECONDARY"])
    (tmp_path / "study" / "notes.txt").write_text("not a film")
    pair = read_films(tmp_path / "study", tmp_path / "study")
    assert same_picture(pair.lat, sample_film("lat")) > 0.9999
    assert pair.ap.header is not None and pair.ap.header.ImageType[0] == "ORIGINAL"
    shutil.copy(tmp_path / "study" / "IM1", tmp_path / "study" / "IM4")
    with pytest.raises(UserError, match=r"2 films say that they are the AP view \(IM1, IM4\)"):
        read_films(tmp_path / "study", tmp_path / "study")
    with pytest.raises(UserError, match="no film says that it is the LAT view"):
        read_radiograph(write_dicom(tmp_path / "other" / "IM1", "ap").parent, LAT)


@pytest.mark.parametrize("left_bytes", [0, 140, 400, 700])
def test_no_film_takes_the_place_of_a_damaged_one(left_bytes: int, tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "IM1.dcm", "ap")
    whole.write_bytes(whole.read_bytes()[:left_bytes])
    write_dicom(tmp_path / "IM2", "lat")
    write_dicom(tmp_path / "IM3", "ap", ImageType=["DERIVED", "SECONDARY"])
    with pytest.raises(UserError, match=r"IM1\.dcm: a DICOM file that cannot be read and may be the AP film"):
        choose_film(tmp_path, AP)
    whole.unlink()
    report = write_dicom(tmp_path / "SR.dcm", "ap", Rows=None)
    data = pydicom.dcmread(report)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    data.save_as(report)
    assert choose_film(tmp_path, AP).name == "IM3"


@pytest.mark.parametrize("attributes", [
    {"ViewPosition": "RPO"}, {"ViewPosition": "AP", "SeriesDescription": "C-SPINE OBL"},
    {"ViewPosition": "AP", "PositionerPrimaryAngle": 45},
])  # fmt: skip
def test_an_oblique_film_is_no_view_of_ours(attributes: dict[str, Any], tmp_path: Path) -> None:
    """Of four films of a neck, two obliques are often called AP, with the orientation of a frontal film."""
    neck = {"ImagerPixelSpacing": [0.15, 0.15], "PixelSpacing": None, "PatientOrientation": ["L", "F"]}
    said = write_dicom(tmp_path / "study" / "IM3", "ap", **{**neck, **attributes})
    write_dicom(tmp_path / "study" / "IM1", "ap", **neck, SeriesDescription="C-SPINE AP LAT OBL")
    write_dicom(tmp_path / "study" / "IM2", "lat")
    assert choose_film(tmp_path / "study", AP).name == "IM1"
    if attributes["ViewPosition"] == "RPO":
        with pytest.raises(UserError, match=r"IM3: given as the AP view but ViewPosition says oblique"):
            read_radiograph(said, AP)
    else:
        assert any("says that this film is oblique" in line for line in read_radiograph(said, AP).warnings)
    silent = write_dicom(tmp_path / "study" / "IM4", "ap", **neck)
    with pytest.raises(UserError, match=r"\(IM1, IM4\); oblique films are often labelled so: .* with --ap FILE"):
        read_radiograph(tmp_path / "study", AP)
    assert read_radiograph(silent, AP).pixels.size


def test_dicom_pair_reconstructs_as_the_nifti_pair_and_keeps_its_secrets(tmp_path: Path) -> None:
    """The same film as DICOM, its height unknown, gives the same vertebra; the report tells what was assumed."""
    write_dicom(tmp_path / "study" / "a", "ap", bits=16, PhotometricInterpretation="MONOCHROME1",
                film=sample_film("ap").max() - sample_film("ap"))  # fmt: skip
    write_dicom(tmp_path / "study" / "l", "lat", bits=16)
    nifti = [f"--ap={SAMPLE}/ap.nii.gz", f"--lat={SAMPLE}/lat.nii.gz", f"--output={tmp_path}/nifti"]
    dicom = [f"--ap={tmp_path}/study", f"--lat={tmp_path}/study", f"--output={tmp_path}/dicom"]
    for films in (nifti, dicom):
        assert main(["reconstruct", *films, f"--annotations={SAMPLE}/annotations.json", "--levels=T12"]) == 0
    one, other = (json.loads((tmp_path / n / "report.json").read_text()) for n in ("nifti", "dicom"))
    assert other["vertebrae"][0]["volume_cm3"] == pytest.approx(one["vertebrae"][0]["volume_cm3"], rel=0.03)
    assert any("inverted" in line for line in other["warnings"]) and one["warnings"] == []
    assert len(other["films"]["ap"].pop("pixels_sha256")) == 64 and "pixels_sha256" not in one["films"]["ap"]
    assert other["films"]["ap"] == {
        "beam": "parallel", "pixel_mm": [1.0, 1.0], "scale_sd_percent": 0.0, "scale": "calibrated",
        "scale_from": "from the file or geometry",
    }  # fmt: skip
    assert one["lengths"] == other["lengths"] == "calibrated"
    files = [path for path in (tmp_path / "dicom").rglob("*") if path.is_file()]
    assert {"spine.nii.gz", "report.json", "T12.stl"} <= {path.name for path in files}
    for path in files:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert not any(s.encode() in content for s in (SECRET, "4711", "19700102")), path
