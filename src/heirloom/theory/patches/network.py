"""The two-layer patch CNN with smoothed ReLU, as a module and as batched functions with gradients by hand.

Li and Li, arXiv 2410.08503, Section 2.3 (the architecture of Allen-Zhu and Li 2023): class i scores
F_i(X) = sum_r sum_p s(<w_ir, x_p>), with m filters w_ir in R^d for every class.

Shapes: S networks at once, N points, T patches that occur ``counts`` times each, k classes, m filters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.runtime.errors import require
from heirloom.theory.patches.model import PatchDistribution

Number = float | Tensor


def smoothed_relu(z: Tensor, rho: Number, q: int = 3) -> tuple[Tensor, Tensor]:
    """s(z) and its slope s'(z): 0 below 0, z^q / (q rho^(q-1)) up to rho, z - (1 - 1/q) rho beyond.

    ``rho`` above 0, a number or a tensor that broadcasts against ``z``.
    """
    bent = z.clamp_min(0).minimum(rho) if isinstance(rho, Tensor) else z.clamp(0, rho)
    slope = (bent / rho).pow_(q - 1)
    return bent.mul_(slope).div_(q).add_((z - rho).clamp_min_(0)), slope


class PatchCNN(nn.Module):
    """Patches (N, P, d), or (N, 1, P, d), to logits (N, k).

    Args:
        weight: the filters (k, m, d).
        rho, q: the bend of the activation and its power.
    """

    def __init__(self, weight: Tensor, *, rho: float = 20.0, q: int = 3) -> None:
        super().__init__()
        require(weight.ndim == 3, "weight", "of shape (classes, filters, dimension)", tuple(weight.shape))
        require(rho > 0, "rho", "above 0", rho)
        require(q >= 2, "q", "at least 2", q)
        self.weight = nn.Parameter(weight.clone())
        self.rho, self.q = rho, q

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            x = x.squeeze(1)
        z = torch.einsum("npd,kmd->npkm", x, self.weight)
        bent = z.clamp(0, self.rho)
        value = bent**self.q / (self.q * self.rho ** (self.q - 1)) + (z - self.rho).clamp_min(0)
        return value.sum((1, 3))


class PatchPixels(nn.Module):
    """A patch network behind pixels, so that image attacks run on it: (N, 1, P, d) in [0, 1] to logits.

    A pixel p stands for the coordinate (p - 1/2) ``scale``; a radius eps on patches is eps / scale on pixels.
    The pixel range never binds where all coordinates stay within scale / 2.
    """

    def __init__(self, network: PatchCNN, scale: float) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network((pixels - 0.5) * self.scale)

    def pixels(self, x: Tensor) -> Tensor:
        """Patches (N, P, d) as images (N, 1, P, d)."""
        images = x[:, None] / self.scale + 0.5
        inside = bool((images >= 0).all() and (images <= 1).all())
        require(inside, "scale", f"at least {2 * x.abs().max().item():.4g}", self.scale)
        return images


def initial_filters(
    generator: torch.Generator, classes: int, filters: int, dimension: int, deviation: float
) -> Tensor:
    """Independent N(0, deviation^2) weights (k, m, d)."""
    return deviation * torch.randn(classes, filters, dimension, generator=generator)


def hand_built(distribution: PatchDistribution, kind: str, gamma: float, filters: int) -> Tensor:
    """All m filters of class i equal to gamma u_i (``kind`` "robust") or gamma v_i, (k, m, d)."""
    features = distribution.features()[0 if kind == "robust" else 1]
    return gamma * features[:, None].expand(-1, filters, -1)


def patch_logits(weight: Tensor, x: Tensor, counts: Tensor, rho: Number, q: int = 3) -> tuple[Tensor, Tensor]:
    """The scores of S networks, and the slopes that both gradients below need.

    Args:
        weight: (S, k, m, d); x: (S, N, T, d); counts: (S or 1, T), how often each patch occurs.
        rho: a number, or a tensor (S, 1, 1).

    Returns:
        logits (S, N, k) and s'(<w_ir, x_p>) as (S, N, T, k, m).
    """
    runs, k, m, d = weight.shape
    n, t = x.shape[1:3]
    z = x.reshape(runs, n * t, d) @ weight.reshape(runs, k * m, d).mT
    value, slope = smoothed_relu(z, rho, q)
    score = value.view(runs, n, t, k, m).sum(-1)
    return torch.einsum("sntk,st->snk", score, counts.expand(runs, t)), slope.view(runs, n, t, k, m)


def patch_input_gradient(weight: Tensor, slope: Tensor, coefficient: Tensor) -> Tensor:
    """The gradient of sum_i coefficient_i F_i with respect to every single patch, (S, N, T, d).

    ``coefficient`` is (S, N, k). A patch that stands for many equal ones gets the gradient of one of them.
    """
    runs, n, t, k, m = slope.shape
    pulled = (slope * coefficient[:, :, None, :, None]).view(runs, n * t, k * m)
    return (pulled @ weight.reshape(runs, k * m, -1)).view(runs, n, t, -1)


def patch_weight_gradient(slope: Tensor, x: Tensor, counts: Tensor, coefficient: Tensor) -> Tensor:
    """The gradient of sum_n sum_i coefficient_ni F_i(X_n) with respect to the filters, (S, k, m, d)."""
    runs, n, t, k, m = slope.shape
    weighted = coefficient[:, :, None, :] * counts.expand(runs, t)[:, None, :, None]
    pulled = (slope * weighted[..., None]).view(runs, n * t, k * m)
    return (pulled.mT @ x.reshape(runs, n * t, -1)).view(runs, k, m, -1)
