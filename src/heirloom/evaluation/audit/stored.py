"""Are images answered from what is stored: by a table that knows them, or by the nearest of stored ones?

What tells is an image that nobody can have stored: one put together from two of the sample. It lies on the same grid
of levels, and pixels that are rounded treat it as any other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import Subject
from heirloom.evaluation.copies import change, logits

BESIDE = 1e-6  # in pixel units
DIRECTIONS = 4
KNOWN_ABOVE = 0.2  # share of images
ALL_OVER = 0.3  # share of images
REACH = 1 / 4  # of the radius: far for rounded pixels, of which some image always has one near a threshold
PART = 4  # the share of an image's rows that another's take, one of so many
REMEDY = (
    "Take what is stored away and measure the clean accuracy again; gradients at such images say nothing of what lies "
    "beside them: start attacks from random points of the ball, on images that are not stored."
)


def lookup(subject: Subject) -> Finding:
    """A table of images, the nearest of stored images, or a detector of images off the grid of levels."""
    if subject.random:
        return Finding("lookup", "skipped", cause="Hidden by randomness.")
    evidence = {"known": _alone(subject, subject.x)}
    if evidence["known"] > KNOWN_ABOVE:
        evidence["put_together_known"] = _alone(subject, _put_together(subject))
        detected = evidence["put_together_known"] > evidence["known"] / 2
        return _failed(subject, _off_the_grid(evidence) if detected else _in_a_table(evidence), evidence)
    evidence |= _stored(subject)
    if cause := _nearest(evidence):
        return _failed(subject, cause, evidence)
    return Finding("lookup", "pass", evidence=evidence)


def _failed(subject: Subject, cause: str, evidence: dict[str, float]) -> Finding:
    subject.hidden.append("lookup")
    return Finding("lookup", "fail", cause, REMEDY, evidence)


def _alone(subject: Subject, x: Tensor) -> float:
    """The share of images beside which, in all directions alike, the logits are others."""
    beside = []
    for draw in range(DIRECTIONS):
        some = torch.rand(x.shape, generator=subject.generator("beside", draw), device=x.device) < 0.5
        inwards = torch.where(x > 0.5, x - BESIDE, x + BESIDE)
        beside.append(logits(subject.fresh(), torch.where(some, inwards, x)))
    moved = change(logits(subject.fresh(), x), beside[0], subject.spread)
    among = torch.stack([change(beside[0], other, subject.spread) for other in beside[1:]]).amax(0)
    return float(((moved > 1e-2) & (among < 1e-3)).double().mean())


def _put_together(subject: Subject) -> Tensor:
    """Each image with a quarter of its rows, in the middle, from the next one."""
    x, rows = subject.x.clone(), subject.x.shape[2]
    first = (rows - rows // PART) // 2
    x[:, :, first : first + max(1, rows // PART)] = x.roll(1, 0)[:, :, first : first + max(1, rows // PART)]
    return x


def _stored(subject: Subject) -> dict[str, float]:
    """Shares of images, and of such as were put together, whose logits are the same number for number all around
    them; and of those put together that are answered as the image is of which they have the most.
    """
    if subject.trace.saturating or subject.files:
        return {}
    x = subject.x
    first = logits(subject.fresh(), x)
    if _votes(first):
        return {}
    whole = _share(_same_around(subject, x, first))
    if whole <= ALL_OVER:
        return {"constant": whole}
    other = _put_together(subject)
    answers = logits(subject.fresh(), other)
    return {
        "constant": whole,
        "put_together_constant": _share(_same_around(subject, other, answers)),
        "answered_as_the_most": _share((answers == first).all(1)),
    }


def _votes(answers: Tensor) -> bool:
    """Whether different answers are made of the same few numbers, as counts are. Many images may have one stored image
    as their nearest, and then its very answer, but the answers of two stored images share no number.
    """
    different = answers.nan_to_num().unique(dim=0)
    return len(different.unique()) < different.numel() / 2


def _same_around(subject: Subject, x: Tensor, answers: Tensor) -> Tensor:
    same = torch.ones_like(subject.y, dtype=torch.bool)
    for draw in range(2):
        towards = torch.randn(x.shape, generator=subject.generator("far", draw), device=x.device)
        far = (x + REACH * subject.threat.eps * subject.threat.ascent_direction(towards)).clamp(0, 1)
        same &= (logits(subject.fresh(), far) == answers).all(1)
    return same


def _nearest(evidence: dict[str, float]) -> str:
    if evidence.get("constant", 0) <= ALL_OVER:
        return ""
    share = f"{100 * evidence['constant']:.0f} %"
    if evidence["answered_as_the_most"] > KNOWN_ABOVE:
        return (
            f"Images are replaced by the nearest of stored ones: for {share} of them the logits are the same number "
            "for number all around, and an image with a quarter of another's rows is answered as if whole."
        )
    if evidence["put_together_constant"] < 0.2 * evidence["constant"]:
        return (
            f"{share} of the images are known to the model: all around them the logits are the same, number for "
            "number, while images put together from two of them do not: the nearest of stored images answers (a "
            "gallery, a memorised test set)."
        )
    return ""


def _in_a_table(evidence: dict[str, float]) -> str:
    return (
        f"{100 * evidence['known']:.0f} % of the images are known to the model: a pixel changed by {BESIDE:g} in any "
        "direction changes the logits, and always to the same ones, so that they are looked up (a table, a hash)."
    )


def _off_the_grid(evidence: dict[str, float]) -> str:
    return (
        f"The model detects that an image was changed: for {100 * evidence['known']:.0f} % of the images a pixel "
        f"changed by {BESIDE:g} in any direction changes the logits to others, and so it does for images that nobody "
        "has stored: what lies on the grid of levels is treated otherwise (a detector, a switch)."
    )


def _share(found: Tensor) -> float:
    return float(found.double().mean())
