"""Figure 4 read otherwise: the text's other readings, the recovered eps and b moved, the attack that sees gates, and
the increment over eps / c_b."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heirloom_recipes.sparse_coding.figure_4 import Figure4Setting, gate_width
from heirloom_recipes.sparse_coding.picked import picked

SEEN, OVER = "gate-aware attack", "over eps / c_b"
SEEN_EXACT = f"{SEEN}, exactly m per node"
SEEN_POINTS, OVER_POINTS = 60, 20  # pairs of a repeat, at most, that the gate-aware attack sees
RATIOS = (0.3, 1.0, 3.0, 10.0)  # eps over c_b
# each changes one thing
VARIANTS: dict[str, dict[str, Any]] = {
    "printed gate": {"gate": "printed"},
    "printed noise": {"noise": "zeta^2"},
    "frozen gates": {"frozen_gates": True},
    "exactly m per node": {"kind": "exact"},
}
# what was recovered by trial, moved: by how much the increments tell it
MOVED: dict[str, tuple[str, float]] = {
    "eps - 2 %": ("eps", 0.98),
    "eps + 2 %": ("eps", 1.02),
    "b - 3 %": ("b_scale", 0.97),
    "b + 3 %": ("b_scale", 1.03),
}


def variants(setting: Figure4Setting, repeats: int, chosen: str = "") -> list[tuple[str, Figure4Setting]]:
    """All readings of ``setting`` with ``repeats`` each, or those that ``chosen`` means."""
    fewer = replace(setting, repeats=repeats)
    found = [(name, replace(fewer, **change)) for name, change in VARIANTS.items()]
    found += [
        (name, replace(fewer, **{field: factor * getattr(fewer, field)}))
        for name, (field, factor) in MOVED.items()
    ]
    seen = replace(fewer, gate_aware_points=min(SEEN_POINTS, fewer.samples))
    found += [(SEEN, seen), (SEEN_EXACT, replace(seen, kind="exact"))]
    found += [
        (OVER, replace(fewer, ms=(m,), eps=ratio * gate_width(fewer, m), gate_aware_points=OVER_POINTS))
        for m in dict.fromkeys((fewer.ms[0], fewer.ms[-1]))
        for ratio in RATIOS
    ]
    names = chosen_readings(chosen)
    return [(name, reading) for name, reading in found if name in names]


def chosen_readings(chosen: str) -> list[str]:
    """The names of the readings that ``chosen`` means (:func:`picked`); empty: all."""
    return picked((*VARIANTS, *MOVED, SEEN, SEEN_EXACT, OVER), chosen, "readings")
