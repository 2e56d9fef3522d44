"""Projected gradient descent: Madry, Makelov, Schmidt, Tsipras and Vladu, ICLR 2018."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from heirloom.attacks.gradient import input_gradient
from heirloom.attacks.losses import Loss, cross_entropy
from heirloom.errors import require
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
    best, best_loss = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    active = torch.arange(len(x), device=x.device)
    redraw = partial(threat.random_start, generator=generator) if redraw_flat else None
    for run in range(restarts):
        if not len(active):
            break
        if run == 0 and start is not None:
            first = threat.project(start, x)[active]
        else:
            first = threat.random_start(x, generator)[active] if random_start else x[active]
        active = _ascend(
            model, x, y, first, active, threat, loss, steps, step_size, redraw, until, best, best_loss
        )
    return best


def _ascend(
    model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, active: Tensor, threat: Threat, loss: Loss,
    steps: int, step_size: float, redraw: Redraw | None, until: Success | None,
    best: Tensor, best_loss: Tensor,
) -> Tensor:  # fmt: skip
    """One run from ``x_adv`` for the examples ``active``; fills ``best``; returns those not yet finished."""
    unfinished = active
    for step in range(steps + 1):
        if step < steps:
            gradient, values, output = input_gradient(model, x_adv, y[active], loss)
        else:
            with torch.no_grad():
                output = model(x_adv).float()
                values = loss(output, y[active])
        better = values > best_loss[active]
        if until is not None:
            done = until(output, y[active])
            better |= done
        best[active[better]] = x_adv[better]
        best_loss[active[better]] = values[better]
        if step == steps:
            return active if until is None else active[~done]
        if until is not None and bool(done.any()):
            active, x_adv, gradient = active[~done], x_adv[~done], gradient[~done]
            if not len(active):
                return active
        x_adv = x_adv + step_size * threat.ascent_direction(gradient)
        if redraw is not None and bool((flat := gradient == 0).any()):
            x_adv = torch.where(flat, redraw(x[active]), x_adv)
        x_adv = threat.project(x_adv, x[active])
    return unfinished
