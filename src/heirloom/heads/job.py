"""What ``probe`` does from a frozen encoder to summary.json and report.html."""

from __future__ import annotations

from pathlib import Path

from heirloom.data.labelled import ImageSource
from heirloom.evaluation.columns import Progress, describe, measured, silent, words
from heirloom.heads.page import probe_page
from heirloom.heads.probe import ProbeSettings, check_encoder, probe, with_head
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom.threat import Threat


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
    stopwatch, told = stopwatch or Stopwatch(), progress or silent
    features = check_encoder(encoder, data.train)
    heads = probe(
        encoder,
        data.train,
        threat if adversarial else None,
        settings,
        out,
        resume=resume,
        report=lambda done, total, losses: told("adversarial head", done, total, words(losses)),
    )
    rows = []
    for downstream, head in (("clean", heads.clean), ("adversarial", heads.adversarial)):
        if head is not None:
            whole = with_head(encoder.cpu(), head)
            figures = measured(
                whole, data, threat, attacks, settings.adversarial.device, told, settings.head.seed
            )
            rows.append({"pretrain": name, "downstream": downstream, **figures})
    summary = stopwatch.summary(
        seed=settings.head.seed,
        device=settings.adversarial.device,
        rows=rows,
        details={"kind": "probe"},
        settings={
            "encoder": name,
            "features": features,
            "data": describe(data),
            "threat": str(threat),
            "attacks": ", ".join(attacks),
            "head": str(settings.head),
            "adversarial head": str(settings),
        },
    )
    summary.write(out / "summary.json")
    probe_page(summary, out / "report.html")
    return summary
