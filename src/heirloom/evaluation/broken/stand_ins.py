"""What someone who knows a planted defence would differentiate instead of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.evaluation.broken.base import small_encoder
from heirloom.evaluation.broken.modules import AlwaysTraining
from heirloom.models.defended import Defended


def blind(model: nn.Module) -> nn.Module:
    """The classifier without its preprocessor: backward pass differentiable approximation by the identity."""
    assert isinstance(model, Defended)
    return nn.Sequential(model.encoder, model.head)


def first(model: nn.Module) -> nn.Module:
    assert isinstance(model, nn.Sequential)
    return model[0]


def itself(model: nn.Module) -> nn.Module:
    return model


class Expected(nn.Module):
    """The mean of ``draws`` passes: expectation over transformation (Athalye et al. 2018)."""

    def __init__(self, model: nn.Module, draws: int = 16) -> None:
        super().__init__()
        self.model, self.draws = model, draws

    def forward(self, x: Tensor) -> Tensor:
        passes = torch.stack([self.model(x).softmax(1) for _ in range(self.draws)])
        return passes.mean(0).clamp_min(1e-12).log()


class StraightThrough(nn.Module):
    """The preprocessor forwards, the identity backwards (BPDA)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        assert isinstance(model, Defended)
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        seen = x + (self.model.preprocessor(x.detach()) - x).detach()
        return self.model.head(self.model.encoder(seen))


class FixedStatistics(nn.Module):
    """Batch normalisation by the running statistics, as an honest evaluation has it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        assert isinstance(model, Defended)
        encoder = small_encoder(batch_norm=True)
        wrapped = model.encoder
        assert isinstance(wrapped, AlwaysTraining)
        encoder.load_state_dict(wrapped.network.state_dict())
        self.layers = nn.Sequential(encoder, model.head).eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Undefended(nn.Module):
    """The net inside a planted defence that was put around it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model.network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[operator]


class Neighbours(nn.Module):
    """Soft votes: every training image, weighted by a Gaussian of its distance."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        distance = torch.cdist(x.flatten(1), self.model.images)  # type: ignore[arg-type]
        votes = torch.nn.functional.one_hot(self.model.labels, 10).to(x)  # type: ignore[arg-type]
        return ((-4 * distance.square()).exp() @ votes).clamp_min(1e-30).log()
