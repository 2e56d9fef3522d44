"""The attack inside a training step (Madry et al., ICLR 2018; Rice, Wong and Kolter, ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.engine.region import Region
from heirloom.attacks.losses import Loss
from heirloom.attacks.pgd import pgd
from heirloom.runtime.errors import require
from heirloom.threat import Threat
from heirloom.training.refolded import Refolded


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
        require(self.steps >= 1, "attack_steps", "at least 1", self.steps)
        size = self.step_size
        require(size is None or 0 < size < float("inf"), "attack_step_size", "a number above 0", size)

    def run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        loss: Loss,
        generator: torch.Generator,
        at_once: int | None = None,
        refolded: Refolded | None = None,
    ) -> Tensor:
        """Adversarial images for the (unwrapped) ``model``, whose mode is what it was afterwards.

        At most ``at_once`` (None: all) go through the model together, for a loss that looks at each image alone; the
        random starts are drawn for all of them first, so the images are the same. ``refolded``, kept from step to
        step, makes the passes cheaper where BatchNorm follows convolutions: the same function up to rounding.
        """
        size = len(x) if at_once is None or self.attack_in_train_mode else at_once
        start = threat.random_start(x, generator) if self.random_start else x.detach()
        given, was_training = model, model.training
        model.train(self.attack_in_train_mode)
        try:
            if refolded is not None and not self.attack_in_train_mode:
                model = refolded.of(model, x)
            pieces = zip(x.split(size), y.split(size), start.split(size), strict=True)
            return torch.cat([self._one(model, *piece, threat, loss) for piece in pieces])
        finally:
            given.train(was_training)

    def _chosen_step(self, threat: Threat) -> float:
        return threat.eps / 4 if self.step_size is None else self.step_size

    def _one(
        self, model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, threat: Threat, loss: Loss
    ) -> Tensor:
        size = self._chosen_step(threat)
        if not self.last_iterate:
            return pgd(model, x, y, threat, loss=loss, steps=self.steps, step_size=size, start=x_adv)
        region = Region.around(x, threat)
        for _ in range(self.steps):
            gradient, _, _ = input_gradient(model, x_adv, y, loss)
            x_adv = region.nearest(x_adv + size * threat.ascent_direction(gradient))
        return threat.project(x_adv, x)
