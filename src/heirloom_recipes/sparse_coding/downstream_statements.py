"""Proposition 6.1 for theta other than pre-training's, inside the gate (eps = c_b / 10)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from heirloom.theory.sparse_coding.built import Kind
from heirloom.theory.sparse_coding.downstream import ridge_head
from heirloom.theory.sparse_coding.model import regression_targets
from heirloom.theory.sparse_coding.network import Scores, activate
from heirloom_recipes.sparse_coding.supervised_statements import (
    RATIO,
    RATIOS,
    SIGMA,
    Losses,
    log_slope,
    losses_of,
)
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting, inputs_of, network_of


def proposition_6_1(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Heads fitted clean (least squares) to new theta: the gap L_eps - L_0 in eps and in k on pure nodes; how much
    wider it is, and L_0, on nodes of m features at random and on the grouped nodes of A.1's proof, in which a head
    must give all features of a group the same weight. One call is one seed."""
    here = replace(setting, data=setting.down, nodes=setting.down_nodes)
    rows: list[Row] = []
    for name, theta in _thetas(here.data.d, generator).items():
        rows += [{"theta": name, **row} for row in _about(here, theta, generator)]
    return rows


def _about(setting: TheoremSetting, theta: Tensor, generator: torch.Generator) -> list[Row]:
    m = setting.ms[-1]
    pure = _head_losses(setting, "exact", 1, theta, generator)
    others: dict[str, tuple[Kind, int]] = {f"{m} at random": ("exact", m), f"{m} grouped": ("grouped", m)}
    in_k = []
    for k in setting.ks:
        with_k = replace(setting, data=replace(setting.data, k=k))
        in_k.append((k, _head_losses(with_k, "exact", 1, theta, generator)[RATIO].increment))
    rows: list[Row] = [
        _row("pure", "slope in eps", log_slope([(r, f.increment) for r, f in pure.items()]), 1.0),
        _row("pure", "slope in k", log_slope(in_k), 0.5),
        _row("pure", "L_0", pure[RATIO].clean, round(SIGMA**2, 9)),
    ]
    for nodes, (kind, count) in others.items():
        found = _head_losses(setting, kind, count, theta, generator)[RATIO]
        rows.append(_row(nodes, "gap over the pure one's", found.increment / pure[RATIO].increment, ">> 1"))
        rows.append(_row(nodes, "L_0", found.clean, round(SIGMA**2, 9)))
    return rows


def _row(nodes: str, what: str, measured: float, theory: float | str) -> Row:
    return {"nodes": nodes, "what": what, "measured": measured, "theory": theory}


def _thetas(d: int, generator: torch.Generator) -> dict[str, Tensor]:
    size = 0.5 + torch.rand(d, generator=generator)
    signs = torch.randint(0, 2, (d,), generator=generator) * 2 - 1
    return {
        "U(.5, 1.5)": size,
        "+-U(.5, 1.5)": size * signs,
        "N(0, 1)": torch.randn(d, generator=generator),
    }


def _head_losses(
    setting: TheoremSetting, kind: Kind, m: int, theta: Tensor, generator: torch.Generator
) -> dict[float, Losses]:
    """By eps over c_b: the square loss of the head on fresh inputs."""
    U, b = network_of(setting, m, kind, generator)
    x, z = inputs_of(replace(setting, inputs=setting.fitted), generator)
    head = ridge_head(activate(z @ U, b)[0], regression_targets(x, theta, SIGMA, generator))
    inputs = inputs_of(setting, generator)
    y = regression_targets(inputs[0], theta, SIGMA, generator)
    scores = Scores.of(U, b, head)
    return {r: losses_of(scores, inputs, y, "square", r * setting.c_b, theta) for r in RATIOS}
