"""From the command line alone: `heirloom evaluate --adaptive` on every planted defence, beside a hand-made attack.

    python benchmarks/adaptive.py --out results/audit/adaptive      # some ten minutes on one thread

The hand-made figures are those of `results/audit/summary.json` (benchmarks/broken_defences.py): same images and threat.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from heirloom.cli import app, common
from heirloom.evaluation import broken
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/audit/adaptive"))
    parser.add_argument("--against", type=Path, default=Path("results/audit/summary.json"))
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument(
        "--only", help="names by commas: measured, and put beside the rows that OUT has already"
    )
    arguments = parser.parse_args()
    stopwatch, rows = Stopwatch(), []
    kept = {}
    if arguments.only and (arguments.out / "summary.json").exists():
        kept = {row["defence"]: row for row in Summary.read(arguments.out / "summary.json").rows}
    known = {row["defence"]: row["adaptive"] for row in Summary.read(arguments.against).rows}
    wanted = arguments.only.split(",") if arguments.only else [planted.name for planted in broken.DEFENCES]
    for planted in broken.DEFENCES:
        if planted.name in wanted:
            rows.append(one(planted, arguments.examples, known.get(planted.name)))
            print(rows[-1], flush=True)
        elif planted.name in kept:
            rows.append(kept[planted.name])
    settings = {"data": "digits", "examples": arguments.examples, "threat": str(broken.THREAT)}
    stopwatch.summary("adaptive", rows, seed=0, settings=settings).write(arguments.out / "summary.json")


def one(planted: broken.Planted, examples: int, by_hand: float | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        status = common.run(app, command(planted.name, examples, folder))
        assert status == 0, planted.name
        found = Summary.read(Path(folder) / "summary.json")
    row = {name: found.rows[0][name] for name in ("clean", "pgd-20", "adaptive")}
    row = {
        "defence": planted.name,
        "planted": planted.check,
        **row,
        "audit": found.details["audit"]["failed"],
    }
    row |= {"sources": found.details["adaptive"]["sources"], "seconds": found.seconds, "commit": found.commit}
    if by_hand is None:
        return row
    return row | {"by_hand": by_hand, "points": round(100 * (row["adaptive"]["value"] - by_hand), 1)}


def command(name: str, examples: int, folder: str) -> list[str]:
    words = f"evaluate --model heirloom.evaluation.broken:{name} --data digits --eps {broken.THREAT.eps} "
    return [*f"{words} --limit {examples} --attacks pgd-20 --adaptive --out".split(), folder]


if __name__ == "__main__":
    main()
