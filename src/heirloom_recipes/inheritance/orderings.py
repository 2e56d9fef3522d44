"""Which of the paper's orderings hold here: paired differences on the same test images, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from heirloom.results.statistics import paired_difference
from heirloom_recipes.claims import NEAR_ZERO
from heirloom_recipes.inheritance.paper import PaperRow

TRANSFER = ("supervised", "contrastive")
Verdicts = Mapping[str, Mapping[str, Tensor]]  # row name -> "clean" | "robust" -> bool (N,)


@dataclass(frozen=True)
class Ordering:
    """``higher`` exceeds ``lower`` in ``column``; both are names of rows."""

    claim: str
    column: str
    higher: str
    lower: str


def check_orderings(rows: tuple[PaperRow, ...], verdicts: Verdicts) -> list[dict[str, Any]]:
    """One entry a claim: ``{"claim", "column", "ours", "paper", "verdict"}``.

    The verdict is "holds" or "reversed" where the 95 % interval of the paired difference lies on one side of 0,
    else "open"; for a claim of near zero, "holds" where the interval's upper end is below 0.05.
    """
    measured = [row for row in rows if row.name in verdicts]
    found = [_near_zero(row, verdicts) for row in measured if _is_clean_clean(row)]
    published = {row.name: {"clean": row.clean, "robust": row.robust} for row in measured}
    for o in _orderings(measured):
        difference = paired_difference(verdicts[o.higher][o.column], verdicts[o.lower][o.column])
        verdict = "holds" if difference.low > 0 else "reversed" if difference.high < 0 else "open"
        paper = _published(published[o.higher][o.column], published[o.lower][o.column])
        found.append(
            {"claim": o.claim, "column": o.column, "ours": difference, "paper": paper, "verdict": verdict}
        )
    return found


def _published(higher: float | None, lower: float | None) -> float | None:
    return None if higher is None or lower is None else round(higher - lower, 3)


def _near_zero(row: PaperRow, verdicts: Verdicts) -> dict[str, Any]:
    from heirloom.results.statistics import proportion

    ours = proportion(verdicts[row.name]["robust"])
    verdict = "holds" if ours.high < NEAR_ZERO else "reversed" if ours.low > NEAR_ZERO else "open"
    claim = f"{shown(row)} near 0 (below {100 * NEAR_ZERO:g} %), robust"
    return {"claim": claim, "column": "robust", "ours": ours, "paper": row.robust, "verdict": verdict}


def _is_clean_clean(row: PaperRow) -> bool:
    return not row.encoder.adversarial and row.downstream == "clean"


def _orderings(rows: list[PaperRow]) -> list[Ordering]:
    """The comparisons that the paper draws, among the rows at hand."""
    found = []
    for lower in rows:
        for higher in rows:
            claims = _claims(lower, higher)
            found += [Ordering(claim, column, higher.name, lower.name) for claim, column in claims]
    return found


def _claims(lower: PaperRow, higher: PaperRow) -> list[tuple[str, str]]:
    a, b = lower.encoder, higher.encoder
    if a.data != b.data or a.stem != b.stem:
        return []
    robust = [(f"{shown(higher)} > {shown(lower)}, robust", "robust")]
    if a.equal_epochs or b.equal_epochs:  # the control: what adversarial pre-training adds at equal steps
        inherits = a.equal_epochs and b.adversarial and a.method == b.method
        return robust if inherits and higher.downstream == "clean" else []
    if a.data != "cifar10" and a.adversarial and b.adversarial and (a.method, b.method) == TRANSFER:
        return robust  # Table 2: contrastive pre-training transfers more than supervised
    if _is_clean_clean(lower) and a.method == "supervised":
        inherits = b.adversarial and b.augmented and higher.downstream == "clean"
        return robust if inherits or (b == a and higher.downstream == "adversarial") else []
    if a == b and a.adversarial and (lower.downstream, higher.downstream) == ("clean", "adversarial"):
        return robust
    if lower.downstream == "adversarial" and not a.adversarial and higher.downstream == "clean":
        if b.adversarial:
            return robust
        return [(f"{shown(higher)} > {shown(lower)}, clean", "clean")] if b == a else []
    if a.method == b.method == "contrastive" and lower.downstream == higher.downstream == "clean":
        adversarial = a.augmented and b.augmented and b.adversarial and not a.adversarial
        augmented = a.adversarial == b.adversarial and b.augmented and not a.augmented
        return robust if adversarial or augmented else []
    return []


def shown(row: PaperRow) -> str:
    """``adversarial supervised / clean``; CIFAR-10 goes without saying."""
    key = row.encoder
    extra = [key.data] if key.data != "cifar10" else []
    extra += [] if key.augmented else ["no augmentation"]
    extra += ["equal epochs"] if key.equal_epochs else []
    suffix = f" ({', '.join(extra)})" if extra else ""
    return f"{key.pretrain}{suffix} / {row.downstream}"
