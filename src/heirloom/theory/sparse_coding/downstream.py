"""Downstream tasks on a frozen first layer (W, b), trained clean (I9, Section 6, Proposition 6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.runtime.errors import require
from heirloom.runtime.randomness import seed_of
from heirloom.theory.sparse_coding.attack import fgm
from heirloom.theory.sparse_coding.model import SparseCoding, regression_targets
from heirloom.theory.sparse_coding.network import Activation, TwoLayer, activate
from heirloom.theory.sparse_coding.settings import AttackNorm
from heirloom.theory.sparse_coding.training import Trained

SIZE, RIDGE = (20_000, 8_000), 1e-6


@dataclass(frozen=True)
class Downstream:
    """The clean loss L_0 of R heads, (R,), and the gap L_eps - L_0 for each eps, (R, len(epsilons))."""

    epsilons: tuple[float, ...]
    clean: Tensor
    gap: Tensor


@torch.no_grad()
def downstream(
    W: Tensor,
    b: Tensor,
    M: Tensor,
    data: SparseCoding,
    seeds: Sequence[int],
    epsilons: Sequence[float],
    *,
    activation: Activation = "gate",
    sigma: float = 0.1,
    norm: AttackNorm = "L2",
    attack_steps: int = 1,
    size: tuple[int, int] = SIZE,
) -> Downstream:
    """Fit a head by least squares on a new task theta_i = +-U(.5, 1.5), then attack it on test data.

    Args:
        W: (R, d, H); b: (R, H); M: (R, d, d); seeds: one per network; equal seeds get the same task and data.
        attack_steps: 1 is the paper's FGM; more run PGD.
        size: examples to fit the ridge regression on (1e-6 times the mean squared feature), and to test.
    """
    require(len(W) == len(seeds), "seeds", f"one for each of the {len(W)} networks", len(seeds))
    clean, gaps = [], []
    for index, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed_of(seed, "downstream"))
        theta = 0.5 + torch.rand(data.d, generator=generator)
        theta *= torch.randint(0, 2, (data.d,), generator=generator) * 2 - 1
        parts = []
        for count in size:
            x = data.features(count, generator)
            y = regression_targets(x, theta, sigma, generator)
            parts.append((data.observe(x, M[index], generator), y))
        head = ridge_head(activate(parts[0][0] @ W[index], b[index], activation)[0], parts[0][1])
        network = TwoLayer(W[index], b[index], head, activation)
        base, gap = attacked_losses(network, parts[1], epsilons, norm, attack_steps)
        clean.append(base)
        gaps.append(gap)
    return Downstream(tuple(epsilons), torch.tensor(clean), torch.tensor(gaps))


def downstream_of(
    trained: Trained, epsilons: Sequence[float], attack_steps: int = 1, size: tuple[int, int] = SIZE
) -> Downstream:
    """:func:`downstream` of trained networks, attacked in the norm they were trained with."""
    setting = trained.setting
    return downstream(
        trained.W,
        trained.b,
        trained.M,
        setting.data,
        trained.seeds,
        epsilons,
        activation=setting.activation,
        norm=setting.norm,
        attack_steps=attack_steps,
        size=size,
    )


def ridge_head(features: Tensor, y: Tensor) -> Tensor:
    """a* (H,) of the square loss; features (n, H)."""
    features, y = features.double(), y.double()
    gram = features.T @ features
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    return torch.linalg.solve(gram, features.T @ y).float()


def attacked_losses(
    network: TwoLayer, data: tuple[Tensor, Tensor], epsilons: Sequence[float], norm: AttackNorm, steps: int
) -> tuple[float, list[float]]:
    """The mean square loss of one network on ``data`` (z, y), and what each eps adds to it."""
    z, y = data
    W, b, head = network.W, network.b, network.a

    def residual(point: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = activate(point @ W, b, network.activation)
        return value @ head - y, slope

    def gradient(point: Tensor) -> Tensor:
        error, slope = residual(point)
        return (slope * head * error[..., None]) @ W.T

    clean = float(residual(z)[0].double().square().mean())
    gaps = []
    for eps in epsilons:
        delta = fgm(gradient, z[None], torch.tensor([eps]), norm, steps)[0]
        gaps.append(float(residual(z + delta)[0].double().square().mean()) - clean)
    return clean, gaps
