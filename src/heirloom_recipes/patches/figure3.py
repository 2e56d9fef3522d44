"""Figure 3 as rows, tables and drawings, from :mod:`heirloom_recipes.patches.phases`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heirloom.report import Figure, Section, Text
from heirloom.results.schema import Proportion
from heirloom.results.statistics import proportion
from heirloom.theory.patches.curves import COLUMNS
from heirloom_recipes.patches.phases import PhaseRun
from heirloom_recipes.patches.result import ExperimentResult, exact, page_tables, sampled, table

RULE = (
    "Rule, seed by seed, on a record every 10 steps. Clean: the first record with clean accuracy 1. "
    "Overtaken: the first record from which the robust correlation stays above the non-robust one to the "
    "end. Robust: the first record from which robust accuracy stays at least 0.95 to the end. In order: "
    "robust accuracy is 0 at Clean, and Clean < Overtaken < Robust."
)


def phase_experiment(runs: list[PhaseRun]) -> ExperimentResult:
    rows = [row for run in runs for row in _rows(run)]
    details = {
        "tables": [_verdict_table(runs), _seed_table(runs)],
        "panels": [_panel(run) for run in runs],
        "rule": RULE,
    }
    return ExperimentResult("phases", rows, details)


def _rows(run: PhaseRun) -> list[dict[str, Any]]:
    share = exact if run.data == "noiseless" else sampled
    last = {name: getattr(run.curves, name)[-1].tolist() for name in COLUMNS}
    return [
        {
            "training": run.training.kind,
            "objective": run.training.objective,
            "data": run.data,
            "filters": run.training.filters,
            "seed": seed,
            "clean": share(last["clean"][i], run.points),
            "robust": share(last["robust"][i], run.points),
            "robust_correlation": last["robust_correlation"][i],
            "non_robust_correlation": last["non_robust_correlation"][i],
            "clean_at": phases.clean,
            "overtaken_at": phases.overtaken,
            "robust_at": phases.robust,
            "in_order": phases.in_order,
        }
        for i, (seed, phases) in enumerate(zip(run.seeds, run.phases, strict=True))
    ]


def _label(run: PhaseRun) -> str:
    attacked = "standard" if run.training.kind == "standard" else f"adversarial, {run.training.objective}"
    return f"{run.data}, {attacked}, {run.training.filters} filters"


def _over_seeds(holds: Tensor | list[bool]) -> Proportion:
    return proportion(torch.as_tensor(holds))


def _verdict_table(runs: list[PhaseRun]) -> dict[str, Any]:
    columns = ["training", "seeds", "clean 1", "robust 0", "robust >= .95", "in order", "mean"]
    rows = []
    for run in runs:
        n = len(run.seeds)
        in_order = sum(phases.in_order for phases in run.phases)
        counts = (run.curves.clean[-1] == 1, run.ends_at_zero, run.ends_robust)
        cells = [f"{int(count.sum())}/{n}" for count in counts]
        order = f"{in_order}/{n}" if run.training.kind == "adversarial" else "-"
        rows.append([_label(run), n, *cells, order, f"{run.curves.robust[-1].mean():.3f}"])
    return table("Where training ends, in how many seeds; mean: robust accuracy over seeds", columns, rows)


def _seed_table(runs: list[PhaseRun]) -> dict[str, Any]:
    rows = [
        [
            f"{_label(run)}, seed {seed}",
            *(_shown(x) for x in (p.clean, p.overtaken, p.robust)),
            _yes(p.in_order),
        ]
        for run in runs
        if run.training.objective == "margin"
        for seed, p in zip(run.seeds, run.phases, strict=True)
    ]
    return table(
        "Landmarks, seed by seed (step)", ["training", "clean", "overtaken", "robust", "in order"], rows
    )


def _panel(run: PhaseRun) -> dict[str, Any]:
    """Mean and spread over seeds of every curve, and the mean landmarks."""
    panel: dict[str, Any] = {
        "title": _label(run),
        "seeds": len(run.seeds),
        "steps": run.curves.steps.tolist(),
    }
    for name in COLUMNS:
        values = getattr(run.curves, name)
        spread = values.std(1) if values.shape[1] > 1 else torch.zeros(len(values))
        panel[name] = {"mean": _rounded(values.mean(1)), "sd": _rounded(spread)}
    for name in ("clean", "overtaken", "robust"):
        found = [getattr(phases, name) for phases in run.phases if getattr(phases, name) is not None]
        panel[f"{name}_at"] = float(torch.tensor(found, dtype=torch.float64).median()) if found else None
    return panel


def phase_section(details: dict[str, Any]) -> Section:
    parts: list[Any] = []
    for panel in details["panels"]:
        over = (
            f"mean and one standard deviation over {panel['seeds']} seeds" if panel["seeds"] > 1 else "1 seed"
        )
        caption = f"{panel['title']}: {over}"
        marked = [name for name in ("clean", "overtaken", "robust") if panel[f"{name}_at"] is not None]
        if "adversarial" in panel["title"] and marked:
            caption += f"; dotted lines: median step of {', '.join(marked)}"
        parts.append(Figure(caption, _drawing(panel)))
    verdicts, landmarks = page_tables(details)
    parts = [verdicts, *parts, Text(details["rule"]), landmarks]
    return Section("How features are learned (Figure 3)", parts)


def _drawing(panel: dict[str, Any]) -> str:
    import numpy as np

    from heirloom.report.figures import COLOURS, data_uri, new_axes

    figure, (left, right) = new_axes(2, figsize=(7.6, 3.2))
    pairs = (
        (left, "robust_correlation", "robust features", COLOURS[0]),
        (left, "non_robust_correlation", "non-robust features", COLOURS[1]),
        (right, "clean", "clean accuracy", COLOURS[2]),
        (right, "robust", "robust accuracy", COLOURS[3]),
    )
    for axes, name, label, colour in pairs:
        mean, sd = np.array(panel[name]["mean"]), np.array(panel[name]["sd"])
        axes.plot(panel["steps"], mean, label=label, color=colour)
        low, high = np.clip(mean - sd, 0, 1), np.clip(mean + sd, 0, 1)
        axes.fill_between(panel["steps"], low, high, alpha=0.2, color=colour, linewidth=0)
    for axes, title in ((left, "normalised correlation"), (right, "accuracy")):
        axes.set(xlabel="step", ylabel=title, ylim=(-0.02, 1.02))
        axes.legend(frameon=False, fontsize=9)
        for name in ("clean", "overtaken", "robust") if "adversarial" in panel["title"] else ():
            if panel[f"{name}_at"] is not None:
                axes.axvline(panel[f"{name}_at"], color="0.4", linestyle=":", linewidth=1)
    figure.suptitle(panel["title"], fontsize=11)
    return data_uri(figure)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _shown(step: int | None) -> str:
    return "never" if step is None else str(step)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
