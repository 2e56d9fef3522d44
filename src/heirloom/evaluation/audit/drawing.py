"""Randomness: fresh draws at every call, draws now and then, and draws seeded by the image itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heirloom.attacks.losses import margin
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import JUMP, JUMPING, MORE_PASSES, RANDOM_ABOVE, SLIGHT, Subject
from heirloom.evaluation.audit.watch import OWN, watched
from heirloom.evaluation.copies import fixed

REPEATS = 12
COARSER = (1e-4, 1e-3, 1e-2)
SELDOM = (
    "The forward pass is random{}, but shows it seldom: of some hundred passes one differed, of others none."
)
STEEP = 0.1  # of a jump: what a gradient foretells is a steep function, not another draw


def randomness(subject: Subject) -> Finding:
    """Fresh draws at every call, or draws seeded by the image's own content."""
    model = subject.fresh()
    passes = torch.stack([subject.plain(model, subject.x) for _ in range(REPEATS)])
    moved = (passes.amax(0) - passes.amin(0)).amax(1) / subject.spread
    if subject.random and not bool((moved > RANDOM_ABOVE).any()):  # it draws, and shows it now and then
        passes = torch.stack([subject.plain(model, subject.x[:8]) for _ in range(MORE_PASSES)])
        moved = (passes.amax(0) - passes.amin(0)).amax(1) / subject.spread[: passes.shape[1]]
    changed = (passes.argmax(2) != passes[0].argmax(1)).any(0)
    evidence: dict[str, Any] = {
        "passes": len(passes),
        "largest_change": min(float(moved.nan_to_num(0.0).max()), 1e30),
        "predictions_changed": float(changed.double().mean()),
        "drawn_from": sorted(subject.trace.random),
    }
    drawn = evidence["drawn_from"] or subject.own_generators
    if not subject.random:
        by_content = bool(drawn) and _drawn_by_content(subject)
        for size in (JUMP, *COARSER) if by_content else (JUMP,):
            evidence["jumps"], evidence["size"] = _jumps(subject, size), size
            if evidence["jumps"] > JUMPING:
                break
        else:
            evidence["redrawn"] = _redrawn(subject, COARSER[-1]) if by_content else 0.0
            if evidence["redrawn"] <= 0.5:
                return Finding("randomness", "pass", evidence=evidence)
        return _by_content(evidence, "draws noise from" if drawn else "chooses what it does by")
    seldom = evidence["largest_change"] <= RANDOM_ABOVE
    if seldom and not (subject.own_generators or watched(subject.fresh(), subject.x[:2]).random):
        return Finding("randomness", "skipped", cause="Explained by eval-mode.", evidence=evidence)
    return Finding(
        "randomness",
        "fail",
        cause=SELDOM.format(_drawn_by(subject))
        if seldom
        else _random_cause(subject, passes) + _slightly(evidence),
        remedy="Make the forward pass deterministic (pass noise and masks as fixed inputs), or attack the "
        "expectation over the randomness (EOT) and score the mean over many fresh draws.",
        evidence=evidence | {"slight": not seldom and evidence["largest_change"] <= SLIGHT},
    )


def _slightly(evidence: dict[str, Any]) -> str:
    share = evidence["largest_change"]
    return f" It moves them by little: at most {share:.1g} of their spread." if share <= SLIGHT else ""


def _jumps(subject: Subject, size: float = JUMP) -> float:
    """The share of images whose logits jump when every pixel moves by ``size``, at random points off any grid.

    A ripple is steep, and its gradient says so: it does not count.
    """
    moved = subject.jumps(size) > 1e-2
    if float(moved.double().mean()) <= JUMPING:
        return float(moved.double().mean())
    x, beside = subject.off_grid, subject.beside(size)
    foretold = (subject.gradient(x, margin) * (beside - x)).double().abs().flatten(1).sum(1)
    risen = (subject.values(beside) - subject.values(x)).abs().double()
    return float((moved & ~(foretold > STEEP * risen)).double().mean())


def _drawn_by_content(subject: Subject) -> bool:
    """Whether other images draw other numbers, as where the seed is made of pixels, rounded ones too."""
    if bool((subject.jumps() == 0).double().mean() > 0.5):
        return False  # constant in between: a tree, a rounding; noise on a network moves with it
    if set(subject.trace.random) & set(OWN[1:]):
        return True  # what is drawn outside of torch is not seen
    return _drawn(subject, subject.off_grid[:4]) != _drawn(subject, subject.off_grid[4:8])


def _drawn(subject: Subject, x: Tensor) -> float:
    """What a fresh copy draws for the images ``x``, from one and the same seed."""
    with fixed(x.device):
        return watched(subject.fresh(), x).drawn


def _redrawn(subject: Subject, size: float) -> float:
    """The share of images, each alone, for which torch draws other numbers when every pixel moves by ``size``.

    Seeds of rounded pixels stay the same over steps so short that a jump could be told from a slope.
    """
    if size > subject.threat.eps:
        return 0.0
    moved = subject.jumps(size) > 1e-2
    pairs = zip(subject.off_grid[:8].split(1), subject.beside(size)[:8].split(1), strict=True)
    redrawn = [_drawn(subject, one) != _drawn(subject, other) for one, other in pairs]
    return float((torch.tensor(redrawn).to(moved) & moved[:8]).double().mean())


def _by_content(evidence: dict[str, Any], what: str) -> Finding:
    return Finding(
        "randomness",
        "fail",
        cause=f"The forward pass {what} a seed made of the image itself: one image gives one answer, but "
        f"a change of {evidence['size']:g} in its pixels draws anew, so the gradient says nothing of what comes next.",
        remedy="Attack the expectation over seeds (EOT with fresh draws) and score it, or fix the noise for all "
        "images.",
        evidence=evidence,
    )


def _random_cause(subject: Subject, passes: Tensor) -> str:
    names = {type(module).__name__ for module in subject.model.modules()}
    if any(name.startswith("ViTMAE") for name in names):
        return (
            "The forward pass is random: Transformers' ViT-MAE masks and shuffles patches at random in eval "
            "mode too unless `noise` is passed."
        )
    unit = torch.nn.functional.normalize(passes, dim=2)
    if bool(((unit - unit[0]).abs().amax(2) < 1e-4).all()):
        return "The forward pass is random: it rescales the logits of an image by a random factor."
    sources = sorted(subject.trace.random)
    where = f" (drawn from {', '.join(sources)})" if sources and sources != ["torch"] else _drawn_by(subject)
    return f"The forward pass is random{where}: the same images give different logits at every call."


def _drawn_by(subject: Subject) -> str:
    drawing = list(subject.trace.drawing)
    dropped = [name for name in subject.trace.functions if "dropout" in name]
    if dropped and {"bernoulli", "native_dropout"} & set(drawing):
        return f" (`{dropped[0]}` is at work as in training)"
    return f" (drawn by `{drawing[0]}`)" if drawing else ""
