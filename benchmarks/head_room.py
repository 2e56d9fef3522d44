"""What a robust head could still take out of a frozen encoder, to first order and without an attack.

Near an image x a frozen encoder is f(x) + J d, its Jacobian J (features, inputs). Within |d|_p <= eps a linear head W
then loses at most

    max_d (w_j - w_y)^T J d = eps |J^T (w_j - w_y)|_q,     1/p + 1/q = 1,

to class j, so that its first-order robust accuracy is a closed form and the head that is best by it the solution of a
convex problem. The two heads' difference, *head room*, is what an adversarial head would gain if the encoder were as
straight as that. Fitted on some images and judged on others. Ours, and tried in ``attacker_view.py``: it explains less
than the clean head's first-order drop alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.runtime.errors import require
from heirloom.threat import Threat

STEPS = 150


@dataclass(frozen=True)
class HeadRoom:
    """Shares in [0, 1] of the judged images that stand to first order: with the ``clean`` head as it is, and with the
    ``best`` head by that measure."""

    clean: float
    best: float

    @property
    def gap(self) -> float:
        return self.best - self.clean


@dataclass(frozen=True)
class Linearised:
    """An encoder about n images: ``features`` (n, k), ``jacobians`` (n, k, inputs) and the images' ``labels`` (n,)."""

    features: Tensor
    jacobians: Tensor
    labels: Tensor


def head_room(
    encoder: nn.Module,
    head: nn.Linear,
    fit: tuple[Tensor, Tensor],
    judged: tuple[Tensor, Tensor],
    threat: Threat,
) -> HeadRoom:
    """Head room of ``head`` behind ``encoder``, both in eval mode.

    Args:
        encoder: pixels in [0, 1] (n, ...) to features (n, k), deterministic. head: k to classes.
        fit: images and labels that the other head is made on; n * k * inputs floats are held. judged: others.
    """
    require(
        head.in_features == encoder(fit[0][:1]).shape[1], "head", "of the encoder's width", head.in_features
    )
    best = first_order_head(linearised(encoder, fit), head, threat)
    about = linearised(encoder, judged)
    shares = [float(first_order_standing(about, each, threat).double().mean()) for each in (head, best)]
    return HeadRoom(*shares)


def linearised(encoder: nn.Module, images: tuple[Tensor, Tensor]) -> Linearised:
    """Features and Jacobians: k backward passes over all images at once."""
    x = images[0].detach().requires_grad_()
    with torch.enable_grad():
        features = encoder(x)
        rows = [torch.autograd.grad(f.sum(), x, retain_graph=True)[0].flatten(1) for f in features.unbind(1)]
    return Linearised(features.detach(), torch.stack(rows, 1), images[1])


def first_order_standing(about: Linearised, head: nn.Linear, threat: Threat) -> Tensor:
    """Which images (n,) no change within ``threat`` moves over a boundary, were the encoder straight; a tie falls."""
    with torch.no_grad():
        worst = _worst(about, head, threat)
    own = functional.one_hot(about.labels, worst.shape[1]).bool()
    return worst.masked_fill(own, -torch.inf).amax(1) < 0


def first_order_head(about: Linearised, head: nn.Linear, threat: Threat) -> nn.Linear:
    """The head of least cross-entropy in the straight worst case, from ``head`` on (Adam, all images at once)."""
    middle = about.features.mean(0)  # taken off while the head moves, so that weights and bias do not fight
    about = replace(about, features=about.features - middle)
    with torch.enable_grad():
        best = nn.Linear(head.in_features, head.out_features)
        best.load_state_dict({"weight": head.weight.detach(), "bias": head(middle).detach()})
        length = float(best.weight.detach().abs().mean()) or 1.0
        optimiser = torch.optim.Adam(best.parameters(), lr=0.2 * length)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            optimiser.zero_grad()
            functional.cross_entropy(_worst(about, best, threat), about.labels).backward()
            optimiser.step()
            schedule.step()
    best.bias.data -= best.weight.data @ middle
    return best


def _worst(about: Linearised, head: nn.Linear, threat: Threat) -> Tensor:
    """Each class's logit less the label's (n, classes), the change chosen for that class alone; 0 at the label."""
    dual = {"Linf": 1.0, "L2": 2.0, "L1": torch.inf}[threat.norm]
    logits = head(about.features)
    towards = head.weight[None] - head.weight[about.labels][:, None]
    moved = torch.linalg.vector_norm(towards @ about.jacobians, dual, dim=2)
    return logits - logits.gather(1, about.labels[:, None]) + threat.eps * moved
