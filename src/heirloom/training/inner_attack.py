"""The attack inside a training step (Madry et al., ICLR 2018; Rice, Wong and Kolter, ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import Loss
from heirloom.attacks.pgd import pgd
from heirloom.runtime.errors import require
from heirloom.threat import Threat


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
        step_size = self._chosen_step(threat)
        was_training = model.training
        model.train(self.attack_in_train_mode)
        try:
            if self.last_iterate:
                return self._last(model, x, y, threat, loss, generator)
            return pgd(
                model,
                x,
                y,
                threat,
                loss=loss,
                steps=self.steps,
                step_size=step_size,
                random_start=self.random_start,
                generator=generator,
            )
        finally:
            model.train(was_training)

    def _chosen_step(self, threat: Threat) -> float:
        return threat.eps / 4 if self.step_size is None else self.step_size

    def _last(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        loss: Loss,
        generator: torch.Generator,
    ) -> Tensor:
        x_adv = threat.random_start(x, generator) if self.random_start else x
        for _ in range(self.steps):
            gradient, _, _ = input_gradient(model, x_adv, y, loss)
            x_adv = threat.project(x_adv + self._chosen_step(threat) * threat.ascent_direction(gradient), x)
        return x_adv
