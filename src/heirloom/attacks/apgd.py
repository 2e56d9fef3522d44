"""Auto-PGD: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020 (Linf, L2), and "Mind the box: L1-APGD for sparse adversarial attacks on
image classifiers", ICML 2021 (L1).

Steps of AutoAttack's size and order: from a point on the ball's surface, momentum 0.75, a first step of 2 eps
that halves where progress stalls (section 3). For L1: sparse steps whose support follows that of the best
point, no momentum, and a first 60 % of the steps in balls of radius 3 eps and 2 eps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.ascent import STEPS, Ascent, ascend_in_stages
from heirloom.attacks.engine.best import Best
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.region import Region
from heirloom.attacks.engine.rows import rows_at_once
from heirloom.attacks.engine.targets import Success, any_target, ranked_targets
from heirloom.attacks.losses import Loss, cross_entropy, misclassified, targeted_dlr
from heirloom.runtime.errors import require
from heirloom.threat import Threat


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
    region, best = Region.around(x, threat), Best.of(x.detach().float())
    ascent = Ascent(model, loss, until, rho, eot)
    for restart in range(restarts):
        active = best.active
        if not len(active):
            break
        given = start if restart == 0 else None
        first = STEPS[threat.norm].random_start(region, generator) if given is None else given
        found = ascend_in_stages(ascent, region[active], y[active], first[active], steps)
        best.keep(active, found.point, found.value, found.done)
        best.finish(found.done)
    return threat.project(best.point, x)


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
    best = Best.of(x.detach().float())
    classes, correct = ranked_targets(model, x, y, targets)
    best.finish(~correct)
    first = 0
    while first < classes.shape[1] and len(active := best.active):
        width = rows_at_once(len(active), classes.shape[1] - first)
        row = active.repeat_interleave(width)
        pair = torch.stack([y[row], classes[active, first : first + width].flatten()], 1)
        found = apgd(
            model,
            x[row],
            torch.cat([pair, row[:, None]], 1),
            threat,
            steps=steps,
            rho=rho,
            loss=lambda output, task: loss(output, task[:, :2]),
            until=any_target(y),
            generator=generator,
        )
        with torch.no_grad():
            output = predict(model, found)
        fallen = misclassified(output, y[row])
        value = torch.where(fallen, torch.inf, loss(output, pair)).view(-1, width)
        highest, which = value.max(1)
        chosen = torch.arange(len(active), device=x.device) * width + which
        best.keep(active, found[chosen], highest, torch.zeros_like(highest, dtype=torch.bool))
        best.finish(fallen.view(-1, width).any(1))
        first += width
    return best.point
