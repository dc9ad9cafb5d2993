"""Radiographs as machines, phones and other programs write them: read rightly, or refused with the reason."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.films.dicom import read_header
from scripts.films.film import Projection, Radiograph
from scripts.films.options import ReadingOptions
from scripts.films.pair import read_films, read_radiograph
from scripts.films.pixels import film_pixels
from scripts.io.annotations import read_annotations, write_annotations
from tests.conftest import ROOT, SAMPLE
from tests.dicom_films import sample_film, write_dicom

AP = Projection.FRONTAL


def likeness(film: Radiograph, wanted: np.ndarray) -> float:
    """Correlation; a mirror, transpose, inversion or wrap-around loses it."""
    assert film.pixels.shape == wanted.shape
    return float(np.corrcoef(film.pixels.ravel(), wanted.ravel())[0, 1])


def warned(film: Radiograph, words: str) -> bool:
    return any(words in line for line in film.warnings)


def write_raw(path: Path, stored: np.ndarray, **attributes: Any) -> Path:
    """The sample's AP film with given stored words."""
    write_dicom(path, "ap")
    data = pydicom.dcmread(path)
    data.Rows, data.Columns, data.BitsAllocated = *stored.shape[:2], 8 * stored.dtype.itemsize
    data.PixelData = stored.tobytes()
    for keyword, value in attributes.items():
        kind = pydicom.datadict.dictionary_VR(keyword).replace("US or SS", "US")
        data.add_new(keyword, kind, value)
    data.save_as(path)
    return path


def write_value(path: Path, keyword: str, kind: str, value: bytes, **attributes: Any) -> Path:
    """The sample's AP film with an attribute of any value representation and content."""
    write_dicom(path, "ap", **({keyword: None} if keyword in ("PixelSpacing",) else {}), **attributes)
    data = pydicom.dcmread(path)
    tag = pydicom.datadict.tag_for_keyword(keyword)
    data.pop(tag, None)
    data.add_new(0x00291001, "OB", b"MARK")
    data.save_as(path)
    value += b" " * (len(value) % 2)
    content = path.read_bytes()
    element = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind.encode()
    long = kind in ("UN", "OB", "SQ", "UT")
    element += struct.pack("<HL", 0, len(value)) if long else struct.pack("<H", len(value))
    start = content.index(struct.pack("<HH", 0x0029, 0x1001) + b"OB")
    rest = content[start + 16 :]
    # Where it stands in the order of tags does not matter to a reader.
    path.write_bytes(content[:start] + element + value + rest)
    return path


def twelve_bits() -> np.ndarray:
    film = sample_film("ap")
    return np.rint(film / film.max() * 4000).astype(np.uint16)


