"""How a point in space lands in each of two radiographs, and back.

One description serves three acquisitions, which differ only in the image axes along which the rays diverge:

=========  =====  ========  ==========================================================
beam       rows   columns   example
=========  =====  ========  ==========================================================
parallel   no     no        digitally reconstructed radiographs of the paper
slot       no     yes       EOS: a horizontal fan that is scanned down the patient
cone       yes    yes       an ordinary X-ray tube
=========  =====  ========  ==========================================================
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from scripts.errors import UserError
from scripts.geometry.beam import Beam
from scripts.geometry.frames import INFERIOR, LEFT, POSTERIOR, Grid

Vector = tuple[float, float, float]
# Fields of a view that are several numbers.
_NUMBERS = {
    "row_direction": 3,
    "column_direction": 3,
    "beam_direction": 3,
    "isocentre_mm": 3,
    "principal_point": 2,
    "pixel_spacing_mm": 2,
    "shape": 2,
}

# Per beam: do the rays diverge along (rows, columns)?
DIVERGENCE: dict[Beam, np.ndarray] = {
    Beam.PARALLEL: np.array([False, False]),
    Beam.SLOT: np.array([False, True]),
    Beam.CONE: np.array([True, True]),
}


@dataclass(frozen=True)
class View:
    """One radiograph's geometry. Pixels are (row, column); an index names a pixel's centre.

    Args:
        beam: which image axes diverge.
        row_direction: unit world vector along which the row index grows (down the image).
        column_direction: unit world vector along which the column index grows.
        beam_direction: unit world vector from the source to the detector, across both.
        isocentre_mm: world point that projects onto ``principal_point``.
        principal_point: (row, column) pixel.
        pixel_spacing_mm: (row, column) pixel size *on the detector*; along an axis that does not diverge this is also
            the size in the patient.
        shape: (rows, columns).
        source_to_isocentre_mm: infinite for a parallel beam.
        source_to_detector_mm: infinite for a parallel beam.
    """

    beam: Beam
    row_direction: Vector
    column_direction: Vector
    beam_direction: Vector
    isocentre_mm: Vector
    principal_point: tuple[float, float]
    pixel_spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    source_to_isocentre_mm: float = math.inf
    source_to_detector_mm: float = math.inf

    def __post_init__(self) -> None:
        axes = self.axes
        if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-4):
            raise UserError("a view's row, column and beam directions must be perpendicular unit vectors")
        if min(self.pixel_spacing_mm) <= 0:
            raise UserError(f"pixel spacing must be positive, not {self.pixel_spacing_mm}")
        if self.beam is not Beam.PARALLEL and not (
            0 < self.source_to_isocentre_mm < math.inf and 0 < self.source_to_detector_mm < math.inf
        ):
            raise UserError(f"a {self.beam.value} beam needs finite source distances")

    @property
    def axes(self) -> np.ndarray:
        """(3, 3), rows: row, column, beam direction."""
        return np.array([self.row_direction, self.column_direction, self.beam_direction])

    def magnification(self, points_mm: np.ndarray) -> np.ndarray:
        """Detector mm per patient mm at points (N, 3), along (rows, columns): (N, 2)."""
        points = np.atleast_2d(points_mm)
        magnification = np.ones((len(points), 2))
        divergent = DIVERGENCE[self.beam]
        if divergent.any():
            depth = self.source_to_isocentre_mm + (points - self.isocentre_mm) @ np.asarray(self.beam_direction)
            magnification[:, divergent] = (self.source_to_detector_mm / depth)[:, None]
        return magnification

    def project(self, points_mm: np.ndarray) -> np.ndarray:
        """World points (N, 3) -> pixels (N, 2), (row, column)."""
        points = np.atleast_2d(np.asarray(points_mm, float))
        in_plane = (points - self.isocentre_mm) @ self.axes[:2].T
        return in_plane * self.magnification(points) / self.pixel_spacing_mm + self.principal_point

    def pixel_size_mm(self, points_mm: np.ndarray) -> np.ndarray:
        """What one pixel measures in the patient at the depth of points (N, 3), along (rows, columns): (N, 2)."""
        return np.asarray(self.pixel_spacing_mm) / self.magnification(points_mm)

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """(row, column) size of a pixel in the patient, in the plane of the isocentre."""
        row, column = self.pixel_size_mm(np.asarray(self.isocentre_mm))[0]
        return float(row), float(column)

    def ray_basis(self) -> tuple[np.ndarray, np.ndarray]:
        """The rays as linear functions of the pixel, which is all that an engine needs to make them on its device.

        Returns:
            origins and directions, both (3, 3) in world mm, rows: constant, per pixel row, per pixel column. The ray of
            pixel (r, c) starts at ``[1, r, c] @ origins`` and runs along ``[1, r, c] @ directions``, which points away
            from the source and is not of unit length.
        """
        divergent = DIVERGENCE[self.beam]
        fan = bool(divergent.any())
        beam = np.asarray(self.beam_direction, float)
        origins, directions = np.zeros((2, 3, 3))
        origins[0] = self.isocentre_mm
        directions[0] = beam
        if fan:
            origins[0] -= self.source_to_isocentre_mm * beam
            directions[0] *= self.source_to_detector_mm
        for axis in range(2):
            per_pixel = self.axes[axis] * self.pixel_spacing_mm[axis]
            basis = directions if divergent[axis] else origins
            basis[1 + axis] = per_pixel
            basis[0] -= self.principal_point[axis] * per_pixel
        return origins, directions

    def rays(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lines that pixels (..., 2) see.

        Returns:
            a point on each line and its unit direction away from the source, both (..., 3) in world mm.
        """
        origins, directions = self.ray_basis()
        pixels = np.asarray(pixels, float)
        origin = origins[0] + pixels @ origins[1:]
        direction = directions[0] + pixels @ directions[1:]
        return origin, direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def turned(self, yaw_deg: float = 0.0, pitch_deg: float = 0.0, roll_deg: float = 0.0) -> View:
        """The view from a source that stands elsewhere: the whole view turned about its isocentre.

        Args:
            yaw_deg: about the row direction (the patient's long axis): + moves the source clockwise, seen from above.
            pitch_deg: about the column direction: + moves a source in front or on the left down, others up.
            roll_deg: about the beam: + turns the picture of a source in front or on the left anticlockwise, others'
                clockwise.
        """
        turns = np.radians([[yaw_deg], [pitch_deg], [roll_deg]]) * self.axes
        row, column, beam = self.axes @ Rotation.from_rotvec(turns.sum(0)).as_matrix().T
        return replace(
            self, row_direction=as_vector(row), column_direction=as_vector(column), beam_direction=as_vector(beam)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; infinite distances become ``None``."""
        values = asdict(self)
        values["beam"] = self.beam.value
        return {key: None if value == math.inf else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> View:
        """The inverse of `to_dict`.

        Raises:
            UserError: a key is missing or unknown, or the geometry is impossible.
        """
        try:
            plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
            plain["beam"] = Beam(plain["beam"])
            given: dict[str, Any] = {key: value for key, value in plain.items() if value is not None}
            view = cls(**given)
            for name, size in _NUMBERS.items():
                numbers = np.asarray(getattr(view, name), float)
                if numbers.shape != (size,) or not np.isfinite(numbers).all():
                    raise ValueError(f"{name} is {size} finite numbers, not {str(values.get(name))[:60]}")
            if min(view.shape) < 1 or any(n != int(n) for n in view.shape):
                raise ValueError(f"shape is rows and columns, not {view.shape}")
            return replace(view, shape=(int(view.shape[0]), int(view.shape[1])))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"not a view geometry: {error}") from error


@dataclass(frozen=True)
class BiplanarGeometry:
    """An AP (frontal) and a LAT (lateral) view of one patient in one world frame."""

    ap: View
    lat: View

    def project(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (N, 3) -> AP pixels (N, 2) and LAT pixels (N, 2)."""
        return self.ap.project(points_mm), self.lat.project(points_mm)

    def back_project(self, ap_pixels: np.ndarray, lat_pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The points whose images are two sets of pixels: midway between the two rays where they come closest.

        Args:
            ap_pixels: (N, 2).
            lat_pixels: (N, 2).

        Returns:
            points (N, 3) in world mm, and the residual (N,): how far apart the two rays pass, in mm. With rows that
            are shared it is the height mismatch; large values mean marks of two different vertebrae, a wrong spacing
            or a patient who moved.

        >>> from scripts.geometry.frames import Grid
        >>> geometry = geometry_of_grid(Grid((0.0, 0.0, 0.0), (100, 80, 60)), Beam.CONE)
        >>> points, residuals = geometry.back_project(*geometry.project(np.array([[-20.0, -30.0, -40.0]])))
        >>> points.round(6).tolist(), residuals.round(6).tolist()
        ([[-20.0, -30.0, -40.0]], [0.0])
        """
        origin_a, direction_a = self.ap.rays(np.atleast_2d(ap_pixels))
        origin_b, direction_b = self.lat.rays(np.atleast_2d(lat_pixels))
        between = origin_b - origin_a
        cosine = np.sum(direction_a * direction_b, -1)
        along_a, along_b = np.sum(between * direction_a, -1), np.sum(between * direction_b, -1)
        sine_squared = np.maximum(1 - cosine**2, 1e-12)
        nearest_a = origin_a + ((along_a - cosine * along_b) / sine_squared)[:, None] * direction_a
        nearest_b = origin_b + ((cosine * along_a - along_b) / sine_squared)[:, None] * direction_b
        return (nearest_a + nearest_b) / 2, np.linalg.norm(nearest_a - nearest_b, axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"ap": self.ap.to_dict(), "lat": self.lat.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BiplanarGeometry:
        """The inverse of `to_dict`."""
        if set(values) != {"ap", "lat"}:
            raise UserError("a biplanar geometry has exactly the keys 'ap' and 'lat'")
        return cls(View.from_dict(values["ap"]), View.from_dict(values["lat"]))


def geometry_of_grid(
    grid: Grid,
    beam: Beam = Beam.PARALLEL,
    source_to_isocentre_mm: tuple[float, float] = (1500.0, 1500.0),
    source_to_detector_mm: tuple[float, float] = (1800.0, 1800.0),
) -> BiplanarGeometry:
    """The two views that see a whole grid, one pixel a voxel in the plane of the grid's centre.

    With a parallel beam the pixels lie exactly over the voxels, so that a view is a sum along an array axis.

    Args:
        grid: the patient's volume.
        beam: acquisition.
        source_to_isocentre_mm: (AP, LAT), unused by a parallel beam.
        source_to_detector_mm: (AP, LAT), unused by a parallel beam.
    """
    centre = grid.to_world((np.array(grid.shape) - 1) / 2)
    rows, depth, width = grid.shape

    def view(column: np.ndarray, direction: np.ndarray, columns: int, which: int) -> View:
        parallel = View(
            beam=Beam.PARALLEL,
            row_direction=as_vector(INFERIOR),
            column_direction=as_vector(column),
            beam_direction=as_vector(direction),
            isocentre_mm=as_vector(centre),
            principal_point=((rows - 1) / 2, (columns - 1) / 2),
            pixel_spacing_mm=(grid.spacing_mm, grid.spacing_mm),
            shape=(rows, columns),
        )
        if beam is Beam.PARALLEL:
            return parallel
        scale = np.where(DIVERGENCE[beam], source_to_detector_mm[which] / source_to_isocentre_mm[which], 1.0)
        return replace(
            parallel,
            beam=beam,
            pixel_spacing_mm=(float(grid.spacing_mm * scale[0]), float(grid.spacing_mm * scale[1])),
            source_to_isocentre_mm=source_to_isocentre_mm[which],
            source_to_detector_mm=source_to_detector_mm[which],
        )

    # AP: source in front. LAT: source on the patient's left, so that the patient faces left in the image.
    return BiplanarGeometry(view(LEFT, POSTERIOR, width, 0), view(POSTERIOR, -LEFT, depth, 1))


def as_vector(values: np.ndarray) -> Vector:
    """The three numbers of a vector (3,)."""
    return float(values[0]), float(values[1]), float(values[2])
