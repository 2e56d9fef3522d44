"""heirloom's attacks against the peers', in one process, to the same verdicts: seconds and passes.

    python benchmarks/attacks.py --network resnet18 --attack pgd-20 --out results/benchmarks/pgd-resnet18
    python benchmarks/attacks.py --network resnet18-w16 --attack autoattack --examples 12 \\
        --out results/benchmarks/autoattack-resnet18-w16

Runs alternate, in both orders; a figure is the median over ``--repeats``. "cpu" is this process's processor time,
which other work on the machine disturbs little; "wall" is the clock's. The images are ones that the network
classifies correctly, so that nothing is gained by skipping the others. ``--network`` is trained first, once, if
``--weights`` has none (see attack_networks.py). Passes are counted per example: a forward pass over 10 images
counts 10, its backward pass 10 more, which makes the figure independent of the machine. Peers run as their
documentation has it, with the same threat, steps and step size; their verdict is the model's own prediction on
what they return. The summary is written anew after each round.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from attack_networks import NAMES, trained
from heirloom.attacks import misclassified, pgd
from heirloom.attacks.named import Attack
from heirloom.cli.output import print_table
from heirloom.data.images import load_images
from heirloom.data.labelled import LabelledImages
from heirloom.evaluation.verdicts import evaluate
from heirloom.results.provenance import Stopwatch
from heirloom.threat import Threat, parse_eps

Contender = Callable[[nn.Module, Tensor, Tensor, Threat, int], Tensor]


def main() -> None:
    options = parse()
    watch = Stopwatch()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    data = load_images(str(options.data))
    weights = options.weights or Path(f"runs/bench/{options.network}.safetensors")
    model = trained(options.network, weights, data.train, seconds=options.train_seconds).to(device)
    x, y = correct_examples(model, data.test, options.examples, device)
    threat = Threat("Linf", parse_eps(options.eps))
    settings = {
        "network": options.network,
        "attack": options.attack,
        "examples": len(x),
        "threat": str(threat),
        "data": "cifar10 test, correctly classified",
        "threads": options.threads,
    }
    for repeat, rows in enumerate(measure(model, x, y, threat, options), start=1):
        settings |= {"repeats": repeat, "load": [round(value, 1) for value in os.getloadavg()]}
        result = watch.summary("benchmark", rows, seed=1, device=options.device, settings=settings)
        result.write(options.out / "summary.json")
    columns = list(rows[0])
    print_table(f"{options.attack}, {options.network}", columns, [[row[c] for c in columns] for row in rows])


def measure(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, options: argparse.Namespace
) -> Iterator[list[dict[str, object]]]:
    """After each round, one row a contender: seconds, passes, robust accuracy, agreement with ours."""
    contenders = contenders_of(options.attack)
    names = [n for n in contenders if not options.only or n in options.only.split(",")]
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    counts: dict[str, tuple[float, float]] = {}
    verdicts: dict[str, Tensor] = {}
    for repeat in range(options.repeats):
        for name in names if repeat % 2 == 0 else names[::-1]:
            contender = contenders[name]
            with PassCounter() if repeat == 0 else contextlib.nullcontext() as counter:
                started, used = time.perf_counter(), time.process_time()
                found = verdict(contender, model, x, y, threat, seed=repeat)
                synchronise(x.device)
                wall[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - used)
            if counter is not None:
                verdicts[name] = found
                counts[name] = (counter.forward / len(x), counter.backward / len(x))
            print(f"{name}: {cpu[name][-1]:.2f} s cpu, {wall[name][-1]:.2f} s wall", flush=True)
        yield table(names, wall, cpu, counts, verdicts)


def table(
    names: list[str],
    wall: dict[str, list[float]],
    cpu: dict[str, list[float]],
    counts: dict[str, tuple[float, float]],
    verdicts: dict[str, Tensor],
) -> list[dict[str, object]]:
    ours = names[0]
    return [
        {
            "tool": name,
            "cpu": round(statistics.median(cpu[name]), 3),
            "cpu range": f"{min(cpu[name]):.2f} to {max(cpu[name]):.2f}",
            "wall": round(statistics.median(wall[name]), 3),
            "times ours": round(statistics.median(cpu[name]) / statistics.median(cpu[ours]), 2),
            "forward": round(counts[name][0], 1),
            "backward": round(counts[name][1], 1),
            "robust": round(float(verdicts[name].double().mean()), 4),
            "agrees": round(float((verdicts[name] == verdicts[ours]).double().mean()), 4),
            "ours alone robust": int((verdicts[ours] & ~verdicts[name]).sum()),
        }
        for name in names
    ]


def correct_examples(
    model: nn.Module, data: LabelledImages, count: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """``count`` random test images that ``model`` classifies correctly, and their labels."""
    chosen = data.limit(min(len(data), 50 * count), seed=1)
    kept: list[int] = []
    for start in range(0, len(chosen), 100):
        batch = chosen.select(torch.arange(start, min(start + 100, len(chosen))))
        with torch.no_grad():
            right = ~misclassified(model(batch.images.to(device)).cpu(), batch.labels)
        kept += [start + int(i) for i in right.nonzero().flatten()]
        if len(kept) >= count:
            break
    subset = chosen.select(torch.tensor(kept[:count]))
    return subset.images.to(device), subset.labels.to(device)


def verdict(
    contender: Contender, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int
) -> Tensor:
    """(N,) True where the model is still right, in float32, on what the contender returns."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        x_adv = contender(model, x, y, threat, seed)
    with torch.inference_mode():
        return ~misclassified(model(x_adv).float(), y).cpu()


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PassCounter:
    """Counts the examples that go forward through any model, and those for which a gradient comes back.

    It watches the outermost module of each call, so that copies (BatchNorm folded, low precision) count too.
    """

    def __init__(self) -> None:
        self.forward, self.backward, self._depth = 0, 0, 0

    def _enter(self, module: nn.Module, inputs: object) -> None:
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        self._depth -= 1
        output = output[-1] if isinstance(output, (list, tuple)) else output  # ART's wrapper returns a list
        of_images = bool(inputs) and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4  # not a loss
        if self._depth or not of_images or not isinstance(output, Tensor):
            return
        self.forward += len(output)
        if output.requires_grad and torch.is_grad_enabled():
            output.register_hook(lambda gradient: self._add(len(gradient)))

    def _add(self, count: int) -> None:
        self.backward += count

    def __enter__(self) -> PassCounter:
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()