@pytest.mark.parametrize(
    ("keyword", "kind", "value", "spacing", "words"),
    [
        ("PixelSpacing", "DS", b"0,5\\0,5", (0.5, 0.5), ""),
        ("PixelSpacing", "LO", b"0.5\\0.6", (0.5, 0.6), ""),
        ("PixelSpacing", "UT", b"0.5\\0.6", (0.5, 0.6), ""),
        ("PixelSpacing", "FD", struct.pack("<dd", 0.5, 0.6), (0.5, 0.6), ""),
        ("PixelSpacing", "OB", b"0.5\\0.6", (0.5, 0.6), ""),
        ("PixelSpacing", "DS", b"0.5", (0.5, 0.5), "one value (0.5), taken for both"),
        ("WindowWidth", "DS", b"many", (1.0, 1.0), "attribute WindowWidth cannot be read (many), ignored"),
        ("PositionerPrimaryAngle", "DS", b"left", (1.0, 1.0), "PositionerPrimaryAngle cannot be read"),
        ("PregnancyStatus", "UL", b"\1\0", (1.0, 1.0), "attribute PregnancyStatus cannot be read, ignored"),
        ("ViewCodeSequence", "LO", b"lateral", (1.0, 1.0), "ViewCodeSequence is no sequence"),
    ],
)
def test_what_can_be_understood_is_read(
    keyword: str, kind: str, value: bytes, spacing: tuple[float, float], words: str, tmp_path: Path
) -> None:
    path = write_value(tmp_path / "a.dcm", keyword, kind, value)
    film = read_radiograph(path, AP)
    assert film.spacing_mm == pytest.approx(spacing) and likeness(film, sample_film("ap")) > 0.999
    assert warned(film, words) or not words
    # The header that outputs are made of holds no attribute that cannot be read.
    header = read_header(path)
    assert header is not None and len(list(header.iterall())) > 20


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("PixelSpacing", b"nan\\nan", "attribute PixelSpacing is not finite"),
        ("PixelSpacing", b"narrow", "attribute PixelSpacing cannot be read (narrow); give --spacing"),
        ("PixelSpacing", b"0.5\\0.6\\0.7", "attribute PixelSpacing cannot be read"),
        ("RescaleSlope", b"inf", "attribute RescaleSlope is not finite (inf)"),
        ("RescaleSlope", b"0", "attribute RescaleSlope is 0"),
        ("RescaleIntercept", b"low", "attribute RescaleIntercept cannot be read (low)"),
        ("WindowCenter", b"nan", "attribute WindowCenter is not finite (nan)"),
        ("DistanceSourceToDetector", b"inf", "attribute DistanceSourceToDetector is not finite"),
        ("Rows", b"tall", "attribute Rows cannot be read (tall)"),
        ("BitsAllocated", b"-16", "attribute BitsAllocated is missing, zero or negative"),
    ],
)
def test_what_decides_is_refused_by_name(
    keyword: str, value: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_value(tmp_path / "a.dcm", keyword, "DS", value)
    write_dicom(tmp_path / "l.dcm", "lat")
    marks = f"--annotations={SAMPLE}/annotations.json"
    films = [f"--ap={path}", f"--lat={tmp_path}/l.dcm", marks, f"--output={tmp_path}/o"]
    assert main(["reconstruct", *films]) == 1
    error = capsys.readouterr().err
    assert words in error and len(error.strip().splitlines()) == 1 and "damaged" not in error


def test_a_given_spacing_replaces_one_that_cannot_be_used(tmp_path: Path) -> None:
    lat = write_dicom(tmp_path / "l.dcm", "lat")
    for value in (b"narrow", b"0\\0", b"nan"):
        ap = write_value(tmp_path / "a.dcm", "PixelSpacing", "DS", value)
        with pytest.raises(UserError, match=r"PixelSpacing.*give --spacing"):
            read_films(ap, lat)
        assert read_films(ap, lat, ReadingOptions(spacing=(0.8, 0.9))).ap.spacing_mm == (0.8, 0.8)


def test_high_bit_signs_and_unused_bits(tmp_path: Path) -> None:
    values, film = twelve_bits(), sample_film("ap")
    path = tmp_path / "a.dcm"
    read = read_radiograph(write_raw(path, values << 4, BitsStored=12, HighBit=15), AP)
    assert likeness(read, film) > 0.9999 and read.pixels.max() == values.max() and warned(read, "bits 4 to 15")
    read = read_radiograph(write_raw(path, values, BitsStored=12, HighBit=15), AP)
    assert read.pixels.max() == values.max() and warned(read, "HighBit 15 contradicts the values")
    read = read_radiograph(write_raw(path, values, BitsStored=12, HighBit=3), AP)
    assert read.pixels.max() == values.max() and warned(read, "HighBit 3 is impossible")
    # Signed: the unused bits may or may not repeat the sign.
    signed = values.astype(np.int16) - 2000
    for words in (signed, signed & 0x0FFF):
        read = read_radiograph(write_raw(path, words, BitsStored=12, HighBit=11, PixelRepresentation=1), AP)
        assert likeness(read, film) > 0.9999 and read.pixels.min() < -1900
    assert warned(read, "PixelRepresentation 1")
    # An overlay in the unused bits, declared or small, is no part of the film; values that do not fit are refused.
    drawn = values.copy()
    drawn[100:103, 100:200] |= 0x8000
    read = read_radiograph(write_raw(path, drawn, BitsStored=12, HighBit=11), AP)
    assert np.array_equal(read.pixels, read_radiograph(write_raw(path, values, BitsStored=12, HighBit=11), AP).pixels)
    assert warned(read, "bits beyond BitsStored 12 hold something else")
    with pytest.raises(UserError, match="values reach 4000, beyond the 8 bits of BitsStored"):
        read_radiograph(write_raw(path, values, BitsStored=8, HighBit=7), AP)


def test_attributes_that_are_missing_take_their_usual_value(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", "ap", HighBit=None, PhotometricInterpretation=None, PixelRepresentation=None)
    film = read_radiograph(path, AP)
    assert likeness(film, sample_film("ap")) > 0.9999
    for words in ("HighBit is missing, taken as 11", "PhotometricInterpretation is missing, taken as MONOCHROME2"):
        assert warned(film, words)
    data = pydicom.dcmread(path)
    data.Rows *= 3
    data.save_as(path)
    with pytest.raises(UserError, match=r"truncated or damaged pixels \(239760 of"):
        read_radiograph(path, AP)
    data.Rows = 100
    data.save_as(path)
    with pytest.raises(UserError, match="bytes of pixels where Rows, Columns and BitsAllocated need"):
        read_radiograph(path, AP)


def round_field(shape: tuple[int, ...], radius: float = 140.0) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.hypot(rows - 165.0, columns - 180.0) <= radius


@pytest.mark.parametrize(
    ("value", "stored_as", "photometric"),
    [(65535, 65535, "MONOCHROME2"), (65535, 65535, "MONOCHROME1"), (0, 0, "MONOCHROME2"), (-1, 65535, "MONOCHROME2")],
)
def test_padding_around_a_round_field_is_masked_before_scaling(
    value: int, stored_as: int, photometric: str, tmp_path: Path
) -> None:
    film, seen = sample_film("ap"), round_field(sample_film("ap").shape)
    values = 100 + twelve_bits()
    stored = np.where(seen, values if photometric == "MONOCHROME2" else 4200 - values, stored_as).astype(np.uint16)
    path = write_raw(
        tmp_path / "a.dcm", stored, BitsStored=16, HighBit=15, PhotometricInterpretation=photometric,
        WindowCenter=2100, WindowWidth=4200,
    )  # fmt: skip
    data = pydicom.dcmread(path)
    data.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    data.save_as(path)
    read = read_radiograph(path, AP)
    inside = seen & (read.pixels > read.pixels.min())
    assert np.corrcoef(read.pixels[inside], film[inside])[0, 1] > 0.999
    assert (read.pixels[~seen] == read.pixels.min()).all() and warned(read, "% of the pixels are padding, masked")
    # With --invert what is masked stays dark.
    dark = read_radiograph(path, AP, invert=True)
    assert (dark.pixels[~seen] == dark.pixels.min()).all()


def test_black_inside_the_film_is_no_padding(tmp_path: Path) -> None:
    values = 1 + twelve_bits()
    values[:20] = 0
    values[150:160, 150:160] = 0
    path = write_raw(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11, PixelPaddingValue=0)
    _, seen, *_ = film_pixels(pydicom.dcmread(path), "AP", "a")
    assert not seen[:20].any() and seen[150:160, 150:160].all()
    with pytest.raises(UserError, match="every pixel is padding"):
        read_radiograph(write_raw(path, np.full_like(values, 7), PixelPaddingValue=7), AP)


def test_round_and_polygonal_shutters(tmp_path: Path) -> None:
    film = sample_film("ap")
    circle = write_dicom(
        tmp_path / "c.dcm", "ap", ShutterShape="CIRCULAR", CenterOfCircularShutter=[166, 181],
        RadiusOfCircularShutter=140,
    )  # fmt: skip
    read, seen = read_radiograph(circle, AP), round_field(film.shape)
    assert (read.pixels[~seen] == read.pixels.min()).all() and read.field == (25, 40, 306, 321)
    assert np.corrcoef(read.pixels[seen], film[seen])[0, 1] > 0.999
    corners = [11, 21, 11, 341, 301, 341, 301, 21]
    polygon = write_dicom(
        tmp_path / "p.dcm", "ap", CollimatorShape="POLYGONAL", VerticesOfThePolygonalCollimator=corners
    )
    assert np.abs(np.array(read_radiograph(polygon, AP).field) - [10, 20, 300, 340]).max() <= 1
    # A corner cut off by a blade: the field's rectangle is the film, the corner is masked.
    blade = [1, 1, 1, 360, 233, 360, 333, 260, 333, 1]
    lit = film.copy()
    lit[250:, 270:] += 5.0
    write_dicom(polygon, "ap", lit, ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=blade)
    read = read_radiograph(polygon, AP)
    assert read.field == (0, 0, *film.shape)
    assert read.pixels[320:, 350:].max() == read.pixels.min() < read.pixels[252:256, 272:300].min()


def lut(table: np.ndarray, first: int, depth: int, words: bool = True) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(table) % 65536, first, depth]
    item.add_new("LUTData", "OW", table.astype("<u2" if words else "u1").tobytes())
    return Sequence([item])


@pytest.mark.parametrize(("depth", "words"), [(8, False), (8, True), (10, True), (12, True), (16, True)])
@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_tables_of_any_depth(keyword: str, depth: int, words: bool, tmp_path: Path) -> None:
    """A table that squares, 4096 entries, bytes or words."""
    table = np.rint((np.arange(4096) / 4095) ** 2 * (2**depth - 1))
    path = write_dicom(tmp_path / "a.dcm", "ap", **{keyword: lut(table, 0, depth, words)})
    film = read_radiograph(path, AP)
    top, left, bottom, right = film.field
    part = np.s_[top:bottom, left:right]
    assert np.array_equal(film.pixels[part], table[twelve_dicom()][part])
    broken = write_dicom(tmp_path / "b.dcm", "ap", **{keyword: lut(table[:100], 0, depth, words)})
    data = pydicom.dcmread(broken)
    data[keyword].value[0].LUTDescriptor = [4096, 0, depth]
    data.save_as(broken)
    if keyword == "ModalityLUTSequence":
        with pytest.raises(UserError, match="ModalityLUTSequence cannot be read"):
            read_radiograph(broken, AP)
    else:
        film = read_radiograph(broken, AP)
        assert warned(film, "VOILUTSequence cannot be read") and likeness(film, sample_film("ap")) > 0.999


def twelve_dicom() -> np.ndarray:
    """The values that `write_dicom` stores of the sample's AP film."""
    film = sample_film("ap")
    return np.rint(film / film.max() * 4095 * 0.9).astype(int)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"WindowCenter": 2048, "WindowWidth": 0}, "WindowWidth is 0, window ignored"),
        ({"WindowCenter": 2048, "WindowWidth": -5}, "WindowWidth is -5, window ignored"),
        ({"WindowCenter": 2048, "WindowWidth": 1}, "WindowWidth is 1, window ignored"),
        ({"WindowCenter": 2048, "WindowWidth": 900, "VOILUTFunction": "CURVE"}, "VOILUTFunction is unknown (CURVE)"),
        ({"WindowCenter": 2048, "WindowWidth": 5000, "VOILUTFunction": ""}, ""),
        ({"WindowCenter": [2048, 9], "WindowWidth": [5000, 9]}, ""),
        ({"WindowCenter": 2048, "WindowWidth": 5000, "VOILUTFunction": "LINEAR_EXACT"}, ""),
        ({"WindowCenter": 2048}, ""),
        ({"VOILUTSequence": Sequence([])}, ""),
        (
            {
                "WindowCenter": -2048, "WindowWidth": 5000, "RescaleSlope": -1,
                "PhotometricInterpretation": "MONOCHROME1",
            },
            "",
        ),
    ],
)  # fmt: skip
def test_windows_that_say_nothing_change_nothing(attributes: dict, words: str, tmp_path: Path) -> None:
    film = read_radiograph(write_dicom(tmp_path / "a.dcm", "ap", **attributes), AP)
    assert likeness(film, sample_film("ap")) > 0.9999 and (warned(film, words) or not words)


