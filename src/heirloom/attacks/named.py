"""Attacks by name, with the settings that the field gives these names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.apgd import apgd, apgd_targeted
from heirloom.attacks.autoattack import autoattack_parts
from heirloom.attacks.cascade import cascade
from heirloom.attacks.fab import fab
from heirloom.attacks.fgsm import fgsm
from heirloom.attacks.losses import dlr, margin, misclassified
from heirloom.attacks.multi_targeted import multi_targeted
from heirloom.attacks.pgd import pgd
from heirloom.attacks.pma import pma
from heirloom.attacks.square import square
from heirloom.runtime.errors import reject, require
from heirloom.threat import Threat

Part = Callable[[nn.Module, Tensor, Tensor, Threat, torch.Generator], Tensor]


@dataclass(frozen=True)
class Attack:
    """A fully specified attack on a classifier: ``run(model, x, y, threat, generator) -> x_adv``.

    ``parts`` run one after the other, each on the examples that the earlier ones left standing.
    """

    name: str
    parts: tuple[Part, ...]


ATTACK_NAMES = (
    "fgsm, pgd-N, pma-N, multi-targeted-N, cascade, strong, apgd-ce, apgd-dlr, apgd-t, apgd-margin, fab, "
    "fab-t, square, square-N, autoattack, autoattack-plus or autoattack-rand"
)


def named_attack(name: str) -> Attack:
    """The attack called ``name``, one of

    - ``fgsm``: one step of eps;
    - ``pgd-N``: N steps of 2 eps / N, random start, cross-entropy;
    - ``pma-N``: N steps on the margin of probabilities, from the clean image;
    - ``multi-targeted-N``: N steps on the margin to every other class;
    - ``cascade``: many short attacks, each on what stands near enough for it: about a tenth of AutoAttack's passes;
    - ``strong``: PGD-100 with 3 restarts, first on cross-entropy, then on the margin with flat coordinates
      drawn anew;
    - ``apgd-ce``, ``apgd-dlr``, ``apgd-margin``: APGD with 100 steps on that loss;
    - ``apgd-t``: APGD on the targeted DLR, 9 targets;
    - ``fab``, ``fab-t``: FAB with 100 steps, untargeted or with 9 targets;
    - ``square``: Square Attack with 5000 queries; ``square-N``: with N;
    - ``autoattack``: AutoAttack's standard version; ``autoattack-plus``, ``autoattack-rand``: the others.
    """
    if name in _FIXED:
        return Attack(name, _FIXED[name])
    if match := re.fullmatch(r"pgd-([1-9]\d*)", name):
        return Attack(name, (_with(pgd, steps=_number(name, match[1]), until=misclassified),))
    if match := re.fullmatch(r"pma-([1-9]\d*)", name):
        return Attack(name, (_with(pma, steps=_number(name, match[1]), until=misclassified),))
    if match := re.fullmatch(r"multi-targeted-([1-9]\d*)", name):
        return Attack(name, (_with(multi_targeted, steps=_number(name, match[1]), until=misclassified),))
    if match := re.fullmatch(r"square-([1-9]\d*)", name):
        return Attack(name, (_with(square, queries=_number(name, match[1])),))
    reject("attacks", ATTACK_NAMES, name)


def attack_list(attacks: Sequence[str | Attack]) -> list[Attack]:
    """Attacks by name or as they are, no two of one name."""
    chosen = [named_attack(attack) if isinstance(attack, str) else attack for attack in attacks]
    names = [attack.name for attack in chosen]
    require(len(set(names)) == len(names), "attacks", "different from each other", ", ".join(names))
    return chosen


def _with(attack: Callable[..., Tensor], **settings: object) -> Part:
    def run(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
        return attack(model, x, y, threat, generator=generator, **settings)

    return run


def _number(name: str, digits: str) -> int:
    """N of ``pgd-N`` and its like."""
    require(len(digits) <= 6, "attacks", "of fewer than a million steps each", name)
    return int(digits)


_FIXED: dict[str, tuple[Part, ...]] = {
    "fgsm": (_with(fgsm),),
    "cascade": (_with(cascade),),
    "strong": (
        _with(pgd, steps=100, restarts=3, until=misclassified),
        _with(pgd, steps=100, restarts=3, loss=margin, redraw_flat=True, until=misclassified),
    ),
    "apgd-ce": (_with(apgd, until=misclassified),),
    "apgd-dlr": (_with(apgd, loss=dlr, until=misclassified),),
    "apgd-margin": (_with(apgd, loss=margin, until=misclassified),),
    "apgd-t": (_with(apgd_targeted),),
    "fab": (_with(fab),),
    "fab-t": (_with(fab, targets=9),),
    "square": (_with(square),),
    "autoattack": autoattack_parts("standard"),
    "autoattack-plus": autoattack_parts("plus"),
    "autoattack-rand": autoattack_parts("rand"),
}
