"""The bridge's other bank: does ``off_span`` explain the clean head's loss of robustness on the theory's networks?

    python benchmarks/theory_view.py --out results/benchmarks/attacker-view-theory.json

Networks of the sparse-coding theory built with shares of pure nodes from 0 to 1 (d 50, H 250, gate at c_b .03), a head
fitted clean on a new task. Explained: what the gate-aware attack adds to the square loss at eps inside and outside the
gate. By: mean ``off_span`` of the head, the dictionary known, three atoms an image. R^2 of a line over all networks.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heirloom.analysis.attacker_view import attacker_view
from heirloom.results.provenance import Stopwatch, commit, device_name, shown_command
from heirloom.runtime.files import write_json
from heirloom.runtime.randomness import generator_of
from heirloom.theory.sparse_coding.built import mixture
from heirloom.theory.sparse_coding.downstream import Attacks, Effort, bracketed_gaps, ridge_head
from heirloom.theory.sparse_coding.losses import intercepts
from heirloom.theory.sparse_coding.model import random_dictionary, regression_targets
from heirloom.theory.sparse_coding.network import TwoLayer, activate
from heirloom.theory.sparse_coding.settings import SparseTraining

SHARES, RADII = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0), (0.01, 0.1, 0.3)  # c_b / 3, 3 c_b, 10 c_b
FIT, TEST, POINTS = 10_000, 300, 60


class TwoClasses(nn.Module):
    """Logits (f, 0): the margin's gradient is f's."""

    def __init__(self, network: TwoLayer) -> None:
        super().__init__()
        self.network = network
        self.W = nn.Parameter(network.W, requires_grad=False)

    def forward(self, z: Tensor) -> Tensor:
        v = z @ self.W
        f = torch.where(v.abs() >= self.network.b, v, 0.0) @ self.network.a
        return torch.stack([f, torch.zeros_like(f)], 1)


def one(share: float, seed: int) -> dict[str, Any]:
    setting, generator = SparseTraining(), generator_of(seed, "theory-view", str(share))
    data = setting.data
    M = random_dictionary(data.d, generator)
    W = M @ mixture(data.d, setting.nodes, share, generator)
    b = intercepts(W[None], setting.c_b)[0]
    theta = 0.5 + torch.rand(data.d, generator=generator)
    theta *= torch.randint(0, 2, (data.d,), generator=generator) * 2 - 1
    (z, y), test = (_drawn(data, M, theta, setting.sigma, n, generator) for n in (FIT, TEST))
    network = TwoLayer(W, b, ridge_head(activate(z @ W, b, "gate")[0], y), "gate")
    attacks = Attacks({}, gate_aware={f"{eps:g}": eps for eps in RADII}, effort=Effort(POINTS))
    gaps = bracketed_gaps(network, test, attacks, "L2", generator, M)
    images = test[0], torch.zeros(len(test[0]), dtype=torch.long)
    view = attacker_view(TwoClasses(network).eval(), images, M.T, atoms=3)
    found = {f"gap_{eps:g}": gaps[f"gap_{eps:g}_gate_aware"] for eps in RADII}
    return {"share": share, "seed": seed, "off_span": float(view.off_span.mean()), **found}


def _drawn(
    data: Any, M: Tensor, theta: Tensor, sigma: float, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    x = data.features(count, generator)
    y = regression_targets(x, theta, sigma, generator)
    return data.observe(x, M, generator), y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/attacker-view-theory.json"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    watch = Stopwatch()
    with torch.no_grad():
        rows = [one(share, seed) for share in SHARES for seed in range(arguments.seeds)]
    names = [f"gap_{eps:g}" for eps in RADII]
    seen = [row["off_span"] for row in rows]
    fits = {name: float(np.corrcoef(seen, [row[name] for row in rows])[0, 1] ** 2) for name in names}
    found = {"seconds": round(watch.seconds, 1), "command": shown_command(), "commit": commit()}
    write_json(arguments.out, {**found, "device": device_name("cpu"), "rows": rows, "r_squared": fits})
    print(fits)


if __name__ == "__main__":
    main()
