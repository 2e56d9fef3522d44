"""Theorem A.1, measured for what it says, inside the gate (eps = c_b / 10).

Only what the proofs build on is fixed: U 1 = theta_0 = 1, b_h = c_b |U_h|. The minimum over Definition 4.1's networks
is unknown; the proofs bound it by the pure network, and so does the excess here. One call is one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heirloom.theory.sparse_coding.losses import loss_of
from heirloom.theory.sparse_coding.model import class_targets, regression_targets
from heirloom.theory.sparse_coding.network import Scores, activate
from heirloom.theory.sparse_coding.rates import seen_by_groups
from heirloom.theory.sparse_coding.settings import Loss
from heirloom_recipes.sparse_coding.slopes import Point, slope
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting, inputs_of, network_of

LOSSES: tuple[Loss, ...] = ("square", "absolute", "logistic")
RATIO, RATIOS = 0.1, (0.03, 0.1, 0.3)  # eps over c_b
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


Found = dict[tuple[Loss, float], Losses]  # by loss and eps over c_b


def losses_of(
    scores: Scores,
    inputs: tuple[Tensor, Tensor],
    ys: Mapping[Loss, Tensor],
    theta: Tensor,
    c_b: float,
    ratios: Sequence[float] = (RATIO,),
) -> Found:
    """``inputs``: x and z (n, d). The attack is one step along the loss's own gradient, of either sign along f's, and
    the network is evaluated anew where it ends: gates that flip count."""
    x, z = inputs
    value, on = activate(scores.pull(z), scores.b)
    gradient = scores.push(on * scores.a)
    direction = gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-30)
    f, found = (value * scores.a).sum(1), Found()
    for ratio in ratios:
        up, down = (scores(z + sign * ratio * c_b * direction) for sign in (1, -1))
        for loss, y in ys.items():
            clean, derivative = loss_of(loss, f, y)
            moved = torch.where(derivative > 0, up, torch.where(derivative < 0, down, f))
            parts = loss_of(loss, moved, y)[0], clean, loss_of(loss, x @ theta, y)[0]
            found[loss, ratio] = Losses(*(float(part.double().mean()) for part in parts))
    return found


def theorem_a1(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Clean loss within psi of theta_0's; adversarial loss above the pure network's by eps sqrt(m k), for the square,
    the absolute and the logistic loss, on the proof's construction (grouped)."""
    setting = replace(setting, inputs=setting.slope_inputs)
    most, k, d = setting.ms[-1], setting.data.k, setting.data.d
    nets = {at: _scores(with_k(setting, at[1]), at[0], generator) for at in sorted(_grid(setting))}
    inputs, found = {}, dict[tuple[int, float], Found]()
    for value in sorted({k, *setting.ks}):
        inputs[value] = inputs_of(with_k(setting, value), generator)
        ys = {loss: targets(inputs[value][0], loss, generator) for loss in LOSSES}
        for m, _ in [at for at in nets if at[1] == value]:
            found[m, value] = losses_of(nets[m, value], inputs[value], ys, torch.ones(d), setting.c_b, RATIOS)
    return [
        {"loss": loss, **row}
        for loss in LOSSES
        for row in _a1_rows(setting, {at: _of_loss(part, loss) for at, part in found.items()}, loss, most)
    ]


def _a1_rows(
    setting: TheoremSetting, found: dict[tuple[int, float], dict[float, Losses]], loss: Loss, most: int
) -> list[Row]:
    d, k = setting.data.d, setting.data.k

    def point(x: float, m: int, k: float, ratio: float = RATIO) -> Point:
        return x, found[m, k][ratio].increment, added(loss, d, k, m, ratio * setting.c_b)

    def above(m: int) -> Point:
        apart = [point(0, m, k)[2], point(0, 1, k)[2]]
        closed = None if apart[0] is None or apart[1] is None else apart[0] - apart[1]
        return m**0.5 - 1, found[m, k][RATIO].attacked - found[1, k][RATIO].attacked, closed

    rows: list[Row] = []
    for of, over, points, theory in (
        ("increment", "eps", [point(r, most, k, r) for r in RATIOS], 1.0),
        ("increment", "k", [point(value, most, value) for value in setting.ks], 0.5),
        ("increment", "m", [point(m, m, k) for m in setting.ms], 0.5),
        (
            "adversarial loss above the pure one's",
            "sqrt(m) - 1",
            [above(m) for m in setting.ms if m > 1],
            1.0,
        ),
    ):
        rows.append({"slope_of": of, "in": over, **slope(points, theory)})
    psi = found[most, k][RATIO].clean - found[most, k][RATIO].ideal
    of = f"(psi, clean loss, m = {most})"
    rows.append({"slope_of": of, "in": "-", "measured": psi, "theory": "vanishes", "closed_form": "-"})
    return rows


def added(loss: Loss, d: int, k: float, m: int, eps: float) -> float | None:
    """The closed form of what FGM adds on grouped nodes; the logistic loss has none."""
    return None if loss == "logistic" else seen_by_groups(d, k, m).added(loss, eps, SIGMA)


def _of_loss(found: Found, loss: Loss) -> dict[float, Losses]:
    return {ratio: part for (name, ratio), part in found.items() if name == loss}


def _grid(setting: TheoremSetting) -> set[tuple[int, float]]:
    k = setting.data.k
    return {(m, k) for m in (1, *setting.ms)} | {(setting.ms[-1], value) for value in setting.ks}


def with_k(setting: TheoremSetting, k: float) -> TheoremSetting:
    return replace(setting, data=replace(setting.data, k=k))


def _scores(setting: TheoremSetting, m: int, generator: torch.Generator) -> Scores:
    return scores_of(network_of(setting, m, "grouped", generator)[0], setting.c_b)


def scores_of(U: Tensor, c_b: float) -> Scores:
    """a = 1 and b_h = c_b |U_h|."""
    return Scores.of(U, c_b * torch.linalg.vector_norm(U, dim=0), torch.ones(U.shape[1]))


def targets(x: Tensor, loss: Loss, generator: torch.Generator) -> Tensor:
    """Y of theta_0 = 1: a class for the logistic loss, else a number with noise of ``SIGMA``."""
    theta = torch.ones(x.shape[1])
    if loss == "logistic":
        return class_targets(x, theta, generator)
    return regression_targets(x, theta, SIGMA, generator)
