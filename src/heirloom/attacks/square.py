"""Square Attack: Andriushchenko, Croce, Flammarion and Hein, "Square Attack: a query-efficient
black-box adversarial attack via random search", ECCV 2020 (Linf, L2); for L1 the form that AutoAttack gave it
(Croce and Hein, "Mind the box", ICML 2021, section 4.2).

Random search: change one square window, keep the change if the margin falls. Only logits are used. A
proposal that leaves every pixel as it is (a window already of that colour, pixels cut off at 0 or 1) has a
known answer and is not asked. In Linf a proposal does not depend on those before it but through the point that it
changes; while few are accepted, several are asked at once, and those after an accepted one are drawn anew.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.region import Region
from heirloom.attacks.engine.rows import rows_at_once
from heirloom.attacks.losses import margin
from heirloom.runtime.errors import require
from heirloom.runtime.randomness import integers, uniform
from heirloom.threat import Threat, norms

Generator = torch.Generator | None

# the share of pixels in a window halves after so many queries (Linf, L2: section 5.1, for 10000 queries)
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
ACCEPTED_AHEAD = 0.3  # how many of the proposals that are asked together may be expected to be accepted


def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    queries: int = 5000,
    p_init: float = 0.8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random search on the margin, stopping at the first misclassified point.

    Args:
        model: a classifier; x: clean images (N, C, H, W) in [0, 1]; y: labels (N,).
        queries: proposals for each example, at most. The schedule of window sizes is that of 10000
            queries, as in AutoAttack, whatever this number.
        p_init: share of the pixels that the first windows cover.
        generator: draws the windows and their signs, for each example its own.

    Returns:
        the point of highest margin for each example: float32, inside the threat set. At most queries + 1
        forward passes, where few examples are left in Linf about a fifth more (proposals asked in vain); no
        backward pass.
    """
    require(queries >= 1, "queries", "at least 1", queries)
    require(0 < p_init <= 1, "p_init", "a share above 0 and at most 1", p_init)
    region = Region.around(x, threat)
    with torch.no_grad():
        best = _stripes(region, generator) if threat.norm == "Linf" else _tiles(region, generator)
        value = margin(predict(model, best), y)
        _search(model, region, y, best, value, queries, p_init, generator)
    return threat.project(best, x)


def _search(
    model: nn.Module, region: Region, y: Tensor, best: Tensor, value: Tensor, queries: int, p_init: float,
    generator: Generator,
) -> None:  # fmt: skip
    """Up to ``queries`` proposals for each example; moves ``best`` and raises its margin ``value``."""
    linf = region.threat.norm == "Linf"
    sides = torch.tensor([_window_side(query, p_init, best) for query in range(queries)], device=best.device)
    spent, accepted = torch.zeros(len(y), dtype=torch.long, device=y.device), 1.0
    active = (value < 0).nonzero().flatten()
    while len(active):
        # a proposal after an accepted one is lost, so look ahead only while few are accepted
        ahead = rows_at_once(len(active), int(ACCEPTED_AHEAD / accepted)) if linf else 1
        row = active.repeat_interleave(ahead)
        turn = (spent[active][:, None] + torch.arange(ahead, device=y.device)).flatten()
        side, current = sides[turn.clamp_max(queries - 1)], best[row]
        proposal = _PROPOSALS[region.threat.norm](region[row], current, side, generator)
        asked = ((proposal != current).flatten(1).any(1) & (turn < queries)).nonzero().flatten()
        new = torch.full_like(value[row], -torch.inf)
        if len(asked):
            new[asked] = margin(predict(model, proposal[asked]), y[row[asked]])
        better = (~(new <= value[row])).view(-1, ahead)
        taken, which = better.any(1), better.int().argmax(1)
        chosen = (torch.arange(len(active), device=y.device) * ahead + which)[taken]
        best[active[taken]], value[active[taken]] = proposal[chosen], new[chosen]
        used = torch.where(taken, which + 1, ahead)
        spent[active] += used
        accepted = max(0.9 * accepted + 0.1 * float(taken.sum() / used.sum()), 1e-3)
        active = active[(value[active] < 0) & (spent[active] < queries)]


def _signs(shape: tuple[int, ...], generator: Generator, device: torch.device) -> Tensor:
    return 2.0 * integers(0, 2, shape, generator, device) - 1


def _below(bound: Tensor, generator: Generator) -> Tensor:
    """A whole number from 0 to ``bound`` - 1 for each entry."""
    return torch.minimum((uniform(bound.shape, generator, bound.device) * bound).long(), bound - 1)


def _window_side(query: int, p_init: float, x: Tensor) -> int:
    height, width = x.shape[-2:]
    share = p_init / 2 ** sum(query > bound for bound in _HALVINGS)
    return min(max(round((share * height * width) ** 0.5), 1), height, width)


def _stripes(region: Region, generator: Generator) -> Tensor:
    """The paper's start for Linf: vertical stripes of one pixel, each at +eps or -eps."""
    n, channels, _, width = region.x.shape
    sign = _signs((n, channels, 1, width), generator, region.x.device)
    return torch.where(sign > 0, region.upper, region.lower)


