"""The patch data of the theory (Definitions 2.1 and 2.2) drawn as pixels, and what an image of it shows."""

from __future__ import annotations

import torch
from torch import Tensor

from heirloom.data.labelled import LabelledImages
from heirloom.data.pixels import InMemory
from heirloom.runtime.errors import require
from heirloom.theory.patches.model import PatchDistribution, sample_patches

SIDE = 4  # pixels of a patch, so d = 16
# robust: one patch of +-.4 around grey; non-robust: +-.04 on all the others. An attacker with eps .06 erases the second
PLANTED = PatchDistribution(
    classes=5, dimension=SIDE**2, patches=36, robust_patches=1, alpha=1.6, beta=0.16, jitter=0.05, noise=0.02
)
EPS = 0.06


def basis() -> Tensor:
    """(16, 16) orthonormal: the axes of the theory as black and white patterns (Hadamard's), the constant one last."""
    rows = torch.ones(1, 1)
    while len(rows) < SIDE**2:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    return rows.roll(-1, 0) / SIDE


def draw(n: int, generator: torch.Generator, distribution: PatchDistribution = PLANTED) -> LabelledImages:
    """``n`` grey images of patches side by side, .5 plus the patch in :func:`basis`."""
    side = round(distribution.patches**0.5)
    require(side**2 == distribution.patches, "patches", "a square number", distribution.patches)
    sample = sample_patches(distribution, n, generator)
    patches = (sample.x @ basis()).view(n, side, side, SIDE, SIDE)
    pixels = (0.5 + patches.permute(0, 1, 3, 2, 4).reshape(n, 1, side * SIDE, side * SIDE)).clamp(0, 1)
    return LabelledImages(InMemory(pixels), sample.y, tuple(map(str, range(distribution.classes))))


def shown_strengths(x: Tensor, distribution: PatchDistribution = PLANTED) -> tuple[Tensor, Tensor]:
    """How strongly images (N, 1, H, W) show each class's features, as shares of what is planted: the robust ones
    (N, k), in the patch that shows them most, and the non-robust ones (N, k), on average over the patches."""
    n, side = len(x), x.shape[2] // SIDE
    patches = (x - 0.5).view(n, side, SIDE, side, SIDE).permute(0, 1, 3, 2, 4).reshape(n, side**2, SIDE**2)
    along = patches @ basis().T
    k = distribution.classes
    return along[..., :k].amax(1) / distribution.alpha, along[..., k : 2 * k].mean(1) / distribution.beta
