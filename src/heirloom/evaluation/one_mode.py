"""Models that know no train and eval mode: an exported program refuses both, a frozen script has not even the flag."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from heirloom.evaluation.eval_mode import is_training


class OneMode(nn.Module):
    """``model``, of which the parts that know modes can be switched, and the others are left alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = any(map(is_training, _switched(model)))

    def forward(self, x: Tensor) -> Any:
        return self.model(x)

    def train(self, mode: bool = True) -> OneMode:
        self.training = mode
        for part in _switched(self.model):
            part.training = mode
        return self


def with_modes(model: nn.Module) -> nn.Module:
    """``model``, or where a part of it cannot be put into eval mode :class:`OneMode` of it."""
    if isinstance(model, OneMode) or not any(_has_one(part) for part in model.modules()):
        return model
    return OneMode(model)


def _has_one(part: nn.Module) -> bool:
    """``torch.export`` hides ``train`` behind an attribute of its own; ``torch.jit.freeze`` drops ``training``."""
    return "train" in vars(part) or not hasattr(part, "training")


def _switched(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if not _has_one(part)]
