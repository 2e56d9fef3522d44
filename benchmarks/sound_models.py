"""Sound models of many kinds for the embedded digits, on which the audit must stay silent; each trained in seconds."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.pgd import pgd
from heirloom.evaluation import broken
from heirloom.evaluation.broken.base import fit, seeded_modules, small_encoder
from heirloom.threat import Threat

Make = Callable[[int], nn.Module]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.place = nn.Conv2d(1, 32, 2, 2), nn.Parameter(0.1 * torch.randn(1, 16, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        logits: Tensor = self.head(self.body(tokens).mean(1))
        return logits


class Mapped(nn.Module):
    """A sound net with something harmless in front or behind."""

    def __init__(
        self,
        network: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        super().__init__()
        self.network, self.before, self.after = deepcopy(network), before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.network(self.before(x)))


def convolutional(activation: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(small_encoder(activation), nn.Linear(512, 10))


def pooled() -> nn.Module:
    first = (nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(192, 10))


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.LayerNorm(96), nn.GELU(), nn.Linear(96, 10))


def instance_normalised() -> nn.Module:
    layers = (nn.Conv2d(1, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


def with_batch_norm() -> nn.Module:
    return nn.Sequential(small_encoder(batch_norm=True), nn.Dropout(0.2), nn.Linear(512, 10))


def blurred(x: Tensor) -> Tensor:
    return functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)


def clean(build: Callable[[], nn.Module], epochs: int = 12) -> Make:
    return lambda seed: fit(seeded_modules(build, seed), seed=seed, epochs=epochs)


def adversarial(build: Callable[[], nn.Module], eps: float, epochs: int = 10) -> Make:
    def attacked(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return pgd(model, x, y, Threat("Linf", eps), steps=4, step_size=eps / 3, generator=generator)

    return lambda seed: fit(seeded_modules(build, seed), seed=seed, epochs=epochs, augment=attacked)


KINDS: dict[str, Make] = {
    "leaky ReLU": clean(lambda: convolutional(lambda: nn.LeakyReLU(0.2))),
    "leaky ReLU, adversarial": adversarial(lambda: convolutional(lambda: nn.LeakyReLU(0.2)), 0.15),
    "max pooling": clean(pooled),
    "LayerNorm and GELU, adversarial": adversarial(normalised, 0.15),
    "transformer, adversarial": adversarial(Transformer, 0.1, 14),
    "tanh": clean(lambda: convolutional(nn.Tanh)),
    "ReLU6": clean(lambda: convolutional(nn.ReLU6)),
    "instance norm": clean(instance_normalised),
    "BatchNorm and dropout": clean(with_batch_norm),
    "trained five times as long": clean(lambda: convolutional(nn.ReLU), 60),
    "three times the logits": lambda seed: Mapped(broken.adversarial_net(seed), after=lambda z: 3 * z),
    "logits plus 100": lambda seed: Mapped(broken.clean_net(seed), after=lambda z: z + 100),
    "log-softmax": lambda seed: Mapped(broken.clean_net(seed), after=lambda z: z.log_softmax(1)),
    "blurred in front": lambda seed: Mapped(broken.adversarial_net(seed), before=blurred),
}
