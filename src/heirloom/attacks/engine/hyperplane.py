"""The shortest way to a hyperplane within the pixel box: Croce and Hein, "Minimally distorted adversarial
examples with a fast adaptive boundary attack", ICML 2020, section 3 (Linf, L2, L1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heirloom.runtime.choices import Norm


def project_hyperplane(point: Tensor, weight: Tensor, bound: Tensor, norm: Norm) -> Tensor:
    """The smallest move ``d`` with ``weight . (point + d) = bound`` and ``point + d`` in [0, 1].

    Args:
        point, weight: (N, D); bound: (N,). Where the box does not reach the hyperplane, the move goes to the
            box's nearest corner.

    The dual has one unknown: the length of the longest entry of the move (Linf), the multiplier of ``weight``
    (L2), or the smallest weight that is used (L1). The first two are found by Newton's method on a concave
    piecewise linear function, which ends at the exact root; the third by sorting.
    """
    need = (weight * point).sum(1, keepdim=True) - bound[:, None]
    weight = torch.where(need < 0, -weight, weight)
    need = need.abs()
    slope = weight.abs()
    room = torch.where(weight > 0, point, 1 - point)  # how far each entry may go
    room = torch.where(slope > 0, room, 0.0)
    return -weight.sign() * _LENGTHS[norm](slope, room, need)


def _equal_lengths(slope: Tensor, room: Tensor, need: Tensor) -> Tensor:
    return _newton_lengths(slope, room, need, torch.ones_like(slope))


def _sloped_lengths(slope: Tensor, room: Tensor, need: Tensor) -> Tensor:
    return _newton_lengths(slope, room, need, slope)


def _newton_lengths(slope: Tensor, room: Tensor, need: Tensor, speed: Tensor) -> Tensor:
    """Entry i goes ``level * speed[i]``, or as far as it may, at the level that reaches the hyperplane."""
    gain = slope * speed
    level = torch.zeros_like(need)
    for _ in range(40):
        reached = level * speed
        free = reached < room
        rest = need - (slope * torch.where(free, reached, room)).sum(1, keepdim=True)
        rate = (gain * free).sum(1, keepdim=True)
        move = torch.where(rate > 0, rest / rate.clamp_min(1e-38), 0.0).clamp_min(0)
        level = level + move
        if bool((move <= 1e-6 * level).all()):
            break
    # where the box ends before the hyperplane, every entry goes as far as it may
    unreachable = (slope * room).sum(1, keepdim=True) <= need
    return torch.where(unreachable, room, torch.minimum(level * speed, room))


def _sorted_lengths(slope: Tensor, room: Tensor, need: Tensor) -> Tensor:
    order = slope.argsort(1, descending=True)
    gain = (slope * room).gather(1, order)
    before = gain.cumsum(1) - gain  # what the steeper entries have gained
    share = ((need - before) / gain.clamp_min(1e-38)).clamp(0, 1)
    return torch.zeros_like(room).scatter(1, order, share * room.gather(1, order))


_LENGTHS: dict[Norm, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "Linf": _equal_lengths,
    "L2": _sloped_lengths,
    "L1": _sorted_lengths,
}
