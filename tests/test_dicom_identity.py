"""Headers as machines write them, good and bad: what of them reaches our objects, and what is told."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.charset import convert_encodings, encode_string
from pydicom.tag import Tag

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.export.export import export_dicom, film_headers
from scripts.export.identity import exportable
from scripts.export.origin import describe, make_origin
from scripts.io.annotations import Annotations, Mark, ViewMarks, write_annotations
from scripts.io.nifti import write_nifti
from scripts.spine.mesh import vertebra_mesh, write_stl
from tests.conftest import SAMPLE
from tests.dicom_films import DX, STUDY, write_dicom
from tests.iod import missing_attributes

FILM = np.outer(np.arange(40), np.arange(50)).astype(np.float32)


@pytest.fixture(scope="module")
def reconstruction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reconstruction")
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[5:15, 5:15, 5:15] = 20
    write_nifti(folder / "spine.nii.gz", labels, np.eye(4))
    write_stl(vertebra_mesh(labels == 20, np.eye(4)), folder / "meshes" / "L1.stl")
    marks = ViewMarks((40, 50), (Mark(20, (9.0, 9.0)),))
    write_annotations(folder / "annotations.json", Annotations(marks, marks))
    (folder / "report.json").write_text("{}")
    return folder


def film(path: Path, name: str = "ap", raw: dict[str, bytes] | None = None, **attributes: Any) -> Path:
    """A film with values, byte by byte, that the library would not write."""
    raw = {keyword: value + b" " * (len(value) % 2) for keyword, value in (raw or {}).items()}
    stand_ins = {keyword: "Q" * len(value) for keyword, value in raw.items()}
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        write_dicom(path, name, film=FILM, **attributes)
        data = pydicom.dcmread(path)
        for keyword, value in stand_ins.items():
            tag = Tag(keyword)
            kind = "CS" if pydicom.datadict.dictionary_VR(tag) == "DS" else pydicom.datadict.dictionary_VR(tag)
            data[tag] = pydicom.DataElement(tag, kind, value)
        data.save_as(path)
        written = path.read_bytes()
        for keyword, value in raw.items():
            tag = Tag(keyword)
            start = struct.pack("<HH", tag.group, tag.element) + data[tag].VR.encode() + struct.pack("<H", len(value))
            assert start + b"Q" * len(value) in written
            kind = pydicom.datadict.dictionary_VR(tag).encode()
            written = written.replace(start + b"Q" * len(value), start[:4] + kind + start[6:] + value)
    path.write_bytes(written)
    return path


def objects(reconstruction: Path, output: Path, ap: Path, lat: Path | None = None) -> list[Dataset]:
    headers = film_headers(ap, lat or write_dicom(output.parent / "lat", "lat", film=FILM, PatientName=None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = [pydicom.dcmread(path) for path in export_dicom(reconstruction, output, headers)]
    assert len(written) == 2
    for data in written:
        assert missing_attributes(data) == []
    return written


NAMES = {
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO_IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 87\\ISO 2022 IR 159": "Yamada^Tarou=山田^太郎=侎^やまだ",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "\\ISO 2022 IR 58": "Zhang^XiaoDong=张^小东=",
    "GB18030": "Wang^XiaoDong=王^小东",
    "ISO_IR 192": "Wang^XiaoDong=王^小東",
    "ISO_IR 100": "Müller^Jörg",
    "\\ISO 2022 IR 100": "Müller^Jörg",
    "ISO_IR 144": "Иванов^Пётр",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 148": "Çavuşoğlu",
    "ISO_IR 166": "นามสกุล",
    "ISO IR 100": "Müller^Jörg",
    "ISO_IR 999": "Doe^Jane",
    "": "Doe^Jane",
}


@pytest.mark.parametrize("terms", NAMES)
def test_names_in_any_character_set(terms: str, reconstruction: Path, tmp_path: Path) -> None:
    """All objects have the name, as a reader that knows nothing of us reads it."""
    name = NAMES[terms]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encodings = convert_encodings(terms.split("\\"))
        person = b"=".join(
            b"^".join(encode_string(part, encodings) for part in group.split("^")) for group in name.split("=")
        )
        if terms.endswith("IR 58"):
            person = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="
        raw = {"SpecificCharacterSet": terms.encode(), "PatientName": person, "ReferringPhysicianName": person}
        ap = film(tmp_path / "ap", raw=raw)
        assert str(pydicom.dcmread(ap).PatientName).replace("\x1b$)A", "").rstrip("=") == name.rstrip("=")
    for data in objects(reconstruction, tmp_path / "out", ap):
        assert str(data.PatientName).rstrip("=") == name.rstrip("=") == str(data.ReferringPhysicianName).rstrip("=")
        assert data.PatientID == "4711" and data.SpecificCharacterSet == "ISO_IR 192"
    assert exportable(film_headers(ap, ap))[1] == []


@pytest.mark.parametrize(
    ("terms", "person"),
    [
        (b"", "山田^太郎".encode("shift_jis")),
        (b"", "Müller".encode("latin-1")),
        (b"ISO_IR 999", "Müller".encode("latin-1")),
        (b"", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        (b"ISO_IR 192", "Müller".encode("latin-1")),
        (b"\\ISO 2022 IR 87", "Müller".encode("latin-1")),
        (b"ISO_IR 100", b"A\\B"),
    ],
)
def test_a_name_that_cannot_be_read_is_not_invented(
    terms: bytes, person: bytes, reconstruction: Path, tmp_path: Path
) -> None:
    ap = film(tmp_path / "ap", raw={"SpecificCharacterSet": terms, "PatientName": person})
    for data in objects(reconstruction, tmp_path / "out", ap):
        assert str(data.PatientName) == "" and data.PatientID == "4711"
    (line,) = exportable(film_headers(ap, write_dicom(tmp_path / "l", "lat", film=FILM, PatientName=None)))[1]
    assert line.startswith("AP: PatientName is left out of the DICOM objects (") and "M" not in line.split("(")[1][:1]
    film(ap, raw={"SpecificCharacterSet": terms, "PatientID": person})
    with pytest.raises(UserError, match="the AP film's Patient ID cannot be copied"):
        exportable([film_headers(ap, ap)[0], None])


WRONG = {
    "StudyDate": {b"2026.01.01": "20260101", b"20261301": "", b"yesterday": ""},
    "PatientBirthDate": {b"19700000": "", b"1970": "", b"1970.02.03": "19700203"},
    "StudyTime": {b"12:00:00": "120000", b"12:34": "1234", b"noon": "", b"12:00:00.5": "120000.5"},
    "PatientAge": {b"45": None, b"045Y": "045Y", b"45Y": None},
    "PatientSex": {b"f": "F", b"female": "", b"O": "O"},
    "PatientSize": {b"1,75": None, b"1.75": "1.75"},
    "PatientWeight": {b"heavy": None},
    "PatientIdentityRemoved": {b"maybe": None, b"NO": "NO"},
    "PatientID": {b"A" * 80: "A" * 80},
    "AccessionNumber": {b"ACC-TOO-LONG-FOR-SH-VR-123456": "ACC-TOO-LONG-FOR-SH-VR-123456"},
    "Manufacturer": {b"M" * 70: "vertebra-biplanar-reconstruction"},
    "DeviceSerialNumber": {b"S" * 70: "none"},
    "Modality": {b"DX": None},
    "AcquisitionDateTime": {b"2026.01.01 12:00": None},
}


@pytest.mark.parametrize(("keyword", "value"), [(k, v) for k, values in WRONG.items() for v in values])
def test_what_the_standard_does_not_allow(keyword: str, value: bytes, reconstruction: Path, tmp_path: Path) -> None:
    wanted = WRONG[keyword][value]
    ap = film(tmp_path / "ap", raw={keyword: value})
    lat = write_dicom(
        tmp_path / "lat",
        "lat",
        film=FILM,
        **{k: None for k in ("PatientSex", "PatientBirthDate", "PatientID", "StudyDate")},
    )
    for data in objects(reconstruction, tmp_path / "out", ap, lat):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if wanted is not None:
                assert str(data.get(keyword)) == wanted
            elif keyword not in ("Modality", "AcquisitionDateTime"):
                assert keyword not in data
        assert data.StudyInstanceUID == STUDY
    notes = exportable(film_headers(ap, lat))[1]
    assert bool(notes) == (wanted in ("", None) and keyword != "Modality")
    assert all(keyword in line and value.decode() not in line for line in notes)


@pytest.mark.parametrize("value", [None, b"", b"1.2.x", b"1." * 40])
@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("both", [False, True])
def test_missing_uids_cost_the_reference_and_no_more(
    keyword: str, value: bytes | None, both: bool, reconstruction: Path, tmp_path: Path
) -> None:
    paths = [film(tmp_path / name, name) for name in ("ap", "lat")]
    for path in paths if both else paths[:1]:
        data = pydicom.dcmread(path)
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            if value is None:
                del data[keyword]
            else:
                data[keyword].value = value.decode()
            for name in ("MediaStorageSOPInstanceUID", "MediaStorageSOPClassUID"):
                if name in data.file_meta:
                    del data.file_meta[name]
            data.save_as(path, enforce_file_format=False)
    read = film_headers(*paths)
    clean, notes = exportable(read)
    whole = [f for f in clean if keyword in f]
    assert len(whole) == (0 if both else 1)
    assert len(notes) == (2 if both else 1) + (both and keyword == "StudyInstanceUID")
    for data in objects(reconstruction, tmp_path / "out", *paths):
        assert (data.PatientID, str(data.PatientName)) == ("4711", "Doe^Jane")
        assert (data.StudyInstanceUID == STUDY) is not (both and keyword == "StudyInstanceUID")
        referenced = [
            item.ReferencedSOPInstanceUID
            for series in data.get("ReferencedSeriesSequence", [])
            for item in series.ReferencedInstanceSequence
        ]
        assert referenced == [str(f.SOPInstanceUID) for f in whole]


def test_uids_of_the_file_meta_information_stand_in(tmp_path: Path) -> None:
    path = film(tmp_path / "ap")
    data = pydicom.dcmread(path)
    uid = data.SOPInstanceUID
    del data.SOPInstanceUID, data.SOPClassUID
    data.save_as(path, enforce_file_format=False)
    (clean,), notes = exportable([film_headers(path, path)[0]])
    assert (clean.SOPInstanceUID, clean.SOPClassUID, notes) == (uid, DX, [])


def test_what_cannot_be_filed_is_known_before_the_networks_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripts.job import run

    def none_runs(*_: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(run, "find_marks", none_runs)
    for name in ("ap", "lat"):
        film(tmp_path / f"{name}.dcm", name, raw={"PatientID": "山".encode("shift_jis")})
    films = [f"--{name}={tmp_path}/{name}.dcm" for name in ("ap", "lat")]
    assert (
        main(["reconstruct", *films, f"--annotations={SAMPLE}/annotations.json", f"--output={tmp_path}/o", "--dicom"])
        == 1
    )
    said = capsys.readouterr().err
    assert "the AP film's Patient ID cannot be copied" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_the_patient_is_that_of_the_film_that_names_one(tmp_path: Path) -> None:
    ap = film(tmp_path / "ap", PatientID="", PatientName="", AccessionNumber="", StudyInstanceUID=None)
    lat = film(tmp_path / "lat", "lat")
    headers, notes = exportable(film_headers(ap, lat))
    assert any("AP: no Patient ID; the DICOM objects have patient and study of the LAT film" in line for line in notes)
    data = Dataset()
    describe(data, make_origin(headers, [], "", False))
    assert (data.PatientID, data.AccessionNumber, data.StudyInstanceUID) == ("4711", "88", STUDY)
    notes = exportable(film_headers(ap, film(lat, "lat", PatientID="")))[1]
    assert "no DICOM film has a Patient ID: the DICOM objects have none" in notes


def test_objects_that_differ_in_a_word_have_uids_of_their_own(tmp_path: Path) -> None:
    """The same spine with other levels' words, or of the same films under a corrected name, is another object."""

    def seed(levels: str = "levels not confirmed", edited: bool = False, **attributes: str) -> str:
        path = film(tmp_path / "ap", SOPInstanceUID="1.2.3", **attributes)
        return make_origin(exportable([film_headers(path, path)[0]])[0], [], levels, edited).seed

    assert seed() == seed()
    others = [seed("levels confirmed by user"), seed(edited=True), seed(PatientName="Doe^Joan"), seed(StudyID="8")]
    assert len({seed(), *others}) == 5
