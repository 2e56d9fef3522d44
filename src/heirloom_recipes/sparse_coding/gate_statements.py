"""Statements about gates: equation (2), Lemmas F.3 and F.4, Definition 4.1, Section B's ReLU.

Each call is one seed.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import torch

from heirloom.theory.sparse_coding.built import built_network
from heirloom.theory.sparse_coding.flips import most_flips
from heirloom.theory.sparse_coding.network import Scores
from heirloom.theory.sparse_coding.statements import (
    first_order_increment,
    gate_flips,
    membership,
    symmetrised_relu,
)
from heirloom_recipes.sparse_coding.figure_4 import intercept
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting, inputs_of, network_of

RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)  # eps over c_b
GATES = (0.003, 0.01, 0.03, 0.1, 0.3)  # c_b = b_h / |U_h|


def equation_2(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    rows = []
    for m in setting.ms:
        U, b = network_of(setting, m, "exact", generator)
        x, z = inputs_of(setting, generator)
        y = x.sum(1) + 0.1 * torch.randn(len(x), generator=generator)
        scores = Scores.of(U, b, torch.ones(setting.nodes))
        for ratio in RATIOS:
            measured, predicted = first_order_increment(scores, z, y, ratio * setting.c_b)
            share = float(measured.double().mean() / predicted.double().mean())
            rows.append({"m": m, "eps_over_c_b": ratio, "measured_over_predicted": share})
    return rows


def lemma_f3(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    rows = []
    for c_b in GATES:
        for m in (setting.ms[0], setting.ms[-1]):
            U, b = network_of(replace(setting, c_b=c_b), m, "exact", generator)
            x, z = inputs_of(setting, generator)
            rows.append({"m": m, "c_b": c_b, **asdict(gate_flips(U, b, x, z))})
    return rows


def lemma_f4(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Gates that flip under FGM and under the attack that flips as many as it can, over eps / c_b: ``opened`` and
    ``closed`` against the true features, ``changed`` (gates) and ``any_changed`` (inputs) against the clean input."""
    rows = []
    small = replace(setting, inputs=min(setting.inputs, 60))
    for m in (setting.ms[0], setting.ms[-1]):
        U, b = network_of(small, m, "exact", generator)
        x, z = inputs_of(small, generator)
        before = (z @ U).abs() >= b
        on = before.to(U.dtype) @ U.T
        for ratio in RATIOS:
            eps = ratio * small.c_b
            fgm = z + eps * on / torch.linalg.vector_norm(on, dim=1, keepdim=True).clamp_min(1e-30)
            for attack, moved in (("FGM", fgm), ("most flips", z + most_flips(U, b, z, eps))):
                changed = ((moved @ U).abs() >= b) != before
                row: Row = {"m": m, "eps_over_c_b": ratio, "attack": attack}
                row |= asdict(gate_flips(U, b, x, moved))
                row |= {"changed": float(changed.double().mean())}
                row |= {"any_changed": float(changed.any(1).double().mean()), "inputs": len(x)}
                rows.append(row)
    return rows


def definition_4_1(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Figure 4's own networks, and those of this experiment, against the definition."""
    figure, rows = setting.figure, []
    for m in figure.ms:
        U = built_network(figure.d, figure.nodes, m, generator, figure.kind).dense()
        b = torch.full((figure.nodes,), intercept(figure, m))
        rows.append({"networks": "Figure 4", "m": m, **asdict(membership(U, b, figure.k))})
    for m in setting.ms:
        U, b = network_of(setting, m, "exact", generator)
        rows.append({"networks": "here", "m": m, **asdict(membership(U, b, setting.data.k))})
    return rows


def relu_in_place_of_gates(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Two ReLU nodes in the place of a gate node: the same gates, the output shrunk by b towards 0."""
    U, b = network_of(setting, 1, "exact", generator)
    x, z = inputs_of(setting, generator)
    v = z @ U
    gate, relu = torch.where(v.abs() >= b, v, 0.0), symmetrised_relu(v, b)
    return [
        {
            "same_gates": float(((gate != 0) == (relu != 0)).double().mean()),
            "largest_difference_over_b": float(((gate - relu).abs() / b).max()),
            "clean_loss_gate": float((gate.sum(1) - x.sum(1)).square().mean()),
            "clean_loss_relu": float((relu.sum(1) - x.sum(1)).square().mean()),
        }
    ]
