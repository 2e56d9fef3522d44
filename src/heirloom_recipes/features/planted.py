"""A controlled check of the builder: the features are planted, so what an inverted image shows can be read off.

``heirloom reproduce features/planted --scale small``. Networks are trained standardly and adversarially on images of
patches; their representations are inverted from images of other classes. The builder works if the standard network's
images show the original's non-robust feature and still the start's robust one, and the adversarial network's the
original's robust feature.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.analysis.feature_learning import feature_learned
from heirloom.attacks.pgd import pgd
from heirloom.data.labelled import LabelledImages
from heirloom.data.pixels import to_unit_range
from heirloom.evaluation.verdicts import evaluate
from heirloom.features.examples import grid_of
from heirloom.features.pairing import Pairing, pair
from heirloom.features.saved import SavedSplit
from heirloom.features.steps import Built, build_batch
from heirloom.results.schema import Summary
from heirloom.results.statistics import student
from heirloom.runtime.randomness import generator_of
from heirloom.threat import Threat
from heirloom_recipes.claims import case, claim, gaps
from heirloom_recipes.features.drawn_patches import EPS, PLANTED, SIDE, draw, shown_strengths
from heirloom_recipes.features.laboratory import KINDS, Laboratory
from heirloom_recipes.features.open import finish, open_laboratory

THREAT = Threat("Linf", EPS)
BATCH, WIDTH, RATE, ATTACK_STEPS = 100, 32, 3e-3, 5
LENGTH = {"smoke": 10, "small": 600, "gpu": 2000, "paper": 2000}  # steps of training


class PatchNetwork(nn.Module):
    """A filter of the size of a patch on every patch, a second layer, the mean over patches, a linear head."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, WIDTH, SIDE, SIDE), nn.Conv2d(WIDTH, WIDTH, 1)
        self.head = nn.Linear(WIDTH, classes)

    def features(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.first(4 * (x - 0.5)))
        return 10 * functional.relu(self.second(hidden)).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Representation(nn.Module):
    """A network's :meth:`PatchNetwork.features` as a module of its own."""

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.features(x)


def planted(scale: str, out: Path, **options: Any) -> Summary:
    """What the inverted images show of either kind, by the training of the network that was inverted."""
    laboratory = open_laboratory(scale, out, **options)
    found = {
        training: [_measured(laboratory, training, seed) for seed in laboratory.seeds] for training in KINDS
    }
    rows = []
    for training, seeds in found.items():
        measures = {name: student([one[name] for one in seeds]) for name in seeds[0]}
        rows.append({"training": training, **measures})
    details = {"claims": _claims(found), "grids": [{"data": "patches", **_grid(laboratory)}]}
    other = {
        "data": f"drawn patches: {PLANTED}",
        "networks": "two convolutions on patches, mean, linear head",
        "threats": str(THREAT),
        "training images": f"{LENGTH[scale]} batches of {BATCH} fresh ones",
        "robust accuracy": f"pgd-20 on {laboratory.scale.built} fresh images",
        "feature attacks": "none",
    }
    return finish(laboratory, "planted", rows, details, other)


def train_network(training: str, seed: int, steps: int) -> PatchNetwork:
    """Adam on fresh images; ``adversarial``: on PGD's within :data:`EPS`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PatchNetwork()
    generator = generator_of(seed, "features", "planted", training)
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    for _ in range(steps):
        data = draw(BATCH, generator)
        x, y = data.images, data.labels
        if training == "adversarial":
            x = pgd(network, x, y, THREAT, steps=ATTACK_STEPS, generator=generator)
        optimiser.zero_grad()
        functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return network.eval().requires_grad_(False)


def inverted(
    laboratory: Laboratory, network: PatchNetwork, seed: int
) -> tuple[Pairing, Built, LabelledImages]:
    """Fresh images under the network's representation, each begun at an image of the next class."""
    data = draw(laboratory.scale.built, generator_of(seed, "features", "planted", "test"))
    settings = replace(laboratory.scale.build, start="next-class", seed=seed, device="cpu")
    pairing = pair(data.labels, settings, "test")
    rows = torch.arange(len(data))
    return pairing, build_batch(Representation(network), data, pairing, rows, settings, None, "test"), data


def _measured(laboratory: Laboratory, training: str, seed: int) -> dict[str, float]:
    def made() -> dict[str, float]:
        network = train_network(training, seed, LENGTH[laboratory.scale.name])
        pairing, built, data = inverted(laboratory, network, seed)
        clean = feature_learned(network, (data.images, data.labels))
        verdicts = evaluate(network, (data.images, data.labels), THREAT, ("pgd-20",), seed=seed)
        accuracy = {"clean": _mean(clean), "robust": _mean(list(verdicts.correct.values())[-1])}
        laboratory.progress(f"planted: {training}", seed - laboratory.seed + 1, len(laboratory.seeds), "")
        return {**accuracy, "relative error": _mean(built.relative_error), **_shown(pairing, built, data)}

    return laboratory.run.stage(f"planted-{training}-{seed}", made)


def _shown(pairing: Pairing, built: Built, data: LabelledImages) -> dict[str, float]:
    """Of the inverted images: how strongly the features of the original's and of the start's class show, as shares of
    what is planted."""
    robust, non_robust = shown_strengths(to_unit_range(built.pixels))
    labels = {"original's": pairing.label, "start's": data.labels[pairing.start]}
    return {
        f"{whose} {kind}": _mean(strength.gather(1, label[:, None]))
        for kind, strength in (("robust", robust), ("non-robust", non_robust))
        for whose, label in labels.items()
    }


def _claims(found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    def shown(training: str, name: str) -> list[float]:
        return [one[name] for one in found[training]]

    def more(training: str, kind: str, whose: str, other: str) -> list[dict[str, Any]]:
        differences = gaps(shown(training, f"{whose} {kind}"), shown(training, f"{other} {kind}"))
        return [case(training, differences, inf)]

    own, start = "original's", "start's"
    less = gaps(shown("standard", f"{own} non-robust"), shown("adversarial", f"{own} non-robust"))
    return [
        claim(
            "the standard network's images show the original's non-robust feature more than the start's",
            more("standard", "non-robust", own, start),
        ),
        claim(
            "and the start's robust feature more than the original's", more("standard", "robust", start, own)
        ),
        claim(
            "the adversarial network's images show the original's robust feature more than the start's",
            more("adversarial", "robust", own, start),
        ),
        claim(
            "and carry less of the original's non-robust feature than the standard network's",
            [case("both", less, inf)],
        ),
    ]


def _grid(laboratory: Laboratory) -> dict[str, Any]:
    seed, steps = laboratory.seeds[0], LENGTH[laboratory.scale.name]
    pairing, robust, data = inverted(laboratory, train_network("adversarial", seed, steps), seed)
    other = inverted(laboratory, train_network("standard", seed, steps), seed)[1]
    beside = SavedSplit(other.pixels, {"relative_error": other.relative_error})
    return grid_of(data, pairing, robust, ["robust version", "non-robust version"], beside)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())
