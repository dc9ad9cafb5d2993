"""Rotations as torch computes them: batched, differentiable, on any device."""

from __future__ import annotations

import torch


def rotation_matrix(vector: torch.Tensor) -> torch.Tensor:
    """Rotation matrices (B, 3, 3) of rotation vectors (B, 3) in radians (Rodrigues)."""
    angle = torch.linalg.vector_norm(vector, dim=[-1]).clamp_min(1e-8)[:, None, None]
    x, y, z = (vector / angle[..., 0]).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    eye = torch.eye(3, device=vector.device, dtype=vector.dtype)
    return eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)


def rotation_vector(matrix: torch.Tensor) -> torch.Tensor:
    """Rotation vectors (B, 3) in radians of rotation matrices (B, 3, 3) that turn by less than half a circle."""
    twice = torch.stack(
        [matrix[:, 2, 1] - matrix[:, 1, 2], matrix[:, 0, 2] - matrix[:, 2, 0], matrix[:, 1, 0] - matrix[:, 0, 1]], 1
    )
    sine, cosine = twice.norm(dim=1) / 2, (matrix.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    angle = torch.atan2(sine, cosine)
    return twice * (angle / (2 * sine).clamp_min(1e-8))[:, None]
