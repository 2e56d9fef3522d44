"""Planted broken defences and sound models: plain PGD, AutoAttack, an adaptive attack, and the audit, side by side.

    python benchmarks/broken_defences.py --out results/audit          # measures (some ten minutes on one thread)
    python benchmarks/broken_defences.py --table results/audit/summary.json --docs docs/trust.md    # seconds

AutoAttack is pyautoattack's `standard` version, with its own checks' warnings; the adaptive attack is PGD-100 on
what someone who knows the defence would differentiate, cross-entropy and margin, then Square Attack with
1000 queries on the defence itself. A randomised defence is scored by the mean over 20 fresh draws.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pyautoattack import AutoAttack, checks
from torch import Tensor, nn

from heirloom.attacks.losses import cross_entropy, margin, misclassified
from heirloom.attacks.pgd import pgd
from heirloom.attacks.square import square
from heirloom.data.images import load_images
from heirloom.evaluation import broken
from heirloom.evaluation.audit import audit, audit_details, failed
from heirloom.evaluation.chunks import seeded
from heirloom.evaluation.verdicts import evaluate
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom.results.statistics import proportion
from heirloom.runtime.files import write_text
from heirloom.runtime.randomness import generator_of

DRAWS = 20
CHECKS_OF_AUTOATTACK = {
    "randomized": "randomised",
    "probability": "probabilities",
    "zero gradient": "zero gradient",
    "dynamic": "dynamic",
    "Square Attack has decreased": "Square improves",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/audit"))
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="names by commas")
    parser.add_argument("--table", type=Path, help="a recorded summary: print its table, measure nothing")
    parser.add_argument("--docs", type=Path, help="a page whose table is replaced by that of --table")
    arguments = parser.parse_args()
    if arguments.table is None:
        measure(arguments)
    else:
        render(Summary.read(arguments.table), arguments.docs)


def measure(arguments: argparse.Namespace) -> None:
    stopwatch = Stopwatch()
    data = load_images("digits", limit_test=arguments.examples, seed=arguments.seed).test
    images, labels = data.images, data.labels
    planted = [(p.name, p.what, p.make, p.stand_in, p.check) for p in broken.DEFENCES]
    sound = [(make.__name__, (make.__doc__ or "").splitlines()[0], make, None, None) for make in broken.SOUND]
    rows, details = [], {}
    for name, what, make, stand_in, check in [*planted, *sound]:
        if arguments.only and name not in arguments.only.split(","):
            continue
        model = make()
        row, found = one(model, stand_in, images, labels, arguments.seed)
        rows.append({"defence": name, "what": what, "planted": check, **row})
        details[name] = found
        print(name, {k: v["value"] if isinstance(v, dict) else v for k, v in row.items()}, flush=True)
    summary = stopwatch.summary(
        "audit",
        rows,
        seed=arguments.seed,
        details={"audits": details},
        settings={"data": "digits", "examples": len(labels), "threat": str(broken.THREAT), "draws": DRAWS},
    )
    summary.write(arguments.out / "summary.json")
    render(summary, None)


def one(
    model: nn.Module, stand_in: Callable[[nn.Module], nn.Module] | None, x: Tensor, y: Tensor, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    evaluation = evaluate(model, (x, y), broken.THREAT, ["pgd-20"], seed=seed)
    findings = audit(model, (x, y), broken.THREAT, None, seed=seed)
    with seeded(torch.device("cpu"), seed):
        reported, x_peer, warnings = autoattack(model, x, y, seed)
        x_adaptive = adaptive(model, stand_in(model) if stand_in else model, x, y, seed)
        images = torch.stack([x, x_peer, x_adaptive, evaluation.x_adv])
        peer = score(model, x_peer, y)
        # the worst of all images found by anyone; chosen by some draws, scored by others
        worst = torch.stack([score(model, shown, y) for shown in images]).argmin(0)
        lowest = score(model, images[worst, torch.arange(len(x))], y)
    row = {
        "clean": evaluation.accuracy("clean"),
        "pgd-20": evaluation.accuracy("pgd-20"),
        "autoattack": None if reported is None else proportion(reported),
        "autoattack_warnings": warnings,
        "autoattack_rescored": round(float(peer.mean()), 4),
        "adaptive": round(float(lowest.mean()), 4),
        "audit": [finding.check for finding in failed(findings)],
        "cause": failed(findings)[0].cause if failed(findings) else "",
    }
    return row, audit_details(findings)


def autoattack(model: nn.Module, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor | None, Tensor, list[str]]:
    """(right after pyautoattack's standard version, None where it stops; its images; its warnings)."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("auto-attack")
    logger.addHandler(handler)
    # its count of gradient calls is global: one dynamic model would make it call every later one dynamic
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    peer = AutoAttack(model, norm="Linf", eps=broken.THREAT.eps, seed=seed, version="standard")
    try:
        x_adv, _ = peer.run_standard_evaluation(x, y, batch_size=len(x))
    except (RuntimeError, ValueError, IndexError) as error:
        return None, x, [f"stops: {str(error)[:60]}"]
    finally:
        logger.removeHandler(handler)
    right = score_once(model, x, y)
    fooled = (x_adv != x).flatten(1).any(1)
    kinds = [kind for sign, kind in CHECKS_OF_AUTOATTACK.items() if any(sign in text for text in said)]
    return right & ~fooled, x_adv, kinds


def adaptive(model: nn.Module, stand_in: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Of the images that each adaptive attack finds, the one with the lowest score."""
    found = [
        pgd(
            stand_in,
            x,
            y,
            broken.THREAT,
            loss=loss,
            steps=100,
            restarts=2,
            until=None,
            generator=generator_of(seed, loss.__name__),
        )
        for loss in (cross_entropy, margin)
    ]
    found.append(square(model, x, y, broken.THREAT, queries=1000, generator=generator_of(seed, "square")))
    scores = torch.stack([score(model, images, y) for images in found])
    best = scores.argmin(0)
    return torch.stack(found)[best, torch.arange(len(x))]


def score(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """How often each image is classified rightly over fresh draws (N,); 0 or 1 for a deterministic model."""
    return torch.stack([score_once(model, x, y).double() for _ in range(DRAWS)]).mean(0)


@torch.no_grad()
def score_once(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ~misclassified(model(x).float(), y)


def percent(proportion: dict[str, Any] | None) -> str:
    return "stops" if proportion is None else f"{100 * proportion['value']:.0f}"


def render(summary: Summary, docs: Path | None) -> None:
    lines = [
        "| model | what is wrong | clean | PGD-20 | AutoAttack | its warnings | adaptive | heirloom's audit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in summary.rows:
        checks = "**" + row["audit"][0] + "**" if row["audit"] else "no sign"
        if len(row["audit"]) > 1:
            checks += ", " + ", ".join(row["audit"][1:])
        cells = [percent(row[key]) for key in ("clean", "pgd-20", "autoattack")]
        warnings = [said for said in row["autoattack_warnings"] if not said.startswith("stops")]
        cells += [", ".join(warnings) or "none", f"{100 * row['adaptive']:.0f}", checks]
        lines.append(f"| `{row['defence']}` | {row['what']} | " + " | ".join(cells) + " |")
    table = "\n".join(lines)
    print(table)
    if docs is not None:
        before, _, rest = docs.read_text().partition("<!-- table -->\n")
        _, _, after = rest.partition("<!-- end of table -->")
        write_text(docs, f"{before}<!-- table -->\n{table}\n<!-- end of table -->{after}")


if __name__ == "__main__":
    main()
