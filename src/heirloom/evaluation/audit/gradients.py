"""Mechanisms seen in gradients: saturated, rounded away, zero, absent, blocked or vanishing."""

from __future__ import annotations

import torch
from torch import Tensor

from heirloom.attacks.losses import margin
from heirloom.evaluation.askable import Undifferentiated
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.losing import LIMITED, Slope, dual, lost_in, share_of
from heirloom.evaluation.audit.saturation import CLIPPING, saturation, steep
from heirloom.evaluation.audit.slopes import slopes
from heirloom.evaluation.audit.subject import Subject, beats
from heirloom.evaluation.audit.watch import CHOOSING, COMPARING, HOOKING, LEAVING, LEVELS, ROUNDING
from heirloom.evaluation.copies import apart

TINY = 1e-4  # in pixel units: far below a grey level (0.0039), far above float32's rounding
FINE = 1e-6  # within a level of 16 bits; asked where something is rounded, since float32 is not far
MOVED = 8  # pixels changed by TINY at once: of 256 grey levels few are crossed
FLAT_BELOW = 1e-2  # the gradient explains less than this share of what the loss does
BLOCKED_ABOVE = 0.05  # entries with exactly no gradient, in a random sample of pixels
FELT = 0.1  # of the slope that as many entries with a gradient would give


def gradients(subject: Subject) -> list[Finding]:
    """Saturation, quantisation, gradients, and their agreement with the loss; of a random model for one draw."""
    with subject.frozen():
        return _of_gradients(subject)


def _of_gradients(subject: Subject) -> list[Finding]:
    first = subject.gradient(subject.x, margin)
    second = subject.gradient(subject.start, margin)
    size = torch.maximum(dual(subject, first), dual(subject, second))
    zero = ~((dual(subject, first) > 0) & (dual(subject, second) > 0) & size.isfinite())
    flat = zero | _flat(subject, size)
    some = flat.nonzero().flatten()[:8]
    ends = lost_in(subject.fresh(), subject.start[some], subject.y[some]) if len(some) else None
    seen = Slope(second, zero, flat, *_unmoved(subject), ends)
    found = [saturation(subject, seen), _quantisation(subject, seen), _gradients(subject, seen)]
    hidden = [
        cause
        for cause in subject.hidden
        if cause in ("state", "gradient-mode", "not-finite", "batch", "lookup")
    ]
    if hidden:
        found = [
            Finding(f.check, "skipped", f"Hidden by {' and '.join(hidden)}.", "", f.evidence) for f in found
        ]
    rest = slopes(subject, second, any(f.verdict == "fail" for f in found[1:]), share_of(seen.constant))
    if rest[1].verdict == "fail" and share_of(seen.constant) > 0.5:
        found[1] = _around_the_rounding(subject, found[1])
    elif rest[1].verdict == "fail" and found[0].verdict == "pass":
        found[0] = steep(subject, found[0], rest[1].evidence)
    return [*found, *rest]


def _flat(subject: Subject, size: Tensor) -> Tensor:
    """Where random points of the ball move the loss a hundred times more than the gradient says any could."""
    if subject.loose:
        return torch.zeros_like(size, dtype=torch.bool)
    clean = subject.values(subject.x)
    moved = (subject.values(subject.start) - clean).abs().double()
    rounding = 1e-5 * subject.logits.abs().amax(1)
    return (subject.threat.eps * size < FLAT_BELOW * moved) & (moved > rounding)


def _unmoved(subject: Subject) -> tuple[Tensor, float]:
    """Where a tiny change of a few pixels changes no logit, and how tiny."""
    if subject.loose:
        return torch.zeros_like(subject.y, dtype=torch.bool), TINY
    found = _constant(subject, TINY)
    finer = _constant(subject, FINE) if subject.trace.seen(ROUNDING) else found
    return (found, TINY) if share_of(found) >= share_of(finer) / 2 else (finer, FINE)


def _constant(subject: Subject, size: float) -> Tensor:
    """Where changing a few pixels by ``size`` changes no logit at all.

    Looked at from random points off any grid: clean pixels, black and white can lie exactly between two levels.
    """
    start = subject.off_grid
    drawn = torch.rand(start.shape, generator=subject.generator("tiny"), device=start.device).flatten(1)
    some = drawn >= drawn.topk(min(MOVED, drawn.shape[1]), dim=1).values[:, -1:]
    towards = torch.where(start > 0.5, start - size, start + size)
    beside = torch.where(some.view_as(start), towards, start)
    return (subject.predict(beside) == subject.predict(start)).all(1)


