"""Mechanisms seen in gradients: saturated, rounded away, zero, vanishing, or misleading."""

from __future__ import annotations

import torch
from torch import Tensor

from heirloom.attacks.losses import cross_entropy, margin
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.probe import Probe, beats
from heirloom.threat import norms

TINY = 1e-4  # in pixel units: far below a grey level (0.0039), far above float32's rounding
FLAT_BELOW = 1e-2  # the gradient explains less than this share of what the loss does
STEP = 1 / 10  # in eps: a short step, over which the loss of a sound model is all but linear
WITHIN = 4.0  # observed over promised rise of the loss
MISLED_ABOVE = 0.25  # sound models: 0; k-winners-take-all: above 0.6
DUAL = {"Linf": "L1", "L2": "L2", "L1": "Linf"}

Findings = list[Finding]


def gradients(probe: Probe) -> Findings:
    """Saturation, quantisation, gradients and their agreement with the loss."""
    first = probe.gradient(probe.x, margin)
    second = probe.gradient(probe.start, margin)
    size = torch.maximum(_dual(probe, first), _dual(probe, second))
    zero = ~((_dual(probe, first) > 0) & (_dual(probe, second) > 0) & size.isfinite())
    flat = zero | _flat(probe, size)
    constant = torch.zeros_like(flat) if probe.random else _constant(probe)
    return [
        _saturation(probe, zero),
        _quantisation(probe, constant, flat),
        _gradients(probe, zero, flat, constant),
        _agreement(probe, second, flat),
    ]


def _dual(probe: Probe, gradient: Tensor) -> Tensor:
    """The dual norm (K,): eps times it is the most that a linear loss could rise."""
    return norms(gradient.double(), DUAL[probe.threat.norm]).flatten()  # type: ignore[arg-type]


def _flat(probe: Probe, size: Tensor) -> Tensor:
    """Where random points of the ball move the loss a hundred times more than the gradient says any could."""
    if probe.random:
        return torch.zeros_like(size, dtype=torch.bool)
    clean = probe.values(probe.x)
    moved = (probe.values(probe.start) - clean).abs().double()
    rounding = 1e-5 * probe.logits.abs().amax(1)
    return (probe.threat.eps * size < FLAT_BELOW * moved) & (moved > rounding)


def _constant(probe: Probe) -> Tensor:
    """Where changing half of the pixels by TINY changes no logit at all.

    Looked at from random points: clean pixels can lie exactly between two levels.
    """
    start = probe.start
    signs = 2 * torch.randint(0, 2, start.shape, generator=probe.generator("tiny"), device=start.device) - 1
    beside = start + TINY * torch.where(start > 0.5, -signs.abs(), signs.abs())
    beside = torch.where(signs > 0, start, beside)  # half of the pixels, always towards the middle
    return (probe.predict(beside) == probe.predict(start)).all(1)


def _saturation(probe: Probe, zero: Tensor) -> Finding:
    lost = _dual(probe, probe.gradient(probe.x, cross_entropy)) == 0
    lost &= ~zero
    gap = -probe.values(probe.x)
    evidence = {"share": _share(lost), "median_margin": float(gap.median())}
    if not beats(int(lost.sum()), len(lost)):
        return Finding("saturation", "pass", evidence=evidence)
    return Finding(
        "saturation",
        "fail",
        cause=f"The logits are so large (median margin {float(gap.median()):.3g}) that the softmax is "
        f"exactly 0 or 1 in float32: cross-entropy has no gradient for {100 * _share(lost):.0f} % of "
        "the images.",
        remedy="Attack with a loss that does not depend on the logits' scale (margin, DLR), or divide "
        "the logits by a constant first; figures from attacks on cross-entropy alone are void.",
        evidence=evidence,
    )


