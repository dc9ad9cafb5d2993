"""Reconstructions out as DICOM: read back, checked against the standard, and nobody invented."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import trimesh
from pydicom import Dataset
from pydicom.uid import RLELossless, generate_uid

from scripts.__main__ import main
from scripts.errors import UserError
from scripts.export.codes import level_code
from scripts.export.export import export_dicom, film_headers
from scripts.export.same_films import check_same_films
from scripts.films.dicom import read_dicom
from scripts.films.film import Projection
from scripts.io.annotations import Annotations, Mark, ViewMarks, write_annotations
from scripts.io.nifti import read_nifti, write_nifti
from scripts.job.options import OutputOptions
from scripts.job.output import check_output
from scripts.levels import LEVEL_NAMES, level_name
from scripts.measure.status import Use
from scripts.spine.mesh import vertebra_mesh, write_stl
from tests.conftest import SAMPLE
from tests.dicom_films import SECRET, STUDY, sample_film, write_dicom
from tests.iod import missing_attributes

NUMBERS = (18, 19, 20)
WHEN = datetime(2026, 1, 2, 3, 4, 5)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def reconstruction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reconstruction's folder with the sample's true vertebrae in it."""
    folder = tmp_path_factory.mktemp("reconstruction")
    labels, affine = read_nifti(SAMPLE / "labelmap.nii.gz")
    labels = np.where(np.isin(labels, NUMBERS), labels, 0).astype(np.uint8)
    write_nifti(folder / "spine.nii.gz", labels, affine)
    for number in NUMBERS:
        write_stl(vertebra_mesh(labels == number, affine), folder / "meshes" / f"{level_name(number)}.stl")
    shutil.copy(SAMPLE / "annotations.json", folder)
    (folder / "report.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset | None]:
    folder = tmp_path_factory.mktemp("films")
    return film_headers(write_dicom(folder / "a.dcm", "ap"), write_dicom(folder / "l.dcm", "lat"))


@pytest.fixture(scope="module")
def exported(reconstruction: Path, films: list[Dataset | None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dicom") / "out"
    paths = export_dicom(reconstruction, output, films, WHEN)
    assert [p.name for p in paths] == ["L1.stl.dcm", "T11.stl.dcm", "T12.stl.dcm", "spine.seg.dcm"]
    return output


@pytest.fixture(scope="module")
def anonymous(reconstruction: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dicom") / "out"
    assert len(export_dicom(reconstruction, output, None, WHEN)) == 4
    return output


def test_segmentation_holds_each_voxel_where_it_was(reconstruction: Path, exported: Path) -> None:
    """Through plain pydicom: bits, plane positions and orientation give back the labelmap's points in LPS mm."""
    labels, affine = read_nifti(reconstruction / "spine.nii.gz")
    data = pydicom.dcmread(exported / "spine.seg.dcm")
    frames = data.pixel_array
    shared = data.SharedFunctionalGroupsSequence[0]
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    names = {int(s.SegmentNumber): s.SegmentLabel for s in data.SegmentSequence}
    assert list(names.values()) == ["T11", "T12", "L1"]
    points: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
    for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        r, c = np.nonzero(frame)
        name = names[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        points[name].append(origin + r[:, None] * spacing[0] * column + c[:, None] * spacing[1] * row)
    for number in NUMBERS:
        wanted = np.argwhere(labels == number) @ affine[:3, :3].T + affine[:3, 3]
        wanted = np.round(wanted @ LPS[:3, :3], 2)
        found = np.round(np.concatenate(points[level_name(number)]), 2)
        assert len(found) == len(wanted)
        assert np.allclose(found[np.lexsort(found.T)], wanted[np.lexsort(wanted.T)], atol=0.011)


def test_segmentation_reads_back_through_highdicom(reconstruction: Path, exported: Path) -> None:
    labels, _ = read_nifti(reconstruction / "spine.nii.gz")
    data = hd.seg.segread(exported / "spine.seg.dcm")
    volume = data.get_volume(combine_segments=True)
    counts = np.bincount(volume.array.astype(int).ravel(), minlength=4)[1:]
    assert counts.tolist() == [(labels == n).sum() for n in NUMBERS]
    assert [data.get_segment_description(i).segmented_property_type.meaning for i in (1, 2, 3)] == [
        "T11 vertebra", "T12 vertebra", "L1 vertebra",
    ]  # fmt: skip
    assert data.get_segment_description(1).algorithm_type is hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "levels not confirmed"),
        ({"levels_confirmed": True}, "levels confirmed by user"),
        ({"levels_uncertain": True}, "levels uncertain by one"),
    ],
)
def test_descriptions_say_how_far_the_levels_can_be_trusted(
    reconstruction: Path, said: dict[str, bool], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "reconstruction"
    shutil.copytree(reconstruction, folder)
    marks = json.loads((folder / "annotations.json").read_text())
    (folder / "annotations.json").write_text(json.dumps({**marks, **said}))
    for path in export_dicom(folder, tmp_path / "out", None, WHEN):
        data = pydicom.dcmread(path)
        # ContentDescription and SeriesDescription are LO.
        told = [data.get(key) for key in ("SeriesDescription", "ContentDescription", "DocumentTitle") if key in data]
        assert len(told) == 2 and all(text.endswith(f"; {words}") and len(text) <= 64 for text in told)
        assert missing_attributes(data) == []


def test_objects_say_what_a_vertebra_is_not_good_for(reconstruction: Path, tmp_path: Path) -> None:
    """In the segment's description and the surface's title, within the standard's length; of good ones, nothing."""
    folder = tmp_path / "reconstruction"
    shutil.copytree(reconstruction, folder)
    rows = [
        {"level": "T11", "use": Use.NOT.value, "reasons": ["confidence 0.01: its shape is uncertain", "90° askew"]},
        {"level": "T12", "use": Use.CHECK.value, "reasons": ["° " * 500]},
        {"level": "L1", "use": Use.GOOD.value, "reasons": []},
    ]
    export_dicom(folder, tmp_path / "good", None, WHEN)
    (folder / "report.json").write_text(json.dumps({"vertebrae": rows}))
    paths = {path.name: path for path in export_dicom(folder, tmp_path / "out", None, WHEN)}
    said = {
        s.SegmentLabel: s.get("SegmentDescription") for s in pydicom.dcmread(paths["spine.seg.dcm"]).SegmentSequence
    }
    assert said["T11"] == "do not use: confidence 0.01: its shape is uncertain; 90° askew" and said["L1"] is None
    assert said["T12"].startswith("check: ° ") and 1020 < len(said["T12"].encode()) <= 1024
    titles = {name: pydicom.dcmread(paths[f"{name}.stl.dcm"]).DocumentTitle for name in said}
    assert titles["T11"] == f"Vertebra T11; levels not confirmed; {said['T11']}"
    assert titles["L1"] == "Vertebra L1; levels not confirmed" and titles["T12"].endswith("...")
    uids = [pydicom.dcmread(path / "L1.stl.dcm").SOPInstanceUID for path in (tmp_path / "good", tmp_path / "out")]
    assert uids[0] != uids[1]
    for path in paths.values():
        assert missing_attributes(pydicom.dcmread(path)) == []
        if shutil.which("dciodvfy"):
            run = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
            assert "Error" not in run.stdout + run.stderr, run.stderr


def test_stl_is_the_mesh_in_lps(reconstruction: Path, exported: Path) -> None:
    for position, number in enumerate(NUMBERS, start=1):
        name = level_name(number)
        data = pydicom.dcmread(exported / f"{name}.stl.dcm")
        assert data.InstanceNumber == position and data.MIMETypeOfEncapsulatedDocument == "model/stl"
        document = data.EncapsulatedDocument[: data.EncapsulatedDocumentLength]
        mesh = trimesh.load(trimesh.util.wrap_as_stream(document), file_type="stl")
        truth = trimesh.load_mesh(reconstruction / "meshes" / f"{name}.stl")
        assert mesh.is_watertight and mesh.volume == pytest.approx(truth.volume, rel=1e-5)
        assert np.allclose(mesh.center_mass, truth.center_mass * [-1, -1, 1], atol=1e-3)
        assert b"SPACE=LPS" in document[:80] and data.ConceptNameCodeSequence[0].CodeMeaning == f"{name} vertebra"


def test_patient_study_and_references_are_the_films(exported: Path, films: list[Dataset | None]) -> None:
    spaces, series = set(), set()
    for path in exported.iterdir():
        data = pydicom.dcmread(path)
        assert (data.PatientID, data.PatientName, data.StudyInstanceUID) == ("4711", SECRET, STUDY)
        assert (data.StudyDate, data.AccessionNumber) == ("20240506", "88")
        referenced = {
            i.ReferencedSOPInstanceUID for s in data.ReferencedSeriesSequence for i in s.ReferencedInstanceSequence
        }
        assert referenced == {film.SOPInstanceUID for film in films if film is not None}
        assert data.SeriesInstanceUID not in {film.SeriesInstanceUID for film in films if film is not None}
        spaces.add(data.FrameOfReferenceUID)
        series.add(data.SeriesInstanceUID)
    assert len(spaces) == 1 and len(series) == 2


def test_without_dicom_films_nobody_is_invented(anonymous: Path) -> None:
    for path in anonymous.iterdir():
        data = pydicom.dcmread(path)
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyID"):
            assert keyword in data and not data[keyword].value
        text = str(data)
        assert "Referenced Series" not in text and "Source I" not in text and "Acquisition equipment" not in text


@pytest.mark.parametrize("which", ["exported", "anonymous"])
def test_every_required_attribute_is_there(which: str, request: pytest.FixtureRequest) -> None:
    for path in request.getfixturevalue(which).iterdir():
        data = pydicom.dcmread(path)
        assert missing_attributes(data) == [], path.name
        # The check itself sees what is missing.
        del data.FrameOfReferenceUID, data.PatientName
        data.SeriesInstanceUID = ""
        assert len(missing_attributes(data)) == 2 + (data.Modality == "M3D")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("which", ["exported", "anonymous"])
def test_dciodvfy_finds_no_error(which: str, request: pytest.FixtureRequest) -> None:
    for path in request.getfixturevalue(which).iterdir():
        run = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in run.stdout + run.stderr, run.stderr


def test_same_export_same_uids_other_content_others(
    reconstruction: Path, exported: Path, films: list[Dataset | None], tmp_path: Path
) -> None:
    def uids(folder: Path) -> list[tuple[str, str, str]]:
        read = [pydicom.dcmread(p) for p in sorted(folder.iterdir())]
        return [(d.SOPInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID) for d in read]

    export_dicom(reconstruction, tmp_path / "again", films)
    assert uids(tmp_path / "again") == uids(exported)
    other = tmp_path / "other"
    shutil.copytree(reconstruction, other)
    labels, affine = read_nifti(other / "spine.nii.gz")
    labels = labels.copy()
    labels[tuple(np.argwhere(labels)[0])] = 0
    write_nifti(other / "spine.nii.gz", labels, affine)
    export_dicom(other, tmp_path / "changed", films)
    assert not set(sum(uids(tmp_path / "changed"), ())) & set(sum(uids(exported), ()))


def test_codes_of_all_levels() -> None:
    meanings = {name: level_code(number).meaning for number, name in LEVEL_NAMES.items()}
    for name, meaning in meanings.items():
        assert meaning == ("Vertebra" if name in ("T13", "L6") else f"{name} vertebra")
    assert level_code(20).value == "66794005" and level_code(28).value == "51282000"
    assert len({level_code(n).value for n in LEVEL_NAMES}) == 25


def test_automatic_marks_and_films_of_two_studies(
    reconstruction: Path, films: list[Dataset | None], tmp_path: Path
) -> None:
    folder = tmp_path / "rec"
    shutil.copytree(reconstruction, folder)
    marks = [ViewMarks(s, (Mark(20, (9.0, 9.0), set_by="model"),)) for s in ((333, 360), (333, 275))]
    write_annotations(folder / "annotations.json", Annotations(*marks))
    ap, lat = films
    assert ap is not None and lat is not None
    moved = pydicom.Dataset(lat)
    moved.StudyInstanceUID = generate_uid()
    export_dicom(folder, tmp_path / "out", [ap, moved])
    data = pydicom.dcmread(tmp_path / "out" / "spine.seg.dcm")
    assert {s.SegmentAlgorithmType for s in data.SegmentSequence} == {"AUTOMATIC"}
    assert len(data.ReferencedSeriesSequence) == 1
    assert data.StudiesContainingOtherReferencedInstancesSequence[0].StudyInstanceUID == moved.StudyInstanceUID


def test_export_from_the_command_line(reconstruction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    write_dicom(study / "IM1", "ap")
    write_dicom(study / "IM2", "lat")
    command = ["export", f"--reconstruction={reconstruction}", f"--output={tmp_path}/out"]
    assert main([*command, f"--ap={study}", f"--lat={study}"]) == 0
    assert pydicom.dcmread(tmp_path / "out" / "spine.seg.dcm").PatientID == "4711"
    said = capsys.readouterr()
    assert said.out and not any(secret in said.out + said.err for secret in (SECRET, "4711"))
    write_dicom(study / "IM2", "lat", film=np.eye(99, dtype=np.float32))
    for arguments, message in (
        ([*command, f"--ap={study}"], "both films or none"),
        ([*command, f"--ap={study}", f"--lat={study}"], "other size"),
        (["export", f"--reconstruction={study}", f"--output={tmp_path}/o"], "no reconstruction"),
        ([*command, f"--ap={study}/IM1", f"--lat={study}/none"], "no such file"),
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
    assert pydicom.dcmread(tmp_path / "out" / "spine.seg.dcm").PatientID == "4711"


def test_a_spine_is_not_filed_under_another_patients_films(
    reconstruction: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the same size, as all films of a machine are; the same film compressed is the same film."""
    folder, study = tmp_path / "spine", tmp_path / "study"
    shutil.copytree(reconstruction, folder)
    ap, lat = write_dicom(study / "ap", "ap"), write_dicom(study / "lat", "lat")
    films = {name: {"pixels_sha256": read_dicom(path, view).pixels_sha256}
             for name, path, view in (("ap", ap, Projection.FRONTAL), ("lat", lat, Projection.LATERAL))}  # fmt: skip
    (folder / "report.json").write_text(json.dumps({"films": films}))
    command = ["export", f"--reconstruction={folder}", f"--output={tmp_path}/out"]
    compressed = pydicom.dcmread(ap)
    compressed.compress(RLELossless, generate_instance_uid=False)
    compressed.save_as(study / "rle")
    assert check_same_films(folder, ap, lat) == check_same_films(folder, study / "rle", lat) == []
    other = write_dicom(study / "other", "ap", film=sample_film("ap")[::-1], PatientID="4712", PatientName="Roe")
    lat_of_other = write_dicom(study / "other_lat", "lat", PatientID="4712", PatientName="Roe")
    assert main([*command, f"--ap={other}", f"--lat={lat_of_other}"]) == 1
    assert "other: is not the AP film that" in capsys.readouterr().err
    # Films that are forgotten are asked for; the objects of pictures need none.
    capsys.readouterr()
    assert main(command) == 0
    assert "was made from DICOM films (AP and LAT), which are not named" in capsys.readouterr().out
    assert main(["export", f"--reconstruction={reconstruction}", f"--output={tmp_path}/plain"]) == 0
    assert "warning" not in capsys.readouterr().out
    (folder / "report.json").write_text('{"films": {"ap": {}}}')
    assert [line.count("has no checksum of a DICOM film") for line in check_same_films(folder, ap, lat)] == [1, 1]


@pytest.mark.parametrize(("name", "content"), [("a.txt", b"no film"), ("a.dcm", None), ("a.dcm", b"")])
def test_what_is_no_film_gives_no_patient(
    reconstruction: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
) -> None:
    """The user named films so that the objects are filed under the patient: objects of nobody are no answer."""
    film = tmp_path / name
    whole = write_dicom(tmp_path / "whole.dcm", "lat")
    film.write_bytes(whole.read_bytes()[:400] if content is None else content)
    options = [f"--reconstruction={reconstruction}", f"--output={tmp_path / 'out'}", f"--ap={film}", f"--lat={whole}"]
    assert main(["export", *options]) == 1
    assert name in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_surfaces_of_another_format_are_not_left_out_without_a_word(reconstruction: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spine"
    shutil.copytree(reconstruction, folder)
    for path in (folder / "meshes").iterdir():
        path.rename(path.with_suffix(".obj"))
    with pytest.raises(UserError, match=r"no meshes/\*.stl"):
        export_dicom(folder, tmp_path / "out", None, WHEN)
    with pytest.raises(UserError, match="add stl"):
        check_output(tmp_path / "out", OutputOptions(dicom=True, mesh_formats=("obj",)))
