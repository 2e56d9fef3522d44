"""What one pass costs an attack: the model as it is, with BatchNorm folded, under autocast, and as a bfloat16 copy.

    python benchmarks/passes.py --out results/benchmarks/passes

Milliseconds an image, forward alone and forward with the input's gradient, alternating, medians over ``--repeats``. The
weights are random: a pass costs the same whatever they are.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from attack_networks import ViTMAEPipeline, frozen_resnet, network
from heirloom.attacks.engine.folding import folded
from heirloom.attacks.engine.gradient import input_gradient, predict
from heirloom.attacks.engine.low_precision import Autocast, low_precision
from heirloom.attacks.losses import margin
from heirloom.cli.output import print_table
from heirloom.results.provenance import Stopwatch
from training import timed

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": partial(network, "resnet18"),
    "resnet18-w16": partial(network, "resnet18-w16"),
    "vit-mae, 96 wide, 4 layers": ViTMAEPipeline,
    "vit-mae, 384 wide, 6 layers": partial(ViTMAEPipeline, width=384, layers=6, heads=6),
    "vit-mae, 768 wide, 4 layers": partial(ViTMAEPipeline, width=768, layers=4, heads=12),
    "resnet-18 of Transformers, frozen": partial(frozen_resnet, [2, 2, 2, 2], "basic"),
    "resnet-50 of Transformers, frozen": partial(frozen_resnet, [3, 4, 6, 3], "bottleneck"),
}


def measure(name: str, images: int, repeats: int, device: str) -> list[dict[str, object]]:
    torch.manual_seed(0)
    model = NETWORKS[name]().eval().to(device)
    x, y = torch.rand(images, 3, 32, 32, device=device), torch.zeros(images, dtype=torch.long, device=device)
    quick = folded(model, x[:3])
    forms = {
        "float32": model,
        "float32, folded": quick,
        "bfloat16 autocast": Autocast(quick, torch.bfloat16),
        "bfloat16 copy": low_precision(quick, x[:3], torch.bfloat16),
        "bfloat16 copy, not folded": low_precision(model, x[:3], torch.bfloat16),
    }
    spent: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats + 1):
        for form, module in forms.items():
            spent.setdefault((form, "forward"), []).append(timed(partial(_forward, module, x), device)[0])
            both = partial(input_gradient, module, x, y, margin)
            spent.setdefault((form, "forward and backward"), []).append(timed(both, device)[0])
    cost = {key: 1e3 * statistics.median(values[1:]) / images for key, values in spent.items()}
    return [
        {
            "network": name,
            "form": form,
            "pass": kind,
            "ms": round(cost[form, kind], 3),
            "times as fast": round(cost["float32", kind] / cost[form, kind], 2),
        }
        for kind in ("forward", "forward and backward")
        for form in forms
    ]


@torch.no_grad()
def _forward(model: nn.Module, x: Tensor) -> None:
    predict(model, x)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    watch, rows = Stopwatch(), []
    for name in options.networks:
        rows += measure(name, options.images, options.repeats, options.device)
    settings = {"images": options.images, "repeats": options.repeats}
    watch.summary("benchmark", rows, seed=0, device=options.device, settings=settings).write(
        options.out / "summary.json"
    )
    print_table("ms an image", list(rows[0]), [list(row.values()) for row in rows])


if __name__ == "__main__":
    main()