def _quantisation(probe: Probe, constant: Tensor, flat: Tensor) -> Finding:
    if probe.random:
        return Finding("quantisation", "skipped", cause="Hidden by randomness.")
    blocked = constant & flat
    evidence = {"unchanged": _share(constant), "unchanged_and_no_gradient": _share(blocked), "step": TINY}
    if not blocked.double().mean() > 0.5:
        return Finding("quantisation", "pass", evidence=evidence)
    return Finding(
        "quantisation",
        "fail",
        cause=f"The input is rounded: changing pixels by {TINY:g} changes no logit for "
        f"{100 * _share(constant):.0f} % of the images, while larger changes do, and no gradient passes the "
        "rounding.",
        remedy="Differentiate around the rounding (BPDA: backward as if it were the identity), or add a "
        "black-box attack with many queries; gradient attacks on the whole are void.",
        evidence=evidence,
    )


def _gradients(probe: Probe, zero: Tensor, flat: Tensor, constant: Tensor) -> Finding:
    evidence = {"zero": _share(zero), "too_small": _share(flat & ~zero)}
    if not beats(int(flat.sum()), len(flat)):
        return Finding("gradients", "pass", evidence=evidence)
    return Finding(
        "gradients",
        "fail",
        cause=_gradient_cause(probe, zero, flat, constant),
        remedy="Find the operation that loses the gradient; replace it in the backward pass by a "
        "differentiable approximation (BPDA), or attack without gradients (Square) and by transfer.",
        evidence=evidence,
    )


def _gradient_cause(probe: Probe, zero: Tensor, flat: Tensor, constant: Tensor) -> str:
    if _detached(probe):
        return (
            "No gradient path leads from the output to the image: part of the forward pass is detached "
            "or not differentiable (detach(), no_grad, NumPy)."
        )
    share = 100 * _share(flat)
    if _share(zero) > 0.5 * _share(flat):
        why = ", because the input is rounded" if _share(constant & zero) > 0.5 else ""
        return f"The gradient is exactly zero for {share:.0f} % of the images{why}."
    return (
        f"The gradient vanishes: for {share:.0f} % of the images it explains less than a hundredth of "
        "what the loss does nearby."
    )


def _detached(probe: Probe) -> bool:
    with torch.enable_grad():
        x = probe.x[:2].detach().requires_grad_()
        output = probe.model(x)
        if not output.requires_grad:
            return True
        (gradient,) = torch.autograd.grad(output.sum(), x, allow_unused=True)
    return gradient is None


def _agreement(probe: Probe, gradient: Tensor, flat: Tensor) -> Finding:
    """At random points: does the loss rise over a short step as its gradient promises?"""
    if probe.hidden:
        return Finding("gradient-agreement", "skipped", cause=f"Hidden by {' and '.join(probe.hidden)}.")
    if beats(int(flat.sum()), len(flat)):
        return Finding("gradient-agreement", "skipped", cause="There is no usable gradient to compare with.")
    kept = _kept(probe, gradient, STEP)
    wrong = (kept < 1 / WITHIN) | (kept > WITHIN)
    evidence = {"median": float(kept.median()), "misled": _share(wrong), "step_in_eps": STEP}
    if _share(wrong) <= MISLED_ABOVE:
        return Finding("gradient-agreement", "pass", evidence=evidence)
    return Finding(
        "gradient-agreement",
        "fail",
        cause=f"The gradient misleads: over a step of eps/{round(1 / STEP)} along it the loss does not "
        f"move within a factor of {WITHIN:g} of what it promises for {100 * _share(wrong):.0f} % of the "
        "images: the loss is discontinuous or shattered, or a custom backward pass is wrong.",
        remedy="Smooth the loss (average gradients over noise, or replace the discontinuous operation in the "
        "backward pass), use larger steps and restarts, and add black-box and transfer attacks.",
        evidence=evidence,
    )


def _kept(probe: Probe, gradient: Tensor, share: float) -> Tensor:
    """The observed over the promised rise, for a step of ``share`` eps along the steepest ascent (K,)."""
    start = probe.start
    end = (start + share * probe.threat.eps * probe.threat.ascent_direction(gradient)).clamp(0, 1)
    promised = (gradient.double() * (end - start).double()).flatten(1).sum(1)
    risen = (probe.values(end) - probe.values(start)).double()
    return risen / promised.clamp_min(1e-300)


def _share(found: Tensor) -> float:
    return float(found.double().mean())
