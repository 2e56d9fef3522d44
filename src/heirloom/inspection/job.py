"""What ``inspect`` does from encoders to summary.json and report.html."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heirloom.analysis.filters import first_layer, purity, purity_difference
from heirloom.inspection.filters import evolution, filter_details, plain
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.schema import Summary
from heirloom.runs import Run
from heirloom.runtime.identity import digest


def inspect_job(
    encoders: Mapping[str, FrozenEncoder], out: Path, *, seed: int = 0, resume: bool = False
) -> Summary:
    """Measures of the first layers with intervals, drawings side by side, and their evolution."""
    filters = {name: first_layer(encoder) for name, encoder in encoders.items()}
    kept = {name: [digest(w) for _, w in evolution(Path(name))] for name in filters}
    facts = {"filters": [digest(w) for w in filters.values()], "epochs": list(kept.values()), "seed": seed}
    run = Run(out, facts, resume=resume)
    rows: list[dict[str, Any]] = [
        {"encoder": name, "filters": list(w.shape), **plain(purity(w, seed=seed))}
        for name, w in filters.items()
    ]
    if len(filters) == 2:
        first, second = filters.values()
        rows.append({"encoder": "second minus first", **plain(purity_difference(first, second, seed=seed))})
    found = filter_details([(name, Path(name)) for name in filters], filters)
    return run.finish(
        "inspection", rows, seed=seed, details={"filters": found}, settings={"encoders": ", ".join(filters)}
    )
