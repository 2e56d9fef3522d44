"""What ``pretrain`` does from images to summary.json and report.html."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from heirloom.data.labelled import ImageSource
from heirloom.evaluation.columns import Progress, describe, measured, silent, words
from heirloom.heads.probe import with_head
from heirloom.inspection.filters import filter_details
from heirloom.models.preprocessor import parameter_count
from heirloom.pretraining.page import pretrain_page
from heirloom.pretraining.phases import pretrain
from heirloom.pretraining.settings import PretrainSettings
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom.runtime import distributed
from heirloom.threat import Threat


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
    stopwatch, told = stopwatch or Stopwatch(), progress or silent

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
        **asdict(settings.attack),
        **asdict(settings.contrastive),
        **asdict(settings.training),
        "data": describe(data),
        "threat": str(threat),
        "parameters": parameter_count(made.encoder),
    }
    del shown["epochs"]
    details = {"kind": "pretrain", "history": made.history, "filters": filter_details([("encoder", out)])}
    summary = stopwatch.summary(
        seed=settings.training.seed,
        device=settings.training.device,
        rows=[row],
        details=details,
        settings={**shown, "augmentation": str(settings.augmentation or "none")},
    )
    if distributed.rank() == 0:
        summary.write(out / "summary.json")
        pretrain_page(summary, out / "report.html")
    distributed.wait()
    return summary


def label(settings: PretrainSettings) -> str:
    """``clean supervised``, ``adversarial contrastive``, ...; ``(selected on test)`` where it was."""
    kind = "adversarial" if settings.adversarial_epochs else "clean"
    name = "trades" if settings.method == "trades" else f"{kind} {settings.method}"
    return name + (" (selected on test)" if settings.select_on_test else "")
