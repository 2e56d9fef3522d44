"""Small networks for the attacks' tests, trained in a second or two on the embedded digits."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from heirloom.attacks import pgd
from heirloom.threat import Threat


def digits() -> tuple[Tensor, Tensor]:
    """1797 images (N, 1, 8, 8) in [0, 1] and their labels."""
    found = load_digits()
    return torch.tensor(found.images / 16, dtype=torch.float32)[:, None], torch.tensor(found.target)


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def normalised() -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 10)]
    return nn.Sequential(*layers)


def trained(make: object, eps: float, seed: int = 0, steps: int = 200) -> nn.Module:
    """A network trained on the first 1500 digits, adversarially (Linf) where eps is above 0."""
    x, y = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()  # type: ignore[operator]
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        index = torch.randint(0, 1500, (128,), generator=generator)
        image, label = x[index], y[index]
        if eps:
            image = pgd(
                model, image, label, Threat("Linf", eps), steps=3, step_size=eps / 2, generator=generator
            )
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(image), label).backward()
        optimiser.step()
    return model.eval()


class Linear(nn.Module):
    """Logits of a linear model on flattened pixels."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias
