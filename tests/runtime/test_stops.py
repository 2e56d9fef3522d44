"""Where nothing can stop early, an attack and a training step never ask the device for a number."""

import torch
from torch import nn

from heirloom import Threat
from heirloom.attacks import misclassified, pgd
from heirloom.runtime.stops import Stops
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.supervised import supervised_step

THREAT = Threat("Linf", 0.1)


def _small() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    return model, torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


def test_each_kind_of_stop_is_counted_once() -> None:
    x = torch.tensor([1.0, -1.0, 2.0])
    for stopping in (
        lambda: float(x.sum()),
        lambda: bool((x > 0).any()),
        lambda: x[x > 0],
        lambda: x.nonzero(),
    ):
        with Stops() as stops:
            stopping()
        assert stops.count >= 1
    with Stops() as stops:
        torch.where(x > 0, x, -x)[torch.tensor([0, 2])]
    assert stops.count == 0


def test_pgd_stops_only_for_examples_that_may_be_finished() -> None:
    model, x, y = _small()
    with Stops() as without:
        found = pgd(model, x, y, THREAT, steps=10, generator=torch.Generator().manual_seed(0))
    with Stops() as with_until:
        pgd(model, x, y, THREAT, steps=10, until=misclassified, generator=torch.Generator().manual_seed(0))
    assert without.count == 0
    assert with_until.count >= 10
    assert float(THREAT.distance(found, x).max()) <= THREAT.eps


def test_a_step_of_adversarial_training_never_stops() -> None:
    model, x, y = _small()
    step = supervised_step(None, THREAT, InnerAttack(5))
    with Stops() as stops:
        step(model, x, y, torch.Generator().manual_seed(0))["loss"].backward()
    assert stops.count == 0
