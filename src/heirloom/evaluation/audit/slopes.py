"""Does the loss do what its gradient says, over short steps and long ones, and is the gradient itself steady?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heirloom.attacks.losses import margin
from heirloom.evaluation.audit.derivative import derivative
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import SLIGHTLY, Subject
from heirloom.evaluation.audit.watch import CHOOSING, COMPARING, HOOKING, LEAVING, ROUNDING
from heirloom.evaluation.copies import apart

STEP = 1 / 10  # in eps: a short step, over which the loss of a sound model is all but linear
SHORT = 1 / 100
SHORTEST = 1 / 3000
WITHIN = 4.0  # observed over promised rise of the loss
CLOSE = 1.5  # the same, close by: where the loss is smooth it is within a hundredth of 1
MISLED_ABOVE = 0.25  # sound models: 0; k-winners-take-all: above 0.6
FAIR = 0.8  # cosine with the true gradient: most attacks get through with that
CONSTANT_ABOVE = 0.5  # share of images
TWICE = 2.0
ITERATES = 4  # calls of one layer in a pass; two or three are views or shared weights
SMOOTH_ABOVE = 0.7  # share of images whose loss rises in the same proportion at both steps


def slopes(subject: Subject, gradient: Tensor, flat: bool, constant: float = 0.0) -> list[Finding]:
    """``backward``: a smooth loss with a foreign gradient. ``gradient-agreement``: a loss that is not smooth.

    ``constant``: the share of images of which tiny changes change no logit.
    """
    hidden = [name for name in subject.hidden if not name.endswith(SLIGHTLY)]
    hidden = [name for name in hidden if name != "randomness" or not subject.model.frozen]
    if subject.loose and "randomness" not in hidden:
        hidden.append("randomness")
    if hidden:
        cause = f"Hidden by {' and '.join(hidden)}."
    elif flat:
        cause = "There is no usable gradient to compare with."
    else:
        return _compared(subject, gradient, constant)
    return [Finding(check, "skipped", cause=cause) for check in ("backward", "gradient-agreement")]


def _compared(subject: Subject, gradient: Tensor, constant: float) -> list[Finding]:
    kept = _kept(subject, gradient, STEP)
    wrong = (kept < 1 / WITHIN) | (kept > WITHIN)
    near = _kept(subject, gradient, SHORT)
    lost = (near < 1 / CLOSE) | (near > CLOSE)
    closest = _kept(subject, gradient, SHORTEST)  # between jumps, where the gradient is the loss's own
    lost &= (closest < 1 / CLOSE) | (closest > CLOSE)
    smooth = _smooth(subject, gradient)
    again = subject.gradient(subject.start, margin)
    unsteady = float((apart(gradient, again) > 0.1).double().mean())
    evidence = {
        "median": float(kept.median()),
        "misled": _share(wrong),
        "misled_close_by": _share(lost),
        "step_in_eps": STEP,
    }
    evidence |= {
        "misled_close_by": _share(lost),
        "smooth": smooth,
        "gradient_differs_when_asked_again": unsteady,
    }
    own = derivative(subject)
    evidence |= {"turned": own.foreign, "cosine": own.cosine, "off": own.off}
    promised = _share(lost) > MISLED_ABOVE and smooth > SMOOTH_ABOVE
    foreign = unsteady > MISLED_ABOVE or promised or max(own.foreign, own.off) > MISLED_ABOVE
    shattered = (_share(wrong) > MISLED_ABOVE or _stands_in(kept, constant)) and not foreign
    return [_backward(subject, foreign, evidence), _agreement(subject, shattered, evidence)]


def _stands_in(kept: Tensor, constant: float) -> bool:
    """Whether the loss has steps, and over many of them does not do what the gradient that is passed around them says.

    Over some levels of pixels a straight-through gradient is right on average; a surrogate of spikes is not.
    """
    middle = float(kept.median())
    return constant > CONSTANT_ABOVE and not 1 / TWICE < middle < TWICE


def _backward(subject: Subject, foreign: bool, evidence: dict[str, Any]) -> Finding:
    if not foreign:
        return Finding("backward", "pass", evidence=evidence)
    left = [name for name in subject.trace.seen((*HOOKING, *LEAVING)) if name != "data"]
    seen = list(subject.trace.custom)[:1] or left[:2]
    named = f" Seen: {', '.join(seen)}." if seen else ""
    random = evidence["gradient_differs_when_asked_again"] > MISLED_ABOVE
    evidence["slight"] = not random and evidence["cosine"] > FAIR
    how = "random" if random else "another function's"
    about = "" if random else f" Its cosine with the true one is about {evidence['cosine']:.2f}."
    return Finding(
        "backward",
        "fail",
        cause=f"The gradient is not that of the loss: the loss is smooth, but its gradient is {how} (a custom "
        f"backward pass, a gradient hook, or a part that is detached).{named}{about}{_iterating(subject)}",
        remedy="Remove the custom backward pass, the hook or the detach, or put the true derivative (or BPDA's "
        "approximation) in its place, and evaluate again; until then only Square and transfer attacks count.",
        evidence=evidence,
    )


def _iterating(subject: Subject) -> str:
    runs = subject.trace.calls
    if runs < ITERATES:
        return ""
    return f" A layer runs {runs} times for one call: an iteration, of which only a part is differentiated, it seems."


def _agreement(subject: Subject, shattered: bool, evidence: dict[str, Any]) -> Finding:
    if not shattered:
        return Finding("gradient-agreement", "pass", evidence=evidence)
    jumping = subject.trace.seen((*ROUNDING, *CHOOSING, *COMPARING))
    named = f" Seen, with jumps in it: `{'`, `'.join(jumping[:2])}`." if jumping else ""
    return Finding(
        "gradient-agreement",
        "fail",
        cause=f"The gradient misleads: over a step of eps/{round(1 / STEP)} along it the loss does not "
        f"move within a factor of {WITHIN:g} of what it promises for {100 * evidence['misled']:.0f} % of the "
        f"images: the loss is discontinuous or shattered.{named}",
        remedy="Smooth the loss (average gradients over noise, or replace the discontinuous operation in the "
        "backward pass), use larger steps and restarts, and add black-box and transfer attacks.",
        evidence=evidence,
    )


def _smooth(subject: Subject, gradient: Tensor) -> float:
    """Share of images whose loss, along random signs, has the same slope over a hundredth and a fiftieth of eps."""
    generator = subject.generator("smooth")
    signs = torch.randint(0, 2, gradient.shape, generator=generator, device=gradient.device) * 2.0 - 1
    inside = subject.start.clamp(0.02, 0.98)  # clamping to the pixel range would bend a straight loss
    reach = min(subject.threat.eps, 0.5) * SHORT
    base = subject.values(inside).double()
    one, two = (subject.values(inside + k * reach * signs).double() - base for k in (1, 2))
    rounding = 1e-5 * subject.logits.abs().amax(1)
    same = (two - 2 * one).abs() <= 0.5 * two.abs() + rounding
    return _share(same & (two.abs() > 0))


def _kept(subject: Subject, gradient: Tensor, share: float) -> Tensor:
    """The observed over the promised rise, for a step of ``share`` eps along the steepest ascent (K,)."""
    start = subject.start
    end = (start + share * subject.threat.eps * subject.threat.ascent_direction(gradient)).clamp(0, 1)
    promised = (gradient.double() * (end - start).double()).flatten(1).sum(1)
    risen = (subject.values(end) - subject.values(start)).double()
    return risen / promised.clamp_min(1e-300)


def _share(found: Tensor) -> float:
    return float(found.double().mean())
