"""A masked auto-encoder as a preprocessor, whose masks are drawn anew at every pass or fixed once for all.

Transformers' ``ViTMAEModel``, which CRoPD's paper builds on, draws them anew, in eval mode too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import cross_entropy, misclassified
from heirloom.data.labelled import LabelledImages
from heirloom.models.defended import Defended
from heirloom.models.preprocessor import build_preprocessor
from heirloom.runtime.randomness import generator_of, uniform
from heirloom.threat import Threat
from heirloom.training.loop import Losses, TrainingSettings, train

PATCH, KEPT = 2, 0.5


class Masked(nn.Module):
    """``part`` behind a mask that keeps half of the 2x2 patches of each image, grey elsewhere.

    Attributes:
        fixed: the mask is the same at every pass (drawn from ``seed``), else drawn anew for each image.
    """

    def __init__(self, part: nn.Module, *, fixed: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.part, self.fixed, self.seed = part, fixed, seed
        self.source = generator_of(seed, "masks")

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        source = generator_of(self.seed, "mask") if self.fixed else self.source
        order = uniform((1 if self.fixed else n, height // PATCH * (width // PATCH)), source, x.device)
        kept = order.argsort(1).argsort(1) < KEPT * order.shape[1]
        mask = kept.view(-1, 1, height // PATCH, width // PATCH).to(x.dtype)
        return self.part((x - 0.5) * functional.interpolate(mask, scale_factor=PATCH) + 0.5)


def masked_autoencoder(data: LabelledImages, settings: TrainingSettings) -> nn.Module:
    """An MLP auto-encoder trained to restore whole images from random halves of their patches."""
    network = build_preprocessor("mlp", data.shape, seed=settings.seed)

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        masked: nn.Module = Masked(model)
        masked.source = generator  # type: ignore[assignment]
        return {"loss": functional.mse_loss(masked(x), x)}

    train(network, data, step, settings)
    return network.eval()


def own_number(
    model: nn.Module, data: tuple[Tensor, Tensor], threat: Threat, steps: int, *, restarts: int, seed: int
) -> tuple[Tensor, Tensor]:
    """PGD that keeps the first image which the model, as it happened to be in that pass, got wrong: AutoAttack's
    way of counting.

    Returns:
        (standing (N,): never wrong in any pass; the images kept, the last iterate where it stands).
    """
    x, y = data
    generator = generator_of(seed, "own number")
    kept, standing = x.clone(), torch.ones(len(y), dtype=torch.bool)
    for _ in range(restarts):
        found = threat.random_start(x, generator)
        for _ in range(steps):
            gradient, _, output = input_gradient(model, found, y, cross_entropy)
            fell = standing & misclassified(output, y)
            kept[fell], standing = found[fell], standing & ~fell
            moved = found + 2 * threat.eps / steps * threat.ascent_direction(gradient)
            found = threat.project(moved, x)
        kept[standing] = found[standing]
    return standing, kept


@torch.no_grad()
def right(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Verdicts (N,) of one pass."""
    return ~misclassified(model(x), y)


def whole(preprocessor: nn.Module, defended: Defended, *, fixed: bool) -> Defended:
    """``preprocessor`` behind its masks in front of the same foundation, no head yet."""
    return Defended(Masked(preprocessor, fixed=fixed), defended.encoder, nn.Identity()).eval()
