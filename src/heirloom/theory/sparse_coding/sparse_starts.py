"""Where an attack on a gate network should start: with the gates that are worth their price opened, one by one.

A perturbation spread over all directions opens no gate of a pure network until eps is several times c_b; one that
opens a few gates fully does. On pure nodes f separates over the features, and the greedy choice here comes within a
few per cent of the optimum (a test).

Shapes as in ``gate_aware``: n points z (n, d); H nodes; a (H,) or (n, H); p directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heirloom.theory.sparse_coding.attack import within
from heirloom.theory.sparse_coding.network import Scores
from heirloom.theory.sparse_coding.settings import AttackNorm

# How far an opened direction is pushed beyond its edge: this times what the best step against the open map gives it.
GROWTH = (0.0, 0.5, 1.0, 2.0)
MARGIN = 2e-3  # of the edge: how far beyond it a gate is moved
TRIES = 2  # a gate may be closed, and then opened on its other side
SHARE = 0.8  # of the radius that may be spent before the first gate is opened
MOVES = 60, 250  # at most, along nodes and along a dictionary
PROBED = 1000  # nodes up to which every move is tried on the network itself before the choice


@dataclass(frozen=True)
class Directions:
    """Unit columns D (d, p); edge (p,): |D^T z| from which a gate opens, all else 0; worth (n, p): what f gains per
    length along each, once it is open, with the sign of the side on which it does; most: moves."""

    D: Tensor
    edge: Tensor
    worth: Tensor
    most: int


def sparse_start(
    scores: Scores,
    z: Tensor,
    eps: float,
    norm: AttackNorm = "L2",
    *,
    start: Tensor | None = None,
    dictionary: Tensor | None = None,
) -> Tensor:
    """The best perturbation (n, d) within eps of those that open or close gates greedily from ``start`` (n, d).

    The move of the highest gain for its cost in |delta|^2 that fits is made first. After each move the rest of the
    radius is spent along the slope of what is open, and f evaluated. Moves are along the nodes, judged by trying each
    on the network (where there are more than 1000, by the open map's slope), or along the columns of ``dictionary``
    (d, p), judged by the open map's slope.
    """
    W = scores.pull(torch.eye(z.shape[1], dtype=z.dtype))
    start = torch.zeros_like(z) if start is None else start
    if dictionary is not None:
        edge = (scores.b / (dictionary.T @ W).abs().clamp_min(1e-12)).amin(1)
        directions = Directions(
            dictionary, edge, scores.push(scores.a.expand(len(z), -1)) @ dictionary, MOVES[1]
        )
    else:
        directions = _nodes(scores, z + start, W)
    return _greedy(scores, z, start, directions, eps, norm)


def _nodes(scores: Scores, z: Tensor, W: Tensor) -> Directions:
    lengths = torch.linalg.vector_norm(W, dim=0).clamp_min(1e-30)
    D, edge, a = W / lengths, (scores.b / lengths).expand(W.shape[1]), scores.a.expand(len(z), -1)
    if W.shape[1] > PROBED:
        return Directions(D, edge, scores.push(a) @ D, MOVES[0])
    v, moved = scores.pull(z), D.T @ W
    up, down = (_tried(v, v / lengths * side, edge, side * moved, scores.b, a) for side in (1.0, -1.0))
    return Directions(D, edge, torch.where(up[1] >= down[1], up[0], -down[0]), MOVES[0])


def _tried(
    v: Tensor, ahead: Tensor, edge: Tensor, moved: Tensor, b: Tensor, a: Tensor
) -> tuple[Tensor, Tensor]:
    """What f gains (n, H) by opening (closing) each gate on one side, per length of the edge and for its cost."""
    on = ahead.abs() >= edge
    length = torch.where(on, -ahead - edge * (1 - MARGIN), edge * (1 + MARGIN) - ahead).clamp_min(0)
    gains = torch.empty_like(length)
    for i in range(len(v)):  # one point at a time: H x H numbers each
        after = v[i] + length[i, :, None] * moved
        gains[i] = torch.where(after.abs() >= b, after, 0.0) @ a[i]
    gains = (gains - (torch.where(v.abs() >= b, v, 0.0) * a).sum(1, keepdim=True)).clamp_min(0) * (length > 0)
    return gains / torch.where(on, ahead.abs(), edge), gains / length.square().clamp_min(1e-12)


def _greedy(
    scores: Scores, z: Tensor, start: Tensor, directions: Directions, eps: float, norm: AttackNorm
) -> Tensor:
    times, n = len(GROWTH), len(z)
    scores = replace(scores, a=scores.a.expand(n, -1).repeat(times, 1))
    slope = scores.push(scores.a)
    growth = torch.tensor(GROWTH, dtype=z.dtype).repeat_interleave(n)[:, None]
    growth = eps * growth / torch.linalg.vector_norm(slope, dim=1, keepdim=True).clamp_min(1e-30)
    z, start, worth = (part.repeat(times, 1) for part in (z, start, directions.worth))
    side, u0 = worth.sign(), z @ directions.D
    on = scores.pull(z + start).abs() >= scores.b
    delta = within(start + growth * scores.push(scores.a * on), max(SHARE * eps, 1e-30), norm)
    radius = eps if norm == "L2" else eps * z.shape[1] ** 0.5
    best, kept, tried = torch.full((len(z),), -torch.inf), delta, torch.zeros_like(worth)
    for _ in range(min(directions.most, 2 * len(directions.edge))):
        for point in (delta, _filled(scores, z, delta, eps, norm)):
            value = scores(z + point)
            better = value > best
            best, kept = torch.where(better, value, best), torch.where(better[:, None], point, kept)
        u = (z + delta) @ directions.D
        length, gain = _moves(u, side, directions.edge, worth.abs(), growth)
        cost = length * (length + 2 * side * (u - u0))
        room = radius**2 - delta.square().sum(1, keepdim=True)
        usable = (gain > 0) & (cost <= room) & (tried < TRIES)
        highest, chosen = torch.where(usable, gain / cost.clamp_min(1e-12), -torch.inf).max(1, keepdim=True)
        if not bool(highest.isfinite().any()):
            break
        tried.scatter_add_(1, chosen, torch.ones_like(highest))
        step = (length * side).gather(1, chosen) * highest.isfinite()
        delta = within(delta + step * directions.D[:, chosen[:, 0]].T, eps, norm)
    which = best.view(times, n).argmax(0)
    return kept.view(times, n, -1)[which, torch.arange(n)]


def _moves(u: Tensor, side: Tensor, edge: Tensor, worth: Tensor, growth: Tensor) -> tuple[Tensor, Tensor]:
    """How far to move along each direction, u = D^T (z + delta), and what that gains (0: no move)."""
    ahead = u * side
    on = u.abs() >= edge
    opening = torch.maximum(edge * (1 + MARGIN) - ahead, growth * worth)
    closing = u.abs() - edge * (1 - MARGIN)
    gain = torch.where(on, u.abs() * (ahead < 0), ahead + opening)
    return torch.where(on, closing, opening), worth * gain


def _filled(scores: Scores, z: Tensor, delta: Tensor, eps: float, norm: AttackNorm) -> Tensor:
    """delta, and what is left of the ball spent along the slope of what is open."""
    gradient = scores.push(scores.a * (scores.pull(z + delta).abs() >= scores.b))
    if norm == "Linf":
        return within(delta + eps * gradient.sign(), eps, norm)
    gradient = gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-30)
    along = (gradient * delta).sum(1, keepdim=True)
    room = (eps**2 - delta.square().sum(1, keepdim=True)).clamp_min(0)
    return within(delta + gradient * ((along.square() + room).sqrt() - along), eps, norm)
