"""Theorem A.2: what impure nodes add to the adversarial loss, inside the gate. One call is one seed.

The theorem itself has no rate in eps, k or m: its clean loss is O(eps sqrt k), an upper bound, its share of pure nodes
1 - o(1). The rates here are those of its proof, by which m features a node add at least
eps (sqrt(k + k d (m - 1) / (H m)) - sqrt k). The line after it in the text, eps d (m - 1) / (2 H m), has lost a
sqrt k; the premise H = o(eps d^1.5) is eps sqrt(k) d / H >> sqrt(k / d), with it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from heirloom.theory.sparse_coding.built import built_network, mixture
from heirloom.theory.sparse_coding.rates import psi, seen_by_chance
from heirloom.theory.sparse_coding.settings import Loss
from heirloom_recipes.sparse_coding.slopes import Point, slope
from heirloom_recipes.sparse_coding.supervised_statements import (
    LOSSES,
    RATIO,
    RATIOS,
    SIGMA,
    Found,
    losses_of,
    scores_of,
    targets,
    with_k,
)
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting, inputs_of

# of the nodes; with H >= 4 d every feature has a pure node, as U 1 = 1 needs
PURE = (1.0, 0.98, 0.95, 0.9, 0.75, 0.5, 0.25)
At = tuple[int, float, int]  # m, k, nodes


def theorem_a2(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Networks with U 1 = 1 in which a share of the nodes holds one feature and the others two at random: what the
    impure ones add to the loss, beside the closed form."""
    setting = replace(setting, inputs=setting.slope_inputs)
    d, k = setting.data.d, setting.data.k
    inputs = inputs_of(setting, generator)
    ys = {loss: targets(inputs[0], loss, generator) for loss in LOSSES}
    rows, pure = list[Row](), Found()
    for share in PURE:
        U, whole, each = _mixture(setting, share, generator)
        found = losses_of(scores_of(U, setting.c_b), inputs, ys, torch.ones(d), setting.c_b)
        pure = pure or found
        for loss in LOSSES:
            one = found[loss, RATIO]
            row: Row = {"loss": loss, "pure_nodes": share}
            row |= {"adversarial_above_pure": one.attacked - pure[loss, RATIO].attacked}
            closed = _above_pure(loss, d, k, RATIO * setting.c_b, (2, whole, each))
            row |= {"closed_form": "-" if closed is None else closed}
            rows.append(row | {"clean_above_theta_0": one.clean - one.ideal})
    return rows


def _mixture(
    setting: TheoremSetting, share: float, generator: torch.Generator
) -> tuple[Tensor, float, float]:
    """U with U 1 = 1, and the means over the features of (t_i / r_i)^2 and of t_i / r_i^2."""
    holds = mixture(setting.data.d, setting.nodes, share, generator, mixed=2) != 0
    joins = holds.sum(1).clamp_min(1).double()
    shared = (holds & (holds.sum(0) == 2)).sum(1)
    parts = (shared / joins).square(), shared / joins.square()
    return (holds / joins[:, None]).float(), float(parts[0].mean()), float(parts[1].mean())


def theorem_a2_slopes(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Nodes of exactly m features at random, few of them (``lean``): the adversarial loss above the pure network's
    in eps, k, (m - 1) / m and H, the others held."""
    here = replace(setting, data=setting.lean, nodes=setting.lean_nodes, inputs=setting.slope_inputs)
    d, k, H, m = here.data.d, here.data.k, here.nodes, min(value for value in here.ms if value > 1)
    grid = {(1, value, d) for value in (k, *here.ks)} | {(m, value, H) for value in (k, *here.ks)}
    grid |= {(value, k, H) for value in here.ms if value > 1} | {(m, k, H // 2), (m, k, 2 * H)}
    found = _lean(here, grid, generator)
    rows: list[Row] = []
    for loss in LOSSES:

        def above(x: float, at: At, ratio: float = RATIO, loss: Loss = loss) -> Point:
            apart = found[at][loss, ratio].attacked - found[1, at[1], d][loss, ratio].attacked
            nodes = at[0], 1.0, d / (at[2] * at[0])
            return x, apart, _above_pure(loss, d, at[1], ratio * here.c_b, nodes)

        in_k = [above(value, (m, value, H)) for value in here.ks]
        for over, points, theory in (
            ("eps", [above(r, (m, k, H), r) for r in RATIOS], 1.0),
            ("k, as the proof has it", in_k, 0.5),
            ("k, as it is printed", in_k, 0.0),
            ("(m - 1) / m", [above(1 - 1 / v, (v, k, H)) for v in here.ms if v > 1], 1.0),
            ("H", [above(nodes, (m, k, nodes)) for nodes in (H // 2, H, 2 * H)], -1.0),
        ):
            rows.append({"loss": loss, "in": over, **slope(points, theory)})
    return rows


def _lean(setting: TheoremSetting, grid: set[At], generator: torch.Generator) -> dict[At, Found]:
    d, found = setting.data.d, dict[At, Found]()
    for k in sorted({at[1] for at in grid}):
        inputs = inputs_of(with_k(setting, k), generator)
        ys = {loss: targets(inputs[0], loss, generator) for loss in LOSSES}
        for m, _, nodes in sorted(at for at in grid if at[1] == k):
            U = built_network(d, nodes, m, generator, "exact").dense()
            scores = scores_of(U, setting.c_b)
            found[m, k, nodes] = losses_of(scores, inputs, ys, torch.ones(d), setting.c_b, RATIOS)
    return found


def _above_pure(loss: Loss, d: int, k: float, eps: float, nodes: tuple[int, float, float]) -> float | None:
    """The closed form; ``nodes``: m, ``whole`` and ``each`` of :func:`seen_by_chance`. The logistic loss has none."""
    if loss == "logistic":
        return None
    mixed, pure = seen_by_chance(d, k, *nodes), seen_by_chance(d, k, 1, 0.0, 0.0)
    return mixed.added(loss, eps, SIGMA) - pure.added(loss, eps, SIGMA)


def premises(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """What Theorems A.1 and A.2 ask of the sizes: psi, equation (14), should be far below d / H and below what the
    attack adds, and H far below eps d^1.5, at eps = c_b / 10 and at their own 1 / (log d sqrt(k m))."""
    sizes = {"A.1 and A.2": (setting.data, setting.nodes), "A.2, slopes": (setting.lean, setting.lean_nodes)}
    rows = []
    for name, (data, nodes) in sizes.items():
        for m in (1, setting.ms[-1]):
            own = 1 / (math.log(data.d) * (data.k * m) ** 0.5)
            row: Row = {
                "networks": name,
                "m": m,
                "psi": psi(data.d, data.k, nodes, m),
                "d_over_H": data.d / nodes,
            }
            for where, eps in (("c_b_over_10", RATIO * setting.c_b), ("own_eps", own)):
                row[f"H_over_eps_d^1.5_at_{where}"] = nodes / (eps * data.d**1.5)
            rows.append(row)
    return rows
