"""Does the model answer the same, whatever lies beside an image?

Attacks and the harness ask in different batches, so what was attacked in one is judged in another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import margin
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.state import adapting
from heirloom.evaluation.audit.subject import JUMPING, SLIGHT, SLIGHTLY, Subject
from heirloom.evaluation.copies import apart, change, largest, logits, seeded_gradient

GRADIENT = "its place (gradient)"


def batch(subject: Subject) -> Finding:
    """Size of the batch, place in it, and its other images: none may change an image's logits or gradient."""
    if subject.random:
        return Finding("batch", "skipped", cause="Hidden by randomness.")
    moved = _over_batches(subject)
    if max(moved.values()) <= subject.shape_threshold:
        moved |= _gradient_over_batches(subject)
    evidence: dict[str, Any] = dict(moved)
    worst = [name for name, value in moved.items() if value > subject.shape_threshold]
    if not worst:
        return Finding("batch", "pass", evidence=evidence)
    evidence["slight"] = GRADIENT not in worst and max(moved.values()) <= SLIGHT
    subject.hidden.append(f"batch{SLIGHTLY * evidence['slight']}")
    seeds = evidence["seeded"] = bool(subject.trace.random) and "its place" in worst
    words = "The model draws noise from a seed that it sets itself: " if seeds else ""
    what = "gradient" if worst == [GRADIENT] else "logits"
    on = " and ".join(name for name in worst).removesuffix(" (gradient)")
    return Finding(
        "batch",
        "fail",
        cause=f"{words}An image's {what} depend{'s' * (what == 'gradient')} on {on} in the batch, so what was "
        f"attacked in one batch is judged in another (batch statistics, position, batch size).{adapting(subject)}",
        remedy="Make each image's answer its own: statistics fixed at training, noise as a fixed input of the model, "
        "no branch on the batch; meanwhile attack and judge one image at a time.",
        evidence=evidence,
    )


def _over_batches(subject: Subject) -> dict[str, float]:
    x, n = subject.x, len(subject.x)
    spread, full = subject.spread, logits(subject.fresh(), x)
    few = min(8, n)
    shifted = logits(subject.fresh(), x.roll(1, 0)).roll(-1, 0)
    turned = logits(subject.fresh(), x.flip(0)).flip(0)
    others = x.clone()
    others[1::2] = 1 - x[1::2]
    beside = logits(subject.fresh(), others)
    found = {
        "its place": largest(torch.maximum(change(full, shifted, spread), change(full, turned, spread))),
        "the other images": largest(change(full, beside, spread)[::2]),
    }
    times = min(-(-subject.batch // n), 4)
    sizes = [_sizes(subject, size)[:few] for size in (1, 2) if n > size]
    sizes += [logits(subject.fresh(), x.repeat(times, 1, 1, 1))[:few]] if times > 1 else []
    found["the number of images"] = max(
        (largest(change(full[:few], s, spread[:few])) for s in sizes), default=0.0
    )
    if float((subject.jumps() > 1e-2).double().mean()) > JUMPING:
        found["the number of images"] = 0.0  # sums in another order jump as images a millionth apart do
    return found


def _gradient_over_batches(subject: Subject) -> dict[str, float]:
    """The share of images whose gradient points elsewhere from another place in the batch."""
    drawn = [input_gradient(subject.fresh(), subject.x[:4], subject.y[:4], margin)[0] for _ in range(2)]
    if not torch.equal(*drawn):  # a backward pass that draws: another check's finding
        return {GRADIENT: 0.0}
    one = seeded_gradient(subject.fresh(), subject.x, subject.y, margin)
    other = seeded_gradient(subject.fresh(), subject.x.roll(1, 0), subject.y.roll(1, 0), margin).roll(-1, 0)
    share = float((apart(one, other) > 0.1).double().mean())
    return {GRADIENT: share if share > 0.1 else 0.0}


def _sizes(subject: Subject, size: int) -> Tensor:
    """Logits of the first 8 images, ``size`` at a time; those of all at once where the model refuses that."""
    try:
        return torch.cat([logits(subject.fresh(), part) for part in subject.x[:8].split(size)])
    except (RuntimeError, ValueError):  # BatchNorm in train mode cannot take one image
        return logits(subject.fresh(), subject.x)[:8]
