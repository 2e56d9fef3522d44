"""The objectives that ``--method`` chooses from, by name: each in the file of its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, get_args

from heirloom.objectives.objective import Objective
from heirloom.runtime.choices import ObjectiveName

DEFENCES: dict[str, Objective] = {
    name: import_module(f"heirloom.objectives.{name.replace('-', '_')}").OBJECTIVE
    for name in get_args(ObjectiveName)
}


def caveats(methods: Iterable[str]) -> list[str]:
    """What must be said beside the figures of any of ``methods``."""
    known = [DEFENCES[method] for method in dict.fromkeys(methods) if method in DEFENCES]
    return [
        f"{objective.title.partition(' (')[0]}: {objective.caveat}" for objective in known if objective.caveat
    ]


def caveats_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What must be said beside ``rows`` of a table, where a name may hold other words too: ``digits, distil``."""
    names = [str(row[key]) for row in rows for key in ("defence", "method", "model", "name") if key in row]
    return caveats(part for name in names for part in name.split(", "))
