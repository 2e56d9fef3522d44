"""Do NRF-PGD examples transfer between architectures better than plain PGD's? The question of this table is ours.

``heirloom reproduce features/transfer --scale small --data mnist=FOLDER --data cifar10=FOLDER``. All networks are
standardly trained. The same images, targets (a random image of a random other class), radius, steps and start:
NRF-PGD moves the reference's representation to the target image's, PGD its logits to the target's class (targeted
cross-entropy) or away from the true one. The reference is the next seed's network, so that the judge of the same
architecture is another network too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.feature_targeted import feature_targeted
from heirloom.attacks.losses import cross_entropy
from heirloom.attacks.pgd import pgd
from heirloom.data.labelled import LabelledImages
from heirloom.features.pairing import pair
from heirloom.features.settings import BuildSettings
from heirloom.models.defended import Defended
from heirloom.results.schema import Summary
from heirloom.results.statistics import student
from heirloom.runtime.randomness import generator_of
from heirloom_recipes.claims import case, claim, gaps
from heirloom_recipes.features.laboratory import Laboratory
from heirloom_recipes.features.open import finish, open_laboratory

ATTACKS = ("NRF-PGD", "PGD to the target", "PGD from the label")
Found = dict[
    tuple[str, str, str, str, str], list[float]
]  # (data, reference, judge, attack, measure) -> a seed each


def transfer(scale: str, out: Path, **options: Any) -> Summary:
    """Targeted success and error of every reference and judge, and who transfers better."""
    laboratory = open_laboratory(scale, out, **options)
    found: Found = {}
    for data, training in laboratory.datasets.items():
        for seed in laboratory.seeds:
            for key, value in _of_seed(laboratory, data, (training.network, *training.others), seed).items():
                reference, judge, attack, measure = key.split("|")
                found.setdefault((data, reference, judge, attack, measure), []).append(value)
    cells = list(dict.fromkeys(key[:4] for key in found))
    rows = [
        dict(zip(("data", "reference", "judge", "attack"), cell, strict=True))
        | {measure: student(found[*cell, measure], 0.0, 1.0) for measure in ("target", "error")}
        for cell in cells
    ]
    return finish(laboratory, "transfer", rows, {"claims": _claims(found)})


def _of_seed(laboratory: Laboratory, data: str, networks: tuple[str, ...], seed: int) -> dict[str, float]:
    """``{"reference|judge|attack|measure": share}``; ``target``: given to the target's class, ``error``: not to its
    own."""

    def made() -> dict[str, float]:
        test = laboratory.data(data).test
        images = test.select(torch.arange(min(laboratory.scale.attacked, len(test))))
        # the pairing of D_rand, but never to the image's own class
        start = pair(images.labels, BuildSettings(start="other-class", seed=seed), "test").start
        found = {}
        for reference in networks:
            source = laboratory.classifier(
                laboratory.network(data, "standard", laboratory.reference(seed), reference)
            )
            attacked = _attacked(
                laboratory, data, source, images, images.images[start], images.labels[start], seed
            )
            for name in networks:
                judge = laboratory.classifier(laboratory.network(data, "standard", seed, name))
                for attack, x in {"none": images.images, **attacked}.items():
                    said = _said(judge, x, laboratory.device)
                    found[f"{reference}|{name}|{attack}|target"] = _share(said == images.labels[start])
                    found[f"{reference}|{name}|{attack}|error"] = _share(said != images.labels)
        return found

    return laboratory.run.stage(f"transfer-{data}-{seed}", made)


def _attacked(
    laboratory: Laboratory,
    data: str,
    source: Defended,
    images: LabelledImages,
    wanted: Tensor,
    labels: Tensor,
    seed: int,
) -> dict[str, Tensor]:
    threat, steps, device = laboratory.threat(data), laboratory.scale.attack_steps, laboratory.device
    found: dict[str, list[Tensor]] = {attack: [] for attack in ATTACKS}
    for rows in torch.arange(len(images)).split(250):
        x, y, target = (t[rows].to(device) for t in (images.images, images.labels, labels))
        with torch.no_grad():
            representation = predict(source.encoder, wanted[rows].to(device))
        draws = [
            generator_of(seed, "features", "transfer", data, int(rows[0])) for _ in ATTACKS
        ]  # the same starts
        made = (
            feature_targeted(source.encoder, x, representation, threat, steps=steps, generator=draws[0]),
            pgd(source, x, target, threat, loss=_towards, steps=steps, generator=draws[1]),
            pgd(source, x, y, threat, steps=steps, generator=draws[2]),
        )
        for attack, x_adv in zip(ATTACKS, made, strict=True):
            found[attack].append(x_adv)
    return {attack: torch.cat(parts) for attack, parts in found.items()}


def _towards(logits: Tensor, target: Tensor) -> Tensor:
    return -cross_entropy(logits, target)


@torch.no_grad()
def _said(judge: nn.Module, x: Tensor, device: str) -> Tensor:
    return torch.cat([judge(part.to(device)).argmax(1).cpu() for part in x.split(250)])


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


def _claims(found: Found) -> list[dict[str, Any]]:
    crossings = list(dict.fromkeys(key[:3] for key in found if key[1] != key[2]))
    own = list(dict.fromkeys(key[:3] for key in found if key[1] == key[2]))

    def compared(cells: list[tuple[str, str, str]], other: str, measure: str) -> list[dict[str, Any]]:
        return [
            case(
                f"{data}: {reference} to {judge}",
                gaps(
                    found[data, reference, judge, "NRF-PGD", measure],
                    found[data, reference, judge, other, measure],
                ),
            )
            for data, reference, judge in cells
        ]

    return [
        claim(
            "between architectures NRF-PGD reaches the target more than PGD to the target",
            compared(crossings, "PGD to the target", "target"),
        ),
        claim("within an architecture it does", compared(own, "PGD to the target", "target")),
        claim(
            "between architectures NRF-PGD causes more errors than PGD from the label",
            compared(crossings, "PGD from the label", "error"),
        ),
    ]
