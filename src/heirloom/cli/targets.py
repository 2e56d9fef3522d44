"""What ``heirloom evaluate`` measures: a saved defence or any ``package.module:factory``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heirloom.runtime.errors import InputError, require

if TYPE_CHECKING:
    from torch import nn

    from heirloom.threat import Threat


@dataclass(frozen=True)
class Target:
    """A model, its name in tables, and what its folder says of data and threat (None where it says nothing)."""

    model: nn.Module
    name: str
    image_size: int | None = None
    data: str | None = None
    threat: Threat | None = None


def resolve_target(saved: str | None, factory: str | None, *, trust_remote_code: bool = False) -> Target:
    """The model of ``heirloom evaluate SAVED`` or ``heirloom evaluate --model FACTORY``.

    Args:
        saved: a folder that ``heirloom defend`` wrote, or such a folder's id on the hub.
        factory: ``package.module:factory``, called without arguments.
    """
    if (saved is None) == (factory is None):
        got = "neither" if saved is None else "both"
        raise InputError("model", "given, or a saved defence, and not both", got)
    if factory is not None:
        from heirloom.models.encoder import module_from_factory

        require(":" in factory, "model", "a package.module:factory", factory)
        return Target(module_from_factory(factory), factory)
    assert saved is not None
    return _saved(saved, trust_remote_code)


def _saved(place: str, trust_remote_code: bool) -> Target:
    from heirloom.defence.saved import DefendedModel
    from heirloom.results.schema import Summary
    from heirloom.threat import Threat

    model = DefendedModel.from_pretrained(place, trust_remote_code=trust_remote_code)
    threat = Threat(**model.defence["threat"]) if "threat" in model.defence else None
    data = None
    if (Path(place) / "summary.json").exists():
        used = Summary.read(Path(place) / "summary.json").data
        data = None if used is None else used.name
    return Target(model, str(model.defence.get("method", place)), model.image_shape[1], data, threat)
