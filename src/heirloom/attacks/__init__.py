"""Attacks: one paper, one file, one pure function ``(model, x, y, threat, *, ...) -> x_adv``."""

from heirloom.attacks.fgsm import fgsm
from heirloom.attacks.losses import cross_entropy, margin, misclassified, squared_distance, target_margin
from heirloom.attacks.multi_targeted import multi_targeted
from heirloom.attacks.pgd import pgd

__all__ = [
    "cross_entropy",
    "fgsm",
    "margin",
    "misclassified",
    "multi_targeted",
    "pgd",
    "squared_distance",
    "target_margin",
]
