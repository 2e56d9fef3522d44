"""One training step of each pre-training method: augment, attack, then the objective.

Adversarial training and its recipe: Madry et al., ICLR 2018; Rice, Wong and Kolter, ICML 2020. TRADES: Zhang
et al., ICML 2019. SimCLR: Chen et al., ICML 2020. RoCL: Kim, Tack and Hwang, NeurIPS 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.data.augmentation import Augmentation
from heirloom.networks.synchronised import gathered
from heirloom.objectives.rocl import rocl
from heirloom.objectives.simclr import nt_xent, nt_xent_each
from heirloom.objectives.supervised import kl_divergence, trades
from heirloom.runtime import distributed
from heirloom.runtime.errors import require
from heirloom.threat import Threat
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import Losses, Step, unwrapped
from heirloom.training.refolded import Refolded
from heirloom.training.supervised import accuracy, augmented


class Classifier(nn.Module):
    """Encoder and linear head: [0, 1] pixels -> logits (N, classes)."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


class Projected(nn.Module):
    """Encoder and projector: [0, 1] pixels -> projections (N, width), on which contrastive losses act.

    The projector is RoCL's: linear, ReLU, linear, without BatchNorm (2048 and 128 units for a ResNet-18).
    """

    def __init__(self, encoder: nn.Module, features: int, hidden: int = 2048, width: int = 128) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))


def trades_step(augmentation: Augmentation | None, threat: Threat, attack: InnerAttack, beta: float) -> Step:
    """TRADES: the attack maximises the divergence from the clean prediction, without the label.

    The clean and adversarial halves share one forward pass, so BatchNorm normalises them together.
    """
    refolded = Refolded()

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        x = augmented(x, augmentation, generator)
        inner = unwrapped(model)
        reference = _without_training(inner, x)
        x_adv = attack.run(inner, x, reference, threat, kl_divergence, generator, refolded=refolded)
        clean, adversarial = model(torch.cat([x, x_adv])).chunk(2)
        loss = trades(clean, adversarial, y, beta=beta)
        return {"loss": loss, "accuracy": accuracy(clean, y), "robust": accuracy(adversarial, y)}

    return step


@dataclass(frozen=True)
class ContrastiveLoss:
    """Temperature, RoCL's regulariser weight, and the quirk of its code (see ``objectives.simclr``)."""

    temperature: float = 0.5
    regulariser_weight: float = 1 / 256
    detach_right_factor: bool = False

    def __post_init__(self) -> None:
        require(0 < self.temperature < float("inf"), "temperature", "above 0", self.temperature)
        weight = self.regulariser_weight
        require(0 <= weight < float("inf"), "regulariser_weight", "at least 0", weight)


def contrastive_step(
    augmentation: Augmentation | None, threat: Threat | None, attack: InnerAttack, loss: ContrastiveLoss
) -> Step:
    """SimCLR (``threat`` None) or RoCL: view 1 is attacked against view 2, then all three are compared.

    Labels are not read. Under ``torchrun`` the negatives are the images of all processes.
    """
    refolded = Refolded()
    options = {"temperature": loss.temperature, "detach_right_factor": loss.detach_right_factor}

    def away_from(z: Tensor, reference: Tensor) -> Tensor:
        n, rank = len(z), distributed.rank()
        each = nt_xent_each(gathered(z), gathered(reference), **options)  # type: ignore[arg-type]
        return each[rank * n : (rank + 1) * n]

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        first, second = augmented(x, augmentation, generator), augmented(x, augmentation, generator)
        if threat is None:
            views = model(torch.cat([first, second])).chunk(2)
            return {"loss": nt_xent([gathered(z) for z in views], **options)}  # type: ignore[arg-type]
        inner = unwrapped(model)
        reference = _without_training(inner, second)
        adversarial = attack.run(inner, first, reference, threat, away_from, generator, refolded=refolded)
        views = model(torch.cat([first, second, adversarial])).chunk(3)
        weight = loss.regulariser_weight
        return {"loss": rocl(*(gathered(z) for z in views), regulariser_weight=weight, **options)}  # type: ignore[arg-type]

    return step


@torch.no_grad()
def _without_training(model: nn.Module, x: Tensor) -> Tensor:
    """The output in eval mode: what the attack moves away from."""
    was_training = model.training
    try:
        return model.eval()(x)
    finally:
        model.train(was_training)
