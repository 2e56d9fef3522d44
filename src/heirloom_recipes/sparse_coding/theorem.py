"""The statements of the paper that Figure 4 and Lemma 4.2's bounds do not touch, each measured.

    heirloom theory sparse-coding theorem --out runs/theorem

Equation (2); Lemmas F.3, F.4, 5.1; Theorem 5.2's two terms; the slopes of Theorems A.1, A.2 and Proposition
6.1; Section C's Linf form; membership in Definition 4.1; the symmetrised ReLU of Section B. The paper prints
no figures for them. About two minutes on one thread (``--tiny``: seconds).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from heirloom.runtime.randomness import generator_of
from heirloom_recipes.sparse_coding.gate_statements import (
    definition_4_1,
    equation_2,
    lemma_f3,
    lemma_f4,
    relu_in_place_of_gates,
)
from heirloom_recipes.sparse_coding.loss_statements import lemma_5_1, linf, slopes, theorem_5_2
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting


def theorem(setting: TheoremSetting, seed: int) -> list[Row]:
    """A row per statement and setting; every row has ``statement``."""
    rows: list[Row] = []
    for statement, measure in STATEMENTS.items():
        for row in measure(setting, generator_of(seed, "theorem", statement)):
            rows.append({"lab": "theorem", "statement": statement, **row})
    return rows


STATEMENTS: dict[str, Callable[[TheoremSetting, torch.Generator], list[Row]]] = {
    "Equation (2)": equation_2,
    "Lemma F.3": lemma_f3,
    "Lemma F.4": lemma_f4,
    "Lemma 5.1": lemma_5_1,
    "Theorem 5.2": theorem_5_2,
    "Theorems A.1, A.2, Proposition 6.1": slopes,
    "Section C (Linf)": linf,
    "Definition 4.1": definition_4_1,
    "Section B (symmetrised ReLU)": relu_in_place_of_gates,
}
