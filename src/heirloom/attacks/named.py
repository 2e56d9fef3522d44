"""Attacks by name, with the settings that the field gives these names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.fgsm import fgsm
from heirloom.attacks.losses import margin, misclassified
from heirloom.attacks.multi_targeted import multi_targeted
from heirloom.attacks.pgd import pgd
from heirloom.errors import reject
from heirloom.threat import Threat

Run = Callable[[nn.Module, Tensor, Tensor, Threat, torch.Generator], Tensor]


@dataclass(frozen=True)
class Attack:
    """A fully specified attack on a classifier: ``run(model, x, y, threat, generator) -> x_adv``.

    ``parts`` run one after the other, each on the examples that the earlier ones left standing.
    """

    name: str
    parts: tuple[Run, ...]


def named_attack(name: str) -> Attack:
    """The attack called ``name``: ``fgsm``, ``pgd-N`` (N steps of 2 eps / N, random start, cross-entropy),
    ``multi-targeted-N`` (N steps on the margin to every other class) or ``strong`` (PGD-100, 3 restarts,
    first cross-entropy, then margin with flat coordinates drawn anew).
    """
    if name == "fgsm":
        return Attack(name, (lambda model, x, y, threat, generator: fgsm(model, x, y, threat),))
    if match := re.fullmatch(r"pgd-([1-9]\d*)", name):
        return Attack(name, (_pgd(steps=int(match[1])),))
    if match := re.fullmatch(r"multi-targeted-([1-9]\d*)", name):
        return Attack(name, (_multi_targeted(steps=int(match[1])),))
    if name == "strong":
        by_margin = _pgd(steps=100, restarts=3, loss=margin, redraw_flat=True)
        return Attack(name, (_pgd(steps=100, restarts=3), by_margin))
    reject("attack", "fgsm, pgd-N, multi-targeted-N or strong", name)


def _pgd(**settings: object) -> Run:
    def run(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
        return pgd(model, x, y, threat, until=misclassified, generator=generator, **settings)  # type: ignore[arg-type]

    return run


def _multi_targeted(**settings: object) -> Run:
    def run(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
        return multi_targeted(model, x, y, threat, until=misclassified, generator=generator, **settings)  # type: ignore[arg-type]

    return run
