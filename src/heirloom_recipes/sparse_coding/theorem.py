"""The statements of the paper that Figure 4 and Lemma 4.2's bounds do not touch, each measured.

    heirloom theory sparse-coding theorem --out runs/theorem

Equation (2); Lemmas F.3, F.4, 5.1; Theorem 5.2's two terms; Theorems A.1, A.2 and Proposition 6.1 with their slopes in
eps, k and m, and their premises; Section C's Linf form; membership in Definition 4.1; the symmetrised ReLU of Section
B. The paper prints no figures for them. Every figure has its 95 % interval over seeds, in each of which everything is
drawn anew. A rate has the paper's beside it, and the closed form's at these sizes where there is one (``verdict``).
About five minutes on one thread (``--tiny``: seconds).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from heirloom.runtime.randomness import generator_of
from heirloom_recipes.sparse_coding.downstream_statements import proposition_6_1, sample_of_the_head
from heirloom_recipes.sparse_coding.gate_statements import (
    definition_4_1,
    equation_2,
    lemma_f3,
    lemma_f4,
    relu_in_place_of_gates,
)
from heirloom_recipes.sparse_coding.intervals import interval
from heirloom_recipes.sparse_coding.loss_statements import lemma_5_1, linf, theorem_5_2
from heirloom_recipes.sparse_coding.picked import picked
from heirloom_recipes.sparse_coding.purity_statements import premises, theorem_a2, theorem_a2_slopes
from heirloom_recipes.sparse_coding.slopes import verdict
from heirloom_recipes.sparse_coding.supervised_statements import theorem_a1
from heirloom_recipes.sparse_coding.theorem_setting import Row, TheoremSetting

# columns that say what a row is about; the others are measured
ABOUT = {"m", "c_b", "eps_over_c_b", "spread", "pure_nodes", "theory"}
Told = Callable[[int, int, str], None]


def theorem(setting: TheoremSetting, seed: int, told: Told = lambda done, of, name: None) -> list[Row]:
    """A row per statement and setting; every row has ``statement``, every figure an interval over the seeds."""
    rows: list[Row] = []
    chosen = chosen_statements(setting.statements)
    for number, statement in enumerate(chosen):
        told(number, len(chosen), statement)
        measure = STATEMENTS[statement]
        seeds = range(seed, seed + setting.seeds)
        found = [measure(setting, generator_of(each, "theorem", statement)) for each in seeds]
        rows += [{"lab": "theorem", "statement": statement, **row} for row in over_seeds(found)]
    return rows


def chosen_statements(asked: str) -> list[str]:
    """The statements that ``asked`` means (:func:`picked`); empty: all."""
    return picked(STATEMENTS, asked, "statements")


def over_seeds(found: Sequence[Sequence[Row]]) -> list[Row]:
    """One row for the same row of every seed: numbers as intervals, counts added, yes only where all say yes; where
    a rate or a value is claimed (``theory``), what to call the comparison."""
    rows = []
    for same in zip(*found, strict=True):
        row = {name: _together(name, [row[name] for row in same]) for name in same[0]}
        rows.append(row | {"verdict": verdict(row)} if "theory" in row else row)
    return rows


def _together(name: str, values: list[Any]) -> Any:
    if name in ABOUT or isinstance(values[0], str):
        assert len(set(values)) == 1, (name, values)
        return values[0]
    if isinstance(values[0], bool):
        return all(values)
    if isinstance(values[0], float) and any(math.isnan(value) for value in values):
        return "not above 0 in every seed"
    return sum(values) if isinstance(values[0], int) else interval(values)


STATEMENTS: dict[str, Callable[[TheoremSetting, torch.Generator], list[Row]]] = {
    "Equation (2)": equation_2,
    "Lemma F.3": lemma_f3,
    "Lemma F.4": lemma_f4,
    "Lemma 5.1": lemma_5_1,
    "Theorem 5.2": theorem_5_2,
    "Theorem A.1": theorem_a1,
    "Theorem A.2": theorem_a2,
    "Theorem A.2, slopes": theorem_a2_slopes,
    "Theorems A.1 and A.2, premises": premises,
    "Proposition 6.1": proposition_6_1,
    "Proposition 6.1, sample of the head": sample_of_the_head,
    "Section C (Linf)": linf,
    "Definition 4.1": definition_4_1,
    "Section B (symmetrised ReLU)": relu_in_place_of_gates,
}
