"""Does a set that fits into memory come as fast through the feed as by plain indexing of its tensor?

    python benchmarks/feed.py --out results/benchmarks/feed

Both give float32 batches of a training epoch in the same order, alternating in one run; a figure is the median of the
processor milliseconds a batch over ``--repeats`` epochs. ``ratio``: the feed's over plain indexing's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.data.labelled import LabelledImages, labelled
from heirloom.results.provenance import Stopwatch
from heirloom.training.feed import Feed

BATCH = 128
SETS = {"digits": (1440, 1, 8), "CIFAR-10's size": (10_000, 3, 32), "64 pixels": (4000, 3, 64)}


def plain(pixels: Tensor, labels: Tensor, orders: list[Tensor]) -> float:
    total = 0.0
    for rows in orders:
        x, y = pixels[rows].float() / 255, labels[rows]
        total += float(x[0, 0, 0, 0] + y[0])
    return total


def fed(data: LabelledImages, steps: int) -> float:
    total = 0.0
    for x, y in Feed(data, BATCH, seed=0).between(0, steps, torch.device("cpu")):
        total += float(x[0, 0, 0, 0] + y[0])
    return total


def measured(name: str, repeats: int) -> dict[str, Any]:
    count, channels, side = SETS[name]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
    data = labelled(pixels, (torch.arange(count) % 10).numpy(), None)
    steps = count // BATCH
    feed = Feed(data, BATCH, seed=0)
    orders = [feed.indices(step) for step in range(steps)]
    ways: dict[str, Callable[[], float]] = {
        "feed": lambda: fed(data, steps),
        "plain": lambda: plain(pixels, data.labels, orders),
    }
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        sums = set()
        for way, run in ways.items():
            started = time.process_time()
            sums.add(run())
            if turn:
                spent[way].append(1000 * (time.process_time() - started) / steps)
        assert len(sums) == 1, "the batches differ"
    found = {way: statistics.median(seconds) for way, seconds in spent.items()}
    return {
        "images": name,
        **{f"{way} ms": round(value, 4) for way, value in found.items()},
        "ratio": round(found["feed"] / found["plain"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    watch, rows = Stopwatch(), [measured(name, options.repeats) for name in SETS]
    settings = {"batch": BATCH, "repeats": options.repeats}
    watch.summary("benchmark", rows, seed=0, device="cpu", settings=settings).write(
        options.out / "summary.json"
    )
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
