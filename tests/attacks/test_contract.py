"""What every attack keeps: the threat set, float32, the model, no hidden randomness, any classes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from heirloom import InputError, Threat
from heirloom.attacks import (
    apgd,
    apgd_targeted,
    autoattack,
    dlr,
    fab,
    feature_targeted,
    fgsm,
    margin,
    misclassified,
    pgd,
    pma,
    square,
)
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.named import named_attack
from heirloom.threat import NORMS
from tests.attacks.small import Linear

ATTACKS = {
    "fgsm": lambda *a, generator: fgsm(*a, generator=generator, random_start=True),
    "pgd": lambda *a, generator: pgd(*a, steps=3, restarts=2, generator=generator),
    "apgd-ce": lambda *a, generator: apgd(*a, steps=10, until=misclassified, generator=generator),
    "apgd-dlr": lambda *a, generator: apgd(*a, steps=6, loss=dlr, restarts=2, generator=generator),
    "apgd-margin": lambda *a, generator: apgd(*a, steps=6, loss=margin, eot=2, generator=generator),
    "apgd-t": lambda *a, generator: apgd_targeted(*a, steps=6, targets=2, generator=generator),
    "fab": lambda *a, generator: fab(*a, steps=4, restarts=2, generator=generator),
    "fab-t": lambda *a, generator: fab(*a, steps=4, targets=2, generator=generator),
    "pma": lambda *a, generator: pma(*a, steps=3, generator=generator),
    "feature-targeted": lambda model, x, y, threat, generator: feature_targeted(
        model, x, predict(model, x.flip(0)).detach(), threat, steps=3, restarts=2, generator=generator
    ),
    "square": lambda *a, generator: square(*a, queries=15, generator=generator),
}


def network(classes: int, channels: int, side: int, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    size = channels * side * side
    hidden = Linear(torch.randn(8, size, generator=generator) / size**0.5, torch.zeros(8))
    head = Linear(torch.randn(classes, 8, generator=generator), torch.zeros(classes))
    return nn.Sequential(hidden, nn.Tanh(), nn.BatchNorm1d(8), nn.Dropout(0.5), head).eval()


cases = {
    "attack": st.sampled_from(sorted(ATTACKS)),
    "threat": st.builds(Threat, st.sampled_from(NORMS), st.floats(1e-3, 2.0)),
    "classes": st.integers(2, 12),
    "seed": st.integers(0, 2**31),
    "dtype": st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    "edge": st.sampled_from([None, 0.0, 1.0]),
}


@given(**cases)
@settings(max_examples=120, deadline=None)
def test_every_attack_keeps_the_contract(
    attack: str, threat: Threat, classes: int, seed: int, dtype: torch.dtype, edge: float | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    channels, side = 1 + seed % 3, 3 + seed % 4
    model = network(classes, channels, side, seed).to(dtype)
    x = torch.rand(3, channels, side, side, generator=generator)
    if edge is not None:
        x = torch.where(x < 0.7, edge, x)
    y = predict(model, x).argmax(1) if seed % 4 else torch.randint(0, classes, (3,), generator=generator)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    kept, torch_state = x.clone(), torch.random.get_rng_state()

    found = [ATTACKS[attack](model, x, y, threat, generator=torch.Generator().manual_seed(1)) for _ in "ab"]

    x_adv = found[0]
    assert x_adv.dtype == torch.float32
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert threat.distance(x_adv, x).max() <= threat.eps
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert torch.equal(found[0], found[1])
    assert torch.equal(x, kept)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"fgsm", "pgd"}))
@pytest.mark.parametrize("norm", NORMS)
def test_autocast_keeps_float32_perturbations(name: str, norm: str) -> None:
    model = network(5, 3, 6, 0)
    x = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    threat = Threat(norm, 0.4)  # type: ignore[arg-type]
    with torch.autocast("cpu", torch.bfloat16):
        x_adv = ATTACKS[name](model, x, y, threat, generator=torch.Generator().manual_seed(0))
    assert x_adv.dtype == torch.float32
    assert threat.distance(x_adv, x).max() <= threat.eps


@pytest.mark.parametrize("classes", [2, 3, 4, 1000])
def test_cascade_with_few_and_many_classes(classes: int) -> None:
    """pyautoattack stops below 4 classes (targeted DLR) and below 10 (9 targets)."""
    model = network(classes, 1, 4, 3)
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    for norm, eps in (("Linf", 0.9), ("L2", 3.0)):
        x_adv = autoattack(model, x, y, Threat(norm, eps))  # type: ignore[arg-type]
        assert misclassified(model(x_adv), y).all()


class Stubborn(nn.Module):
    """No gradient, never a number, or one class for all: what an attack may meet."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.weight = kind, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1).sum(1)
        if self.kind == "detached":
            first = first.detach()
        if self.kind == "nan":
            first = first * float("nan")
        return torch.stack([0 * first + 1, 0 * first, -first * 0], 1)


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("kind", ["detached", "nan", "constant"])
def test_hopeless_models_break_nothing(name: str, kind: str) -> None:
    x = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    for norm in NORMS:
        threat = Threat(norm, 0.3)  # type: ignore[arg-type]
        y = torch.zeros(2, dtype=torch.long)
        x_adv = ATTACKS[name](Stubborn(kind), x, y, threat, generator=torch.Generator().manual_seed(0))
        assert threat.distance(x_adv, x).max() <= threat.eps


def test_names_stand_for_the_parts_that_the_field_gives_them() -> None:
    for name in ("apgd-ce", "apgd-dlr", "apgd-t", "apgd-margin", "fab", "fab-t", "square", "square-50"):
        assert named_attack(name).name == name
        assert len(named_attack(name).parts) == 1
    lengths = {"autoattack": 4, "autoattack-plus": 6, "autoattack-rand": 2, "strong": 2}
    assert {name: len(named_attack(name).parts) for name in lengths} == lengths
    for wrong in ("auto", "square-0", "pgd-", "APGD-CE"):
        with pytest.raises(InputError, match="attacks must be fgsm, pgd-N"):
            named_attack(wrong)


def test_wrong_settings_are_one_sentence() -> None:
    model, x, y = network(3, 1, 3, 0), torch.rand(1, 1, 3, 3), torch.zeros(1, dtype=torch.long)
    threat = Threat("Linf", 0.1)
    for call, said in (
        (lambda: apgd(model, x, y, threat, steps=0), "steps must be at least 1, got 0"),
        (lambda: apgd(model, x, y, threat, eot=0), "eot must be at least 1"),
        (lambda: fab(model, x, y, threat, targets=0), "targets must be at least 1"),
        (lambda: square(model, x, y, threat, queries=0), "queries must be at least 1"),
        (lambda: square(model, x, y, threat, p_init=2), "p_init must be a share"),
        (lambda: autoattack(model, x, y, threat, version="fast"), "version must be one of standard"),
        (lambda: apgd_targeted(model, x, y + 3, threat), "labels must be class indices from 0 to 2"),
    ):
        with pytest.raises(InputError, match=said):
            call()
