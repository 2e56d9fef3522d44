"""The phase diagrams of :mod:`heirloom_recipes.patches.regime` as a section of a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from heirloom.report import Figure, Section, Text
from heirloom.theory.patches.bounds import regime
from heirloom_recipes.patches.result import page_tables

NAMES = {"alpha": "alpha", "beta": "beta", "patches": "P", "robust_patches": "J_R", "rho": "rho"}
LINES = (("slack", "#E8000B", "-"), ("vulnerability", "#D55E00", "--"), ("dominance", "#0072B2", "-."))


def regime_section(details: dict[str, Any]) -> Section:
    text = (
        "Where the non-robust features can be attacked (vulnerability), adversarial training can only win if a "
        "network of robust features alone withstands every attack (slack > 1); it is only needed where the "
        "non-robust features dominate. Both claims of the paper hold at once between the dashed and the solid "
        "line, on the side of the dash-dotted one where the non-robust features dominate; the dotted line is "
        "eps = beta, which that region never reaches. Small rho ends the polynomial region early, which the "
        "inequality does not know."
    )
    figures = [Figure(_caption(panel), _drawing(panel, details)) for panel in details["panels"]]
    return Section("Where robust training can succeed", [Text(text), *page_tables(details), *figures])


def _caption(panel: dict[str, Any]) -> str:
    return (
        f"{NAMES[panel['axis']]} against eps: robust accuracy after adversarial (left) and standard (right) "
        "training. Solid: slack = 1; dashed: vulnerability = 1; dash-dotted: dominance = 1; dotted: eps = "
        "beta."
    )


def _drawing(panel: dict[str, Any], details: dict[str, Any]) -> str:
    from heirloom.report.figures import data_uri, new_axes

    figure, axes = new_axes(2, figsize=(7.6, 3.4))
    shape = (len(panel["values"]), len(panel["eps"]))
    image: Any = None
    for axis, title in zip(axes, ("adversarial", "standard"), strict=True):
        grid = np.array(panel[title]).reshape(shape)
        rows = np.arange(len(panel["values"]))
        image = axis.pcolormesh(panel["eps"], rows, grid, vmin=0, vmax=1, cmap="cividis", shading="nearest")
        _conditions(axis, panel, details["base"])
        axis.set(xlabel="eps", title=f"{title} training")
        axis.set_yticks(rows, [f"{value:g}" for value in panel["values"]])
    axes[0].set_ylabel(NAMES[panel["axis"]])
    axes[1].set_yticklabels([])
    figure.colorbar(image, ax=axes, label="robust accuracy")
    return data_uri(figure)


def _conditions(axis: Any, panel: dict[str, Any], base: dict[str, float]) -> None:
    """The lines on which a ratio is 1, and eps = beta; rows are drawn at 0, 1, 2, ..."""
    eps = np.linspace(min(panel["eps"]) - 0.025, max(panel["eps"]) + 0.025, 200)
    height = np.linspace(-0.5, len(panel["values"]) - 0.5, 200)
    value = np.interp(height, np.arange(len(panel["values"])), panel["values"])
    setting: dict[str, Any] = {**base, panel["axis"]: value[:, None]}
    keys = ("patches", "robust_patches")
    ratios = regime(setting["alpha"], setting["beta"], eps[None], *(setting[key] for key in keys))
    for name, colour, style in LINES:
        ratio = np.broadcast_to(getattr(ratios, name), (200, 200))
        if ratio.min() < 1 < ratio.max():
            axis.contour(
                eps,
                height,
                np.minimum(ratio, 10),
                levels=[1.0],
                colors="white",
                linewidths=3.2,
                linestyles="-",
            )
            axis.contour(
                eps,
                height,
                np.minimum(ratio, 10),
                levels=[1.0],
                colors=colour,
                linewidths=1.6,
                linestyles=style,
            )
    limit = value if panel["axis"] == "beta" else np.full(200, base["beta"])
    axis.plot(limit, height, color="white", linewidth=3.2)
    axis.plot(limit, height, color="0.3", linestyle=":", linewidth=1.6)
    axis.set(xlim=(eps[0], eps[-1]), ylim=(height[0], height[-1]))
