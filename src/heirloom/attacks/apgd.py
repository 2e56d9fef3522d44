"""Auto-PGD: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020 (Linf, L2), and "Mind the box: L1-APGD for sparse adversarial attacks on
image classifiers", ICML 2021 (L1).

Steps of AutoAttack's size and order: from a point on the ball's surface, momentum 0.75, a first step of 2 eps
that halves where progress stalls (section 3). For L1: sparse steps whose support follows that of the best
point, no momentum, and a first 60 % of the steps in balls of radius 3 eps and 2 eps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient, predict
from heirloom.attacks.engine.region import Region, noise_like
from heirloom.attacks.engine.rows import rows_at_once
from heirloom.attacks.losses import Loss, check_labels, cross_entropy, misclassified, targeted_dlr
from heirloom.runtime.errors import require
from heirloom.threat import Threat, norms

Success = Callable[[Tensor, Tensor], Tensor]
MOMENTUM = 0.75


def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    loss: Loss = cross_entropy,
    steps: int = 100,
    restarts: int = 1,
    rho: float = 0.75,
    eot: int = 1,
    until: Success | None = None,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Ascent on ``loss`` without a step size to choose.

    Args:
        model: any module in the mode it is to be attacked in; never changed.
        x: clean images (N, C, H, W) in [0, 1]; y: labels (N,), or whatever ``loss`` compares outputs with.
        loss: ``cross_entropy``, ``dlr`` and ``margin`` give APGD-CE, APGD-DLR and APGD on the margin.
        rho: the step halves unless more than this share of the steps since the last checkpoint raised the
            loss (Linf and L2).
        eot: passes to average gradient, loss and output over, for a model that draws at random.
        until: ``until(output, y) -> bool (N,)``; an example for which it holds is finished with that iterate
            and costs no further pass. Evaluation passes ``misclassified``.
        start: where the first run starts (N, C, H, W), instead of at a random point.
        generator: draws the starts.

    Returns:
        for each example the iterate of highest loss (or the first for which ``until`` held): float32, inside
        the threat set. At most restarts * (steps + 1) * eot forward and restarts * steps * eot backward
        passes (two more of each for L1).
    """
    require(steps >= 1, "steps", "at least 1", steps)
    require(restarts >= 1, "restarts", "at least 1", restarts)
    require(eot >= 1, "eot", "at least 1", eot)
    region = Region.around(x, threat)
    best, best_loss = region.x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    active = torch.arange(len(x), device=x.device)
    ascent = _Ascent(model, loss, until, rho, eot)
    for restart in range(restarts):
        if not len(active):
            break
        first = start if start is not None and restart == 0 else _random_start(region, generator)
        run = _shrinking_ball if threat.norm == "L1" else _ascend
        found, value, done = run(ascent, region[active], y[active], first[active], steps)
        better = (value > best_loss[active]) | done
        best[active[better]], best_loss[active[better]] = found[better], value[better]
        active = active[~done]
    return threat.project(best, x)


def apgd_targeted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    loss: Loss = targeted_dlr,
    targets: int = 9,
    steps: int = 100,
    rho: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """APGD towards each of the ``targets`` classes that score highest on ``x``.

    Args:
        model: a classifier; x: clean images (N, C, H, W) in [0, 1]; y: labels (N,).
        loss: of (logits, pair), where pair (N, 2) holds label and target; targeted DLR by default.
        targets: how many; all other classes where there are fewer (9 of 10 is AutoAttack's).

    Returns:
        the first misclassified iterate, else that of highest loss over all targets. Few examples are attacked
        towards several targets at once, in batches of at most 64; many towards one target after the other.
        An example is finished, for all targets, at its first misclassified iterate.
    """
    best, best_loss = x.detach().float().clone(), torch.full((len(x),), -torch.inf, device=x.device)
    classes, correct = ranked_targets(model, x, y, targets)
    active, first = correct.nonzero().flatten(), 0
    while first < classes.shape[1] and len(active):
        width = rows_at_once(len(active), classes.shape[1] - first)
        row = active.repeat_interleave(width)
        pair = torch.stack([y[row], classes[active, first : first + width].flatten()], 1)
        found = apgd(
            model, x[row], torch.cat([pair, row[:, None]], 1), threat, steps=steps, rho=rho,
            loss=lambda output, task: loss(output, task[:, :2]), until=_any_target(y), generator=generator,
        )  # fmt: skip
        with torch.no_grad():
            output = predict(model, found)
        fallen = misclassified(output, y[row])
        value = torch.where(fallen, torch.inf, loss(output, pair)).view(-1, width)
        highest, which = value.max(1)
        chosen = torch.arange(len(active), device=x.device) * width + which
        better = highest > best_loss[active]
        best[active[better]], best_loss[active[better]] = found[chosen[better]], highest[better]
        active, first = active[~fallen.view(-1, width).any(1)], first + width
    return best


