"""Peak memory and CPU time of ``defend``, ``probe`` and ``evaluate`` over the number of images, each a fresh process.

    python benchmarks/memory.py --images 2000,5000,10000,50000 --out results/benchmarks/memory

Photographs of 224 pixels are drawn and saved as JPEGs (train/ and test/ hold the same files, and 2000 of them stand
under as many names as are asked for), and a tiny model goes over them, so that what is measured are the images and not
the model (``--model efficientnet``: an EfficientNet-B0 with weights drawn at random, for what a model of 4 million
parameters takes at 224 pixels). Memory: the highest sum over the process and its workers of what is theirs alone
(anonymous pages, shared ones divided: Pss_Anon), and the process's own highest resident set (VmHWM), asked for every
quarter of a second. A row whose command is done is not measured again: the script can be stopped and goes on.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from heirloom.results.provenance import Stopwatch
from heirloom.runtime.files import read_json, write_json

SIDE, CLASSES = 224, 10
DRAWN = 2000  # photographs; a multiple of the classes, so that a file has one class under all its names
ROOT = Path(__file__).parents[1]
COMMON = {
    "defend": "--method bit-depth --compare , --head-epochs 3 --attacks fgsm --audit-examples 0 --no-curve",
    "probe": "--adversarial --adversarial-epochs 1 --attack-steps 1 --epochs 3 --attacks fgsm --validation-images 64",
    "evaluate": "--attacks fgsm --audit-examples 8",
}


class Tiny(nn.Module):
    """Averages over blocks of 16 pixels, then a linear layer; as an encoder, ten features; as a classifier, logits."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * (SIDE // 16) ** 2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(nn.functional.avg_pool2d(x, 16).flatten(1))


def tiny() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tiny()


class Features(nn.Module):
    """Pooled features (N, 1280) of an EfficientNet-B0 of Transformers."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import EfficientNetConfig, EfficientNetModel

        self.body = EfficientNetModel(
            EfficientNetConfig(width_coefficient=1.0, depth_coefficient=1.0, image_size=SIDE, hidden_dim=1280)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).pooler_output.flatten(1)


def efficientnet() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Features()


def photographs(folder: Path, count: int) -> Path:
    """``count`` JPEGs in class folders under train/, the same files under test/; clouds of random colours. The first
    ``DRAWN`` are drawn, the others are further names of the same files.
    """
    generator = np.random.default_rng(0)
    for number in range(count):
        place, other = (_place(folder / split, number) for split in ("train", "test"))
        if other.exists():
            continue
        if number >= DRAWN:
            os.link(_place(folder / "train", number % DRAWN), place)
        else:
            small = Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            small.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(place, quality=85)
        os.link(place, other)
    return folder


def _place(split: Path, number: int) -> Path:
    place = split / f"class-{number % CLASSES}" / f"{number:06d}.jpg"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def measured(arguments: list[str], log: Path) -> dict[str, float]:
    """Peak memory in MB and the seconds of a command of heirloom."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak = {"anonymous": 0, "resident": 0}
    with log.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "heirloom", *arguments],
            env=environment,
            cwd=ROOT,
            stdout=file,
            stderr=file,
        )
        while child.poll() is None:
            anonymous = sum(_kilobytes(pid, "smaps_rollup", "Pss_Anon:") for pid in _tree(child.pid))
            peak["anonymous"] = max(peak["anonymous"], anonymous)
            peak["resident"] = max(peak["resident"], _kilobytes(child.pid, "status", "VmHWM:"))
            time.sleep(0.25)
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {log.read_text()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "peak_mb": round(peak["anonymous"] / 1024, 1),
        "peak_resident_mb": round(peak["resident"] / 1024, 1),
        "cpu_seconds": round(spent, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _tree(pid: int) -> list[int]:
    """A process and its children."""
    try:
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return [pid]
    return [pid, *(one for child in told.split() for one in _tree(int(child)))]


def _kilobytes(pid: int, file: str, key: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    except (OSError, ProcessLookupError):
        pass
    return 0


def rows_of(options: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    kept = options.out / "rows.json"
    rows: list[dict[str, Any]] = read_json(kept) if kept.exists() else []
    done = {(row["images"], row["command"]) for row in rows}
    for count in map(int, options.images.split(",")):
        for command in options.commands.split(","):
            if (count, command) in done:
                continue
            folder = photographs(work / f"photographs-{count}", count)
            out, model = work / f"{command}-{count}", "--encoder" if command == "probe" else "--model"
            words = [
                command,
                model,
                f"benchmarks.memory:{options.model}",
                "--data",
                str(folder),
                "--out",
                str(out),
            ]
            words += [*COMMON[command].split(), *options.more.split(), "--device", "cpu"]
            found = measured(words, work / f"{command}-{count}.log")
            rows.append({"command": command, "images": count, **found})
            print(rows[-1], flush=True)
            write_json(kept, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="2000,5000,10000,50000")
    parser.add_argument("--commands", default="defend,probe,evaluate")
    parser.add_argument("--model", choices=["tiny", "efficientnet"], default="tiny")
    parser.add_argument("--more", default="", help="Further options of the commands.")
    parser.add_argument("--work", type=Path, help="Folder for images and runs [default: a temporary one].")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as temporary:
        rows = rows_of(options, options.work or Path(temporary))
    settings = {"side": SIDE, "model": options.model, "more": options.more, **COMMON}
    watch.summary("benchmark", rows, seed=0, device="cpu", settings=settings).write(
        options.out / "summary.json"
    )
    (options.out / "rows.json").unlink()


if __name__ == "__main__":
    main()
