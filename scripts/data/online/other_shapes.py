"""Another person's vertebrae inside a real CT: the CT is warped until its vertebrae have the other's shape.

The films of such a patient have all that a real scan has, and shapes that the scan alone does not offer. Place, turn
and size stay those of the patient; what changes is the rest (processes, facets, bodies). Vertebra by vertebra the two
signed distances are brought together by a smooth displacement (demons: Thirion 1998,
doi 10.1016/S1361-8415(98)80022-4), and labels are carried by the same displacement, so they stay true to the films.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from scripts.anatomy.average import cube_points
from scripts.anatomy.mean_shapes import mean_shapes
from scripts.anatomy.placement import NUMBERS, fit_shape, to_shape_frame
from scripts.anatomy.shapes import SHAPE_SPACING_MM, VertebraShape, load_shape, signed_distance, vertebrae_of
from scripts.data.online.case import OnlineCase, OnlineVertebra
from scripts.data.online.memory import COPY
from scripts.data.online.numbers import FIT, with_numbers
from scripts.data.online.render import sample_volume
from scripts.simulation.spine import draw_order

# Around a vertebra: what is warped with it, over which the warp fades at the box's rim.
MARGIN_MM, RIM_MM = 16.0, 8.0
STEPS, GAIN, SMOOTH_MM = 40, 0.6, 2.0
FARTHEST_MM = 3.0
# Volume may shrink to this share, and no further: space must not fold.
LEAST_JACOBIAN = 0.15
# A softness of edges, mm, with which a shape is fitted.
EDGE_MM = 0.7


def with_other_shapes(case: OnlineCase, number: int, subjects: dict[str, float]) -> OnlineCase:
    """Copy ``number`` of a patient, its whole vertebrae in the shapes of others; always the same.

    Neighbours take the shape of one subject as far as it has them, as in a simulated patient.

    Args:
        case: whose vertebrae are known by their `numbers`.
        number: of the copy.
        subjects: of the shape library -> how often each is drawn, against 1.
    """
    rng = np.random.default_rng([number, *case.name.encode()])
    order = draw_order(subjects, rng)
    mirrored = bool(rng.random() < 0.5)
    moved = torch.zeros(*case.hu.shape, 3)
    centroids: dict[int, np.ndarray] = {v.level: v.centroid.astype(float) for v in case.vertebrae}
    for vertebra in case.vertebrae:
        subject = next((s for s in order if vertebra.level in vertebrae_of(s)), None)
        if subject is None or not vertebra.whole or vertebra.numbers is None:
            continue
        place = _exchange(case, vertebra, load_shape(subject, vertebra.level), mirrored, moved)
        centroids[vertebra.level] = vertebra.centroid + place / case.spacing_mm
    hu = _carried(case.hu.float() + 1024.0, moved, np.zeros(3)) - 1024.0
    vertebrae = [_carry(v, case, moved, centroids) for v in case.vertebrae]
    copy = replace(
        case, name=f"{case.name}{COPY}shapes{number}", hu=hu.round().to(torch.int16), vertebrae=tuple(vertebrae)
    )
    return with_numbers(copy)


@cache
def library_numbers(subject: str, level: int) -> np.ndarray:
    """(9,) how the level's mean shape lies in a subject's vertebra (`scripts.anatomy.placement`)."""
    points = torch.from_numpy(cube_points(FIT.lattice_mm)).float().reshape(-1, 3)
    share = torch.sigmoid(-_distance(load_shape(subject, level), points) / EDGE_MM)
    with torch.enable_grad():
        numbers, _ = fit_shape(mean_shapes()[level], points, share, torch.zeros(1, NUMBERS), torch.zeros(1), FIT)
    return numbers.numpy()


def _exchange(
    case: OnlineCase, vertebra: OnlineVertebra, shape: VertebraShape, mirrored: bool, moved: torch.Tensor
) -> np.ndarray:
    """Add one vertebra's warp to ``moved`` (I, P, L, 3) voxels; mm along I, P, L by which its centroid moves."""
    assert vertebra.numbers is not None
    margin = round(MARGIN_MM / case.spacing_mm)
    box = vertebra.box(margin, case.hu.shape)
    first = np.array([side.start for side in box])
    lattice = torch.stack(torch.meshgrid(*(torch.arange(s.start, s.stop) for s in box), indexing="ij"), -1).float()
    share = _carried(vertebra.share.float() / 255, moved[box], vertebra.start - first)
    now = torch.from_numpy(signed_distance(share.numpy() > 0.5, case.spacing_mm))
    own = (lattice - torch.from_numpy(vertebra.centroid).float()) * case.spacing_mm
    own = own.reshape(-1, 3) @ torch.from_numpy(vertebra.axes()).float().T
    wanted, place = placed_distance(
        shape, library_numbers(shape.subject, shape.number), vertebra.numbers, own, mirrored
    )
    shift = _demons(now, wanted.reshape(now.shape), case.spacing_mm)
    rim = torch.ones(now.shape)
    for axis, size in enumerate(now.shape):
        line = torch.arange(size, dtype=torch.float32)
        fade = (torch.minimum(line, size - 1 - line) * case.spacing_mm / RIM_MM).clamp(0, 1)
        rim = rim * fade.reshape([-1 if a == axis else 1 for a in range(3)])
    shift = _unfolded(shift * rim[..., None] / case.spacing_mm)
    # First this warp, then those that are there already.
    moved[box] = shift + _sampled_at(moved[box], shift)
    return place @ vertebra.axes()