def test_palette_colour_is_shown_in_its_colours(tmp_path: Path) -> None:
    """A palette that shows low indices bright: the film as displayed, not the indices."""
    film = sample_film("ap")
    index = (255 - np.rint(film / film.max() * 255)).astype(np.uint8)
    ramp = (np.arange(255, -1, -1) * 257).astype("<u2").tobytes()
    palette = {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in ("Red", "Green", "Blue")}
    palette |= {f"{c}PaletteColorLookupTableData": ramp for c in ("Red", "Green", "Blue")}
    path = write_raw(
        tmp_path / "a.dcm", index, BitsStored=8, HighBit=7, PhotometricInterpretation="PALETTE COLOR", **palette
    )
    assert likeness(read_radiograph(path, AP), film) > 0.999
    data = pydicom.dcmread(path)
    del data.RedPaletteColorLookupTableData
    data.save_as(path)
    with pytest.raises(UserError, match="its palette cannot be read"):
        read_radiograph(path, AP)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    bare = {"PixelSpacing": None, "ImagerPixelSpacing": None, "PixelAspectRatio": [4, 3]}
    ap, lat = write_dicom(tmp_path / "a.dcm", "ap", **bare), write_dicom(tmp_path / "l.dcm", "lat")
    with pytest.raises(UserError, match=r"not square.*pixel_spacing_mm in a --geometry file"):
        read_films(ap, lat)
    with pytest.raises(UserError, match="contradicts its PixelAspectRatio"):
        read_films(ap, lat, ReadingOptions(spacing=(1.0, 1.0)))
    setup = tmp_path / "g.yaml"
    setup.write_text("beam: parallel\nap: {pixel_spacing_mm: [1.2, 0.9]}\n")
    assert read_films(ap, lat, ReadingOptions(geometry=setup)).ap.spacing_mm == (1.2, 0.9)
    lying = np.ascontiguousarray(sample_film("ap").T)
    turned = write_dicom(tmp_path / "t.dcm", "ap", lying, PatientOrientation=["F", "L"], **bare)
    assert read_radiograph(turned, AP).aspect == pytest.approx(3 / 4)
    # Where the header has their size, one number for both directions is the user's word against it.
    oblong = write_dicom(tmp_path / "o.dcm", "ap", PixelSpacing=[1.0, 0.5])
    given = read_films(oblong, lat, ReadingOptions(spacing=(0.8, 0.9)))
    assert given.ap.spacing_mm == (0.8, 0.8)
    assert [line for line in given.warnings if "taken as square" in line] == [
        "AP: pixels taken as square, as --spacing says, against 1 x 0.5 mm in its file; pixel_spacing_mm of --geometry "
        "takes both"
    ]
    both = write_dicom(tmp_path / "b.dcm", "ap", PixelAspectRatio=[4, 3])
    assert any("PixelAspectRatio 4:3 contradicts" in line for line in read_radiograph(both, AP).scale_notes)


