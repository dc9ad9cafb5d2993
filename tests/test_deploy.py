"""The MONAI Deploy application, run in its own environment as a container would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import highdicom as hd
import numpy as np
import pytest
import trimesh
import yaml

from scripts.deploy.package import package_command, write_application
from scripts.deploy.study import job_of_folder
from scripts.errors import UserError
from scripts.reconstruction.predictor import Predictor
from scripts.release.bundle import Bundle
from tests.conftest import ROOT
from tests.dicom_films import SECRET, STUDY, write_dicom

PYTHON = ROOT / ".venv-deploy" / "bin" / "python"
needs_deploy = pytest.mark.skipif(not PYTHON.is_file(), reason="no .venv-deploy: make .venv-deploy/.ready")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_application(Bundle(ROOT), tmp_path_factory.mktemp("map") / "map")


def run(package: Path, study: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """As a MAP is started: from nowhere in particular, folders in the environment."""
    folders = {"INPUT": study, "OUTPUT": output, "MODEL": package / "models"}
    environment = {f"HOLOSCAN_{name}_PATH": str(path) for name, path in folders.items()}
    return subprocess.run(
        [str(PYTHON), str(package / "app")],
        cwd="/", env={**os.environ, **environment, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@needs_deploy
def test_a_dicom_study_becomes_dicom_meshes_and_a_report(package: Path, tmp_path: Path) -> None:
    study, output = tmp_path / "study", tmp_path / "output"
    for name in ("ap", "lat"):
        write_dicom(study / "series" / f"IM_{name}", name)
    # Films exposed together, as the marks of the annotation network need them to be to meet.
    (study / "geometry.yaml").write_text("beam: parallel\nsimultaneous: true\n")
    done = run(package, study, output)
    assert done.returncode == 0, done.stderr
    segmentation = hd.seg.segread(output / "dicom" / "spine.seg.dcm")
    assert segmentation.StudyInstanceUID == STUDY and segmentation.PatientName == SECRET
    levels = {segment.SegmentLabel for segment in segmentation.SegmentSequence}
    assert len(levels) >= 6
    for level in levels:
        assert trimesh.load_mesh(output / "meshes" / f"{level}.stl").is_watertight
        assert (output / "dicom" / f"{level}.stl.dcm").is_file() and (output / "meshes" / f"{level}.obj").is_file()
    assert {"spine.nii.gz", "report.html", "report.json", "preview.png"} <= {path.name for path in output.iterdir()}
    page = re.sub(r"base64,[^\"]*", "", (output / "report.html").read_text())
    said = done.stdout + done.stderr + page + (output / "report.json").read_text()
    assert STUDY not in said and "Doe" not in said and "4711" not in said


@needs_deploy
def test_half_a_study_is_one_line_and_leaves_nothing(package: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "study" / "IM1", "ap")
    (tmp_path / "output").mkdir()
    done = run(package, tmp_path / "study", tmp_path / "output")
    assert done.returncode == 1
    assert re.search(r"^error: .*no film says that it is the LAT view", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr and not list((tmp_path / "output").iterdir())


def test_an_output_that_would_replace_the_users_files_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"Operator": type("Operator", (), {"__init__": lambda *_, **__: None}), "Fragment": object}
    monkeypatch.setitem(sys.modules, "monai.deploy.core", SimpleNamespace(**parts, OperatorSpec=object))
    monkeypatch.delitem(sys.modules, "scripts.deploy.operators", raising=False)
    from scripts.deploy.operators import PairSelector

    output, emitted = tmp_path / "output", Mock()
    for name in ("ap", "lat"):
        for folder in (output, tmp_path / "study"):
            write_dicom(folder / f"{name}.dcm", name)
    (output / "report.json").write_text("{}")
    for study in ("output", "study"):
        select = PairSelector(Mock(), folder=tmp_path / study, output=output)
        with pytest.raises(UserError, match="would be replaced"):
            select.compute(None, emitted, None)
    emitted.emit.assert_not_called()
    PairSelector(Mock(), folder=tmp_path / "study", output=tmp_path / "new").compute(None, emitted, None)
    emitted.emit.assert_called_once()


def test_capitals_in_names_make_no_difference_and_unreadable_anchors_are_one_line(tmp_path: Path) -> None:
    for name in ("AP.png", "Lat.PNG", "Geometry.YAML", "ANNOTATIONS.json"):
        (tmp_path / name).touch()
    job = job_of_folder(tmp_path)
    assert job.annotations is not None and job.reading.geometry is not None
    names = [path.name for path in (job.ap, job.lat, job.annotations, job.reading.geometry)]
    assert names == ["AP.png", "Lat.PNG", "ANNOTATIONS.json", "Geometry.YAML"]
    (tmp_path / "geometry.json").touch()
    with pytest.raises(UserError, match=r"Geometry.YAML and geometry.json: leave the one"):
        job_of_folder(tmp_path)
    (tmp_path / "geometry.json").unlink()
    for content in (b"L5\xff", b"L\0005\0", b"Q5"):
        (tmp_path / "anchor.txt").write_bytes(content)
        with pytest.raises(UserError, match=r"anchor\.txt: "):
            job_of_folder(tmp_path)


@needs_deploy
def test_the_stock_operator_runs_our_torchscript(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((4, 120, 120)).astype(np.float32)
    image[1::2] = np.exp(-((np.mgrid[-60:60, -60:60] / 20.0) ** 2).sum(0))
    np.save(tmp_path / "input.npy", image)
    model = ROOT / "models" / "model.ts"
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "tests" / "stock_operator.py"), "-i", tmp_path, "-o", tmp_path, "-m", model],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (expected,) = Predictor(model, "cpu")([image])
    # The operator hands volumes on with their axes reversed.
    found = np.load(tmp_path / "output.npy").transpose(2, 1, 0).astype(bool)
    assert 0 < found.sum() < found.size
    assert (found != (expected > 0.5)).mean() < 1e-5


def test_package_has_what_its_container_needs(package: Path) -> None:
    assert sorted(path.name for path in (package / "models").iterdir()) == ["localization.ts", "model.ts"]
    settings = yaml.safe_load((package / "app" / "app.yaml").read_text().split("---", 1)[1])
    bundle = Bundle(ROOT)
    assert settings["application"]["version"] == bundle.version and settings["application"]["title"] == bundle.name
    pinned = (package / "app" / "requirements.txt").read_text().splitlines()
    assert "monai-deploy-app-sdk==4.0.0" in pinned and all("==" in line for line in pinned)
    assert "--sdk-version 4.0.0" in package_command(package, bundle.version)


def test_without_the_sdk_one_line_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.deploy", "-i", tmp_path, "-o", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "[deploy]" in done.stderr
