"""Feature-learning accuracy of any classifier on built data sets (Li and Li, arXiv 2410.08503, Definition 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from heirloom.analysis.feature_learning import feature_learned
from heirloom.data.labelled import ImageSource
from heirloom.data.pixels import to_unit_range
from heirloom.features.saved import SavedSplit, read_split
from heirloom.report.figures import COLOURS, data_uri, new_axes
from heirloom.report.page import Figure, Section, Table, page
from heirloom.results.schema import Proportion, Summary
from heirloom.results.statistics import proportion
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import renamed, require
from heirloom.runtime.identity import digest, module_facts


@dataclass(frozen=True)
class Checkpoint:
    """A classifier of [0, 1] pixels, and when it was kept: ``step`` counts the kept epochs of one training from 1; None
    where the model stands alone."""

    name: str
    model: nn.Module
    phase: str = ""
    epoch: int | None = None
    step: int | None = None


def measure_features(
    checkpoints: Sequence[Checkpoint],
    sets: Mapping[str, Path],
    out: Path,
    *,
    data: ImageSource | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress = silent,
) -> Summary:
    """What share of each set's images every checkpoint gives the class of the feature (``<set> features``) or of the
    image that the descent began at (``<set> start``), with its clean accuracy where ``data`` is given.

    Args:
        sets: name -> a folder that ``heirloom features build`` wrote; their test images are read.

    Raises:
        InputError: no set, no checkpoint, a folder that is none, labels that a model has no logit for.
    """
    require(bool(sets), "sets", "at least one data set of features", "none")
    require(bool(checkpoints), "models", "at least one", "none")
    splits = {}
    for name, folder in sets.items():
        with renamed(folder=name.replace("-", "_")):
            splits[name] = read_split(folder, "test")
    run = Run(out, _facts(checkpoints, splits, data), resume=resume)
    progress = run.counting(progress)
    rows = []
    for number, checkpoint in enumerate(checkpoints):
        progress("feature-learning accuracy", number, len(checkpoints), checkpoint.name)
        rows.append(run.stage(f"model-{number}", lambda c=checkpoint: _row(c, splits, data, device)))  # type: ignore[misc]
    progress("feature-learning accuracy", len(checkpoints), len(checkpoints), "")
    settings = {name: str(folder) for name, folder in sets.items()}
    used = None if data is None else data.used()
    return run.finish("feature-learning", rows, seed=0, device=device, data=used, settings=settings)


def _row(
    checkpoint: Checkpoint, splits: Mapping[str, SavedSplit], data: ImageSource | None, device: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"model": checkpoint.name, "phase": checkpoint.phase, "epoch": checkpoint.epoch}
    row["step"] = checkpoint.step
    if data is not None:
        row["clean"] = _share(checkpoint.model, data.test.images, data.test.labels, device)
    for name, split in splits.items():
        x = to_unit_range(split.pixels)
        row[f"{name} features"] = _share(checkpoint.model, x, split.columns["label"], device)
        begun = split.columns["start_label"] >= 0  # some begin at noise, which is of no class
        if bool(begun.any()):
            row[f"{name} start"] = _share(
                checkpoint.model, x[begun], split.columns["start_label"][begun], device
            )
    return row


def _share(model: nn.Module, x: Tensor, y: Tensor, device: str) -> Proportion:
    return proportion(feature_learned(model, (x, y), device=device))


def _facts(
    checkpoints: Sequence[Checkpoint], splits: Mapping[str, SavedSplit], data: ImageSource | None
) -> dict[str, Any]:
    sets = {name: digest(split.pixels, *split.columns.values()) for name, split in splits.items()}
    models = [module_facts(checkpoint.model) for checkpoint in checkpoints]
    return {"models": models, "sets": sets, "data": None if data is None else data.facts()}


def feature_learning_page(summary: Summary) -> str:
    """The page from its summary.json alone."""
    parts: list[Any] = [_curves(rows) for rows in _trainings(summary.rows).values() if len(rows) > 1]
    lead = (
        "Share of images with one kind of feature alone that a model gives the class of that feature: what it has "
        "learned of each kind."
    )
    return page("What was learned when", lead, [Section("Figures", [*parts, table(summary.rows)])], summary)


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A checkpoint by row, in %."""
    measures = [name for name in rows[0] if name not in ("model", "phase", "epoch", "step")]
    cells = []
    for row in rows:
        when = f" {row['phase']} {row['epoch'] or ''}".rstrip()
        shares = [str(Proportion.model_validate(row[name])) for name in measures]
        cells.append([f"{row['model']}{when}", *shares])
    caption = (
        "In % [95 % interval over images]; features: given the class of the feature; start: given the class of the "
        "image that the descent began at."
    )
    return Table(caption, ["model", *measures], cells)


def _trainings(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows along one training, by model."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["step"] is not None:
            found.setdefault(row["model"], []).append(row)
    return found


def _curves(rows: Sequence[dict[str, Any]]) -> Figure:
    figure, axes = new_axes()
    names = [name for name in rows[0] if name.endswith(" features")]
    for number, name in enumerate(names):
        shares = [row[name] for row in rows]
        steps = [row["step"] for row in rows]
        axes.plot(steps, [100 * share["value"] for share in shares], "o-", color=COLOURS[number], label=name)
        low, high = ([100 * share[end] for share in shares] for end in ("low", "high"))
        axes.fill_between(steps, low, high, color=COLOURS[number], alpha=0.2, linewidth=0)
    axes.set(xlabel="kept epoch of the training", ylabel="feature-learning accuracy (%)", ylim=(0, 101))
    axes.legend(frameon=False)
    first = next((row["step"] for row in rows if row["phase"] == "adversarial"), None)
    if first is not None:
        axes.axvline(first - 0.5, color="#777777", linestyle=":", linewidth=1)
    return Figure(
        f"{rows[0]['model']} along its training; dotted: adversarial training begins.", data_uri(figure)
    )
