"""Training steps against straight-line code that shares nothing with them but the network and the seed."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom import InputError, Threat
from heirloom.data.augmentation import CROP_AND_FLIP, Augmentation, augment
from heirloom.pretraining.steps import Classifier, ContrastiveLoss, Projected, contrastive_step, trades_step
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.supervised import supervised_step

EPS, STEP = 0.1, 0.03
THREAT = Threat("Linf", EPS)


def encoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(0)
    model = Classifier(encoder(), nn.Linear(24, 4))
    model(torch.rand(16, 3, 8, 8))  # running statistics that differ from the batch's
    return model.train()


@pytest.fixture
def projected() -> nn.Module:
    torch.manual_seed(1)
    model = Projected(encoder(), 24, hidden=16, width=8)
    model(torch.rand(16, 3, 8, 8))
    return model.train()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(6, 3, 8, 8, generator=generator), torch.randint(0, 4, (6,), generator=generator)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def straight_line_pgd(
    x: Tensor, loss_each: Callable[[Tensor], Tensor], start: Tensor, steps: int, last: bool
) -> Tensor:
    """Sign steps by .backward() with torch's clamp; the best iterate of each example, or the last."""
    iterates, x_adv = [start], start
    for _ in range(steps):
        x_adv = x_adv.clone().detach().requires_grad_()
        loss_each(x_adv).sum().backward()
        moved = x_adv.detach() + STEP * x_adv.grad.sign()  # type: ignore[union-attr]
        x_adv = (x + (moved - x).clamp(-EPS, EPS)).clamp(0, 1)
        iterates.append(x_adv)
    if last:
        return x_adv
    with torch.no_grad():
        best = torch.stack([loss_each(iterate) for iterate in iterates]).argmax(0)
    return torch.stack(iterates)[best, torch.arange(len(x))]


def uniform_start(x: Tensor, generator: torch.Generator) -> Tensor:
    noise = (torch.rand(x.shape, generator=generator) * 2 - 1) * EPS
    return (x + noise).clamp(0, 1)


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_adversarial_training_equals_the_oracle(
    classifier: nn.Module, batch: tuple[Tensor, Tensor], random_start: bool, last: bool
) -> None:
    x, y = batch
    attack = InnerAttack(4, STEP, random_start=random_start, last_iterate=last)
    found = supervised_step(None, THREAT, attack)(copy.deepcopy(classifier), x, y, seeded())
    start = uniform_start(x, seeded()) if random_start else x
    classifier.eval()
    x_adv = straight_line_pgd(
        x, lambda z: functional.cross_entropy(classifier(z), y, reduction="none"), start, 4, last
    )
    expected = functional.cross_entropy(classifier.train()(x_adv), y)
    assert found["loss"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_clean_training_equals_the_oracle(classifier: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    found = supervised_step(CROP_AND_FLIP, None, InnerAttack())(copy.deepcopy(classifier), x, y, seeded())
    expected = functional.cross_entropy(classifier(augment(x, CROP_AND_FLIP, seeded())), y)
    assert found["loss"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_trades_equals_the_oracle(classifier: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    found = trades_step(None, THREAT, InnerAttack(4, STEP), 6.0)(copy.deepcopy(classifier), x, y, seeded())
    classifier.eval()
    with torch.no_grad():
        p = functional.softmax(classifier(x), 1)

    def divergence(z: Tensor) -> Tensor:
        return (p * (p.log() - functional.log_softmax(classifier(z), 1))).sum(1)

    x_adv = straight_line_pgd(x, divergence, uniform_start(x, seeded()), 4, last=False)
    logits, logits_adv = classifier.train()(torch.cat([x, x_adv])).split(6)
    q = functional.log_softmax(logits, 1)
    gap = (q.exp() * (q - functional.log_softmax(logits_adv, 1))).sum(1).mean()
    expected = functional.cross_entropy(logits, y) + 6 * gap
    assert found["loss"].item() == pytest.approx(expected.item(), abs=1e-5, rel=1e-6)


def loop_nt_xent(views: list[Tensor], temperature: float) -> Tensor:
    z = functional.normalize(torch.cat(views), dim=1)
    scores, n, total = (z @ z.T / temperature).exp(), len(views[0]), torch.zeros(())
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        for j in others:
            if j % n == i % n:
                total = total - (scores[i, j] / scores[i, others].sum()).log()
    return total / len(z)


@pytest.mark.parametrize("detach", [True, False])
def test_rocl_equals_the_oracle(projected: nn.Module, batch: tuple[Tensor, Tensor], detach: bool) -> None:
    x, y = batch
    step = contrastive_step(
        Augmentation(), THREAT, InnerAttack(3, STEP, last_iterate=True), ContrastiveLoss(0.5, 1 / 256, detach)
    )
    found = step(copy.deepcopy(projected), x, y, seeded())
    generator = seeded()
    first, second = augment(x, Augmentation(), generator), augment(x, Augmentation(), generator)
    start = uniform_start(first, generator)
    projected.eval()
    with torch.no_grad():
        constant = functional.normalize(projected(second), dim=1)

    def away(moved: Tensor) -> Tensor:
        z = torch.cat([functional.normalize(projected(moved), dim=1), constant])
        scores = (z @ (z.detach() if detach else z).T / 0.5).exp()
        own = torch.arange(12)
        positive = scores[own, (own + 6) % 12]
        return -(positive / (scores.sum(1) - scores[own, own])).log()

    adversarial = straight_line_pgd(first, away, start, 3, last=True)
    views = list(projected.train()(torch.cat([first, second, adversarial])).split(6))
    expected = loop_nt_xent(views, 0.5) + loop_nt_xent([views[2], views[1]], 0.5) / 256
    assert found["loss"].item() == pytest.approx(expected.item(), abs=1e-6, rel=1e-6)


def test_simclr_equals_the_oracle_and_reads_no_label(
    projected: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    x, y = batch
    step = contrastive_step(Augmentation(), None, InnerAttack(), ContrastiveLoss())
    found = step(projected, x, y, seeded())["loss"].item()
    generator = seeded()
    views = [augment(x, Augmentation(), generator) for _ in range(2)]
    expected = loop_nt_xent(list(projected(torch.cat(views)).split(6)), 0.5)
    assert found == pytest.approx(expected.item(), abs=1e-6)
    assert step(projected, x, y * 0 - 7, seeded())["loss"].item() == found


@pytest.mark.parametrize("quirk", [True, False])
def test_batchnorm_moves_under_attack_only_with_the_quirk(
    classifier: nn.Module, batch: tuple[Tensor, Tensor], quirk: bool
) -> None:
    x, y = batch
    norm = classifier.encoder[1]  # type: ignore[index]
    before = int(norm.num_batches_tracked)
    attack = InnerAttack(4, STEP, attack_in_train_mode=quirk, last_iterate=True)
    supervised_step(None, THREAT, attack)(classifier, x, y, seeded())
    assert int(norm.num_batches_tracked) - before == (5 if quirk else 1)
    assert classifier.training
    assert all(p.grad is None for p in classifier.parameters())


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="attack_steps must be at least 1"):
        InnerAttack(steps=0)
    with pytest.raises(InputError, match="attack_step_size must be a number above 0"):
        InnerAttack(step_size=0.0)
