"""Factories that go wrong, for the command line to tell of."""

from torch import nn


def raises() -> nn.Module:
    raise RuntimeError("the weights are elsewhere")
