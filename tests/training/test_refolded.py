"""What attacks inside training pass through is the learning network's function, with its weights of now."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import cross_entropy
from heirloom.networks.resnet import resnet8
from heirloom.runtime.devices import make_accelerator
from heirloom.training.refolded import Refolded
from tests.attacks.engine.test_folding import Odd, with_statistics


def test_a_model_that_learns_is_folded_with_its_weights_of_now() -> None:
    x, model, refolded = torch.rand(4, 3, 32, 32), with_statistics(resnet8(classes=10)), Refolded()
    first = refolded.of(model, x)
    for _ in range(2):
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.mul_(1.1) if tensor.is_floating_point() else None
        cheap = refolded.of(model, x)
        expected = model(x)
        assert cheap is first
        assert not any(isinstance(module, nn.BatchNorm2d) for module in cheap.modules())
        assert (cheap(x) - expected).abs().max() <= 1e-4 * expected.abs().max()
    convolution = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    convolution.weight = nn.Parameter(2 * convolution.weight.detach())  # another tensor, not another value
    expected = model(x)
    assert (refolded.of(model, x)(x) - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_folding_a_model_that_learns_leaves_it_as_it_is() -> None:
    x = torch.rand(4, 3, 8, 8)
    for kind in ("random", "detached", "branching", "reused"):
        model = Odd(kind).eval()
        assert Refolded().of(model, x) is model, kind
    counting = Counting().eval()
    assert Refolded().of(counting, x) is not counting
    assert isinstance(counting.last, Tensor)  # its own pass; what was tried out was a copy


def test_a_model_in_mixed_precision_is_folded_in_that_precision() -> None:
    x, plain = torch.rand(4, 3, 32, 32), with_statistics(resnet8(classes=10))
    model = make_accelerator("cpu", "bf16").prepare(copy.deepcopy(plain)).eval()
    cheap, seen = Refolded().of(model, x), []
    assert not any(isinstance(module, nn.BatchNorm2d) for module in cheap.modules())
    first = next(module for module in cheap.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    error = (cheap(x).float() - plain(x)).abs().max()
    assert seen == [torch.bfloat16]
    assert error <= 3 * (model(x).float() - plain(x)).abs().max()  # as far off as bfloat16 is anyhow


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.GroupNorm(2, 4)])
def test_a_compiled_model_is_attacked_without_gradients_of_its_weights(
    norm: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def captured(module: nn.Module) -> None:
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")  # type: ignore[assignment]

    monkeypatch.setattr(nn.Module, "compile", captured)
    x, y, refolded = torch.rand(4, 3, 8, 8), torch.arange(4), Refolded()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(144, 10)).eval()
    model.compile()
    for _ in range(2):
        cheap = refolded.of(model, x)
        assert cheap._compiled_call_impl is not None
        assert not any(parameter.requires_grad for parameter in cheap.parameters())
        for one, other in zip(*(input_gradient(m, x, y, cross_entropy) for m in (cheap, model)), strict=True):
            assert torch.allclose(one, other, atol=1e-6)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch._dynamo.reset()


class Counting(Odd):
    def __init__(self) -> None:
        super().__init__("plain")
        self.last: object = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        return super().forward(x)