def _propose_linf(region: Region, current: Tensor, side: Tensor, generator: Generator) -> Tensor:
    """One window a picture, each channel wholly at +eps or at -eps."""
    n, channels = current.shape[:2]
    window = _window(current, side, generator)[0]
    sign = _signs((n, channels, 1, 1), generator, current.device)
    return torch.where(window, torch.where(sign > 0, region.upper, region.lower), current)


def _window(current: Tensor, side: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A window of ``side`` (N,) for each picture: mask (N, 1, H, W), top rows, left columns."""
    height, width = current.shape[2:]
    top, left = _below(height - side + 1, generator), _below(width - side + 1, generator)
    row = torch.arange(height, device=current.device) - top[:, None]
    column = torch.arange(width, device=current.device) - left[:, None]
    rows, columns = (row >= 0) & (row < side[:, None]), (column >= 0) & (column < side[:, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None], top, left


def _tiles(region: Region, generator: Generator) -> Tensor:
    """The start for L2 and L1: a grid of 5 x 5 bumps with random signs, on the ball's surface."""
    n, channels, height, width = region.x.shape
    side = max(min(height, width) // 5, 1)
    delta = torch.zeros_like(region.x)
    bump = _bump(side, region.threat.norm, region.x.device)
    for top in range((height % side) // 2, height - side + 1, side):
        for left in range((width % side) // 2, width - side + 1, side):
            turned = bump if bool(_signs((1,), generator, bump.device) > 0) else bump.T
            delta[:, :, top : top + side, left : left + side] = turned * _signs(
                (n, channels, 1, 1), generator, bump.device
            )
    length = norms(delta, region.threat.norm).clamp_min(1e-12)
    return region.nearest(region.x + region.threat.eps * delta / length)


def _propose_ball(region: Region, current: Tensor, sides: Tensor, generator: Generator) -> Tensor:
    """Take the mass out of one window and of what the ball has left, and put it into another as a bump.

    ``sides`` are all the same: a bump has one size.
    """
    norm, eps, power = region.threat.norm, region.threat.eps, 2 if region.threat.norm == "L2" else 1
    n, channels, height, width = current.shape
    side = max(int(sides[0]), 3)
    side = min(side + 1 - side % 2, height, width)
    sides = torch.full_like(sides, side)
    delta = current - region.x
    (window, top, left), (other, _, _) = (
        _window(current, sides, generator),
        _window(current, sides, generator),
    )
    length = norms(delta, norm)
    within = _spatial_norm(delta * (window | other), power)  # (N, C, 1, 1)
    bump = _bump(side, norm, current.device)
    turned = torch.where(_signs((n, 1, 1, 1), generator, current.device) > 0, bump, bump.T)
    turned = turned * _signs((n, channels, 1, 1), generator, current.device)
    rows = (top[:, None] + torch.arange(side, device=current.device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(side, device=current.device))[:, None, None, :]
    example = torch.arange(n, device=current.device)[:, None, None, None]
    channel = torch.arange(channels, device=current.device)[None, :, None, None]
    old = delta[example, channel, rows, columns]
    mixed = turned + old / (_spatial_norm(old, power) + 1e-12)
    spare = (eps**power - length**power).clamp_min(0) / channels
    budget = (spare + within**power) ** (1 / power)
    if norm == "L1":
        budget = budget * channels  # AutoAttack's: it proposes too much, and the projection makes it sparse
    delta = torch.where(other, 0.0, delta)
    delta[example, channel, rows, columns] = mixed / (_spatial_norm(mixed, power) + 1e-12) * budget
    if norm == "L2":
        delta = eps * delta / norms(delta, norm).clamp_min(1e-12)
    return region.nearest(region.x + delta)


def _spatial_norm(delta: Tensor, power: int) -> Tensor:
    return torch.linalg.vector_norm(delta, power, dim=(2, 3), keepdim=True)


def _bump(side: int, norm: str, device: torch.device) -> Tensor:
    """Two pyramids of opposite sign side by side, of norm 1 (section 4.2, equation 2)."""
    half = side // 2
    bump = torch.zeros(side, side, device=device)
    bump[:half], bump[half:] = _pyramid(half, side, norm), -_pyramid(side - half, side, norm)
    return bump / torch.linalg.vector_norm(bump, 2 if norm == "L2" else 1).clamp_min(1e-12)


def _pyramid(height: int, width: int, norm: str) -> Tensor:
    """Nested rectangles that grow from the centre, the k-th adding 1 / k^2 (L1: 1 / k^4)."""
    pyramid = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for k in range(1, max(height, width) // 2 + 2):
        rows = slice(max(top - k + 1, 0), min(top + k, height))
        columns = slice(max(left - k + 1, 0), min(left + k, width))
        pyramid[rows, columns] += 1 / k ** (2 if norm == "L2" else 4)
    return pyramid / torch.linalg.vector_norm(pyramid, 2 if norm == "L2" else 1).clamp_min(1e-12)


_PROPOSALS = {"Linf": _propose_linf, "L2": _propose_ball, "L1": _propose_ball}
