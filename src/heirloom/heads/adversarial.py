"""A linear head trained under attack, the attack running through all that is frozen before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.engine.for_the_passes import for_the_passes
from heirloom.attacks.losses import cross_entropy as cross_entropy_each
from heirloom.data.labelled import LabelledImages
from heirloom.heads.linear import HEAD_SCHEDULE, HeadSettings, extract_features
from heirloom.models.defended import Defended
from heirloom.models.memory import fitting
from heirloom.runtime.choices import MixedPrecision
from heirloom.runtime.identity import module_facts
from heirloom.threat import Threat
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import Losses, Step, TrainingSettings, train, unwrapped

PASSES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of the attack alone, by the name of a precision


def of_the_passes(precision: MixedPrecision) -> dict[str, str]:
    """What decides a head besides its other settings; nothing where the attack's passes are the model's own."""
    return {"passes": precision} if precision in PASSES else {}


def of_the_rest(precision: MixedPrecision) -> MixedPrecision:
    """The precision of all but the attack's passes."""
    return "no" if precision in PASSES else precision


class HeadOnFeatures(nn.Module):
    """A frozen module and a head on its centred and scaled features; only the head is in the state dict.

    Args:
        encoder: [0, 1] pixels (N, C, H, W) -> features (N, D), in eval mode, without gradients.
        start: the head to go on from. features: (N, D), for their centre and scale.
        at_once: images that go through the frozen module together where nobody follows a gradient through it.
        attack_dtype: of passes whose gradient somebody follows; None: the module's own.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        start: nn.Linear,
        features: Tensor,
        at_once: int = 256,
        attack_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.at_once, self.attack_dtype = at_once, attack_dtype
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
            if not self._attacked:
                self._attacked = (for_the_passes(self._frozen[0], x.detach()[:3], self.attack_dtype),)
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
    mixed_precision: MixedPrecision = "no",
    checkpoint: Path | None = None,
    report: Callable[[int, int, dict[str, float]], None] | None = None,
) -> None:
    """Go on training ``model.head`` in place on clean and PGD-10 examples in equal parts (CRoPD, Appendix A).

    The attack runs through the whole model, ten passes of eleven, in the type of ``mixed_precision``; only the head
    learns, from features in the model's own. With ``checkpoint`` an interrupted training goes on from there to the
    same head.
    """
    settings, start = settings or HeadSettings(), model.head
    before = nn.Sequential(model.preprocessor, model.encoder).to(device).eval().requires_grad_(False)
    assert isinstance(start, nn.Linear)
    first = data.select(torch.arange(min(2, len(data)))).images.to(device)
    size = fitting(before, first, settings.batch_size)
    features = extract_features(before, data, device=device)
    inner = HeadOnFeatures(before, start.cpu(), features, size, PASSES.get(mixed_precision))
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
            mixed_precision=of_the_rest(mixed_precision),
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
            **of_the_passes(mixed_precision),
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