def _quantisation(subject: Subject, seen: Slope) -> Finding:
    if subject.loose:
        return Finding("quantisation", "skipped", cause="Hidden by randomness.")
    if (
        "discrete-output" in subject.hidden
    ):  # between the output's jumps nothing shows whether pixels are rounded
        return Finding("quantisation", "skipped", cause="Hidden by discrete-output.")
    blocked = seen.constant & seen.flat
    evidence = {
        "unchanged": share_of(seen.constant),
        "unchanged_and_no_gradient": share_of(blocked),
        "step": seen.step,
    }
    rounding = subject.trace.seen(ROUNDING)
    enough = 0.3 if rounding else 0.5
    clipped = subject.trace.saturating in CLIPPING and bool(rounding)
    saturated = bool(subject.trace.saturating) and not clipped
    if saturated or _at_limits(subject, seen) or not share_of(blocked) > enough or _left_torch(subject):
        return Finding("quantisation", "pass", evidence=evidence)
    return Finding(
        "quantisation",
        "fail",
        cause=f"The input or a layer is rounded{_to_what(subject)}: changing pixels by {seen.step:g} changes no logit "
        f"for {100 * share_of(seen.constant):.0f} % of the images, while larger changes do, and no gradient passes the "
        "rounding.",
        remedy="Differentiate around the rounding (BPDA: backward as if it were the identity), or add a "
        "black-box attack with many queries; gradient attacks on the whole are void.",
        evidence=evidence,
    )


def _at_limits(subject: Subject, seen: Slope) -> bool:
    """Whether the gradient ends in an operation that is flat at its limits, with nothing in the pass that rounds."""
    return seen.lost_in in LIMITED and not subject.trace.seen((*ROUNDING, *CHOOSING, *COMPARING))


def _to_what(subject: Subject) -> str:
    for words, names in (
        ("", ROUNDING),
        (" to the nearest of fixed entries", CHOOSING),
        (" to bits", COMPARING),
    ):
        if seen := subject.trace.seen(names):
            return f"{words} (`{seen[0]}`)"
    return ""


def _around_the_rounding(subject: Subject, finding: Finding) -> Finding:
    """What is constant has no gradient: the one that comes is a stand-in, and it misleads."""
    return Finding(
        "quantisation",
        "fail",
        cause=f"The input or a layer is rounded{_to_what(subject)}: tiny changes of pixels change no logit, and the "
        "gradient that is passed around the rounding (straight-through, a surrogate) does not foretell what the loss "
        "does.",
        remedy="Attack with steps of a whole level and with the gradient averaged over noise, try another derivative "
        "for the rounding (BPDA), and add a black-box attack with many queries.",
        evidence=finding.evidence,
    )


def _left_torch(subject: Subject) -> bool:
    """Whether the image's values were carried out of torch, where more than a rounding loses the gradient."""
    return bool(subject.trace.seen(("numpy", "tolist", "item", "__array__", "NumPy"))) and _detached(subject)


def _gradients(subject: Subject, seen: Slope) -> Finding:
    evidence = {"zero": share_of(seen.zero), "too_small": share_of(seen.flat & ~seen.zero)}
    if beats(int(seen.flat.sum()), len(seen.flat)):
        cause = _gradient_cause(subject, seen)
    else:
        evidence["blocked_entries"], evidence["felt"] = _blocked(subject, seen)
        blocked = evidence["blocked_entries"] > BLOCKED_ABOVE and evidence["felt"] > FELT
        if not blocked or _unsteady(subject, seen):
            return Finding("gradients", "pass", evidence=evidence)
        cause = (
            f"{100 * evidence['blocked_entries']:.0f} % of the pixels have a gradient of exactly zero, though "
            f"changing them changes the loss: part of the forward pass blocks the gradient ({_by_what(subject)})."
        )
    return Finding(
        "gradients",
        "fail",
        cause=cause,
        remedy="Find the operation that loses the gradient; replace it in the backward pass by a "
        "differentiable approximation (BPDA), or attack without gradients (Square) and by transfer.",
        evidence=evidence,
    )


def _unsteady(subject: Subject, seen: Slope) -> bool:
    """Whether the gradient is another when asked again: its zeros come and go (the check ``backward`` tells)."""
    again = apart(seen.at_start, subject.gradient(subject.start, margin))
    return not subject.loose and share_of(again > 0.1) > 0.5


