"""What lies over a vertebra in films and is not bone of the spine: gas in bowel loops, rib-like bands, tissue edges,
calcified vessel walls, vessels and hearts. As line integrals to add to clean ones, drawn for a whole batch on any
device.

They are for the engine that makes samples on the fly; `scripts.simulation` paints the same things into a CT.
Shapes are drawn in mm about the middle of the film. Nothing is read back from the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from scripts.geometry.projector import WATER_PER_MM

Range = tuple[float, float]
# Probabilities in the neck, the chest and the loin.
ByRegion = tuple[float, float, float]
# Larger films get more of everything, up to so many times what a patch of 120 mm gets.
PATCH_MM, MOST_PATCHES = 120.0, 6
# Films wider than this are drawn on pixels of at least so much.
WIDE_MM, COARSE_MM = 200.0, 2.0


@dataclass(frozen=True)
class OverlayOptions:
    """What is drawn, for each 120 x 120 mm of film; probabilities for (cervical, thoracic, lumbar).

    Args:
        gas: of each of ``gas_loops`` loops of bowel.
        gas_loops: how many there may be.
        gas_mm: half the width of a loop.
        bands: of each of ``band_count`` rib-like bands with a bright edge, in each view.
        band_count: how many there may be.
        band_mm: half their width.
        band_density: excess over water, 1 is as much as water itself.
        edges: of each of ``edge_count`` borders of organs (diaphragm, liver, kidney, psoas, aorta), in each view.
        edge_count: how many there may be.
        edge_step: height in line integrals.
        calcification: of a calcified vessel wall, in each view.
        calcification_step: its height in line integrals.
        clumps: standard deviation of the smooth unevenness of fat and muscle, in line integrals.
        clumps_mm: its correlation length.
        vessels: of each of ``vessel_count`` vessels down the film, as an aorta with contrast agent, in each view.
        vessel_count: how many there may be.
        vessel_mm: half their width.
        vessel_density: excess over what they replace.
        hearts: of each of ``heart_count`` large round shadows, as of a heart between the lungs, in each view.
        heart_count: how many there may be.
        heart_mm: half their width and height.
        heart_step: greatest height in line integrals.
    """

    gas: ByRegion = (0.03, 0.2, 0.7)
    gas_loops: int = 4
    gas_mm: Range = (6.0, 24.0)
    bands: ByRegion = (0.1, 0.4, 0.25)
    band_count: int = 3
    band_mm: Range = (3.0, 6.5)
    band_density: Range = (0.15, 0.9)
    edges: ByRegion = (0.3, 0.4, 0.5)
    edge_count: int = 3
    edge_step: Range = (0.03, 0.5)
    calcification: ByRegion = (0.05, 0.15, 0.25)
    calcification_step: Range = (0.03, 0.2)
    clumps: Range = (0.0, 0.08)
    clumps_mm: Range = (5.0, 20.0)
    vessels: ByRegion = (0.3, 0.3, 0.3)
    vessel_count: int = 0
    vessel_mm: Range = (8.0, 22.0)
    vessel_density: Range = (0.05, 0.7)
    hearts: ByRegion = (0.2, 0.2, 0.2)
    heart_count: int = 0
    heart_mm: Range = (25.0, 80.0)
    heart_step: Range = (0.1, 1.5)


@dataclass(frozen=True)
class Draw:
    """A source of random numbers for a batch, all (B, 1, 1).

    Args:
        batch: B.
        device: of the numbers.
        generator: torch's own if None.
    """

    batch: int
    device: torch.device
    generator: torch.Generator | None = None

    def uniform(self, low: float, high: float) -> torch.Tensor:
        """Evenly from an interval."""
        values = torch.rand(self.batch, 1, 1, device=self.device, generator=self.generator)
        return low + (high - low) * values

    def logarithmic(self, low: float, high: float) -> torch.Tensor:
        """Evenly from an interval on a logarithmic scale; ``low`` is positive."""
        logarithms = torch.tensor([low, high], dtype=torch.float64).log().tolist()
        return self.uniform(*logarithms).exp()

    def normal(self) -> torch.Tensor:
        """(B, 1, 1) normal numbers of unit variance."""
        return torch.randn(self.batch, 1, 1, device=self.device, generator=self.generator)

    def happens(self, probability: float | torch.Tensor) -> torch.Tensor:
        """1 with a probability, a number or (B, 1, 1), else 0."""
        return (self.uniform(0.0, 1.0) < probability).float()

    def sign(self) -> torch.Tensor:
        """1 or -1."""
        return 2 * self.happens(0.5) - 1


def overlays(
    shapes: tuple[torch.Size, torch.Size],
    pixel_mm: float,
    options: OverlayOptions,
    regions: torch.Tensor | None,
    draw: Draw,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Line integrals to add to AP and LAT films, without the clumps, which need the films' spectrum.

    Args:
        shapes: (B, rows, columns) of both.
        pixel_mm: size of a pixel.
        options: what is drawn.
        regions: (B,) long, 0 cervical, 1 thoracic, 2 lumbar; None for the mean of the three.
        draw: source.

    Returns:
        both (B, rows, columns) float32.
    """
    step = math.ceil(COARSE_MM / pixel_mm) if max(shapes[0][-2:]) * pixel_mm > WIDE_MM else 1
    if step > 1:
        coarse = tuple(torch.Size((shape[0], -(-shape[1] // step), -(-shape[2] // step))) for shape in shapes)
        drawn = overlays((coarse[0], coarse[1]), step * pixel_mm, options, regions, draw)
        ap, lat = (
            F.interpolate(film[:, None], shape[-2:], mode="bilinear", align_corners=False)[:, 0]
            for film, shape in zip(drawn, shapes, strict=True)
        )
        return ap, lat
    (ap_rows, ap_columns), (lat_rows, lat_columns) = (_positions(shape, pixel_mm, draw.device) for shape in shapes)
    count = min(max(round(shapes[0][-2] * shapes[0][-1] * pixel_mm**2 / PATCH_MM**2), 1), MOST_PATCHES)
    half = tuple(pixel_mm * n / 2 for n in shapes[0][-2:])
    ap, lat = (torch.zeros(shape, device=draw.device) for shape in shapes)
    likely = _probability(options.gas, regions, draw)
    for _ in range(options.gas_loops * count):
        gas_ap, gas_lat = _gas_loop(ap_rows, ap_columns, lat_columns, half, options, draw)
        present = draw.happens(likely)
        ap, lat = ap + present * gas_ap, lat + present * gas_lat
    for film, rows, columns in ((ap, ap_rows, ap_columns), (lat, lat_rows, lat_columns)):
        half = pixel_mm * film.shape[-2] / 2, pixel_mm * film.shape[-1] / 2
        for _ in range(options.band_count * count):
            film += draw.happens(_probability(options.bands, regions, draw)) * _band(rows, columns, half, options, draw)
        for _ in range(options.edge_count * count):
            film += draw.happens(_probability(options.edges, regions, draw)) * _edge(rows, columns, half, options, draw)
        for _ in range(count):
            chalk = _calcification(rows, columns, half, options, draw)
            film += draw.happens(_probability(options.calcification, regions, draw)) * chalk
        for _ in range(options.vessel_count * count):
            vessel = _vessel(rows, columns, half, options, draw)
            film += draw.happens(_probability(options.vessels, regions, draw)) * vessel
        for _ in range(options.heart_count * count):
            film += draw.happens(_probability(options.hearts, regions, draw)) * _heart(
                rows, columns, half, options, draw
            )
    return ap, lat


def _positions(shape: torch.Size, pixel_mm: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """mm of the rows (1, R, 1) and columns (1, 1, C) from the middle."""
    rows, columns = ((torch.arange(n, device=device) - (n - 1) / 2) * pixel_mm for n in shape[-2:])
    return rows[None, :, None], columns[None, None, :]


def _probability(by_region: ByRegion, regions: torch.Tensor | None, draw: Draw) -> float | torch.Tensor:
    if regions is None:
        return sum(by_region) / 3
    # By arithmetic instead of a table: copying one to the device would make it wait.
    index = regions.to(draw.device).reshape(-1, 1, 1)
    zero, one, two = by_region
    return zero * (index == 0) + one * (index == 1) + two * (index == 2)


def _gas_loop(
    rows: torch.Tensor,
    lefts: torch.Tensor,
    posteriors: torch.Tensor,
    half_mm: tuple[float, ...],
    options: OverlayOptions,
    draw: Draw,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blobs along a wandering path in front of the spine, in both views at the same heights; walls a little denser."""
    centre = [
        draw.uniform(-half_mm[0], half_mm[0]),
        draw.uniform(-min(half_mm[1], 130.0), min(half_mm[1], 130.0)),
        draw.uniform(-110.0, -30.0),
    ]
    heading = [draw.normal() for _ in range(3)]
    radius = draw.uniform(*options.gas_mm)
    length = draw.uniform(1.0, 5.0)
    wall = draw.uniform(1.0, 3.0)
    # Squares of half the thickness, negative beyond the blobs' edges: the union of blobs is their largest.
    squares = [torch.full((), -1e6, device=draw.device) for _ in range(2)]
    for k in range(5):
        i, left, p = (radius * draw.uniform(0.7, 1.4) for _ in range(3))
        gone = (length < k).float()
        down = 1 - 1e6 * gone - ((rows - centre[0]) / i) ** 2
        for view, (columns, middle, a, depth) in enumerate(
            ((lefts, centre[1], left, p), (posteriors, centre[2], p, left))
        ):
            blob = depth**2 * down - (depth / a * (columns - middle)) ** 2
            squares[view] = torch.maximum(squares[view], blob)
        heading = [0.6 * h + draw.normal() for h in heading]
        norm = torch.sqrt(heading[0] ** 2 + heading[1] ** 2 + heading[2] ** 2).clamp(min=0.1)
        centre = [c + 1.1 * radius * h / norm for c, h in zip(centre, heading, strict=True)]
    # Mostly gas; else stool, between gas and water. Walls are water in fat.
    fill = torch.where(draw.uniform(0, 1) < 0.75, -torch.ones_like(radius), draw.uniform(-0.4, 0.1))
    made = []
    for square in squares:
        inner = 2 * square.clamp(min=0).sqrt()
        outer = 2 * (square + 2 * radius * wall).clamp(min=0).sqrt()
        made.append(WATER_PER_MM * (fill * inner + 0.15 * (outer - inner)))
    return made[0], made[1]


def _along(
    rows: torch.Tensor,
    columns: torch.Tensor,
    half_mm: tuple[float, ...],
    most_rad: float,
    draw: Draw,
    most_bend: float = 0.006,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance from, and position along, a parabola somewhere on the film; ``most_rad`` tilts it off the rows.

    ``most_bend`` is half the largest curvature, per mm.
    """
    angle = draw.uniform(-most_rad, most_rad)
    cosine, sine = angle.cos(), angle.sin()
    row = rows - draw.uniform(-1.1 * half_mm[0], 1.1 * half_mm[0])
    column = columns - draw.uniform(-1.1 * half_mm[1], 1.1 * half_mm[1])
    along, across = cosine * column + sine * row, cosine * row - sine * column
    bend = draw.uniform(-most_bend, most_bend)
    return (across - bend * along**2) / (1 + (2 * bend * along) ** 2).sqrt(), along


def _band(
    rows: torch.Tensor, columns: torch.Tensor, half_mm: tuple[float, ...], options: OverlayOptions, draw: Draw
) -> torch.Tensor:
    """A hollow tube along a curve: a rib, at most some 60 mm beyond its middle."""
    away, along = _along(rows, columns, half_mm, 1.1, draw)
    width, cortex = draw.uniform(*options.band_mm), draw.uniform(0.5, 1.5)
    outer = (width**2 - away**2).clamp(min=0).sqrt()
    inner = ((width - cortex) ** 2 - away**2).clamp(min=0).sqrt()
    ends = torch.sigmoid((draw.uniform(20.0, 140.0) - along.abs()) / 2)
    return WATER_PER_MM * draw.uniform(*options.band_density) * 2 * (outer - 0.75 * inner) * ends


def _edge(
    rows: torch.Tensor, columns: torch.Tensor, half_mm: tuple[float, ...], options: OverlayOptions, draw: Draw
) -> torch.Tensor:
    """A border with more on one side of it than on the other, which fades away from it."""
    away, _ = _along(rows, columns, half_mm, 1.6, draw)
    side = torch.sigmoid(away / draw.logarithmic(0.4, 3.0))
    fade = torch.exp(-away.clamp(min=0) / draw.uniform(15.0, 90.0))
    return draw.sign() * draw.logarithmic(*options.edge_step) * side * fade


def _calcification(
    rows: torch.Tensor, columns: torch.Tensor, half_mm: tuple[float, ...], options: OverlayOptions, draw: Draw
) -> torch.Tensor:
    """Plaques along a vessel that runs down the film: short bright dashes."""
    away, along = _along(columns.expand(1, 1, -1), rows, half_mm[::-1], 0.4, draw)
    dashes = torch.sigmoid(4 * torch.sin(along / draw.uniform(2.0, 8.0) + draw.uniform(0.0, 6.28)) - 2)
    width = draw.uniform(0.6, 2.0)
    return draw.uniform(*options.calcification_step) * torch.exp(-((away / width) ** 2) / 2) * dashes


def _vessel(
    rows: torch.Tensor, columns: torch.Tensor, half_mm: tuple[float, ...], options: OverlayOptions, draw: Draw
) -> torch.Tensor:
    """A full tube that runs down the film and bends little."""
    away, along = _along(columns.expand(1, 1, -1), rows, half_mm[::-1], 0.35, draw, 0.002)
    width = draw.uniform(*options.vessel_mm)
    ends = torch.sigmoid((draw.uniform(30.0, 200.0) - along.abs()) / 4)
    thickness = 2 * (width**2 - away**2).clamp(min=0).sqrt()
    return WATER_PER_MM * draw.uniform(*options.vessel_density) * thickness * ends


def _heart(
    rows: torch.Tensor, columns: torch.Tensor, half_mm: tuple[float, ...], options: OverlayOptions, draw: Draw
) -> torch.Tensor:
    """An ellipsoid's shadow, tilted."""
    angle = draw.uniform(0.0, math.pi)
    row = rows - draw.uniform(-half_mm[0], half_mm[0])
    column = columns - draw.uniform(-half_mm[1], half_mm[1])
    u = (angle.cos() * column + angle.sin() * row) / draw.uniform(*options.heart_mm)
    v = (angle.cos() * row - angle.sin() * column) / draw.uniform(*options.heart_mm)
    return draw.logarithmic(*options.heart_step) * (1 - u**2 - v**2).clamp(min=0).sqrt()
