"""The objectives that ``--method`` chooses from, by name: each in the file of its name."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

from heirloom.objectives.objective import Objective
from heirloom.runtime.choices import ObjectiveName

DEFENCES: dict[str, Objective] = {
    name: import_module(f"heirloom.objectives.{name.replace('-', '_')}").OBJECTIVE
    for name in get_args(ObjectiveName)
}