@pytest.mark.parametrize(
    ("spacing", "words", "refused"),
    [
        ([0.05, 0.05], "impossible", True),
        ([0.2, 0.2], "is the spacing right", False),
        ([1.0, 0.4], "unusual", False),
        ([5.1, 5.1], "impossible", True),
    ],
)
def test_implausible_sizes_are_questioned_for_every_format(
    spacing: list[float], words: str, refused: bool, tmp_path: Path
) -> None:
    Image.fromarray((sample_film("ap") * 30).astype(np.uint8)).save(tmp_path / "a.png")
    affine = np.array([[0, -spacing[1], 0, 0], [0, 0, 1, 0], [-spacing[0], 0, 0, 0], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(sample_film("ap"), affine), tmp_path / "a.nii")
    write_dicom(tmp_path / "a.dcm", "ap", PixelSpacing=spacing)
    for name in ("a.dcm", "a.nii", "a.png"):
        given = (spacing[0], 1.0) if name == "a.png" else None
        if given and spacing[0] != spacing[1]:
            continue
        if refused:
            with pytest.raises(UserError, match=words):
                read_films(tmp_path / name, None, ReadingOptions(spacing=given or (None, None)))
        else:
            assert any(
                words in line
                for line in read_films(tmp_path / name, None, ReadingOptions(spacing=given or (None, None))).warnings
            )


def test_source_distances_in_other_units_are_not_believed(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", "ap", DistanceSourceToDetector=180, DistanceSourceToPatient=150)
    film = read_radiograph(path, AP)
    assert film.optics.beam is None and any("implausible" in line for line in film.scale_notes)


def test_films_without_preamble(tmp_path: Path) -> None:
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", "ap"))
    del data.preamble
    data.file_meta = pydicom.dataset.FileMetaDataset()
    for implicit, name in ((True, "bare"), (False, "bare.dcm")):
        bare = tmp_path / name
        pydicom.dcmwrite(bare, data, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert bare.read_bytes()[:2] == b"\x08\0"
        film = read_radiograph(bare, AP)
        assert likeness(film, sample_film("ap")) > 0.9999 and warned(film, "no DICOM preamble")
    (tmp_path / "text.dcm").write_text("\x08 is no data set")
    with pytest.raises(UserError, match="neither with a preamble nor with a data set"):
        read_radiograph(tmp_path / "text.dcm", AP)


TIFFS = [
    (kind, order, packed)
    for kind in ("u1", "u2", "u4", "i2", "i4", "f4")
    for order in "<>"
    for packed in (None, "zlib")
]


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize(("kind", "order", "packed"), TIFFS)
def test_tiffs_of_any_depth(kind: str, order: str, packed: str | None, photometric: str, tmp_path: Path) -> None:
    film = sample_film("ap")
    top = {"u1": 255, "u2": 65535, "u4": 2**32 - 256, "i2": 32767, "i4": 2**31 - 256, "f4": 1.0}[kind]
    scaled = film / film.max() * top
    stored = (scaled if photometric == "minisblack" else top - scaled).astype(kind)
    if kind[0] == "i":
        stored -= np.array(top // 2, kind)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric=photometric, byteorder=order, compression=packed)
    assert likeness(read_radiograph(path, AP), film) > 0.9999


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "options"),
    [("jpg", {"quality": 95}), ("png", {}), ("tif", {}), ("tif", {"compression": "tiff_deflate"})],
)
def test_exif_orientation_is_applied(orientation: int, suffix: str, options: dict, tmp_path: Path) -> None:
    film = sample_film("ap")
    upright = np.rint(film / film.max() * 255).astype(np.uint8)
    # What a camera held otherwise stores: EXIF's table of which row and column come first.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: upright.T[::-1], 7: upright[::-1, ::-1].T, 8: upright.T[:, ::-1],
    }[orientation]  # fmt: skip
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    read = read_radiograph(path, AP)
    assert likeness(read, film) > 0.999 and warned(read, "EXIF orientation") == (orientation > 1)


def test_marks_of_the_unturned_picture_are_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("ap", "lat"):
        film = sample_film(name)
        Image.fromarray((film / film.max() * 255).astype(np.uint8)).save(tmp_path / f"{name}.png", exif=exif)
    films = [f"--ap={tmp_path}/ap.png", f"--lat={tmp_path}/lat.png", "--spacing=1", f"--output={tmp_path}/o"]
    assert main(["reconstruct", *films, f"--annotations={SAMPLE}/annotations.json"]) == 1
    assert "EXIF orientation" in capsys.readouterr().err


def test_other_pictures(tmp_path: Path) -> None:
    film = sample_film("ap")
    grey = Image.fromarray((film / film.max() * 255).astype(np.uint8))
    grey.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[grey.resize((90, 80))], quality=95)
    with Image.open(tmp_path / "phone.jpg") as image:
        assert image.format == "MPO" and image.n_frames == 2
    assert likeness(read_radiograph(tmp_path / "phone.jpg", AP), film) > 0.999
    # A palette in another order than brightness.
    order = np.random.default_rng(0).permutation(256)
    colours = np.zeros((256, 3), np.uint8)
    colours[order] = np.arange(256)[:, None]
    palette = Image.fromarray(order.astype(np.uint8)[np.asarray(grey)])
    palette.putpalette(colours.tobytes())
    for name in ("palette.png", "palette.tif", "palette.bmp"):
        palette.save(tmp_path / name)
        assert likeness(read_radiograph(tmp_path / name, AP), film) > 0.999
    # Transparent parts are no film, whatever colour they have.
    seen = round_field(film.shape)
    layers = np.dstack([np.where(seen, np.asarray(grey), 255)] * 3 + [np.where(seen, 255, 0)]).astype(np.uint8)
    Image.fromarray(layers).save(tmp_path / "cut.png")
    read = read_radiograph(tmp_path / "cut.png", AP)
    assert (read.pixels[~seen] == read.pixels.min()).all() and np.corrcoef(read.pixels[seen], film[seen])[0, 1] > 0.99
    for suffix in (".png", ".tif", ".bmp", ".jpg"):
        grey.convert("L").save(tmp_path / f"fax{suffix}", dpi=(204, 98))
        assert warned(read_radiograph(tmp_path / f"fax{suffix}", AP), "not the same in both directions")


