"""One run of Auto-PGD: what it keeps of each example, and its loop of steps, looks and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.best import Best
from heirloom.attacks.engine.compaction import is_due, is_each_step
from heirloom.attacks.engine.gradient import input_gradient, predict
from heirloom.attacks.engine.journal import repeat
from heirloom.attacks.engine.region import Region
from heirloom.attacks.engine.step_rules import MomentumSteps, SparseSteps, State, StepRule
from heirloom.attacks.engine.targets import Success
from heirloom.attacks.losses import Loss
from heirloom.runtime.choices import Norm

STEPS: dict[Norm, StepRule] = {"Linf": MomentumSteps(), "L2": MomentumSteps(), "L1": SparseSteps()}


@dataclass(frozen=True)
class Ascent:
    """What stays the same over a run."""

    model: nn.Module
    loss: Loss
    until: Success | None = None
    rho: float = 0.75
    eot: int = 1


@dataclass(frozen=True)
class Found:
    """For each example of a run its point (N, ...), that point's loss (N,), and whether ``until`` held."""

    point: Tensor
    value: Tensor
    done: Tensor


def ascend_in_stages(ascent: Ascent, region: Region, y: Tensor, start: Tensor, steps: int) -> Found:
    """A run from ``start``: first in the wider balls that the norm's rule asks for, where success does not count."""
    rule, eps = STEPS[region.threat.norm], region.threat.eps
    (*wider, (_, last)) = rule.stages(steps)
    for factor, count in wider:
        point = rule.place(region, start, factor * eps)
        start = ascend(replace(ascent, until=None), region, y, point, count, factor * eps).point
    return ascend(ascent, region, y, rule.place(region, start, eps), last)


def ascend(
    ascent: Ascent, region: Region, y: Tensor, start: Tensor, steps: int, eps: float | None = None
) -> Found:
    """One run from ``start`` within radius ``eps``: the best points."""
    rule, eps = STEPS[region.threat.norm], region.threat.eps if eps is None else eps
    done = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    begun = _begin(rule, region, y, start, eps)
    climb = _Climb(Best.of(start), done, begun, interval=rule.first_interval(steps))
    near = region

    def step(climb: _Climb) -> bool:
        nonlocal near
        if len(near.x) != len(climb.state.index):  # rows only ever leave
            near = region[climb.state.index]
        if climb.step > 0:
            rule.advance(climb.state, near, eps, climb.step)
        output = _evaluate(ascent, climb.state, backward=climb.step < steps)
        if ascent.until is not None:
            hit = _hit(climb, ascent.until(output, climb.state.y))
            if is_due(climb.step, last=climb.step == steps) and bool(hit.any()):
                _take_out(climb, hit)
                near = near[~hit]
        if len(climb.state.index):
            _keep_best(climb.state)
            _check(climb, rule, near, eps, steps, ascent.rho)
        climb.step += 1
        if climb.step <= steps and len(climb.state.index):
            return True
        _end(climb)
        return False

    repeat(climb, step)
    return Found(climb.found.point, climb.found.value, climb.done)


@dataclass
class _Climb:
    """A run under way: what is found, who is done, those still running, and the next step."""

    found: Best
    done: Tensor
    state: State
    interval: int  # steps between two checkpoints
    step: int = 0
    last_check: int = 0


def _hit(climb: _Climb, hit: Tensor) -> Tensor:
    """Those that hit, at this step or since the last compaction; the points of this step's are kept."""
    state = climb.state
    if is_each_step():
        return hit
    earlier = climb.done[state.index]
    climb.found.take(state.index, state.point, state.value, hit & ~earlier)
    climb.done[state.index] = hit | earlier
    return climb.done[state.index]


def _take_out(climb: _Climb, hit: Tensor) -> None:
    """Keep the points of those that ``hit``, and go on without them."""
    state = climb.state
    if is_each_step():
        climb.found.keep(state.index[hit], state.point[hit], state.value[hit], hit[hit])
        climb.done[state.index[hit]] = True
    climb.state = state[~hit]


def _check(climb: _Climb, rule: StepRule, region: Region, eps: float, steps: int, rho: float) -> None:
    """At a checkpoint, halve the step where progress stalls."""
    state = climb.state
    if climb.step == 0:
        state.checked_value, state.rises = state.best_value.clone(), torch.zeros_like(state.rises)
    elif climb.step - climb.last_check == climb.interval and climb.step < steps:
        _go_back(state, rule.stalled(state, region, eps, climb.interval * rho))
        climb.last_check, climb.interval = climb.step, rule.next_interval(steps, climb.interval)


def _end(climb: _Climb) -> None:
    state, every = climb.state, torch.ones_like(climb.state.index, dtype=torch.bool)
    climb.found.keep(state.index, state.best, state.best_value, every)
    climb.state = state[~every]


def _begin(rule: StepRule, region: Region, y: Tensor, start: Tensor, eps: float) -> State:
    n, device, flat = len(y), y.device, start[0].numel()
    lowest, zeros = torch.full((n,), -torch.inf, device=device), torch.zeros(n, device=device)
    moved = (start != region.x).flatten(1).sum(1).float()
    return State(
        index=torch.arange(n, device=device),
        y=y,
        point=start,
        before=start,
        gradient=torch.zeros_like(start),
        value=lowest,
        best=start.clone(),
        best_gradient=torch.zeros_like(start),
        best_value=lowest.clone(),
        step=torch.full((n, *[1] * (start.ndim - 1)), rule.first_step * eps, device=device),
        rises=zeros,
        checked_value=lowest,
        reduced=torch.ones(n, dtype=torch.bool, device=device),
        share=moved / flat / 1.5,
        support=moved,
    )


def _evaluate(ascent: Ascent, state: State, *, backward: bool) -> Tensor:
    """Fill in loss and gradient at ``state.point``; returns the output."""
    previous = state.value
    if backward:
        state.gradient, state.value, output = input_gradient(
            ascent.model, state.point, state.y, ascent.loss, draws=ascent.eot
        )
    else:
        with torch.no_grad():
            drawn = [predict(ascent.model, state.point) for _ in range(ascent.eot)]
            state.value = torch.stack([ascent.loss(one, state.y) for one in drawn]).mean(0)
            output = torch.stack(drawn).mean(0)
    state.rises = state.rises + (state.value > previous)
    return output


def _keep_best(state: State) -> None:
    better = state.value > state.best_value
    state.best[better], state.best_gradient[better] = state.point[better], state.gradient[better]
    state.best_value = torch.where(better, state.value, state.best_value)


def _go_back(state: State, stalled: Tensor) -> None:
    """Where progress stalls, go on from the best point."""
    back = stalled.view(-1, *[1] * (state.point.ndim - 1))
    state.point = torch.where(back, state.best, state.point)
    state.gradient = torch.where(back, state.best_gradient, state.gradient)
    state.rises = torch.zeros_like(state.rises)
