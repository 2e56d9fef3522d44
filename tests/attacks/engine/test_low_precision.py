"""The low-precision copy computes nearly the same function; what does not bear conversion runs under autocast."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.engine.low_precision import Autocast, Converted, low_precision
from heirloom.attacks.losses import margin
from heirloom.networks.resnet import resnet8


class Attention(nn.Module):
    """Four-by-four patches, one attention layer, a linear head."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.patches, self.mix, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 24), nn.Linear(8, 10)
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT[:, None]  # (N, 1, T, 8)
        query, key, value = self.mix(tokens).chunk(3, -1)
        return self.head(
            functional.scaled_dot_product_attention(query, key, value, **self.options).mean((1, 2))
        )


class KeepsFloat32(nn.Module):
    """As some preprocessing does, it computes in float32 whatever comes, and hands that on."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.float() - 0.5).flatten(1))


def images(side: int = 16) -> Tensor:
    return torch.rand(6, 3, side, side, generator=torch.Generator().manual_seed(0))


MODELS = {
    "resnet": lambda: resnet8(classes=10),
    "attention": Attention,
    "scaled attention": lambda: Attention(scale=0.7),
    "causal attention": lambda: Attention(is_causal=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_agree_to_bfloat16(name: str) -> None:
    torch.manual_seed(0)
    model, x, y = MODELS[name]().eval(), images(), torch.arange(6)
    copy = low_precision(model, x, torch.bfloat16)
    assert isinstance(copy, Converted)
    expected, found = (input_gradient(one, x, y, margin) for one in (model, copy))
    assert found[2].dtype == found[0].dtype == torch.float32
    assert (found[2] - expected[2]).abs().max() <= 0.03 * expected[2].abs().max()
    cosine = functional.cosine_similarity(found[0].flatten(1), expected[0].flatten(1))
    assert cosine.min() > 0.99
    assert next(model.parameters()).dtype == torch.float32
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_does_not_bear_conversion_runs_under_autocast() -> None:
    model, x = KeepsFloat32().eval(), images(4)
    copy = low_precision(model, x, torch.bfloat16)
    assert isinstance(copy, Autocast)
    assert copy(x).dtype == torch.float32
    assert 0 < (copy(x) - model(x)).abs().max() <= 0.05 * model(x).abs().max()


def test_a_copy_that_computes_something_else_is_not_used() -> None:
    class Large(KeepsFloat32):
        """A difference of large numbers, which bfloat16 loses."""

        def forward(self, x: Tensor) -> Tensor:
            return self.head((x + 100 - 100.5).flatten(1))

    assert isinstance(low_precision(Large().eval(), images(4), torch.bfloat16), Autocast)


def test_random_state_and_mode_are_kept() -> None:
    model, x = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(48, 10)).eval(), images(4)
    state = torch.random.get_rng_state()
    copy = low_precision(model, x, torch.bfloat16)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not copy.training


class Resized(nn.Module):
    """A convolution, then a resize with antialiasing, which has no bfloat16 kernel on the CPU, or worse."""

    def __init__(self, *, worse: bool = False) -> None:
        super().__init__()
        self.front, self.head, self.worse = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(75, 10), worse

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        if self.worse and x.dtype != torch.float32:
            raise NotImplementedError
        out: Tensor = self.head(functional.interpolate(x, (5, 5), mode="bilinear", antialias=True).flatten(1))
        return out


def test_a_resize_without_a_kernel_is_done_in_float32() -> None:
    torch.manual_seed(0)
    model, x = Resized().eval(), torch.rand(3, 3, 12, 12)
    copied = low_precision(model, x, torch.bfloat16)
    assert isinstance(copied, Converted)
    assert copied(x).allclose(model(x), atol=0.05)
    assert bool(input_gradient(copied, x, torch.zeros(3, dtype=torch.long), margin)[0].any())


def test_what_runs_in_no_other_type_is_attacked_as_it_is() -> None:
    model = Resized(worse=True).eval()
    assert low_precision(model, torch.rand(3, 3, 12, 12), torch.bfloat16) is model