def _by_what(subject: Subject) -> str:
    rounding = subject.trace.seen(LEVELS)
    listed = "a straight-through pass with stops, a detached part, a mask, a gradient hook"
    return f"these pixels are rounded: `{rounding[0]}`; or {listed}" if rounding else listed


def _blocked(subject: Subject, seen: Slope) -> tuple[float, float]:
    """(share of entries without a gradient, how much the loss feels them beside as many with one).

    All such entries of an image move at once by random signs, over the radius and over a tenth of it; the slope
    is compared with that of the other entries moved in the same way. Where the forward pass rounds, over ten times
    the longer reach as well: short ones end within a level.
    """
    if subject.loose:
        return 0.0, 0.0
    nothing = seen.at_start == 0
    share = nothing.flatten(1).double().mean(1)
    some = (share > BLOCKED_ABOVE) & (share < 0.999)
    if not beats(int(some.sum()), len(some)):
        return float(share.median()), 0.0

    def felt(reach: float) -> float:
        both = _felt(subject, nothing, reach) / (_felt(subject, ~nothing, reach) + 1e-30)
        return float(both[some].median())

    near = min(felt(0.02), felt(0.1))
    return float(share[some].median()), max(near, felt(1.0)) if subject.trace.seen(LEVELS) else near


def _felt(subject: Subject, entries: Tensor, reach: float) -> Tensor:
    """Root mean square over draws of the loss's change when ``entries`` move, per square root of their number."""
    changes = []
    for draw in range(4):
        generator = subject.generator("felt", draw)
        signs = torch.randint(0, 2, entries.shape, generator=generator, device=entries.device) * 2.0 - 1
        size = min(subject.threat.eps, 0.1) * reach
        towards = subject.start + size * signs * entries
        changes.append(subject.values(towards.clamp(0, 1)) - subject.values(subject.start))
    count = entries.flatten(1).sum(1).clamp_min(1)
    return torch.stack(changes).double().square().mean(0).sqrt() / count.sqrt()


def _gradient_cause(subject: Subject, seen: Slope) -> str:
    if isinstance(subject.model.model, Undifferentiated):
        return f"No gradient reaches the image: asking for one raises {subject.model.model.error}."
    if _detached(subject):
        by = [name for name in subject.trace.seen(LEAVING) if name != "data"]
        named = f" Seen: {', '.join(by[:4])}." if by else ""
        return (
            "No gradient path leads from the output to the image: part of the forward pass is detached "
            f"or not differentiable (detach(), no_grad, NumPy).{named}"
        )
    share = 100 * share_of(seen.flat)
    custom = (
        f" A custom backward pass is in the way ({next(iter(subject.trace.custom))})."
        if subject.trace.custom
        else ""
    )
    if share_of(seen.zero) > 0.5 * share_of(seen.flat):
        # at limits, too, small changes change nothing
        limits = bool(subject.trace.saturating) or _at_limits(subject, seen)
        rounded = (share_of(seen.constant & seen.zero) > 0.5 and not limits) or subject.trace.seen(ROUNDING)
        why = ", because values are rounded" if rounded and not custom else ""
        left = "" if why or custom else _left_out(subject) or _ends(seen)
        return f"The gradient is exactly zero for {share:.0f} % of the images{why}.{custom or left}"
    return (
        f"The gradient vanishes: for {share:.0f} % of the images it explains less than a hundredth of "
        f"what the loss does nearby.{custom or _left_out(subject) or _ends(seen)}"
    )


def _ends(seen: Slope) -> str:
    return f" It ends in the backward pass of `{seen.lost_in}`." if seen.lost_in else ""


def _left_out(subject: Subject) -> str:
    """Why a differentiable forward pass may give no gradient, as far as the pass shows it."""
    if hooks := subject.trace.seen(HOOKING):
        return f" A gradient hook is in the way ({hooks[0]})."
    left = [name for name in subject.trace.seen(LEAVING) if name != "data"]
    if not left:
        return ""
    switch = " that is switched to (`where`)" if subject.trace.seen(("where",)) else ""
    return f" A part{switch} is left out of the gradient ({', '.join(left[:3])})."


def _detached(subject: Subject) -> bool:
    with torch.enable_grad():
        x = subject.x[:2].detach().requires_grad_()
        output = subject.model(x)
        if not output.requires_grad:
            return True
        (gradient,) = torch.autograd.grad(output.sum(), x, allow_unused=True)
    return gradient is None
