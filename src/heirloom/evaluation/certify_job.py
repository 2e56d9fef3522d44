"""A whole certification: certificates, figures over radii, summary, page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import nn

from heirloom.data.unit_images import Pair, digest_of_images, digest_of_pair
from heirloom.evaluation.behaviour import model_facts
from heirloom.evaluation.certify import (
    CertifySettings,
    OnImages,
    abstained,
    certified_accuracy,
    certify,
    largest_radius,
)
from heirloom.evaluation.verdicts import check_evaluable
from heirloom.objectives.defences import caveats_of
from heirloom.report.figures import data_uri, new_axes
from heirloom.report.page import Figure, Part, Section, Table, Text, page
from heirloom.report.tables import accuracy_table
from heirloom.results.schema import DataUsed, Proportion, Summary
from heirloom.runs import Run
from heirloom.runtime.identity import deciding, digest

RADII = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
WHAT = (
    "What is certified is the smoothed classifier (the class that the model gives most often when Gaussian noise is "
    "added to the image), not the model without noise, and in L2 only, whatever threat the model was made for. "
    "Nobody can move its answer within the radius; each certificate is wrong with probability alpha at most."
)


def certify_job(
    model: nn.Module,
    name: str,
    data: Pair,
    settings: CertifySettings,
    out: Path,
    *,
    source: str = "",
    resume: bool = False,
    report: OnImages | None = None,
) -> Summary:
    """Certify and write ``out``: work/certificates.json, summary.json, report.html."""
    check_evaluable(model, data, settings.device)
    facts = {
        "model": model_facts(model, data[0]),
        "data": {"pixels": digest_of_images(data[0]), "labels": digest(data[1])},
    }
    run = Run(out, facts | {"settings": deciding(settings)}, resume=resume)
    told = run.counting(lambda stage, done, total, words: report(done, total) if report else None)
    found = certify(
        model,
        data,
        settings,
        kept=run.path("certificates.json"),
        report=lambda done, total: told("certify", done, total, ""),
    )
    reach = largest_radius(settings)
    radii = [radius for radius in RADII if radius <= reach]
    row = {
        "model": name,
        "norm": "L2",
        "sigma": settings.sigma,
        "n": settings.n,
        "abstained": abstained(found),
    }
    row |= {column(radius): certified_accuracy(found, data[1], radius) for radius in radii}
    steps = [reach * k / 60 for k in range(61)]
    curve = [[radius, certified_accuracy(found, data[1], radius).value] for radius in steps]
    return run.finish(
        "certification",
        [row],
        seed=settings.seed,
        device=settings.device,
        data=DataUsed(name=source, train=0, test=len(data[1]), digest=digest_of_pair(data)),
        settings={k: v for k, v in asdict(settings).items() if k not in ("seed", "device")},
        details={"curve": curve, "largest_radius": reach},
    )


def column(radius: float) -> str:
    return f"L2 {radius:g}"


def certify_page(summary: Summary) -> str:
    """The page of ``summary``."""
    row, settings = summary.rows[0], summary.settings
    columns, cells = accuracy_table(summary.rows, "model")
    first = Proportion.model_validate(row[column(0.0)])
    caption = (
        f"Share of {first.n} images that the smoothed classifier names rightly and keeps within the L2 radius, "
        f"in %, with 95 % intervals over the images; sigma {settings['sigma']:g}, {settings['n']} draws an image, "
        f"alpha {settings['alpha']:g}. Abstained: no class has a provable majority."
    )
    lead = f"The smoothed classifier is right on {first} % of {first.n} images. {WHAT}"
    parts: list[Part] = [
        Table(caption, columns, cells),
        _curve(summary),
        Text(_reach(summary)),
        *map(Text, caveats_of(summary.rows)),
    ]
    return page(f"Certified accuracy of {row['model']}", lead, [Section("Certified", parts)], summary)


def _reach(summary: Summary) -> str:
    return (
        f"With {summary.settings['n']} draws no image can be certified beyond "
        f"{summary.details['largest_radius']:.3g}: a curve that ends there says nothing of what lies beyond."
    )


def _curve(summary: Summary) -> Figure:
    figure, axes = new_axes(figsize=(6.4, 3.2))
    radii, values = zip(*summary.details["curve"], strict=True)
    axes.step(radii, [100 * value for value in values], where="post")
    axes.set(ylim=(0, 100), xlabel="L2 radius (pixel units)", ylabel="certified (%)")
    return Figure("Certified accuracy over the radius.", data_uri(figure))
