"""Table 1 and Figures 4 and 5: what standard and adversarial training learn of each kind of feature.

``heirloom reproduce features/table-1 --scale small --data mnist=FOLDER --data cifar10=FOLDER``. Cost and what came of
it: docs/features.md. For each data set and seed: the networks of the next seed give the representative data sets (its
standard one the non-robust, its adversarial one the robust), and every kept epoch of the seed's own networks is asked
for their labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from heirloom.analysis.feature_learning import feature_learned
from heirloom.data.pixels import to_unit_range
from heirloom.evaluation.verdicts import evaluate
from heirloom.features.examples import grid_of
from heirloom.features.saved import SavedSplit
from heirloom.pretraining.kept import kept_epochs
from heirloom.results.schema import Summary
from heirloom.results.statistics import student
from heirloom_recipes.claims import NEAR_ZERO, below, case, claim, gaps
from heirloom_recipes.features.laboratory import KINDS, Laboratory
from heirloom_recipes.features.open import finish, open_laboratory
from heirloom_recipes.features.paper import TABLE_1

MEASURES = ("clean", "robust", "non-robust features", "robust features")
TRAININGS = tuple(KINDS)


def table_1(scale: str, out: Path, **options: Any) -> Summary:
    """Ours beside the paper's, with intervals over seeds; the curves; the pictures; the claims."""
    laboratory = open_laboratory(scale, out, **options)
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    grids: list[dict[str, Any]] = []
    everything: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for data in laboratory.datasets:
        found = {
            training: [_measured(laboratory, data, training, seed) for seed in laboratory.seeds]
            for training in TRAININGS
        }
        everything[data] = found
        rows += [_row(data, training, found[training]) for training in TRAININGS]
        curves += [
            {"data": data, "training": t, "seeds": [one["epochs"] for one in found[t]]} for t in TRAININGS
        ]
        grids.append({"data": data, **_grid(laboratory, data)})
    details = {
        "claims": _claims(everything),
        "curves": curves,
        "grids": grids,
        "quality": _quality(laboratory),
    }
    return finish(laboratory, "table-1", rows, details)


def _measured(laboratory: Laboratory, data: str, training: str, seed: int) -> dict[str, Any]:
    """The figures of one network: at its end, and the feature learning accuracy at every kept epoch."""

    def made() -> dict[str, Any]:
        folder = laboratory.network(data, training, seed)
        end = laboratory.classifier(folder)
        epochs = [
            {"epoch": kept.epoch, **_learned(laboratory, data, seed, laboratory.classifier(kept.folder))}
            for kept in kept_epochs(folder)
        ]
        return {
            "end": {**_accuracy(laboratory, data, end), **_learned(laboratory, data, seed, end)},
            "epochs": epochs,
        }

    return laboratory.run.stage(f"table-1-{data}-{training}-{seed}", made)


def _accuracy(laboratory: Laboratory, data: str, model: torch.nn.Module) -> dict[str, float]:
    scale = laboratory.scale
    test = laboratory.data(data).test
    clean = feature_learned(model, (test.images, test.labels), device=laboratory.device).double().mean()
    some = test.select(torch.arange(min(scale.attacked, len(test))))
    verdicts = evaluate(
        model,
        (some.images, some.labels),
        laboratory.threat(data),
        (scale.attack,),
        device=laboratory.device,
        seed=laboratory.seed,
    )
    return {"clean": float(clean), "robust": float(list(verdicts.correct.values())[-1].double().mean())}


def _learned(laboratory: Laboratory, data: str, seed: int, model: torch.nn.Module) -> dict[str, float]:
    """Feature learning accuracy on both sets, and the share of each that is given to the start's class instead."""
    found = {}
    for training, kind in KINDS.items():
        pairing, built, images = laboratory.representative(data, training, laboratory.reference(seed))
        x = to_unit_range(built.pixels)
        for name, labels in (("features", pairing.label), ("start", images.labels[pairing.start])):
            learned = feature_learned(model, (x, labels), device=laboratory.device)
            found[f"{kind} {name}"] = float(learned.double().mean())
    return found


def _row(data: str, training: str, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"data": data, "training": training}
    for measure in (*MEASURES, "non-robust start", "robust start"):
        row[measure] = student([one["end"][measure] for one in seeds], 0.0, 1.0)
    return {**row, "paper": TABLE_1[data, training]}


def _claims(found: dict[str, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    def values(data: str, training: str, measure: str) -> list[float]:
        return [one["end"][measure] for one in found[data][training]]

    def compared(higher: tuple[str, str], lower: tuple[str, str]) -> list[dict[str, Any]]:
        return [case(data, gaps(values(data, *higher), values(data, *lower))) for data in found]

    robust, other = "robust features", "non-robust features"
    return [
        claim(
            "standard training learns non-robust more than robust features",
            compared(("standard", other), ("standard", robust)),
        ),
        claim(
            "adversarial training learns robust more than non-robust features",
            compared(("adversarial", robust), ("adversarial", other)),
        ),
        claim(
            "adversarial training learns less of the non-robust features than standard training",
            compared(("standard", other), ("adversarial", other)),
        ),
        claim(
            "adversarial training learns more of the robust features than standard training",
            compared(("adversarial", robust), ("standard", robust)),
        ),
        claim(
            f"standard training is not robust (below {100 * NEAR_ZERO:g} %)",
            [case(data, below(NEAR_ZERO, values(data, "standard", "robust"))) for data in found],
        ),
        claim(
            "adversarial training is more robust", compared(("adversarial", "robust"), ("standard", "robust"))
        ),
    ]


def _grid(laboratory: Laboratory, data: str) -> dict[str, Any]:
    """Original, start, robust and non-robust version of the same images, by the first seed's networks."""
    seed = laboratory.seeds[0]
    pairing, robust, images = laboratory.representative(data, "adversarial", seed)
    other = laboratory.representative(data, "standard", seed)[1]
    beside = SavedSplit(other.pixels, {"relative_error": other.relative_error})
    return grid_of(images, pairing, robust, ["robust version", "non-robust version"], beside)


def _quality(laboratory: Laboratory) -> list[dict[str, Any]]:
    """Relative errors and distances of the sets, over seeds."""
    rows = []
    for data in laboratory.datasets:
        for training, kind in KINDS.items():
            sets = [laboratory.representative(data, training, seed)[1] for seed in laboratory.seeds]
            row: dict[str, Any] = {"data": data, "features": kind}
            for measure in ("start_error", "relative_error", "distance"):
                row[measure] = student([float(getattr(built, measure).mean()) for built in sets])
            rows.append(row)
    return rows
