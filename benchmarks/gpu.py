"""Half an hour of a GPU used well: one command, time-boxed, that goes on where it was stopped.

    python benchmarks/gpu.py --minutes 30 --data DATA --out runs/gpu            on a machine with a GPU
    python benchmarks/gpu.py --smoke --out runs/gpu-smoke                       to the end on a CPU, in a minute

In order: the tests marked ``gpu``; rates (a forward and a backward pass of encoders from ResNet-18 to ViT-L, by batch
size, precision and layout, with their memory; how often a training step and an attack stop for the CPU); the one
result that most depends on, a ResNet-18 of CIFAR-10 defended by ``distil`` (goal: 45 % under ``cascade`` at 80 %
clean); attacks beside the peers; training steps beside a plain loop; then the recipes at scale ``gpu``. Every step is
a process of its own with a limit in minutes, so that one that hangs costs its limit alone. ``OUT/gpu.json`` is
written after each: its command, exit status, seconds and what it said last. The same command again does what is left
and goes on with what ran out of time: where a machine is lent for ten minutes a command, ``--minutes 9`` three times.
What needs a network is nowhere: data are given as folders (``DATA/cifar10``), peers that are not installed are left
out and named.

Do the limits suffice? By operations (benchmarks/costs.py: a ResNet-18 at 32 pixels is 1.11 GFLOP forward) and the
100 TFLOP/s in bf16 that docs/costs.md assumes, a tenth of an H100's peak: 30 clean epochs are 5 PFLOP, a minute; an
epoch of ``distil`` with three attack steps is 0.5 PFLOP, 5 s: 120 of them in the ten minutes that it trains for. Each
process takes 15 to 30 s to start and to read CIFAR-10.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from heirloom.results.provenance import Stopwatch
from heirloom.runtime.files import read_json, write_json

ROOT = Path(__file__).parents[1]
PEERS = {"torchattacks": "torchattacks", "foolbox": "foolbox", "ART": "art", "pyautoattack": "pyautoattack"}
OUT_OF_TIME = 3  # of ``heirloom reproduce --minutes``: the same command goes on
DONE = (0, 5)  # 5: pytest found no test for this machine
# what each settles, first what most depends on
RECIPES = (
    ("inheritance/table-1", "do heads inherit, with a ResNet-18 trained to the end?"),
    ("cropd/table-2", "does CRoPD keep robustness with the paper's own network and steps?"),
    ("features/table-1", "which features do standard and adversarial training learn, at full length?"),
    ("cropd/table-1", "two classes, clean and robust heads"),
    ("inheritance/table-5", "augmentation in contrastive training under attack"),
)


@dataclass(frozen=True)
class Step:
    """A command, for at most so many minutes at a time; ``settles``: why it is done."""

    name: str
    command: list[str]
    minutes: float
    settles: str = ""


def steps(options: argparse.Namespace) -> list[Step]:
    python, device, out = sys.executable, options.device, options.out
    bench = str(ROOT / "benchmarks")
    rates = [python, f"{bench}/gpu_rates.py", "--device", device, "--out", str(out / "rates")]
    tests = [python, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(ROOT / "tests" / "gpu")]
    training = [python, f"{bench}/training.py", "--device", device, "--out", str(out / "training.json")]
    small = ["--networks", "resnet8", "--batch-size", "4", "--repeats", "1"]
    return [
        *([Step("tests", tests, 2)] if find_spec("pytest") else []),
        Step("rates", [*rates, *(["--smoke"] if options.smoke else [])], 4),
        *defence(options),
        *attacks(options),
        Step("training", [*training, *(small if options.smoke else ["--batch-size", "512"])], 2),
        *recipes(options),
    ]


def defence(options: argparse.Namespace) -> list[Step]:
    """A classifier trained cleanly, and a defence of it that learns from it alone."""
    if options.data is None and not options.smoke:
        return []
    cli, out = [sys.executable, "-m", "heirloom"], options.out
    data = "digits" if options.smoke else str(options.data / "cifar10")
    common = ["--data", data, "--device", options.device, "--resume"]
    pretrain = "--network resnet18 --clean-epochs 30 --schedule cosine --warmup 1 --batch-size 512 --learning-rate 0.2"
    pretrain += " --mixed-precision bf16 --channels-last --compile --limit-test 1000 --attacks fgsm"
    distil = (
        "--eps 8/255 --head own --method distil --targets head --student resnet18 --student-activation silu"
    )
    distil += " --attack-steps 3 --minutes 10"
    distil += (
        " --batch-size 256 --learning-rate 2e-3 --mixed-precision bf16 --validation 0.02 --compare identity"
    )
    distil += (
        " --attacks pgd-20,cascade --attack-dtype bfloat16 --limit-test 1000 --audit-examples 32 --no-curve"
    )
    if options.smoke:
        tiny = " --limit 64 --limit-test 8 --batch-size 16"
        pretrain = "--network resnet8 --clean-epochs 1 --attacks fgsm --validation 0.2" + tiny
        distil = (
            "--head own --method distil --targets head --student-width 4 --steps 1,1 --compare identity"
            + tiny
        )
        distil += " --attacks fgsm --audit-examples 0 --no-curve"
    distil += " --checkpoint-seconds 20"
    return [
        Step(
            "foundation",
            [*cli, "pretrain", *common, "--out", str(out / "foundation"), *pretrain.split()],
            4,
            "what is defended",
        ),
        Step(
            "distil",
            [
                *cli,
                "defend",
                "--model",
                str(out / "foundation" / "encoder"),
                *common,
                "--out",
                str(out / "distil"),
                *distil.split(),
            ],
            15,
            "45 % under cascade at 80 % clean, on CIFAR-10 at 8/255, in half an hour?",
        ),
    ]


def attacks(options: argparse.Namespace) -> list[Step]:
    """Passes and AutoAttack beside the peers that are installed; they need CIFAR-10."""
    if options.data is None:
        return []
    there = [name for name, module in PEERS.items() if find_spec(module)]
    only = ",".join(["heirloom", "heirloom bf16", *there])
    found = []
    for attack, examples in (("pgd-20", 512), ("autoattack", 128)):
        command = [sys.executable, str(ROOT / "benchmarks" / "attacks.py"), "--network", "resnet18"]
        command += [
            "--attack",
            attack,
            "--examples",
            str(examples),
            "--only",
            only,
            "--device",
            options.device,
        ]
        command += ["--data", str(options.data / "cifar10"), "--train-seconds", "60"]
        command += [
            "--weights",
            str(options.out / "resnet18.safetensors"),
            "--out",
            str(options.out / attack),
        ]
        found.append(Step(f"attack {attack}", command, 3))
    return found


def recipes(options: argparse.Namespace) -> list[Step]:
    scale, made = ("smoke", RECIPES[:1]) if options.smoke else ("gpu", RECIPES)
    given: list[str] = []
    if options.data is not None and not options.smoke:
        names = sorted(path.name for path in options.data.iterdir() if path.is_dir())
        given = [word for name in names for word in ("--data", f"{name}={options.data / name}")]
    if options.smoke:
        made = (("inheritance/figure-1", "that recipes run"),)
    base = [sys.executable, "-m", "heirloom", "reproduce"]

    def where(name: str) -> list[str]:
        folder = str(options.out / name.partition("/")[0])
        return ["--scale", scale, "--device", options.device, "--out", folder]

    return [
        Step(
            f"recipe {name}",
            [*base, name, *where(name), *_known(name, given)],
            60,
            settles,
        )
        for name, settles in made
    ]


def _known(recipe: str, given: list[str]) -> list[str]:
    """Those of the data sets that the paper of ``recipe`` names."""
    names = {
        "cropd": ("cifar10", "mnist", "fashion-mnist", "digits"),
        "inheritance": ("cifar10", "cifar100", "cinic10"),
        "features": ("cifar10", "mnist"),
    }[recipe.partition("/")[0]]
    pairs = zip(given[::2], given[1::2], strict=True)
    return [word for flag, pair in pairs if pair.partition("=")[0] in names for word in (flag, pair)]


def run(step: Step, seconds: float, log: Path) -> dict[str, Any]:
    """What became of a step that was given so long."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1"}
    command, started = list(step.command), time.perf_counter()
    if step.name.startswith("recipe"):
        command += ["--minutes", f"{max(0.1, seconds / 60 - 0.5):.2f}"]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        child = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        try:
            status: int | str = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()  # whole or absent: everything here writes its files aside
            child.wait()
            status = "out of time"
    said = log.read_text(errors="replace").strip().splitlines()[-12:]
    spent = round(time.perf_counter() - started, 1)
    shown = [word.replace(f"{ROOT}/", "").replace(sys.executable, "python") for word in command]
    return {
        "name": step.name,
        "settles": step.settles,
        "command": " ".join(shown),
        "status": "goes on" if status == OUT_OF_TIME else status,
        "seconds": spent,
        "said": said,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="For everything together.")
    parser.add_argument("--data", type=Path, help="Folder of data sets: cifar10/, mnist/, ...")
    parser.add_argument("--device", help="Default: cuda; with --smoke cpu.")
    parser.add_argument("--smoke", action="store_true", help="Every kind of step at the smallest size.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.device = options.device or ("cpu" if options.smoke else "cuda")
    watch, deadline = Stopwatch(), time.monotonic() + 60 * options.minutes
    kept = options.out / "gpu.json"
    rows: list[dict[str, Any]] = read_json(kept) if kept.exists() else []
    for step in steps(options):
        if any(row["name"] == step.name and row["status"] in DONE for row in rows):
            continue
        left = min(deadline - time.monotonic(), 60 * step.minutes)
        if left < 5:
            break
        print(f"{step.name}: at most {left:.0f} s", flush=True)
        found = run(step, left, options.out / "logs" / f"{step.name.replace('/', '-').replace(' ', '-')}.txt")
        print(f"{step.name}: {found['status']} after {found['seconds']} s", flush=True)
        rows = [row for row in rows if row["name"] != step.name] + [found]
        write_json(kept, rows)
    missing = [name for name, module in PEERS.items() if not find_spec(module)]
    settings = {"minutes": options.minutes, "smoke": options.smoke, "peers that are not here": missing}
    watch.summary("benchmark", rows, seed=0, device=options.device, settings=settings).write(
        options.out / "summary.json"
    )
    return int(any(row["status"] not in (*DONE, "goes on", "out of time") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
