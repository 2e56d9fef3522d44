"""The folded copy computes the same function; where it could not, the model itself comes back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.folding import folded
from heirloom.networks.resnet import resnet8, resnet18


def with_statistics(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    return model.eval()


def test_resnets_fold_to_the_same_function() -> None:
    x = torch.rand(4, 3, 32, 32)
    for model in (with_statistics(resnet8(classes=10)), with_statistics(resnet18(classes=10, stem="7x7"))):
        found = folded(model, x)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in found.modules())
        assert not any(parameter.requires_grad for parameter in found.parameters())
        expected = model(x)
        assert (found(x) - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
        assert all(parameter.requires_grad for parameter in model.parameters())


class Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.convolution, self.norm = kind, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "random":
            x = x + 0.1 * torch.rand(3, 1, 1)
        if self.kind == "detached":
            with torch.no_grad():
                x = x * 2
        if self.kind == "branching" and x.sum() > 0:
            x = -x
        hidden = self.convolution(x)
        out = self.norm(hidden)
        if self.kind == "reused":
            out = out + hidden
        return out.flatten(1)


def test_what_cannot_be_folded_stays_as_it_is() -> None:
    x = torch.rand(4, 3, 8, 8)
    state = torch.random.get_rng_state()
    for kind in ("random", "detached", "branching", "reused"):
        model = Odd(kind).eval()
        state = torch.random.get_rng_state()
        assert folded(model, x) is model, kind
        assert torch.equal(torch.random.get_rng_state(), state)
    plain = Odd("plain")
    assert folded(plain.train(), x) is plain
    assert folded(plain.eval(), x) is not plain
    assert folded(nn.Linear(2, 2).eval(), x).__class__ is nn.Linear
