"""The small classifier of the embedded digits behind every planted defence, and the three sound models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.pgd import pgd
from heirloom.data.images import load_images
from heirloom.models.defended import Defended
from heirloom.runtime.randomness import generator_of, seed_of
from heirloom.threat import Threat

THREAT = Threat("Linf", 0.15)  # at which the table of docs/trust.md is made

Augment = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]


def small_encoder(
    activation: Callable[[], nn.Module] = nn.ReLU, *, batch_norm: bool = False
) -> nn.Sequential:
    """(N, 1, 8, 8) -> (N, 512): two 3x3 convolutions, 16 and 32 channels, the second with stride 2."""
    layers: list[nn.Module] = []
    for before, after, stride in ((1, 16, 1), (16, 32, 2)):
        layers.append(nn.Conv2d(before, after, 3, stride, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(activation())
    return nn.Sequential(*layers, nn.Flatten())


def seeded_modules(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """``build()`` with initial weights from ``seed``; torch's global state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of("broken", seed))
        return build()


def fit(
    model: nn.Module,
    *,
    seed: int = 0,
    epochs: int = 12,
    learning_rate: float = 3e-3,
    augment: Augment | None = None,
) -> nn.Module:
    """Train ``model`` on the digits (Adam, batch 128; a second or two), then freeze it.

    A randomised forward pass draws from torch's global generators: they are seeded here and put back.
    """
    data = load_images("digits").train
    images, labels = data.images, data.labels
    generator = generator_of("broken", seed)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of("broken", seed, "forward"))
        for _ in range(epochs):
            for batch in torch.randperm(len(images), generator=generator).split(128):
                x, y = images[batch], labels[batch]
                if augment is not None:
                    x = augment(model, x, y, generator)
                optimizer.zero_grad()
                functional.cross_entropy(model(x), y).backward()
                optimizer.step()
    return model.requires_grad_(False).eval()


@cache
def _undefended(seed: int) -> nn.Module:
    build = lambda: Defended(nn.Identity(), small_encoder(), nn.Linear(512, 10))  # noqa: E731
    return fit(seeded_modules(build, seed), seed=seed)


def clean_net(seed: int = 0) -> nn.Module:
    """Sound: a convolutional net trained cleanly. Its robust accuracy is low, and truly so."""
    return _undefended(seed)


@cache
def adversarial_net(seed: int = 0) -> nn.Module:
    """Sound: the same net trained adversarially, on PGD-5 at Linf 0.15 (Madry et al. 2018)."""

    def attack(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return pgd(model, x, y, THREAT, steps=5, step_size=THREAT.eps / 3, generator=generator)

    build = lambda: Defended(nn.Identity(), small_encoder(), nn.Linear(512, 10))  # noqa: E731
    return fit(seeded_modules(build, seed), seed=seed, epochs=20, augment=attack)


@cache
def linear_net(seed: int = 0) -> nn.Module:
    """Sound: softmax regression on the pixels, whose worst case has a closed form."""
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # noqa: E731
    return fit(seeded_modules(build, seed), seed=seed, epochs=30)
