"""Clean and adversarial training of two-layer networks on sparse coding data, many runs as one batch (I8).

A run is one (eps, seed). Runs of one seed share the dictionary M, the initial W and every training batch, so
they differ by the attack alone. Leading dimension of all tensors: the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.analysis.purification import in_features, node_purity
from heirloom.data.sparse_coding import SparseCoding, class_targets, random_dictionary, regression_targets
from heirloom.errors import require
from heirloom.networks.two_layer import Activation, activate, built_network
from heirloom.randomness import seed_of

Loss = Literal["square", "absolute", "logistic", "contrastive"]
AttackNorm = Literal["L2", "Linf"]
Attacked = Literal["all", "similar", "dissimilar"]
CHECKPOINTS = 25


@dataclass(frozen=True)
class Training:
    """One way to train, for all eps and seeds.

    Args:
        batch: examples per step; a contrastive example brings one similar and one dissimilar pair.
        c_b: b_h = c_b norm(W_h), computed anew at each step without a gradient.
        init: W_ij starts as init N(0, 1) / sqrt d; None starts from a built network with exactly
            ``start_m`` features per node and U a = theta, an optimum of the clean loss.
        clean_steps: steps without attack before adversarial training begins.
        theta: every coordinate of theta_0 (3 for the logistic loss makes its labels learnable).
        outputs: ``ones``, the paper's a = 1, or ``signs``, +1 for one half of the nodes and -1 for the other,
            without which a non-negative activation cannot fit a symmetric target.
        attacked: which contrastive pairs the training attack reaches.
        lazy: contrastive only: A = tau W^+ is a constant in the gradient (the paper's lazy training).
    """

    loss: Loss = "square"
    activation: Activation = "gate"
    c_b: float = 0.03
    init: float | None = 0.02
    start_m: int = 5
    steps: int = 2500
    clean_steps: int = 0
    batch: int = 400
    rate: float = 1e-2
    norm: AttackNorm = "L2"
    data: SparseCoding = field(default_factory=lambda: SparseCoding(d=50, k=3, zeta=0.05))
    nodes: int = 250
    sigma: float = 0.1
    theta: float = 1.0
    outputs: Literal["ones", "signs"] = "ones"
    attacked: Attacked = "all"
    lazy: bool = True
    tau: float = 5**0.5
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        require(self.loss in get_args(Loss), "loss", f"one of {', '.join(get_args(Loss))}", self.loss)
        require(self.norm in get_args(AttackNorm), "norm", "L2 or Linf", self.norm)
        require(self.steps >= 1, "steps", "at least 1", self.steps)
        require(
            0 <= self.clean_steps <= self.steps, "clean_steps", f"from 0 to {self.steps}", self.clean_steps
        )

    def a(self) -> Tensor:
        """Output weights (H,), never trained in pre-training."""
        ones = torch.ones(self.nodes)
        if self.outputs == "signs":
            ones[self.nodes // 2 :] = -1
        return ones


@dataclass(frozen=True)
class Trained:
    """R trained networks. W (R, d, H), M (R, d, d), eps (R,), seeds (R,).

    ``curves`` maps a measure to one list per run, taken at the steps ``curves_at``; ``start`` is W before
    training.
    """

    setting: Training
    W: Tensor
    M: Tensor
    eps: Tensor
    seeds: tuple[int, ...]
    start: Tensor
    curves_at: list[int]
    curves: dict[str, Tensor]

    @property
    def b(self) -> Tensor:
        return intercepts(self.W, self.setting.c_b)

    def U(self) -> Tensor:  # noqa: N802 (the paper's name)
        """Strength of each feature in each node, M^T W (R, d, H)."""
        return self.M.mT @ self.W

    def purity(self) -> dict[str, Tensor]:
        """Each measure of ``heirloom.analysis.purification`` by its name, (R,)."""
        return purity(self.W, self.M)


def train(
    setting: Training, epsilons: Sequence[float], seeds: Sequence[int],
    report: Callable[[int, int, float], None] | None = None,
) -> Trained:  # fmt: skip
    """Train one run for each eps and seed: Adam, rate falling to 0 along a cosine, a fresh batch every step.

    Args:
        epsilons: attack radii, 0 for clean training.
        report: called with (steps done, steps in all, mean training loss).
    """
    require(len(epsilons) > 0 and min(epsilons) >= 0, "epsilons", "numbers of at least 0", list(epsilons))
    generators = [torch.Generator().manual_seed(seed_of(seed, "purify")) for seed in seeds]
    d = setting.data.d
    M = torch.stack([random_dictionary(d, generator) for generator in generators])
    start = torch.stack([_start(setting, M[index], generator) for index, generator in enumerate(generators)])
    run_seed = torch.arange(len(seeds)).repeat(len(epsilons))
    eps = torch.tensor(epsilons, dtype=torch.float32).repeat_interleave(len(seeds))
    W = start[run_seed].clone().requires_grad_()
    optimizer = torch.optim.Adam([W], lr=setting.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.steps)
    step_loss = contrastive_step if setting.loss == "contrastive" else supervised_step
    curves: dict[str, list[Tensor]] = {}
    at = []
    every = max(1, setting.steps // CHECKPOINTS)
    for step in range(setting.steps + 1):
        if step % every == 0 or step == setting.steps:
            at.append(step)
            for name, value in purity(W, M[run_seed]).items():
                curves.setdefault(name, []).append(value)
        if step == setting.steps:
            break
        batch = draw_batch(setting, M, generators)
        now = eps if step >= setting.clean_steps else torch.zeros_like(eps)
        optimizer.zero_grad()
        loss = step_loss(setting, W, tuple(part[run_seed] for part in batch), now)
        optimizer.step()
        schedule.step()
        if report is not None and (step + 1) % every == 0:
            report(step + 1, setting.steps, float(loss.mean()))
    stacked = {name: torch.stack(values, 1) for name, values in curves.items()}
    run_seeds = tuple(seeds[index] for index in run_seed.tolist())
    return Trained(setting, W.detach(), M[run_seed], eps, run_seeds, start[run_seed], at, stacked)


def _start(setting: Training, M: Tensor, generator: torch.Generator) -> Tensor:
    d, nodes = setting.data.d, setting.nodes
    if setting.init is None:
        return setting.theta * M @ built_network(d, nodes, setting.start_m, generator, "exact").dense()
    return setting.init / d**0.5 * torch.randn(d, nodes, generator=generator)


def draw_batch(setting: Training, M: Tensor, generators: Sequence[torch.Generator]) -> tuple[Tensor, ...]:
    """One batch for each seed: (z, y), or (z, z', y) for the contrastive loss; leading dimension: seeds."""
    draws = [_draw(setting, M[index], generator) for index, generator in enumerate(generators)]
    return tuple(torch.stack(part) for part in zip(*draws, strict=True))


def _draw(setting: Training, M: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    x = setting.data.features(setting.batch, generator)
    if setting.loss == "contrastive":
        z, similar, dissimilar = setting.data.views(x, M, generator)
        y = torch.ones(setting.batch)  # the expectation over Y = +-1, not a draw of it
        return torch.cat([z, z]), torch.cat([similar, dissimilar]), torch.cat([y, -y])
    theta = torch.full((setting.data.d,), setting.theta)
    if setting.loss == "logistic":
        y = class_targets(x, theta, generator)
    else:
        y = regression_targets(x, theta, setting.sigma, generator)
    return setting.data.observe(x, M, generator), y


def supervised_step(setting: Training, W: Tensor, batch: tuple[Tensor, ...], eps: Tensor) -> Tensor:
    """Fill ``W.grad`` for one step; returns the attacked loss of each run (R,).

    The gradient in closed form: neither the gate, nor b, nor the attack's delta is differentiated.
    """
    z, y = batch
    with torch.no_grad():
        a, b = setting.a(), intercepts(W, setting.c_b)[:, None]
        z = z + fgm(lambda point: supervised_gradient(setting, W, a, b, point, y), z, eps, setting.norm)
        value, slope = activate(z @ W, b, setting.activation)
        loss, derivative = loss_of(setting.loss, value @ a, y)
        W.grad = z.mT @ (slope * derivative[..., None]) * (a / z.shape[1])
    return loss.mean(1)


def supervised_gradient(setting: Training, W: Tensor, a: Tensor, b: Tensor, z: Tensor, y: Tensor) -> Tensor:
    """d loss / d z (R, n, d); a (H,)."""
    value, slope = activate(z @ W, b, setting.activation)
    derivative = loss_of(setting.loss, value @ a, y)[1]
    return (slope @ (a * W).mT) * derivative[..., None]


def contrastive_step(setting: Training, W: Tensor, batch: tuple[Tensor, ...], eps: Tensor) -> Tensor:
    """As :func:`supervised_step` for pairs (z, z', y); A = tau W^+ with a ridge, computed anew."""
    z, other, y = batch
    with torch.no_grad():
        moved = z + contrastive_delta(setting, W, z, other, y, eps, setting.attacked)
        b = intercepts(W, setting.c_b)[:, None]
        A = output_layer(setting, W)
    if not setting.lazy:
        A = output_layer(setting, W)
    g = contrastive_score(setting, W, A, b, moved, other)
    loss = functional.softplus(-y * g).mean(1)
    loss.sum().backward()
    return loss.detach()


def contrastive_delta(
    setting: Training, W: Tensor, z: Tensor, other: Tensor, y: Tensor, eps: Tensor, attacked: Attacked = "all"
) -> Tensor:
    """FGM on z alone, (R, n, d); pairs that ``attacked`` leaves out get 0."""
    A, b = output_layer(setting, W), intercepts(W, setting.c_b)[:, None]
    back = (activate(other @ W, b, setting.activation)[0] @ A) @ A.mT

    def gradient(point: Tensor) -> Tensor:
        slope = activate(point @ W, b, setting.activation)[1]
        return -y[..., None] * ((slope * back) @ W.mT)

    delta = fgm(gradient, z, eps, setting.norm)
    if attacked == "all":
        return delta
    return delta * ((y > 0) == (attacked == "similar"))[..., None]


def contrastive_score(setting: Training, W: Tensor, A: Tensor, b: Tensor, z: Tensor, other: Tensor) -> Tensor:
    """g(z, z'), equation (5), (R, n)."""
    left = activate(z @ W, b, setting.activation)[0] @ A
    return (left * (activate(other @ W, b, setting.activation)[0] @ A)).sum(-1)


def output_layer(setting: Training, W: Tensor) -> Tensor:
    """A = tau W^T (W W^T + r I)^-1 (R, H, d), r = ridge tr(W W^T) / d."""
    G = W @ W.mT
    eye = torch.eye(G.shape[-1])
    r = setting.ridge * G.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    return setting.tau * torch.linalg.solve(G + r * eye, W).mT


def fgm(
    gradient: Callable[[Tensor], Tensor], z: Tensor, eps: Tensor, norm: AttackNorm, steps: int = 1
) -> Tensor:
    """delta (R, n, d) of length eps (R,): one step of eps (FGM, FGSM), or PGD with steps of 2.5 eps / steps."""
    radius = eps[:, None, None]
    if steps == 1:
        return radius * unit(gradient(z), norm)
    delta = torch.zeros_like(z)
    for _ in range(steps):
        delta = delta + 2.5 / steps * radius * unit(gradient(z + delta), norm)
        if norm == "Linf":
            delta = torch.minimum(torch.maximum(delta, -radius), radius)
        else:
            length = torch.linalg.vector_norm(delta, dim=-1, keepdim=True).clamp_min(1e-30)
            delta = delta * (radius / length).clamp_max(1)
    return delta


def unit(gradient: Tensor, norm: AttackNorm) -> Tensor:
    """The step of length 1 along which a linear function with this gradient grows most."""
    if norm == "Linf":
        return gradient.sign()
    return gradient / torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).clamp_min(1e-30)


def loss_of(loss: Loss, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each example and its derivative in f."""
    if loss == "square":
        return (f - y).square(), 2 * (f - y)
    if loss == "absolute":
        return (f - y).abs(), (f - y).sign()
    return functional.softplus(-y * f), -y * torch.sigmoid(-y * f)


def intercepts(W: Tensor, c_b: float) -> Tensor:
    """b_h = c_b norm(W_h), (R, H), outside the gradient."""
    return c_b * torch.linalg.vector_norm(W.detach(), dim=1)


def purity(W: Tensor, M: Tensor) -> dict[str, Tensor]:
    """Norm-weighted measures of each run (R,): see ``heirloom.analysis.purification``."""
    return node_purity(in_features(W.detach().mT, M)).weighted()
