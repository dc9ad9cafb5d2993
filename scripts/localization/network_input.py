"""What the annotation network sees of a film: its brightness, its local contrast, which view it is, where film is."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scripts.geometry.film import blur
from scripts.localization.network import COARSEST

# Around a pixel, for its local contrast; the spread that noise alone has.
LOCAL_PX, LEAST_SPREAD = 8.0, 0.01


def view_input(film: torch.Tensor, valid: torch.Tensor, frontal: bool) -> torch.Tensor:
    """The network's channels of a view (..., 4, H, W): film, local contrast, which view, and where the film is."""
    film, valid = film.float() * valid, valid.float()
    return torch.cat([film, local_contrast(film, valid), (-1.0 if frontal else 1.0) * valid, valid], -3)


def local_contrast(film: torch.Tensor, valid: torch.Tensor, sigma_px: float = LOCAL_PX) -> torch.Tensor:
    """How far each pixel is from the mean around it, in units of the spread around it, -1 to 1 for three of them.

    Between chest and belly a film spans far more than an endplate's edge does.

    Args:
        film: (1, H, W) normalised, 0 where it is not valid.
        valid: (1, H, W), 1 where there is film, else 0.
        sigma_px: of what is around it.
    """
    weight = blur(valid, sigma_px).clamp(min=1e-3)
    mean = blur(film, sigma_px) / weight
    spread = (blur(film**2, sigma_px) / weight - mean**2).clamp(min=0).sqrt() + LEAST_SPREAD
    return ((film - mean) / (3 * spread)).clamp(-1, 1) * valid


def pad_to_network(film: torch.Tensor) -> torch.Tensor:
    """(..., H, W) with zeros below and at the right up to what the network's stages need."""
    return F.pad(film, (0, -film.shape[-1] % COARSEST, 0, -film.shape[-2] % COARSEST))
