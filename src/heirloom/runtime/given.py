"""What the user asked for, as the result records it: set by the command line, read where a result is stamped."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Given:
    """``command``: the line as typed, None: ``sys.argv``. ``options``: its command's words under ``"command"``, and
    every option's value, defaults too, as JSON has them: ``{"command": "evaluate", "attacks": "pgd-20", ...}``.
    """

    command: str | None
    options: Mapping[str, Any]


GIVEN: ContextVar[Given | None] = ContextVar("given", default=None)
