"""Training: closed-form gradients against autograd, batches against single runs."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from heirloom import InputError
from heirloom.theory.sparse_coding.attack import contrastive_delta, fgm
from heirloom.theory.sparse_coding.losses import (
    contrastive_score,
    intercepts,
    output_layer,
    supervised_gradient,
)
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom.theory.sparse_coding.settings import SparseTraining
from heirloom.theory.sparse_coding.steps import contrastive_step, supervised_step
from heirloom.theory.sparse_coding.training import draw_batch, train

DATA = SparseCoding(d=12, k=2, zeta=0.05)
SMALL = SparseTraining(data=DATA, nodes=30, steps=12, batch=40, init=0.3)


def batch_of(setting: SparseTraining, runs: int = 2):
    generators = [torch.Generator().manual_seed(seed) for seed in range(runs)]
    M = torch.stack([torch.eye(setting.data.d)] * runs)
    W = torch.stack([torch.randn(setting.data.d, setting.nodes, generator=g) for g in generators])
    return W, draw_batch(setting, M, generators)


def straight(setting: SparseTraining, W, z, y):
    """Loss of each example as one would write it down, gates by torch.where."""
    b = setting.c_b * W.detach().norm(dim=0)
    v = z @ W
    hidden = {
        "gate": lambda: torch.where(v.abs() >= b, v, 0.0),
        "relu": lambda: functional.relu(v - b),
        "tanh": lambda: v.tanh(),
        "gelu": lambda: functional.gelu(v - b),
        "silu": lambda: functional.silu(v - b),
    }[setting.activation]()
    f = hidden @ setting.a()
    return {
        "square": lambda: (f - y) ** 2,
        "absolute": lambda: (f - y).abs(),
        "logistic": lambda: torch.log1p(torch.exp(-y * f)),
    }[setting.loss]()


@pytest.mark.parametrize("loss", ["square", "absolute", "logistic"])
@pytest.mark.parametrize("activation", ["gate", "relu", "tanh", "gelu", "silu"])
def test_gradients_are_autograds(loss: str, activation: str) -> None:
    setting = replace(SMALL, loss=loss, activation=activation, outputs="signs")  # type: ignore[arg-type]
    W, (z, y) = batch_of(setting)
    W.requires_grad_()
    eps = torch.tensor([0.0, 0.2])
    supervised_step(setting, W, (z, y), eps)
    for run in range(2):
        point = z[run].clone().requires_grad_()
        gradient = torch.autograd.grad(straight(setting, W[run], point, y[run]).sum(), point)[0]
        ours = supervised_gradient(
            setting, W.detach(), setting.a(), intercepts(W, setting.c_b)[:, None], z, y
        )[run]
        assert torch.allclose(ours, gradient, atol=1e-4, rtol=1e-3)
        delta = eps[run] * gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-30)
        leaf = W[run].detach().clone().requires_grad_()
        expected = torch.autograd.grad(straight(setting, leaf, z[run] + delta, y[run]).mean(), leaf)[0]
        assert torch.allclose(W.grad[run], expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("lazy", [True, False])
def test_contrastive_score_attack_and_gradient(lazy: bool) -> None:
    setting = replace(SMALL, loss="contrastive", c_b=0.1, lazy=lazy, ridge=0.0)
    W, (z, other, y) = batch_of(setting)
    b = setting.c_b * W[0].norm(dim=0)

    def score(point, weight, A):
        left, right = (torch.where((u @ weight).abs() >= b, u @ weight, 0.0) @ A for u in (point, other[0]))
        return (left * right).sum(1)

    pinv = setting.tau * torch.linalg.pinv(W[0])
    assert torch.allclose(output_layer(setting, W)[0], pinv, atol=1e-4)
    ours = contrastive_score(setting, W, output_layer(setting, W), intercepts(W, 0.1)[:, None], z, other)[0]
    assert torch.allclose(ours, score(z[0], W[0], pinv), atol=1e-3)
    point = z[0].clone().requires_grad_()
    gradient = torch.autograd.grad(functional.softplus(-y[0] * score(point, W[0], pinv)).sum(), point)[0]
    delta = contrastive_delta(setting, W, z, other, y, torch.tensor([0.3, 0.3]))[0]
    cosine = functional.cosine_similarity(delta, gradient, dim=1)
    alive = gradient.norm(dim=1) > 1e-6
    assert torch.all(cosine[alive] > 0.999)
    assert torch.allclose(delta[alive].norm(dim=1), torch.tensor(0.3), atol=1e-5)

    W.requires_grad_()
    contrastive_step(setting, W, (z, other, y), torch.zeros(2))
    leaf = W[0].detach().clone().requires_grad_()
    A = setting.tau * torch.linalg.pinv(leaf)
    loss = functional.softplus(-y[0] * score(z[0], leaf, A.detach() if lazy else A)).mean()
    assert torch.allclose(W.grad[0], torch.autograd.grad(loss, leaf)[0], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("attacked", ["similar", "dissimilar"])
def test_an_attack_on_one_kind_of_pair_leaves_the_other_alone(attacked: str) -> None:
    setting = replace(SMALL, loss="contrastive", c_b=0.1)
    W, (z, other, y) = batch_of(setting)
    delta = contrastive_delta(setting, W, z, other, y, torch.tensor([0.3, 0.3]), attacked)  # type: ignore[arg-type]
    reached = delta.norm(dim=2) > 0
    wanted = (y > 0) == (attacked == "similar")
    assert not reached[~wanted].any()
    assert reached[wanted].double().mean() > 0.5  # the others have no active feature


@pytest.mark.parametrize("norm", ["L2", "Linf"])
@pytest.mark.parametrize("steps", [1, 7])
def test_the_attack_has_the_length_that_was_asked_for(norm: str, steps: int) -> None:
    z = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    eps = torch.tensor([0.1, 0.4])
    delta = fgm(lambda point: point + 1, z, eps, norm, steps)  # type: ignore[arg-type]
    size = delta.norm(dim=2) if norm == "L2" else delta.abs().amax(2)
    assert torch.allclose(size, eps[:, None].expand(2, 5), atol=1e-6)


@pytest.mark.parametrize("loss", ["square", "contrastive"])
def test_a_batch_of_runs_is_the_runs_one_by_one(loss: str) -> None:
    setting = replace(SMALL, loss=loss, c_b=0.1)  # type: ignore[arg-type]
    together = train(setting, (0.0, 0.2), (5, 6))
    for index, (eps, seed) in enumerate([(0.0, 5), (0.0, 6), (0.2, 5), (0.2, 6)]):
        assert together.eps[index].item() == pytest.approx(eps)
        assert together.seeds[index] == seed
        alone = train(setting, (eps,), (seed,))
        assert torch.allclose(alone.W[0], together.W[index], atol=2e-3)
    assert torch.equal(together.start[0], together.start[2])  # runs of one seed start alike


def test_clean_steps_delay_the_attack() -> None:
    late = train(replace(SMALL, clean_steps=SMALL.steps), (0.3,), (1,))
    assert torch.equal(late.W, train(SMALL, (0.0,), (1,)).W)


def test_adversarial_training_purifies_and_clean_training_does_not() -> None:
    """400 of the 2500 steps suffice: top-1 .15 against .65, spread over seeds .01."""
    found = train(SparseTraining(steps=400), (0.0, 0.3), (0,))
    top_1 = found.purity()["top_1"]
    assert top_1[0] < 0.25
    assert top_1[1] > 0.5
    assert found.curves["top_1"].shape[1] == len(found.curves_at)
    assert found.curves_at[-1] == 400
    assert torch.allclose(found.curves["top_1"][:, -1], top_1)


def test_training_does_not_touch_global_random_state() -> None:
    before = torch.get_rng_state()
    train(SMALL, (0.1,), (0,))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_built_start_is_an_optimum_of_the_clean_loss() -> None:
    found = train(replace(SMALL, init=None, start_m=2, steps=1), (0.0,), (0,))
    U = found.M.mT @ found.start
    assert torch.allclose(U.sum(2), torch.ones(1, 12), atol=1e-5)
    assert torch.all((U.abs() > 1e-4).sum(1) == 2)


@pytest.mark.parametrize("change", [{"loss": "hinge"}, {"norm": "L1"}, {"steps": 0}, {"clean_steps": 13}])
def test_wrong_settings_are_told(change: dict) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SMALL, **change)
