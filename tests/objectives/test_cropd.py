"""CRoPD's and ARAE's objectives against formulas written out."""

import math

import pytest
import torch

from heirloom.objectives.arae import arae
from heirloom.objectives.cropd import adversarial_contrastive, cropd


def _cosine(a: list[float], b: list[float]) -> float:
    dot = sum(u * v for u, v in zip(a, b, strict=True))
    return dot / math.sqrt(sum(u * u for u in a) * sum(v * v for v in b))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_contrastive_loss_is_the_papers_written_out(temperature: float, generator: torch.Generator) -> None:
    clean = torch.randn(5, 3, generator=generator)
    adversarial = clean + 0.5 * torch.randn(5, 3, generator=generator)
    z, z_adv = clean.tolist(), adversarial.tolist()
    expected = []
    for i in range(5):
        negatives = [z[j] for j in range(5) if j != i] + [z_adv[j] for j in range(5) if j != i]
        denominator = sum(math.exp(_cosine(z[i], other) / temperature) for other in negatives)
        expected.append(-math.log(math.exp(_cosine(z_adv[i], z[i]) / temperature) / denominator))
    found = adversarial_contrastive(clean.double(), adversarial.double(), temperature)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_contrastive_loss_where_it_is_known_in_closed_form() -> None:
    z = torch.eye(4, dtype=torch.float64)
    # orthogonal images, perfectly robust: -1/tau + log(2 (n - 1) e^0)
    assert adversarial_contrastive(z, z, 0.5).tolist() == pytest.approx([-2 + math.log(6)] * 4)
    # all equal: the loss is log(2 (n - 1)), whatever the temperature
    same = torch.ones(4, 3, dtype=torch.float64)
    assert adversarial_contrastive(same, same, 0.1).tolist() == pytest.approx([math.log(6)] * 4)


def test_cropd_adds_lambda_times_the_contrastive_loss(generator: torch.Generator) -> None:
    x, made = torch.rand(4, 1, 2, 2, generator=generator), torch.rand(4, 1, 2, 2, generator=generator)
    z, z_adv = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    losses = cropd(made, x, z, z_adv, weight=3.0, temperature=0.5)
    assert float(losses["reconstruction"]) == pytest.approx(float((made - x).square().mean()))
    expected = (made - x).square().mean() + 3 * adversarial_contrastive(z, z_adv, 0.5).mean()
    assert float(losses["loss"]) == pytest.approx(float(expected))


def test_arae_compares_with_the_clean_image(generator: torch.Generator) -> None:
    x, made = torch.rand(4, 1, 2, 2, generator=generator), torch.rand(4, 1, 2, 2, generator=generator)
    z, z_adv = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    found = arae(made, x, z, z_adv, gamma=0.1)["loss"]
    assert float(found) == pytest.approx(
        float((made - x).square().mean() + 0.1 * (z - z_adv).square().mean())
    )
