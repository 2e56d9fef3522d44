"""What weaker attacks would have reported, beside the truth by enumeration.

``heirloom theory patches attacks``: 60 s for 4 seeds. Networks in d = 10 without noise: hand-built
(Propositions 3.1, 3.2) and trained, on all 140 patches, attacked with the library's own engine behind
pixels and with the patch attack. The smoothed ReLU is flat below zero, so on networks of one kind of
feature 90 % and more of the input gradients are exactly 0. Expected: only attacks with fixed targets,
started towards the strongest filter, agree with enumeration everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks import margin, misclassified, multi_targeted, pgd
from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.named import Attack, Part
from heirloom.evaluation.verdicts import evaluate
from heirloom.report import Section, Text
from heirloom.theory.patches.attack import START, strongest_filter
from heirloom.theory.patches.curves import robust_correct
from heirloom.theory.patches.enumeration import enumerate_margins
from heirloom.theory.patches.model import PatchDistribution, noiseless, sample_patches
from heirloom.theory.patches.network import PatchCNN, PatchPixels, hand_built
from heirloom.theory.patches.training import (
    Batch,
    PatchTraining,
    initial_networks,
    population_batch,
    train_networks,
)
from heirloom.threat import Threat
from heirloom_recipes.patches.minima import EPS
from heirloom_recipes.patches.phases import NOISELESS_STEPS, NOISY
from heirloom_recipes.patches.result import ExperimentResult, page_tables, percent, table

SCALE = 16.0  # patch coordinates from -8 to 8 as pixels: alpha + eps never touches the border
SNAPSHOTS = (200, 250, 300, 350, 400)
HAND_BUILT = (("non-robust", 1.0), ("non-robust", 10.0), ("robust", 3.0), ("robust", 30.0), ("robust", 100.0))
COLUMNS = {  # the table's columns: groups of networks
    "v": ("v alone, gamma 1", "v alone, gamma 10"),
    "u, gamma 3": ("u alone, gamma 3",),
    "u, gamma >= 30": ("u alone, gamma 30", "u alone, gamma 100"),
    "standard": ("standard, end",),
    "midway": tuple(f"adversarial, step {step}" for step in SNAPSHOTS),
    "adversarial": ("adversarial, end",),
}
Network = tuple[str, Tensor, PatchTraining]


def attack_suite(ascent_step: float) -> list[Attack | str]:
    """From the step that training itself takes to the strongest that the library's engine has here."""
    return [
        Attack("training step", (_raw_gradient(ascent_step, 1),)),
        Attack("raw gradient x10", (_raw_gradient(ascent_step, 10),)),
        Attack("CE from clean", (_pgd(random_start=False),)),
        Attack("margin from clean", (_pgd(random_start=False, loss=margin),)),
        "pgd-20",
        Attack("margin", (_pgd(loss=margin),)),
        Attack("margin, redrawn", (_pgd(loss=margin, redraw_flat=True),)),
        "strong",
        "multi-targeted-20",
        Attack("targeted, filter start", (_from_strongest_filter,)),
    ]


def attack_experiment(seeds: list[int], *, distribution: PatchDistribution = NOISY) -> ExperimentResult:
    """Compare every attack with enumeration on every network."""
    distribution = noiseless(distribution)
    full = sample_patches(distribution, distribution.classes, torch.Generator().manual_seed(0))
    groups = {**_hand_built(distribution), **_trained(distribution, seeds)}
    suite = attack_suite(float(PatchTraining().ascent_step))
    rows = [
        _row(group, network, population_batch(distribution, 1), (full.x, full.y), suite)
        for group, networks in groups.items()
        for network in networks
    ]
    return ExperimentResult("attacks", rows, {"tables": [_table(rows)]})


def _row(
    group: str, network: Network, batch: Batch, full: tuple[Tensor, Tensor], suite: list[Attack | str]
) -> dict[str, Any]:
    """Robust accuracy of one network by enumeration and by each attack alone, and the wrong verdicts."""
    name, weight, training = network
    eps, rho = float(training.eps), float(training.rho)
    gold = enumerate_margins(weight, batch.x[0], batch.y, batch.counts[0], eps, rho=rho)
    standing = ~gold.attackable()
    pixels = PatchPixels(PatchCNN(weight, rho=rho), SCALE)
    data = (pixels.pixels(full[0]), full[1])
    gradient, _, _ = input_gradient(pixels, *data, margin)
    reported = {}
    for attack in suite:
        shown = attack if isinstance(attack, str) else attack.name
        reported[shown] = evaluate(pixels, data, Threat("Linf", eps / SCALE), [attack]).correct[shown]
    reported["patch attack"] = robust_correct(weight[None], batch, training)[0]
    return {
        "group": group,
        "network": name,
        "eps": eps,
        "points": len(standing),
        "gold": int(standing.sum()),
        "undecided": int((standing & ~gold.certified()).sum()),
        "zero_gradients": float((gradient == 0).double().mean()),
        "reported": {shown: int(correct.sum()) for shown, correct in reported.items()},
        "wrong": {shown: int((correct != standing).sum()) for shown, correct in reported.items()},
    }


