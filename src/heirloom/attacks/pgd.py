"""Projected gradient descent: Madry, Makelov, Schmidt, Tsipras and Vladu, ICLR 2018."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.best import Best
from heirloom.attacks.engine.compaction import is_due, is_each_step
from heirloom.attacks.engine.gradient import input_gradient, predict
from heirloom.attacks.engine.journal import repeat
from heirloom.attacks.engine.region import Region
from heirloom.attacks.engine.targets import Success
from heirloom.attacks.losses import Loss, cross_entropy
from heirloom.runtime.errors import require
from heirloom.threat import Threat

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
    region, best = Region.around(x, threat), Best.of(x.detach().float())
    redraw = partial(threat.random_start, generator=generator) if redraw_flat else None
    run = _Run(model, loss, until, steps, step_size, redraw)
    for restart in range(restarts):
        if not len(best.active):
            break
        if restart == 0 and start is not None:
            first = threat.project(start, x)
        else:
            first = threat.random_start(region.x, generator) if random_start else region.x
        _ascend(run, region, y, first[best.active], best)
    return threat.project(best.point, x)


@dataclass(frozen=True)
class _Run:
    """What stays the same over a run."""

    model: nn.Module
    loss: Loss
    until: Success | None
    steps: int
    step_size: float
    redraw: Redraw | None


def _ascend(run: _Run, region: Region, y: Tensor, x_adv: Tensor, best: Best) -> None:
    """One run from ``x_adv`` for the active examples of ``best``: fills it and takes out those that finish."""
    near = region[best.active]

    def step(climb: _Climb) -> bool:
        nonlocal near
        if len(near.x) != len(best.active):  # examples only ever leave
            near = region[best.active]
        label, last = y[best.active], climb.step == run.steps
        gradient, values, output = _look(run, climb.x_adv, label, last=last)
        if run.until is None:
            best.keep_all(climb.x_adv, values)
        else:
            done = run.until(output, label)
            if is_each_step():
                best.keep(best.active, climb.x_adv, values, done)
            else:
                better = ((values > best.value[best.active]) | done) & ~climb.done
                best.take(best.active, climb.x_adv, values, better)
            climb.done = done = climb.done | done
            if is_due(climb.step, last=last) and bool(done.any()):
                best.finish(done)
                near, climb.x_adv, gradient = near[~done], climb.x_adv[~done], gradient[~done]
                climb.done = done[~done]
        if last or not len(best.active):
            climb.x_adv = climb.x_adv[:0]
            return False
        climb.x_adv, climb.step = _moved(run, near, climb.x_adv, gradient), climb.step + 1
        return True

    repeat(_Climb(best, x_adv, torch.zeros(len(x_adv), dtype=torch.bool, device=x_adv.device)), step)


@dataclass
class _Climb:
    """A run under way: what is found, the points of the active examples, which of them are done and wait to be taken
    out, and the next step."""

    best: Best
    x_adv: Tensor
    done: Tensor
    step: int = 0


def _look(run: _Run, x_adv: Tensor, y: Tensor, *, last: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient, losses and output; after the last step the gradient is not needed, and zero."""
    if not last:
        return input_gradient(run.model, x_adv, y, run.loss)
    with torch.no_grad():
        output = predict(run.model, x_adv)
        return torch.zeros_like(x_adv), run.loss(output, y), output


def _moved(run: _Run, region: Region, x_adv: Tensor, gradient: Tensor) -> Tensor:
    moved = x_adv + run.step_size * region.threat.ascent_direction(gradient)
    if run.redraw is not None and bool((flat := gradient == 0).any()):
        moved = torch.where(flat, run.redraw(region.x), moved)
    return region.nearest(moved)
