"""Small encoders of 8x8 digits for the builder's tests, by ``tests.features.encoders:name``."""

import time

import torch
from torch import Tensor, nn


def convolutional() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Softplus(), nn.Flatten(), nn.Linear(288, 6))


class Slow(nn.Module):
    """So slow that a test can interrupt it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = convolutional()

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.01)
        return self.inner(x)


def slow() -> nn.Module:
    return Slow()
