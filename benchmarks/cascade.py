"""``cascade`` beside AutoAttack: verdicts image by image, and every pass of both, on small models of many kinds.

    python benchmarks/cascade.py --data DATA --work WORK --out results/benchmarks/cascade [--only 17-19] [--peer]

Trains the models of ``benchmarks/cascade_models.py`` (weights are kept in WORK, and AutoAttack's verdicts, which take
most of the time), then attacks. AutoAttack is ours; ``--peer`` puts pyautoattack's verdicts and passes beside it. Each
row has its own commit and seconds and is written as soon as it is known. ``--only`` says which cases, by number from 1;
rows of the others stay as OUT has them.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cascade_models import METHODS, SUBJECTS, defended, images_of, subject_model
from heirloom.attacks.engine.folding import folded
from heirloom.attacks.engine.passes import Counted, Passes
from heirloom.attacks.named import named_attack
from heirloom.evaluation.verdicts import evaluate
from heirloom.results.provenance import Stopwatch, commit
from heirloom.results.schema import Summary
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.threat import Threat

OTHERS = ("pgd-10", "pma-5")  # what an epoch may be chosen by
CASES = (
    ("digits, convolutional, standard", Threat("Linf", 0.06), 200),
    ("digits, convolutional, Linf .15", Threat("Linf", 0.15), 200),
    ("digits, convolutional, Linf .08", Threat("Linf", 0.12), 200),
    ("digits, convolutional, Linf .15", Threat("L2", 0.7), 200),
    ("digits, LayerNorm, Linf .15", Threat("L2", 0.6), 200),
    ("digits, ViT, Linf .1", Threat("Linf", 0.1), 200),
    ("digits, vanilla", Threat("Linf", 0.08), 200),
    ("digits, arae", Threat("Linf", 0.12), 200),
    ("digits, cropd", Threat("Linf", 0.12), 200),
    ("digits, cropd", Threat("L2", 0.6), 200),
    ("digits, cropd", Threat("Linf", 0.15), 200),
    ("MNIST, convolutional, Linf .1", Threat("Linf", 0.1), 200),
    ("MNIST, convolutional, Linf .15", Threat("Linf", 0.15), 200),
    ("CIFAR-10, ResNet-8, Linf 4/255", Threat("Linf", 4 / 255), 50),
    ("CIFAR-10, ResNet-8, Linf 4/255", Threat("L2", 0.25), 50),
    ("CIFAR-10, ViT, Linf 4/255", Threat("Linf", 4 / 255), 50),
    ("MNIST, convolutional, L2 1.5", Threat("L2", 1.5), 200),
    ("CIFAR-10, ResNet-8, standard", Threat("Linf", 1 / 255), 40),
    ("CIFAR-10, ResNet-8, Linf 8/255", Threat("Linf", 8 / 255), 40),
    ("digits, convolutional, Linf .15", Threat("L1", 1.0), 200),
    ("digits, convolutional, Linf .15", Threat("L1", 1.5), 200),
    ("digits, LayerNorm, Linf .15", Threat("L1", 2.0), 200),
    ("digits, cropd", Threat("L1", 1.5), 200),
)


def model_of(name: str, work: Path, data: Path) -> tuple[nn.Module, str]:
    for subject in SUBJECTS:
        if subject.name == name:
            return subject_model(subject, work, data), subject.source
    method = name.split()[-1]
    assert method in METHODS
    return defended(method, work), "digits"


def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, kept: Path
) -> tuple[Tensor, dict[str, int]]:
    """Which images stand, and the passes that it took; read from ``kept`` if they lie there."""
    if not kept.exists():
        generator, counted = torch.Generator().manual_seed(0), Counted(folded(model, x[:3]))
        standing = (model(x).argmax(1) == y).nonzero().flatten()
        for part in named_attack("autoattack").parts:
            if len(standing):
                found = part(counted, x[standing], y[standing], threat, generator)
                standing = standing[model(found).argmax(1) == y[standing]]
        robust = torch.zeros(len(x), dtype=torch.bool)
        robust[standing] = True
        _keep(kept, robust, counted.passes)
    return _kept(kept)


def pyautoattack(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, kept: Path
) -> tuple[Tensor, dict[str, int]]:
    """Which images stand to pyautoattack's standard version, and its passes; read from ``kept`` if they lie there."""
    if not kept.exists():
        from pyautoattack import AutoAttack

        logging.getLogger("auto-attack").setLevel(logging.ERROR)
        counted = Counted(folded(model, x[:3]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attack = AutoAttack(counted, eps=threat.eps, norm=threat.norm, seed=0)
            found = attack.run_standard_evaluation(x, y, batch_size=256)[0]
        _keep(kept, model(found).argmax(1) == y, counted.passes)
    return _kept(kept)


def _keep(place: Path, robust: Tensor, passes: Passes) -> None:
    numbers = torch.tensor([passes.forward, passes.backward])
    write_tensors(place, {"robust": robust.to(torch.uint8), "passes": numbers})


def _kept(place: Path) -> tuple[Tensor, dict[str, int]]:
    tensors = read_tensors(place)[0]
    forward, backward = tensors["passes"].tolist()
    return tensors["robust"].bool(), {"forward": forward, "backward": backward}


def compare(name: str, threat: Threat, count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    model, source = model_of(name, arguments.work, arguments.data)
    test = images_of(source, arguments.data).test
    x, y = test.images[:count], test.labels[:count]
    kept = f"autoattack {name} {threat}.safetensors".replace("/", "-").replace(" ", "-").replace(",", "")
    theirs, passes = autoattack(model, x, y, threat, arguments.work / kept)
    row: dict[str, Any] = {"model": name, "norm": threat.norm, "eps": threat.eps, "n": count}
    for attack in ("cascade", *OTHERS):
        found = evaluate(model, (x, y), threat, (attack,))
        row["clean"], row[attack] = int(found.correct["clean"].sum()), int(found.correct[attack].sum())
        row[f"{attack} passes"] = _shown(found.passes[attack])
        if attack == "cascade":
            ours = found.correct[attack]
    row |= {"autoattack": int(theirs.sum()), "autoattack passes": passes}
    row |= {"stand to cascade alone": int((ours & ~theirs).sum())}
    row |= {"stand to autoattack alone": int((theirs & ~ours).sum())}
    if arguments.peer:
        peer, taken = pyautoattack(model, x, y, threat, arguments.work / f"py{kept}")
        row |= {"pyautoattack": int(peer.sum()), "pyautoattack passes": taken}
        row |= {"stand to cascade, not pyautoattack": int((ours & ~peer).sum())}
        row |= {"stand to pyautoattack, not cascade": int((peer & ~ours).sum())}
        row |= {"autoattack and pyautoattack differ": int((theirs != peer).sum())}
    used, whole = sum(row["cascade passes"].values()), sum(passes.values())
    return row | {"share of passes": round(used / whole, 4)}


def _shown(passes: Passes) -> dict[str, int]:
    return {"forward": passes.forward, "backward": passes.backward}


def chosen(text: str | None) -> list[int]:
    """``3,17-19`` as numbers of cases from 0; None: all."""
    if text is None:
        return list(range(len(CASES)))
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return [number - 1 for first, *last in ends for number in range(first, (last or [first])[0] + 1)]


def earlier_rows(place: Path) -> dict[Any, dict[str, Any]]:
    """The rows of ``place``, each with the commit and seconds of its own; by model and threat."""
    if not place.exists():
        return {}
    kept = Summary.read(place)
    rows = [{"commit": kept.commit, **row} for row in kept.rows]
    return {(row["model"], row["norm"], row["eps"]): row for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of mnist/ and cifar10/")
    parser.add_argument("--work", type=Path, required=True, help="weights and AutoAttack's verdicts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", help="cases by number from 1, e.g. 3,17-19")
    parser.add_argument("--peer", action="store_true", help="pyautoattack too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    watch, place = Stopwatch(), arguments.out / "summary.json"
    rows = earlier_rows(place)
    for name, threat, count in (CASES[number] for number in chosen(arguments.only)):
        started = watch.seconds
        row = compare(name, threat, count, arguments)
        row |= {"seconds": round(watch.seconds - started, 1), "commit": commit()}
        rows[name, threat.norm, threat.eps] = row
        print(row, flush=True)
        keys = [(name, threat.norm, threat.eps) for name, threat, _ in CASES]
        shown = [rows[key] for key in keys if key in rows]
        watch.summary("benchmark", shown, seed=0).write(place)


if __name__ == "__main__":
    main()
