"""MultiTargeted: projected gradient ascent on the margin to each other class in turn.

Gowal, Uesato, Qin, Huang, Mann and Kohli, "An Alternative Surrogate Loss for PGD-based Adversarial Testing",
arXiv 1910.09338. The margin to the best other class may follow one that can never win; here each class is a
target of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.best import Best
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.targets import Success
from heirloom.attacks.losses import margin, target_margin
from heirloom.attacks.pgd import pgd
from heirloom.runtime.errors import require
from heirloom.threat import Threat

Start = Callable[[Tensor, Tensor], Tensor]


def multi_targeted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    targets: int | None = None,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    start: Start | None = None,
    redraw_flat: bool = True,
    until: Success | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack towards every other class, likeliest (on the clean image) first.

    Args:
        x: clean images (N, C, H, W) in [0, 1]; y: labels (N,).
        targets: how many classes to try, at most classes - 1; default all.
        steps, step_size, restarts, redraw_flat: of :func:`heirloom.attacks.pgd.pgd`, for each target.
        start: ``start(x, target)`` with targets (N,) gives where the first run begins, for an attacker who
            knows where a class lies; default a random start.
        until: ``until(output, y)``; an example for which it holds is finished, other targets are not tried.

    Returns:
        for each example the image of highest margin over all targets, float32, inside the threat set.
    """
    with torch.no_grad():
        logits = predict(model, x)
    most = logits.shape[1] - 1
    require(targets is None or 1 <= targets <= most, "targets", f"from 1 to classes - 1 = {most}", targets)
    # likeliest other class first; the true one last, where it is never reached
    order = logits.scatter(1, y[:, None], float("-inf")).argsort(1, descending=True)
    best = Best.of(x, margin(logits, y))
    for rank in range(most if targets is None else targets):
        active = best.active
        target = order[active, rank]
        found = pgd(
            model,
            x[active],
            torch.stack([y[active], target], 1),
            threat,
            loss=target_margin,
            steps=steps,
            step_size=step_size,
            restarts=restarts,
            start=None if start is None else start(x[active], target),
            redraw_flat=redraw_flat,
            until=None if until is None else _on_pairs(until),
            generator=generator,
        )
        with torch.no_grad():
            output = predict(model, found)
        values = margin(output, y[active])
        done = torch.zeros_like(active, dtype=torch.bool) if until is None else until(output, y[active])
        best.keep(active, found, values, done)
        best.finish(done)
        if not len(best.active):
            break
    return best.point


def _on_pairs(until: Success) -> Success:
    return lambda output, pairs: until(output, pairs[:, 0])
