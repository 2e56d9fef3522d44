"""What a reader must know of each method, wherever its figures stand: what it reads, costs and gives."""

from __future__ import annotations

from collections.abc import Iterable

from heirloom.objectives.defences import DEFENCES
from heirloom.objectives.objective import Objective

COLUMNS = ("method", "reads in training", "passes of a step", "wins", "fails")
_FILTER = (
    "nothing",
    "nothing to train",
    "nowhere: what people use, a control",
    "once the attack knows of it",
)
UNTRAINED = {
    "identity": ("nothing", "nothing to train", "nowhere: what there was before", "under every attack"),
    "vae": (
        "nothing: trained by others",
        "nothing to train",
        "nowhere here: a rival of CRoPD's tables",
        "as filters",
    ),
    **dict.fromkeys(("jpeg", "bit-depth", "median"), _FILTER),
}


def traits(method: str) -> tuple[str, str, str, str] | None:
    """Of ``COLUMNS``, all but the name; None for a row that is no method (``student alone``)."""
    objective = DEFENCES.get(method)
    if objective is None:
        return UNTRAINED.get(method)
    return _read(objective), objective.cost, objective.wins, objective.fails


def trait_rows(methods: Iterable[str]) -> list[list[str]]:
    """A row of ``COLUMNS`` for each method that is one."""
    found = [(method, traits(method)) for method in dict.fromkeys(methods)]
    return [[method, *told] for method, told in found if told is not None]


def _read(objective: Objective) -> str:
    return f"{objective.access}; no labels"
