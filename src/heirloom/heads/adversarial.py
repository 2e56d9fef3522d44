"""A linear head trained under attack, the attack running through all that is frozen before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.engine.folding import folded
from heirloom.attacks.losses import cross_entropy as cross_entropy_each
from heirloom.data.labelled import LabelledImages
from heirloom.heads.linear import HEAD_SCHEDULE, HeadSettings, extract_features
from heirloom.models.defended import Defended
from heirloom.models.memory import fitting
from heirloom.runtime.identity import module_facts
from heirloom.threat import Threat
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import Losses, Step, TrainingSettings, train, unwrapped


class HeadOnFeatures(nn.Module):
    """A frozen module and a head on its centred and scaled features; only the head is in the state dict.

    Args:
        encoder: [0, 1] pixels (N, C, H, W) -> features (N, D), in eval mode, without gradients.
        start: the head to go on from. features: (N, D), for their centre and scale.
        at_once: images that go through the frozen module together where nobody follows a gradient through it.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, encoder: nn.Module, start: nn.Linear, features: Tensor, at_once: int = 256) -> None:
        super().__init__()
        self.at_once = at_once
        self._frozen: Any = (encoder,)  # a tuple hides it: checkpoints need not repeat what never changes
        self._attacked: Any = ()  # the same function for the attack's passes, found at its first
        self.register_buffer("centre", features.mean(0))
        # one scale for all features, as in heads.train_head, and for its reason
        self.register_buffer("scale", features.var(0).mean().sqrt().clamp_min(1e-6))
        self.head = nn.utils.skip_init(nn.Linear, start.in_features, start.out_features)
        with torch.no_grad():
            self.head.weight.copy_(start.weight * self.scale)
            self.head.bias.copy_(start.bias + start.weight @ self.centre)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self._features(x) - self.centre) / self.scale)

    def _features(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            self._attacked = self._attacked or (folded(self._frozen[0], x.detach()),)
            return self._attacked[0](x)
        if len(x) <= self.at_once:
            return self._frozen[0](x)
        return torch.cat([self._frozen[0](part) for part in x.split(self.at_once)])

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The same function as a head of the features as they are."""
        model = self.cpu()
        head = nn.utils.skip_init(nn.Linear, model.head.in_features, model.head.out_features)
        head.weight.copy_(model.head.weight / model.scale)
        head.bias.copy_(model.head.bias - head.weight @ model.centre)
        return head.requires_grad_(False)


def train_adversarial_head(
    model: Defended,
    data: LabelledImages,
    threat: Threat,
    settings: HeadSettings | None = None,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    report: Callable[[int, int, dict[str, float]], None] | None = None,
) -> None:
    """Go on training ``model.head`` in place on clean and PGD-10 examples in equal parts (CRoPD, Appendix A).

    The attack runs through the whole model; only the head learns. With ``checkpoint`` an interrupted training goes on
    from there to the same head.
    """
    settings, start = settings or HeadSettings(), model.head
    before = nn.Sequential(model.preprocessor, model.encoder).to(device).eval().requires_grad_(False)
    assert isinstance(start, nn.Linear)
    first = data.select(torch.arange(min(2, len(data)))).images.to(device)
    size = fitting(before, first, settings.batch_size)
    inner = HeadOnFeatures(before, start.cpu(), extract_features(before, data, device=device), size)
    train(
        inner,
        data,
        mixed_step(threat, settings, size),
        TrainingSettings(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            device=device,
        ),
        make_optimizer=lambda parameters: torch.optim.AdamW(parameters, weight_decay=settings.weight_decay),
        schedule=HEAD_SCHEDULE,
        checkpoint=checkpoint,
        resume=True,
        facts={
            "head": asdict(settings),
            "threat": asdict(threat),
            "frozen": module_facts(before),
            "start": module_facts(start),
        },
        report=report,
    )
    model.head = inner.folded()
    model.to(device)


def mixed_step(threat: Threat, settings: HeadSettings, at_once: int | None = None) -> Step:
    """Cross-entropy on clean and adversarial examples in equal parts; ``at_once`` of them are attacked together."""
    attack = InnerAttack(settings.adversarial_steps, settings.adversarial_step)

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        x_adv = attack.run(unwrapped(model), x, y, threat, cross_entropy_each, generator, at_once)
        return {"loss": functional.cross_entropy(model(torch.cat([x, x_adv])), y.repeat(2))}

    return step
