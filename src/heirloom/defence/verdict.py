"""The first sentences of a defence's page: ahead of the strongest control or not, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from heirloom.defence.remarks import needs_control, strongest_control, unpacked
from heirloom.report.tables import LABELS, is_proportion
from heirloom.results.schema import Summary
from heirloom.results.statistics import paired_difference

Right = Mapping[str, Mapping[str, Tensor]]


def verdict(summary: Summary, names: Mapping[str, str]) -> str:
    """Two or three sentences from the verdicts on single images; results that kept none compare no pairs.

    Args:
        names: of the methods, as a reader knows them.
    """
    row = summary.rows[-1]
    worst = [key for key, value in row.items() if is_proportion(value)][-1]
    figures = (
        f"Within {summary.threat}, {_percent(row[worst])} of {row['clean']['n']} test images are still classified "
        f"rightly under {LABELS.get(worst, worst)}, {_percent(row['clean'])} unattacked."
    )
    right, name = rights(summary), row["defence"]
    if name not in right or name == "identity":
        return figures
    control = strongest_control(name, right, worst)
    said = [figures] if control is None else [_against_control(right, name, control, worst, names), figures]
    if "identity" in right:
        own, bare = right[name], right["identity"]
        gain, cost = compared(own[worst], bare[worst]), compared(own["clean"], bare["clean"])
        said.append(f"Beside the bare model: under attack {gain}; unattacked {cost}.")
    lacks = control is None and needs_control(name)
    return " ".join(said) + (" No control was measured beside it." if lacks else "")


def _against_control(right: Right, name: str, control: str, worst: str, names: Mapping[str, str]) -> str:
    """Whether ``name`` beats ``control`` on the same images."""
    own, other = right[name][worst], right[control][worst]
    found, called = paired_difference(own, other), names.get(control, control).partition(" (")[0]
    if found.low > 0:
        begins = f"It beats the strongest control measured, {called}"
    elif found.high < 0:
        begins = f"It loses to the strongest control measured, {called}"
    else:
        begins = f"It is not shown to beat the strongest control measured, {called}"
    return f"{begins}: under attack {compared(own, other)}."


def rights(summary: Summary) -> dict[str, dict[str, Tensor]]:
    """The verdicts on single images of every row that kept them."""
    found = [*summary.details.get("defences", []), *summary.details.get("beside", [])]
    return {each["defence"]: unpacked(each["right"]) for each in found if "right" in each}


def compared(first: Tensor, second: Tensor) -> str:
    """``6.2 points ahead (95 % interval 2.1 to 10.3)``, on the same images; or that no difference can be told."""
    found = paired_difference(first, second)
    word = "ahead"
    if found.value < 0:
        found, word = paired_difference(second, first), "behind"
    low, high = (f"{100 * end:.1f}" for end in (found.low, found.high))
    unclear = ", which may be chance" if found.low <= 0 else ""
    return f"{100 * found.value:.1f} points {word} (95 % interval {low} to {high}{unclear})"


def _percent(value: Mapping[str, float]) -> str:
    return f"{100 * value['value']:.1f} %"
