"""Logits and gradients that are no numbers, seen before attacks set them to zero."""

from __future__ import annotations

import re
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.losses import Loss, cross_entropy, margin
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import Subject, beats
from heirloom.evaluation.audit.watch import watched
from heirloom.evaluation.copies import fixed


def not_finite(subject: Subject) -> Finding:
    """Share of images with a NaN or infinite logit or gradient, at the image, beside it and a step away."""
    points = [subject.x, subject.start, _a_step_away(subject)]
    logits = torch.stack([~subject.predict(x).isfinite().all(1) for x in points])
    lost = torch.stack(
        [
            ~raw_gradient(subject, x, loss).isfinite().flatten(1).all(1)
            for x in points
            for loss in (cross_entropy, margin)
        ]
    )
    evidence: dict[str, Any] = {
        "logits": float(logits.any(0).double().mean()),
        "gradients": float(lost.any(0).double().mean()),
        "gradients_at_the_image": float(lost[:2].any(0).double().mean()),
    }
    if not logits.any() and not beats(int(lost.any(0).sum()), len(subject.x)):
        return Finding("not-finite", "pass", evidence=evidence)
    subject.hidden.append("not-finite")
    where = points[int(logits.sum(1).argmax())] if logits.any() else points[int(lost.sum(1).argmax()) // 2]
    return Finding(
        "not-finite",
        "fail",
        cause=_cause(subject, evidence, where),
        remedy="Mend the operation (a square root, norm or logarithm at 0, a division by 0, float16 beyond 65504: add "
        "a small constant, clamp, compute in float32); attacks take such gradients for zero and stay where "
        "they are, so figures until then are void.",
        evidence=evidence,
    )


def _cause(subject: Subject, evidence: dict[str, Any], where: Tensor) -> str:
    bad = ~subject.predict(where).isfinite().all(1) | ~raw_gradient(
        subject, where, margin
    ).isfinite().flatten(1).all(1)
    trace = watched(subject.fresh(), where[bad][:8]) if bool(bad.any()) else subject.trace
    low = sorted(trace.halves)
    if trace.overflow and low:
        found = next(iter(trace.overflow))
        start = f"Values overflow in {low[0]} (infinite or no number after `{found}`): "
    else:
        lost = ~subject.predict(where).isfinite().all(1)  # such a logit has no gradient either
        named = bool((bad & ~lost).any())
        operation = _first_bad_backward(subject.fresh(), where[~lost], subject.y[~lost]) if named else None
        half = f" in {low[0]}" if low else ""
        start = f"Numbers are lost in the backward pass of {operation}{half}: " if operation else ""
    shares = [
        f"{what} are NaN or infinite for {100 * evidence[key]:.0f} % of the images"
        for what, key in (("gradients", "gradients"), ("logits", "logits"))
        if evidence[key]
    ]
    sentence = start + " and ".join(shares) + "; attacks take such gradients for zero."
    return sentence[0].upper() + sentence[1:]


def _a_step_away(subject: Subject) -> Tensor:
    """Where the first step of an attack leads: places that only an attack visits."""
    return (
        subject.x + subject.threat.eps * subject.threat.ascent_direction(subject.gradient(subject.x, margin))
    ).clamp(0, 1)


def raw_gradient(subject: Subject, x: Tensor, loss: Loss) -> Tensor:
    """As :meth:`Subject.gradient`, but with what is no number left in it; zero where no path leads to ``x``."""
    parts = zip(x.split(subject.batch_size), subject.y.split(subject.batch_size), strict=True)
    return torch.cat([_raw(subject.model, part, y, loss) for part, y in parts])


def _raw(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        values = loss(predict(model, x), y)
        if not values.requires_grad:
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def _first_bad_backward(model: nn.Module, x: Tensor, y: Tensor) -> str | None:
    """The operation whose backward pass first gives NaN, as torch's anomaly detection names it."""
    try:
        with warnings.catch_warnings(), torch.autograd.detect_anomaly(check_nan=True), fixed(x.device):
            warnings.simplefilter("ignore")
            _raw(model, x, y, margin)
    except RuntimeError as error:
        found = re.search(r"Function '(\w+?)(Backward\d*)?' returned nan", str(error))
        return found[1] if found else None
    return None
