"""Patch data made of robust and non-robust features.

Li and Li, "Adversarial Training Can Provably Improve Robustness", arXiv 2410.08503, Definitions 2.1 and 2.2.
Class i has a robust feature u_i and a non-robust feature v_i, all orthonormal and on the axes: here
u_i = e_i and v_i = e_(k+i). A data point has P patches in R^d; a few (J_R) carry alpha u_y, strong but
sparse, all others beta v_y, weak but dense; every patch has Gaussian noise besides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heirloom.runtime.errors import require


@dataclass(frozen=True)
class PatchDistribution:
    """The distribution of Definition 2.2. The defaults show both training phases (``docs/patches.md``).

    Args:
        classes: k. dimension: d, at least 2 k. patches: P. robust_patches: J_R, from 1 to P - 1.
        alpha, beta: mean strengths of the robust and the non-robust features, above 0.
        jitter: a patch's own strength is uniform within +- this share of the mean, in [0, 1).
        noise: sigma_n, the standard deviation of the noise on every coordinate.
    """

    classes: int = 5
    dimension: int = 12
    patches: int = 140
    robust_patches: int = 1
    alpha: float = 4.0
    beta: float = 1.0
    jitter: float = 0.05
    noise: float = 0.05

    def __post_init__(self) -> None:
        require(self.classes >= 2, "classes", "at least 2", self.classes)
        least = 2 * self.classes
        require(self.dimension >= least, "dimension", f"at least 2 x classes = {least}", self.dimension)
        require(self.patches >= 2, "patches", "at least 2", self.patches)
        allowed = f"from 1 to patches - 1 = {self.patches - 1}"
        require(1 <= self.robust_patches < self.patches, "robust_patches", allowed, self.robust_patches)
        for name in ("alpha", "beta"):
            require(0 < getattr(self, name) < float("inf"), name, "a number above 0", getattr(self, name))
        require(0 <= self.jitter < 1, "jitter", "in [0, 1)", self.jitter)
        require(0 <= self.noise < float("inf"), "noise", "0 or above", self.noise)

    def features(self) -> tuple[Tensor, Tensor]:
        """The robust features u (k, d) and the non-robust ones v (k, d), a row each."""
        axes = torch.eye(2 * self.classes, self.dimension)
        return axes[: self.classes], axes[self.classes :]


@dataclass(frozen=True)
class PatchSample:
    """Data points: ``x`` (N, P, d) with labels ``y`` (N,); of every patch its ``strength`` (N, P), and
    ``robust`` (N, P), True where it carries its class's robust feature."""

    x: Tensor
    y: Tensor
    strength: Tensor
    robust: Tensor
    features: tuple[Tensor, Tensor]

    def signal(self) -> Tensor:
        """What every patch holds besides noise (N, P, d): its strength times its feature."""
        u, v = (feature[self.y][:, None] for feature in self.features)
        return self.strength[..., None] * torch.where(self.robust[..., None], u, v)

    def representative(self, kind: str) -> Tensor:
        """Definition 4.1: the same points with one kind of feature only, shape (N, P, d).

        ``kind`` is ``"robust"`` or ``"non-robust"``; every feature of the other kind becomes zero, the noise
        stays.
        """
        require(kind in ("robust", "non-robust"), "kind", "robust or non-robust", kind)
        other = ~self.robust if kind == "robust" else self.robust
        return self.x - self.signal() * other[..., None]


def sample_patches(
    distribution: PatchDistribution, n: int, generator: torch.Generator, *, balanced: bool = True
) -> PatchSample:
    """Draw ``n`` data points.

    ``balanced``: every class equally often (up to one), so that a set of 25 points is a small copy of the
    population; otherwise labels are drawn uniformly, as Definition 2.2 says. The places of the robust
    patches are drawn uniformly for each point.
    """
    require(n >= 1, "n", "at least 1", n)
    k, patches = distribution.classes, distribution.patches
    y = torch.arange(n) % k if balanced else torch.randint(k, (n,), generator=generator)
    order = torch.rand(n, patches, generator=generator).argsort(1)
    robust = order < distribution.robust_patches
    mean = torch.where(robust, distribution.alpha, distribution.beta)
    jitter = distribution.jitter * (2 * torch.rand(n, patches, generator=generator) - 1)
    noise = distribution.noise * torch.randn(n, patches, distribution.dimension, generator=generator)
    clean = PatchSample(noise, y, mean * (1 + jitter), robust, distribution.features())
    return PatchSample(noise + clean.signal(), y, clean.strength, robust, clean.features)


def population(distribution: PatchDistribution) -> tuple[Tensor, Tensor, Tensor]:
    """The noiseless population, exactly: one point a class, one patch a type, and how often it occurs.

    Without noise and jitter all patches of a type are equal, so two patches and their multiplicities stand
    for all P; the population has k different points.

    Returns:
        x (k, 2, d), patch 0 robust and patch 1 not; y (k,); counts (2,) = (J_R, P - J_R).
    """
    u, v = distribution.features()
    x = torch.stack([distribution.alpha * u, distribution.beta * v], dim=1)
    robust = float(distribution.robust_patches)
    counts = torch.tensor([robust, distribution.patches - robust])
    return x, torch.arange(distribution.classes), counts


def noiseless(distribution: PatchDistribution) -> PatchDistribution:
    """The same without noise and jitter, in the fewest dimensions that hold all features."""
    return replace(distribution, dimension=2 * distribution.classes, jitter=0.0, noise=0.0)