def write_deep_png(path: Path, stored: np.ndarray, colour_type: int) -> Path:
    """A PNG of 16 bits a value that Pillow does not write; (rows, columns, channels), each byte less the one before."""
    rows, columns, channels = stored.shape
    lines = stored.astype(">u2").view(np.uint8).reshape(rows, columns, 2 * channels)
    packed = np.diff(lines, axis=1, prepend=np.zeros_like(lines[:, :1])).reshape(rows, -1)
    content = {
        b"IHDR": struct.pack(">IIBBBBB", columns, rows, 16, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(np.insert(packed, 0, 1, axis=1).tobytes()),
        b"IEND": b"",
    }
    blocks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in content.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(blocks))
    return path


@pytest.mark.parametrize(("channels", "colour_type"), [("L", 0), ("LA", 4), ("RGB", 2), ("RGBA", 6)])
def test_png_of_16_bits_keeps_them(channels: str, colour_type: int, tmp_path: Path) -> None:
    """A detector's 12 bits in 16, as grey and as colours, with and without alpha."""
    values, seen = twelve_bits(), round_field(sample_film("ap").shape)
    layers = [np.where(seen, 65535, 0) if name == "A" else values for name in channels]
    read = read_radiograph(write_deep_png(tmp_path / "a.png", np.dstack(layers), colour_type), AP)
    top, left, bottom, right = read.field
    part = np.s_[max(top, 60) : min(bottom, 270), max(left, 90) : min(right, 270)]
    assert seen[part].all() and np.allclose(read.pixels[part], values[part], atol=0.01)
    if "A" in channels:
        assert (read.pixels[~seen] == read.pixels.min()).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [None, "zlib"])
