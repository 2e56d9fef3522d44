"""The adaptive attack and the scores over draws on a page."""

from __future__ import annotations

from typing import Any

from heirloom.report.page import Part, Section, Table, Text
from heirloom.report.tables import shown

ONE_DRAW = (
    "The model is random: columns marked `one draw` count an image as lost when one draw of the model erred, so they "
    "may be too low as well as too high."
)


def adaptive_section(details: dict[str, Any]) -> Section:
    """``details``: of a result, with ``adaptive``, ``draws`` or both."""
    parts: list[Part] = []
    if "adaptive" in details:
        sources = "; ".join(details["adaptive"]["sources"])
        parts.append(
            Text(
                "The adaptive attack follows what the audit found. Differentiated in turn, on what still stood, "
                f"with PGD on the margin and on cross-entropy: {sources}; then Square Attack on the model "
                "itself. What each finds is judged by the model alone."
            )
        )
    if "draws" in details:
        draws = details["draws"]
        rows = [[name, shown(draws[name])] for name in ("mean", "majority", "worst")]
        caption = f"The worst images found, over {draws['draws']} fresh draws of the model, in %."
        parts += [Text(ONE_DRAW), Table(caption, ["right in", "share"], rows)]
    return Section("Attacked adaptively" if "adaptive" in details else "Over draws of the model", parts)
