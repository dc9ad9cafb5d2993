"""Angles: of phantoms built from formulas, of simulated spines whose poses are known; and what cannot be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.benchmarks.measurements import measured_poses, simulated, true_poses
from scripts.geometry.frames import INFERIOR, IPL_AXES, LEFT, Grid
from scripts.geometry.symmetry import symmetry_plane
from scripts.levels import LEVEL_NUMBERS, level_name
from scripts.measure.angles import FRONTAL, SAGITTAL, axial_rotation, tilt
from scripts.measure.body import NoBodyError
from scripts.measure.curves import KYPHOSIS, LORDOSIS, cobb_curves, sagittal_angle
from scripts.measure.morphometry import measure_spine
from scripts.measure.plausibility import kinks
from scripts.measure.pose import Endplate, VertebraPose, estimate_pose
from scripts.simulation.posture import PostureOptions, draw_posture

GRID = Grid((0.0, 0.0, 0.0), (110, 120, 110))
CENTRE = np.array([55.3, 45.8, 54.6])
UPPER_WEDGE_DEG = 8.0


def phantom(frontal: float, sagittal: float, turn: float, soft: bool) -> tuple[np.ndarray, np.ndarray]:
    """A body of 40 x 32 mm with flat endplates, the upper one lower in front, a canal and processes; and its frame.

    Leaning angles as `tilt` counts them, the turn as `axial_rotation` does. The frame's columns: down, backwards, left.
    """
    # Turned about its own long axis first; then leaned forwards (about left) and to the left (about backwards).
    own = Rotation.from_rotvec(np.radians(-turn) * np.array([1.0, 0, 0]))
    lean = Rotation.from_rotvec(np.radians(sagittal) * np.array([0, 0, 1.0]))
    side = Rotation.from_rotvec(np.radians(-frontal) * np.array([0, 1.0, 0]))
    frame = (side * lean * own).as_matrix()
    down, back, left = ((np.stack(np.indices(GRID.shape), -1) - CENTRE) @ frame).transpose(3, 0, 1, 2)
    top = -12 - np.tan(np.radians(UPPER_WEDGE_DEG)) * back
    body = np.maximum.reduce([np.hypot(back / 16, left / 20) * 18 - 18, top - down, down - 13])
    ring = np.maximum(np.abs(np.hypot(back - 26, left) - 12) - 3, np.abs(down + 1) - 7)
    spinous = np.maximum.reduce([np.abs(left) - 3, np.abs(back - 48) - 12, np.abs(down - 4) - 6])
    wings = np.maximum.reduce([np.abs(np.abs(left) - 24) - 14, np.abs(back - 28) - 4, np.abs(down) - 4])
    distance = np.minimum.reduce([body, ring, spinous, wings])
    return (np.clip(0.5 - distance, 0, 1) if soft else distance < 0).astype(np.float32), frame


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize(
    ("frontal", "sagittal", "turn"), [(0, 0, 0), (25, -8, 0), (-12, 35, 0), (9, 14, 18), (0, 0, -22)]
)
def test_phantom_against_its_formula(frontal: float, sagittal: float, turn: float, soft: bool) -> None:
    mask, frame = phantom(frontal, sagittal, turn, soft)
    centroid = GRID.to_world(CENTRE + [2.0, 3.0, -2.0])
    pose = estimate_pose(LEVEL_NUMBERS["L2"], mask, GRID.affine, centroid, IPL_AXES.T @ frame[:, 0])
    slope = np.tan(np.radians(UPPER_WEDGE_DEG))
    for plate, own in ((pose.upper, np.array([-1, -slope, 0])), (pose.lower, np.array([-1.0, 0, 0]))):
        assert plate is not None
        true = frame @ own / np.linalg.norm(own)
        assert tilt(plate, FRONTAL).degrees == pytest.approx(np.degrees(np.arctan2(true[2], -true[0])), abs=1.0)
        assert tilt(plate, SAGITTAL).degrees == pytest.approx(np.degrees(np.arctan2(-true[1], -true[0])), abs=1.0)
    # Forwards is perpendicular to the mean of both endplates.
    half = np.radians(UPPER_WEDGE_DEG / 2)
    forwards = frame @ np.array([np.sin(half), -np.cos(half), 0])
    expected = np.degrees(np.arctan2(forwards[2], -forwards[1]))
    assert axial_rotation(pose).degrees == pytest.approx(expected, abs=1.0)
    assert pose.width_mm == pytest.approx(40, abs=1.0) and pose.canal_found
    assert pose.depth_mm == pytest.approx(33, abs=1.0)  # the ring's front reaches 1 mm further than the body
    assert pose.heights_mm is not None
    assert pose.heights_mm[2] - pose.heights_mm[0] == pytest.approx(slope * 0.7 * pose.depth_mm, abs=1.2)
    assert np.linalg.norm(IPL_AXES @ pose.origin_mm - IPL_AXES @ GRID.to_world(CENTRE)) < 3.0


@pytest.fixture(scope="module")
def spine() -> tuple[dict[int, VertebraPose], dict[int, VertebraPose]]:
    """Measured and true poses of a simulated scoliosis, T1 to L5."""
    made, labels, grid = simulated(3, first_level=8)
    measured = measured_poses(labels, grid, made.posture.levels, made.posture.centroids @ IPL_AXES)
    return measured, true_poses(made, measured, turned_only=True)


def test_simulated_scoliosis_within_a_degree(
    spine: tuple[dict[int, VertebraPose], dict[int, VertebraPose]],
) -> None:
    measured, true = spine
    assert len(true) == 17
    curves = cobb_curves(list(true.values()))
    assert curves[0].cobb.degrees > 15
    found = cobb_curves(list(measured.values()))
    assert (found[0].upper, found[0].lower, found[0].convex_to) == (
        curves[0].upper,
        curves[0].lower,
        curves[0].convex_to,
    )
    assert found[0].cobb.degrees == pytest.approx(curves[0].cobb.degrees, abs=1.0)
    for ends in (KYPHOSIS, LORDOSIS):
        pair = [sagittal_angle(poses, *ends) for poses in (measured, true)]
        assert pair[0] and pair[1] and pair[0].degrees == pytest.approx(pair[1].degrees, abs=1.0)
    turns = np.array([[axial_rotation(poses[n]).degrees for n in true] for poses in (measured, true)])
    assert np.abs(turns[0] - turns[1]).max() < 1.3 and np.ptp(turns[1]) > 8


def test_reported_uncertainty_holds(spine: tuple[dict[int, VertebraPose], dict[int, VertebraPose]]) -> None:
    measured, true = spine
    errors = [
        abs(tilt(plate, plane).degrees - tilt(getattr(true[n], name), plane).degrees) / tilt(plate, plane).sd
        for n in true
        for name in ("upper", "lower")
        if (plate := getattr(measured[n], name)) is not None
        for plane in (FRONTAL, SAGITTAL)
    ]
    assert np.mean(np.array(errors) < 2) > 0.95


def pose(level: int, frontal_upper: float, frontal_lower: float, sideways: float, height: float) -> VertebraPose:
    """A pose with given frontal tilts, `sideways` mm to the left and `height` mm down."""

    def plate(degrees: float) -> Endplate:
        angle = np.radians(degrees)
        return Endplate(np.zeros(3), np.array([0, -np.sin(angle), np.cos(angle)])[[1, 0, 2]], (1.0, 1.0))

    origin = np.array([-sideways, 0.0, -height])
    return VertebraPose(
        level, origin, np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]]), plate(frontal_upper), plate(frontal_lower), 1.0,
        30.0, 25.0, (20.0, 20.0, 20.0), True,
    )  # fmt: skip


def test_cobb_by_hand() -> None:
    """T5 to T9 bend by 30 degrees to the right, T9 to L1 by 20 back."""
    tilts = {12: 15, 13: 8, 14: 0, 15: -8, 16: -15, 17: -10, 18: -4, 19: 2, 20: 5}
    offsets = (0, -6, -9, -6, 0, 4, 5, 3, 0)
    poses = [pose(n, t, t, x, 25.0 * i) for i, ((n, t), x) in enumerate(zip(tilts.items(), offsets, strict=True))]
    curves = cobb_curves(poses)
    assert [(round(c.cobb.degrees), level_name(c.upper), level_name(c.lower), c.convex_to) for c in curves] == [
        (30, "T5", "T9", "right"),
        (20, "T9", "L1", "left"),
    ]
    assert level_name(curves[0].apex) == "T7" and curves[0].cobb.sd == pytest.approx(2**0.5)
    assert cobb_curves(poses[:2]) == () and cobb_curves([pose(n, 0, 0, 0, 0) for n in (12, 13, 14)]) == ()


def curves_of(tilts: Sequence[float], levels: Sequence[int] = range(8, 25)) -> list[tuple[int, str, str, str]]:
    poses = [pose(n, t, t, 0, 25.0 * i) for i, (n, t) in enumerate(zip(levels, tilts, strict=True))]
    return [(round(c.cobb.degrees), level_name(c.upper), level_name(c.lower), c.convex_to) for c in cobb_curves(poses)]


def test_a_curve_ends_where_the_spine_bends_back() -> None:
    """Three curves whose outer ends are the most tilted are not one large curve; small bends back split none."""
    three = np.interp(range(17), [0, 4, 9, 15, 16], [20, -10, 5, -20, -18])
    assert curves_of(three) == [(30, "T1", "T5", "right"), (25, "T10", "L4", "right"), (15, "T5", "T10", "left")]
    alike = np.interp(range(17), [0, 4, 10, 15, 16], [18, -17, 17, -18, -16])
    assert [(size, side) for size, _, _, side in curves_of(alike)] == [(35, "right"), (35, "right"), (34, "left")]
    little = np.interp(range(17), [0, 6, 9, 15, 16], [20, -4, 2, -20, -18])
    assert curves_of(little) == [(40, "T1", "L4", "right")]
    # Noise of two degrees leaves one long curve one.
    noise = np.random.default_rng(0).normal(0, 2, (50, 17))
    sizes = [curves_of(np.linspace(15, -15, 17) + errors) for errors in noise]
    assert sum(found[0][0] >= 26 and len(found) == 1 for found in sizes) >= 45
    # Unmarked vertebrae between two are no reason to see no curve.
    assert curves_of((10, -20, 20, -10), (8, 12, 19, 23)) == [
        (40, "T5", "T12", "left"), (30, "T1", "T5", "right"), (30, "T12", "L4", "right"),
    ]  # fmt: skip


def test_a_cobb_angle_of_one_vertebra_is_doubted() -> None:
    """T12 alone leans by 25 degrees in a straight spine: the line of the bodies knows nothing of it."""
    alone = measure_spine([pose(n, t, t, 0, 25.0 * n) for n in range(8, 25) for t in (25.0 * (n == 19),)])
    assert "Cobb angle of 25° (T1-T12) rests on one or two vertebrae" in alone.contradiction
    # Three true curves, which the smoother line takes for one, are no contradiction.
    tilts = np.interp(range(17), [0, 6, 9, 16], [26, -4, 6, -25])
    aside = np.concatenate([[0], -np.cumsum(25 * np.tan(np.radians((tilts[1:] + tilts[:-1]) / 2)))])
    three = measure_spine([pose(n, t, t, x, 25.0 * n) for n, t, x in zip(range(8, 25), tilts, aside, strict=True)])
    assert len(three.curves) == 3 and three.midline is not None and not three.contradiction
    assert three.midline[0].degrees > three.curves[0].cobb.degrees + 12


def test_the_line_through_the_bodies_by_hand() -> None:
    """A frontal arc of 40 degrees bends by 40 degrees, whatever the endplates say, and they are doubted."""
    angles = np.radians(np.linspace(-20, 20, 9))
    arc = [pose(n, 0, 0, 300 * (1 - np.cos(a)), 300 * np.sin(a)) for n, a in zip(range(12, 21), angles, strict=True)]
    measures = measure_spine(arc)
    assert measures.midline is not None
    angle, upper, lower = measures.midline
    assert angle.degrees == pytest.approx(40, abs=2.5) and (upper, lower) == (12, 20)
    assert not measures.curves and "too upright" in measures.contradiction and "no curve" in measures.contradiction
    straight = measure_spine([pose(n, 0, 0, 0, 25.0 * n) for n in range(12, 21)])
    assert straight.midline is not None and straight.midline[0].degrees == pytest.approx(0, abs=1e-6)
    assert not straight.contradiction and measure_spine(arc[:4]).midline is None
    assert "no curve of 5" in straight.no_curve and "fewer than three" in measure_spine(arc[:2]).no_curve
    # A withheld vertebra that lies aside does not bend the line; if all are withheld, the line still says so.
    across = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    aside = [pose(n, 0, 0, 35.0 * (n == 14), 25.0 * n) for n in range(12, 21)]
    aside[2] = replace(aside[2], axes=across @ aside[2].axes)
    assert measure_spine(aside).midline[0].degrees < 15  # type: ignore[index]
    lost = measure_spine([replace(p, axes=across @ p.axes) for p in arc])
    assert "bends by 40" in lost.contradiction and "too few endplates" in lost.contradiction


def test_frontal_wedges_and_discs_are_positive_where_they_are_low_or_open_on_the_left() -> None:
    upper, lower = pose(19, 6, 0, 0, 0), pose(20, 4, 0, 0, 30)

    def rise(plate: Endplate | None) -> float:
        """How much higher an endplate is on the left than in the middle, per mm."""
        assert plate is not None
        return -float(plate.normal @ LEFT / (plate.normal @ -INFERIOR))

    measures = measure_spine([upper, lower])
    wedge = measures.vertebrae[0].wedge
    assert wedge is not None and wedge[FRONTAL].degrees == pytest.approx(6)
    assert rise(upper.upper) - rise(upper.lower) < -0.1  # lower on the left
    assert measures.discs[0][2][FRONTAL].degrees == pytest.approx(4)
    assert rise(upper.lower) - rise(lower.upper) > 0.06  # the gap is higher on the left


def test_heights_ratios_and_missing_levels() -> None:
    poses = [replace(pose(n, 0, 0, 0, 30.0 * n), heights_mm=h) for n, h in ((19, (24.0, 24, 24)), (20, (15.0, 18, 20)))]
    measures = measure_spine(poses[::-1])
    assert [m.level for m in measures.vertebrae] == [19, 20]
    low = measures.vertebrae[1]
    assert (low.anterior_ratio, low.middle_ratio) == (0.75, 0.9) and low.posterior_ratio == pytest.approx(20 / 24)
    assert measures.kyphosis is None and measures.lordosis is None and [d[:2] for d in measures.discs] == [(19, 20)]


def test_neighbours_are_those_that_lie_beside_each_other() -> None:
    """T11 and L1 are none with T12 between them, withheld, unmarked or not; they are in a spine that has no T12."""
    backs = {18: 20.0, 19: 24.0, 20: 30.0}
    places = {17: 0, 18: 25, 19: 51, 20: 79, 21: 108}

    def spine(levels: tuple[int, ...], nearer_mm: float = 0.0) -> list[VertebraPose]:
        down = {n: z - (nearer_mm if n >= 20 else 0) for n, z in places.items()}
        return [replace(pose(n, 0, 0, 0, down[n]), heights_mm=(24.0, 24, backs.get(n, 24))) for n in levels]

    def ratios(poses: list[VertebraPose]) -> dict[int, float | None]:
        return {m.level: m.posterior_ratio for m in measure_spine(poses).vertebrae}

    whole = ratios(spine((17, 18, 19, 20, 21)))
    assert whole[18] == pytest.approx(20 / 24) and whole[20] == pytest.approx(30 / 24)
    gap = measure_spine(spine((17, 18, 20, 21)))
    assert [d[:2] for d in gap.discs] == [(17, 18), (20, 21)]
    assert ratios(spine((17, 18, 20, 21)))[18] == pytest.approx(20 / 24)
    poses = spine((17, 18, 19, 20, 21))
    poses[2] = replace(poses[2], axes=poses[2].axes[[0, 2, 1]] * [[1], [1], [-1]])
    assert [d[:2] for d in measure_spine(poses).discs] == [(17, 18), (20, 21)]
    eleven = spine((17, 18, 20, 21), nearer_mm=27)
    assert [d[:2] for d in measure_spine(eleven).discs] == [(17, 18), (18, 20), (20, 21)]
    assert ratios(eleven)[18] == pytest.approx(20 / 27)


def test_what_has_no_body_says_so() -> None:
    mask, _ = phantom(0, 0, 0, False)
    middle = GRID.to_world(CENTRE)
    with pytest.raises(NoBodyError, match="C1"):
        estimate_pose(1, mask, GRID.affine, middle)
    with pytest.raises(NoBodyError, match="from its bone"):
        estimate_pose(20, mask, GRID.affine, middle + [60.0, 0, 0])
    with pytest.raises(NoBodyError, match="too little"):
        estimate_pose(20, np.zeros(GRID.shape, np.float32), GRID.affine, middle)
    ball = (np.linalg.norm(np.stack(np.indices(GRID.shape), -1) - CENTRE, axis=-1) < 4.5).astype(np.float32)
    with pytest.raises(NoBodyError, match="too little"):
        estimate_pose(20, ball, GRID.affine, middle)


@pytest.mark.parametrize("turn", [-20.0, 3.3, 16.0])
def test_symmetry_of_a_turned_cross(turn: float) -> None:
    rows, columns = np.indices((90, 81)) - np.array([30.0, 41.5])[:, None, None]
    angle = np.radians(turn)
    back, left = rows * np.cos(angle) + columns * np.sin(angle), columns * np.cos(angle) - rows * np.sin(angle)
    image = ((np.hypot(back, left) < 18) | ((np.abs(left) < 4) & (back > 0) & (back < 40))).astype(np.float32)
    assert np.degrees(symmetry_plane(image[None], np.array([0, 30.0, 40.0]))) == pytest.approx(turn, abs=0.7)


def test_kinks_are_found_and_healthy_and_scoliotic_spines_have_none() -> None:
    rng = np.random.default_rng(0)
    false_alarms, missed = 0, 0
    for _ in range(150):
        posture = draw_posture(tuple(range(1, 25)), PostureOptions(scoliosis_share=0.5), rng)

        def located(centres: np.ndarray, levels: tuple[int, ...] = posture.levels) -> list:
            pairs = zip(levels, centres, strict=True)
            return [SimpleNamespace(level=n, cube=SimpleNamespace(body_centroid_mm=c)) for n, c in pairs]

        false_alarms += bool(kinks(located(posture.centroids)))
        wrong = posture.centroids.copy()
        wrong[13] += 12 * np.array([0.0, 0.6, 0.8])
        missed += list(kinks(located(wrong))) != [14]
        # A level that is left out is no kink.
        assert not kinks(located(posture.centroids[[9, 10, 12, 13, 14]], (10, 11, 13, 14, 15)))
        # In a spine that has no T12, L1 follows T11.
        eleven = np.delete(posture.centroids, 18, axis=0)
        eleven[18:] -= posture.centroids[19] - posture.centroids[18]
        levels = tuple(n for n in range(1, 25) if n != 19)
        false_alarms += not {18, 20}.isdisjoint(kinks(located(eleven, levels)))
    assert false_alarms <= 6 and missed <= 4


def test_what_cannot_be_true_is_withheld_and_takes_no_part() -> None:
    """Of five vertebrae one lies across the spine, one is turned by 86 degrees and one is 90 mm wide."""
    upright = [pose(n, 0, 0, 0, 30.0 * n) for n in range(20, 25)]
    turn = Rotation.from_rotvec(np.radians(86) * np.array([0, 0, 1.0])).as_matrix()
    across = replace(upright[1], axes=upright[1].axes[[0, 2, 1]] * [[1], [1], [-1]])
    turned, wide = replace(upright[2], axes=upright[2].axes @ turn.T), replace(upright[3], width_mm=90.0)
    measures = measure_spine([upright[0], across, turned, wide, upright[4]])
    rows = {m.level: m for m in measures.vertebrae}
    assert not rows[20].withheld and not rows[24].withheld
    assert "90° askew" in rows[21].withheld["tilt"]
    lost = (rows[21].tilt, rows[21].axial_rotation, rows[21].wedge, rows[21].heights_mm, rows[21].width_mm)
    assert lost == (None,) * 5 and rows[21].middle_ratio is None
    assert "86°" in rows[22].withheld["axial_rotation"] and rows[22].axial_rotation is None and rows[22].tilt
    assert "90 mm" in rows[23].withheld["width"] and rows[23].width_mm is None and rows[23].depth_mm == 25.0
    # The discs beside the one that lies across are not measured, and it is no neighbour of a height.
    assert [d[:2] for d in measures.discs] == [(22, 23), (23, 24)]
    alone = measure_spine([pose(24, 0, 0, 0, 0)])
    assert not alone.vertebrae[0].withheld and alone.lordosis is None
    unsure = replace(upright[0], axial_sd_deg=0.0)
    assert measure_spine([unsure]).vertebrae[0].axial_rotation is None


def test_a_back_wall_that_was_not_seen_measures_nothing() -> None:
    unseen = measure_spine([replace(pose(22, 0, 0, 0, 0), canal_found=False)]).vertebrae[0]
    assert unseen.depth_mm is None and unseen.heights_mm is None and unseen.width_mm is not None
    assert "canal" in unseen.withheld["depth"] and unseen.tilt is not None


def test_no_turn_is_known_exactly() -> None:
    """A phantom that is its own mirror image still has an uncertainty: it is read off samples."""
    mask, frame = phantom(0, 0, 0, True)
    found = estimate_pose(LEVEL_NUMBERS["L2"], mask, GRID.affine, GRID.to_world(CENTRE), IPL_AXES.T @ frame[:, 0])
    assert 0.2 < found.axial_sd_deg < 1.5
