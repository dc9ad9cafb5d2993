"""A generator that knows the vertebra's level: the level's mean shape, placed as the films say, is where it begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from scripts.anatomy.mean_shapes import REACH_MM, STEPS, VOXELS
from scripts.anatomy.placement import to_shape_frame
from scripts.geometry.cropping import CUBE_POSTERIOR_OFFSET_MM, CUBE_SIZE
from scripts.levels import TABLE_SIZE
from scripts.reconstruction.networks.encoding import EncodedLift
from scripts.reconstruction.networks.lifting import lifted
from scripts.reconstruction.networks.pose import PoseReader

# In the table of mean shapes.
UNKNOWN = 0


class LevelPrior(nn.Module):
    """The mean shape of each level (`scripts.anatomy.mean_shapes`) as a volume; a table that comes with the weights.

    Values are signed distances, -1 and 1 at `REACH_MM` inside and outside. An unknown level gets the mean of all.

    Args:
        size: of the volumes that it gives.
    """

    def __init__(self, size: int = 60) -> None:
        super().__init__()
        self.size, self.steps, self.per_mm = size, float(STEPS), 2 / CUBE_SIZE
        self.register_buffer("table", torch.zeros(TABLE_SIZE, VOXELS, VOXELS, VOXELS, dtype=torch.int8))
        # The body's centroid in a cube that reaches from -1 to 1 along Inferior, Posterior, Left.
        self.pivot = (0.0, -2 * CUBE_POSTERIOR_OFFSET_MM / CUBE_SIZE, 0.0)

    def forward(self, level: torch.Tensor, tilt: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Mean shapes at their places in their cubes.

        Args:
            level: (B,) VerSe numbers.
            tilt: (B,) degrees by which each leans in the sagittal plane of its cube, feet towards the back.
            numbers: (B, 9) place (mm), turn (degrees) and log stretches of each mean shape in its vertebra's own frame.

        Returns:
            (B, 1, size, size, size).
        """
        volumes = self.table[level.clamp(0, self.table.shape[0] - 1)].float() / self.steps
        linear, shift = to_shape_frame(numbers, tilt)
        pivot = torch.tensor(self.pivot, device=linear.device)
        offset = shift * self.per_mm + pivot - (linear * pivot).sum(2)
        # Rows and columns count from the last axis: Left, Posterior, Inferior.
        theta = torch.cat([linear.flip(1, 2), offset.flip(1)[:, :, None]], 2)
        placed = F.grid_sample(volumes[:, None], self._grid(theta), padding_mode="border", align_corners=False)
        larger = torch.exp(numbers[:, 6:9].mean(1))
        return (placed * larger[:, None, None, None, None]).clamp(-1, 1)

    def _grid(self, theta: torch.Tensor) -> torch.Tensor:
        """`torch.nn.functional.affine_grid` of (B, 3, 4), by sums: under autocast that one rounds to bfloat16."""
        axis = (2 * torch.arange(self.size, device=theta.device) + 1) / self.size - 1
        columns = theta[:, None, None, None]
        along_last = axis[:, None] * columns[..., 0]
        along_middle = axis[:, None, None] * columns[..., 1]
        along_first = axis[:, None, None, None] * columns[..., 2]
        return along_last + along_middle + along_first + columns[..., 3]


