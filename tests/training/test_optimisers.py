"""LARS against the formula, written out step by step in NumPy."""

import copy

import numpy as np
import pytest
import torch

from heirloom import InputError
from heirloom.training.optimisers import LARS


@pytest.mark.parametrize("adapt_vectors", [False, True])
def test_five_steps_equal_the_formula(adapt_vectors: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, generator=generator))
    bias = torch.nn.Parameter(torch.randn(4, generator=generator))
    optimiser = LARS([weight, bias], lr=0.3, weight_decay=0.01, trust=0.02, adapt_vectors=adapt_vectors)
    expected = [weight.detach().double().numpy(), bias.detach().double().numpy()]
    momenta = [np.zeros_like(value) for value in expected]
    for _ in range(5):
        gradients = [torch.randn(p.shape, generator=generator) for p in (weight, bias)]
        weight.grad, bias.grad = gradients
        optimiser.step()
        for i, gradient in enumerate(g.double().numpy() for g in gradients):
            w = expected[i]
            if w.ndim > 1 or adapt_vectors:
                rate = 0.02 * np.linalg.norm(w) / (np.linalg.norm(gradient) + 0.01 * np.linalg.norm(w))
                gradient = rate * (gradient + 0.01 * w)
            momenta[i] = 0.9 * momenta[i] + gradient
            expected[i] = w - 0.3 * momenta[i]
        assert weight.grad is gradients[0]
    assert np.allclose(weight.detach(), expected[0], atol=1e-6)
    assert np.allclose(bias.detach(), expected[1], atol=1e-6)


def test_a_zero_weight_still_moves_and_groups_keep_their_rate() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    optimiser = LARS([{"params": [weight], "lr": 0.5}])
    optimiser.zero_grad()
    weight.sum().backward()
    optimiser.step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.5))


def test_state_survives_a_save() -> None:
    weights = [torch.nn.Parameter(torch.ones(3, 3)) for _ in range(2)]
    first, second = (LARS([weight], trust=0.1) for weight in weights)
    for step in range(6):
        if step == 3:
            second = LARS([weights[1]], trust=0.1)
            second.load_state_dict(copy.deepcopy(first.state_dict()))
        for weight, optimiser in zip(weights, (first, second), strict=True):
            weight.grad = torch.full((3, 3), 1.0 + step)
            optimiser.step()
    assert torch.equal(weights[0], weights[1])


def test_trust_is_checked() -> None:
    with pytest.raises(InputError, match="trust must be a number above 0"):
        LARS([torch.nn.Parameter(torch.ones(1))], trust=0)
