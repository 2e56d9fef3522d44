"""Is the gradient the loss's own? Differences of the loss along random directions, where it is smooth, against it.

Along the gradient itself a foreign one may keep its promise: one at a cosine of .8 to the true one gives .8 of it.
Over random directions the differences are the true gradient's products with them, and those of a wrong one differ in
most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.attacks.losses import margin
from heirloom.evaluation.audit.subject import Subject

DIRECTIONS = 8
REACH = 1 / 100  # in eps
STRAIGHT = 1e-2  # how far slopes over one and two such steps may differ, squared, relative
STRAIGHTER = 1e-4  # there the slopes of sound models are told to within .03
OFF = 0.05  # of their length
TURNED = 0.95  # the cosine of a right gradient is 1, where the loss is so straight


@dataclass(frozen=True)
class Derivative:
    """``foreign``: share of images whose loss is straight around them and has another gradient than was given, which
    is not zero; ``cosine``: the median over the straight ones of the cosine between both (1 where none is); ``off``:
    share of images whose loss is straighter still, and whose slopes are a twentieth or more off: a part is detached.
    """

    foreign: float
    cosine: float
    off: float


def derivative(subject: Subject) -> Derivative:
    """What the loss does along :data:`DIRECTIONS` random sign vectors, and what the gradient says of it."""
    reach = min(subject.threat.eps, 0.5) * REACH
    inside = _untied(subject, min(16 * reach, 0.02))
    gradient = subject.gradient(inside, margin).double()
    one, two, told = [], [], []
    for draw in range(DIRECTIONS):
        generator = subject.generator("derivative", draw)
        signs = torch.randint(0, 2, inside.shape, generator=generator, device=inside.device) * 2.0 - 1
        one.append(_slope(subject, inside, reach * signs))
        two.append(_slope(subject, inside, 2 * reach * signs) / 2)
        told.append((gradient * reach * signs).flatten(1).sum(1))
    near, far, said = (torch.stack(parts, 1) for parts in (one, two, told))
    size = near.square().sum(1)
    bent = (near - far).square().sum(1)
    # a gradient of zero is no other function's: ``gradients`` tells of it
    given = (size > 0) & (said.square().sum(1) > 0)
    straight, straighter = (given & (bent < most * size) for most in (STRAIGHT, STRAIGHTER))
    off = straighter & ((near - said).square().sum(1) > OFF**2 * size)
    lengths = (size * said.square().sum(1)).sqrt()
    cosine = (near * said).sum(1) / lengths.clamp_min(1e-300)
    foreign = straight & (cosine < TURNED)
    kept = cosine[straight]
    middle = float(kept.median()) if len(kept) else 1.0
    return Derivative(float(foreign.double().mean()), middle, float(off.double().mean()))


def _untied(subject: Subject, size: float) -> Tensor:
    """Points near :attr:`Subject.start` from which no step leaves the pixel range, and where no two pixels are alike.

    Black ones are: a maximum of equal numbers has a slope to either side, and autograd names one of them.
    """
    drawn = torch.rand(
        subject.start.shape, generator=subject.generator("untied"), device=subject.start.device
    )
    return 0.04 + 0.92 * subject.start + size * (2 * drawn - 1)


def _slope(subject: Subject, x: Tensor, step: Tensor) -> Tensor:
    return (subject.values(x + step) - subject.values(x - step)).double() / 2
