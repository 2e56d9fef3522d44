"""Figure 4's losses: the sparse formulation against dense NumPy, in one run on the same data.

    python benchmarks/sparse_coding.py --out results/sparse-coding/benchmark.json

The dense formulation is the paper read line by line: a unitary M, W = M U, A = tau pinv(W), products with
every matrix. Prints both times, the largest difference of the mean losses, how the sparse time grows with d,
H, m and n, and its floating-point operations beside the time that these would take at the speed of a matrix
product.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heirloom.cli.output import print_table
from heirloom.results.provenance import Stopwatch
from heirloom.theory.sparse_coding.built import built_network
from heirloom.theory.sparse_coding.built_losses import SparseNetwork
from heirloom.theory.sparse_coding.model import SparseCoding, random_dictionary
from heirloom_recipes.sparse_coding.figure_4 import TAU, Figure4Setting, intercept

Array = np.ndarray[Any, Any]


def dense_losses(
    U: Array,
    M: Array,
    views: tuple[Array, Array, Array],
    b: float,
    tau: float,
    eps: float,
    *,
    normal_equations: bool = False,
) -> dict[str, Array]:
    """Clean and attacked losses (n,) of the pairs (z, z') and (z, z''); ``views`` are z, z', z'' (n, d).

    ``normal_equations`` takes W^T (W W^T)^-1 for W^+, which a numerically minded reader of the paper might.
    """
    W = M @ U
    A = tau * (np.linalg.solve(W @ W.T, W).T if normal_equations else np.linalg.pinv(W))  # (H, d)

    def sigma(v: Array) -> Array:
        return v * (np.abs(v) >= b)

    z, *partners = views
    losses = {}
    for name, y, partner in zip(("similar", "dissimilar"), (1, -1), partners, strict=True):
        v = z @ W
        embedding = sigma(partner @ W) @ A
        back = embedding @ A.T  # dg/dsigma
        clean = np.sum(sigma(v) * back, 1)
        gradient = (back * (np.abs(v) >= b)) @ W.T
        length = np.linalg.norm(gradient, axis=1, keepdims=True)
        delta = -y * eps * gradient / np.maximum(length, 1e-30)  # an example without active features has none
        attacked = np.sum(sigma((z + delta) @ W) * back, 1)
        losses[f"{name}_clean"] = np.logaddexp(0, -y * clean)
        losses[f"{name}_adversarial"] = np.logaddexp(0, -y * attacked)
    return losses


def compare(setting: Figure4Setting, m: int, seed: int) -> dict[str, Any]:
    """One (m, repeat): wall and processor seconds of the formulations, and the largest difference between the
    sparse one's and the dense one's four mean losses. Making U, M and the data is nobody's time.
    """
    generator = torch.Generator().manual_seed(seed)
    data = SparseCoding(setting.d, setting.k, setting.zeta)
    views = data.views(data.features(setting.samples, generator), None, generator)
    network = built_network(setting.d, setting.nodes, m, generator)
    b = intercept(setting, m)
    M = random_dictionary(setting.d, generator).numpy()
    U, observed = network.dense().numpy(), tuple(view.numpy() @ M.T for view in views)
    ours, seconds, cpu = timed(lambda: SparseNetwork(network, b, TAU).losses(*views, setting.eps))
    dense, dense_seconds, dense_cpu = timed(lambda: dense_losses(U, M, observed, b, TAU, setting.eps))
    _, normal_seconds, normal_cpu = timed(
        lambda: dense_losses(U, M, observed, b, TAU, setting.eps, normal_equations=True)
    )
    return {
        "m": m,
        "seconds": seconds,
        "dense_seconds": dense_seconds,
        "dense_normal_seconds": normal_seconds,
        "cpu_seconds": cpu,
        "dense_cpu_seconds": dense_cpu,
        "dense_normal_cpu_seconds": normal_cpu,
        "largest_difference": max(
            abs(float(getattr(ours, name).mean()) - float(dense[name].mean())) for name in dense
        ),
    }


def timed(action: Callable[[], Any]) -> tuple[Any, float, float]:
    """What ``action`` gives, its wall seconds and its processor seconds (all threads)."""
    start, cpu = time.perf_counter(), time.process_time()
    found = action()
    return found, time.perf_counter() - start, time.process_time() - cpu


def with_speed_ups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows and their sum, each with its speed-ups in wall and in processor time."""
    names = [name for name in rows[0] if name.endswith("seconds")]
    total = {"m": "all"} | {name: sum(row[name] for row in rows) for name in names}
    total["largest_difference"] = max(row["largest_difference"] for row in rows)
    for row in (*rows, total):
        row["speed_up"] = row["dense_seconds"] / row["seconds"]
        row["speed_up_cpu"] = row["dense_cpu_seconds"] / row["cpu_seconds"]
        row["speed_up_normal_cpu"] = row["dense_normal_cpu_seconds"] / row["cpu_seconds"]
    return [*rows, total]


def scaling(base: Figure4Setting, m: int, seed: int) -> list[dict[str, Any]]:
    """Processor seconds of the sparse formulation when one of d, H, m, n is halved or doubled."""
    rows = []
    for change in (
        {},
        {"d": base.d // 2},
        {"d": base.d * 2},
        {"nodes": base.nodes // 2},
        {"nodes": base.nodes * 2},
        {"samples": base.samples // 2},
        {"samples": base.samples * 2},
        {"m": m // 2},
        {"m": m * 2},
    ):
        level = change.get("m", m)
        setting = replace(base, **{name: value for name, value in change.items() if name != "m"})
        seconds = min(sparse_seconds(setting, level, seed) for _ in range(3))
        rows.append(
            {"d": setting.d, "H": setting.nodes, "m": level, "n": setting.samples, "cpu_seconds": seconds}
        )
    return rows


def sparse_seconds(setting: Figure4Setting, m: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    data = SparseCoding(setting.d, setting.k, setting.zeta)
    views = data.views(data.features(setting.samples, generator), None, generator)
    network = built_network(setting.d, setting.nodes, m, generator)
    return timed(lambda: SparseNetwork(network, intercept(setting, m), TAU).losses(*views, setting.eps))[2]


def floor(setting: Figure4Setting, m: int) -> dict[str, Any]:
    """Operations of one (m, repeat), and the seconds they need at the speeds that this machine reaches."""
    d, H, n = setting.d, setting.nodes, setting.samples
    products = 4 * d**2 * n + 3 * d**3  # tau^2 G^-2 s' twice; Cholesky, inverse, square
    list_sums = 11 * n * H * m  # U^T x 7 times, U x 4 times
    passes = 12 * n * H  # gates and inner products over H x n
    return {
        "m": m,
        "product_flops": products,
        "list_adds": list_sums,
        "elementwise": passes,
        "floor_seconds": products / product_speed(d) + (list_sums + passes) / add_speed(H),
    }


def product_speed(d: int) -> float:
    """Floating-point operations per second of a d x d matrix product."""
    A = torch.randn(d, d, generator=torch.Generator().manual_seed(0))
    return 2 * d**3 / best_seconds(lambda: A @ A)


def add_speed(H: int) -> float:
    """Additions per second of two in-cache matrices, in place: what a list sum can reach at best."""
    a, b = torch.zeros(H, 16), torch.ones(H, 16)
    return a.numel() / best_seconds(lambda: a.add_(b))


def best_seconds(action: Callable[[], object], repeats: int = 20) -> float:
    """Processor seconds, which other people's work on the machine hardly moves."""
    return min(timed(action)[2] for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the result JSON here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="small sizes: only shows that it runs")
    options = parser.parse_args()
    watch = Stopwatch()
    setting = Figure4Setting(d=100, nodes=1000, samples=100) if options.tiny else Figure4Setting()
    compare(replace(setting, samples=50), 1, options.seed)  # the first call pays for start-up
    rows = with_speed_ups([compare(setting, m, options.seed) for m in setting.ms])
    columns = (
        "m",
        "seconds",
        "dense_seconds",
        "dense_normal_seconds",
        "speed_up",
        "speed_up_cpu",
        "speed_up_normal_cpu",
        "largest_difference",
    )
    show("One repeat: sparse against dense NumPy, same data", columns, rows)
    scales = scaling(setting, 10, options.seed)
    show("Processor seconds against d, H, m, n", ("d", "H", "m", "n", "cpu_seconds"), scales)
    floors = [floor(setting, m) for m in setting.ms]
    show("Operations, and the seconds they need at best", tuple(floors[0]), floors)
    if options.out:
        summary = watch.summary(
            "benchmark", rows, seed=options.seed, details={"scaling": scales, "floor": floors}
        )
        summary.write(options.out)


def show(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    shown = [[f"{row[c]:.3g}" if isinstance(row[c], float) else row[c] for c in columns] for row in rows]
    print_table(title, columns, shown)


if __name__ == "__main__":
    main()
