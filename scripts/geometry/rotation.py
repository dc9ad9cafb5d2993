"""Rotations as torch computes them: batched, differentiable, on any device."""

from __future__ import annotations

import torch


def rotation_matrix(vector: torch.Tensor) -> torch.Tensor:
    """Rotation matrices (B, 3, 3) of rotation vectors (B, 3) in radians (Rodrigues)."""
    angle = vector.norm(dim=-1).clamp_min(1e-8)[:, None, None]
    x, y, z = (vector / angle[..., 0]).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    eye = torch.eye(3, device=vector.device, dtype=vector.dtype)
    return eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)
