"""What we write, as programs that share no code with ours read it: ITK and VTK."""

from __future__ import annotations

from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
import trimesh
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkFiltersCore import vtkCleanPolyData, vtkFeatureEdges
from vtkmodules.vtkIOGeometry import vtkGLTFReader, vtkOBJReader, vtkSTLReader
from vtkmodules.vtkIOPLY import vtkPLYReader

from scripts.export.export import export_dicom
from scripts.io.nifti import read_nifti, write_nifti
from scripts.spine.mesh import vertebra_mesh, write_meshes
from tests.conftest import SAMPLE

LEVEL, NAME = 20, "L1"
RAS_OF_LPS = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(scope="module")
def reconstruction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's true L1 as every kind of file."""
    folder = tmp_path_factory.mktemp("reconstruction")
    labels, affine = read_nifti(SAMPLE / "labelmap.nii.gz")
    labels = np.where(labels == LEVEL, labels, 0).astype(np.uint8)
    write_nifti(folder / "spine.nii.gz", labels, affine)
    write_meshes({LEVEL: vertebra_mesh(labels == LEVEL, affine)}, folder, ("stl", "obj", "ply"))
    (folder / "annotations.json").write_text((SAMPLE / "annotations.json").read_text())
    (folder / "report.json").write_text("{}")
    export_dicom(folder, folder / "dicom")
    return folder


@pytest.fixture(scope="module")
def centre_of_mass(reconstruction: Path) -> np.ndarray:
    """RAS mm, as nibabel sees it."""
    image = nib.load(reconstruction / "spine.nii.gz")
    voxels = np.argwhere(np.asanyarray(image.dataobj) == LEVEL)
    return nib.affines.apply_affine(image.affine, voxels).mean(0)


def itk_points(path: Path) -> np.ndarray:
    """RAS mm of all voxels that are not zero, through ITK's own index-to-point."""
    image = itk.imread(str(path), itk.UC)
    voxels = np.argwhere(itk.array_view_from_image(image))[:, ::-1]
    direction = itk.array_from_matrix(image.GetDirection())
    points = (direction @ (voxels * np.array(image.GetSpacing())).T).T + np.array(image.GetOrigin())
    return points * RAS_OF_LPS


def test_itk_and_nibabel_see_the_volume_in_one_place(reconstruction: Path, centre_of_mass: np.ndarray) -> None:
    assert np.allclose(itk_points(reconstruction / "spine.nii.gz").mean(0), centre_of_mass, atol=1e-3)


def test_itk_sees_the_segmentation_object_s_voxels(reconstruction: Path) -> None:
    """ITK knows no functional groups, so places mean nothing to it; every voxel is there."""
    truth = np.count_nonzero(np.asanyarray(nib.load(reconstruction / "spine.nii.gz").dataobj))
    assert len(itk_points(reconstruction / "dicom" / "spine.seg.dcm")) == truth


@pytest.mark.parametrize(
    ("reader", "file"),
    [
        (vtkSTLReader, f"meshes/{NAME}.stl"),
        (vtkOBJReader, f"meshes/{NAME}.obj"),
        (vtkPLYReader, f"meshes/{NAME}.ply"),
        (vtkGLTFReader, "spine.glb"),
    ],
)
def test_vtk_reads_each_surface_closed_and_in_place(
    reader: type, file: str, reconstruction: Path, centre_of_mass: np.ndarray
) -> None:
    source = reader()
    source.SetFileName(str(reconstruction / file))
    source.Update()
    surface = source.GetOutput()
    if file.endswith(".glb"):
        # Metres, Y up, the patient facing +Z, as glTF has it; the transform of the node is part of what VTK gives.
        blocks = surface.NewIterator()
        surface = blocks.GetCurrentDataObject()
    points = vtk_to_numpy(surface.GetPoints().GetData()).astype(float)
    if file.endswith(".glb"):
        points = np.column_stack([-points[:, 0], points[:, 2], points[:, 1]]) * 1000
    known = trimesh.load_mesh(reconstruction / "meshes" / f"{NAME}.stl")
    assert np.allclose(points.min(0), known.bounds[0], atol=0.02) and np.allclose(
        points.max(0), known.bounds[1], atol=0.02
    )
    assert np.abs(known.center_mass - centre_of_mass).max() < 0.5
    clean, edges = vtkCleanPolyData(), vtkFeatureEdges()
    clean.SetInputData(surface)
    edges.SetInputConnection(clean.GetOutputPort())
    edges.FeatureEdgesOff()
    edges.ManifoldEdgesOff()
    edges.Update()
    assert edges.GetOutput().GetNumberOfCells() == 0