def test_tiff_of_16_bits_a_colour_keeps_them(packed: str | None, order: str, tmp_path: Path) -> None:
    values = twelve_bits()
    path = tmp_path / "a.tif"
    turned = values.T[::-1]  # as EXIF orientation 6 stores it
    tifffile.imwrite(
        path, np.dstack([turned] * 3), photometric="rgb", byteorder=order, compression=packed,
        extratags=[(274, "H", 1, 6, True)],
    )  # fmt: skip
    read = read_radiograph(path, AP)
    top, left, bottom, right = read.field
    part = np.s_[top:bottom, left:right]
    assert np.allclose(read.pixels[part], values[part], atol=0.01) and warned(read, "EXIF orientation 6")
    tifffile.imwrite(path, np.stack([values] * 3), photometric="rgb", planarconfig="separate", compression=packed)
    with pytest.raises(
        UserError, match=r"a\.tif: 16 bits a colour, in a form that is not read; save it as 16-bit grey"
    ):
        read_radiograph(path, AP)


def test_a_file_name_that_is_no_utf8_becomes_one(tmp_path: Path) -> None:
    """As an old Windows writes an umlaut; marks and reports with its name can be written and read again."""
    path = tmp_path / os.fsdecode(b"Wirbels\xe4ule_ap.png")
    Image.fromarray((sample_film("ap") * 30).astype(np.uint8)).save(path)
    films = read_films(path, None)
    assert films.name == "Wirbels\N{REPLACEMENT CHARACTER}ule_ap"
    marks = replace(read_annotations(SAMPLE / "annotations.json"), case=films.name)
    write_annotations(tmp_path / "marks.json", marks)
    assert read_annotations(tmp_path / "marks.json") == marks


