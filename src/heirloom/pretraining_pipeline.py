"""What ``pretrain``, ``probe`` and ``inspect`` do from images to summary.json and report.html."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heirloom.analysis.filters import first_layer, purity, purity_difference
from heirloom.data.images import ImageSource
from heirloom.encoders import FrozenEncoder
from heirloom.errors import InputError
from heirloom.evaluation import processes
from heirloom.evaluation.verdicts import Evaluation, evaluate
from heirloom.files import read_tensors
from heirloom.preprocessors import parameter_count
from heirloom.pretraining import pretrain
from heirloom.pretraining_settings import PretrainSettings
from heirloom.probing import ProbeSettings, check_encoder, probe, with_head
from heirloom.report.encoders import inspect_page, pretrain_page, probe_page
from heirloom.report.filters import animation_uri, mosaic_uri, strip
from heirloom.results import Stopwatch, Summary
from heirloom.threat import Threat

Progress = Callable[[str, int, int, str], None]  # (stage, done, in all, a few words)


def run_pretrain(
    data: ImageSource,
    threat: Threat,
    settings: PretrainSettings,
    attacks: tuple[str, ...],
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
) -> Summary:
    """Pre-train, measure the classifier where there is one, draw the filters, write ``out``."""
    stopwatch, told = stopwatch or Stopwatch(), progress or _silent

    def report(phase: str, done: int, total: int, losses: dict[str, float]) -> None:
        told(f"{phase} phase", done, total, words(losses))

    made = pretrain(data.train, threat, settings, out, test=data.test, resume=resume, report=report)
    row: dict[str, Any] = {"pretrain": label(settings), "downstream": "-"}
    if made.head is not None:
        whole = with_head(made.encoder, made.head)
        row |= measured(whole, data, threat, attacks, settings.training.device, told, settings.training.seed)
    else:
        row["loss"] = list(made.history.values())[-1][-1]["loss"]
    shown = {
        **{k: v for k, v in asdict(settings).items() if k not in ("training", "attack", "contrastive")},
        **asdict(settings.attack), **asdict(settings.contrastive), **asdict(settings.training),
        "data": describe(data), "threat": str(threat), "parameters": parameter_count(made.encoder),
    }  # fmt: skip
    del shown["epochs"]
    details = {"kind": "pretrain", "history": made.history, "filters": filter_details([("encoder", out)])}
    summary = stopwatch.summary(
        seed=settings.training.seed, device=settings.training.device, rows=[row], details=details,
        settings={**shown, "augmentation": str(settings.augmentation or "none")},
    )  # fmt: skip
    if processes.rank() == 0:
        summary.write(out / "summary.json")
        pretrain_page(summary, out / "report.html")
    processes.wait()
    return summary


def run_probe(
    encoder: FrozenEncoder,
    name: str,
    data: ImageSource,
    threat: Threat,
    settings: ProbeSettings,
    attacks: tuple[str, ...],
    out: Path,
    *,
    adversarial: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
) -> Summary:
    """Train the heads and measure each behind the encoder; one row a head."""
    stopwatch, told = stopwatch or Stopwatch(), progress or _silent
    features = check_encoder(encoder, data.train)
    heads = probe(
        encoder, data.train, threat if adversarial else None, settings, out, resume=resume,
        report=lambda done, total, losses: told("adversarial head", done, total, words(losses)),
    )  # fmt: skip
    rows = []
    for downstream, head in (("clean", heads.clean), ("adversarial", heads.adversarial)):
        if head is not None:
            whole = with_head(encoder.cpu(), head)
            figures = measured(
                whole, data, threat, attacks, settings.adversarial.device, told, settings.head.seed
            )
            rows.append({"pretrain": name, "downstream": downstream, **figures})
    summary = stopwatch.summary(
        seed=settings.head.seed, device=settings.adversarial.device, rows=rows, details={"kind": "probe"},
        settings={
            "encoder": name, "features": features, "data": describe(data), "threat": str(threat),
            "attacks": ", ".join(attacks), "head": str(settings.head), "adversarial head": str(settings),
        },
    )  # fmt: skip
    summary.write(out / "summary.json")
    probe_page(summary, out / "report.html")
    return summary


def run_inspect(
    encoders: list[tuple[str, FrozenEncoder]], out: Path, *, seed: int = 0, stopwatch: Stopwatch | None = None
) -> Summary:
    """Measures of the first layers with intervals, drawings side by side, and their evolution."""
    stopwatch = stopwatch or Stopwatch()
    filters = {name: first_layer(encoder) for name, encoder in encoders}
    rows: list[dict[str, Any]] = [
        {"encoder": name, "filters": list(w.shape), **plain(purity(w, seed=seed))}
        for name, w in filters.items()
    ]
    if len(filters) == 2:
        first, second = filters.values()
        rows.append({"encoder": "second minus first", **plain(purity_difference(first, second, seed=seed))})
    found = filter_details([(name, Path(name)) for name in filters], filters)
    summary = stopwatch.summary(
        seed=seed, rows=rows, details={"kind": "inspect", "filters": found},
        settings={"encoders": ", ".join(filters)},
    )  # fmt: skip
    summary.write(out / "summary.json")
    inspect_page(summary, out / "report.html")
    return summary


def measured(
    model: nn.Module, data: ImageSource, threat: Threat, attacks: tuple[str, ...], device: str,
    told: Progress, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """``clean``, each attack's column, and ``robust``: the last, which is the worst case over all."""
    return figures_of(verdicts(model, data, threat, attacks, device, told, seed))