def _any_target(y: Tensor) -> Success:
    """For (label, target, example) rows (N, 3): the example is misclassified, in this row or one before."""
    fallen = torch.zeros_like(y, dtype=torch.bool)

    def until(output: Tensor, task: Tensor) -> Tensor:
        fallen[task[misclassified(output, task[:, 0]), 2]] = True
        return fallen[task[:, 2]]

    return until


def ranked_targets(model: nn.Module, x: Tensor, y: Tensor, targets: int) -> tuple[Tensor, Tensor]:
    """The ``targets`` wrong classes of highest logit on ``x`` (N, at most targets), and which examples
    are classified correctly (N,), bool. One forward pass."""
    require(targets >= 1, "targets", "at least 1", targets)
    with torch.no_grad():
        logits = predict(model, x.detach().float())
    check_labels(y, logits.shape[1])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.topk(min(targets, logits.shape[1] - 1), dim=1).indices, ~misclassified(logits, y)


@dataclass(frozen=True)
class _Ascent:
    """What stays the same over a run."""

    model: nn.Module
    loss: Loss
    until: Success | None
    rho: float
    eot: int


@dataclass
class _State:
    """The examples still running; every field has them as its first dimension."""

    index: Tensor  # their places in the batch
    y: Tensor
    point: Tensor
    before: Tensor  # the point before that: momentum
    gradient: Tensor
    value: Tensor  # the loss at ``point``
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    step: Tensor  # (N, 1, ..., 1)
    rises: Tensor  # steps since the last checkpoint that raised the loss
    checked_value: Tensor  # the best loss at the last checkpoint
    reduced: Tensor  # whether the step was halved there
    share: Tensor  # L1: the share of pixels that a step changes
    support: Tensor  # L1: how many pixels the best point changed at the last checkpoint

    def __getitem__(self, kept: Tensor) -> _State:
        return _State(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})


