"""What large jobs cost, counted: floating-point operations of every pass, and the bytes that one allocates.

    python benchmarks/costs.py --out results/benchmarks/costs

Operations are counted on torch's meta device, without computing one; bytes (the most that a batch keeps for its
backward pass) on one image of a network whose weights are zero. A backward pass for the input alone counts as one
forward pass, one for the weights as another. Hours are operations over a rate: that of one core, from the recorded
training benchmark (PGD-10 training of a ResNet-18, ours, float32), and ``--teraflops`` of a GPU, which is an assumption
until ``benchmarks/gpu_rates.py`` has been recorded on one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from heirloom.cli.output import print_table
from heirloom.models.memory import bytes_per_image
from heirloom.models.preprocessor import build_preprocessor
from heirloom.networks.backbones import BackboneSettings, build_backbone
from heirloom.results.provenance import Stopwatch
from heirloom.runtime.files import read_json

MEASURED = Path(__file__).parents[1] / "results" / "inheritance" / "training-benchmark.json"
PGD_10_STEP = (
    11 + 10 + 3
)  # forward passes of the attack, its input gradients, the trained pass (forward, both gradients)
AUTOATTACK = 3164 + 783  # passes an image that stands: results/benchmarks/autoattack-resnet18
IMAGENET, CIFAR = 1_281_167, 50_000


def vit(width: int, layers: int, heads: int) -> nn.Module:
    from transformers import ViTConfig, ViTModel

    sizes = ViTConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * width
    )
    return ViTModel(sizes, add_pooling_layer=False)


def gigaflops(make: Any, side: int) -> float:
    """Of a forward pass of one image."""
    with torch.device("meta"):
        model = make().eval()
        x = torch.empty(1, 3, side, side)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() / 1e9


def megabytes(make: Any, side: int) -> float:
    """That a forward pass of one image allocates."""
    with torch.device("meta"):
        model = make().eval()
    model = model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    return bytes_per_image(model, torch.rand(1, 3, side, side)) / 1e6


NETWORKS: dict[str, tuple[Any, int]] = {
    "resnet18, 32 px": (lambda: build_backbone(BackboneSettings("resnet18")), 32),
    "vit-small32 (CRoPD), 32 px": (lambda: build_preprocessor("vit-small32", (3, 32, 32)), 32),
    "ViT-S/16, 224 px": (lambda: vit(384, 12, 6), 224),
    "ViT-B/16, 224 px": (lambda: vit(768, 12, 12), 224),
    "ViT-L/16, 224 px": (lambda: vit(1024, 24, 16), 224),
}


def jobs(cost: dict[str, float]) -> list[dict[str, Any]]:
    """(what, passes as forward ones, of which network)."""
    listed = [
        (
            "CRoPD's preprocessor, CIFAR-10, 400 epochs",
            400 * CIFAR * (4 + 2 * 3),
            "vit-small32 (CRoPD), 32 px",
        ),
        (
            "adversarial pre-training, CIFAR-10, 200 epochs of PGD-10",
            200 * CIFAR * PGD_10_STEP,
            "resnet18, 32 px",
        ),
        ("features of ImageNet-1k, once", IMAGENET, "ViT-L/16, 224 px"),
        ("a ViT-S student on ImageNet-1k, 30 epochs, one-step attack", 30 * IMAGENET * 5, "ViT-S/16, 224 px"),
        ("AutoAttack, 1000 images that stand", 1000 * AUTOATTACK, "ViT-B/16, 224 px"),
        ("AutoAttack, 1000 images that stand", 1000 * AUTOATTACK, "ViT-L/16, 224 px"),
        ("PGD-10, 50,000 images that stand", 50_000 * 21, "ViT-L/16, 224 px"),
    ]
    return [
        {"job": what, "network": name, "exaflops": passes * cost[name] / 1e9} for what, passes, name in listed
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teraflops", type=float, default=100.0, help="A GPU's, as assumed.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    watch, cost = Stopwatch(), {name: gigaflops(*network) for name, network in NETWORKS.items()}
    (row,) = [r for r in read_json(MEASURED)["rows"] if r["network"] == "resnet18"]
    core = row["images_per_processor_second"]["ours"] * PGD_10_STEP * cost["resnet18, 32 px"]  # GFLOP/s
    rows = jobs(cost)
    for job in rows:
        job["core hours, measured rate"] = round(job["exaflops"] * 1e9 / core / 3600, 1)
        job["GPU hours, assumed rate"] = round(job["exaflops"] * 1e6 / options.teraflops / 3600, 2)
        job["exaflops"] = round(job["exaflops"], 4)
    settings = {
        "GFLOP of a forward pass": {name: round(value, 2) for name, value in cost.items()},
        "MB that it allocates": {name: round(megabytes(*network), 1) for name, network in NETWORKS.items()},
        "GFLOP/s of a core, measured": round(core, 1),
        "TFLOP/s of a GPU, assumed": options.teraflops,
    }
    watch.summary("benchmark", rows, seed=0, device="cpu", settings=settings).write(
        options.out / "summary.json"
    )
    print(settings)
    print_table("What it costs", list(rows[0]), [list(job.values()) for job in rows])


if __name__ == "__main__":
    main()
