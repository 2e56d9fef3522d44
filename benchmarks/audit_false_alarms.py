"""How often does the audit cry wolf? Sound models, trained cleanly and adversarially, audited at many settings.

    python benchmarks/audit_false_alarms.py --out results/audit/digits                  # minutes on one thread
    python benchmarks/audit_false_alarms.py --data ../shared/data/mnist --eps 0.1,0.2 --out results/audit/mnist
    python benchmarks/audit_false_alarms.py --kinds --eps 0.15 --l2 0.7 --seeds 1 --out results/audit/kinds

Every model is evaluated with the `strong` attack first. A failed check is an alarm; all these models are sound, so
every alarm is a false one or says that `strong` was too weak for that model (check `steps`).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.pgd import pgd
from heirloom.data.images import load_images
from heirloom.data.labelled import LabelledImages
from heirloom.evaluation import broken
from heirloom.evaluation.audit import audit, failed
from heirloom.evaluation.broken.base import seeded_modules
from heirloom.evaluation.verdicts import evaluate
from heirloom.networks.resnet import ResNet
from heirloom.results.provenance import Stopwatch
from heirloom.results.statistics import interval
from heirloom.runtime.randomness import generator_of
from heirloom.threat import Threat
from sound_models import KINDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--eps", default="0.05,0.1,0.15,0.25", help="Linf radii by commas")
    parser.add_argument("--l2", default="", help="L2 radii by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6, help="of training, for data other than digits")
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--kinds", action="store_true", help="the models of benchmarks/sound_models.py too")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    stopwatch = Stopwatch()
    threats = [Threat("Linf", float(eps)) for eps in arguments.eps.split(",")]
    threats += [Threat("L2", float(eps)) for eps in arguments.l2.split(",") if eps]
    images = load_images(arguments.data, limit=5000, limit_test=arguments.examples)
    data = (images.test.images, images.test.labels)
    rows = []
    for name, make in models(arguments, images.train, threats).items():
        for threat in threats:
            rows.append(one(name, make, data, threat, arguments.seeds))
            print(rows[-1], flush=True)
            write(stopwatch, rows, arguments)


def write(stopwatch: Stopwatch, rows: list[dict[str, object]], arguments: argparse.Namespace) -> None:
    audits, alarms = (sum(int(str(row[key])) for row in rows) for key in ("audits", "alarms"))
    low, high = interval(audits - alarms, audits)
    total = {"audits": audits, "alarms": alarms, "silent": {"low": low, "high": high}}
    stopwatch.summary(
        "audit",
        rows,
        seed=0,
        details=total,
        settings={"data": arguments.data, "examples": arguments.examples, "epochs": arguments.epochs},
    ).write(arguments.out / "summary.json")


def one(
    name: str, make: Callable[[int], nn.Module], data: tuple[Tensor, Tensor], threat: Threat, seeds: int
) -> dict[str, object]:
    alarms: Counter[str] = Counter()
    robust, alarmed = [], 0
    for seed in range(seeds):
        model = make(seed)
        evaluation = evaluate(model, data, threat, ["strong"], seed=seed)
        found = failed(audit(model, data, threat, evaluation, seed=seed))
        alarmed += bool(found)
        alarms.update(finding.check for finding in found)
        robust.append(round(evaluation.accuracy("strong").value, 3))
    row = {"model": name, "threat": str(threat), "audits": seeds, "alarms": alarmed, "checks": dict(alarms)}
    return row | {"robust": robust}


def models(
    arguments: argparse.Namespace, train: LabelledImages, threats: list[Threat]
) -> dict[str, Callable[[int], nn.Module]]:
    if arguments.data == "digits":
        small = {make.__name__: make for make in broken.SOUND}
        return {**small, **(KINDS if arguments.kinds else {})}  # type: ignore[dict-item]
    clean: dict[int, nn.Module] = {}
    robust: dict[int, nn.Module] = {}

    def make(store: dict[int, nn.Module], threat: Threat | None) -> Callable[[int], nn.Module]:
        def get(seed: int) -> nn.Module:
            if seed not in store:
                store[seed] = trained(train, arguments.epochs, seed, threat)
            return store[seed]

        return get

    return {"resnet8, clean": make(clean, None), "resnet8, adversarial": make(robust, threats[0])}


def trained(train: LabelledImages, epochs: int, seed: int, threat: Threat | None) -> nn.Module:
    """A ResNet-8 trained by Adam; on PGD-5 examples where a threat is given."""
    build = lambda: ResNet([16, 32, 64], [1, 1, 1], classes=len(train.classes), channels=train.shape[0])  # noqa: E731
    model, generator = seeded_modules(build, seed), generator_of(seed, "order")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        model.train()
        for batch in torch.randperm(len(train), generator=generator).split(128):
            part = train.select(batch)
            x, y = part.images, part.labels
            if threat is not None:
                x = pgd(model.eval(), x, y, threat, steps=5, step_size=threat.eps / 2, generator=generator)
                model.train()
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.requires_grad_(False).eval()


if __name__ == "__main__":
    main()