class LevelGenerator(nn.Module):
    """Two patches with their centroid masks, and the level if it is known, to one vertebra.

    Its parts are those of `networks.generator.Generator`, whose weights it can begin with, and three more. The
    level's mean shape, placed as the reader says, goes into the trunk and is what the logits begin with; the trunk
    says what else the films show.

    Args:
        fusion: (B, 4, N, N) -> AP features, LAT features.
        lift: a `scripts.reconstruction.networks.encoding.EncodedLift`.
        reader: how the vertebra lies.
        prior: a `LevelPrior` for volumes of M.
        backbone: a `FineBackbone`.
        prior_gain: what a millimetre of the prior's signed distance adds to the logits. A film shows some vertebrae
            badly, and then the mean shape is the better guess.
        alone: (9,) how much of each number counts that is read off one vertebra's films, where a caller knows no more
            of it (`numbers` of `forward`). Readings scatter more than people do.
    """

    # Known of networks from TorchScript too.
    __constants__ = ("takes_level",)

    def __init__(
        self,
        fusion: nn.Module,
        lift: EncodedLift,
        reader: PoseReader,
        prior: LevelPrior,
        backbone: FineBackbone,
        prior_gain: float,
        alone: Sequence[float],
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.lift = lift
        self.reader = reader
        self.prior = prior
        self.backbone = backbone
        self.takes_level = True
        self.prior_logit = prior_gain * REACH_MM
        self.register_buffer("alone", torch.tensor(alone, dtype=torch.float32), persistent=False)
        # What becomes of the numbers in a mirror that exchanges left and right.
        self.register_buffer("mirror", torch.tensor([1.0, 1, -1, -1, -1, 1, 1, 1, 1]), persistent=False)

    def forward(
        self,
        image: torch.Tensor,
        level: torch.Tensor | None = None,
        tilt: torch.Tensor | None = None,
        numbers: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of vertebrae in their cubes.

        Args:
            image: (B, 4, N, N) AP patch, AP centroid mask, LAT patch, LAT centroid mask.
            level: (B,) int64 VerSe numbers, 0 where unknown; all unknown if None. What is unknown is guessed.
            tilt: (B,) degrees by which each leans in the sagittal plane of its cube, feet towards the back; 0 if None.
            numbers: (B, 9) how the vertebrae lie; if None, what is `read` off the films counts as `alone` says.

        Returns:
            (B, 1, N, N, N) in ``IPL``.
        """
        if level is not None:
            level = self.known_or_likeliest(image, level)
        elif self.training:
            level = torch.zeros(image.shape[0], dtype=torch.int64, device=image.device)
        else:
            level = self._likeliest(image)
        if tilt is None:
            tilt = torch.zeros(image.shape[0], device=image.device)
        if numbers is None and self.training:
            numbers = self.reader(image, level, tilt) * _is_known(level) * self.alone
        elif numbers is None:
            numbers = self.read(self.see(image), level, tilt) * self.alone
        prior = self.prior(level, tilt, numbers)
        ap, lat = self.fusion(image)
        ap, lat = self.lift.encode(ap, lat)
        return self.backbone(ap, lat, prior.to(ap.dtype), self._expected(prior))

    @torch.jit.export
    def known_or_likeliest(self, image: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """(B,) levels as they are given, and what the reader takes a vertebra for where none is.

        While it is trained an unknown level stays unknown, so that the network learns to do without.
        """
        if self.training or bool((level > 0).all()):
            return level
        return torch.where(level > 0, level, self._likeliest(image))

    def _likeliest(self, image: torch.Tensor) -> torch.Tensor:
        return self.reader.level_logits(image)[:, 1:].argmax(1) + 1

    @torch.jit.export
    def see(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 2, F) what the reader sees in the films, and in those of the mirrored patient."""
        return torch.stack(self.reader.see_mirrored(image), 1)

    @torch.jit.export
    def read_levels(self, seen: torch.Tensor) -> torch.Tensor:
        """(B, `TABLE_SIZE`) log probabilities of VerSe numbers, where nobody says which vertebra it is.

        Args:
            seen: (B, 2, F) what the films show; the answer is the mean of both readings.
        """
        return self.reader.levels(seen).float().log_softmax(2).mean(1)

    @torch.jit.export
    def read(self, seen: torch.Tensor, level: torch.Tensor, tilt: torch.Tensor) -> torch.Tensor:
        """(B, 9) place (mm), turn (degrees) and log stretches of the vertebrae's mean shapes; zeros for unknown levels.

        Args:
            seen: (B, 2, F) what the films show; the answer is the mean of both readings.
            level: (B,) int64 VerSe numbers, 0 where unknown.
            tilt: (B,) degrees by which each leans in the sagittal plane of its cube.
        """
        mirrored = self.reader.numbers_of(seen[:, 1], level, tilt) * self.mirror
        return (self.reader.numbers_of(seen[:, 0], level, tilt) + mirrored) / 2 * _is_known(level)

    def _expected(self, prior: torch.Tensor) -> torch.Tensor:
        return prior * -self.prior_logit


def _is_known(level: torch.Tensor) -> torch.Tensor:
    """(B, 1) 1 for levels that are known, 0 for others."""
    return (level > 0).to(torch.float32)[:, None]


class FineBackbone(nn.Module):
    """A trunk on a coarse grid, corrected voxel by voxel on the lift's own grid.

    Processes are four to eight millimetres thick, as much as two voxels of the trunk's finest features, while what
    the films show of a voxel is known twice as finely. So each voxel of the lift's grid is judged once more by what
    the trunk saw there, what both films show of it, the prior, and where it lies.

    Args:
        backbone: (B, 2 F + 1, M, M, M) -> (B, 1 + width, M, M, M): coarse logits, then what it saw.
        view_features: F, of each view.
        size: M.
        width: of the layers that correct.
        factor: of the final interpolation.
        gain: of what it adds to the logits that it begins with, once trained. It learns the patients of its training
            better than others, so half of it is right more often than all of it (docs/training-log.md).
        constant: that it adds everywhere, once trained. Mean shapes are a little thinner than vertebrae.
    """

    def __init__(
        self,
        backbone: nn.Module,
        view_features: int = 16,
        size: int = 60,
        width: int = 15,
        factor: int = 2,
        *,
        gain: float,
        constant: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.factor = factor
        self.gain, self.constant = gain, constant
        self.from_ap = nn.Conv2d(view_features, width, 1)
        self.from_lat = nn.Conv2d(view_features, width, 1)
        self.from_prior = nn.Conv3d(1, width, 1)
        self.from_place = nn.ParameterList(nn.Parameter(torch.zeros(width, size)) for _ in range(3))
        self.correct = nn.Sequential(nn.ReLU(), nn.Conv3d(width, 16, 1), nn.ReLU(), nn.Conv3d(16, 1, 1))
        nn.init.zeros_(self.correct[-1].weight)
        nn.init.zeros_(self.correct[-1].bias)

    def forward(self, ap: torch.Tensor, lat: torch.Tensor, prior: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """AP and LAT features (B, F, M, M), prior and logits to begin with (B, 1, M, ...) -> (B, 1, factor M, ...)."""
        volume = lifted(ap, lat, [prior])
        seen = self.backbone(volume)
        known = seen[:, 1:].contiguous(memory_format=torch.channels_last_3d) + self._shown(volume)
        added = seen[:, :1].float() + self.correct(known).float()
        if not self.training:
            added = self.gain * added + self.constant
        corrected = added + expected
        return F.interpolate(corrected, scale_factor=float(self.factor), mode="trilinear", align_corners=False)

    def _shown(self, volume: torch.Tensor) -> torch.Tensor:
        """(B, width, M, M, M): what films, prior and place say of each voxel.

        The layers of both views and of the prior in one: with channels last in memory that is ten times as fast on a
        CPU as adding up three volumes, two of which are repeated along an axis.
        """
        views = torch.cat([self.from_ap.weight, self.from_lat.weight], dim=1).unsqueeze(4)
        weight = torch.cat([views, self.from_prior.weight], dim=1)
        of_ap, of_lat, of_prior = self.from_ap.bias, self.from_lat.bias, self.from_prior.bias
        assert of_ap is not None and of_lat is not None and of_prior is not None
        shown = F.conv3d(volume, weight, of_ap + of_lat + of_prior)
        down, back, left = self.from_place[0], self.from_place[1], self.from_place[2]
        place = down[:, :, None, None] + back[:, None, :, None] + left[:, None, None, :]
        return shown + place.to(shown.dtype).unsqueeze(0).contiguous(memory_format=torch.channels_last_3d)