def pgd_20(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    """With the peers' step size."""
    return pgd(
        model, x, y, threat, steps=20, step_size=threat.eps / 4, until=misclassified, generator=generator
    )


def ours(attack: Attack | str, dtype: torch.dtype | None) -> Contender:
    """The harness, as users run it: its own predictions and projections count."""

    def run(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
        return evaluate(
            model,
            (x.cpu(), y.cpu()),
            threat,
            [attack],
            batch_size=len(x),
            seed=seed,
            device=x.device,
            attack_dtype=dtype,
        ).x_adv.to(x.device)

    return run


def torchattacks_pgd(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
    import torchattacks

    torch.manual_seed(seed)
    return torchattacks.PGD(model, eps=threat.eps, alpha=threat.eps / 4, steps=20)(x, y)


def foolbox_pgd(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
    import foolbox

    torch.manual_seed(seed)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    attack = foolbox.attacks.LinfPGD(steps=20, abs_stepsize=threat.eps / 4)
    return attack(wrapped, x, y, epsilons=threat.eps)[1]


def art_pgd(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
    import numpy
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    numpy.random.seed(seed)
    classifier = PyTorchClassifier(
        model,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        10,
        clip_values=(0, 1),
        device_type="gpu" if x.is_cuda else "cpu",
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier,
        eps=threat.eps,
        eps_step=threat.eps / 4,
        max_iter=20,
        num_random_init=1,
        batch_size=len(x),
        verbose=False,
    )
    return torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(x.device)


def pyautoattack_standard(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
    from pyautoattack import AutoAttack

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    attack = AutoAttack(
        model, eps=threat.eps, norm=threat.norm, version="standard", seed=seed, device=str(x.device)
    )
    return attack.run_standard_evaluation(x, y, batch_size=len(x))[0]


def torchattacks_autoattack(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
    import torchattacks

    return torchattacks.AutoAttack(model, norm=threat.norm, eps=threat.eps, seed=seed, n_classes=10)(x, y)


def torchattacks_100_steps(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int) -> Tensor:
    """Its AutoAttack takes 10 steps of APGD and FAB; this one has the paper's 100, by its own parts."""
    from torchattacks import APGD, APGDT, FAB, MultiAttack, Square

    common = {"eps": threat.eps, "norm": threat.norm, "seed": seed, "n_restarts": 1}
    parts = [
        APGD(model, steps=100, loss="ce", **common),
        APGDT(model, steps=100, n_classes=10, **common),
        FAB(model, steps=100, multi_targeted=True, n_classes=10, **common),
        Square(model, n_queries=5000, **common),
    ]
    return MultiAttack(parts)(x, y)


def contenders_of(attack: str) -> dict[str, Contender]:
    if attack == "pgd-20":
        return {
            "heirloom": ours(Attack("pgd-20", (pgd_20,)), None),
            "heirloom bf16": ours(Attack("pgd-20", (pgd_20,)), torch.bfloat16),
            "torchattacks": torchattacks_pgd,
            "foolbox": foolbox_pgd,
            "ART": art_pgd,
        }
    return {
        "heirloom": ours("autoattack", None),
        "heirloom bf16": ours("autoattack", torch.bfloat16),
        "pyautoattack": pyautoattack_standard,
        "torchattacks": torchattacks_autoattack,
        "torchattacks 100 steps": torchattacks_100_steps,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=NAMES, default="resnet18")
    parser.add_argument("--attack", choices=("pgd-20", "autoattack"), default="pgd-20")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--only", default="", help="contenders to run, comma separated; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/cifar10")
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--train-seconds", type=float, default=240)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
