"""One training step of each pre-training method: augment, attack, then the objective.

Adversarial training and its recipe: Madry et al., ICLR 2018; Rice, Wong and Kolter, ICML 2020. TRADES: Zhang
et al., ICML 2019. SimCLR: Chen et al., ICML 2020. RoCL: Kim, Tack and Hwang, NeurIPS 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.gradient import input_gradient
from heirloom.attacks.losses import Loss
from heirloom.attacks.losses import cross_entropy as cross_entropy_each
from heirloom.attacks.pgd import pgd
from heirloom.data.augmentation import Augmentation, augment
from heirloom.errors import require
from heirloom.networks.synchronised import gathered, processes
from heirloom.objectives.rocl import rocl
from heirloom.objectives.simclr import nt_xent, nt_xent_each
from heirloom.objectives.supervised import cross_entropy, kl_divergence, trades
from heirloom.threat import Threat
from heirloom.training import Losses, Step, unwrapped


@dataclass(frozen=True)
class InnerAttack:
    """The attack inside a training step.

    Attributes:
        steps: of PGD. step_size: in pixel units; None: eps / 4, which is 2/255 at 8/255.
        random_start: uniformly in the ball, else from the image itself.
        attack_in_train_mode: the quirk of Rice et al.'s code: BatchNorm normalises by the batch while it is
            attacked, and its running statistics move with every step of the attack. Here: eval mode.
        last_iterate: the quirk of both codes: keep the last iterate, not the one of highest loss.
    """

    steps: int = 10
    step_size: float | None = None
    random_start: bool = True
    attack_in_train_mode: bool = False
    last_iterate: bool = False

    def __post_init__(self) -> None:
        require(self.steps >= 1, "attack steps", "at least 1", self.steps)
        require(self.step_size is None or self.step_size > 0, "attack step size", "above 0", self.step_size)

    def run(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, loss: Loss, generator: torch.Generator
    ) -> Tensor:
        """Adversarial images for the (unwrapped) ``model``, whose mode is what it was afterwards."""
        step_size = threat.eps / 4 if self.step_size is None else self.step_size
        was_training = model.training
        model.train(self.attack_in_train_mode)
        try:
            if self.last_iterate:
                return self._last(model, x, y, threat, loss, step_size, generator)
            return pgd(
                model, x, y, threat, loss=loss, steps=self.steps, step_size=step_size,
                random_start=self.random_start, generator=generator,
            )  # fmt: skip
        finally:
            model.train(was_training)

    def _last(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, loss: Loss, step_size: float,
        generator: torch.Generator,
    ) -> Tensor:  # fmt: skip
        x_adv = threat.random_start(x, generator) if self.random_start else x
        for _ in range(self.steps):
            gradient, _, _ = input_gradient(model, x_adv, y, loss)
            x_adv = threat.project(x_adv + step_size * threat.ascent_direction(gradient), x)
        return x_adv


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


def supervised_step(augmentation: Augmentation | None, threat: Threat | None, attack: InnerAttack) -> Step:
    """Cross-entropy on clean images (``threat`` None) or on adversarial ones alone (Madry et al.)."""

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        x = _augmented(x, augmentation, generator)
        if threat is not None:
            x = attack.run(unwrapped(model), x, y, threat, cross_entropy_each, generator)
        logits = model(x)
        return {"loss": cross_entropy(logits, y), "accuracy": _accuracy(logits, y)}

    return step


def trades_step(augmentation: Augmentation | None, threat: Threat, attack: InnerAttack, beta: float) -> Step:
    """TRADES: the attack maximises the divergence from the clean prediction, without the label.

    The clean and adversarial halves share one forward pass, so BatchNorm normalises them together.
    """

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        x = _augmented(x, augmentation, generator)
        inner = unwrapped(model)
        reference = _without_training(inner, x)
        x_adv = attack.run(inner, x, reference, threat, kl_divergence, generator)
        clean, adversarial = model(torch.cat([x, x_adv])).chunk(2)
        loss = trades(clean, adversarial, y, beta=beta)
        return {"loss": loss, "accuracy": _accuracy(clean, y), "robust": _accuracy(adversarial, y)}

    return step


@dataclass(frozen=True)
class ContrastiveLoss:
    """Temperature, RoCL's regulariser weight, and the quirk of its code (see ``objectives.simclr``)."""

    temperature: float = 0.5
    regulariser_weight: float = 1 / 256
    detach_right_factor: bool = False


def contrastive_step(
    augmentation: Augmentation | None, threat: Threat | None, attack: InnerAttack, loss: ContrastiveLoss
) -> Step:
    """SimCLR (``threat`` None) or RoCL: view 1 is attacked against view 2, then all three are compared.

    Labels are not read. Under ``torchrun`` the negatives are the images of all processes.
    """
    options = {"temperature": loss.temperature, "detach_right_factor": loss.detach_right_factor}

    def away_from(z: Tensor, reference: Tensor) -> Tensor:
        n, rank = len(z), torch.distributed.get_rank() if processes() > 1 else 0
        each = nt_xent_each(gathered(z), gathered(reference), **options)  # type: ignore[arg-type]
        return each[rank * n : (rank + 1) * n]

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        first, second = _augmented(x, augmentation, generator), _augmented(x, augmentation, generator)
        if threat is None:
            views = model(torch.cat([first, second])).chunk(2)
            return {"loss": nt_xent([gathered(z) for z in views], **options)}  # type: ignore[arg-type]
        inner = unwrapped(model)
        reference = _without_training(inner, second)
        adversarial = attack.run(inner, first, reference, threat, away_from, generator)
        views = model(torch.cat([first, second, adversarial])).chunk(3)
        weight = loss.regulariser_weight
        return {"loss": rocl(*(gathered(z) for z in views), regulariser_weight=weight, **options)}  # type: ignore[arg-type]

    return step


def _augmented(x: Tensor, augmentation: Augmentation | None, generator: torch.Generator) -> Tensor:
    return x if augmentation is None else augment(x, augmentation, generator)


@torch.no_grad()
def _without_training(model: nn.Module, x: Tensor) -> Tensor:
    """The output in eval mode: what the attack moves away from."""
    was_training = model.training
    try:
        return model.eval()(x)
    finally:
        model.train(was_training)


@torch.no_grad()
def _accuracy(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) == y).float().mean()