def test_pictures_that_are_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film = sample_film("ap")
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(UserError, match="no PNG, JPEG, TIFF or BMP picture"):
        read_radiograph(tmp_path / "a.png", AP)
    tifffile.imwrite(tmp_path / "n.tif", np.where(film > 5, np.nan, film).astype(np.float32), photometric="minisblack")
    with pytest.raises(UserError, match="pixels are NaN or infinite"):
        read_radiograph(tmp_path / "n.tif", AP)
    Image.new("L", (40, 40)).save(tmp_path / "cut.tif", compression="tiff_lzw", strip_size=200)
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:8] + b"\xff" * 60 + content[68:])
    with pytest.raises(UserError, match="truncated or damaged"):
        read_radiograph(tmp_path / "cut.tif", AP)
    assert capfd.readouterr() == ("", "")
    Image.new("L", (20000, 10000)).save(tmp_path / "big.png")
    with pytest.raises(UserError, match="too many pixels"):
        read_radiograph(tmp_path / "big.png", AP)
    Image.new("L", (10, 40000)).save(tmp_path / "long.png")
    with pytest.raises(UserError, match=r"long\.png: 40000 x 10 pixels; no side"):
        read_radiograph(tmp_path / "long.png", AP)


def test_pixels_of_every_format_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the header says, before they are unpacked: there are not as many in this file."""
    header = nib.Nifti1Image(np.zeros((2, 2), np.uint8), nib.load(SAMPLE / "ap.nii.gz").affine).header
    header["dim"][:3], header["vox_offset"], header["magic"] = (2, 10_001, 10_000), 352, b"n+1"
    noise = np.random.default_rng(0).integers(0, 255, 100_000, np.uint8).tobytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4) + noise))
    with pytest.raises(
        UserError, match=r"bomb.nii.gz: too many pixels \(10001 x 10000\); a film has up to 100 million"
    ):
        read_radiograph(tmp_path / "bomb.nii.gz", AP)
    Image.fromarray(sample_film("ap").astype(np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr("scripts.films.plausible.MOST_PIXELS", 100_000)
    for path in (SAMPLE / "ap.nii.gz", tmp_path / "a.png", write_dicom(tmp_path / "a.dcm", "ap")):
        with pytest.raises(UserError, match=r"too many pixels \(333 x 360\)"):
            read_radiograph(path, AP)


def test_a_data_set_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", "ap"))
    plain = read_radiograph(tmp_path / "a.dcm", AP).pixels
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "packed.dcm")
    assert np.array_equal(read_radiograph(tmp_path / "packed.dcm", AP).pixels, plain)
    monkeypatch.setattr("scripts.films.header.MOST_UNPACKED_BYTES", 200_000)  # its pixels alone are 240 kB
    assert np.array_equal(read_radiograph(tmp_path / "a.dcm", AP).pixels, plain)
    with pytest.raises(UserError, match=r"packed\.dcm: unpacks to more than"):
        read_radiograph(tmp_path / "packed.dcm", AP)


def sample_nifti() -> tuple[np.ndarray, np.ndarray]:
    return sample_film("ap"), nib.load(SAMPLE / "ap.nii.gz").affine


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000.0), ("meter", 0.001), ("unknown", 1.0), ("mm", 1.0)])
def test_nifti_units_become_millimetres(unit: str, factor: float, tmp_path: Path) -> None:
    film, affine = sample_nifti()
    image = nib.Nifti1Image(film, np.diag([factor, factor, factor, 1.0]) @ affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    read = read_radiograph(tmp_path / "a.nii", AP)
    plain = read_radiograph(SAMPLE / "ap.nii.gz", AP)
    assert read.spacing_mm == pytest.approx((1.0, 1.0)) and read.placed is not None and plain.placed is not None
    assert read.placed.isocentre_mm == pytest.approx(plain.placed.isocentre_mm, abs=1e-3)


def test_niftis_of_other_shapes_and_types(tmp_path: Path) -> None:
    film, affine = sample_nifti()
    path = tmp_path / "A.NII"
    grey = (film / film.max() * 255).astype(np.uint8)
    for letters in ("RGB", "RGBA"):
        colours = np.zeros(film.shape, [(letter, "u1") for letter in letters])
        for letter in letters:
            colours[letter] = grey if letter != "A" else 255
        nib.save(nib.Nifti1Image(colours, affine), tmp_path / "c.nii")
        assert likeness(read_radiograph(tmp_path / "c.nii", AP), film) > 0.999
    nib.save(nib.Nifti1Image(film.reshape(*film.shape, 1, 1), affine), tmp_path / "f.nii")
    (tmp_path / "f.nii").rename(path)
    assert likeness(read_radiograph(path, AP), film) > 0.9999
    for array, words in (
        (np.zeros((40, 40, 40, 1), np.float32), r"a radiograph is 2D, this has shape \(40, 40, 40\)"),
        (film.astype(np.complex64), "no numbers of grey"),
        (film.astype(np.float64) * 1e300, "pixels are NaN or infinite"),
    ):
        nib.save(nib.Nifti1Image(array, affine), tmp_path / "b.nii")
        with pytest.raises(UserError, match=words):
            read_radiograph(tmp_path / "b.nii", AP)


@pytest.mark.parametrize(
    ("offset", "content", "words"),
    [
        (40, struct.pack("<4h", 3, 32767, 32767, 32767), "its header says 32767 x 32767 x 32767 voxels"),
        (42, struct.pack("<h", -5), "dim in its header says -5 x 360"),
        (70, struct.pack("<h", 9999), "its header is not valid .data code 9999"),
        (280, struct.pack("<4f", *[np.nan] * 4), "srow_x in its header is NaN or infinite"),
        (123, b"\x07", "unit of length in its header"),
        (108, struct.pack("<f", np.nan), "cannot be read as NIfTI"),
        (280, struct.pack("<4f", 0, 0, 0, 0), "sform in its header is 0 along an axis: no voxel size"),
    ],
)
def test_impossible_nifti_headers_are_named(offset: int, content: bytes, words: str, tmp_path: Path) -> None:
    film, affine = sample_nifti()
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(film, affine), path)
    spoilt = bytearray(path.read_bytes())
    spoilt[offset : offset + len(content)] = content
    path.write_bytes(spoilt)
    with pytest.raises(UserError, match=words):
        read_radiograph(path, AP)


def test_a_nifti_without_pixel_size_and_nothing_else_said(tmp_path: Path) -> None:
    """nibabel would take 0 for 1 mm; and its own log is no part of the one line."""
    film, affine = sample_nifti()
    image = nib.Nifti1Image(film, affine)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    spoilt = bytearray((tmp_path / "a.nii").read_bytes())
    spoilt[80:84] = struct.pack("<f", 0)
    (tmp_path / "a.nii").write_bytes(spoilt)
    command = [sys.executable, "-m", "scripts", "annotate", f"--ap={tmp_path}/a.nii", f"--output={tmp_path}/o.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {tmp_path}/a.nii: pixdim in its header is 0: no voxel size"
