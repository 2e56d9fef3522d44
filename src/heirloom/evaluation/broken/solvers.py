"""Planted defences that solve something in the forward pass: with gradients of their own, or differentiated in part."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.data.images import load_images
from heirloom.evaluation.broken.inconsistent import Around

LATENT, SEARCHED, ITERATIONS = 24, 3, 12


class BehindGenerator(Around):
    """A linear generator of digits, ``mean + z @ basis``, whose images the network is given (Defense-GAN)."""

    mean: Tensor
    basis: Tensor
    latent = LATENT

    def __init__(self) -> None:
        super().__init__()
        rows = load_images("digits").train.images.flatten(1)
        self.register_buffer("mean", rows.mean(0))
        self.register_buffer(
            "basis", torch.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][: self.latent]
        )


class _LatentSearch(BehindGenerator):
    """The nearest image of a linear generator, found by descent from zero: torch.func, not autograd."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.detach().flatten(1)
        slope = torch.func.grad(lambda z: (self.mean + z @ self.basis - rows).square().sum() / 2)
        found = rows.new_zeros(len(rows), LATENT)
        for _ in range(SEARCHED):
            found = found - 0.7 * slope(found)
        return self.network((self.mean + found @ self.basis).view_as(x).clamp(0, 1))


class _OneStepSolver(Around):
    """A fixed point of ``z = 0.7 tanh(A z) + x``, found without gradients; its last step alone is differentiated."""

    def __init__(self) -> None:
        super().__init__()
        drawn = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        self.solver = nn.Linear(64, 64, bias=False).requires_grad_(False)
        self.solver.weight.copy_(torch.linalg.qr(drawn)[0])

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1)
        with torch.no_grad():
            found = rows
            for _ in range(ITERATIONS):
                found = self._step(found, rows)
        return self.network(self._step(found, rows).view_as(x))

    def _step(self, found: Tensor, rows: Tensor) -> Tensor:
        return 0.7 * torch.tanh(self.solver(found)) + rows


def latent_search() -> nn.Module:
    """Images replaced by the nearest that a generator gives, searched by torch.func's gradients."""
    return _LatentSearch().eval()


def one_step_solver() -> nn.Module:
    """A solver in front whose gradient is that of its last step."""
    return _OneStepSolver().eval()
