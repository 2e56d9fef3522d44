"""What ``inspect`` does from encoders to summary.json and report.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heirloom.analysis.filters import first_layer, purity, purity_difference
from heirloom.inspection.filters import filter_details, plain
from heirloom.inspection.page import inspect_page
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary


def run_inspect(
    encoders: list[tuple[str, FrozenEncoder]], out: Path, *, seed: int = 0, stopwatch: Stopwatch | None = None
) -> Summary:
    """Measures of the first layers with intervals, drawings side by side, and their evolution."""
    stopwatch = stopwatch or Stopwatch()
    filters = {name: first_layer(encoder) for name, encoder in encoders}
    rows: list[dict[str, Any]] = [
        {"encoder": name, "filters": list(w.shape), **plain(purity(w, seed=seed))}
        for name, w in filters.items()
    ]
    if len(filters) == 2:
        first, second = filters.values()
        rows.append({"encoder": "second minus first", **plain(purity_difference(first, second, seed=seed))})
    found = filter_details([(name, Path(name)) for name in filters], filters)
    summary = stopwatch.summary(
        seed=seed,
        rows=rows,
        details={"kind": "inspect", "filters": found},
        settings={"encoders": ", ".join(filters)},
    )
    summary.write(out / "summary.json")
    inspect_page(summary, out / "report.html")
    return summary
