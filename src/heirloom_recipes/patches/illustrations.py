"""Figures 1 and 2 of Li and Li, arXiv 2410.08503, computed: the patch data, its representatives, a perturbation.

``heirloom reproduce features/figure-1``, ``features/figure-2``: a second each. The scale changes nothing. The text at
hand lost its figures: what they hold is inferred from the sentences that refer to them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.results.schema import Summary
from heirloom.runtime.randomness import generator_of
from heirloom.theory.patches.attack import model_free_perturbation
from heirloom.theory.patches.model import PatchDistribution, sample_patches
from heirloom.theory.patches.network import PatchCNN, hand_built
from heirloom_recipes.illustrations import Panel, finish, heat

SHOWN = PatchDistribution(patches=16, robust_patches=2)  # few enough to be told apart by eye
EPS, POINTS, GAMMA, FILTERS = 1.05, 200, 5.0, 30
INFERRED = "The published figure was not at hand; what it shows is inferred from the text."


def figure(name: str, scale: str, out: Path, *, seed: int = 0, **_: Any) -> Summary:
    """``figure-1``: data points of two classes; ``figure-2``: representatives and Theorem 4.3's perturbation."""
    made = {"figure-1": _data, "figure-2": _representatives}[name](seed)
    return finish(out, name, seed, **made)


def _data(seed: int) -> dict[str, Any]:
    sample = sample_patches(SHOWN, 2, generator_of(seed, "figure-1"))
    panels = [_panel(f"a point of class {int(y) + 1}", x) for x, y in zip(sample.x, sample.y, strict=True)]
    rows = [
        {"feature": "robust u", "patches": SHOWN.robust_patches, "strength": SHOWN.alpha},
        {"feature": "non-robust v", "patches": SHOWN.patches - SHOWN.robust_patches, "strength": SHOWN.beta},
    ]
    says = "Few patches carry the strong robust feature of the class, all others its weak non-robust one."
    return _made("Patch data (Figure 1)", says, panels, rows)


def _representatives(seed: int) -> dict[str, Any]:
    generator = generator_of(seed, "figure-2")
    sample = sample_patches(replace(SHOWN, patches=140, robust_patches=1), POINTS, generator)
    shown = sample_patches(SHOWN, 1, generator)
    views = [
        {
            "as it is": points.x,
            "robust features only": points.representative("robust"),
            "non-robust features only": points.representative("non-robust"),
            "perturbed (Theorem 4.3)": points.x + model_free_perturbation(points, EPS, generator),
        }
        for points in (shown, sample)
    ]
    panels = [_panel(name, x[0]) for name, x in views[0].items()]
    rows = [
        {"network": f"{kind} filters only"}
        | {name: _accuracy(kind, x, sample.y) for name, x in views[1].items()}
        for kind in ("robust", "non-robust")
    ]
    says = (
        "The same point whole, with one kind of feature (Definition 4.1), and perturbed without any model. A network "
        "whose filters are robust features alone keeps its class under the perturbation; one of non-robust filters "
        "takes the other class."
    )
    return _made("Feature representatives and a perturbation (Figure 2)", says, panels, rows)


@torch.no_grad()
def _accuracy(kind: str, x: Tensor, y: Tensor) -> float:
    network = PatchCNN(hand_built(PatchDistribution(), kind, GAMMA, FILTERS))
    return float((network(x).argmax(1) == y).float().mean())


def _panel(title: str, x: Tensor) -> Panel:
    return heat(title, "patch", "coordinate: u 1 to 5, v 1 to 5, rest", x.T)


def _made(title: str, says: str, panels: list[Panel], rows: list[dict[str, Any]]) -> dict[str, Any]:
    settings = {
        "classes": SHOWN.classes,
        "alpha": SHOWN.alpha,
        "beta": SHOWN.beta,
        "eps": EPS,
        "inferred": INFERRED,
    }
    return {"title": title, "says": says, "panels": panels, "rows": rows, "settings": settings}
