"""The patch CNN: its definition, and gradients by hand against automatic differentiation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heirloom import InputError
from heirloom.theory.patches.network import (
    PatchCNN,
    PatchPixels,
    initial_filters,
    patch_input_gradient,
    patch_logits,
    patch_weight_gradient,
    smoothed_relu,
)


@given(st.floats(-50, 100), st.floats(0.5, 40), st.integers(2, 5))
@settings(max_examples=200, deadline=None)
def test_the_activation_is_its_definition(z: float, rho: float, q: int) -> None:
    value, slope = smoothed_relu(torch.tensor([z], dtype=torch.float64), rho, q)
    if z < 0:
        expected, steep = 0.0, 0.0
    elif z <= rho:
        expected, steep = z**q / (q * rho ** (q - 1)), (z / rho) ** (q - 1)
    else:
        expected, steep = z - (1 - 1 / q) * rho, 1.0
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert slope.item() == pytest.approx(steep, rel=1e-9, abs=1e-12)


def scaled_case(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Activations in all three pieces; patches that occur several times."""
    generator = torch.Generator().manual_seed(seed)
    weight = 2 * torch.randn(3, 4, 6, 5, dtype=torch.float64, generator=generator)
    x = torch.randn(3, 7, 2, 5, dtype=torch.float64, generator=generator)
    counts = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    coefficient = torch.randn(3, 7, 4, dtype=torch.float64, generator=generator)
    return weight, x, counts, coefficient


def expanded(x: Tensor, counts: Tensor) -> Tensor:
    return torch.cat([x[:, :1], x[:, 1:].expand(-1, int(counts[0, 1]), -1)], 1)


def test_gradients_by_hand_equal_automatic_ones() -> None:
    weight, x, counts, coefficient = scaled_case(0)
    logits, slope = patch_logits(weight, x, counts, rho=1.5)
    assert 0.2 < (slope == 1).double().mean() < 0.8  # the linear piece
    by_weight = patch_weight_gradient(slope, x, counts, coefficient)
    by_input = patch_input_gradient(weight, slope, coefficient)
    for run in range(3):
        network = PatchCNN(weight[run], rho=1.5)
        points = expanded(x[run], counts).requires_grad_()
        output = network(points)
        assert torch.allclose(output, logits[run])
        (output * coefficient[run]).sum().backward()
        assert torch.allclose(network.weight.grad, by_weight[run])
        assert torch.allclose(points.grad[:, :2], by_input[run])
        assert torch.allclose(points.grad[:, 3], by_input[run, :, 1])  # equal patches, equal gradients


def test_every_run_may_have_its_own_rho_and_counts() -> None:
    weight, x, _, _ = scaled_case(1)
    rho = torch.tensor([0.5, 2.0, 9.0], dtype=torch.float64)
    counts = torch.tensor([[1.0, 4.0], [2.0, 7.0], [3.0, 1.0]], dtype=torch.float64)
    together, _ = patch_logits(weight, x, counts, rho[:, None, None])
    for run in range(3):
        alone, _ = patch_logits(
            weight[run : run + 1], x[run : run + 1], counts[run : run + 1], rho[run].item()
        )
        assert torch.allclose(alone[0], together[run])


def test_pixels_hide_nothing() -> None:
    network = PatchCNN(initial_filters(torch.Generator().manual_seed(0), 3, 4, 6, 0.5))
    x = 3 * torch.randn(5, 8, 6, generator=torch.Generator().manual_seed(1))
    behind = PatchPixels(network, 40.0)
    images = behind.pixels(x)
    assert images.shape == (5, 1, 8, 6)
    assert torch.allclose(behind(images), network(x), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="scale must be at least"):
        PatchPixels(network, 1.0).pixels(x)


def test_initial_filters_come_from_their_generator() -> None:
    filters = [initial_filters(torch.Generator().manual_seed(5), 5, 30, 12, 0.1) for _ in range(2)]
    assert torch.equal(*filters)
    assert filters[0].std().item() == pytest.approx(0.1, rel=0.06)  # 1800 draws: 4 standard errors


def test_wrong_networks_are_refused() -> None:
    with pytest.raises(InputError, match="weight must be of shape"):
        PatchCNN(torch.zeros(3, 4))
    with pytest.raises(InputError, match="rho must be above 0"):
        PatchCNN(torch.zeros(3, 4, 5), rho=0.0)
