"""Table 2: feature-based targeted attacks from a reference network, judged on other networks.

``heirloom reproduce features/table-2 --scale small --data mnist=FOLDER --data cifar10=FOLDER``. NRF-PGD moves the
representation of a standardly trained reference to that of a random image of the target class, RF-PGD an adversarially
trained one's; the judges are the networks of another seed. Success: the judge gives the target's class. An image that
the judge gave to that class before it was touched counts too, so that share stands beside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.feature_targeted import feature_targeted
from heirloom.results.schema import Summary
from heirloom.results.statistics import student
from heirloom.runtime.randomness import generator_of
from heirloom_recipes.claims import LOW, below, case, claim, gaps
from heirloom_recipes.features.laboratory import KINDS, Laboratory, images_of
from heirloom_recipes.features.open import finish, open_laboratory
from heirloom_recipes.features.paper import PAIRS, TABLE_2

ATTACKS = {"NRF-PGD": "standard", "RF-PGD": "adversarial"}  # whose representation is moved
Successes = dict[
    tuple[str, str, str, str], list[float]
]  # (data, pair, attack, judge) -> a share for each seed


def table_2(scale: str, out: Path, **options: Any) -> Summary:
    """Success by pair, attack and judge, with intervals over seeds, and the ordering that the paper claims."""
    laboratory = open_laboratory(scale, out, **options)
    found: Successes = {}
    for data in laboratory.datasets:
        for seed in laboratory.seeds:
            for key, success in _of_seed(laboratory, data, seed).items():
                pair, attack, judge = key.split("|")
                found.setdefault((data, pair, attack, judge), []).append(success)
    rows = [_row(key, found) for key in found if key[2] != "none"]
    return finish(laboratory, "table-2", rows, {"claims": _claims(found)})


def _of_seed(laboratory: Laboratory, data: str, seed: int) -> dict[str, float]:
    """``{"pair|attack|judge": success}`` of one seed, the attack ``none`` among them."""

    def made() -> dict[str, float]:
        images = laboratory.data(data).test
        judges = {kind: laboratory.classifier(laboratory.network(data, kind, seed)) for kind in KINDS}
        found = {}
        for pair, (source, target) in PAIRS[data].items():
            x = images.select(images_of(images, source, laboratory.scale.attacked)).images
            pool = images.select(images_of(images, target, len(images))).images
            attacked = {"none": x} | {
                attack: _attacked(laboratory, data, reference, seed, x, pool)
                for attack, reference in ATTACKS.items()
            }
            for attack, x_adv in attacked.items():
                for kind, judge in judges.items():
                    found[f"{pair}|{attack}|{kind}"] = _share(judge, x_adv, target, laboratory.device)
            laboratory.progress(f"{data}: pairs, seed {seed}", len(found), 6 * len(PAIRS[data]), pair)
        return found

    return laboratory.run.stage(f"table-2-{data}-{seed}", made)


def _attacked(laboratory: Laboratory, data: str, training: str, seed: int, x: Tensor, pool: Tensor) -> Tensor:
    """``x`` under the attack that moves the reference network's representation to that of random images of ``pool``."""
    reference = laboratory.reference(seed)
    encoder = laboratory.classifier(laboratory.network(data, training, reference)).encoder
    generator = generator_of(seed, "features", "table-2", data)
    targets = pool[torch.randint(len(pool), (len(x),), generator=generator)]
    parts = []
    for part, wanted in zip(x.split(250), targets.split(250), strict=True):
        with torch.no_grad():
            y = predict(encoder, wanted.to(laboratory.device))
        steps, threat = laboratory.scale.attack_steps, laboratory.threat(data)
        parts.append(
            feature_targeted(encoder, part.to(laboratory.device), y, threat, steps=steps, generator=generator)
        )
    return torch.cat(parts)


@torch.no_grad()
def _share(judge: torch.nn.Module, x: Tensor, target: int, device: str) -> float:
    hits = [judge(part.to(device)).argmax(1) == target for part in x.split(250)]
    return float(torch.cat(hits).double().mean())


def _row(key: tuple[str, str, str, str], found: Successes) -> dict[str, Any]:
    data, pair, attack, judge = key
    return {
        "data": data,
        "pair": pair,
        "attack": attack,
        "judge": judge,
        "success": student(found[key], 0.0, 1.0),
        "untouched": student(found[data, pair, "none", judge], 0.0, 1.0),
        "paper": TABLE_2.get(pair, {}).get(attack) if judge == "standard" else None,
    }


def _claims(found: Successes) -> list[dict[str, Any]]:
    pairs = list(dict.fromkeys((data, pair) for data, pair, _, _ in found))

    def compared(higher: tuple[str, str], lower: tuple[str, str]) -> list[dict[str, Any]]:
        return [
            case(f"{data}, {pair}", gaps(found[data, pair, *higher], found[data, pair, *lower]))
            for data, pair in pairs
        ]

    def low(attack: str, judge: str) -> list[dict[str, Any]]:
        """At most ``LOW`` above what the judge says of untouched images."""
        return [
            case(
                f"{data}, {pair}",
                below(LOW, gaps(found[data, pair, attack, judge], found[data, pair, "none", judge])),
            )
            for data, pair in pairs
        ]

    standard, adversarial = "standard", "adversarial"
    gain = f"gains less than {100 * LOW:g} points over untouched images"
    return [
        claim(
            "on the standard judge NRF-PGD succeeds more than RF-PGD",
            compared(("NRF-PGD", standard), ("RF-PGD", standard)),
        ),
        claim(
            "NRF-PGD succeeds more on the standard judge than on the adversarial one",
            compared(("NRF-PGD", standard), ("NRF-PGD", adversarial)),
        ),
        claim(
            "on the standard judge NRF-PGD gains something over untouched images",
            compared(("NRF-PGD", standard), ("none", standard)),
        ),
        claim(f"on the standard judge RF-PGD {gain}", low("RF-PGD", standard)),
        claim(f"on the adversarial judge NRF-PGD {gain}", low("NRF-PGD", adversarial)),
        claim(f"on the adversarial judge RF-PGD {gain}", low("RF-PGD", adversarial)),
    ]
