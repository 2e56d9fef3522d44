"""The main job: a frozen foundation model and images in, a defended model with its figures out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.data.labelled import ImageSource
from heirloom.defence.checks import check_before_work
from heirloom.defence.choose import Trials, choose
from heirloom.defence.controls import (
    STAND_IN,
    keep_head,
    save_stand_in,
)
from heirloom.defence.description import run_facts, shown_settings
from heirloom.defence.remarks import remarks, unjudged, unpacked
from heirloom.defence.saved import LOCAL_ENCODER, DefendedModel
from heirloom.defence.settings import AUTO, DefendSettings
from heirloom.defence.shares import shares_of
from heirloom.defence.stages import Stages
from heirloom.evaluation.pass_dtype import AUTO as MEASURED
from heirloom.models.defended import OwnLogits
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.memory import at_most
from heirloom.results.schema import Summary
from heirloom.runs import Progress, Run
from heirloom.runtime import distributed
from heirloom.runtime.devices import torch_device
from heirloom.runtime.errors import require
from heirloom.runtime.identity import module_facts
from heirloom.runtime.kinds import kinds_checked


@kinds_checked()
def defend(
    encoder: FrozenEncoder,
    data: ImageSource,
    settings: DefendSettings,
    out: str | Path,
    *,
    head: nn.Module | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> tuple[DefendedModel, Summary]:
    """Train, measure, save. Under ``torchrun`` all processes train and measure, and the first one writes.

    ``head`` is kept as it is (:mod:`heirloom.heads.ready`): nothing but preprocessors is trained then, and no label
    is read but for the figures.

    ``out`` becomes a hub-style folder (config.json, model.safetensors, README.md) with summary.json, report.html
    and the work in progress under ``work/``. With ``resume``, finished stages are read from there and the
    interrupted one goes on; the numbers are those of a run that was never interrupted.

    Raises:
        InputError: ``out`` holds another run's work and ``resume`` is off, or was made with other settings.
    """
    known = head is None or isinstance(head, (nn.Linear, OwnLogits))
    require(known, "head", "None, an nn.Linear or OwnLogits", type(head).__name__)
    torch_device(settings.defence.training.device)
    out = Path(out)
    with at_most(settings.eval_batch_size):
        return _defend(encoder, data, settings, out, head, resume, progress)


def _defend(
    encoder: FrozenEncoder,
    data: ImageSource,
    settings: DefendSettings,
    out: Path,
    head: nn.Module | None,
    resume: bool,
    progress: Progress | None,
) -> tuple[DefendedModel, Summary]:
    training = settings.defence.training
    images = shares_of(data, settings)
    check_before_work(encoder, images, settings, head)
    facts = run_facts(encoder, data, settings)
    run = Run(out, {**facts, "head": module_facts(head)} if head else facts, resume=resume)
    told = run.counting(progress)
    if settings.fsdp:
        encoder.shard(distributed.local_device(training.device))
    seen = dict[str, Any]()
    if settings.defence.method == AUTO:
        trials = Trials(encoder, images, settings.threat, settings.head, settings.eval_batch_size, head)
        chosen, seen = choose(trials, settings.defence, run.path("trials"), told)
        settings = replace(settings, defence=chosen)
    method = settings.defence.method
    job = Stages(encoder, images, settings, run, told, head)
    measured = [run.stage(f"measured-{name}", partial(job.measured, name)) for name in settings.methods]
    model = job.model(method)
    beside = run.stage("controls", job.controls)
    rows = [found["row"] for found in measured]
    if beside:
        place = settings.methods.index("distil")
        rows[place:place] = [control["row"] for control in beside]
    details = {
        "classes": list(data.test.classes),
        "defences": [found["detail"] for found in measured],
        **seen,
    }
    verdicts = {found["defence"]: unpacked(found["right"]) for found in [*details["defences"], *beside]}
    details["beside"] = [{key: found[key] for key in ("defence", "right")} for found in beside]
    if settings.attack_dtype == MEASURED:
        kept = {name: run.stage(f"attack-dtype-{name}", dict) for name in settings.methods}
        details["attack_dtype"] = kept
    details["remarks"] = remarks(method, verdicts, settings.attacks)
    details["unjudged"] = unjudged(method, verdicts) if method != "identity" else []
    if settings.audit_examples:
        details["audit"] = run.stage("audit", lambda: job.audited(model))
    if distributed.rank() == 0:
        model.save_pretrained(out)
        if settings.is_encoder:
            keep_head(encoder, out / LOCAL_ENCODER)
        save_stand_in(model.preprocessor, out / STAND_IN, encoder, head, data.test.classes)
    summary = run.result() or run.finish(
        "defence",
        rows,
        seed=training.seed,
        device=training.device,
        threat=settings.threat,
        data=data.used(),
        settings=shown_settings(settings, encoder, data, len(images.validation), head),
        details=details,
    )
    model.summary = summary.model_dump(mode="json")
    if distributed.rank() == 0:
        model.generate_model_card().save(out / "README.md")
    distributed.wait()
    return model, summary