def _hand_built(distribution: PatchDistribution) -> dict[str, list[Network]]:
    training = PatchTraining(eps=EPS)
    return {
        f"{'u' if kind == 'robust' else 'v'} alone, gamma {gamma:g}": [
            (f"{kind} {gamma:g}", hand_built(distribution, kind, gamma, training.filters), training)
        ]
        for kind, gamma in HAND_BUILT
    }


def _trained(distribution: PatchDistribution, seeds: list[int]) -> dict[str, list[Network]]:
    groups: dict[str, list[Network]] = {}
    for objective, wanted in (("none", ()), ("margin", SNAPSHOTS)):
        training = PatchTraining(objective=objective)
        training = replace(training, steps=NOISELESS_STEPS[training.kind])

        def keep(step: int, weights: Tensor, training: PatchTraining = training) -> None:
            if step in (*wanted, training.steps):  # noqa: B023 (called before the loop goes on)
                named = [(f"seed {seed}", w, training) for seed, w in zip(seeds, weights, strict=True)]
                place = "end" if step == training.steps else f"step {step}"
                groups[f"{training.kind}, {place}"] = named

        start = initial_networks(distribution, training, seeds)
        train_networks(start, population_batch(distribution, len(seeds)), training, keep, every=50)
    return groups


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    points = sum(row["points"] for row in rows)
    open_ = sum(row["undecided"] for row in rows)
    chosen = [[row for row in rows if row["group"] in groups] for groups in COLUMNS.values()]

    def line(name: str, last: str, value: Callable[[dict[str, Any]], float]) -> list[str]:
        shares = (sum(map(value, some)) / sum(row["points"] for row in some) for some in chosen)
        return [name, *(percent(share) for share in shares), last]

    cells = [
        line("gradients exactly 0", "", lambda row: row["zero_gradients"] * row["points"]),
        line("enumeration (gold)", f"{open_}/{points} open", lambda row: row["gold"]),
    ]
    for name in rows[0]["reported"]:
        wrong = sum(row["wrong"][name] for row in rows)
        cells.append(line(name, f"{wrong}/{points}", lambda row: row["reported"][name]))  # noqa: B023
    caption = (
        "Robust accuracy in % that each attack alone would have reported, and its wrong verdicts. v, u: "
        "hand-built networks; midway and adversarial: steps 200 to 400 and the end of adversarial training. "
        "Open: points that no corner breaks and that the upper bound does not certify either"
    )
    return table(caption, ["attack", *COLUMNS, "wrong"], cells)


def _raw_gradient(ascent_step: float, steps: int) -> Part:
    """Training's own attack: raw gradient steps on the margin, clipped at eps."""

    def run(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
        x_adv = x
        for _ in range(steps):
            gradient, _, _ = input_gradient(model, x_adv, y, margin)
            # a patch gradient is a pixel gradient / scale, and a patch step is a pixel step x scale
            x_adv = threat.project(x_adv + ascent_step / SCALE**2 * gradient, x)
        return x_adv

    return run


def _pgd(**settings: Any) -> Part:
    def run(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
        return pgd(model, x, y, threat, steps=20, until=misclassified, generator=generator, **settings)

    return run


def _from_strongest_filter(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator
) -> Tensor:
    return multi_targeted(
        model,
        x,
        y,
        threat,
        steps=10,
        step_size=threat.eps / 2,
        start=filter_start(model, threat.eps),
        until=misclassified,
        generator=generator,
    )


def filter_start(model: nn.Module, eps: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The patch attack's start for the image engine: .7 eps towards the target's strongest filter."""
    assert isinstance(model, PatchPixels)
    weight, scale = model.network.weight.detach(), model.scale

    def start(x: Tensor, target: Tensor) -> Tensor:
        patches = (x[:, 0] - 0.5) * scale
        towards = strongest_filter(weight[target], patches, eps * scale).sign()
        return x + START * eps * towards[:, None]

    return start


def attack_section(details: dict[str, Any]) -> Section:
    text = (
        "Below zero the smoothed ReLU is exactly flat, so most input gradients are exactly 0 and a sign step "
        "stays where it is. A robust accuracy from such an attack is no robustness."
    )
    return Section("What weaker attacks would have reported", [Text(text), *page_tables(details)])
