"""Surfaces: closed, outward, in the patient's frame, and the same after a trip through a file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from skimage.color import rgb2lab

from scripts.drawing import level_colour
from scripts.errors import UserError
from scripts.io.nifti import read_nifti
from scripts.levels import LEVEL_ORDER
from scripts.spine.mesh import decimated, vertebra_mesh, vertex_normals, write_glb, write_meshes, write_stl
from tests.conftest import SAMPLE

RADIUS = 14.0
CENTRE = np.array([20.3, 22.8, 19.6])


def ball(hard: bool) -> np.ndarray:
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices((42, 44, 40)), CENTRE, strict=True)))
    return (distance < RADIUS).astype(np.float32) if hard else 1 / (1 + np.exp(2 * (distance - RADIUS)))


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ball_against_the_analytic_one(hard: bool, sign: float) -> None:
    affine = np.diag([sign * 0.9, 1.1, 1.3, 1.0])
    affine[:3, 3] = [100.0, -50.0, 7.0]
    mesh = vertebra_mesh(ball(hard), affine)
    assert mesh.is_watertight and mesh.is_winding_consistent
    volume = 4 / 3 * np.pi * RADIUS**3 * 0.9 * 1.1 * 1.3
    assert mesh.volume == pytest.approx(volume, rel=0.02)  # positive: normals point outwards
    assert np.allclose(mesh.center_mass, CENTRE * [sign * 0.9, 1.1, 1.3] + affine[:3, 3], atol=0.1)
    if not hard:
        radii = np.linalg.norm((mesh.vertices - affine[:3, 3]) / [sign * 0.9, 1.1, 1.3] - CENTRE, axis=1)
        assert np.abs(radii - RADIUS).max() < 0.05


def test_normals_of_an_ellipsoid_are_the_analytic_ones() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4)
    half_axes = np.array([30.0, 20.0, 10.0])
    vertices, faces = ball.vertices.view(np.ndarray) * half_axes, ball.faces.view(np.ndarray)
    expected = vertices / half_axes**2
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    cosines = np.einsum("nk,nk->n", vertex_normals(vertices, faces), expected)
    assert np.degrees(np.arccos(cosines.min())) < 2.0
    # A point of no triangle has none.
    assert (vertex_normals(np.vstack([vertices, np.zeros(3)]), faces)[-1] == 0).all()


def test_a_volume_that_fills_its_cube_is_still_closed() -> None:
    mesh = vertebra_mesh(np.ones((6, 7, 8), np.float32), np.eye(4))
    assert mesh.is_watertight and 0 < mesh.volume < 6 * 7 * 8


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(UserError, match="not above"):
        vertebra_mesh(np.full((5, 5, 5), 0.4, np.float32), np.eye(4))
    volume = np.ones((5, 5, 5), np.float32)
    volume[2, 2, 2] = np.inf
    with pytest.raises(UserError, match="NaN or infinite"):
        vertebra_mesh(volume, np.eye(4))


def test_files_keep_shape_names_and_frame(tmp_path: Path) -> None:
    shift = np.eye(4)
    shift[:3, 3] = [0.0, 0.0, -40.0]
    meshes = {20: vertebra_mesh(ball(True), shift), 19: vertebra_mesh(ball(True), np.eye(4))}
    write_stl(meshes[20], tmp_path / "L1.stl")
    again = trimesh.load(tmp_path / "L1.stl")
    assert again.is_watertight and np.allclose(again.bounds, meshes[20].bounds, atol=1e-3)
    assert b"mm" in (tmp_path / "L1.stl").read_bytes()[:80]
    write_glb(meshes, tmp_path / "spine.glb")
    scene = trimesh.load(tmp_path / "spine.glb")
    assert list(scene.geometry) == ["T12", "L1"]
    matrix, _ = scene.graph.get("L1")
    # glTF: metres, Y up. The patient's superior becomes +Y, the patient's left (RAS -x) becomes +X.
    assert np.allclose(matrix[:3, :3] @ [0, 0, 1000.0], [0, 1, 0]) and np.allclose(
        matrix[:3, :3] @ [-1000.0, 0, 0], [1, 0, 0]
    )
    assert scene.geometry["L1"].vertices[:, 2].mean() == pytest.approx(meshes[20].vertices[:, 2].mean(), abs=0.1)
    assert level_colour(20) != level_colour(19)


@pytest.mark.parametrize(("hard", "tolerance"), [(True, 0.04), (False, 0.005)])
def test_area_of_the_ball(hard: bool, tolerance: float) -> None:
    # The stairs of an unsmoothed mask add 8 %.
    mesh = vertebra_mesh(ball(hard), np.eye(4))
    assert mesh.area == pytest.approx(4 * np.pi * RADIUS**2, rel=tolerance)


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_place_and_outside_of_a_ball_seen_through_turned_axes(hard: bool, flip: bool) -> None:
    # (I, P, L) and its mirror image (I, P, R), so that the determinant has either sign.
    affine = np.array([[0, 0, -1.0, 30.0], [0, -1.0, 0, -12.0], [-1.0, 0, 0, 400.0], [0, 0, 0, 1.0]])
    if flip:
        affine[0] = [0, 0, 1.0, -30.0]
    assert (np.linalg.det(affine[:3, :3]) < 0) == flip
    centre = (affine @ [*CENTRE, 1.0])[:3]
    mesh = vertebra_mesh(ball(hard), affine)
    outwards = ((mesh.triangles_center - centre) * mesh.face_normals).sum(axis=1)
    assert np.allclose(mesh.bounds, [centre - RADIUS, centre + RADIUS], atol=0.75 if hard else 0.1)
    assert outwards.min() > 0.8 * RADIUS


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("cut", [slice(0, 20), slice(20, None)])
def test_a_part_cut_off_by_the_border_is_closed(hard: bool, cut: slice) -> None:
    part = ball(hard)[cut, cut, cut]
    mesh = vertebra_mesh(part, np.eye(4))
    assert mesh.is_watertight and mesh.volume == pytest.approx((part > 0.5).sum(), rel=0.06)


def test_iso_level_moves_a_soft_surface_only() -> None:
    soft = [vertebra_mesh(ball(False), np.eye(4), iso).volume for iso in (0.3, 0.7)]
    hard = [vertebra_mesh(ball(True), np.eye(4), iso).volume for iso in (0.3, 0.7)]
    assert soft[0] > 1.05 * soft[1] and hard[0] == hard[1]


def test_values_at_the_iso_level_do_not_open_the_file(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).choice([0.2, 0.5, 0.9], size=(8, 8, 8)).astype(np.float32)
    mesh = vertebra_mesh(volume, np.eye(4))
    write_stl(mesh, tmp_path / "edge.stl")
    assert mesh.is_watertight and trimesh.load(tmp_path / "edge.stl").is_watertight


@pytest.mark.parametrize(
    ("shape", "affine"), [((5, 5), np.eye(4)), ((5, 5, 5), np.eye(3)), ((5, 5, 5), np.diag([1.0, 0, 1, 1]))]
)
def test_wrong_shapes_are_refused(shape: tuple[int, ...], affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        vertebra_mesh(np.ones(shape, np.float32), affine)


def test_files_hold_nothing_but_the_surface(tmp_path: Path) -> None:
    mesh = vertebra_mesh(ball(True), np.eye(4))
    mesh.metadata.update(name="Doe", file_path="/home/doe/doe.stl")
    write_stl(mesh, tmp_path / "doe" / "a.stl")
    write_glb({20: mesh}, tmp_path / "doe" / "a.glb")
    stl, glb = ((tmp_path / "doe" / f"a.{kind}").read_bytes() for kind in ("stl", "glb"))
    assert b"SPACE=RAS" in stl[:80] and not stl.startswith(b"solid")
    assert struct.unpack("<I", stl[80:84])[0] == len(mesh.faces) == (len(stl) - 84) / 50
    assert b"doe" not in (stl + glb).lower()


def test_glb_has_one_root_levels_from_head_to_foot_and_their_colours(tmp_path: Path) -> None:
    shapes = {number: trimesh.creation.box((10, 10, 10)) for number in (21, 28, 7, 19, 20)}
    write_glb(shapes, tmp_path / "spine.glb")
    raw = (tmp_path / "spine.glb").read_bytes()
    tree = json.loads(raw[20 : 20 + struct.unpack("<I", raw[12:16])[0]])
    (root,) = (tree["nodes"][i] for i in tree["scenes"][0]["nodes"])
    while "mesh" not in tree["nodes"][root["children"][0]]:
        (root,) = (tree["nodes"][i] for i in root["children"])
    assert [tree["nodes"][i]["name"] for i in root["children"]] == ["C7", "T12", "T13", "L1", "L2"]
    assert all("matrix" not in tree["nodes"][i] for i in root["children"])
    for mesh, number in zip(tree["meshes"], (7, 19, 28, 20, 21), strict=True):
        material = tree["materials"][mesh["primitives"][0]["material"]]["pbrMetallicRoughness"]
        linear = np.array(material["baseColorFactor"][:3])
        # The standard's own formula back to sRGB.
        assert np.allclose((1.055 * linear ** (1 / 2.4) - 0.055) * 255, level_colour(number), atol=1.5)
    for wrong, words in (({}, "no vertebra to write"), ({26: shapes[7]}, "26 is no vertebra")):
        with pytest.raises(UserError, match=words):
            write_glb(wrong, tmp_path / "wrong.glb")
    assert not (tmp_path / "wrong.glb").exists()


def test_colours_tell_neighbours_apart() -> None:
    colours = [level_colour(number) for number in LEVEL_ORDER]
    assert len(set(colours)) == len(LEVEL_ORDER)
    lab = rgb2lab(np.array([colours]) / 255)[0]
    for reach, difference in ((1, 30), (2, 15)):  # CIE76: 2.3 is just noticeable
        assert np.linalg.norm(lab[reach:] - lab[:-reach], axis=1).min() > difference
    assert lab[:, 0].min() > 65  # readable as text on the dark ground of the preview
    with pytest.raises(UserError, match="26 is no vertebra"):
        level_colour(26)


@pytest.mark.parametrize("keep", [0.5, 0.15])
def test_fewer_triangles_same_body(keep: float) -> None:
    mesh = vertebra_mesh(ball(False), np.eye(4))
    fewer = decimated(mesh, keep)
    assert len(fewer.faces) == pytest.approx(keep * len(mesh.faces), rel=0.05)
    assert fewer.is_watertight and fewer.volume == pytest.approx(mesh.volume, rel=0.01)
    assert decimated(mesh, 1.0) is mesh


@pytest.mark.parametrize("kind", ["stl", "obj", "ply"])
def test_every_format_comes_back_the_same(kind: str, tmp_path: Path) -> None:
    shift = np.eye(4)
    shift[:3, 3] = [-40.0, 12.0, 900.0]
    mesh = vertebra_mesh(ball(True), shift)
    mesh.metadata["name"] = "Doe"
    write_meshes({20: mesh}, tmp_path, (kind,))
    path = tmp_path / "meshes" / f"L1.{kind}"
    again = trimesh.load(path)
    assert again.is_watertight and np.allclose(again.bounds, mesh.bounds, atol=1e-3)
    assert again.volume == pytest.approx(mesh.volume, rel=1e-4)
    raw = path.read_bytes()
    assert b"mm" in raw[:400] and b"RAS" in raw[:400] and b"Doe" not in raw and b"http" not in raw


def test_real_vertebrae_are_closed_and_keep_their_volume() -> None:
    labels, affine = read_nifti(SAMPLE / "labelmap.nii.gz")
    for number in (8, 14, 20):
        mask = labels == number
        mesh = vertebra_mesh(mask, affine)
        assert mesh.is_watertight and mesh.volume == pytest.approx(mask.sum() * abs(np.linalg.det(affine)), rel=0.02)
        assert decimated(mesh, 0.2).is_watertight


def test_unknown_formats_and_shares_are_refused(tmp_path: Path) -> None:
    for formats, keep in ((("stl", "fbx"), 1.0), (("stl",), 0.0), (("stl",), 1.5)):
        with pytest.raises(UserError, match=r"choose from|share"):
            write_meshes({20: vertebra_mesh(ball(True), np.eye(4))}, tmp_path, formats, keep)
    assert not any(tmp_path.iterdir())
