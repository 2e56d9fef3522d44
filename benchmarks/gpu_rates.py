"""What a pass costs here: encoders by batch size, precision and layout; and how often a step stops for the CPU.

    python benchmarks/gpu_rates.py --device cuda --out results/benchmarks/gpu-rates

Each figure is the median over repeats after one to warm up, the device synchronised around it. "stops" are the calls
for which a GPU has to finish what it was given before the CPU goes on (``.item()``, a boolean mask as index),
counted on the operators, so that they are the same on a CPU. Memory is the allocator's peak, on a GPU alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks import pgd
from heirloom.attacks.engine.compiled import Compiled
from heirloom.networks.backbones import BackboneSettings, build_backbone
from heirloom.pretraining.steps import Classifier
from heirloom.results.provenance import Stopwatch
from heirloom.runtime.stops import Stops
from heirloom.threat import Threat
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.supervised import supervised_step

THREAT = Threat("Linf", 8 / 255)


def vit(width: int, layers: int, heads: int, side: int) -> nn.Module:
    """A ViT of Transformers with the sizes of ViT-S, -B and -L, drawn at random: a pass costs the same."""
    from transformers import ViTConfig, ViTModel

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = ViTModel(
                ViTConfig(
                    hidden_size=width,
                    num_hidden_layers=layers,
                    num_attention_heads=heads,
                    intermediate_size=4 * width,
                    image_size=side,
                    patch_size=16,
                ),
                add_pooling_layer=False,
            )
            self.head = nn.Linear(width, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x).last_hidden_state[:, 0])

    return Pooled()


def resnet18() -> nn.Module:
    backbone = build_backbone(BackboneSettings("resnet18"))
    return Classifier(backbone, nn.Linear(backbone.feature_size, 10))


def small() -> nn.Module:
    backbone = build_backbone(BackboneSettings("resnet8"))
    return Classifier(backbone, nn.Linear(backbone.feature_size, 10))


# name: (made by, side of the images, batch sizes)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, ...]]] = {
    "resnet18, 32 px": (resnet18, 32, (128, 512, 2048)),
    "ViT-S/16, 224 px": (lambda: vit(384, 12, 6, 224), 224, (32, 128)),
    "ViT-B/16, 224 px": (lambda: vit(768, 12, 12, 224), 224, (32, 128)),
    "ViT-L/16, 224 px": (lambda: vit(1024, 24, 16, 224), 224, (16, 64)),
}
SMALLEST = {"resnet8, 32 px": (small, 32, (4,))}
FORMS = ("float32", "tf32", "bf16", "bf16 channels_last")
COMPILED = {
    "resnet18, 32 px",
    "ViT-B/16, 224 px",
}  # by torch.compile with CUDA graphs; compiling takes its time


def rates(name: str, form: str, device: str, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds an image of a forward pass, and of one with the input's gradient, for each batch size."""
    make, side, sizes = NETWORKS[name]
    model = make().to(device).eval().requires_grad_(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = form == "tf32"
    layout = torch.channels_last if "channels_last" in form else torch.contiguous_format
    model = model.to(memory_format=layout)  # type: ignore[call-overload]
    if "compiled" in form:
        model = Compiled(model, torch.device(device))
    rows = []
    for size in sizes:
        x = torch.rand(size, 3, side, side, device=device).to(memory_format=layout)
        cast = torch.autocast(torch.device(device).type, torch.bfloat16) if "bf16" in form else nullcontext()
        row: dict[str, Any] = {"network": name, "form": form, "batch": size}
        try:
            with cast:
                row["forward ms"] = _milliseconds(lambda x=x: _forward(model, x), size, device, repeats)
                row["with gradient ms"] = _milliseconds(
                    lambda x=x: _gradient(model, x), size, device, repeats
                )
        except torch.OutOfMemoryError:
            row["forward ms"] = "out of memory"
        if device.startswith("cuda"):
            row["peak MB an image"] = round(torch.cuda.max_memory_allocated() / size / 2**20, 1)
            torch.cuda.reset_peak_memory_stats()
        rows.append(row)
    return rows


def _forward(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)


def _gradient(model: nn.Module, x: Tensor) -> None:
    x = x.detach().requires_grad_()
    torch.autograd.grad(model(x).float().sum(), x)


def _milliseconds(run: Callable[[], None], images: int, device: str, repeats: int) -> float:
    spent = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        spent.append(1000 * (time.perf_counter() - started) / images)
    return round(statistics.median(spent[1:]), 4)


def stops(device: str) -> list[dict[str, Any]]:
    """Of one PGD-10, where nothing can stop early, and of one step of adversarial training after the first, which
    looks whether the network folds."""
    model, x = small().to(device).eval(), torch.rand(8, 3, 32, 32, device=device)
    y, generator = torch.zeros(8, dtype=torch.long, device=device), torch.Generator(device).manual_seed(0)
    step = supervised_step(None, THREAT, InnerAttack(10))
    with Stops() as attack:
        pgd(model, x, y, THREAT, steps=10, generator=generator)
    step(model.train(), x, y, generator)
    with Stops() as training:
        step(model.train(), x, y, generator)["loss"].backward()
    return [
        {"what": "pgd-10", "stops": attack.count},
        {"what": "step of adversarial training", "stops": training.count},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.smoke:
        NETWORKS.clear()
        NETWORKS.update(SMALLEST)  # type: ignore[arg-type]
        options.repeats = 1
    watch, rows = Stopwatch(), stops(options.device)
    forms = FORMS if options.device.startswith("cuda") else ("float32",)
    for name in NETWORKS:
        also = ("bf16 channels_last compiled",) if name in COMPILED else ()
        for form in (*forms, *also):
            rows += rates(name, form, options.device, options.repeats)
            print(rows[-1], flush=True)
            settings = {"repeats": options.repeats}
            watch.summary("benchmark", rows, seed=0, device=options.device, settings=settings).write(
                options.out / "summary.json"
            )


if __name__ == "__main__":
    main()
