"""Certified accuracy on the embedded digits of what can stand in front of a frozen model.

    python benchmarks/denoised_smoothing.py --out results/certify/digits --work runs/certify --only identity
    ... --only cropd (noise, denoise, denoise-stability): each is measured once, and put beside the rows that OUT has

The foundation is the demo's (SimCLR, a small Transformers ResNet). L2, sigma 0.25, 1000 draws, 200 test images.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from heirloom.data.images import load_images
from heirloom.defence.demo import demo_settings, pretrain_foundation
from heirloom.defence.job import defend
from heirloom.defence.saved import DefendedModel
from heirloom.evaluation.certify import CertifySettings, abstained, certified_accuracy, certify
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom.threat import Threat

METHODS = ("identity", "cropd", "noise", "denoise", "denoise-stability")
RADII = (0.0, 0.1, 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/certify/digits"))
    parser.add_argument("--work", type=Path, default=Path("runs/certify"))
    parser.add_argument("--only", default=",".join(METHODS))
    parser.add_argument("--sigma", type=float, default=0.25)
    parser.add_argument("--limit", type=int, default=200)
    arguments = parser.parse_args()
    stopwatch, place = Stopwatch(), arguments.out / "summary.json"
    rows = {row["defence"]: row for row in Summary.read(place).rows} if place.exists() else {}
    foundation = arguments.work / "foundation"
    data = load_images("digits")
    if not (foundation / "preprocessor_config.json").exists():
        pretrain_foundation(data.train.split(0.1, seed=0)[0], foundation)
    for method in filter(None, arguments.only.split(",")):
        rows[method] = one(method, arguments, foundation)
        print(rows[method], flush=True)
        ordered = [rows[name] for name in METHODS if name in rows]
        settings = {
            "data": "digits",
            "sigma": arguments.sigma,
            "n": 1000,
            "alpha": 0.001,
            "limit": arguments.limit,
        }
        stopwatch.summary("certification-table", ordered, seed=0, settings=settings).write(place)


def one(method: str, arguments: argparse.Namespace, foundation: Path) -> dict[str, Any]:
    threat = Threat("L2", 0.5)
    base = demo_settings(0)
    defence = replace(base.defence, method=method, sigma=arguments.sigma, weight=None, radius=None)
    settings = replace(
        base, threat=threat, defence=defence, compare=(), attacks=("pgd-10",), audit_examples=0
    )
    out = arguments.work / method
    encoder = EncoderSettings(str(foundation))
    defend(load_encoder(encoder), load_images("digits"), settings, out, resume=out.exists())
    test = load_images("digits", limit_test=arguments.limit, seed=0).test
    chosen = CertifySettings(sigma=arguments.sigma, n=1000)
    model = DefendedModel.from_pretrained(str(out))
    found = certify(model, (test.images, test.labels), chosen, kept=out / "work" / "certificates.json")
    row = {"defence": method, "threat": str(threat), "abstained": abstained(found)}
    return row | {
        f"L2 {radius:g}": certified_accuracy(found, test.labels, radius).model_dump() for radius in RADII
    }


if __name__ == "__main__":
    main()
