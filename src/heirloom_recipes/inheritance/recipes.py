"""The recipes by name, each ``(scale, out, **options) -> Summary`` with its page written beside it.

Cost on two CPU cores at scale ``small``: see docs/pretraining.md, which tells what the recorded runs took.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from heirloom.analysis.filters import purity, purity_difference
from heirloom.inspection.filters import filter_details, plain
from heirloom.results.schema import Summary
from heirloom_recipes.inheritance.paper import EncoderKey
from heirloom_recipes.inheritance.run import encoder_filters, reproduce_table
from heirloom_recipes.inheritance.scales import Scale

FILTER_PAIRS = (  # Figures 5 to 10 on CIFAR-10: clean and adversarial pre-training of the same kind
    (EncoderKey("cifar10", "supervised", False), EncoderKey("cifar10", "supervised", True)),
    (EncoderKey("cifar10", "supervised", False, "7x7"), EncoderKey("cifar10", "supervised", True, "7x7")),
    (EncoderKey("cifar10", "contrastive", False), EncoderKey("cifar10", "contrastive", True)),
)


def table(name: str, scale: str, out: Path, **options: Any) -> Summary:
    """``table-1``, ``table-2``, ``table-4`` or ``table-5``."""
    return reproduce_table(name, scale, out, **options)


def filters(scale: str, out: Path, **options: Any) -> Summary:
    """Figures 5 to 10: drawings, and the measures of clean and adversarial filters with their difference."""
    method = options.pop("method", None)
    pairs = [pair for pair in FILTER_PAIRS if method in (None, pair[0].method)]
    keys = [key for pair in pairs for key in pair]
    runner, found = encoder_filters(keys, scale, out, **options)
    rows: list[dict[str, Any]] = []
    for clean, adversarial in pairs:
        weights = [found[key.folder][1] for key in (clean, adversarial)]
        for key, w in zip((clean, adversarial), weights, strict=True):
            rows.append({"encoder": key.folder, "filters": list(w.shape), **plain(purity(w))})
        rows.append({"encoder": "adversarial minus clean", **plain(purity_difference(*weights))})
    details = filter_details(
        [(name, folder) for name, (folder, _) in found.items()], {name: w for name, (_, w) in found.items()}
    )
    return runner.run.finish(
        "inspection",
        rows,
        seed=options.get("seed", 0),
        device=options.get("device", "cpu"),
        details={"filters": details},
        settings=_settings(runner.scale),
        into="filters",
        seconds=max(runner.seconds(keys=keys), runner.run.seconds),
    )


def _settings(scale: Scale) -> dict[str, Any]:
    shown = asdict(scale)
    return {name: str(shown[name]) for name in ("name", "networks", "limit", "supervised", "contrastive")}