def verdicts(
    model: nn.Module, data: ImageSource, threat: Threat, attacks: tuple[str, ...], device: str,
    told: Progress, seed: int,
) -> Evaluation:  # fmt: skip
    def report(attack: str, done: int, total: int, robust: float) -> None:
        told(f"evaluate: {attack}", done, total, f"robust {100 * robust:.1f} %")

    pair = (data.test.images, data.test.labels)
    return evaluate(model, pair, threat, attacks, device=device, seed=seed, report=report)


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    row = evaluation.row()
    return {**row, "robust": list(row.values())[-1]}


def filter_details(
    runs: list[tuple[str, Path]], filters: dict[str, torch.Tensor] | None = None
) -> list[dict[str, Any]]:
    """Drawings of each encoder's first layer and, where its run kept them, of every epoch's."""
    found = []
    for name, folder in runs:
        stages = evolution(folder)
        current = filters[name] if filters is not None else stages[-1][1]
        detail: dict[str, Any] = {"name": name, "mosaic": mosaic_uri(current)}
        if len(stages) > 1:
            detail["strip"] = strip(stages)
            detail["animation"] = animation_uri([w for _, w in stages])
            detail["measures"] = [{"stage": stage, **plain(purity(w))} for stage, w in stages]
        found.append(detail)
    return found


def evolution(folder: Path) -> list[tuple[str, torch.Tensor]]:
    """(stage, filters) of every epoch that the run in ``folder`` kept, oldest first; ``folder`` may be the run
    or its encoder."""
    kept = folder / "filters"
    if not kept.is_dir():
        kept = folder.parent / "filters"
    stages = []
    for path in sorted(kept.glob("*.safetensors")):
        tensors, metadata = read_tensors(path)
        if "filters" not in tensors:
            raise InputError(f"{path} must hold the filters of an epoch, but it does not.")
        stages.append((f"{metadata['phase']} {metadata['epoch']}", tensors["filters"]))
    return stages


def label(settings: PretrainSettings) -> str:
    """``clean supervised``, ``adversarial contrastive``, ...; ``(selected on test)`` where it was."""
    kind = "adversarial" if settings.adversarial_epochs else "clean"
    name = "trades" if settings.method == "trades" else f"{kind} {settings.method}"
    return name + (" (selected on test)" if settings.select_on_test else "")


def describe(data: ImageSource) -> str:
    shape = " x ".join(map(str, data.train.shape))
    return f"{data.name}: {len(data.train)} training, {len(data.test)} test images of {shape}"


def plain(intervals: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in intervals.items()}


def words(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())


def _silent(stage: str, done: int, total: int, words: str) -> None:
    pass
