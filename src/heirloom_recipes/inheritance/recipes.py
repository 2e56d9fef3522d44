"""The recipes by name, each ``(scale, out, **options) -> Summary`` with its page written beside it.

Cost on two CPU cores at scale ``small``: see docs/pretraining.md, which tells what the recorded runs took.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from heirloom.analysis.filters import purity, purity_difference
from heirloom.inspection.filters import filter_details, plain
from heirloom.results.schema import Summary
from heirloom_recipes.inheritance.paper import EncoderKey
from heirloom_recipes.inheritance.run import encoder_filters, make_runner, reproduce_table
from heirloom_recipes.inheritance.scales import Scale
from heirloom_recipes.inheritance.seeds import table_over_seeds

FILTER_PAIRS = tuple(  # Figures 5 to 10: clean and adversarial pre-training of the same kind
    (kind, replace(kind, adversarial=True))
    for data in ("cifar10", "cifar100")
    for kind in (
        EncoderKey(data, "supervised", False),
        EncoderKey(data, "supervised", False, "7x7"),
        EncoderKey(data, "contrastive", False),
    )
)


def table(name: str, scale: str, out: Path, *, seeds: int | None = None, **options: Any) -> Summary:
    """``table-1``, ``table-2``, ``table-4`` or ``table-5``; over ``seeds`` training runs where it is given."""
    if seeds is None:
        return reproduce_table(name, scale, out, **options)
    return table_over_seeds(name, scale, out, seeds=seeds, **options)


def filters(
    scale: str, out: Path, *, method: str | None = None, width: int | None = None, **options: Any
) -> Summary:
    """Figures 5 to 10: drawings, and the measures of clean and adversarial filters with their difference.

    CIFAR-100's encoders (Figures 6, 8 and 10) are made where the scale covers it or ``sources`` says where it lies.
    """
    runner = make_runner(scale, width=width, out=out, **options)
    pairs = [
        pair for pair in FILTER_PAIRS if method in (None, pair[0].method) and runner.covers(pair[0].data)
    ]
    keys = [key for pair in pairs for key in pair]
    found = encoder_filters(runner, keys)
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
        seed=runner.seed,
        device=runner.device,
        details={"filters": details},
        settings=_settings(runner.scale),
        into="filters",
        seconds=max(runner.seconds(keys=keys), runner.run.seconds),
    )


def _settings(scale: Scale) -> dict[str, Any]:
    shown = asdict(scale)
    return {name: str(shown[name]) for name in ("name", "networks", "limit", "supervised", "contrastive")}
