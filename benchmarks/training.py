"""Adversarial training, images per second: ours against a straightforward loop, alternating in one run.

    python benchmarks/training.py --out results/inheritance/training-benchmark.json

The loop is what a paper's code usually does: PGD whose gradient comes from ``loss.backward()``, so that every
step of the attack computes the gradients of all weights too, in float32 and the default memory layout. Ours asks
for the input's gradient alone, of a network whose BatchNorm is folded, in channels_last, once in float32 and once
under bf16 autocast (``heirloom pretrain --mixed-precision bf16``). All attack in eval mode from a random start with
the same steps, all train with SGD; ours looks at one more iterate (the last) to keep the best.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.cli.output import print_table
from heirloom.networks.backbones import BackboneSettings, build_backbone
from heirloom.pretraining.steps import Classifier
from heirloom.results.provenance import Stopwatch
from heirloom.threat import Threat
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.supervised import supervised_step

EPS, STEPS = 8 / 255, 10


def straightforward(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """One step of Madry et al.'s training as commonly written."""
    model.eval()
    delta = torch.empty_like(x).uniform_(-EPS, EPS)
    delta = ((x + delta).clamp(0, 1) - x).detach()
    for _ in range(STEPS):
        delta.requires_grad_()
        functional.cross_entropy(model(x + delta), y).backward()
        moved = delta.detach() + EPS / 4 * delta.grad.sign()  # type: ignore[union-attr]
        delta = ((x + moved.clamp(-EPS, EPS)).clamp(0, 1) - x).detach()
    model.train()
    optimiser.zero_grad()
    functional.cross_entropy(model(x + delta), y).backward()
    optimiser.step()


class Ours:
    """The same step as ``heirloom pretrain`` takes it, from one step to the next."""

    def __init__(self, *, bf16: bool) -> None:
        self.bf16, self.step = bf16, supervised_step(None, Threat("Linf", EPS), InnerAttack(STEPS))

    def __call__(self, model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
        generator = torch.Generator(x.device).manual_seed(0)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.step(model, x, y, generator)["loss"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


CONTENDERS: dict[str, Callable[[], Callable[..., None]]] = {
    "straightforward": lambda: straightforward,
    "ours": partial(Ours, bf16=False),
    "ours bf16": partial(Ours, bf16=True),
}


def timed(run: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds on the clock and of this process's processor time, which a busy machine does not stretch."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start, busy = time.perf_counter(), time.process_time()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - busy


def compare(network: str, batch_size: int, repeats: int, device: str, compiled: bool) -> dict[str, Any]:
    """Medians of alternating single steps, after one of each to warm up."""
    backbone = build_backbone(BackboneSettings(network))
    plain = Classifier(backbone, nn.Linear(backbone.feature_size, 10)).to(device).train()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch_size, 3, 32, 32, generator=generator).to(device)
    y = torch.randint(0, 10, (batch_size,), generator=generator).to(device)
    runs: dict[str, Callable[[], None]] = {}
    for name, make in CONTENDERS.items():
        model = copy.deepcopy(plain)
        if name != "straightforward":
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if compiled:
                model.compile()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        runs[name] = partial(make(), model, optimiser, x, y)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            spent = timed(run, device)
            if repeat > 0:
                seconds[name].append(spent)
    clock, processor = (_rates(seconds, batch_size, kind) for kind in (0, 1))
    row: dict[str, Any] = {
        "network": network,
        "batch_size": batch_size,
        "attack": f"pgd-{STEPS}",
        "repeats": repeats,
        "images_per_second": clock,
        "speed_up": {name: round(clock[name] / clock["straightforward"], 3) for name in clock},
        "speed_up_range": {name: _range(seconds["straightforward"], seconds[name]) for name in clock},
    }
    if device == "cpu":
        row["images_per_processor_second"] = processor
        row["speed_up_processor_time"] = {
            name: round(processor[name] / processor["straightforward"], 3) for name in processor
        }
    return row


def _range(slow: list[tuple[float, float]], fast: list[tuple[float, float]]) -> list[float]:
    """Least and greatest ratio of the clock's seconds over the pairs."""
    ratios = [a[0] / b[0] for a, b in zip(slow, fast, strict=True)]
    return [round(min(ratios), 3), round(max(ratios), 3)]


def _rates(seconds: dict[str, list[tuple[float, float]]], batch_size: int, kind: int) -> dict[str, float]:
    return {
        name: round(batch_size / statistics.median(pair[kind] for pair in pairs), 2)
        for name, pairs in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet8"])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-training.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    stopwatch = Stopwatch()
    rows = [
        compare(network, chosen.batch_size, chosen.repeats, chosen.device, chosen.compile)
        for network in chosen.networks
    ]
    summary = stopwatch.summary("benchmark", rows, seed=0, device=chosen.device)
    summary.write(chosen.out)
    print_table(
        f"PGD-{STEPS} adversarial training, {summary.device}, {summary.threads} threads",
        ["network", "loop", "images per second", "speed-up", "range over pairs"],
        [
            [
                row["network"],
                name,
                row["images_per_second"][name],
                f"{row['speed_up'][name]:.2f}x",
                "{:.2f} to {:.2f}".format(*row["speed_up_range"][name]),
            ]
            for row in rows
            for name in CONTENDERS
        ],
    )
    print(chosen.out)


if __name__ == "__main__":
    main()
