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
    known = {row["defence"]: row for row in Summary.read(arguments.against).rows}
    for planted in broken.DEFENCES:
        if planted.name in kept and planted.name not in arguments.only.split(","):
            rows.append(kept[planted.name])
        elif planted.name in known and planted.name in (arguments.only or planted.name).split(","):
            rows.append(one(planted.name, arguments.examples, known[planted.name]["adaptive"]))
            print(rows[-1], flush=True)
    furthest = max(rows, key=lambda row: row["adaptive"]["value"] - row["by_hand"])
    details = {"furthest_above": furthest["defence"]}
    settings = {"data": "digits", "examples": arguments.examples, "threat": str(broken.THREAT)}
    stopwatch.summary(seed=0, rows=rows, settings=settings, details=details).write(
        arguments.out / "summary.json"
    )


def one(name: str, examples: int, by_hand: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        status = common.run(
            app,
            [
                "evaluate",
                "--model",
                f"heirloom.evaluation.broken:{name}",
                "--data",
                "digits",
                "--eps",
                str(broken.THREAT.eps),
                "--limit",
                str(examples),
                "--attacks",
                "pgd-20",
                "--adaptive",
                "--out",
                folder,
            ],
        )
        assert status == 0, name
        row = Summary.read(Path(folder) / "summary.json").rows[0]
    points = round(100 * (row["adaptive"]["value"] - by_hand), 1)
    return {
        "defence": name,
        "pgd-20": row["pgd-20"],
        "adaptive": row["adaptive"],
        "by_hand": by_hand,
        "points": points,
    }


if __name__ == "__main__":
    main()
