"""The supervised training step, clean or adversarial (Madry et al., ICLR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import cross_entropy as cross_entropy_each
from heirloom.data.augmentation import Augmentation, augment
from heirloom.objectives.supervised import cross_entropy
from heirloom.threat import Threat
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import Losses, Step, unwrapped
from heirloom.training.refolded import Refolded


def supervised_step(
    augmentation: Augmentation | None,
    threat: Threat | None,
    attack: InnerAttack,
    *,
    at_once: int | None = None,
) -> Step:
    """Cross-entropy on clean images (``threat`` None) or on adversarial ones alone (Madry et al.).

    ``at_once``: so many are attacked together (None: the whole batch); the attack is the same.
    """
    refolded = Refolded()

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        x = augmented(x, augmentation, generator)
        if threat is not None:
            x = attack.run(unwrapped(model), x, y, threat, cross_entropy_each, generator, at_once, refolded)
        logits = model(x)
        return {"loss": cross_entropy(logits, y), "accuracy": accuracy(logits, y)}

    return step


def augmented(x: Tensor, augmentation: Augmentation | None, generator: torch.Generator) -> Tensor:
    return x if augmentation is None else augment(x, augmentation, generator)


@torch.no_grad()
def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) == y).float().mean()