def _ascend(
    ascent: _Ascent, region: Region, y: Tensor, start: Tensor, steps: int, eps: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One run from ``start`` within radius ``eps``: the best points, their loss, and which are finished."""
    found, found_value = start.clone(), torch.full((len(y),), -torch.inf, device=y.device)
    done = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    eps = region.threat.eps if eps is None else eps
    state, last_check, interval = _begin(region, y, start, eps), 0, _first_interval(region, steps)
    for step in range(steps + 1):
        if step > 0:
            _advance(state, region, eps, step)
        output = _evaluate(ascent, state, backward=step < steps)
        if ascent.until is not None and bool((hit := ascent.until(output, state.y)).any()):
            place = state.index[hit]
            found[place], found_value[place], done[place] = state.point[hit], state.value[hit], True
            state, region = state[~hit], region[~hit]
            if not len(state.index):
                return found, found_value, done
        _keep_best(state)
        if step == 0:
            state.checked_value, state.rises = state.best_value.clone(), torch.zeros_like(state.rises)
        elif step - last_check == interval and step < steps:
            _checkpoint(state, region, eps, interval, ascent.rho)
            last_check, interval = step, _next_interval(region, steps, interval)
    found[state.index], found_value[state.index] = state.best, state.best_value
    return found, found_value, done


def _begin(region: Region, y: Tensor, start: Tensor, eps: float) -> _State:
    n, device, flat = len(y), y.device, start[0].numel()
    lowest, zeros = torch.full((n,), -torch.inf, device=device), torch.zeros(n, device=device)
    first = eps if region.threat.norm == "L1" else 2 * eps
    moved = (start != region.x).flatten(1).sum(1).float()
    return _State(
        index=torch.arange(n, device=device), y=y, point=start, before=start,
        gradient=torch.zeros_like(start), value=lowest, best=start.clone(),
        best_gradient=torch.zeros_like(start), best_value=lowest.clone(),
        step=torch.full((n, *[1] * (start.ndim - 1)), first, device=device),
        rises=zeros, checked_value=lowest, reduced=torch.ones(n, dtype=torch.bool, device=device),
        share=moved / flat / 1.5, support=moved,
    )  # fmt: skip


def _evaluate(ascent: _Ascent, state: _State, *, backward: bool) -> Tensor:
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


def _keep_best(state: _State) -> None:
    better = state.value > state.best_value
    state.best[better], state.best_gradient[better] = state.point[better], state.gradient[better]
    state.best_value = torch.where(better, state.value, state.best_value)


def _advance(state: _State, region: Region, eps: float, step: int) -> None:
    if region.threat.norm == "L1":
        state.point = region.nearest(state.point + state.step * _sparse(state.gradient, state.share), eps)
        return
    direction = region.threat.ascent_direction(state.gradient)
    moved = region.nearest(state.point + state.step * direction)
    if step > 1:
        momentum = MOMENTUM * (moved - state.point) + (1 - MOMENTUM) * (state.point - state.before)
        moved = region.nearest(state.point + momentum)
    state.before, state.point = state.point, moved


def _sparse(gradient: Tensor, share: Tensor) -> Tensor:
    """A step of L1 norm 1 on the ``share`` of entries where the gradient is largest."""
    flat = gradient.abs().flatten(1)
    count = flat.shape[1]
    place = ((1 - share) * count).long().clamp(0, count - 1)
    threshold = flat.sort(1).values.gather(1, place[:, None])
    chosen = torch.where(flat >= threshold, gradient.flatten(1).sign(), 0.0)
    return (chosen / chosen.abs().sum(1, keepdim=True).clamp_min(1e-10)).view_as(gradient)


def _checkpoint(state: _State, region: Region, eps: float, interval: int, rho: float) -> None:
    """Where progress stalls, take a smaller step and go on from the best point."""
    if region.threat.norm == "L1":
        support = (state.best != region.x).flatten(1).sum(1).float()
        back = support / state.support < 0.95
        slower = state.step / 1.5
        state.step = torch.where(_like(back, slower), eps, slower).clamp(eps / 10, eps)
        state.share, state.support = support / state.best[0].numel() / 1.5, support
    else:
        stalled = ~state.reduced & (state.checked_value >= state.best_value)
        back = (state.rises <= interval * rho) | stalled
        state.step = torch.where(_like(back, state.step), state.step / 2, state.step)
        state.checked_value, state.reduced = state.best_value.clone(), back
    state.point = torch.where(_like(back, state.point), state.best, state.point)
    state.gradient = torch.where(_like(back, state.point), state.best_gradient, state.gradient)
    state.rises = torch.zeros_like(state.rises)


def _like(flag: Tensor, images: Tensor) -> Tensor:
    return flag.view(-1, *[1] * (images.ndim - 1))


def _first_interval(region: Region, steps: int) -> int:
    return max(int((0.04 if region.threat.norm == "L1" else 0.22) * steps), 1)


def _next_interval(region: Region, steps: int, interval: int) -> int:
    if region.threat.norm == "L1":
        return interval
    return max(interval - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))


def _shrinking_ball(
    ascent: _Ascent, region: Region, y: Tensor, start: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """L1: 30 % of the steps at 3 eps, 30 % at 2 eps, the rest at eps, where alone success counts."""
    early = -(-3 * steps // 10) if steps >= 10 else 0
    point = start
    for radius in (3, 2) if early else ():
        wide = radius * region.threat.eps
        blind = _Ascent(ascent.model, ascent.loss, None, ascent.rho, ascent.eot)
        point, _, _ = _ascend(blind, region, y, region.nearest(point, wide), early, wide)
    return _ascend(ascent, region, y, region.nearest(point), steps - 2 * early)


def _random_start(region: Region, generator: torch.Generator | None) -> Tensor:
    """A random point on the surface of the ball, moved into [0, 1] (L1: into the ball of radius 3 eps)."""
    x, norm = region.x, region.threat.norm
    noise = noise_like(x, norm, generator)
    if norm == "L1":
        return region.nearest(x + noise, 3 * region.threat.eps)
    delta = region.threat.eps * noise / norms(noise, norm).clamp_min(1e-12)
    return region.nearest(x + delta)
