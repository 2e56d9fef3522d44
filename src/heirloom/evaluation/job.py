"""A whole evaluation: verdicts, repeats over seeds, audit, comparison; summary, page data and files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.evaluation.adaptive.job import further
from heirloom.evaluation.audit import Finding, audit, audit_details, fresh_copy
from heirloom.evaluation.comparison import (
    VERDICTS,
    check_comparable,
    compare,
    evaluation_details,
    spread_over_seeds,
    write_verdicts,
)
from heirloom.evaluation.page import evaluation_page
from heirloom.evaluation.verdicts import Evaluation, evaluate
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom.runtime import distributed
from heirloom.threat import Threat

Progress = Callable[[str, int, int, str], None]
Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Settings:
    """What ``heirloom evaluate`` was asked for; ``audit_examples`` 0: no audit; ``draws``
    None: 20 for a random model that is attacked adaptively.
    """

    name: str
    data: str
    threat: Threat
    attacks: tuple[str, ...]
    batch_size: int = 256
    seed: int = 0
    seeds: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    attack_dtype: torch.dtype | None = None
    audit_examples: int = 64
    limit: int | None = None
    adaptive: bool = False
    bpda: tuple[str, ...] = ()
    draws: int | None = None


def run(
    model: nn.Module,
    data: Data,
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    against: Path | None = None,
    surrogate: nn.Module | None = None,
    stopwatch: Stopwatch | None = None,
    progress: Progress | None = None,
) -> tuple[Summary, list[Finding]]:
    """Evaluate, audit, and write ``out``: verdicts/, verdicts.safetensors, summary.json, report.html.

    Under ``torchrun`` all processes measure; the first one audits and writes.
    """
    stopwatch = stopwatch or Stopwatch()
    if against is not None:
        check_comparable(data, settings.threat, against)  # before any time is spent
    pristine = fresh_copy(model) if settings.audit_examples else None  # before any call
    evaluations = [
        _evaluated(model, data, settings, seed, out, resume, progress)
        for seed in range(settings.seed, settings.seed + settings.seeds)
    ]
    evaluation = evaluations[0]
    details: dict[str, Any] = {"evaluation": evaluation_details(evaluation)}
    if settings.seeds > 1:
        details["evaluation"]["seeds"] = spread_over_seeds(evaluations)
    if against is not None:
        differences = compare(evaluation, data, against)
        details["evaluation"]["against"] = {"folder": str(against), "differences": differences}
    findings: list[Finding] = []
    if settings.audit_examples and distributed.rank() == 0:
        findings = audit(
            model,
            data,
            settings.threat,
            evaluation,
            examples=settings.audit_examples,
            seed=settings.seed,
            device=settings.device,
            batch_size=min(settings.batch_size, 64),
            surrogate=surrogate,
            pristine=pristine,
        )
        details["audit"] = audit_details(findings)
    row = {"model": settings.name, "threat": str(settings.threat), **evaluation.row()}
    if findings:
        extra = further(model, data, settings, findings, evaluation, out, surrogate, progress)
        row |= extra.pop("row")
        details |= extra
    summary = stopwatch.summary(
        seed=settings.seed, rows=[row], device=settings.device, settings=_shown(settings), details=details
    )
    if distributed.rank() == 0:
        write_verdicts(out / VERDICTS, evaluation, data)
        summary.write(out / "summary.json")
        evaluation_page(summary, out / "report.html")
    return summary, findings


def _evaluated(
    model: nn.Module,
    data: Data,
    settings: Settings,
    seed: int,
    out: Path,
    resume: bool,
    progress: Progress | None,
) -> Evaluation:
    which = f" (seed {seed})" if settings.seeds > 1 else ""

    def report(attack: str, done: int, total: int, robust: float) -> None:
        if progress is not None:
            progress(f"{attack}{which}", done, total, f"{100 * robust:.1f} % right so far")

    return evaluate(
        model,
        data,
        settings.threat,
        settings.attacks,
        batch_size=settings.batch_size,
        seed=seed,
        device=settings.device,
        attack_dtype=settings.attack_dtype,
        folder=out / "verdicts" / f"seed-{seed}",
        resume=resume,
        report=report,
    )


def _shown(settings: Settings) -> dict[str, Any]:
    shown = asdict(settings) | {"threat": str(settings.threat), "attacks": ", ".join(settings.attacks)}
    passes = settings.attack_dtype
    shown["attack_dtype"] = None if passes is None else str(passes).removeprefix("torch.")
    return {name: value for name, value in shown.items() if name not in ("device", "seed")}
