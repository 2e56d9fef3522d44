"""A small linear model of the digits, and a slow twin that a test can kill in the middle of an evaluation."""

import time

import torch
from torch import nn
from torch.nn import functional

from heirloom.data.images import load_images


class Linear(nn.Module):
    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.seconds:
            time.sleep(self.seconds)
        return self.layer(x.flatten(1))


def linear(seconds: float = 0.0) -> nn.Module:
    """Softmax regression, 60 full-batch steps from zero weights: 0.1 s, the same every time."""
    data = load_images("digits").train
    x, y, model = data.images, data.labels, Linear()
    nn.init.zeros_(model.layer.weight)
    nn.init.zeros_(model.layer.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.seconds = seconds
    return model.requires_grad_(False)


def slow_linear() -> nn.Module:
    return linear(seconds=0.004)


def features() -> nn.Module:
    """A foundation model of sorts: the pixels themselves."""
    return nn.Flatten()


def not_a_module() -> str:
    return "a string"
