"""What ``pretrain`` does from images to summary.json and report.html."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from heirloom.data.labelled import ImageSource
from heirloom.evaluation.columns import measured, words
from heirloom.evaluation.pass_dtype import passes_in
from heirloom.heads.probe import with_head
from heirloom.inspection.filters import filter_details
from heirloom.models.preprocessor import parameter_count
from heirloom.pretraining.phases import check_before_training, pretrain
from heirloom.pretraining.settings import PretrainSettings
from heirloom.results.schema import Summary
from heirloom.runs import Progress, Run
from heirloom.runtime.choices import PassDtype
from heirloom.runtime.identity import deciding
from heirloom.threat import Threat


def pretrain_job(
    data: ImageSource,
    threat: Threat,
    settings: PretrainSettings,
    attacks: tuple[str, ...],
    out: Path,
    *,
    attack_dtype: PassDtype | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Pre-train, measure the classifier where there is one, draw the filters, write ``out``.

    ``attack_dtype``: as in :class:`heirloom.heads.probe.ProbeSettings`, of the attacks that measure.
    """
    seed, device = settings.training.seed, settings.training.device
    check_before_training(data, settings)
    chosen = deciding(settings)
    facts = {
        "data": data.facts(),
        "threat": asdict(threat),
        "attacks": attacks,
        "seed": chosen["training"].pop("seed"),
        "settings": chosen,
        "attack_dtype": attack_dtype,
    }
    run = Run(out, facts, resume=resume)
    told = run.counting(progress)

    def report(phase: str, done: int, total: int, losses: dict[str, float]) -> None:
        told(f"{phase} phase", done, total, words(losses))

    made = pretrain(data.train, threat, settings, out, test=data.test, resume=True, report=report)
    row: dict[str, Any] = {"pretrain": label(settings), "downstream": "-"}
    if made.head is not None:
        whole = with_head(made.encoder, made.head)
        row |= measured(
            whole,
            data,
            threat,
            attacks,
            seed=seed,
            device=device,
            attack_dtype=passes_in(attack_dtype, run, "attack-dtype", whole, data.test.pair, device, None),
            folder=run.path("verdicts"),
            told=told,
        )
    else:
        row["loss"] = list(made.history.values())[-1][-1]["loss"]
    return run.finish(
        "pretraining",
        [row],
        seed=seed,
        device=device,
        threat=threat,
        data=data.used(),
        settings={**_shown(settings), "parameters": parameter_count(made.encoder)},
        details={"history": made.history, "filters": filter_details([("encoder", out)])},
    )


def _shown(settings: PretrainSettings) -> dict[str, Any]:
    groups = ("training", "attack", "contrastive")
    shown = {name: value for name, value in asdict(settings).items() if name not in groups}
    for group in groups:
        shown |= asdict(getattr(settings, group))
    del shown["epochs"]  # of both phases together: clean_epochs and adversarial_epochs tell
    return {**shown, "augmentation": str(settings.augmentation or "none")}


def label(settings: PretrainSettings) -> str:
    """``clean supervised``, ``adversarial contrastive``, ...; ``(selected on test)`` where it was."""
    kind = "adversarial" if settings.adversarial_epochs else "clean"
    name = "trades" if settings.method == "trades" else f"{kind} {settings.method}"
    return name + (" (selected on test)" if settings.select_on_test else "")
