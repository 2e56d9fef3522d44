"""The recipes by name, each ``(scale, out, **options) -> Summary`` with its page written beside it.

Cost on two CPU cores at scale ``small``: see docs/pretraining.md, which tells what the recorded runs took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from heirloom.analysis.filters import purity, purity_difference
from heirloom.inspection.filters import filter_details, plain
from heirloom.results.schema import Summary
from heirloom.runtime.errors import require
from heirloom_recipes.inheritance.paper import EncoderKey
from heirloom_recipes.inheritance.runner import Runner, encoder_filters, make_runner
from heirloom_recipes.inheritance.scales import Scale
from heirloom_recipes.inheritance.seeds import table_over_seeds
from heirloom_recipes.inheritance.table import reproduce_table

FILTERS = {  # whose first layers each figure shows, clean and adversarial beside each other
    "figure-5": EncoderKey("cifar10", "supervised", False),
    "figure-6": EncoderKey("cifar100", "supervised", False),
    "figure-7": EncoderKey("cifar10", "contrastive", False),
    "figure-8": EncoderKey("cifar100", "contrastive", False),
    "figure-9": EncoderKey("cifar10", "contrastive", False),
    # its caption says contrastive, CIFAR-100; the text that it belongs to (D.2, Table 4) supervised, CIFAR-10
    "figure-10": EncoderKey("cifar10", "supervised", False, "7x7"),
}


def table(name: str, scale: str, out: Path, *, seeds: int | None = None, **options: Any) -> Summary:
    """``table-1``, ``table-2``, ``table-4`` or ``table-5``; over ``seeds`` training runs where it is given."""
    if seeds is None:
        return reproduce_table(name, scale, out, **options)
    return table_over_seeds(name, scale, out, seeds=seeds, **options)


def filters(scale: str, out: Path, *, method: str | None = None, **options: Any) -> Summary:
    """Figures 5 to 10: drawings, and the measures of clean and adversarial filters with their difference.

    CIFAR-100's encoders (Figures 6 and 8) are made where the scale covers it or ``sources`` says where it lies.
    """
    runner = make_runner(scale, out, **options)
    chosen = [key for key in dict.fromkeys(FILTERS.values()) if method in (None, key.method)]
    return _drawn(runner, [key for key in chosen if runner.covers(key.data)], "filters")


def filter_figure(name: str, scale: str, out: Path, **options: Any) -> Summary:
    """One of Figures 5 to 10."""
    runner, key = make_runner(scale, out, **options), FILTERS[name]
    require(runner.covers(key.data), "data", f"{key.data}=SOURCE, which scale {scale} has not", "none")
    return _drawn(runner, [key], name)


def _drawn(runner: Runner, clean_keys: Sequence[EncoderKey], into: str) -> Summary:
    pairs = [(key, replace(key, adversarial=True)) for key in clean_keys]
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
        into=into,
        seconds=max(runner.seconds(keys=keys), runner.run.seconds),
    )


def _settings(scale: Scale) -> dict[str, Any]:
    shown = asdict(scale)
    return {name: str(shown[name]) for name in ("name", "networks", "limit", "supervised", "contrastive")}
