"""A small encoder of 8x8 digits for the builder's tests, by ``tests.features.encoders:convolutional``."""

import torch
from torch import nn


def convolutional() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Softplus(), nn.Flatten(), nn.Linear(288, 6))
