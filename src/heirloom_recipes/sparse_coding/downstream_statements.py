"""Proposition 6.1, inside the gate (eps = c_b / 10). One call is one seed.

The proposition has rates in eps and k for pure nodes alone. For others it says that some network's gap is far above
eps sqrt k, without a rate in m; its proof points to that of Theorem A.1, whose grouped nodes give eps sqrt(m k).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from heirloom.theory.sparse_coding.built import mixture
from heirloom.theory.sparse_coding.rates import Seen, seen_by_groups
from heirloom_recipes.sparse_coding.heads import Gaps, Heads, Tasks, fitted, heads_on, new_thetas
from heirloom_recipes.sparse_coding.slopes import NO_RATE, Point, log_slope, slope
from heirloom_recipes.sparse_coding.supervised_statements import RATIO, RATIOS, SIGMA, Losses, with_k
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting

DRAWS = 20_000  # of the active features, for the closed form


def proposition_6_1(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """The gap L_eps - L_0 of clean heads for new theta: in eps and in k on pure nodes, with the closed form of the
    linear map that they are; in m on nodes of m features at random, which a head can fit; and on the grouped nodes of
    A.1's proof, in which a head must give all features of a group the same weight."""
    here = replace(setting, data=setting.down, nodes=setting.down_nodes, inputs=setting.slope_inputs)
    thetas = new_thetas(here.data.d, generator)
    tasks = Tasks.of(here, thetas, generator)
    levels = (1, *(m for m in here.ms if m > 1))
    chance = {m: heads_on(here, tasks, "exact", m, generator) for m in levels}
    groups = {1: chance[1].best}
    groups |= {m: heads_on(here, tasks, "grouped", m, generator).best for m in levels[1:]}
    in_k = {here.data.k: chance[1].best}
    for k in (value for value in here.ks if value != here.data.k):
        at_k = with_k(here, k)
        in_k[k] = heads_on(at_k, Tasks.of(at_k, thetas, generator), "exact", 1, generator).best
    rows: list[Row] = []
    for name, theta in thetas.items():
        seen = {k: _seen(here.data.d, k, theta, generator) for k in in_k}
        found = [*_pure(here, {k: part[name] for k, part in in_k.items()}, seen)]
        found += _at_random(here, {m: (heads.best[name], heads.sampled[name]) for m, heads in chance.items()})
        found += _grouped(here, groups, chance[1], name)
        rows += [{"theta": name, **row} for row in found]
    return rows


def _pure(
    setting: TheoremSetting, found: Mapping[float, Mapping[float, Losses]], seen: Mapping[float, Seen]
) -> list[Row]:
    def point(x: float, k: float, ratio: float) -> Point:
        return x, found[k][ratio].increment, seen[k].added("square", ratio * setting.c_b, SIGMA)

    own = setting.data.k
    gap = point(own, own, RATIO)
    return [
        _row("pure", "a*", "slope in eps", slope([point(r, own, r) for r in RATIOS], 1.0)),
        _row("pure", "a*", "slope in k", slope([point(k, k, RATIO) for k in setting.ks], 0.5)),
        _row("pure", "a*", "gap", _figure(gap[1], "-", gap[2] or 0.0)),
        _row("pure", "a*", "L_0", _figure(found[own][RATIO].clean, "-", SIGMA**2)),
    ]


def _at_random(
    setting: TheoremSetting, found: Mapping[int, tuple[Mapping[float, Losses], Mapping[float, Losses]]]
) -> list[Row]:
    rows: list[Row] = []
    for which, head in enumerate(("a*", f"{setting.fitted} examples")):
        parts = {m: pair[which][RATIO] for m, pair in found.items()}
        in_m = {
            "measured": log_slope([(m, part.increment) for m, part in parts.items()]),
            "theory": NO_RATE,
            "closed_form": "-",
        }
        rows.append(_row("m at random", head, "slope in m", in_m))
        for m in [m for m in parts if m > 1]:
            rows += _beside(f"{m} at random", head, parts[m], parts[1])
    return rows


def _grouped(setting: TheoremSetting, groups: Mapping[int, Gaps], pure: Heads, name: str) -> list[Row]:
    """The slope in m where the heads fit: theta = 1, equal in every group."""
    most = setting.ms[-1]
    if name != "1":
        return _beside(f"{most} grouped", "a*", groups[most][name][RATIO], pure.best[name][RATIO])
    d, k, eps = setting.data.d, setting.data.k, RATIO * setting.c_b
    points: Sequence[Point] = [
        (m, part[name][RATIO].increment, seen_by_groups(d, k, m).added("square", eps, SIGMA))
        for m, part in groups.items()
    ]
    return [_row("m grouped", "a*", "slope in m", slope(points, 0.5))]


def _beside(nodes: str, head: str, part: Losses, pure: Losses) -> list[Row]:
    ratio = _figure(part.increment / pure.increment, ">> 1")
    clean = _figure(part.clean, "-", SIGMA**2)
    return [_row(nodes, head, "gap over the pure one's", ratio), _row(nodes, head, "L_0", clean)]


def _row(nodes: str, head: str, what: str, figures: Row) -> Row:
    return {"nodes": nodes, "head": head, "what": what, **figures}


def _figure(measured: float, theory: str, closed: float | str = "-") -> Row:
    return {"measured": measured, "theory": theory, "closed_form": closed}


def _seen(d: int, k: float, theta: Tensor, generator: torch.Generator) -> Seen:
    """|theta_X| over draws of the active features."""
    active = (torch.rand(DRAWS, d, generator=generator) < k / d).to(theta.dtype)
    return Seen.of((active @ theta.square()).sqrt())


def sample_of_the_head(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """The networks that ``inherit`` builds, eps = c_b / 3, FGM: how much of the gap is a*'s, and how much is that of a
    head which learned from as many examples as ``inherit`` gives it."""
    here = replace(setting, data=setting.task, nodes=setting.task_nodes, inputs=4 * setting.slope_inputs)
    d, name, rows, pure = here.data.d, "+-U(.5, 1.5)", list[Row](), 0.0
    tasks = Tasks.of(here, {name: new_thetas(d, generator)[name]}, generator)
    for share in (1.0, 0.25, 0.0):
        U = mixture(d, here.nodes, share, generator)
        layer = U, here.c_b * torch.linalg.vector_norm(U, dim=0)
        for head, sigma in (("a*", 0.0), (f"{here.plenty} examples", SIGMA)):
            part = fitted(here, tasks, layer, here.plenty, sigma, generator)[name][RATIOS[-1]]
            pure = pure or part.increment
            figures = {"gap": part.increment, "gap_over_pure_a*": part.increment / pure, "L_0": part.clean}
            rows.append({"pure_nodes": share, "head": head, **figures})
    return rows
