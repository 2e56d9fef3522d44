"""First-order standing where it is the truth: a classifier that is straight."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from heirloom import InputError
from heirloom.analysis.first_order import first_order_drop, first_order_log_drop, first_order_standing
from heirloom.threat import Threat


def _straight() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).eval()
    weight = torch.randn(3, 6, generator=generator)
    model[1].weight.data, model[1].bias.data = (
        weight,
        -0.5 * weight.sum(1),
    )  # pictures lie about all boundaries
    x = 0.3 + 0.4 * torch.rand(60, 1, 2, 3, generator=generator)
    return model, (x, model(x).argmax(1))


@pytest.mark.parametrize("threat", [Threat("Linf", 0.02), Threat("L2", 0.04)], ids=str)
def test_on_a_straight_classifier_it_is_the_truth(threat: Threat) -> None:
    model, (x, y) = _straight()
    standing = first_order_standing(model, (x, y), threat)
    right = torch.ones(60, dtype=torch.bool)
    for other in range(3):  # the best change towards each class, from the weights alone
        towards = model[1].weight[other] - model[1].weight[y]
        unit = towards.sign() if threat.norm == "Linf" else functional.normalize(towards)
        moved = x + threat.eps * 1.0001 * unit.reshape(x.shape)
        right &= (other == y) | (model(moved).argmax(1) == y)
    assert 0.2 < right.double().mean() < 0.95
    assert torch.equal(standing, right)
    assert first_order_drop(model, (x, y), threat) == pytest.approx(1 - float(standing.double().mean()))
    assert first_order_log_drop(model, (x, y), threat) == pytest.approx(
        -math.log(float(standing.double().mean()))
    )


def test_what_is_wrong_or_tied_never_stands_and_labels_must_fit() -> None:
    model, (x, y) = _straight()
    wrong = (x, (y + 1) % 3)
    assert not first_order_standing(model, wrong, Threat("Linf", 1e-6)).any()
    assert first_order_log_drop(model, wrong, Threat("Linf", 1e-6)) == 0  # nothing was right
    assert first_order_log_drop(model, (x, y), Threat("Linf", 9.0)) == pytest.approx(math.log(60 / 0.5))
    model[1].weight.data.zero_()
    model[1].bias.data.zero_()
    assert not first_order_standing(model, (x, y), Threat("Linf", 1e-6)).any()
    with pytest.raises(InputError, match="60 labels for 60 images"):
        first_order_standing(model, (x, y[:3]), Threat("Linf", 0.1))
