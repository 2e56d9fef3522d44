"""Statements about losses: Lemma 5.1, Theorem 5.2, Section C. Each call is one seed."""

from __future__ import annotations

from dataclasses import asdict

import torch

from heirloom.theory.sparse_coding.built import built_network
from heirloom.theory.sparse_coding.built_losses import SparseNetwork
from heirloom.theory.sparse_coding.model import SparseCoding, random_dictionary
from heirloom.theory.sparse_coding.statements import (
    coupling_entries,
    linear_contrastive_loss,
    linf_terms,
)
from heirloom_recipes.sparse_coding.figure_4 import intercept
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting, inputs_of, network_of


def lemma_5_1(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """The loss of D with a spread of eigenvalues less that of D = (tr D / d) I, paired; D, P and the data drawn."""
    data = SparseCoding(d=50, k=3, zeta=0.0)
    x = data.features(setting.pairs, generator)
    other, P = x[torch.randperm(len(x), generator=generator)], random_dictionary(50, generator)
    rows = []
    for name, basis in (("P = I", torch.eye(50)), ("P random", P)):
        first, second = x @ basis, other @ basis
        flat = linear_contrastive_loss(torch.full((50,), 5.0), first, second)
        for spread in (0.1, 0.3, 0.9):
            D = 1 + spread * (2 * torch.rand(50, generator=generator) - 1)
            D = 5 * D * 50 / D.sum()
            above = float((linear_contrastive_loss(D, first, second) - flat).double().mean())
            rows.append({"basis": name, "spread": spread, "loss_above_flat": above})
    return rows


def theorem_5_2(setting: TheoremSetting, generator: torch.Generator) -> list[Row]:
    """Increments inside the gate (eps = b / (3 |U_h|)) and at Figure 4's eps, beside the theorem's terms."""
    figure, rows = setting.figure, list[Row]()
    data = SparseCoding(figure.d, figure.k, figure.zeta)
    for m in figure.ms:
        x = data.features(figure.samples, generator)
        views = data.views(x, None, generator)
        network = built_network(figure.d, figure.nodes, m, generator, figure.kind)
        sparse = SparseNetwork(network, intercept(figure, m), figure.tau)
        inside = intercept(figure, m) / (network.strength * m**0.5) / 3
        entries = coupling_entries(sparse, x[0])
        row: Row = {"m": m} | {f"gamma_{name}": value for name, value in asdict(entries).items()}
        for where, eps in (("inside", inside), ("figure_4", figure.eps)):
            losses = sparse.losses(*views, eps)
            row[f"eps_{where}"] = eps
            for pair in ("similar", "dissimilar"):
                added = getattr(losses, f"{pair}_adversarial") - getattr(losses, f"{pair}_clean")
                row[f"{pair}_{where}"] = float(added.double().mean())
            row[f"term_k_{where}"] = eps * figure.k**1.5 / figure.d
            row[f"term_alpha_{where}"] = eps * entries.mean_1**2 * figure.d**0.5
        rows.append(row)
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
            ends = {"lower": float(lower.mean()), "middle": float(middle.mean()), "upper": upper}
            rows.append({"dictionary": name, "m": m, **ends, "outside": outside, "inputs": len(x)})
    return rows
