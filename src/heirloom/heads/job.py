"""What ``probe`` does from a frozen encoder to summary.json and report.html."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from heirloom.data.labelled import ImageSource
from heirloom.evaluation.columns import measured, words
from heirloom.evaluation.pass_dtype import passes_in
from heirloom.heads.probe import ProbeSettings, check_encoder, probe, with_head
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.schema import Summary
from heirloom.runs import Progress, Run
from heirloom.runtime.identity import deciding, module_facts
from heirloom.threat import Threat


def probe_job(
    encoder: FrozenEncoder,
    data: ImageSource,
    threat: Threat,
    settings: ProbeSettings,
    attacks: tuple[str, ...],
    out: Path,
    *,
    adversarial: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Train the heads and measure each behind the encoder; one row a head."""
    seed, device = settings.head.seed, settings.adversarial.device
    features = check_encoder(encoder, data.train)
    name, chosen = encoder.settings.source, deciding(settings)
    facts = {
        "encoder": module_facts(encoder),
        "data": data.facts(),
        "threat": asdict(threat),
        "attacks": attacks,
        "adversarial": adversarial,
        "seed": chosen["head"].pop("seed"),
        "settings": chosen,
    }
    run = Run(out, facts, resume=resume)
    told = run.counting(progress)
    heads = probe(
        encoder,
        data.train,
        threat if adversarial else None,
        settings,
        run.path(),
        resume=True,
        report=lambda done, total, losses: told("adversarial head", done, total, words(losses)),
    )
    rows = []
    for downstream, head in (("clean", heads.clean), ("adversarial", heads.adversarial)):
        if head is not None:
            whole, size = with_head(encoder.cpu(), head), settings.eval_batch_size
            asked, stage = settings.attack_dtype, f"attack-dtype-{downstream}"
            figures = run.stage(
                f"measured-{downstream}",
                partial(
                    measured,
                    whole,
                    data,
                    threat,
                    attacks,
                    seed=seed,
                    device=device,
                    batch_size=size,
                    attack_dtype=passes_in(asked, run, stage, whole, data.test.pair, device, size),
                    folder=run.path("verdicts", downstream),
                    told=told,
                ),
            )
            rows.append({"pretrain": name, "downstream": downstream, **figures})
    return run.finish(
        "probe",
        rows,
        seed=seed,
        device=device,
        threat=threat,
        data=data.used(),
        settings={
            "encoder": name,
            "features": features,
            "attacks": ", ".join(attacks),
            **{
                f"{group}: {key}": value
                for group in ("head", "adversarial", "attack")
                for key, value in chosen[group].items()
            },
        },
    )
