"""Half an hour of a GPU used well: one command, time-boxed, that goes on where it was stopped.

    python benchmarks/gpu.py --minutes 30 --data DATA --out runs/gpu            on a machine with a GPU
    python benchmarks/gpu.py --smoke --out runs/gpu-smoke                       to the end on a CPU, in a minute

In order: what the machine is; the tests marked ``gpu``; rates (a forward and a backward pass of encoders from ResNet-18
to ViT-L, by batch size, precision and layout, with their memory; how often a training step and an attack stop
for the CPU); attacks beside the peers; training steps beside a plain loop; then the recipes at scale ``gpu`` in the
order of what they settle, each for what is left of its share and gone on with by the same command. Every step is a
process of its own with a limit, so that one that hangs costs its share alone. ``OUT/gpu.json`` is written after each:
its command, exit status, seconds and what it said last; a step that ended well is not done again. What needs a network
is nowhere: data are given as folders (``DATA/cifar10``), peers that are not installed are left out and named.
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
    ("cropd/table-2", "does CRoPD keep robustness with the paper's own network and steps?"),
    ("inheritance/table-1", "do heads inherit, with a ResNet-18 trained to the end?"),
    ("features/table-1", "which features do standard and adversarial training learn, at full length?"),
    ("cropd/table-1", "two classes, clean and robust heads"),
    ("inheritance/table-5", "augmentation in contrastive training under attack"),
)


@dataclass(frozen=True)
class Step:
    """A command, at most ``share`` of the minutes; ``settles``: why it is done."""

    name: str
    command: list[str]
    share: float
    settles: str = ""


def steps(options: argparse.Namespace) -> list[Step]:
    python, device, out = sys.executable, options.device, options.out
    bench = str(ROOT / "benchmarks")
    rates = [python, f"{bench}/gpu_rates.py", "--device", device, "--out", str(out / "rates")]
    tests = [python, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(ROOT / "tests" / "gpu")]
    training = [python, f"{bench}/training.py", "--device", device, "--out", str(out / "training.json")]
    small = ["--networks", "resnet8", "--batch-size", "4", "--repeats", "1"]
    first = [
        *([Step("tests", tests, 0.1)] if find_spec("pytest") else []),
        Step("rates", [*rates, *(["--smoke"] if options.smoke else [])], 0.15),
        Step("training", [*training, *(small if options.smoke else ["--batch-size", "512"])], 0.1),
    ]
    return [*first, *attacks(options), *recipes(options)]


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
        found.append(Step(f"attack {attack}", command, 0.1))
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
            0.5,
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
        left = min(deadline - time.monotonic(), 60 * options.minutes * step.share)
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
