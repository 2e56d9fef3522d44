"""Theorems A.1 and A.2, each measured for what it says, inside the gate (eps = c_b / 10).

Only what the proofs build on is fixed: U 1 = theta_0 = 1, b_h = c_b |U_h|. The minimum over Definition 4.1's networks
is unknown; the proofs bound it by the pure network, and so does the excess here. One call is one seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heirloom.theory.sparse_coding.built import mixture
from heirloom.theory.sparse_coding.losses import loss_of
from heirloom.theory.sparse_coding.model import class_targets, regression_targets
from heirloom.theory.sparse_coding.network import Scores, activate
from heirloom.theory.sparse_coding.settings import Loss
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting, inputs_of, network_of

LOSSES: tuple[Loss, ...] = ("square", "absolute", "logistic")
RATIO, RATIOS = 0.1, (0.03, 0.1, 0.3)  # eps over c_b
PURE = (
    1.0,
    0.98,
    0.95,
    0.9,
    0.75,
    0.5,
    0.25,
)  # with H >= 4 d every feature has a pure node, as U 1 = 1 needs
SIGMA = 0.1


@dataclass(frozen=True)
class Losses:
    """Mean losses of one network: under FGM, clean, and of theta_0 itself without noise or gate."""

    attacked: float
    clean: float
    ideal: float

    @property
    def increment(self) -> float:
        return self.attacked - self.clean


def losses_of(
    scores: Scores, inputs: tuple[Tensor, Tensor], y: Tensor, loss: Loss, eps: float, theta: Tensor
) -> Losses:
    """``inputs``: x and z (n, d); the attack is one step along the loss's own gradient, exact while no gate flips."""
    x, z = inputs
    value, slope = activate(scores.pull(z), scores.b)
    clean, derivative = loss_of(loss, (value * scores.a).sum(1), y)
    gradient = scores.push(slope * scores.a)
    direction = gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-30)
    moved = loss_of(loss, scores(z + eps * derivative.sign()[:, None] * direction), y)[0]
    ideal = loss_of(loss, x @ theta, y)[0]
    return Losses(*(float(part.double().mean()) for part in (moved, clean, ideal)))


def theorem_a1(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Clean loss within psi of theta_0's; adversarial loss above the pure network's by eps sqrt(m k), for the square,
    the absolute and the logistic loss, on the proof's construction (grouped)."""
    rows: list[Row] = []
    m, k, eps = setting.ms[-1], setting.data.k, RATIO * setting.c_b
    inputs = {value: inputs_of(_with_k(setting, value), generator) for value in {k, *setting.ks}}
    nets = {at: _scores(_with_k(setting, at[1]), at[0], generator) for at in _grid(setting)}
    for loss in LOSSES:
        ys = {value: _targets(x, loss, generator) for value, (x, _) in inputs.items()}

        def at(m: int, k: float, eps: float, loss: Loss = loss, ys: dict[float, Tensor] = ys) -> Losses:
            theta = torch.ones(setting.data.d)
            return losses_of(nets[m, k], inputs[k], ys[k], loss, eps, theta)

        found, pure = {value: at(value, k, eps) for value in setting.ms}, at(1, k, eps)
        slopes: dict[tuple[str, str], tuple[list[tuple[float, float]], float]] = {
            ("increment", "eps"): ([(r, at(m, k, r * setting.c_b).increment) for r in RATIOS], 1.0),
            ("increment", "k"): ([(value, at(m, value, eps).increment) for value in setting.ks], 0.5),
            ("increment", "m"): ([(value, part.increment) for value, part in found.items()], 0.5),
            ("adversarial loss above the pure network's", "sqrt(m) - 1"): (
                [(v**0.5 - 1, part.attacked - pure.attacked) for v, part in found.items() if v > 1],
                1.0,
            ),
        }
        for (of, over), (points, theory) in slopes.items():
            rows.append(
                {"loss": loss, "slope_of": of, "in": over, "measured": log_slope(points), "theory": theory}
            )
        psi = found[m].clean - found[m].ideal
        rows.append(
            {
                "loss": loss,
                "slope_of": f"(psi, clean loss, m = {m})",
                "in": "-",
                "measured": psi,
                "theory": "vanishes",
            }
        )
    return rows


def theorem_a2(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Does a low adversarial loss need pure nodes? Networks with U 1 = 1 in which a share of the nodes holds one
    feature and the others two at random: what the impure ones add, beside the least that the proof lets them."""
    rows: list[Row] = []
    d, k, eps = setting.data.d, setting.data.k, RATIO * setting.c_b
    x, z = inputs_of(setting, generator)
    ys = {loss: _targets(x, loss, generator) for loss in LOSSES}
    theta, pure = torch.ones(d), dict[Loss, Losses]()
    for share in PURE:
        U = mixture(d, setting.nodes, share, generator, mixed=2)
        joins = (U != 0).sum(1).clamp_min(1)
        U = (U != 0) / joins[:, None].to(U.dtype)
        two = ((U != 0).sum(0) == 2).to(U.dtype)
        leak = ((U != 0) * two).sum(1) / joins.square()  # by the proof: every leaked entry another feature
        scores = _of(U, setting.c_b)
        for loss in LOSSES:
            found = losses_of(scores, (x, z), ys[loss], loss, eps, theta)
            pure.setdefault(loss, found)
            rows.append(
                {
                    "loss": loss,
                    "pure_nodes": share,
                    "adversarial_above_pure": found.attacked - pure[loss].attacked,
                    "clean_above_theta_0": found.clean - found.ideal,
                    "proofs_least_times_eps": eps * float((k * (1 + leak.mean())).sqrt() - k**0.5),
                }
            )
    return rows


def _grid(setting: TheoremSetting) -> set[tuple[int, float]]:
    k = setting.data.k
    return {(m, k) for m in (1, *setting.ms)} | {(setting.ms[-1], value) for value in setting.ks}


def _with_k(setting: TheoremSetting, k: float) -> TheoremSetting:
    return replace(setting, data=replace(setting.data, k=k))


def _scores(setting: TheoremSetting, m: int, generator: torch.Generator) -> Scores:
    return _of(network_of(setting, m, "grouped", generator)[0], setting.c_b)


def _of(U: Tensor, c_b: float) -> Scores:
    return Scores.of(U, c_b * torch.linalg.vector_norm(U, dim=0), torch.ones(U.shape[1]))


def _targets(x: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
    theta = torch.ones(x.shape[1])
    if loss == "logistic":
        return class_targets(x, theta, generator)
    return regression_targets(x, theta, SIGMA, generator)


def log_slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares slope of log y in log x."""
    x, y = torch.tensor([[math.log(a), math.log(max(b, 1e-30))] for a, b in points], dtype=torch.float64).T
    return float(((x - x.mean()) * y).sum() / (x - x.mean()).square().sum())