def placed_distance(
    shape: VertebraShape, theirs: np.ndarray, ours: np.ndarray, points: torch.Tensor, mirrored: bool
) -> tuple[torch.Tensor, np.ndarray]:
    """A library vertebra laid where a patient's lies, by the mean shape that lies in both.

    Args:
        shape: the library's.
        theirs: (9,) how the mean shape lies in it.
        ours: (9,) how it lies in the patient's vertebra.
        points: (N, 3) mm in the patient's vertebra's own frame.
        mirrored: whether the library's vertebra is taken as its mirror image.

    Returns:
        (N,) mm signed distances, and (3,) mm where its body's centroid lies in the patient's vertebra's own frame.
    """
    tilt = torch.zeros(1)
    (into, at), (their_into, their_at) = (
        (linear[0], shift[0])
        for linear, shift in (to_shape_frame(torch.from_numpy(n)[None].float(), tilt) for n in (ours, theirs))
    )
    flip = torch.tensor([1.0, 1.0, -1.0 if mirrored else 1.0])
    mean = (points @ into.T + at) * flip
    back = torch.linalg.inv(their_into)
    distance = _distance(shape, (mean - their_at) @ back.T)
    size = float(np.exp((ours[6:] - theirs[6:]).mean()))
    place = torch.linalg.inv(into) @ (their_at * flip - at)
    return distance * size, place.numpy().astype(float)


def _distance(shape: VertebraShape, points: torch.Tensor) -> torch.Tensor:
    """Signed distances (N,) mm of a library vertebra at points (N, 3) mm of its own frame."""
    index = points / SHAPE_SPACING_MM + torch.tensor(shape.origin)
    inside = torch.tensor(shape.signed_distance.shape) - 1.0
    nearest = torch.minimum(index.clamp_min(0), inside)
    found = ndimage.map_coordinates(shape.signed_distance, nearest.T.numpy(), order=1)
    # Beyond the shape's box it is further away by the way to the box.
    beyond = (index - nearest).norm(dim=1) * SHAPE_SPACING_MM
    return torch.from_numpy(found) + beyond


def _demons(now: torch.Tensor, wanted: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """(I, P, L, 3) mm: where each point of the new vertebra comes from in the one that is there, less the point.

    Args:
        now: (I, P, L) mm signed distance of the vertebra that is there.
        wanted: (I, P, L) mm signed distance of the one that is to be.
        spacing_mm: of the voxels.
    """
    slope = torch.stack(torch.gradient(now, spacing=spacing_mm), -1)
    near = torch.exp(-0.5 * (wanted / (2 * FARTHEST_MM)) ** 2)[..., None]
    shift = torch.zeros(*now.shape, 3)
    sigma = SMOOTH_MM / spacing_mm
    for _ in range(STEPS):
        here = _sampled_at(torch.cat([now[..., None], slope], -1), shift / spacing_mm)
        off = (here[..., :1] - wanted[..., None]).clamp(-FARTHEST_MM, FARTHEST_MM)
        way = here[..., 1:]
        shift = shift - GAIN * near * off * way / (way.square().sum(-1, keepdim=True) + 0.1)
        shift = torch.from_numpy(ndimage.gaussian_filter(shift.numpy(), (sigma, sigma, sigma, 0)))
    return shift


def _unfolded(shift: torch.Tensor) -> torch.Tensor:
    """The displacement (I, P, L, 3), voxels, made smaller until space nowhere folds."""
    for _ in range(8):
        slopes = torch.stack([torch.stack(torch.gradient(shift[..., a]), -1) for a in range(3)], -2)
        if float(torch.linalg.det(slopes + torch.eye(3)).min()) > LEAST_JACOBIAN:
            return shift
        shift = 0.8 * shift
    return torch.zeros_like(shift)


def _carry(
    vertebra: OnlineVertebra, case: OnlineCase, moved: torch.Tensor, centroids: dict[int, np.ndarray]
) -> OnlineVertebra:
    """A vertebra after the warp, between neighbours that moved with it."""
    margin = round(MARGIN_MM / case.spacing_mm)
    box = vertebra.box(margin, case.hu.shape)
    first = np.array([side.start for side in box])
    share = _carried(vertebra.share.float(), moved[box], vertebra.start - first)
    kept = np.argwhere(share.numpy() >= 1)
    low, high = kept.min(0), kept.max(0) + 1
    inner = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    levels = [v.level for v in case.vertebrae]
    place = levels.index(vertebra.level)
    own = centroids[vertebra.level]
    above, below = (
        (centroids[levels[i]] - own) * case.spacing_mm if 0 <= i < len(levels) else None for i in (place - 1, place + 1)
    )
    return replace(
        vertebra,
        centroid=own,
        above=above,
        below=below,
        start=first + low,
        share=share[inner].round().clamp(0, 255).to(torch.uint8).contiguous(),
        numbers=None,
    )


def _carried(volume: torch.Tensor, moved: torch.Tensor, offset: np.ndarray) -> torch.Tensor:
    """A volume (i, p, l) that begins at voxel ``offset`` of a box, as it looks in the box after the warp; 0 outside."""
    shape = moved.shape[:3]
    lattice = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"), -1).float()
    index = lattice + moved - torch.from_numpy(offset).float()
    return sample_volume(volume, index, (shape[0], shape[1], shape[2]))


def _sampled_at(values: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Values (I, P, L, C) of a lattice at its points moved by ``shift`` (I, P, L, 3) voxels."""
    shape = values.shape[:3]
    lattice = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij"), -1).float()
    where = ((2 * (lattice + shift) + 1) / torch.tensor(shape) - 1).flip(-1)
    found = F.grid_sample(values.movedim(-1, 0)[None], where[None], align_corners=False, padding_mode="border")
    return found[0].movedim(0, -1)
