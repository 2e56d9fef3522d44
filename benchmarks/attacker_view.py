"""The bridge: does the attacker's view of a clean head explain what an adversarial head would add?

    python benchmarks/attacker_view.py --out results/benchmarks/attacker-view.json

Small encoders on digits (MLP and CNN, pre-trained supervised at Linf eps 0 to .12), each with a clean and an
adversarial linear head on frozen features. Per encoder: mean ``off_span`` of the clean head (8 of 64 atoms of a
dictionary learned on the training images), the null (median of margin / L1 gradient), and the gap: robust
accuracy of the adversarial head less that of the clean one, PGD-20 at eps .08. R^2 of a line through both.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import MiniBatchDictionaryLearning
from torch import Tensor, nn
from torch.nn import functional

from heirloom.analysis.attacker_view import attacker_view
from heirloom.attacks import pgd
from heirloom.results.provenance import Stopwatch, commit, device_name, shown_command
from heirloom.runtime.files import write_json
from heirloom.threat import Threat

RADII = (0.0, 0.02, 0.04, 0.08, 0.12)
JUDGED = Threat("Linf", 0.08)
TRAIN = 1200


def encoder_of(kind: str, generator_seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(generator_seed)
        if kind == "mlp":
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 64),
            nn.ReLU(),
        )


def train(
    model: nn.Module, trained: nn.Module, data: tuple[Tensor, Tensor], eps: float, seed: int, epochs: int
) -> None:
    """Adam on cross-entropy of ``model``'s attacked images, moving the parameters of ``trained`` alone."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(trained.parameters(), lr=2e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(data[0]), generator=generator).split(100):
            x, y = data[0][index], data[1][index]
            if eps > 0:
                threat = Threat("Linf", eps)
                x = pgd(model.eval(), x, y, threat, loss=cross_entropy, steps=3, generator=generator)
            optimiser.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimiser.step()


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(logits, y, reduction="none")


def robust(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    generator = torch.Generator().manual_seed(0)
    x = pgd(model.eval(), *data, JUDGED, loss=cross_entropy, steps=20, generator=generator)
    return float((model(x).argmax(1) == data[1]).double().mean())


def one(
    kind: str, eps: float, seed: int, parts: list[tuple[Tensor, Tensor]], atoms: Tensor
) -> dict[str, Any]:
    fit, test = parts
    encoder = encoder_of(kind, seed)
    first = nn.Linear(64, 10)
    whole = nn.Sequential(encoder, first)
    train(whole, whole, fit, eps, seed, 12)
    encoder.requires_grad_(False)
    heads = {}
    for name, radius in (("clean", 0.0), ("adversarial", JUDGED.eps)):
        head = nn.Linear(64, 10)
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
        heads[name] = nn.Sequential(encoder, head)
        train(heads[name], head, fit, radius, seed, 12)
    view = attacker_view(heads["clean"].eval(), test, atoms)
    scores = {name: robust(model, test) for name, model in heads.items()}
    clean = float((heads["clean"](test[0]).argmax(1) == test[1]).double().mean())
    row: dict[str, Any] = {"encoder": kind, "eps": eps, "seed": seed, "clean": clean}
    row |= {f"robust_{name}_head": score for name, score in scores.items()}
    row["gap"] = scores["adversarial"] - scores["clean"]
    return row | {"off_span": float(view.off_span.mean()), "null": float(view.reach.median())}


def r_squared(rows: list[dict[str, Any]], name: str) -> float:
    x, y = (np.array([row[key] for row in rows]) for key in (name, "gap"))
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/attacker-view.json"))
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    watch = Stopwatch()
    images = torch.tensor(load_digits().images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(load_digits().target)
    parts = [(images[:TRAIN], labels[:TRAIN]), (images[TRAIN:], labels[TRAIN:])]
    learner = MiniBatchDictionaryLearning(64, random_state=0, max_iter=30)
    atoms = torch.tensor(learner.fit(images[:TRAIN].flatten(1).numpy()).components_, dtype=torch.float32)
    rows = [
        one(kind, eps, seed, parts, atoms)
        for kind in ("mlp", "cnn")
        for eps in RADII
        for seed in range(arguments.seeds)
    ]
    groups = {kind: [row for row in rows if row["encoder"] == kind] for kind in ("mlp", "cnn")} | {
        "pooled": rows
    }
    fits = {name: {m: r_squared(group, m) for m in ("off_span", "null")} for name, group in groups.items()}
    found = {
        "seconds": round(watch.seconds, 1),
        "command": shown_command(),
        "commit": commit(),
        "device": device_name("cpu"),
        "rows": rows,
        "r_squared": fits,
    }
    write_json(arguments.out, found)
    print(fits)


if __name__ == "__main__":
    main()
