"""The shape that Square Attack adds in L2 and L1: Andriushchenko et al., ECCV 2020, section 3.4."""

from __future__ import annotations

import torch
from torch import Tensor


def spatial_norm(delta: Tensor, power: int) -> Tensor:
    return torch.linalg.vector_norm(delta, power, dim=(2, 3), keepdim=True)


def bump_of(side: int, power: int, device: torch.device) -> Tensor:
    """Two pyramids of opposite sign side by side, of norm 1 (section 4.2, equation 2)."""
    half = side // 2
    bump = torch.zeros(side, side, device=device)
    bump[:half], bump[half:] = _pyramid(half, side, power), -_pyramid(side - half, side, power)
    return bump / torch.linalg.vector_norm(bump, power).clamp_min(1e-12)


def _pyramid(height: int, width: int, power: int) -> Tensor:
    """Nested rectangles that grow from the centre, the k-th adding 1 / k^2 (L1: 1 / k^4)."""
    pyramid = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for k in range(1, max(height, width) // 2 + 2):
        rows = slice(max(top - k + 1, 0), min(top + k, height))
        columns = slice(max(left - k + 1, 0), min(left + k, width))
        pyramid[rows, columns] += 1 / k ** (4 // power)
    return pyramid / torch.linalg.vector_norm(pyramid, power).clamp_min(1e-12)
