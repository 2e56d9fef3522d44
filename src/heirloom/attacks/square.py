"""Square Attack: Andriushchenko, Croce, Flammarion and Hein, "Square Attack: a query-efficient
black-box adversarial attack via random search", ECCV 2020 (Linf, L2); for L1 the form that AutoAttack gave it
(Croce and Hein, "Mind the box", ICML 2021, section 4.2).

Random search: change one square window, keep the change if the margin falls. Only logits are used. A
proposal that leaves every pixel as it is (a window already of that colour, pixels cut off at 0 or 1) has a
known answer and is not asked. In Linf a proposal does not depend on those before it but through the point that it
changes; while few are accepted, several are asked at once, and those after an accepted one are drawn anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.best import Best
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.journal import repeat
from heirloom.attacks.engine.proposals import PROPOSALS, Proposals
from heirloom.attacks.engine.region import Region
from heirloom.attacks.engine.rows import rows_at_once
from heirloom.attacks.losses import margin
from heirloom.runtime.errors import require
from heirloom.threat import Threat

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
    start: Tensor | None = None,
    spent: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random search on the margin, stopping at the first misclassified point.

    Args:
        model: a classifier; x: clean images (N, C, H, W) in [0, 1]; y: labels (N,).
        queries: proposals for each example, at most. The schedule of window sizes is that of 10000
            queries, as in AutoAttack, whatever this number.
        p_init: share of the pixels that the first windows cover.
        start: where the search begins (N, C, H, W), inside the threat set, instead of at random stripes or bumps.
        spent: queries of an earlier search that this one goes on with: the windows are as small as after them.
        generator: draws the windows and their signs, for each example its own.

    Returns:
        the point of highest margin for each example: float32, inside the threat set. At most queries + 1
        forward passes, where few examples are left in Linf about a fifth more (proposals asked in vain); no
        backward pass.
    """
    require(queries >= 1, "queries", "at least 1", queries)
    require(0 < p_init <= 1, "p_init", "a share above 0 and at most 1", p_init)
    require(spent >= 0, "spent", "at least 0", spent)
    region = Region.around(x, threat)
    proposals = PROPOSALS[threat.norm]
    with torch.no_grad():
        first = proposals.start(region, generator) if start is None else start
        best = Best.of(first, margin(predict(model, first), y))
        sides = [_window_side(query, p_init, first) for query in range(spent, spent + queries)]
        _search(_Search(model, region, y, torch.tensor(sides, device=x.device), generator), proposals, best)
    return threat.project(best.point, x)


@dataclass(frozen=True)
class _Search:
    """What stays the same over the search."""

    model: nn.Module
    region: Region
    y: Tensor
    sides: Tensor  # (queries,): of the window that each proposal changes
    generator: torch.Generator | None


def _search(search: _Search, proposals: Proposals, best: Best) -> None:
    """Up to so many proposals for each example; moves the points of ``best`` and raises their margins."""
    queries, device = len(search.sides), search.y.device
    best.finish(~(best.value < 0))

    def step(walk: _Walk) -> bool:
        active, spent = best.active, walk.spent
        if not len(active):
            return False
        # a proposal after an accepted one is lost, so look ahead only while few are accepted
        ahead = rows_at_once(len(active), int(ACCEPTED_AHEAD / walk.accepted)) if proposals.independent else 1
        row = active.repeat_interleave(ahead)
        turn = (spent[active][:, None] + torch.arange(ahead, device=device)).flatten()
        proposal, new = _ask(search, proposals, best, row, turn)
        better = (~(new <= best.value[row])).view(-1, ahead)
        taken, which = better.any(1), better.int().argmax(1)
        chosen = (torch.arange(len(active), device=device) * ahead + which)[taken]
        best.point[active[taken]], best.value[active[taken]] = proposal[chosen], new[chosen]
        used = torch.where(taken, which + 1, ahead)
        spent[active] += used
        walk.accepted = max(0.9 * walk.accepted + 0.1 * float(taken.sum() / used.sum()), 1e-3)
        best.finish(~((best.value[active] < 0) & (spent[active] < queries)))
        return True

    repeat(_Walk(best, torch.zeros_like(search.y)), step)


@dataclass
class _Walk:
    """A search under way: what is found, queries spent on each example, the share of proposals accepted of late."""

    best: Best
    spent: Tensor
    accepted: float = 1.0


def _ask(
    search: _Search, proposals: Proposals, best: Best, row: Tensor, turn: Tensor
) -> tuple[Tensor, Tensor]:
    """A proposal for each row, that of number ``turn``, and its margin; -inf where it is not asked."""
    queries, current = len(search.sides), best.point[row]
    side = search.sides[turn.clamp_max(queries - 1)]
    proposal = proposals.propose(search.region[row], current, side, search.generator)
    asked = ((proposal != current).flatten(1).any(1) & (turn < queries)).nonzero().flatten()
    new = torch.full_like(best.value[row], -torch.inf)
    if len(asked):
        new[asked] = margin(predict(search.model, proposal[asked]), search.y[row[asked]])
    return proposal, new


def _window_side(query: int, p_init: float, x: Tensor) -> int:
    height, width = x.shape[-2:]
    share = p_init / 2 ** sum(query > bound for bound in _HALVINGS)
    return min(max(round((share * height * width) ** 0.5), 1), height, width)
