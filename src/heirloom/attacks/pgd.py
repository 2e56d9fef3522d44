"""Projected gradient descent: Madry, Makelov, Schmidt, Tsipras and Vladu, ICLR 2018."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient, predict
from heirloom.attacks.engine.region import Region
from heirloom.attacks.losses import Loss, cross_entropy
from heirloom.runtime.errors import require
from heirloom.threat import Threat

Success = Callable[[Tensor, Tensor], Tensor]
Redraw = Callable[[Tensor], Tensor]


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    loss: Loss = cross_entropy,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    start: Tensor | None = None,
    redraw_flat: bool = False,
    until: Success | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Steepest ascent on ``loss`` with projection after every step.

    Args:
        model: any module in the mode it is to be attacked in; never changed.
        x: clean images (N, C, H, W) in [0, 1]; y: labels (N,), or whatever ``loss`` compares outputs with.
        step_size: in pixel units of the norm; default 2 eps / steps (eps/5 for 10 steps, eps/10 for 20).
        restarts: independent random starts; the best of all iterates is kept.
        random_start: start uniformly in the ball, else at ``x``.
        start: where the first run starts instead (as ``x``; projected first). Later restarts are random.
        redraw_flat: at each step draw anew, from the random start, every coordinate whose gradient is
            exactly 0. Where activations are flat (ReLU below zero, saturation) the gradient says nothing and
            a sign step stays for ever; a walk of small steps does not get away, fresh draws do.
        until: ``until(output, y) -> bool (N,)``; an example for which it holds is finished with that iterate
            and costs no further pass. Evaluation passes ``misclassified``.
        generator: draws the random starts and the flat coordinates.

    Returns:
        for each example the iterate of highest loss, starts and the last one included (or the first for
        which ``until`` held): float32, inside the threat set. At most restarts * (steps + 1) forward and
        restarts * steps backward passes.
    """
    require(steps >= 1, "steps", "at least 1", steps)
    require(restarts >= 1, "restarts", "at least 1", restarts)
    step_size = 2 * threat.eps / steps if step_size is None else step_size
    region = Region.around(x, threat)
    best, best_loss = region.x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    active = torch.arange(len(x), device=x.device)
    redraw = partial(threat.random_start, generator=generator) if redraw_flat else None
    for restart in range(restarts):
        if not len(active):
            break
        if restart == 0 and start is not None:
            first = threat.project(start, x)[active]
        else:
            first = threat.random_start(region.x, generator)[active] if random_start else region.x[active]
        active = _ascend(
            model, region, y, first, active, loss, steps, step_size, redraw, until, best, best_loss
        )
    return threat.project(best, x)


def _ascend(
    model: nn.Module, whole: Region, y: Tensor, x_adv: Tensor, active: Tensor, loss: Loss, steps: int,
    step_size: float, redraw: Redraw | None, until: Success | None, best: Tensor, best_loss: Tensor,
) -> Tensor:  # fmt: skip
    """One run from ``x_adv`` for the examples ``active``; fills ``best``; returns those not yet finished."""
    region, labels = whole[active], y[active]
    for step in range(steps + 1):
        if step < steps:
            gradient, values, output = input_gradient(model, x_adv, labels, loss)
        else:
            with torch.no_grad():
                output = predict(model, x_adv)
                values = loss(output, labels)
        done = torch.zeros_like(values, dtype=torch.bool) if until is None else until(output, labels)
        better = (values > best_loss[active]) | done
        best[active[better]], best_loss[active[better]] = x_adv[better], values[better]
        if bool(done.any()):
            left = ~done
            active, region, labels, x_adv = active[left], region[left], labels[left], x_adv[left]
            if step < steps:
                gradient = gradient[left]
        if step == steps or not len(active):
            break
        x_adv = x_adv + step_size * region.threat.ascent_direction(gradient)
        if redraw is not None and bool((flat := gradient == 0).any()):
            x_adv = torch.where(flat, redraw(region.x), x_adv)
        x_adv = region.nearest(x_adv)
    return active
