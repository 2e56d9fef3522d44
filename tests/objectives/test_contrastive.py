"""NT-Xent and RoCL against loops over pairs, written from the papers in float64."""

import math
from collections.abc import Sequence

import pytest
import torch

from heirloom import InputError
from heirloom.objectives.rocl import rocl
from heirloom.objectives.simclr import nt_xent, nt_xent_each


def oracle_nt_xent(views: Sequence[torch.Tensor], temperature: float) -> float:
    """Every anchor against every positive, one at a time; the denominator is everything but the anchor."""
    rows = [(v, i, view[i].double()) for v, view in enumerate(views) for i in range(len(view))]
    total = 0.0
    for v, i, anchor in rows:
        scores = {
            (w, j): math.exp(float(anchor @ other / (anchor.norm() * other.norm())) / temperature)
            for w, j, other in rows
            if (w, j) != (v, i)
        }
        total += sum(-math.log(scores[w, i] / sum(scores.values())) for w in range(len(views)) if w != v)
    return total / len(rows)


def draw(views: int, seed: int = 0, n: int = 6, d: int = 4) -> list[torch.Tensor]:
    return list(torch.randn(views, n, d, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("views", [2, 3, 4])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_equals_the_loop(views: int, temperature: float) -> None:
    z = draw(views)
    found = nt_xent(z, temperature=temperature).item()
    assert found == pytest.approx(oracle_nt_xent(z, temperature), rel=1e-6)


def test_rocl_equals_the_loop() -> None:
    first, second, adversarial = draw(3)
    expected = oracle_nt_xent([first, second, adversarial], 0.5)
    expected += oracle_nt_xent([adversarial, second], 0.5) / 256
    assert rocl(first, second, adversarial).item() == pytest.approx(expected, rel=1e-6)


def test_equal_projections_give_the_logarithm_of_the_others() -> None:
    z = torch.ones(5, 3)
    assert nt_xent([z, z]).item() == pytest.approx(math.log(9), rel=1e-6)
    assert nt_xent([z, z, z]).item() == pytest.approx(2 * math.log(14), rel=1e-6)


def test_the_split_averages_to_the_whole() -> None:
    first, second = draw(2)
    each = nt_xent_each(first, second)
    assert each.shape == (6,)
    assert each.mean().item() == pytest.approx(nt_xent([first, second]).item(), rel=1e-6)


def test_detached_right_factor_keeps_the_value_and_drops_the_columns() -> None:
    """The quirk's gradient is that of a loss whose right factor is a constant: checked by differences."""
    first, second = (view.double() for view in draw(2))

    def anchors_only(moved: torch.Tensor) -> torch.Tensor:
        z, constant = torch.cat([moved, second]), torch.cat([first, second])
        z = z / z.norm(dim=1, keepdim=True)
        constant = constant / constant.norm(dim=1, keepdim=True)
        scores = (z @ constant.T / 0.5).exp()
        own = torch.arange(12)
        positive = scores[own, (own + 6) % 12]
        return -(positive / (scores.sum(1) - scores[own, own])).log().sum() / 12

    x = first.clone().float().requires_grad_()
    (gradient,) = torch.autograd.grad(nt_xent([x, second.float()], detach_right_factor=True), x)
    step, expected = 1e-6, torch.zeros_like(first)
    for place in range(first.numel()):
        shift = torch.zeros(first.numel(), dtype=torch.float64)
        shift[place] = step
        shift = shift.view_as(first)
        expected.view(-1)[place] = (anchors_only(first + shift) - anchors_only(first - shift)) / (2 * step)
    assert torch.allclose(gradient.double(), expected, atol=1e-6)
    (full,) = torch.autograd.grad(nt_xent([x, second.float()]), x)
    assert (full - gradient).abs().max() > 1e-3
    assert nt_xent([x, second.float()], detach_right_factor=True).item() == pytest.approx(
        nt_xent([x, second.float()]).item()
    )


def test_shapes_and_temperature_are_checked() -> None:
    first, second = draw(2)
    with pytest.raises(InputError, match="views must be two or more"):
        nt_xent([first])
    with pytest.raises(InputError, match="of one shape"):
        nt_xent([first, second[:3]])
    with pytest.raises(InputError, match="temperature must be a number above 0"):
        nt_xent([first, second], temperature=0.0)
