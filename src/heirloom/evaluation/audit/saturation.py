"""Is something at its limits? Activations, the softmax of the loss, float32 around the logits, their margin."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from heirloom.attacks.losses import cross_entropy
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.losing import LIMITED, Slope, dual, share_of
from heirloom.evaluation.audit.subject import Subject, beats
from heirloom.evaluation.audit.watch import ROUNDING

MARGINS = 16  # so many tell whether all are one number
UNDERFLOW = 1e-30  # a probability, times weights and slopes below 1e-8, is zero in float32
CLIPPING = ("clamp", "hardtanh")
SMOOTH = 0.7  # share of images
OWN = 0.95  # cosine of the gradient with the true one


def saturation(subject: Subject, seen: Slope) -> Finding:
    """What leaves a loss of the logits no slope, and which loss would have one."""
    lost = (dual(subject, subject.gradient(subject.x, cross_entropy)) == 0) & ~seen.zero
    gap = -subject.values(subject.x)
    probable = "probabilities" in subject.hidden
    felt = beats(int(seen.flat.sum()), len(seen.flat))
    ends = seen.lost_in if felt and not probable else None
    activation = subject.trace.saturating if felt else None
    if activation in ("softmax", "_softmax") and probable:
        activation = None  # the output itself
    if activation in CLIPPING and subject.trace.seen(ROUNDING):
        activation = None  # what is rounded is mostly clipped, too, and rounding stops every gradient
    evidence = {
        "share": share_of(lost),
        "median_margin": float(gap.median().nan_to_num()),
        "activation": activation,
    }
    if activation is not None:
        share = 100 * subject.trace.saturated[activation]
        cause = (
            f"An activation is saturated: {share:.0f} % of the outputs of `{activation}` lie exactly at its limits, "
            f"and no gradient passes for {100 * share_of(seen.flat):.0f} % of the images."
        )
    elif ends in LIMITED and not subject.trace.seen(ROUNDING):
        cause = (
            f"An activation is saturated: the gradient ends in `{ends.lower()}`, whose outputs lie at their limits, "
            f"for {100 * share_of(seen.flat):.0f} % of the images."
        )
    elif subject.offset:
        cause = (
            f"The logits lie so far from zero (about {float(subject.logits.abs().amax(1).median()):.1g}, with a spread "
            f"of {float(subject.spread.median()):.2g}) that float32 rounds their differences: neither a margin nor "
            "a softmax sees small changes."
        )
    elif beats(int((lost & ~_certain(subject)).sum()), len(lost)) and not probable:
        low = ", ".join(sorted(subject.trace.halves)) or "float16, say"
        cause = (
            f"The gradient of cross-entropy underflows: it is exactly zero for {100 * share_of(lost):.0f} % of the "
            "images, though the softmax is far from 0 and 1 there; a part of the backward pass has too few bits "
            f"({low})."
        )
    elif beats(int(lost.sum()), len(lost)) and not probable:
        cause = (
            f"The logits are so large (median margin {float(gap.median()):.3g}) that the softmax is "
            f"exactly 0 or 1 in float32: cross-entropy has no gradient for {100 * share_of(lost):.0f} % of "
            "the images."
        )
    elif _flattened(subject):
        cause = (
            f"The logits are so small (median margin {float(gap.median()):.3g}; a high temperature, or an underflow "
            "beside the images) that cross-entropy does not change in float32: attacks cannot tell a better image "
            "from a worse one."
        )
    elif _level(subject):
        return _of_one_margin(float(gap.median()), evidence)
    else:
        return Finding("saturation", "pass", evidence=evidence)
    return Finding(
        "saturation",
        "fail",
        cause,
        "Divide by a constant (what is saturated, or the logits), take an offset away, compute in float32, or use a "
        "loss that does not depend on the logits' scale (margin, DLR); figures from attacks on cross-entropy alone "
        "are void.",
        evidence,
    )


def steep(subject: Subject, finding: Finding, evidence: dict[str, Any]) -> Finding:
    """``finding``, once the slopes' ``evidence`` is known: a loss that is smooth close by, with its own gradient, and
    does not keep its promise over a step, is at an activation's limits where that is at its limits for most outputs.
    """
    activation = subject.trace.saturating
    smooth = evidence["smooth"] > SMOOTH and evidence["cosine"] > OWN
    if activation is None or activation in CLIPPING or not smooth:
        return finding
    share = 100 * subject.trace.saturated[activation]
    return Finding(
        "saturation",
        "fail",
        f"An activation is saturated: {share:.0f} % of the outputs of `{activation}` lie at its limits, and the loss "
        "moves in ramps between them, so that the gradient is right for far shorter steps than an attack takes.",
        "Divide what goes into the activation by a constant (or leave the activation out) and attack that; figures "
        "from attacks on the steep one are void.",
        finding.evidence | {"activation": activation},
    )


def _of_one_margin(margin: float, evidence: dict[str, Any]) -> Finding:
    return Finding(
        "saturation",
        "fail",
        f"The margin of every image, and of points around it, is the same number ({margin:.3g}): the logits are "
        "divided by their own margin, so no loss of them tells how near a mistake is, and they jump at the decision.",
        "Attack the logits as they are before the division (or transfer from a model without it): margin and DLR are "
        "as blind here as cross-entropy.",
        evidence,
    )


def _certain(subject: Subject) -> Tensor:
    """Where the softmax leaves the second class so little that its gradient, too, may be zero in float32."""
    return subject.logits.float().softmax(1).topk(2, dim=1).values[:, 1] < UNDERFLOW


def _flattened(subject: Subject) -> bool:
    """Whether cross-entropy is the same number at an image and beside it, or at two points beside it."""
    other = subject.threat.random_start(subject.x, subject.generator("another start"))
    at = [subject.logits, subject.predict(subject.start), subject.predict(other)]
    return any(_no_rise(subject, one, other) for one, other in pairwise(at))


def _level(subject: Subject) -> bool:
    """Whether all images that are classified rightly have one margin, and points around them, too."""
    margins = -torch.cat([subject.values(subject.x), subject.values(subject.start)]).double()
    margins = margins[margins > 0]
    voted = {"discrete-output", "probabilities"} & set(subject.hidden)
    if voted or len(margins) < MARGINS:
        return False
    return float((margins - margins.median()).abs().quantile(0.9) / margins.median()) < 1e-3


def _no_rise(subject: Subject, one: Tensor, other: Tensor) -> bool:
    same = cross_entropy(one, subject.y) == cross_entropy(other, subject.y)
    same &= (one.argmax(1) == subject.y) & (one.std(1) > 0) & (one.std(1) < 1e-4)
    return beats(int((same & (one != other).any(1)).sum()), len(same))
