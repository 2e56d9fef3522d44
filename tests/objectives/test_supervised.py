"""Supervised losses against a straight-line reading of the papers' formulas, in float64 Python."""

import math

import pytest
import torch

from heirloom.objectives.supervised import cross_entropy, kl_divergence, trades


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    weights = [math.exp(value - top) for value in row]
    return [weight / sum(weights) for weight in weights]


def oracle_trades(
    clean: list[list[float]], adversarial: list[list[float]], y: list[int], beta: float
) -> float:
    total = 0.0
    for f, f_adv, label in zip(clean, adversarial, y, strict=True):
        p, q = softmax(f), softmax(f_adv)
        total += -math.log(p[label])
        total += beta * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(y)


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean, adversarial = 3 * torch.randn(2, 9, 5, generator=generator)
    return clean, adversarial, torch.randint(0, 5, (9,), generator=generator)


@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_trades_equals_the_formula(logits: tuple[torch.Tensor, ...], beta: float) -> None:
    clean, adversarial, y = logits
    expected = oracle_trades(clean.tolist(), adversarial.tolist(), y.tolist(), beta)
    assert trades(clean, adversarial, y, beta=beta).item() == pytest.approx(expected, rel=1e-6)


def test_trades_without_its_divergence_is_cross_entropy(logits: tuple[torch.Tensor, ...]) -> None:
    clean, _, y = logits
    assert trades(clean, clean, y).item() == pytest.approx(cross_entropy(clean, y).item(), rel=1e-6)


def test_trades_moves_both_sides(logits: tuple[torch.Tensor, ...]) -> None:
    clean, adversarial, y = (t.requires_grad_() if t.is_floating_point() else t for t in logits)
    gradients = torch.autograd.grad(trades(clean, adversarial, y), (clean, adversarial))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_divergence_is_zero_only_between_equals(logits: tuple[torch.Tensor, ...]) -> None:
    clean, adversarial, _ = logits
    assert kl_divergence(clean, clean + 2.0).abs().max() < 1e-6  # a common shift changes no probability
    assert (kl_divergence(adversarial, clean) > 0).all()
