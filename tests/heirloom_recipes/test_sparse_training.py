"""Training and downstream heads: closed-form gradients against autograd, batches against single runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from heirloom import InputError
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom_recipes.sparse_coding import downstream as heads
from heirloom_recipes.sparse_coding.cases import CASES, Case
from heirloom_recipes.sparse_coding.figure_4 import Setting
from heirloom_recipes.sparse_coding.gradients import (
    contrastive_delta,
    contrastive_score,
    contrastive_step,
    fgm,
    intercepts,
    output_layer,
    supervised_gradient,
    supervised_step,
)
from heirloom_recipes.sparse_coding.inherit import inherit, mixture
from heirloom_recipes.sparse_coding.intervals import interval, spearman
from heirloom_recipes.sparse_coding.lemma import lemma
from heirloom_recipes.sparse_coding.purify import arranged, purify
from heirloom_recipes.sparse_coding.setting import Training
from heirloom_recipes.sparse_coding.tables import verdict
from heirloom_recipes.sparse_coding.training import draw_batch, train

DATA = SparseCoding(d=12, k=2, zeta=0.05)
SMALL = Training(data=DATA, nodes=30, steps=12, batch=40, init=0.3)


def batch_of(setting: Training, runs: int = 2):
    generators = [torch.Generator().manual_seed(seed) for seed in range(runs)]
    M = torch.stack([torch.eye(setting.data.d)] * runs)
    W = torch.stack([torch.randn(setting.data.d, setting.nodes, generator=g) for g in generators])
    return W, draw_batch(setting, M, generators)


def straight(setting: Training, W, z, y):
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
def test_attack_size(norm: str, steps: int) -> None:
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
    found = train(Training(steps=400), (0.0, 0.3), (0,))
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


def test_the_head_is_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    features, y = torch.randn(200, 9, generator=generator), torch.randn(200, generator=generator)
    expected = np.linalg.lstsq(features.numpy(), y.numpy(), rcond=None)[0]
    assert np.allclose(heads.ridge_head(features, y).numpy(), expected, atol=1e-4)


def built(share: float, count: int = 3):
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    U = torch.stack([mixture(12, 36, share, generator) for generator in generators])
    M = torch.eye(12).expand(count, 12, 12)
    return heads.downstream(
        U, intercepts(U, 0.03), M, DATA, range(count), (0.05, 0.1, 0.3), size=(2000, 1000)
    )


def test_gap_of_pure_nodes_is_the_closed_form_and_below_mixed_ones() -> None:
    """Square loss: L_eps - L_0 = E[2 eps |r| |theta_X| + (eps |theta_X|)^2] up to gates that flip."""
    pure, mixed = built(1.0), built(0.0)
    assert torch.all(pure.gap[:, 1:] > pure.gap[:, :-1])
    assert torch.all(pure.gap[:, -1] < mixed.gap[:, -1])
    # E theta_i^2 = 13/12, E number active = k = 2, E|r| = sigma sqrt(2/pi), sigma = .1
    bound = 0.3**2 * 2 * 13 / 12
    assert 0.5 * bound < float(pure.gap[:, -1].mean()) < 2.5 * bound


def test_mixture_has_the_share_asked_for() -> None:
    U = mixture(12, 40, 0.25, torch.Generator().manual_seed(0), mixed=4)
    counts = (U != 0).sum(0)
    assert (counts == 1).sum() == 10
    assert (counts == 4).sum() == 30
    assert torch.allclose(U.norm(dim=0), torch.ones(40))


def test_inherit_rows() -> None:
    found = inherit(SMALL, (0, 1), 2, epsilons=(0.0, 0.2), size=(300, 100))
    rows = found.rows()
    trained = [row for row in rows if row["networks"] == "trained" and "pretrain" in row]
    assert [row["pretrain"] for row in trained] == ["eps 0", "eps 0.2", "clean first, then eps 0.2"]
    assert all(row["gap_0.3"]["n"] == 2 for row in trained)
    built_rows = [row for row in rows if row["networks"] == "built" and "pretrain" in row]
    assert [row["pure"].value for row in built_rows] == pytest.approx(
        [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1], abs=0.05
    )
    assert {row["rank_correlation_with"] for row in rows if "rank_correlation_with" in row} >= {
        "top_1",
        "hoyer",
    }


def test_purify_rows_pair_each_seed_with_its_clean_run() -> None:
    found = purify(Case("small", SMALL, (0.0, 0.2)), (0, 1, 2), size=(300, 100))
    clean, attacked = found.rows()
    assert clean["train_eps"] == 0
    assert "change" not in clean
    expected = found.figures["top_1"][3:] - found.figures["top_1"][:3]
    assert attacked["change"]["top_1"]["value"] == pytest.approx(expected.mean().item())
    assert attacked["purifies"] in ("yes", "not shown", "reversed")
    drawing = found.drawing()
    assert sum(drawing["histogram"][0]) == pytest.approx(1)
    assert drawing["U"][1].startswith("data:image/png")
    shown = arranged(found.trained.U()[0])
    assert shown.shape == (12, 30)
    assert torch.allclose(shown.amax(0), torch.ones(30))
    assert torch.all(shown.argmax(0).diff() >= 0)


def test_verdicts_need_an_interval_off_zero() -> None:
    assert verdict({"low": 0.1, "high": 0.2}, up=True) == "yes"
    assert verdict({"low": -0.1, "high": 0.2}, up=True) == "not shown"
    assert verdict({"low": 0.1, "high": 0.2}, up=False) == "reversed"
    assert verdict({"low": None, "high": None}, up=True) == "not shown"


def test_intervals() -> None:
    found = interval([1.0, 2.0, 3.0])
    # Student's t with 2 degrees of freedom: 4.3027 standard errors
    assert found["high"] - found["value"] == pytest.approx(4.30265 / 3**0.5, rel=1e-4)
    assert interval([1.0])["low"] is None
    ranked = spearman(torch.arange(30.0), -(torch.arange(30.0) ** 3))
    assert ranked["value"] == pytest.approx(-1)
    assert ranked["low"] == pytest.approx(-1)


def test_lemma_on_small_networks() -> None:
    found = lemma(Setting(d=60, k=3, nodes=600, ms=(1, 2, 5)), 40, seed=0)
    rows = {(row["kind"], row["m"]): row for row in found.rows()}
    assert rows["exact", 1]["middle"].value == pytest.approx(rows["exact", 1]["lower"].value, rel=1e-6)
    assert rows["grouped", 5]["middle"].value > rows["random", 5]["middle"].value
    assert found.slopes()["grouped"] > found.slopes()["exact"]


def test_cases_cover_what_the_paper_asks() -> None:
    seen = {case.setting.loss for case in CASES}
    assert seen == {"square", "absolute", "logistic", "contrastive"}
    assert {case.setting.activation for case in CASES} == {"gate", "relu", "tanh", "gelu", "silu"}
    assert {case.setting.norm for case in CASES} == {"L2", "Linf"}
    assert {case.setting.attacked for case in CASES} == {"all", "similar", "dissimilar"}
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("change", [{"loss": "hinge"}, {"norm": "L1"}, {"steps": 0}, {"clean_steps": 13}])
def test_wrong_settings_are_told(change: dict) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        replace(SMALL, **change)
