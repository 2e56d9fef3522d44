"""Planted defences of which half is seen: detached weights, steep codes, an underflow, a decision beside the images."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.data.images import load_images
from heirloom.evaluation.broken.base import fit, seeded_modules, small_encoder
from heirloom.evaluation.broken.inconsistent import Around
from heirloom.evaluation.broken.solvers import BehindGenerator

CODES, GAIN = 30, 20.0  # output codes of so many bits, steeper by so much than they were trained
TIMES, LEAK = 8, 0.8  # of a spiking net
STARTS, SEARCHED, LATENT = 2, 6, 12
WIDTH = 60.0  # of a kernel: float32 knows nothing beyond a distance of 1.3


class _DetachedWeights(Around):
    """A bilateral filter whose weights are left out of the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
        beside = functional.unfold(padded, 3).view(len(x), 9, *x.shape[2:])
        weights = torch.exp(-((beside - x) ** 2) / 0.05).detach()
        return self.network((weights * beside).sum(1, keepdim=True) / weights.sum(1, keepdim=True))


class _SteepCodes(nn.Module):
    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head, self.gain = small_encoder(), nn.Linear(512, CODES), 1.0
        drawn = torch.randint(0, 2, (10, CODES), generator=torch.Generator().manual_seed(3))
        self.register_buffer("codes", 2.0 * drawn - 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.gain * self.head(self.encoder(x))) @ self.codes.T


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor) -> Tensor:
        ctx.save_for_backward(potential)
        return (potential > 0).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (potential,) = ctx.saved_tensors
        return gradient / (1 + 10 * potential.abs()) ** 2


class _Spiking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(64, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        current = self.inward(x.flatten(1))
        potential, shown, total = (torch.zeros(()) for _ in range(3))
        for _ in range(TIMES):
            potential = LEAK * potential + current
            spikes = _Spike.apply(potential - 1)
            potential = potential - spikes
            shown = 0.9 * shown + self.outward(spikes)
            total = total + shown
        return total / TIMES


class _NarrowKernel(nn.Module):
    rows: Tensor
    votes: Tensor

    def __init__(self) -> None:
        super().__init__()
        train = load_images("digits").train
        self.register_buffer("rows", train.images[:800].flatten(1))
        self.register_buffer("votes", functional.one_hot(train.labels[:800], 10).float())

    def forward(self, x: Tensor) -> Tensor:
        near = torch.exp(-WIDTH * torch.cdist(x.flatten(1), self.rows).square())
        return 100 * near @ self.votes


class _DecisionWhenOdd(Around):
    """A detector: pixels off the grid of 16 levels get a decision in place of logits."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        odd = ((16 * x) - (16 * x).round()).abs().mean((1, 2, 3)) > 0.02
        return torch.where(odd[:, None], 5 * functional.one_hot(logits.argmax(1), 10).float(), logits)


class _SeededSearch(BehindGenerator):
    """The nearest image of a linear generator, by descent from drawn starts, the better of two."""

    latent = LATENT

    def forward(self, x: Tensor) -> Tensor:
        rows = x.detach().flatten(1)
        tried = torch.stack([self._searched(rows, seed) for seed in range(STARTS)])
        best = (tried - rows).square().sum(2).argmin(0)
        return self.network(tried[best, torch.arange(len(x))].view_as(x).clamp(0, 1))

    def _searched(self, rows: Tensor, seed: int) -> Tensor:
        found = torch.randn(len(rows), LATENT, generator=torch.Generator().manual_seed(seed))
        for _ in range(SEARCHED):
            with torch.enable_grad():
                found.requires_grad_()
                off = (self.mean + found @ self.basis - rows).square().sum()
                (slope,) = torch.autograd.grad(off, found)
            found = (found - 0.3 * slope).detach()
        return self.mean + found @ self.basis


def detached_weights() -> nn.Module:
    """A bilateral filter whose weights are detached: the gradient is a fifth off, its direction nearly right."""
    return _DetachedWeights().eval()


@cache
def _coded() -> nn.Module:
    return fit(seeded_modules(_SteepCodes, 0))


def steep_codes() -> nn.Module:
    """Output codes behind a steep tanh: the loss moves in ramps, flat in between."""
    model = _coded()
    model.gain = GAIN  # type: ignore[assignment]
    return model


@cache
def spiking_net() -> nn.Module:
    """Spikes with a surrogate gradient, which is another one's size."""
    return fit(seeded_modules(_Spiking, 0), epochs=20)


def narrow_kernel() -> nn.Module:
    """A kernel so narrow that it is zero in float32 but for the nearest images."""
    return _NarrowKernel().eval()


def decision_when_odd() -> nn.Module:
    """A detector that gives its decision in place of logits for pixels off the grid."""
    return _DecisionWhenOdd().eval()


def seeded_search() -> nn.Module:
    """A generator's nearest image, searched from starts of a fixed seed."""
    return _SeededSearch().eval()
