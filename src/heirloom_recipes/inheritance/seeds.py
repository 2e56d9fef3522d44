"""A table over several training seeds: an interval over test images says nothing of another training run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heirloom.results.schema import DataUsed, Summary
from heirloom.results.statistics import student
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import require
from heirloom.threat import Threat
from heirloom_recipes.catalogue import until
from heirloom_recipes.claims import NEAR_ZERO, below, case
from heirloom_recipes.inheritance.runner import make_runner
from heirloom_recipes.inheritance.table import (
    SOURCES,
    reproduce_table,
    row_identity,
    rows_of,
    shown_settings,
)
from heirloom_recipes.shards import leave_if_sharded, share_of, working_on

TOLD_APART = re.compile(r"(device|seed)=[^,)]*")  # in a setting's text


def table_over_seeds(
    table: str,
    scale: str,
    out: Path,
    *,
    seeds: int,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    minutes: float | None = None,
    **options: Any,
) -> Summary:
    """Run ``table`` once for each of ``seeds`` seeds from ``seed`` on, in ``out/seed-N``, and put them together.

    Every accuracy is the mean over the runs with its 95 % Student interval, every ordering is judged by the interval
    of its differences over the runs. ``out/<table>-<seeds>-seeds`` gets the summary and the page, each run's lie in
    ``out/seed-N/<table>``, so that more seeds can be added later, on other machines too: a seed of which the summary
    alone is there (its record, say) is taken as it is.

    Raises:
        InputError: such a summary is of another table, size, setting, seed or images; they are named.
    """
    require(seeds >= 2, "seeds", "at least 2 where it is given", seeds)
    runs, progress = [], until(minutes, progress)
    for number in share_of(range(seed, seed + seeds)):
        told = _numbered(progress, number)
        place = out / f"seed-{number}"
        with working_on(None):
            runs.append(_one_seed(table, scale, place, seed=number, device=device, progress=told, **options))
    leave_if_sharded()
    first = runs[0]
    facts = {"table": table, "scale": scale, "seeds": seeds, "seed": seed, "rows": [run.rows for run in runs]}
    assert first.threat is not None
    return Run(out / f"{table}-{seeds}-seeds", facts, resume=True).finish(
        "inheritance",
        [merged(rows) for rows in zip(*(run.rows for run in runs), strict=True)],
        seed=seed,
        device=device,
        threat=Threat(first.threat.norm, first.threat.eps),
        data=first.data,
        settings={**first.settings, "seeds": seeds},
        details={**first.details, "orderings": judged([run.details["orderings"] for run in runs])},
        seconds=sum(run.seconds for run in runs),
    )


def _one_seed(table: str, scale: str, place: Path, *, method: str | None = None, **options: Any) -> Summary:
    kept = place / table / "summary.json"
    if not kept.exists():
        return reproduce_table(table, scale, place, method=method, **options)
    found, runner = Summary.read(kept), make_runner(scale, place, **options)
    rows = [row_identity(row) for row in rows_of(runner, table, method)[0]]
    of = _deciding(found.settings, found.seed, [_part(row, rows) for row in found.rows], found.data)
    asked = _deciding(shown_settings(runner, table), runner.seed, rows, runner.data("cifar10").used())
    other = [name for name in {**asked, **of} if of.get(name) != asked.get(name)]
    if other and (place / "rows").exists():
        # made here for other rows: it goes on, or is refused as any folder is
        return reproduce_table(table, scale, place, method=method, **options)
    require(not other, "out", f"with a {kept} of the same run", f"one of other {', '.join(other)}")
    return found


def _deciding(
    settings: dict[str, Any], seed: int, rows: list[dict[str, Any]], data: DataUsed | None
) -> dict[str, Any]:
    """What a seed's summary must share with the run that takes it: all but the device and where the images lie."""
    kept = {name: value for name, value in settings.items() if name != SOURCES}
    kept = {name: TOLD_APART.sub("", v) if isinstance(v, str) else v for name, v in kept.items()}
    return {"seed": seed, **kept, "rows": rows, "images": data and data.digest}


def _part(row: dict[str, Any], like: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: row.get(name) for name in (like[0] if like else {})}


def merged(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row of several runs': measures (with an interval) become the mean over runs, the rest is the first's."""
    measures = [name for name, value in rows[0].items() if isinstance(value, dict) and "n" in value]
    means = {name: student([row[name]["value"] for row in rows], 0.0, 1.0) for name in measures}
    return {**rows[0], **means}


def judged(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The orderings' verdicts over runs; an accuracy "near 0" holds where its interval ends below the bound."""
    found = []
    for entries in zip(*runs, strict=True):
        values = [float(entry["ours"]["value"]) for entry in entries]
        near_zero = "near 0" in entries[0]["claim"]
        verdict = case("", below(NEAR_ZERO, values) if near_zero else values)["verdict"]
        ours = student(values, 0.0 if near_zero else -1.0, 1.0)
        found.append({**entries[0], "ours": ours, "verdict": verdict})
    return found


def _numbered(progress: Progress, seed: int) -> Progress:
    return lambda stage, done, total, text: progress(f"seed {seed}: {stage}", done, total, text)
