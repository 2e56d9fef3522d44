"""A whole evaluation: verdicts, repeats over seeds, audit, comparison; summary, page data and files."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heirloom.data.unit_images import Pair, digest_of_images, digest_of_pair, digested_once
from heirloom.evaluation.adaptive.job import check_parts, further
from heirloom.evaluation.askable import remarks_on
from heirloom.evaluation.audit import Finding, audit, audit_details, fresh_copy
from heirloom.evaluation.behaviour import model_facts
from heirloom.evaluation.comparison import (
    VERDICTS,
    check_comparable,
    compare,
    evaluation_details,
    spread_over_seeds,
    write_verdicts,
)
from heirloom.evaluation.one_mode import with_modes
from heirloom.evaluation.pass_dtype import AUTO, passes_in
from heirloom.evaluation.precision import dtype_named
from heirloom.evaluation.settings import EvaluationSettings
from heirloom.evaluation.verdicts import Evaluation, check_evaluable, evaluate
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.sharded import check_shardable
from heirloom.results.schema import DataUsed, Summary
from heirloom.runs import Progress, Run
from heirloom.runtime import distributed
from heirloom.runtime.errors import require
from heirloom.runtime.identity import deciding, digest, module_facts

Data = Pair
STAGE = "attack-dtype"


def check_before_work(
    model: nn.Module, data: Pair, settings: EvaluationSettings, against: Path | None
) -> None:
    """What two images show, or none: parts of the model and their stand-ins, FSDP, another evaluation."""
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    check_parts(model, settings.bpda, data[0][:2].to(place))
    if settings.fsdp:
        found = _encoders(model)
        require(bool(found), "fsdp", "used with a saved defence or a model of Transformers", "another model")
        for encoder in found:
            check_shardable(encoder.backbone)
    if against is not None:
        check_comparable(data, settings.threat, against)


def evaluate_job(
    model: nn.Module,
    data: Data,
    settings: EvaluationSettings,
    out: Path,
    *,
    resume: bool = False,
    against: Path | None = None,
    surrogate: nn.Module | None = None,
    progress: Progress | None = None,
) -> tuple[Summary, list[Finding]]:
    """Evaluate, audit, and write ``out``: verdicts/, verdicts.safetensors, summary.json, report.html.

    Under ``torchrun`` all processes measure; the first one audits and writes.
    """
    data, model = digested_once(data), with_modes(model)
    check_before_work(model, data, settings, against)
    wants_copy = settings.audit_examples and not settings.fsdp
    pristine = fresh_copy(model) if wants_copy else None  # before any call
    check_evaluable(model, data, settings.device)
    run = Run(out, run_facts(model, data, settings, surrogate), resume=resume)
    told = run.counting(progress)
    if settings.fsdp:
        for encoder in _encoders(model):
            encoder.shard(distributed.local_device(settings.device))
    seeds = range(settings.seed, settings.seed + settings.seeds)
    asked = settings
    if settings.attack_dtype == AUTO:
        name = passes_in(AUTO, run, STAGE, model, data, settings.device, settings.batch_size)
        settings = replace(settings, attack_dtype=name and dtype_named(name))
    evaluations = [_evaluated(model, data, settings, seed, run, told) for seed in seeds]
    evaluation = evaluations[0]
    details: dict[str, Any] = {"evaluation": evaluation_details(evaluation)}
    if said := remarks_on(model):
        details["evaluation"]["model"] = said
    if asked.attack_dtype == AUTO:
        details["evaluation"]["attack_dtype"] = run.stage(STAGE, dict)
    if settings.seeds > 1:
        details["evaluation"]["seeds"] = spread_over_seeds(evaluations)
    if against is not None:
        differences = compare(evaluation, data, against)
        details["evaluation"]["against"] = {"folder": str(against), "differences": differences}
    row = {"model": settings.name, **evaluation.row()}
    findings: list[Finding] = []
    if settings.audit_examples:
        details["audit"] = run.stage(
            "audit",
            lambda: _audited(model, data, settings, evaluation, surrogate, pristine, run.path("audit")),
        )
        findings = [Finding(**finding) for finding in details["audit"]["findings"]]
        extra = run.stage(
            "adaptive",
            lambda: (
                further(
                    model,
                    data,
                    settings,
                    findings,
                    evaluation,
                    folder=run.path("verdicts", "adaptive"),
                    surrogate=surrogate,
                    pristine=pristine,
                    progress=told,
                )
                if distributed.takes_part()
                else None
            ),
        )
        row |= extra.pop("row")
        details |= extra
    if distributed.rank() == 0:
        write_verdicts(out / VERDICTS, evaluation, data)
    summary = run.finish(
        "evaluation",
        [row],
        seed=settings.seed,
        device=settings.device,
        threat=settings.threat,
        data=data_used(settings.data, data),
        settings=_shown(asked),
        details=details,
    )
    return summary, findings


def _encoders(model: nn.Module) -> list[FrozenEncoder]:
    return [part for part in model.modules() if isinstance(part, FrozenEncoder)]


def _audited(
    model: nn.Module,
    data: Data,
    settings: EvaluationSettings,
    evaluation: Evaluation,
    surrogate: nn.Module | None,
    pristine: nn.Module | None,
    folder: Path,
) -> dict[str, Any] | None:
    if not distributed.takes_part():
        return None
    findings = audit(
        model,
        data,
        settings.threat,
        evaluation,
        examples=settings.audit_examples,
        seed=settings.seed,
        device=settings.device,
        batch_size=min(evaluation.batch, 64),
        surrogate=surrogate,
        pristine=pristine,
        folder=folder,
    )
    return audit_details(findings)


def run_facts(
    model: nn.Module, data: Data, settings: EvaluationSettings, surrogate: nn.Module | None
) -> dict[str, Any]:
    """What identifies an evaluation: the model as it is read, the images, the threat, every setting."""
    chosen = deciding(replace(settings, attack_dtype=None))
    threat = chosen.pop("threat")
    for free in ("name", "data"):  # what things are called decides nothing
        del chosen[free]
    return {
        "model": model_facts(model, data[0]),
        "surrogate": None if surrogate is None else module_facts(surrogate),
        "data": {"pixels": digest_of_images(data[0]), "labels": digest(data[1])},
        "threat": threat,
        "settings": {**chosen, "attack_dtype": str(settings.attack_dtype)},
    }


def data_used(name: str, data: Data) -> DataUsed:
    return DataUsed(name=name, train=0, test=len(data[1]), digest=digest_of_pair(data))


def _evaluated(
    model: nn.Module,
    data: Data,
    settings: EvaluationSettings,
    seed: int,
    run: Run,
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
        attack_dtype=_dtype_of(settings),
        compile=settings.compile,
        folder=run.path("verdicts", f"seed-{seed}"),
        resume=True,
        report=report,
    )


def _dtype_of(settings: EvaluationSettings) -> torch.dtype | None:
    return settings.attack_dtype if isinstance(settings.attack_dtype, torch.dtype) else None


def _shown(settings: EvaluationSettings) -> dict[str, Any]:
    shown = asdict(settings) | {"attacks": ", ".join(settings.attacks)}
    passes = settings.attack_dtype
    shown["attack_dtype"] = None if passes is None else str(passes).removeprefix("torch.")
    return {name: value for name, value in shown.items() if name not in ("device", "seed", "threat", "data")}
