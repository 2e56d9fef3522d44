"""Attacks: one paper, one file, one pure function ``(model, x, y, threat, *, ...) -> x_adv``."""

from heirloom.attacks.adaptive import BPDA, EOT
from heirloom.attacks.apgd import apgd, apgd_targeted
from heirloom.attacks.autoattack import autoattack
from heirloom.attacks.cascade import cascade
from heirloom.attacks.fab import fab, fab_minimum
from heirloom.attacks.feature_targeted import feature_targeted
from heirloom.attacks.fgsm import fgsm
from heirloom.attacks.losses import (
    cross_entropy,
    dlr,
    margin,
    misclassified,
    squared_distance,
    target_margin,
    targeted_dlr,
)
from heirloom.attacks.multi_targeted import multi_targeted
from heirloom.attacks.pgd import pgd
from heirloom.attacks.pma import pma
from heirloom.attacks.square import square

__all__ = [
    "BPDA",
    "EOT",
    "apgd",
    "apgd_targeted",
    "autoattack",
    "cascade",
    "cross_entropy",
    "dlr",
    "fab",
    "fab_minimum",
    "feature_targeted",
    "fgsm",
    "margin",
    "misclassified",
    "multi_targeted",
    "pgd",
    "pma",
    "square",
    "squared_distance",
    "target_margin",
    "targeted_dlr",
]
