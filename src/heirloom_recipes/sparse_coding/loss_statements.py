"""Statements about losses: Lemma 5.1, Theorem 5.2, the slopes of A.1, A.2 and 6.1, Section C."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import torch

from heirloom.results.statistics import mean
from heirloom.theory.sparse_coding.built import Kind, built_network
from heirloom.theory.sparse_coding.built_losses import SparseNetwork
from heirloom.theory.sparse_coding.model import SparseCoding, random_dictionary
from heirloom.theory.sparse_coding.network import Scores
from heirloom.theory.sparse_coding.statements import (
    coupling_entries,
    linear_contrastive_loss,
    linf_terms,
)
from heirloom_recipes.sparse_coding.figure_4 import intercept
from heirloom_recipes.sparse_coding.intervals import interval
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting, inputs_of, network_of


def lemma_5_1(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """The loss of D with a spread of eigenvalues less that of D = (tr D / d) I, paired, over 5 draws of D."""
    data = SparseCoding(d=50, k=3, zeta=0.0)
    x = data.features(setting.pairs, generator)
    other, P = x[torch.randperm(len(x), generator=generator)], random_dictionary(50, generator)
    rows = []
    for name, basis in (("P = I", torch.eye(50)), ("P random", P)):
        first, second = x @ basis, other @ basis
        flat = linear_contrastive_loss(torch.full((50,), 5.0), first, second)
        for spread in (0.1, 0.3, 0.9):
            losses = []
            for _ in range(5):
                D = 1 + spread * (2 * torch.rand(50, generator=generator) - 1)
                D = 5 * D * 50 / D.sum()
                losses.append(float((linear_contrastive_loss(D, first, second) - flat).double().mean()))
            rows.append({"basis": name, "spread": spread, "loss_above_flat": interval(losses)})
    return rows


def theorem_5_2(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Increments inside the gate (eps = b / (3 |U_h|)) and at Figure 4's eps, beside the theorem's terms."""
    figure, rows = setting.figure, []
    data = SparseCoding(figure.d, figure.k, figure.zeta)
    for m in figure.ms:
        found: dict[str, list[float]] = {}
        for _ in range(figure.repeats):
            x = data.features(figure.samples, generator)
            views = data.views(x, None, generator)
            network = built_network(figure.d, figure.nodes, m, generator, figure.kind)
            sparse = SparseNetwork(network, intercept(figure, m), figure.tau)
            inside = intercept(figure, m) / (network.strength * m**0.5) / 3
            entries = coupling_entries(sparse, x[0])
            figures = {f"gamma_{name}": value for name, value in asdict(entries).items()}
            for where, eps in (("inside", inside), ("figure_4", figure.eps)):
                losses = sparse.losses(*views, eps)
                figures[f"eps_{where}"] = eps
                for pair in ("similar", "dissimilar"):
                    added = getattr(losses, f"{pair}_adversarial") - getattr(losses, f"{pair}_clean")
                    figures[f"{pair}_{where}"] = float(added.double().mean())
                figures[f"term_k_{where}"] = eps * figure.k**1.5 / figure.d
                figures[f"term_alpha_{where}"] = eps * entries.mean_1**2 * figure.d**0.5
            for name, value in figures.items():
                found.setdefault(name, []).append(value)
        rows.append({"m": m, **{name: mean(values) for name, values in found.items()}})
    return rows


def slopes(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Theorems A.1 and A.2, Proposition 6.1 inside the gate: slope of the log increment of the absolute loss."""

    def increment(m: int, k: float, ratio: float, kind: Kind) -> float:
        here = replace(setting, data=replace(setting.data, k=k))
        U, b = network_of(here, m, kind, generator)
        x, z = inputs_of(here, generator)
        y = x.sum(1) + 0.1 * torch.randn(len(x), generator=generator)
        scores = Scores.of(U, b, torch.ones(here.nodes))
        gradient = scores.push(((z @ U).abs() >= b) * scores.a)
        direction = gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-30)
        residual = scores(z) - y
        moved = scores(z + ratio * here.c_b * residual.sign()[:, None] * direction) - y
        return float((moved.abs() - residual.abs()).double().mean())

    k, rows = setting.data.k, []
    theory = {"eps": 1.0, "k": 0.5}
    of_m: dict[Kind, float] = {"grouped": 0.5, "exact": 0.0}
    kinds: tuple[Kind, ...] = ("grouped", "exact")
    for kind in kinds:
        m = setting.ms[-1] if kind == "grouped" else 1
        curves: dict[str, list[tuple[float, float]]] = {
            "eps": [(r, increment(m, k, r, kind)) for r in (0.03, 0.1, 0.3)],
            "k": [(value, increment(m, value, 0.1, kind)) for value in setting.ks],
            "m": [(value, increment(value, k, 0.1, kind)) for value in setting.ms],
        }
        for axis, points in curves.items():
            name = f"{kind}, {'nodes of one feature' if kind == 'exact' and axis != 'm' else 'all m'}"
            rows.append(
                {
                    "nodes": name,
                    "axis": axis,
                    "slope": log_slope(points),
                    "theory": theory.get(axis, of_m[kind]),
                }
            )
    return rows


def linf(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    rows = []
    dictionaries = {
        "M = I": torch.eye(setting.data.d),
        "M random": random_dictionary(setting.data.d, generator),
    }
    for m in setting.ms:
        U, b = network_of(setting, m, "grouped", generator)
        x, _ = inputs_of(setting, generator)
        for name, M in dictionaries.items():
            lower, middle, upper = linf_terms(U, torch.ones(setting.nodes), x, b, M)
            outside = int(((middle < lower - 1e-3) | (middle > upper * (1 + 1e-5))).sum())
            figures = {"lower": mean(lower), "middle": mean(middle), "upper": upper, "outside": outside}
            rows.append({"dictionary": name, "m": m, **figures, "inputs": len(x)})
    return rows


def log_slope(points: list[tuple[float, float]]) -> float:
    """Least squares slope of log y in log x."""
    x, y = torch.tensor([[math.log(a), math.log(max(b, 1e-30))] for a, b in points], dtype=torch.float64).T
    return float(((x - x.mean()) * y).sum() / (x - x.mean()).square().sum())
