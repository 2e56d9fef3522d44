"""Targets that share a batch give what targets one after the other give, and never more images than allowed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from heirloom import Threat, evaluate
from heirloom.attacks import apgd_targeted, fab_minimum, misclassified, square
from heirloom.attacks.engine.rows import images_at_once, rows_at_once
from heirloom.attacks.losses import margin
from tests.attacks.small import digits
from tests.attacks.test_peers import network


def test_a_batch_is_filled_and_not_more() -> None:
    assert [rows_at_once(examples, 9) for examples in (1, 7, 8, 20, 64, 500)] == [9, 9, 8, 3, 1, 1]
    with images_at_once(4):
        assert rows_at_once(1, 9) == 4
        with images_at_once(1000):  # what is allowed inside cannot exceed what is allowed outside
            assert rows_at_once(2, 9) == 2


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_fab_finds_the_same_distances(norm: str) -> None:
    """It draws nothing. Equal but for the order of float32 sums, which its steps amplify in a few examples."""
    model, (x, y) = network("perceptron"), digits()
    x, y = x[1500:1512], y[1500:1512]
    _, together = fab_minimum(model, x, y, norm, radius=0.1, targets=9, steps=20)  # type: ignore[arg-type]
    with images_at_once(1):
        _, alone = fab_minimum(model, x, y, norm, radius=0.1, targets=9, steps=20)  # type: ignore[arg-type]
    assert ((together - alone).abs() <= 1e-3 * alone).double().mean() >= 0.9
    assert (together - alone).abs().max() <= 0.05 * alone.max()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_targeted_apgd_is_as_strong_and_stops_for_all_targets(norm: str) -> None:
    model, (x, y) = network("convolutional"), digits()
    x, y = x[1500:1530], y[1500:1530]
    threat = Threat(norm, {"Linf": 0.15, "L2": 0.7}[norm])  # type: ignore[arg-type]
    passes: dict[bool, int] = {}
    fallen: dict[bool, Tensor] = {}
    for alone in (True, False):
        counted = _Counter(model)
        with images_at_once(1 if alone else 64):
            generator = torch.Generator().manual_seed(0)
            x_adv = apgd_targeted(counted, x, y, threat, steps=30, generator=generator)
        passes[alone], fallen[alone] = counted.images, misclassified(model(x_adv), y)
        assert counted.largest <= (30 if alone else 64)
    assert 3 <= int(fallen[True].sum()) <= 27
    assert (fallen[True] != fallen[False]).sum() <= 1  # other random starts
    assert passes[False] < 1.2 * passes[True]  # an example that falls towards one target leaves all


def test_evaluate_sends_no_more_images_than_its_batch_size() -> None:
    model, (x, y) = network("perceptron"), digits()
    counted = _Counter(model)
    evaluate(counted, (x[1500:1508], y[1500:1508]), Threat("Linf", 0.02), ["apgd-t", "fab-t"], batch_size=5)
    assert counted.largest == 5


class _Counter(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.images, self.largest = model.eval(), 0, 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.images, self.largest = self.images + len(x), max(self.largest, len(x))
        return self.model(x)


def test_square_asks_ahead_without_changing_the_search() -> None:
    """The same distribution: mean margins after 150 proposals differ by less than three standard errors."""
    model, (x, y) = network("convolutional"), digits()
    stands = (margin(model(x[1500:1540]), y[1500:1540]) < -8).nonzero().flatten()[:6]
    x, y, threat = x[1500:1540][stands], y[1500:1540][stands], Threat("Linf", 0.05)
    margins: dict[int, list[Tensor]] = {1: [], 64: []}
    images: dict[int, int] = {}
    for at_once, found in margins.items():
        counted = _Counter(model)
        for seed in range(12):
            generator = torch.Generator().manual_seed(seed)
            with images_at_once(at_once):
                found.append(
                    margin(model(square(counted, x, y, threat, queries=150, generator=generator)), y)
                )
        images[at_once] = counted.images
        assert counted.largest <= 6 if at_once == 1 else 6 < counted.largest <= 64
    alone, ahead = (torch.stack(found).detach().double() for found in margins.values())
    error = ((alone.var(0) + ahead.var(0)) / 12).sqrt()
    assert ((alone.mean(0) - ahead.mean(0)).abs() < 3 * error).all()
    assert images[1] <= 12 * 6 * 151
    assert images[1] <= images[64] <= 1.5 * images[1]
