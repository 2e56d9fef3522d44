"""An attack that sees closed gates, and a bound that no attack exceeds.

sigma(v, b) = v 1{|v| >= b} is exactly flat below b: a gradient of the network says nothing about the gates
that an attack of this radius could open, and FGM and PGD never look for them. The attack here climbs along
other slopes as well (soft gates, all gates open) and from sparse starts that open the cheapest gates, keeps the best
point at which the TRUE network was evaluated, and so bounds the strongest attack from below; ``score_bound`` bounds
it from above.

Shapes: n points z (n, d); H nodes; a (H,) or, where every point has its own output weights, (n, H).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heirloom.runtime.errors import require
from heirloom.theory.sparse_coding.attack import unit, within
from heirloom.theory.sparse_coding.losses import loss_of
from heirloom.theory.sparse_coding.network import Scores, activate
from heirloom.theory.sparse_coding.score_bound import score_bound
from heirloom.theory.sparse_coding.settings import AttackNorm, Loss
from heirloom.theory.sparse_coding.sparse_starts import PROBED, sparse_start

Slope = Callable[[Tensor], Tensor]  # (n, H) -> (n, H): what of each node is taken to be open
STEPS = 40
TEMPERATURES = (0.5, 0.15)  # of a soft gate, in units of b


def highest_score(
    scores: Scores,
    z: Tensor,
    eps: float,
    *,
    norm: AttackNorm = "L2",
    steps: int = STEPS,
    restarts: int = 0,
    dictionary: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The highest f found within eps of each point (n,), and the perturbation that reaches it (n, d).

    The best iterate over: the clean point; one step of eps with all gates open; ascent in ``steps`` steps of eps / 8
    along the true slope, along slope 1 at every node, and along soft gates sigmoid((|v| - b) / T), T = .5 b
    and .15 b, from the clean point and from ``restarts`` random ones. Gate networks also: the gates worth their
    price opened greedily (``sparse_start``), along the nodes and along the columns of ``dictionary`` (d, p), the data's
    features where they are known; each of these, the best so far, and a greedy start from .85 of the best, is
    followed by ascent with shrinking steps along the true slope and the steeper soft gate.
    """
    require(eps > 0, "eps", "above 0", eps)
    climb = _Climb(scores, z, eps, norm)
    climb.offer(eps * unit(scores.push(scores.a.expand(len(z), -1)), norm))
    slopes = _slopes(scores)
    for start in range(restarts + 1):
        for slope in slopes:
            at = torch.zeros_like(z) if start == 0 else _random_start(z, eps, norm, generator)
            climb.ascend(at, slope, [1 / 8] * steps)
    if scores.activation == "gate":
        _climb_sparsely(climb, (slopes[0], slopes[-1]), steps, dictionary)
    return climb.best, climb.delta


def _climb_sparsely(climb: _Climb, slopes: Sequence[Slope], steps: int, dictionary: Tensor | None) -> None:
    scores, z, eps, norm = climb.scores, climb.z, climb.eps, climb.norm
    rates = torch.logspace(math.log10(1 / 8), math.log10(1 / 100), steps).tolist()
    starts = [climb.delta]
    if dictionary is not None:
        starts.append(sparse_start(scores, z, eps, norm, dictionary=dictionary))
    nodewise = dictionary is None or scores.a.shape[-1] <= PROBED
    if nodewise:
        starts.append(sparse_start(scores, z, eps, norm))
    for start in starts:
        for slope in slopes:
            climb.ascend(start, slope, rates)
    again = None if nodewise else dictionary
    start = sparse_start(scores, z, eps, norm, start=0.85 * climb.delta, dictionary=again)
    for slope in slopes:
        climb.ascend(start, slope, rates)


class _Climb:
    """The best point found so far (``best``: f; ``delta``), and ascent that keeps it so."""

    def __init__(self, scores: Scores, z: Tensor, eps: float, norm: AttackNorm) -> None:
        self.scores, self.z, self.eps, self.norm = scores, z, eps, norm
        self.best, self.delta = scores(z), torch.zeros_like(z)

    def offer(self, delta: Tensor) -> None:
        value = self.scores(self.z + delta)
        better = value > self.best
        self.best = torch.where(better, value, self.best)
        self.delta = torch.where(better[:, None], delta, self.delta)

    def ascend(self, delta: Tensor, slope: Slope, rates: Sequence[float]) -> None:
        """Steps of these lengths, in units of eps, from ``delta``, each offered."""
        self.offer(delta)
        for rate in rates:
            gradient = self.scores.push(slope(self.scores.pull(self.z + delta)) * self.scores.a)
            delta = within(delta + rate * self.eps * unit(gradient, self.norm), self.eps, self.norm)
            self.offer(delta)


@dataclass(frozen=True)
class LossBracket:
    """Losses (n,) of the same points: clean, under the strongest attack found, and ``bound``, which no attack
    exceeds (None where the activation is no gate)."""

    clean: Tensor
    found: Tensor
    bound: Tensor | None

    def gaps(self) -> tuple[float, float | None]:
        """What the attack adds to the mean loss, and what no attack can add more than."""
        clean = self.clean.double().mean()
        above = None if self.bound is None else float(self.bound.double().mean() - clean)
        return float(self.found.double().mean() - clean), above


def bracket_loss(
    loss: Loss,
    scores: Scores,
    data: tuple[Tensor, Tensor],
    eps: float,
    W: Tensor | None,
    *,
    norm: AttackNorm = "L2",
    restarts: int = 0,
    dictionary: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LossBracket:
    """The worst loss of each point of ``data`` (z, y) within eps, from below and, with W (d, H), from above.

    All losses here are convex or monotone in f, so the worst is at the highest or at the lowest f; the
    logistic loss (also of contrastive pairs) only grows along -y.
    """
    z, y = data
    clean = loss_of(loss, scores(z), y)[0]
    bounded = W is not None and scores.activation == "gate"
    signs = (-y,) if loss in ("logistic", "contrastive") else (torch.ones_like(y), -torch.ones_like(y))
    found, bound = clean, clean
    for sign in signs:
        turned = replace(scores, a=scores.a * sign[:, None])
        best, _ = highest_score(
            turned, z, eps, norm=norm, restarts=restarts, dictionary=dictionary, generator=generator
        )
        found = torch.maximum(found, loss_of(loss, sign * best, y)[0])
        if bounded and W is not None:
            limit = score_bound(turned, z, eps, W, norm=norm)
            bound = torch.maximum(bound, loss_of(loss, sign * limit, y)[0])
    return LossBracket(clean, found, torch.maximum(bound, found) if bounded else None)


def _slopes(scores: Scores) -> list[Slope]:
    slopes: list[Slope] = [
        lambda v: activate(v, scores.b, scores.activation)[1],
        torch.ones_like,
    ]
    if scores.activation == "gate":
        b = scores.b.clamp_min(1e-12)
        slopes += [lambda v, T=T: ((v.abs() - b) / (T * b)).sigmoid() for T in TEMPERATURES]  # type: ignore[misc]
    return slopes


def _random_start(z: Tensor, eps: float, norm: AttackNorm, generator: torch.Generator | None) -> Tensor:
    drawn = torch.randn(z.shape, generator=generator, dtype=z.dtype)
    if norm == "Linf":
        return eps * (2 * torch.rand(z.shape, generator=generator, dtype=z.dtype) - 1)
    radius = torch.rand(len(z), 1, generator=generator, dtype=z.dtype) ** (1 / z.shape[1])
    return eps * radius * unit(drawn, norm)
