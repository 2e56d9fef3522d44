"""An audit check by check: what is finished is kept, so that one that is killed goes on from there.

Every check draws from generators seeded by its own name, so that it finds the same whether the checks before it were
run by this process or read. One thing a file cannot keep is what calls have left in a model: in an audit that goes
on, the check of ``state`` sees the calls of its own process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import Subject
from heirloom.evaluation.chunks import seeded
from heirloom.results.schema import to_plain
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_json, write_json
from heirloom.runtime.randomness import seed_of

Check = Callable[[], Finding | Sequence[Finding]]


class Ledger:
    """The checks of ``subject``, each a file of ``folder`` when it is finished (None: nothing is kept)."""

    def __init__(self, folder: Path | None, subject: Subject) -> None:
        self.folder, self.subject = folder, subject
        subject.kept = self._tensor

    def check(self, name: str, make: Check) -> list[Finding]:
        """What ``make`` finds, and what it leaves in the subject for later checks; read where it is kept."""
        return [Finding(**found) for found in self._made(name, lambda: _found(make()))]

    def _tensor(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """A mask of images that an attack makes, kept as a check is."""
        found = self._made(f"attack-{name}", lambda: make().int().tolist())
        return torch.tensor(found, dtype=torch.bool, device=self.subject.x.device)

    def _made(self, name: str, make: Callable[[], Any]) -> Any:
        subject, place = self.subject, self.folder and self.folder / f"{name}.json"
        if place is not None and (kept := _read(place)) is not None:
            subject.hidden, subject.remembered = kept["hidden"], kept["remembered"]
            if not name.startswith("attack-"):  # those are counted with the check that asked for them first
                subject.model.forwards += kept["passes"][0]
                subject.model.backwards += kept["passes"][1]
            return kept["made"]
        before = subject.model.forwards, subject.model.backwards
        with seeded(subject.x.device, seed_of(subject.seed, "audit", name)):
            made = to_plain(make())
        passes = [subject.model.forwards - before[0], subject.model.backwards - before[1]]
        if place is not None:
            left = {"hidden": subject.hidden, "remembered": subject.remembered, "passes": passes}
            write_json(place, {"made": made, **left})
        return made


def _found(made: Finding | Sequence[Finding]) -> list[dict[str, Any]]:
    return [_writable(asdict(finding)) for finding in ([made] if isinstance(made, Finding) else made)]


def _writable(value: Any) -> Any:
    """``value`` with numbers that JSON has no word for (of models that overflow) as the words ``inf`` and ``nan``."""
    if isinstance(value, dict):
        return {name: _writable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read(place: Path) -> Any:
    """None where nothing is kept, or what is kept was damaged: it is made again."""
    try:
        kept = read_json(place) if place.exists() else None
    except InputError:
        return None
    return (
        kept if isinstance(kept, dict) and {"made", "hidden", "remembered", "passes"} <= set(kept) else None
    )
