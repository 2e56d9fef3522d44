"""Names picked on the command line: the readings of Figure 4, the cases of ``purify``, the paper's statements."""

from __future__ import annotations

import re
from collections.abc import Iterable

from heirloom.runtime.errors import require


def picked(names: Iterable[str], asked: str, argument: str) -> list[str]:
    """Those of ``names`` that the parts of ``asked`` mean, with ; between them, in their own order; empty: all.

    A part that is a whole name means that name alone ("square, gate" is also the beginning of five others); any other
    part means every name in which a word begins with it. Upper and lower case are the same. A part that means nothing
    is an :class:`InputError` of ``argument`` that lists the names.
    """
    known = list(dict.fromkeys(names))
    if not asked:
        return known
    meant = {part: _meant(part, known) for part in (piece.strip() for piece in asked.split(";"))}
    unknown = [part for part, found in meant.items() if not found]
    allowed = f"parts of these names, with ; between them: {'; '.join(known)}"
    require(not unknown, argument, allowed, "; ".join(unknown) or "an empty part")
    return [name for name in known if any(name in found for found in meant.values())]


def _meant(part: str, names: list[str]) -> list[str]:
    whole = [name for name in names if name.casefold() == part.casefold()]
    begins = re.compile(rf"(?<!\w){re.escape(part)}", re.IGNORECASE)
    return whole or [name for name in names if part and begins.search(name)]
