"""Downstream tasks on a frozen first layer (W, b), trained clean (I9, Section 6, Proposition 6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from heirloom.runtime.errors import require
from heirloom.runtime.randomness import generator_of, seed_of
from heirloom.theory.sparse_coding.attack import fgm
from heirloom.theory.sparse_coding.gate_aware import bracket_loss
from heirloom.theory.sparse_coding.model import SparseCoding, regression_targets
from heirloom.theory.sparse_coding.network import Activation, Scores, TwoLayer, activate
from heirloom.theory.sparse_coding.settings import AttackNorm
from heirloom.theory.sparse_coding.training import Trained

SIZE, RIDGE = (20_000, 8_000), 1e-6


@dataclass(frozen=True)
class Effort:
    """How hard the gate-aware attack tries: on how many of the test ``points``, and from how many random
    starts (``restarts``) beside the clean point."""

    points: int = 500
    restarts: int = 1

    def __post_init__(self) -> None:
        require(self.points >= 1, "points", "at least 1", self.points)
        require(self.restarts >= 0, "restarts", "at least 0", self.restarts)


@dataclass(frozen=True)
class Attacks:
    """Which attacks a head is judged by.

    Args:
        fgm, pgd, gate_aware: for each of them {label: eps}; the label names the column of the result.
    """

    fgm: Mapping[str, float]
    pgd: Mapping[str, float] = field(default_factory=dict)
    gate_aware: Mapping[str, float] = field(default_factory=dict)
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True)
class Downstream:
    """The clean loss L_0 of R heads, (R,), and gaps L_eps - L_0, (R,) each, by name.

    ``gap_0.3`` is the gap under FGM at the radius labelled 0.3, ``gap_0.3_pgd`` under PGD-20,
    ``gap_0.3_gate_aware`` under the gate-aware attack, ``gap_0.3_bound`` what no attack exceeds (gate networks),
    ``gap_0.3_linear`` that of the same head with every gate open for good.
    """

    clean: Tensor
    gaps: dict[str, Tensor]


@torch.no_grad()
def downstream(
    W: Tensor,
    b: Tensor,
    M: Tensor,
    data: SparseCoding,
    seeds: Sequence[int],
    attacks: Attacks,
    *,
    activation: Activation = "gate",
    sigma: float = 0.1,
    norm: AttackNorm = "L2",
    size: tuple[int, int] = SIZE,
) -> Downstream:
    """Fit a head by least squares on a new task theta_i = +-U(.5, 1.5), then attack it on test data.

    Args:
        W: (R, d, H); b: (R, H); M: (R, d, d); seeds: one per network; equal seeds get the same task and data.
        size: examples to fit the ridge regression on (1e-6 times the mean squared feature), and to test.
    """
    require(len(W) == len(seeds), "seeds", f"one for each of the {len(W)} networks", len(seeds))
    clean: list[float] = []
    gaps: dict[str, list[float]] = {}
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
        clean.append(_clean(network, parts[1]))
        found = gradient_gaps(network, parts[1], attacks, norm) | bracketed_gaps(
            network, parts[1], attacks, norm, generator_of(seed, "gate-aware"), M[index]
        )
        for name, value in found.items():
            gaps.setdefault(name, []).append(value)
    return Downstream(torch.tensor(clean), {name: torch.tensor(values) for name, values in gaps.items()})


def downstream_of(trained: Trained, attacks: Attacks, size: tuple[int, int] = SIZE) -> Downstream:
    """:func:`downstream` of trained networks, attacked in the norm they were trained with."""
    setting = trained.setting
    return downstream(
        trained.W,
        trained.b,
        trained.M,
        setting.data,
        trained.seeds,
        attacks,
        activation=setting.activation,
        norm=setting.norm,
        size=size,
    )


def ridge_head(features: Tensor, y: Tensor) -> Tensor:
    """a* (H,) of the square loss; features (n, H)."""
    features, y = features.double(), y.double()
    gram = features.T @ features
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    return torch.linalg.solve(gram, features.T @ y).float()


def gradient_gaps(
    network: TwoLayer, data: tuple[Tensor, Tensor], attacks: Attacks, norm: AttackNorm
) -> dict[str, float]:
    """What FGM and PGD-20 add to the mean square loss on ``data`` (z, y)."""
    z, y = data
    W, b, head = network.W, network.b, network.a

    def residual(point: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = activate(point @ W, b, network.activation)
        return value @ head - y, slope

    def gradient(point: Tensor) -> Tensor:
        error, slope = residual(point)
        return (slope * head * error[..., None]) @ W.T

    clean, gaps = _clean(network, data), {}
    for suffix, steps, radii in (("", 1, attacks.fgm), ("_pgd", 20, attacks.pgd)):
        for label, eps in radii.items():
            delta = fgm(gradient, z[None], torch.tensor([eps]), norm, steps)[0]
            attacked = float(residual(z + delta)[0].double().square().mean())
            gaps[f"gap_{label}{suffix}"] = attacked - clean
    return gaps


def bracketed_gaps(
    network: TwoLayer,
    data: tuple[Tensor, Tensor],
    attacks: Attacks,
    norm: AttackNorm,
    generator: torch.Generator,
    dictionary: Tensor | None = None,
) -> dict[str, float]:
    """The gap under the gate-aware attack, its bound, and the gap of the map with all gates open."""
    points = attacks.effort.points
    some = (data[0][:points], data[1][:points])
    W = network.W.detach()
    scores = Scores.of(W, network.b, network.a.detach(), network.activation)
    how: dict[str, Any] = {"norm": norm, "restarts": attacks.effort.restarts, "generator": generator}
    how["dictionary"], gaps = dictionary, {}
    for label, eps in attacks.gate_aware.items():
        bracket = bracket_loss("square", scores, some, eps, W, **how)
        found, bound = bracket.gaps()
        gaps[f"gap_{label}_gate_aware"] = found
        if bound is not None:
            gaps[f"gap_{label}_bound"] = bound
        gaps[f"gap_{label}_linear"] = _linear_gap(W @ network.a.detach(), some, eps, norm)
    return gaps


def _clean(network: TwoLayer, data: tuple[Tensor, Tensor]) -> float:
    return float((network(data[0]) - data[1]).double().square().mean())


def _linear_gap(theta: Tensor, data: tuple[Tensor, Tensor], eps: float, norm: AttackNorm) -> float:
    """E[(|r| + eps |theta|)^2 - r^2] of f(z) = theta^T z, exact: the dual norm of the ball's."""
    residual = (data[0] @ theta - data[1]).abs().double()
    reach = eps * float(torch.linalg.vector_norm(theta, ord=2 if norm == "L2" else 1))
    return float(((residual + reach).square() - residual.square()).mean())
