"""The rungs of :func:`heirloom.attacks.cascade.cascade`, from the cheap that all get to the dear that few get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from heirloom.attacks.autoattack import Part, autoattack_parts
from heirloom.attacks.engine.ascent import STEPS
from heirloom.attacks.engine.campaign import Campaign
from heirloom.attacks.engine.rows import rows_at_once
from heirloom.attacks.fab import fab
from heirloom.attacks.losses import Loss, margin, misclassified, targeted_dlr
from heirloom.attacks.pgd import pgd
from heirloom.attacks.pma import probability_margin, target_probability_margin
from heirloom.attacks.square import square
from heirloom.threat import Threat

ALL = float("inf")
SEARCHED = 5000  # queries of AutoAttack's own Square Attack
TURN = 1000  # queries after which a search is judged by its gains
MASKED = 0.1  # share of the examples for which a random search keeps up with gradients


@dataclass(frozen=True)
class Rung:
    """``attack(campaign, places)`` on what stands near.

    Attributes:
        reach: the share of its clean margin that an example may have left.
        nearest: at least so large a share of those that stand, the nearest of them.
    """

    name: str
    attack: Callable[[Campaign, Tensor], None]
    reach: float = ALL
    nearest: float = 0.0


def sprint(campaign: Campaign, place: Tensor, *, steps: int) -> None:
    """The margin of probabilities, from the clean image (in L1 from near it)."""
    task = torch.stack([campaign.y[place], campaign.y[place], place], 1)
    campaign.ascend(task, _start(campaign, place, "clean"), steps, probability_margin(campaign.scale))


def targets(
    campaign: Campaign, place: Tensor, *, first: int, last: int, steps: int, loss: str, start: str
) -> None:
    """Towards the classes that came nearest so far, the ``first``-th to the ``last``-th, one after the other."""
    wanted = campaign.promising(place, first, last)
    rank = 0
    while rank < wanted.shape[1]:
        kept = ~torch.isinf(campaign.best.value[place])
        place, wanted = place[kept], wanted[kept]
        if not len(place):
            return
        width = rows_at_once(len(place), wanted.shape[1] - rank)
        row = place.repeat_interleave(width)
        task = torch.stack([campaign.y[row], wanted[:, rank : rank + width].flatten(), row], 1)
        climbed = _LOSSES[loss](campaign)
        campaign.ascend(task, _start(campaign, row, start), steps, climbed)
        rank += width


def flat(campaign: Campaign, place: Tensor, *, steps: int, restarts: int = 1) -> None:
    """Plain PGD on the margin that draws flat coordinates anew, for where gradients are exactly zero."""
    found = pgd(
        campaign.model,
        campaign.region.x[place],
        campaign.y[place],
        campaign.threat,
        loss=margin,
        steps=steps,
        restarts=restarts,
        redraw_flat=True,
        until=misclassified,
        generator=campaign.generator,
    )
    campaign.look(place, found)


def search(campaign: Campaign, place: Tensor, *, ladder: tuple[tuple[int, float], ...]) -> None:
    """Square Attack, which needs no gradients: with more queries where it comes as far as they do.

    ``ladder`` holds (queries, share of the gradients' way from the clean margin that must be come for the next
    rung). Where a random search keeps up for a tenth of the examples, all go on; where it does so over the
    whole ladder, the model masks its gradients, and ``campaign.masked`` tells later rungs.
    """
    gained, asked, campaign.masked = 1 - campaign.left(place), len(place), True
    for queries, share in ladder:
        x, y = campaign.region.x[place], campaign.y[place]
        found = square(campaign.model, x, y, campaign.threat, queries=queries, generator=campaign.generator)
        way = 1 - campaign.look(place, found) / campaign.clean[place]
        ahead = way >= share * gained
        campaign.masked = campaign.masked and int(ahead.sum()) >= MASKED * asked
        kept = (ahead | campaign.masked) & ~torch.isinf(campaign.best.value[place])
        place, gained = place[kept], gained[kept]
        if not len(place):
            return


def all_of_autoattack(campaign: Campaign, place: Tensor) -> None:
    """Nothing is spared on a model that masks its gradients."""
    if campaign.masked:
        flat(campaign, place, steps=100, restarts=3)
        _run(campaign, place, autoattack_parts("standard"))


def boundary(campaign: Campaign, place: Tensor, *, targets: int, steps: int) -> None:
    """FAB in L1: it finds boundaries there that no ascent came near, in few steps; in Linf and L2 ascent is as good."""
    if campaign.threat.norm == "L1":
        _run(campaign, place, (partial(_fab, targets=targets, steps=steps),))


def _fab(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator, **settings: int
) -> Tensor:
    return fab(model, x, y, threat, generator=generator, **settings)


def finish(campaign: Campaign, place: Tensor) -> None:
    """AutoAttack's own targeted APGD and FAB, then its Square Attack: where gradients end a random search may not.

    It asks what Square asks, in turns, and ends early on what it will not break.
    """
    _run(campaign, place, autoattack_parts("standard")[1:-1])
    search_on(campaign, place, None, queries=TURN, turns=SEARCHED // TURN)


def persist(campaign: Campaign, place: Tensor, *, queries: int, turns: int) -> None:
    """Random search from the best point that any attack found.

    Luck decides what stands by next to nothing: on such an image one run of Square succeeds and the next ends just
    short. The search goes on where it was, so that a gain is kept.
    """
    point = campaign.best.point[place]
    search_on(campaign, place, point, queries=queries, turns=turns, spent=SEARCHED)


def search_on(
    campaign: Campaign, place: Tensor, point: Tensor | None, *, queries: int, turns: int, spent: int = 0
) -> None:
    """Square from ``point`` (None: its own start) in turns, each from where the last one ended.

    An example is left where gains like its last turn's would not bring it over in the turns that remain: a random
    search gains less and less.
    """
    value = campaign.clean[place] if point is None else campaign.best.value[place]
    for turn in range(turns):
        kept = ~torch.isinf(campaign.best.value[place])
        place, value, point = place[kept], value[kept], None if point is None else point[kept]
        if not len(place):
            return
        found = square(
            campaign.model,
            campaign.region.x[place],
            campaign.y[place],
            campaign.threat,
            queries=queries,
            start=point,
            spent=spent + turn * queries,
            generator=campaign.generator,
        )
        now = campaign.look(place, found)
        hopeful = (now - value) * (turns - 1 - turn) >= -now
        place, value, point = place[hopeful], now[hopeful], found[hopeful]


def _run(campaign: Campaign, place: Tensor, parts: tuple[Part, ...]) -> None:
    generator = campaign.generator or torch.Generator(place.device).manual_seed(0)
    for part in parts:
        place = place[~torch.isinf(campaign.best.value[place])]
        if len(place):
            x, y = campaign.region.x[place], campaign.y[place]
            campaign.look(place, part(campaign.model, x, y, campaign.threat, generator))


def _dlr(campaign: Campaign) -> Loss:
    return lambda logits, task: targeted_dlr(logits, task[:, :2])


_LOSSES: dict[str, Callable[[Campaign], Loss]] = {
    "probability": lambda campaign: target_probability_margin(campaign.scale),
    "dlr": _dlr,
}


def _start(campaign: Campaign, row: Tensor, start: str) -> Tensor:
    region = campaign.region[row]
    if start == "best":
        return campaign.best.point[row]
    rule = STEPS[campaign.threat.norm]
    begin = rule.near_start if start == "clean" else rule.random_start
    return begin(region, campaign.generator)


# one start of "again" misses what another finds: what is near gets four more, towards its nearest class alone
RESTARTS = (
    Rung(
        "another start",
        partial(targets, first=0, last=1, steps=40, loss="probability", start="random"),
        reach=0.15,
    ),
) * 4
RUNGS = (
    Rung("sprint", partial(sprint, steps=15)),
    Rung("first targets", partial(targets, first=0, last=3, steps=10, loss="probability", start="clean")),
    Rung("flat", partial(flat, steps=20)),
    Rung("search", partial(search, ladder=((100, 0.85), (500, 1.0), (5000, 1.0)))),
    Rung(
        "other targets",
        partial(targets, first=3, last=9, steps=10, loss="probability", start="clean"),
        reach=0.4,
        nearest=0.3,
    ),
    Rung(
        "near",
        partial(targets, first=0, last=3, steps=40, loss="dlr", start="random"),
        reach=0.2,
        nearest=0.15,
    ),
    Rung("boundary", partial(boundary, targets=9, steps=20), reach=0.4, nearest=0.3),
    Rung("finish", finish, reach=0.05, nearest=0.03),
    Rung("persist", partial(persist, queries=1000, turns=10), reach=0.02),
    Rung(  # other starts, other optima: last, so that what falls without it falls as before
        "again",
        partial(targets, first=0, last=3, steps=40, loss="probability", start="random"),
        reach=0.4,
        nearest=0.3,
    ),
    *RESTARTS,
    Rung("AutoAttack", all_of_autoattack),
)
