"""AutoAttack: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020; for L1, Croce and Hein, "Mind the box", ICML 2021.

A cascade: each attack runs on the examples that the earlier ones left standing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from heirloom.attacks.apgd import apgd, apgd_targeted
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.fab import fab
from heirloom.attacks.losses import cross_entropy, dlr, misclassified
from heirloom.attacks.square import square
from heirloom.runtime.choices import Norm
from heirloom.runtime.errors import require
from heirloom.threat import Threat

RESTARTS: dict[Norm, int] = {"Linf": 1, "L2": 1, "L1": 5}  # of APGD-CE in the standard version
TARGETS: dict[Norm, int] = {"Linf": 9, "L2": 9, "L1": 5}  # of targeted APGD

Version = Literal["standard", "plus", "rand"]
Part = Callable[[nn.Module, Tensor, Tensor, Threat, torch.Generator], Tensor]


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    version: Version = "standard",
    generator: torch.Generator | None = None,
) -> Tensor:
    """AutoAttack on one batch.

    Args:
        model: a classifier in the mode it is to be attacked in; x: clean images (N, C, H, W) in [0, 1];
            y: labels (N,).
        version: ``standard`` (APGD-CE, targeted APGD and targeted FAB with 9 targets, Square with 5000
            queries), ``plus`` (also APGD-DLR and untargeted FAB, 5 restarts each) or ``rand`` (APGD-CE and
            APGD-DLR, each gradient averaged over 20 passes).

    Returns:
        float32 images inside the threat set, misclassified where the cascade succeeded; elsewhere what its
        last attack returned.
    """
    x_adv = x.detach().float().clone()
    generator = generator if generator is not None else torch.Generator(x.device).manual_seed(0)
    with torch.no_grad():
        standing = (~misclassified(predict(model, x_adv), y)).nonzero().flatten()
    for part in autoattack_parts(version):
        if not len(standing):
            break
        found = part(model, x[standing], y[standing], threat, generator)
        x_adv[standing] = found
        with torch.no_grad():
            standing = standing[~misclassified(predict(model, found), y[standing])]
    return x_adv


def autoattack_parts(version: Version = "standard") -> tuple[Part, ...]:
    """The cascade's attacks in order, with AutoAttack's settings for the threat's norm."""
    require(version in get_args(Version), "version", f"one of {', '.join(get_args(Version))}", version)
    if version == "standard":
        return _apgd_ce, _apgd_targeted, _fab_targeted, _square
    if version == "plus":
        return _apgd_ce_5, _apgd_dlr_5, _fab_5, _square, _apgd_targeted, _fab_targeted
    return _apgd_ce_eot, _apgd_dlr_eot


def _apgd_ce(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    restarts = RESTARTS[threat.norm]
    return apgd(model, x, y, threat, restarts=restarts, until=misclassified, generator=generator)


def _apgd_targeted(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator
) -> Tensor:
    targets = TARGETS[threat.norm]
    return apgd_targeted(model, x, y, threat, targets=targets, generator=generator)


def _fab_targeted(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator
) -> Tensor:
    return fab(model, x, y, threat, targets=9, generator=generator)


def _square(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    return square(model, x, y, threat, generator=generator)


def _apgd_ce_5(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    return apgd(model, x, y, threat, restarts=5, until=misclassified, generator=generator)


def _apgd_dlr_5(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    return apgd(model, x, y, threat, loss=dlr, restarts=5, until=misclassified, generator=generator)


def _fab_5(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> Tensor:
    return fab(model, x, y, threat, restarts=5, generator=generator)


def _apgd_ce_eot(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator
) -> Tensor:
    return apgd(model, x, y, threat, loss=cross_entropy, eot=20, until=misclassified, generator=generator)


def _apgd_dlr_eot(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator
) -> Tensor:
    return apgd(model, x, y, threat, loss=dlr, eot=20, until=misclassified, generator=generator)
